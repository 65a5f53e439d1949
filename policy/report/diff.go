package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// Direction says where a change leads.
type Direction string

// The directions.
const (
	Opened  Direction = "opened"  // somebody gets in, or may get in, who did not
	Closed  Direction = "closed"  // the other way round
	Changed Direction = "changed" // it depends on something else than before: both can be
)

// Change is a decision that two configs make differently.
type Change struct {
	Direction Direction `json:"direction"`
	Site      string    `json:"site"`
	Who       string    `json:"who"`
	Route     string    `json:"route"`
	Methods   []string  `json:"methods"`
	Before    Cell      `json:"before"`
	After     Cell      `json:"after"`
	Because   string    `json:"because,omitempty"` // a request that shows it, where the cells do not
}

// Comparison is what changes between two configs.
type Comparison struct {
	Changes []Change `json:"changes"`
	Added   []string `json:"sites_added"`   // sites that only the new config gates
	Removed []string `json:"sites_removed"` // sites that it does not gate any more: whoever serves them then, no policy does
	Beside  []Beside `json:"beside"`        // what differs and is no decision
	Asked   int      `json:"asked"`         // decisions that were compared
	// Sampled says what was looked at in part only, a sentence for each: what was left out can have changed unseen.
	Sampled []string `json:"sampled"`

	decided int  // how often both were asked: one answer can be that of many
	apart   bool // for tests: nobody shares an answer
}

// Beside is a line of a site that only one config has, and that weighs on decisions without being one: a budget, an origin that
// may send requests, whose tokens are accepted. Who compares sites knows which there are.
type Beside struct {
	Site  string `json:"site"`
	Line  string `json:"line"`
	Gone  bool   `json:"gone"`  // the old one has it; otherwise the new one
	Opens bool   `json:"opens"` // it opens something, or may
}

// Opens reports whether something opens, or may open: a change that could be both counts, and so does what was not looked at.
func (c *Comparison) Opens() bool {
	return len(c.Removed) > 0 || len(c.Sampled) > 0 || slices.ContainsFunc(c.Beside, func(x Beside) bool { return x.Opens }) || slices.ContainsFunc(c.Changes, func(x Change) bool { return x.Direction != Closed })
}

// Compare asks both configs the same for each host of either.
func Compare(before, after []*Site) Comparison {
	c := Comparison{Changes: []Change{}, Added: []string{}, Removed: []string{}, Beside: []Beside{}, Sampled: []string{}}
	c.compare(before, after)
	return c
}

func (c *Comparison) compare(before, after []*Site) {
	done := map[[2]*Site]bool{}
	for _, host := range hostsOf(before, after) {
		a, b := serving(before, host), serving(after, host)
		switch {
		case a == nil:
			c.Added = append(c.Added, host)
		case b == nil:
			c.Removed = append(c.Removed, host)
			continue
		}
		byHost := a != nil && a.AsksHost() || b.AsksHost()
		if done[[2]*Site{a, b}] && !byHost {
			continue // another host of the same sites
		}
		done[[2]*Site{a, b}] = true
		if a == nil {
			a = &Site{Hosts: b.Hosts}
		}
		if byHost {
			a, b = a.on(host), b.on(host)
		}
		c.site(host, a, b)
	}
	slices.SortStableFunc(c.Changes, func(x, y Change) int {
		return cmp.Or(slices.Index(directions, x.Direction)-slices.Index(directions, y.Direction), strings.Compare(x.Site, y.Site))
	})
}

var directions = []Direction{Opened, Changed, Closed}

func hostsOf(lists ...[]*Site) (hosts []string) {
	for _, list := range lists {
		for _, s := range list {
			hosts = append(hosts, s.Hosts...)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

func serving(sites []*Site, host string) *Site {
	for _, s := range sites {
		if slices.Contains(s.Hosts, host) {
			return s
		}
	}
	return nil
}

// site compares two policies of one host.
func (c *Comparison) site(host string, a, b *Site) {
	lines := differing(a, b)
	if len(lines) == 0 && a.reads == b.reads {
		return // whatever is asked, the same lines answer
	}
	m := newMade(a, b)
	people := everybody(m, a, b)
	others, cut := barred(m, people, a, b)
	people = append(people, others...)
	if cut {
		c.Sampled = append(c.Sampled, fmt.Sprintf("%s: %d combinations of what a line allows with what another denies, of more that there are", host, len(others)))
	}
	names, all := methods(a, b), samples(a, b)
	people, names = concerned(people, names, lines, a, b)
	if len(people) > maxDiffActors {
		c.Sampled = append(c.Sampled, fmt.Sprintf("%s: %d of %d people and combinations of roles that a changed line concerns", host, maxDiffActors, len(people)))
		people = people[:maxDiffActors]
	}
	if len(all) == maxSamples {
		c.Sampled = append(c.Sampled, fmt.Sprintf("%s: %d combinations of addresses, times and sign-ins, of more that there are", host, maxSamples))
	}
	c.answers(host, newAlike(m, a, b, people, names), compared(a, b, lines), all)
}

// answers compares what two policies say at some routes. What another change says already is left out at once, as there can be a
// million of them.
func (c *Comparison) answers(host string, k *alike, routes []string, all []sample) {
	k.apart = c.apart
	byBreadth := make([]int, len(routes))
	for i := range routes {
		byBreadth[i] = i
	}
	width := make([][]int, len(routes))
	for i, route := range routes {
		width[i] = breadth(route)
	}
	slices.SortStableFunc(byBreadth, func(i, j int) int { return slices.Compare(width[i], width[j]) })
	byParts := make([]int, len(k.people))
	for i := range k.people {
		byParts[i] = i
	}
	slices.SortStableFunc(byParts, func(i, j int) int {
		return strings.Count(k.people[i].Name, " + ") - strings.Count(k.people[j].Name, " + ")
	})
	type place struct {
		route, person, n int
		change           *Change
	}
	var kept []place
	r := newReducer(k.people)
	for _, at := range byBreadth {
		classes, names := k.classes(routes[at])
		r.at(routes[at])
		found := map[int][]Change{}
		for _, i := range byParts {
			changes, asked := found[classes[i]]
			if !asked {
				changes = c.differences(k, routes[at], k.people[classes[i]], names, all)
				found[classes[i]] = changes
			}
			c.Asked += len(k.names)
			for n := range changes {
				if !r.isNew(&changes[n], i) {
					continue
				}
				x := changes[n]
				x.Site, x.Who = host, k.people[i].Name
				kept = append(kept, place{at, i, n, &x})
				r.keep(&x, i)
			}
		}
	}
	slices.SortFunc(kept, func(x, y place) int { return cmp.Or(x.route-y.route, x.person-y.person, x.n-y.n) })
	for _, p := range kept {
		c.Changes = append(c.Changes, *p.change)
	}
}

// differences are the changes at a route for a person, methods with the same change together. names has for each method the first one
// with the same answers.
func (c *Comparison) differences(k *alike, route string, who Actor, names []int, all []sample) (found []Change) {
	of := make([]int, len(names)) // of each method its change, -1: none
	for n, method := range k.names {
		if of[n] = -1; names[n] != n {
			of[n] = of[names[n]]
		} else {
			c.decided++
			x, differs := compareCells(k.made, k.sites[0], k.sites[1], route, method, who, all)
			if !differs {
				continue
			}
			of[n] = slices.IndexFunc(found, func(f Change) bool {
				return f.Direction == x.Direction && f.Before == x.Before && f.After == x.After && f.Because == x.Because
			})
			if of[n] < 0 {
				x.Route = route
				found, of[n] = append(found, x), len(found)
			}
		}
		if i := of[n]; i >= 0 {
			found[i].Methods = append(found[i].Methods, method)
		}
	}
	return found
}

// maxDiffActors bounds how many people are compared.
const maxDiffActors = 1000

// concerned leaves out who, and which methods, no line that differs is about: for them the same lines answer as before.
func concerned(people []Actor, names []string, lines []*line, a, b *Site) ([]Actor, []string) {
	if a.reads != b.reads {
		return people, names
	}
	people = slices.DeleteFunc(people, func(p Actor) bool {
		return !slices.ContainsFunc(lines, func(l *line) bool { return l.admits(p.Who, 0) })
	})
	if slices.Equal(methods(a), methods(b)) { // else a line for all methods is about another one, too
		names = slices.DeleteFunc(names, func(method string) bool {
			return !slices.ContainsFunc(lines, func(l *line) bool { return l.lists(method) })
		})
	}
	return people, names
}

// differing are the lines that stand in one of the two only. What a name of a network stands for is part of a line.
func differing(a, b *Site) (lines []*line) {
	for _, pair := range [][2]*Site{{a, b}, {b, a}} {
		other := map[string]bool{}
		for i := range pair[1].lines {
			other[pair[1].key(&pair[1].lines[i])] = true
		}
		for i := range pair[0].lines {
			if l := &pair[0].lines[i]; !l.shadow && !other[pair[0].key(l)] {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// key is a line without its place, and what its conditions come to.
func (s *Site) key(l *line) string {
	return strings.TrimSuffix(l.text, " ("+l.at+")") + "\x00" + s.conditions(l)
}

// compared are the routes that differing lines concern, of whichever line, and what lies beside them. When the two read paths
// differently these are all routes, and the paths that only some sites accept.
func compared(a, b *Site, lines []*line) (list []string) {
	for _, l := range lines {
		for _, s := range []*Site{a, b} {
			for i := range s.lines {
				other := &s.lines[i]
				list = append(list, append(l.meet(other), other.meet(l)...)...)
			}
		}
	}
	for _, route := range slices.Concat(routes(a, b), list) {
		split := segments(route)
		if a.reads != b.reads || slices.ContainsFunc(lines, func(l *line) bool { return l.meets(split) }) {
			list = append(list, border(route)...)
		}
	}
	if a.reads != b.reads {
		list = append(list, odd...)
	}
	slices.SortFunc(list, comparePatterns)
	return slices.Compact(list)
}

// meets reports whether a line can match some path of a pattern, or one beside it. The pattern comes in its segments: many lines are
// asked about the same one.
func (l *line) meets(route []string) bool {
	return len(l.patterns) == 0 || slices.ContainsFunc(l.split, func(p []string) bool { return overlapping(p, route) })
}

// overlap reports whether two patterns can match the same path, ASCII case and a slash at the end aside.
func overlap(a, b string) bool { return overlapping(segments(a), segments(b)) }

func overlapping(x, y []string) bool {
	for i := 0; i < len(x) && i < len(y); i++ {
		switch {
		case x[i] == "**" || y[i] == "**":
			return true
		case x[i] != y[i] && weight(x[i])+weight(y[i]) == 0:
			return false
		}
	}
	longer := x
	if len(y) > len(x) {
		longer = y
	}
	return len(x) == len(y) || longer[min(len(x), len(y))] == "**"
}

// barred are people of whom a deny holds besides what an allow names: without them a deny that goes would open nothing to anybody.
// There can be too many.
func barred(m made, people []Actor, sites ...*Site) (list []Actor, cut bool) {
	seen := map[string]bool{}
	for _, p := range people {
		seen[p.Name] = true
	}
	const most = 20 * maxDiffActors
	combinations := func(kind string) (all [][]words) {
		for _, s := range sites {
			for i := range s.lines {
				if l := &s.lines[i]; l.kind == kind && !l.shadow {
					each(l.subjects, nil, func(w []words) { all = append(all, w) })
				}
			}
		}
		return all
	}
	allows := combinations(kindAllow)
	for _, deny := range combinations(kindDeny) {
		for _, allow := range allows {
			both := slices.Concat(allow, slices.DeleteFunc(slices.Clone(deny), func(w words) bool {
				return slices.ContainsFunc(allow, func(o words) bool { return o.String() == w.String() })
			}))
			if a := m.actor(both); !seen[a.Name] {
				if len(list) == most {
					return list, true
				}
				seen[a.Name] = true
				list = append(list, a)
			}
		}
	}
	return list, false
}

// openness orders cells where one is open in all cases in which the other is.
var openness = map[Kind]int{No: 0, SignIn: 0, Emergency: 1, StepUp: 2, Conditional: 2, Own: 2, Yes: 3}

// compareCells says whether two policies decide differently, and in which direction. Where a cell depends on something, requests
// from the borders of all conditions are tried.
func compareCells(m made, a, b *Site, route, method string, who Actor, all []sample) (Change, bool) {
	x := Change{Before: a.cell(m, route, method, who), After: b.cell(m, route, method, who)}
	from, to := openness[x.Before.Kind], openness[x.After.Kind]
	if x.Before.Kind == x.After.Kind && x.Before.Note == x.After.Note {
		return x, false
	}
	switch {
	case from < to:
		x.Direction = Opened
	case from > to:
		x.Direction = Closed
	case from == 0: // no and sign-in: nobody gets in
		return x, false
	default:
		x.Direction = Changed
		x.try(m, a, b, route, method, who, all)
	}
	return x, true
}

// try looks for requests that show where a change leads, with all that the conditions of both have borders at.
func (x *Change) try(m made, a, b *Site, route, method string, who Actor, all []sample) {
	var opened, closed string
	say := func(path string, it sample, want bool) string {
		return it.simplest(func(s sample) bool {
			return a.allows(path, method, who.Who, s) != want && b.allows(path, method, who.Who, s) == want
		}).String()
	}
	for _, own := range []bool{false, true} {
		path := m.concrete(route, who.Who, own)
		for _, sample := range all {
			was, is := a.allows(path, method, who.Who, sample), b.allows(path, method, who.Who, sample)
			if is && !was && opened == "" {
				opened = say(path, sample, true)
			}
			if was && !is && closed == "" {
				closed = say(path, sample, false)
			}
		}
	}
	switch {
	case opened != "":
		x.Direction, x.Because = Opened, opened
	case closed != "" && !guesses(x) && len(all) < maxSamples:
		x.Direction, x.Because = Closed, closed
	case closed != "":
		x.Because = "no " + closed
	}
}

// zones finds the time zones of hours in a note.
var zones = regexp.MustCompile(`\bhours (?:[a-z,-]+ )?[0-9:,-]+ ([\w+/-]+)`)

// guesses reports whether a condition is about more than what samples have: these are of one week, in which two time zones are not as
// far apart as in another.
func guesses(x *Change) bool {
	all := zones.FindAllStringSubmatch(x.Before.Note+"; "+x.After.Note, -1)
	if slices.ContainsFunc(all, func(m []string) bool { return m[1] != all[0][1] }) {
		return true
	}
	return strings.Contains(x.Before.Note+x.After.Note, "when ") || strings.Contains(x.Before.Note+x.After.Note, "what the token is for")
}

// allows decides one sample.
func (s *Site) allows(path, method string, who *policy.Subject, sample sample) bool {
	if s.Policy == nil {
		return false
	}
	p, err := s.Policy.ParsePath(path)
	if err != nil {
		return false
	}
	r := policy.Request{Method: method, Path: p, Host: s.host(), Now: sample.at, Addr: sample.addr}
	if who != nil {
		it := *who
		it.ACR, it.AMR, it.Device = sample.acr, sample.amr, sample.device
		if sample.signed {
			it.AuthTime = sample.at.Add(-sample.age)
		}
		r.Who = &it
	}
	return s.Policy.Decide(r).Allowed
}
