package policy

import (
	"slices"
	"time"
)

// ahead is how far the clock of whoever signed somebody in may be before ours.
const ahead = 60 * time.Second

// demand is a require line, at the end of one of its patterns.
type demand struct {
	*rule
	entry *entry
}

// isMet reports whether the sign-in shows what one line asks for. Nobody meets anything.
func (r *rule) isMet(who *Subject, now time.Time) bool {
	if who == nil {
		return false
	}
	if len(r.need.ACR) > 0 && !slices.Contains(r.need.ACR, who.ACR) {
		return false
	}
	for _, list := range r.need.AMR {
		if !slices.ContainsFunc(who.AMR, func(method string) bool { return slices.Contains(list, method) }) {
			return false
		}
	}
	if r.need.MaxAge == 0 {
		return true
	}
	age := now.Sub(who.AuthTime)
	return !who.AuthTime.IsZero() && -ahead <= age && age <= r.need.MaxAge
}

// unmet returns what to answer to a request that a line allows and a require line does not; the zero Decision when all are met.
func (p *Policy) unmet(r *Request) Decision {
	q := query{method: r.Method, who: r.Who, fold: true, request: r}
	first := p.require.unmet(&q, r.Path.folded, r.Path.folded, nil)
	if first == nil {
		return Decision{}
	}
	d := Decision{Rule: first.entry.rule, Route: first.entry.route}
	if r.Who == nil {
		d.Reason = ReasonNoSession
		return d
	}
	// A new sign-in has to show all of it at once, also what this one shows already: it may be weaker.
	d.Reason = ReasonStepUp
	p.require.unmet(&q, r.Path.folded, r.Path.folded, &d.Need)
	if d.Need.ACR != nil && len(d.Need.ACR) == 0 { // no level is in all lines
		d.Reason, d.Need = ReasonDenied, Need{}
	}
	return d
}

// unmet goes to all patterns that match, as a deny does, and returns the first line that is not met. With sum it adds all of them
// up instead.
func (n *node) unmet(q *query, key, text string, sum *Need) *demand {
	if key == "" {
		if d := n.here.unmet(q, sum); d != nil {
			return d
		}
		return n.rest.unmet(q, sum)
	}
	segment, key2 := cut(key)
	name, text2 := cut(text)
	if next := n.exact[segment]; next != nil {
		if d := next.unmet(q, key2, text2, sum); d != nil {
			return d
		}
	}
	// Nobody's name is not known yet, and anybody's may be this one.
	if n.user != nil && segment != "" && (q.who == nil || q.isUser(name)) {
		if d := n.user.unmet(q, key2, text2, sum); d != nil {
			return d
		}
	}
	if n.one != nil && segment != "" {
		if d := n.one.unmet(q, key2, text2, sum); d != nil {
			return d
		}
	}
	if key == "/" {
		if d := n.here.unmet(q, sum); d != nil {
			return d
		}
	}
	return n.rest.unmet(q, sum)
}

func (g *grants) unmet(q *query, sum *Need) *demand {
	if g == nil {
		return nil
	}
	for _, d := range g.demands {
		switch {
		case !d.lists(q.method):
		case sum != nil:
			sum.add(&d.need)
		case !d.isMet(q.who, q.request.Now):
			return d
		}
	}
	return nil
}

// add makes n ask for what more asks for, too. It shares the lists of one line and changes none.
func (n *Need) add(more *Need) {
	if n.ACR == nil {
		n.ACR = more.ACR
	} else if more.ACR != nil {
		n.ACR = common(n.ACR, more.ACR)
	}
	if n.AMR == nil {
		n.AMR = more.AMR
	} else if len(more.AMR) > 0 && !slices.ContainsFunc(n.AMR, func(list []string) bool { return slices.Equal(list, more.AMR[0]) }) {
		n.AMR = append(slices.Clip(n.AMR), more.AMR...)
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
