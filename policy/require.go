package policy

import (
	"slices"
	"time"
)

// ahead is how far the clock of whoever signed somebody in may be before ours.
const ahead = 60 * time.Second

func (n *Need) isZero() bool { return n.ACR == nil && n.AMR == nil && n.MaxAge == 0 }

// isMet reports whether the sign-in shows what one line asks for. Nobody meets anything.
func (r *rule) isMet(who *Subject, now time.Time) bool { return r.need.isMet(who, now) }

func (n *Need) isMet(who *Subject, now time.Time) bool {
	if who == nil {
		return false
	}
	if len(n.ACR) > 0 && !slices.Contains(n.ACR, who.ACR) {
		return false
	}
	for _, list := range n.AMR {
		if !slices.ContainsFunc(who.AMR, func(method string) bool { return slices.Contains(list, method) }) {
			return false
		}
	}
	if n.MaxAge == 0 {
		return true
	}
	age := now.Sub(who.AuthTime)
	return !who.AuthTime.IsZero() && -ahead <= age && age <= n.MaxAge
}

// demands collects the require lines that are not met.
type demands struct {
	level   *entry // the first that a sign-in could meet
	other   *entry // the first that it could not
	missing Missing
	session bool // another one may be met by who signs in
}

// unmet returns what to answer to a request that an allow line opens, to a sign-in that shows need, and a require line does not;
// the zero Decision when all are met. With anew need is not met yet either.
func (p *Policy) unmet(q *query, need Need, anew bool) Decision {
	fold := *q
	fold.fold, fold.hidden = true, q.who == nil
	var found demands
	p.require.each(&fold, q.path.folded, func(e *entry) bool {
		m := e.lacks(&fold)
		switch {
		case m == 0:
		case q.who == nil && (m&(MissingLevel|MissingDevice) != 0 || m == MissingOther && e.when.UsesUser()):
			found.session, found.level = true, first(found.level, e)
		case m&^MissingLevel != 0 && found.other == nil:
			found.other, found.missing = e, m
		case m == MissingLevel:
			found.level = first(found.level, e)
		}
		return true
	})
	switch {
	case found.other != nil:
		return Decision{Rule: found.other.text, Route: found.other.route, Reason: ReasonCondition, Missing: found.missing}
	case found.session:
		return Decision{Rule: found.level.text, Route: found.level.route, Reason: ReasonNoSession}
	case found.level == nil && (!anew || need.isZero()):
		return Decision{}
	}
	return p.stepUp(&fold, found.level, need)
}

func first(a, b *entry) *entry {
	if a != nil {
		return a
	}
	return b
}

// stepUp asks for a new sign-in. It has to show all of it at once, also what this one shows already: it may be weaker.
func (p *Policy) stepUp(fold *query, e *entry, need Need) Decision {
	d := Decision{Reason: ReasonStepUp, Need: need}
	if e != nil {
		d.Rule, d.Route = e.text, e.route
	}
	p.require.each(fold, fold.path.folded, func(e *entry) bool {
		d.Need.add(&e.need)
		return true
	})
	if d.Need.ACR != nil && len(d.Need.ACR) == 0 { // no level is in all lines
		d.Reason, d.Need, d.Missing = ReasonDenied, Need{}, MissingLevel
	}
	return d
}

// add makes n ask for what more asks for, too. It shares the lists of one line and changes none.
func (n *Need) add(more *Need) {
	if n.ACR == nil {
		n.ACR = more.ACR
	} else if more.ACR != nil {
		n.ACR = common(n.ACR, more.ACR)
	}
	for _, list := range more.AMR {
		if !slices.ContainsFunc(n.AMR, func(other []string) bool { return slices.Equal(other, list) }) {
			n.AMR = append(slices.Clip(n.AMR), list)
		}
	}
	if n.MaxAge == 0 || more.MaxAge != 0 && more.MaxAge < n.MaxAge {
		n.MaxAge = more.MaxAge
	}
}

// common returns what is in both lists, in the order of the first; an empty one, not nil, when nothing is.
func common(a, b []string) []string {
	both := make([]string, 0, len(a))
	for _, s := range a {
		if slices.Contains(b, s) {
			both = append(both, s)
		}
	}
	return both
}
