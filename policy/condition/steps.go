package condition

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Whoever sends a request chooses its path, and by it what a pattern costs: CEL reckons with a tenth of a step for each character,
// and a search that cannot be pinned down takes one for each character and each instruction of the pattern. Steps counts these as
// they are, so that the caller can bound what all conditions of one decision cost together.

// size is a class of requests, by the longest of their texts and lists.
type size struct{ text, list uint64 }

// sizes are the classes, the last of which is the longest that the estimate of the cost reckons with.
var sizes = [...]size{{64, 8}, {1024, 64}, {longQuery, longList}}

// match is one pattern: what it costs is its instructions times the length of what it looks at, times how often it is asked.
type match struct {
	instructions   int
	paths, queries int // how often these are in the text that it looks at
	others         int // characters of constants, and a usual length for each other name
	fixed          int // turns of loops over lists of constants
	loops          int // how many loops over the lists of a user it is in
}

// usualText is the length of a name, a role or a claim, none of which comes with the request.
const usualText = 64

// Steps is what the expression costs for one request, at most; one is some ten nanoseconds.
func (c *Condition) Steps(in *Input) int {
	if c == nil || in == nil {
		return 0
	}
	text, list := uint64(max(len(in.Path), len(in.Query))), max(len(in.User.Roles), len(in.User.Groups), len(in.User.AMR))
	steps := maxCost
	for i, s := range sizes {
		if text <= s.text && uint64(list) <= s.list {
			steps = c.costs[i]
			break
		}
	}
	for i := range c.matches {
		m := &c.matches[i]
		one := m.instructions * (m.paths*min(len(in.Path), longPath) + m.queries*min(len(in.Query), longQuery) + m.others) * m.fixed
		for range m.loops {
			one *= max(1, min(list, longList))
		}
		steps += one
	}
	return steps
}

// estimates are what the expression costs in each class, without its patterns.
func estimates(e *cel.Env, checked *cel.Ast) (costs [len(sizes)]int, err error) {
	for i, s := range sizes {
		cost, err := e.EstimateCost(checked, estimator{limit: s})
		if err != nil {
			return costs, fmt.Errorf("estimating an expression: %w", err)
		}
		costs[i] = int(min(cost.Max, maxCost)) + leastCost
	}
	return costs, nil
}

// leastCost is what it takes to ask at all.
const leastCost = 20

// matched notes what a pattern of so many instructions looks at.
func (s *scanner) matched(call ast.CallExpr, instructions int) {
	m := match{instructions: instructions, fixed: 1}
	for _, turns := range s.turns {
		if turns < 0 {
			m.loops++
		} else {
			m.fixed *= max(1, turns)
		}
	}
	text := call.Args()[0]
	if call.IsMemberFunction() {
		text = call.Target()
	}
	ast.PreOrderVisit(text, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.LiteralKind:
			constant, _ := literal(e)
			m.others += len(constant)
		case ast.IdentKind:
			m.others += usualText // of a loop
		case ast.SelectKind:
			switch name, _ := nameOf(e); {
			case name == "request.query":
				m.queries++
			case name == "request.path" || len(name) > 5 && name[:5] == "path.":
				m.paths++
			}
		}
	}))
	s.matches = append(s.matches, m)
}
