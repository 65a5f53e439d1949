package report

import (
	"slices"
	"strings"
)

// reduce leaves out what another change says already: the same for a route that covers this one, or for somebody who is less.
func reduce(changes []Change) (kept []Change) {
	type key struct {
		direction             Direction
		before, after         Kind
		beforeNote, afterNote string
	}
	of := func(x *Change) key {
		return key{x.Direction, x.Before.Kind, x.After.Kind, x.Before.Note, x.After.Note}
	}
	alike := map[key][]*Change{}
	for i := range changes {
		k := of(&changes[i])
		alike[k] = append(alike[k], &changes[i])
	}
	for i := range changes {
		x := &changes[i]
		if !slices.ContainsFunc(alike[of(x)], func(y *Change) bool { return x != y && y.says(x) && (!x.says(y) || y.Route < x.Route) }) {
			kept = append(kept, *x)
		}
	}
	return kept
}

// says reports whether whoever reads x knows y.
func (x *Change) says(y *Change) bool {
	return x.Site == y.Site && isPart(x.Who, y.Who) && covers(x.Route, y.Route) &&
		!slices.ContainsFunc(y.Methods, func(m string) bool { return !slices.Contains(x.Methods, m) })
}

// isPart reports whether all that makes up somebody is true of another, too.
func isPart(a, b string) bool {
	all := strings.Split(b, " + ")
	return !slices.ContainsFunc(strings.Split(a, " + "), func(part string) bool { return !slices.Contains(all, part) })
}

// covers reports whether a pattern matches all that another one matches.
func covers(a, b string) bool {
	x, y := strings.Split(a, "/"), strings.Split(b, "/")
	for i, s := range x {
		switch {
		case s == "**":
			return true
		case i >= len(y) || y[i] == "**":
			return false
		case s != y[i] && (weight(s) < max(weight(y[i]), 1) || y[i] == ""):
			return false
		}
	}
	return len(x) == len(y)
}
