package condition

import (
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/parser"
)

// The most that an expression may be. A cost of one is one step, or ten characters that are looked at.
const (
	maxText    = 4 << 10
	maxDepth   = 32
	maxNodes   = 400
	maxPattern = 512    // characters of a regular expression
	maxRegexp  = 100    // instructions of it: what it does for each character of a path, at most; see Steps
	maxCost    = 20_000 // some hundred microseconds
)

// The longest values that the estimate of the cost reckons with. Those of a request are counted as they are besides.
const (
	longPath  = 8 << 10
	longQuery = 16 << 10
	longText  = 255
	longList  = 256
)

// leftOut are the functions that are left out: for values of any type, for bytes, and the accessors of a time whose zone is read at each
// call, which functions.go replaces.
func leftOut() *env.LibrarySubset {
	s := env.NewLibrarySubset()
	for _, name := range []string{"dyn", "type", "bytes"} {
		s.AddExcludedFunctions(env.NewFunction(name))
	}
	for _, part := range parts {
		s.AddExcludedFunctions(env.NewFunction(part.name, env.NewOverload(part.without, nil, nil)))
	}
	return s.AddExcludedMacros("has", "map", "filter")
}

// environment is what all expressions share.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(leftOut())),
		cel.Macros(cel.GlobalMacro("has", 1, expandHas)),
		cel.HomogeneousAggregateLiterals(),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxText),
		cel.ParserRecursionLimit(maxDepth),
		cel.ParserErrorRecoveryLimit(4),
		cel.ExpressionNodeLimit(maxNodes),
		cel.ExpressionNestingDepthLimit(4 * maxDepth), // what a macro makes is deeper than what was written
	}
	for name, kind := range known {
		options = append(options, cel.Variable(name, kind), cel.Variable(presence+name, cel.BoolType))
	}
	e, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, fmt.Errorf("preparing expressions: %w", err)
	}
	return e, nil
})

// expandHas makes a name of its own of has(NAME).
func expandHas(eh parser.ExprHelper, _ ast.Expr, args []ast.Expr) (ast.Expr, *cel.Error) {
	if name, ok := nameOf(args[0]); ok {
		return eh.NewIdent(presence + name), nil
	}
	return nil, eh.NewError(args[0].ID(), needsName)
}

// nameOf reads user.roles and the like.
func nameOf(e ast.Expr) (string, bool) {
	if e.Kind() != ast.SelectKind || e.AsSelect().Operand().Kind() != ast.IdentKind || e.AsSelect().IsTestOnly() {
		return "", false
	}
	return e.AsSelect().Operand().AsIdent() + "." + e.AsSelect().FieldName(), true
}

// checkCost estimates what the expression costs for the longest request, and reports whether it is bounded for any request at all:
// then nobody has to count.
func checkCost(e *cel.Env, checked *cel.Ast) (bounded bool, err error) {
	cost, err := e.EstimateCost(checked, estimator{})
	if err != nil {
		return false, &Error{Wrong: "its cost cannot be told: " + oneLine(err.Error()), Write: "it in another way"}
	}
	if cost.Max > maxCost {
		return false, &Error{Wrong: fmt.Sprintf("it can take more than %d steps for one request", maxCost),
			Write: "it with fewer loops (`all`, `exists`) within one another, and with shorter patterns"}
	}
	cost, err = e.EstimateCost(checked, estimator{endless: true})
	return err == nil && cost.Max <= maxCost, nil
}

// estimator knows how long the values of a request can be, or takes them for endless.
type estimator struct {
	endless bool
	limit   size // zero: the longest
}

// EstimateSize returns the size of a value that is not in the expression itself.
func (e estimator) EstimateSize(element checker.AstNode) *checker.SizeEstimate {
	path := element.Path()
	if len(path) == 0 || e.endless {
		return nil
	}
	size := uint64(longText)
	switch {
	case path[0] == "request.path":
		size = longPath
	case path[0] == "request.query":
		size = longQuery
	case element.Type().Kind() == types.ListKind:
		size = longList
	case strings.HasPrefix(path[0], "path."):
		size = longPath
	}
	if limit := e.limit; limit.text > 0 && element.Type().Kind() == types.ListKind {
		size = min(size, limit.list)
	} else if limit.text > 0 {
		size = min(size, limit.text)
	}
	return &checker.SizeEstimate{Max: size}
}

// EstimateCallCost leaves the cost of calls to CEL.
func (estimator) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
