package report

import (
	"slices"
	"strings"
)

// reducer keeps the changes that no other one says: the same for a route that covers this one, or for somebody who is less. Whatever
// says another has to come before it: routes by their breadth, and at each route people by how much makes them up.
type reducer struct {
	lesser [][]int // of each person those, by their numbers, who are part of them; themselves, too
	routes []*keptAt
	around []*keptAt // of routes: the one that is looked at, which is the first, and those that cover it
}

// keptAt are the changes that were kept at a route.
type keptAt struct {
	route string
	of    [][]*Change // of each person
	some  bool
}

func newReducer(people []Actor) *reducer {
	parts := make([][]string, len(people))
	for i, p := range people {
		parts[i] = strings.Split(p.Name, " + ")
	}
	r := &reducer{lesser: make([][]int, len(people))}
	for i := range parts {
		for j := range parts {
			if len(parts[j]) <= len(parts[i]) && isPart(parts[j], parts[i]) {
				r.lesser[i] = append(r.lesser[i], j)
			}
		}
	}
	return r
}

// at goes on to another route.
func (r *reducer) at(route string) {
	if len(r.around) > 0 && r.around[0].some {
		r.routes = append(r.routes, r.around[0])
	}
	r.around = append(r.around[:0], &keptAt{route: route, of: make([][]*Change, len(r.lesser))})
	for _, k := range r.routes {
		if covers(k.route, route) {
			r.around = append(r.around, k)
		}
	}
}

// isNew reports whether a change for a person at the route is not said yet.
func (r *reducer) isNew(x *Change, person int) bool {
	for _, k := range r.around {
		for _, i := range r.lesser[person] {
			if slices.ContainsFunc(k.of[i], func(y *Change) bool { return y.says(x) }) {
				return false
			}
		}
	}
	return true
}

// keep takes a change for a person at the route.
func (r *reducer) keep(x *Change, person int) {
	r.around[0].of[person], r.around[0].some = append(r.around[0].of[person], x), true
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

// says reports whether whoever reads x knows y, when it is at the same route or one that x's covers, and about the same person or one
// who is more.
func (x *Change) says(y *Change) bool {
	return x.Direction == y.Direction && x.Before.Kind == y.Before.Kind && x.After.Kind == y.After.Kind && x.Before.Note == y.Before.Note && x.After.Note == y.After.Note &&
		!slices.ContainsFunc(y.Methods, func(m string) bool { return !slices.Contains(x.Methods, m) })
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
