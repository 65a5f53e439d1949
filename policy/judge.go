package policy

import (
	"fmt"
	"slices"
	"strings"
)

// The codes of what a judgement finds, besides those of single lines.
const (
	foundUnknown       = "unknown"       // a name that nothing gives
	foundVariable      = "variable"      // a variable that was meant as another one
	foundNever         = "never"         // a line that no request can meet
	foundContradiction = "contradiction" // a line that another one takes back
	foundOpen          = "open"          // something public that another line closes
	foundUnreachable   = "unreachable"   // a line that changes nothing beside another one
	foundUseless       = "useless"       // a part of a line that changes nothing
	foundWhen          = "when"
)

// maxJudged bounds the pairs of lines that are compared. The search for lines that cover others does not go by pairs.
const maxJudged = 4 << 20

// judgement looks at all lines of a policy together, when each is right by itself. It finds what cannot be meant: lines that never
// match, that change nothing, that contradict one another, names that do not exist. What makes a line useless or dangerous for sure
// is an error, unless it is a shadow, which decides nothing; the rest are warnings. It never finds fault with a line for being careful:
// a deny for what no line allows is right.
type judgement struct {
	config   *Config
	rules    []*rule
	dropped  map[*rule]bool // found to change nothing: without all of these every decision is the same
	closed   map[*rule]bool // found to allow nothing because of what is denied or required
	found    map[*rule][]*Problem
	allows   *covers // allow lines, as exact as they match
	denies   *covers
	requires *covers
	pairs    int
}

// judge returns what is wrong with lines that are right by themselves, in their order.
func judge(c *Config, rules []*rule) (all []*Problem) {
	j := newJudgement(c, rules)
	for _, r := range rules {
		all = append(all, j.found[r]...)
	}
	if j.pairs > maxJudged || max(j.allows.looked, j.denies.looked, j.requires.looked) > maxLooked {
		all = append(all, &Problem{Reason: foundUseless, Warn: true, Wrong: "these are too many lines to compare each with each, and not all have been",
			Write: "fewer lines, with several names, methods and paths in one"})
	}
	return all
}

func newJudgement(c *Config, rules []*rule) *judgement {
	j := &judgement{config: c, rules: rules, dropped: map[*rule]bool{}, closed: map[*rule]bool{}, found: map[*rule][]*Problem{},
		allows: &covers{}, denies: &covers{fold: true}, requires: &covers{fold: true}}
	for _, r := range rules {
		if r.shadow {
			continue
		}
		switch r.kind {
		case kindAllow:
			j.allows.add(r)
		case kindDeny:
			j.denies.add(r)
		case kindRequire:
			j.requires.add(r)
		}
	}
	for _, r := range rules {
		j.names(r)
		j.variables(r)
		j.glass(r)
		j.conditions(r)
	}
	j.denied()
	j.unmet()
	j.covered()
	j.opened()
	if len(rules) == len(c.Lines) { // what another line that was not understood opens is not known
		j.idle()
	}
	return j
}

func (j *judgement) wrong(r *rule, reason, wrong, write string) {
	j.find(r, false, reason, wrong, write)
}

func (j *judgement) warn(r *rule, reason, wrong, write string) { j.find(r, true, reason, wrong, write) }

func (j *judgement) find(r *rule, warn bool, reason, wrong, write string) {
	j.found[r] = append(j.found[r], &Problem{At: r.at, Line: r.words, Reason: reason, Wrong: wrong, Write: write, Warn: warn || r.shadow})
}

// compared counts pairs and reports whether there have been too many.
func (j *judgement) compared(n int) bool {
	j.pairs += n
	return j.pairs > maxJudged
}

// denied finds what deny lines take back whole: the operator takes for open what is closed.
func (j *judgement) denied() {
	for _, r := range j.rules {
		if r.kind != kindAllow && r.kind != kindGlass {
			continue
		}
		by := j.denies.coverers(r, func(deny *rule, a *atom) bool { return deny.takes(a) && r.implies(deny, a.pattern, a.coverer) })
		if by == nil {
			continue
		}
		does := "allows"
		if r.kind == kindGlass {
			does = "opens"
		}
		j.wrong(r, foundContradiction, fmt.Sprintf("it %s nothing, since %s denies all of it", does, quoted(by)),
			"one of the two only, or a deny with fewer names, methods or paths")
		j.closed[r] = true
	}
}

// covered finds lines that change nothing beside others of the same kind. It goes from the last to the first and compares with those
// only that are left, so that all that are found can be removed together.
func (j *judgement) covered() {
	shadows := [...]*covers{kindAllow: {}, kindDeny: {fold: true}, kindRequire: {fold: true}, kindGlass: {}, kindBudget: {}}
	for _, r := range j.rules {
		if r.shadow || r.kind == kindGlass {
			shadows[r.kind].add(r)
		}
	}
	for _, r := range slices.Backward(j.rules) {
		if j.closed[r] || r.kind == kindBudget {
			continue
		}
		changes := func(other *rule, a *atom) bool { return other != r && !j.dropped[other] && other.makesUseless(a) }
		var by []*rule
		switch {
		case r.kind == kindGlass:
			if by = j.allows.coverers(r, changes); by != nil {
				j.warn(r, foundUnreachable, "there is nothing to break, since "+quoted(by)+" allows all of it", "the line without what is allowed anyway")
				j.dropped[r] = true
				continue
			}
		default:
			by = [...]*covers{j.allows, j.denies, j.requires}[r.kind].coverers(r, changes)
		}
		if by == nil && (r.shadow || r.kind == kindGlass) {
			by = shadows[r.kind].coverers(r, changes)
		}
		if by != nil {
			j.warn(r, foundUnreachable, "it changes nothing beside "+quoted(by), "the line away, or the other one narrower")
			j.dropped[r] = true
		} else if r.kind == kindAllow {
			j.asksInVain(r)
		}
	}
}

// asksInVain finds levels that a line asks for, and another one that allows the same does not.
func (j *judgement) asksInVain(r *rule) {
	if r.need.isZero() {
		return
	}
	bare := *r
	bare.need = Need{}
	if by := j.allows.coverers(&bare, func(other *rule, a *atom) bool { return other != r && other.makesUseless(a) }); by != nil {
		j.warn(r, foundUseless, "what it asks of the sign-in nobody needs, since "+quoted(by)+" allows the same without", "`require` for it, which holds for all lines, or the other one narrower")
	}
}

// opened finds what is public although another line closes it to somebody, who only has to sign out.
func (j *judgement) opened() {
	for _, public := range j.rules {
		if public.kind != kindAllow || public.who != whoPublic || j.dropped[public] || j.closed[public] {
			continue
		}
		if j.compared(len(j.rules)) {
			return
		}
		for _, deny := range j.rules {
			if deny.kind != kindDeny || deny.shadow || deny.who == whoPublic || j.dropped[deny] || !public.concernsSame(deny) {
				continue
			}
			whole := opensAll(public, deny)
			if !whole && (slices.Contains(deny.patterns, everything) || !crosses(public, deny)) {
				continue // `deny role temp` besides a public page: nobody means the page
			}
			write := "`deny public` for that, or a public that does not reach so far"
			if whole && public.isBare() {
				j.wrong(public, foundOpen, "it opens to everybody what "+quoted([]*rule{deny})+" closes: whoever signs out gets in", write)
			} else {
				j.warn(public, foundOpen, "it opens to everybody some of what "+quoted([]*rule{deny})+" closes: whoever signs out gets in", write)
			}
		}
	}
}

// opensAll reports whether all that the deny names is public: every path as it is written, and every method.
func opensAll(public, deny *rule) bool {
	return listsAll(public.methods, deny.methods) && !slices.ContainsFunc(deny.patterns, func(d string) bool {
		return !slices.ContainsFunc(public.patterns, func(p string) bool { return contains(p, d) })
	})
}

// crosses reports whether two lines have paths in common without the one being an exception from the other.
func crosses(public, deny *rule) bool {
	return slices.ContainsFunc(public.patterns, func(p string) bool {
		return slices.ContainsFunc(deny.patterns, func(d string) bool {
			return meet(p, d) && !contains(foldPattern(d), foldPattern(p))
		})
	})
}

// idle finds lines that narrow, count or lift nothing, because no line opens what they are about.
func (j *judgement) idle() {
	for _, r := range j.rules {
		if r.kind != kindRequire && r.kind != kindBudget || j.dropped[r] {
			continue
		}
		opened := slices.ContainsFunc(j.rules, func(other *rule) bool {
			return (other.kind == kindAllow || other.kind == kindGlass) && (!other.shadow || r.shadow) && (j.compared(1) || r.concernsSame(other))
		})
		if !opened {
			j.warn(r, foundUseless, "no line allows anything that it is about", "the paths and methods of an allow line, or the line away")
		}
	}
}

// isBare reports whether a line has no conditions.
func (r *rule) isBare() bool {
	return !r.device && r.networks == nil && r.hours == nil && r.when == nil && r.need.isZero()
}

// concernsSame reports whether some request concerns both lines by its method and its path, read as laxly as a deny reads it.
func (r *rule) concernsSame(other *rule) bool {
	methods := len(r.methods) == 0 || len(other.methods) == 0 || slices.ContainsFunc(r.methods, other.lists) || slices.ContainsFunc(other.methods, r.lists)
	return methods && slices.ContainsFunc(r.patterns, func(a string) bool {
		return slices.ContainsFunc(other.patterns, func(b string) bool { return meet(a, b) })
	})
}

// quoted names up to three lines with their places.
func quoted(rules []*rule) string {
	var b strings.Builder
	for i, r := range rules {
		switch {
		case i == 3:
			return b.String() + " and others"
		case i > 0 && i == len(rules)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString("`" + r.words + "`")
		if r.at != "" {
			b.WriteString(" (" + r.at + ")")
		}
	}
	return b.String()
}
