package policy

import (
	"slices"
	"strings"
)

// takes reports whether a deny is for everybody whom a part of another line is for.
func (deny *rule) takes(a *atom) bool {
	switch deny.who {
	case whoPublic:
		return true
	case whoAny:
		return a.who != whoPublic
	}
	return deny.namesAll(a)
}

// makesUseless reports whether a part of another line of the same kind changes nothing beside r: whenever it holds, r does, and for
// the same people.
func (r *rule) makesUseless(a *atom) bool {
	switch {
	case r.kind == kindRequire:
		return r.implies(a.rule, a.coverer, a.pattern) // who meets r meets the other
	case r.kind == kindDeny:
		return r.takes(a) && a.implies(r, a.pattern, a.coverer)
	case r.kind == kindGlass && (r.lasts != a.lasts || r.fresh != a.fresh || r.drill != a.drill || a.pattern != a.coverer):
		return false // the grant would be another one
	case !a.implies(r, a.pattern, a.coverer) || a.kind == kindAllow && !r.need.equal(&a.need):
		return false // with another need a step-up would be another one
	}
	switch r.who {
	case whoPublic:
		return true
	case whoAny:
		return a.who == whoAny || a.who == whoSome
	case whoSome:
		return a.who == whoSome && r.namesAll(a)
	}
	// A token's patient is told by the path in one line and by the query in another: only the same path is the same.
	return a.who == whoScope && (hasSegment(a.coverer, "{patient}") == hasSegment(a.pattern, "{patient}")) && r.namesAll(a) &&
		!slices.ContainsFunc(a.scopeTexts(), func(text string) bool { return !slices.Contains(r.scopeTexts(), text) })
}

// namesAll reports whether whoever is everything that the part names is everything that r names.
func (r *rule) namesAll(a *atom) bool {
	for i := range r.subjects {
		s := &r.subjects[i]
		if !slices.ContainsFunc(a.names, func(name string) bool { return s.lists(name, r.folds()) && a.is(s.by, name) }) {
			return false
		}
	}
	return true
}

// is reports whether a name of the part is one of this kind.
func (a *atom) is(by byWhat, name string) bool {
	for i := range a.names {
		if a.subjects[i].by == by && a.names[i] == name {
			return true
		}
	}
	return false
}

// implies reports whether the conditions of other hold whenever those of r do. The patterns are those by which the two match: an
// expression about variables is the same on the same path only.
func (r *rule) implies(other *rule, pattern, others string) bool {
	switch {
	case other.device && !r.device:
		return false
	case other.networks != nil && (r.networks == nil || !isWithinSpans(r.networks, other.networks)):
		return false
	case other.hours != nil && (r.hours == nil || !r.hours.isWithin(other.hours)):
		return false
	case !other.need.isZero() && !r.need.implies(&other.need):
		return false
	case other.when == nil:
		return true
	case r.when == nil || r.when.Text() != other.when.Text():
		return false
	}
	return pattern == others || !slices.ContainsFunc(r.when.Names(), func(name string) bool { return strings.HasPrefix(name, "path.") })
}

// isWithinSpans reports whether all addresses of a list are in another. Each is in order and in as few ranges as can be.
func isWithinSpans(list, others []span) bool {
	return !slices.ContainsFunc(list, func(s span) bool {
		return !slices.ContainsFunc(others, func(o span) bool {
			return o.from.BitLen() == s.from.BitLen() && o.from.Compare(s.from) <= 0 && s.to.Compare(o.to) <= 0
		})
	})
}

// areApart reports whether no address is in both lists.
func areApart(list, others []span) bool {
	return !slices.ContainsFunc(list, func(s span) bool {
		return slices.ContainsFunc(others, func(o span) bool {
			return o.from.BitLen() == s.from.BitLen() && o.from.Compare(s.to) <= 0 && s.from.Compare(o.to) <= 0
		})
	})
}

// week holds each minute of a week, from Sunday 00:00 on the clock of the zone.
func (h *hours) week() (week [7 * minutesOfDay]bool) {
	for day, is := range h.days {
		if !is {
			continue
		}
		for _, r := range h.ranges {
			end := r.to
			if end <= r.from {
				end += minutesOfDay
			}
			for at := r.from; at < end; at++ {
				week[(day*minutesOfDay+at)%len(week)] = true
			}
		}
	}
	return week
}

// isWithin reports whether all moments of h are in other. Clocks of different zones are not compared.
func (h *hours) isWithin(other *hours) bool {
	if h.zone.String() != other.zone.String() {
		return false
	}
	if h.text == other.text {
		return true
	}
	mine, theirs := h.week(), other.week()
	for at := range mine {
		if mine[at] && !theirs[at] {
			return false
		}
	}
	return true
}

// isApart reports whether no moment is in both.
func (h *hours) isApart(other *hours) bool {
	if h.zone.String() != other.zone.String() {
		return false
	}
	mine, theirs := h.week(), other.week()
	for at := range mine {
		if mine[at] && theirs[at] {
			return false
		}
	}
	return true
}

// isAlways reports whether they are no limit.
func (h *hours) isAlways() bool {
	week := h.week()
	return !slices.Contains(week[:], false)
}

// implies reports whether a sign-in that shows n shows other.
func (n *Need) implies(other *Need) bool {
	if len(other.ACR) > 0 && (len(n.ACR) == 0 || !isSubset(n.ACR, other.ACR)) {
		return false
	}
	for _, list := range other.AMR {
		if !slices.ContainsFunc(n.AMR, func(mine []string) bool { return isSubset(mine, list) }) {
			return false
		}
	}
	return other.MaxAge == 0 || n.MaxAge != 0 && n.MaxAge <= other.MaxAge
}

// equal reports whether both ask for the same.
func (n *Need) equal(other *Need) bool { return n.implies(other) && other.implies(n) }

func isSubset(list, of []string) bool {
	return !slices.ContainsFunc(list, func(s string) bool { return !slices.Contains(of, s) })
}

// contradicts says by what no request meets both lines, "" when one could.
func (r *rule) contradicts(other *rule) string {
	switch {
	case r.networks != nil && other.networks != nil && areApart(r.networks, other.networks):
		return "no address is in the networks of both"
	case r.hours != nil && other.hours != nil && r.hours.isApart(other.hours):
		return "no moment is in the hours of both"
	case len(r.need.ACR) > 0 && len(other.need.ACR) > 0 && len(common(r.need.ACR, other.need.ACR)) == 0:
		return "no level is among those of both"
	case r.who == whoScope && other.device:
		return "an application with a token has no device that is known"
	}
	return ""
}
