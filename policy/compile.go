package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Problem is one mistake in one line. Compile joins all of them.
type Problem struct {
	At     string // where the line stands
	Line   string // its words
	Reason string // a fixed code, "who", "role", "user", "scope", "require", "method", "path", "blank", "duplicate", "action" or "no-allow"
	Wrong  string // what is wrong
	Write  string // what to write instead
	Warn   bool   // the policy works, and perhaps not as it was meant
}

// Error returns place, line, fault and remedy as one line of text.
func (p *Problem) Error() string {
	var b strings.Builder
	if p.At != "" {
		b.WriteString(p.At + ": ")
	}
	if p.Line != "" {
		fmt.Fprintf(&b, "`%s`: ", p.Line)
	}
	b.WriteString(p.Wrong + "; write " + p.Write)
	return b.String()
}

type who uint8

const (
	whoNone who = iota
	whoPublic
	whoAny
	whoRole
	whoUser
	whoScope
	whoEverybody // of a require line
)

// rule is a line that was understood.
type rule struct {
	deny     bool
	demands  bool // a require line
	who      who
	within   who      // whoRole or whoUser: of the holders of a scope only these
	names    []string // of roles or users
	scopes   []scope
	need     Need
	methods  []string // none: all
	patterns []string // at least one; "/**" for a line without paths
	text     string   // the line as it was written, with its place
}

// Compile reads all lines of a site. The error joins one *Problem for each mistake of each line, so that an operator can
// mend them all at once; errors.As finds the first. A policy that allows nothing does not compile.
func Compile(lines []Line) (*Policy, error) {
	p := &Policy{methods: map[string]bool{}}
	var problems []error
	roles, scopes := map[string]bool{}, map[string]bool{}
	var demands []*rule
	seen := map[string]string{}
	allows := false
	for _, line := range lines {
		r, found := parseLine(line)
		allows = allows || len(line.Words) > 0 && line.Words[0] == "allow"
		if len(found) == 0 {
			if first, twice := seen[r.key()]; twice {
				found = append(found, duplicate(line, first))
			} else {
				seen[r.key()] = line.At
			}
		}
		if len(found) == 0 && r.demands {
			found = append(tooMuch(line, r, demands), unmeetable(line, r, demands)...)
			demands = append(demands, r)
		}
		for _, problem := range found {
			problems = append(problems, problem)
		}
		if len(found) == 0 {
			p.add(r, roles, scopes)
		}
	}
	if !allows {
		problems = append(problems, &Problem{Reason: "no-allow", Wrong: "no line allows anything, so that nobody could reach the app",
			Write: "who may, for example `allow role doctor`, or `allow any` for everybody who is signed in"})
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	p.roles = slices.Sorted(maps.Keys(roles))
	p.scopes = slices.Sorted(maps.Keys(scopes))
	return p, nil
}

// add puts a rule into the tree of its kind.
func (p *Policy) add(r *rule, roles, scopes map[string]bool) {
	tree := &p.allow
	switch {
	case r.deny:
		tree = &p.deny
	case r.demands:
		tree, p.requires = &p.require, true
	}
	for _, pattern := range r.patterns {
		tree.add(r, pattern)
		p.usesUsername = p.usesUsername || hasSegment(pattern, "{user}")
	}
	for _, method := range r.methods {
		p.methods[method] = true
	}
	for _, s := range r.scopes {
		scopes[s.text] = true
	}
	if r.who == whoRole || r.within == whoRole {
		for _, name := range r.names {
			roles[name] = true
		}
	}
	p.usesTime = p.usesTime || r.need.MaxAge > 0
	p.usesUsername = p.usesUsername || r.who == whoUser || r.within == whoUser
}

func duplicate(line Line, first string) *Problem {
	where := "a line above"
	if first != "" {
		where = first
	}
	return &Problem{At: line.At, Line: strings.Join(line.Words, " "), Reason: "duplicate",
		Wrong: "this says the same as " + where, Write: "it once"}
}

// key is equal for two rules that say the same, in whatever order.
func (r *rule) key() string {
	sorted := func(list []string) []string {
		list = slices.Clone(list)
		slices.Sort(list)
		return slices.Compact(list)
	}
	var amr []string
	for _, list := range r.need.AMR {
		amr = append(amr, sorted(list)...)
	}
	return fmt.Sprintf("%t %t %d %d %q %q %q %q %d %q %q", r.deny, r.demands, r.who, r.within, sorted(r.names), sorted(r.scopeTexts()),
		sorted(r.need.ACR), amr, r.need.MaxAge, sorted(r.methods), sorted(r.patterns))
}
