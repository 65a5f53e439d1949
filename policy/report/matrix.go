package report

import (
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// Kind is what a cell says.
type Kind string

// The kinds of cells, from open to closed.
const (
	Yes         Kind = "yes"         // allowed whatever else
	Own         Kind = "own"         // allowed for what bears the person's own name, no for anybody else's
	StepUp      Kind = "step-up"     // allowed after a sign-in of a certain level or age
	Conditional Kind = "conditional" // allowed from some network, at some hour or the like
	Emergency   Kind = "emergency"   // no, but the person may break the glass
	SignIn      Kind = "sign-in"     // nobody is signed in, and somebody has to be
	No          Kind = "no"
)

// Cell is what one person may do with one route.
type Cell struct {
	Kind Kind   `json:"kind"`
	Note string `json:"note,omitempty"` // of conditional and step-up: on what it depends; of own likewise, where it does
	Rule string `json:"rule,omitempty"` // the line that decided, where one line did
}

// Row is one route for some methods for which everybody's cells are the same.
type Row struct {
	Route   string   `json:"route"`
	Example string   `json:"example"` // a path of it
	Methods []string `json:"methods"`
	Cells   []Cell   `json:"cells"` // one for each actor
}

// Rule is one line as it stands in the config.
type Rule struct {
	Text string `json:"text"`
	At   string `json:"at"`
}

// Matrix says who may do what where on one site.
type Matrix struct {
	Site   string   `json:"site"`
	At     string   `json:"at,omitempty"`
	Actors []Actor  `json:"actors"`
	More   int      `json:"more,omitempty"` // people whom lines name and that have no column
	Rows   []Row    `json:"rows"`
	Others string   `json:"-"` // what stands for anything else in an example
	Rules  []Rule   `json:"rules"`
	All    []string `json:"methods"` // all methods that the policy knows
}

// NewMatrix asks the policy of a site about everybody whom its lines name.
func NewMatrix(s *Site) Matrix {
	m := newMade(s)
	people, more := actors(m, s)
	matrix := Matrix{Site: s.Name(), At: s.At, Actors: people, More: more, Rows: []Row{}, Others: m.other, All: methods(s)}
	for _, l := range s.lines {
		text := strings.TrimSuffix(l.text, " ("+l.at+")")
		matrix.Rules = append(matrix.Rules, Rule{text, l.at})
	}
	for _, route := range routes(s) {
		matrix.Rows = append(matrix.Rows, rowsOf(s, m, route, people, matrix.All)...)
	}
	return matrix
}

// rowsOf makes the rows of a route: methods with the same cells share one.
func rowsOf(s *Site, m made, route string, people []Actor, methods []string) (rows []Row) {
	for _, method := range methods {
		cells := make([]Cell, len(people))
		for i, a := range people {
			cells[i] = s.cell(m, route, method, a)
		}
		i := slices.IndexFunc(rows, func(r Row) bool { return slices.Equal(r.Cells, cells) })
		if i < 0 {
			rows = append(rows, Row{Route: route, Example: m.concrete(route, m.somebody(), true), Cells: cells})
			i = len(rows) - 1
		}
		rows[i].Methods = append(rows[i].Methods, method)
	}
	return rows
}

// known is what a made request says about its sender for sure: all that lines name. Not where from, when and how signed in.
const known = factGroups | factOrg | factSource | factOwn

// cell is what the actor may do. Where a pattern has a place for names both somebody's own and another's are asked for.
func (s *Site) cell(m made, route, method string, a Actor) Cell {
	other := s.ask(m.concrete(route, a.Who, false), method, a.Who)
	if !hasOwn(route) || a.Who == nil {
		return other
	}
	own := s.ask(m.concrete(route, a.Who, true), method, a.Who)
	switch {
	case own == other || own.Kind == other.Kind && own.Note == other.Note:
		return own
	case own.Kind == Yes && other.Kind == No:
		return Cell{Own, "", own.Rule}
	case own.Kind == No && other.Kind == No:
		return own
	}
	return Cell{Kind: Own, Note: describe(own) + "; another's: " + describe(other), Rule: own.Rule}
}

// describe is a cell in words.
func describe(c Cell) string {
	if c.Note == "" {
		return string(c.Kind)
	}
	return string(c.Kind) + ": " + c.Note
}

func (s *Site) ask(path, method string, who *policy.Subject) Cell {
	if s.Policy == nil {
		return Cell{Kind: No}
	}
	p, err := s.Policy.ParsePath(path)
	if err != nil {
		return Cell{Kind: No, Note: "such a path is refused"}
	}
	r := policy.Request{Method: method, Path: p, Who: who, Host: s.host()}
	v := s.judge(r, known)
	rule := v.decision.Rule
	switch {
	case v.mayAllow && !v.mayDeny:
		return Cell{Yes, "", rule}
	case v.mayAllow && v.isStepUp() && who != nil:
		return Cell{StepUp, s.note(v), ""}
	case v.mayAllow:
		return Cell{Conditional, s.note(v), ""}
	case who == nil && v.decision.Reason != policy.ReasonDenied && v.decision.Reason != policy.ReasonMethod:
		return Cell{SignIn, "", rule}
	}
	if who != nil && s.Policy.HasEmergency() {
		if e, ok := s.Policy.Emergency(r); ok {
			note := "for " + shortTime(e.For)
			if e.Need != nil {
				note += ", after another sign-in"
			}
			return Cell{Emergency, note, e.Rule}
		}
	}
	return Cell{No, "", rule}
}
