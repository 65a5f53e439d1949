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
	keep := map[*Change]bool{}
	for _, list := range alike {
		// Whatever says another comes before it, and what was left out for one that is kept would say no more than that.
		slices.SortStableFunc(list, func(x, y *Change) int { return slices.Compare(x.breadth(), y.breadth()) })
		var said []*Change
		for _, x := range list {
			if !slices.ContainsFunc(said, func(y *Change) bool { return y.says(x) }) {
				said, keep[x] = append(said, x), true
			}
		}
	}
	for i := range changes {
		if keep[&changes[i]] {
			kept = append(kept, changes[i])
		}
	}
	return kept
}

// breadth orders changes: those about more people and paths are less.
func (x *Change) breadth() []int {
	segments, rest, sum := strings.Split(x.Route, "/"), 1, 0
	for _, s := range segments {
		sum -= weight(s)
	}
	if strings.HasSuffix(x.Route, "/**") {
		rest = 0
	}
	return []int{strings.Count(x.Who, " + "), rest, len(segments), sum, -len(x.Methods)}
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
