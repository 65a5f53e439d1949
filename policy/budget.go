package policy

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A budget line counts how many different values of one variable somebody asks for.

// mostDistinct is the greatest number of a budget: as many as the counter of all nodes keeps for one person (budget.MaxLimit).
const mostDistinct = 4096

// budget is what a budget line says besides WHO and paths.
type budget struct {
	variable     string
	limit, alarm int
	per          time.Duration
	stepUp       bool
}

const budgetForm = "`budget role doctor 60 distinct {patient} per 1h`, after it as you need them `alarm 30`, `then deny` or `then step_up`, and `on PATHS`"

// readBudget reads N distinct {VAR} per DURATION [alarm N] [then deny|step_up] [on PATHS].
func (p *reader) readBudget() {
	b := &p.rule.budget
	b.limit = p.count("how many values there may be")
	if p.next() != "distinct" {
		p.wrong("budget", "it does not say of what", budgetForm)
		p.words = nil
		return
	}
	word := p.next()
	if b.variable = variableName(word); b.variable == "" {
		p.wrong("budget", fmt.Sprintf("%q is no variable of a path that has several values", word), budgetForm)
	}
	if !p.is("per") {
		p.wrong("budget", "it does not say in how long", budgetForm)
		p.words = nil
		return
	}
	p.next()
	if b.per = p.age("budget", "per 1h", p.next()); b.per > 0 && b.per < time.Minute {
		p.wrong("budget", "it counts for less than a minute", "`per 1h`")
	}
	if p.is("alarm") {
		p.next()
		if b.alarm = p.count("at how many somebody is told"); b.alarm > b.limit {
			p.wrong("budget", "the alarm would come after the limit", "a number up to the limit after `alarm`")
		}
	}
	if p.is("then") {
		p.next()
		switch word := p.next(); word {
		case "deny":
		case "step_up":
			b.stepUp = true
		default:
			p.wrong("budget", fmt.Sprintf("%q is nothing that a budget does", word), "`then deny` or `then step_up`")
		}
	}
	if p.is("on") {
		p.next()
		p.paths()
		p.hasVariable()
	} else if len(p.words) > 0 {
		p.wrong("budget", fmt.Sprintf("%q is nothing that can be here", p.words[0]), budgetForm)
		p.words = nil
	}
}

// count reads a number.
func (p *reader) count(what string) int {
	word := p.next()
	n, err := strconv.Atoi(word)
	if err != nil || n < 1 || n > mostDistinct || strconv.Itoa(n) != word {
		p.wrong("budget", fmt.Sprintf("%q does not say %s", word, what), fmt.Sprintf("a number from 1 to %d", mostDistinct))
		return mostDistinct
	}
	return n
}

// hasVariable says so when a path of the line has nothing to count.
func (p *reader) hasVariable() {
	for _, pattern := range p.rule.patterns {
		if name := p.rule.budget.variable; name != "" && !hasSegment(pattern, "{"+name+"}") {
			p.wrong("budget", fmt.Sprintf("the path %q has no {%s}", pattern, name), fmt.Sprintf("paths with `{%s}` after `on`", name))
		}
	}
}

// spread gives each budget without paths all those of the other lines that have its variable: whichever line decides, it is counted.
// A shadow line decides nothing, and has nothing counted either.
func spread(rules []*rule) (problems []*Problem) {
	for _, r := range rules {
		if r.kind != kindBudget || r.patterns != nil {
			continue
		}
		for _, other := range rules {
			for _, pattern := range other.patterns {
				if other.kind != kindBudget && !other.shadow && hasSegment(pattern, "{"+r.budget.variable+"}") && !slices.Contains(r.patterns, pattern) {
					r.patterns = append(r.patterns, pattern)
				}
			}
		}
		if r.patterns == nil {
			problems = append(problems, &Problem{At: r.at, Line: r.words, Reason: "budget", Wrong: fmt.Sprintf("no path of another line has a {%s}", r.budget.variable),
				Write: fmt.Sprintf("`on` and paths with `{%s}`, or that variable for `*` in the lines that allow them", r.budget.variable)})
		}
	}
	return problems
}

// id is short, and the same on all nodes and after a reload for as long as the line says the same.
func (r *rule) id() string {
	sum := sha256.Sum256([]byte(strings.Join(strings.Fields(r.words), " ")))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Count is one value that a budget line counts.
type Count struct {
	ID     string        // the line's, the same on all nodes and after a reload
	Rule   string        // the line and its place
	Value  string        // of the variable, decoded
	Limit  int           // how many different values there may be
	Alarm  int           // at how many somebody is told; 0: at none
	Per    time.Duration // in how long
	StepUp bool          // a new sign-in begins anew; otherwise it is denied
}

// HasBudgets reports whether there are budget lines.
func (p *Policy) HasBudgets() bool { return p != nil && p.counts }

// Counts yields what the budget lines count of a request that was allowed, until yield returns false. A path with several readings
// counts in each of them.
func (p *Policy) Counts(r Request, yield func(Count) bool) {
	if !p.HasBudgets() || r.Who == nil || r.Path.raw == "" {
		return
	}
	if !p.countsOf(&r, &r.Path, yield) {
		return
	}
	others := r.Path.readings()
	for i := range others {
		if !p.countsOf(&r, &others[i], yield) {
			return
		}
	}
}

func (p *Policy) countsOf(r *Request, path *Path, yield func(Count) bool) bool {
	q := newQuery(r, path)
	q.fold = true
	return p.budgets.each(&q, path.folded, func(e *entry) bool {
		if e.lacks(&q) != 0 {
			return true
		}
		for _, v := range e.variables {
			if v.name != e.budget.variable {
				continue
			}
			b := &e.budget
			if !yield(Count{ID: e.counter, Rule: e.text, Value: segmentText(nth(path.decoded, v.at)), Limit: b.limit, Alarm: b.alarm, Per: b.per, StepUp: b.stepUp}) {
				return false
			}
		}
		return true
	})
}
