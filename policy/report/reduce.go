package report

import (
	"slices"
	"strings"
)

// reducer keeps the changes that no other one says: the same for a route that covers this one, or for somebody who is less. Whatever
// says another has to come before it: routes by their breadth, and at each route people by how much makes them up.
type reducer struct {
	lesser [][]int // of each person those, by their numbers, who are part of them; themselves, too
	kept   [][]*Change
}

func newReducer(people []Actor) *reducer {
	parts := make([][]string, len(people))
	for i, p := range people {
		parts[i] = strings.Split(p.Name, " + ")
	}
	r := &reducer{make([][]int, len(people)), make([][]*Change, len(people))}
	for i := range parts {
		for j := range parts {
			if len(parts[j]) <= len(parts[i]) && isPart(parts[j], parts[i]) {
				r.lesser[i] = append(r.lesser[i], j)
			}
		}
	}
	return r
}

// isNew reports whether a change for a person is not said yet.
func (r *reducer) isNew(x *Change, person int) bool {
	for _, i := range r.lesser[person] {
		if slices.ContainsFunc(r.kept[i], func(y *Change) bool { return y.says(x) }) {
			return false
		}
	}
	return true
}

// breadth orders routes: those of more paths are less.
func breadth(route string) []int {
	segments, rest, sum := strings.Split(route, "/"), 1, 0
	for _, s := range segments {
		sum -= weight(s)
	}
	if strings.HasSuffix(route, "/**") {
		rest = 0
	}
	return []int{rest, len(segments), sum}
}

// says reports whether whoever reads x knows y, when it is about the same person or one who is more.
func (x *Change) says(y *Change) bool {
	return x.Direction == y.Direction && x.Before.Kind == y.Before.Kind && x.After.Kind == y.After.Kind && x.Before.Note == y.Before.Note && x.After.Note == y.After.Note &&
		!slices.ContainsFunc(y.Methods, func(m string) bool { return !slices.Contains(x.Methods, m) }) && covers(x.Route, y.Route)
}

// isPart reports whether all that makes up somebody is true of another, too.
func isPart(a, b []string) bool {
	return !slices.ContainsFunc(a, func(part string) bool { return !slices.Contains(b, part) })
}

// covers reports whether a pattern matches all that another one matches.
func covers(a, b string) bool {
	if a == b || a == everything {
		return true
	}
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
