package policy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Config is what a policy is made of.
type Config struct {
	Lines    []Line
	Networks map[string][]netip.Prefix // names for `network`
	// Roles, Groups, Sources and Claims are what a session of this site can have. Nil: not known, and not judged.
	Roles, Groups, Sources, Claims []string
	IgnoreCase                     bool       // allow lines, too, do not look at the case of ASCII letters in paths: the app does not
	Exceptions                     Exceptions // which paths with several readings this site accepts
}

// Problem is one mistake in one line. New joins all of them.
type Problem struct {
	At   string // where the line stands
	Line string // its words
	// Reason is a fixed code: "who", "role", "user", "group", "org", "idp", "device", "scope", "require", "network", "hours", "when",
	// "condition", "method", "path", "break_glass", "budget", "blank", "duplicate", "action" or "no-allow", or one of those of a judgement.
	Reason string
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

// Compile is New for lines that need nothing else and are judged one by one only: lines that change nothing compile, too.
func Compile(lines []Line) (*Policy, error) { return compileAll(&Config{Lines: lines}, nil) }

// New reads all lines of a site. The error joins one *Problem for each mistake of each line, so that an operator can
// mend them all at once; errors.As finds the first. A policy that allows nothing does not compile.
func New(c Config) (*Policy, error) { return compileAll(&c, judge) }

func compileAll(c *Config, judge func(*Config, []*rule) []*Problem) (*Policy, error) {
	rules, problems := readLines(c)
	if len(problems) == 0 {
		problems = spread(rules)
	}
	if judge != nil {
		problems = append(problems, judge(c, rules)...)
	}
	var faults []error
	var warnings []*Problem
	for _, problem := range problems {
		if problem.Warn {
			warnings = append(warnings, problem)
		} else {
			faults = append(faults, problem)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	p := build(c, rules, false)
	p.warnings = warnings
	if slices.ContainsFunc(rules, func(r *rule) bool { return r.shadow }) {
		p.shadow = build(c, rules, true)
	}
	return p, nil
}

// readLines returns the lines that were understood, and what is wrong with the others.
func readLines(c *Config) (rules []*rule, problems []*Problem) {
	seen := map[string]string{}
	var demands []*rule
	needs := asked{lists: map[string]bool{}}
	allows := false
	for _, line := range c.Lines {
		r, found := parseLine(c, line)
		allows = allows || len(line.Words) > 0 && line.Words[0] == "allow"
		if len(found) == 0 {
			if first, twice := seen[r.key()]; twice {
				found = append(found, duplicate(line, first))
			} else {
				seen[r.key()] = line.At
			}
		}
		if len(found) == 0 && !r.need.isZero() {
			found = needs.tooMuch(line, r)
		}
		if len(found) == 0 && r.kind == kindRequire && !r.shadow {
			found = unmeetable(line, r, demands)
			demands = append(demands, r)
		}
		problems = append(problems, found...)
		if len(found) == 0 {
			rules = append(rules, r)
		}
	}
	if !allows {
		problems = append(problems, &Problem{Reason: "no-allow", Wrong: "no line allows anything, so that nobody could reach the app",
			Write: "who may, for example `allow role doctor`, or `allow any` for everybody who is signed in"})
	}
	return rules, problems
}

// build makes the policy of the lines that decide, or with shadow of all.
func build(c *Config, rules []*rule, shadow bool) *Policy {
	p := &Policy{methods: map[string]bool{}, exceptions: c.Exceptions, loose: c.IgnoreCase, rules: rules, glasses: map[string]*rule{}, entries: map[*rule][]*entry{},
		given: given{c.Roles, c.Groups, c.Sources, c.Claims}}
	roles, scopes := map[string]bool{}, map[string]bool{}
	for _, r := range rules {
		p.uses.add(r)
		p.shapes.add(r)
		for _, name := range r.names(byRole) {
			roles[name] = true
		}
		for _, s := range r.scopes {
			scopes[s.text] = true
		}
		if r.shadow && !shadow {
			continue
		}
		for _, method := range r.methods {
			p.methods[method] = true
		}
		p.add(r)
	}
	p.roles, p.scopes = slices.Sorted(maps.Keys(roles)), slices.Sorted(maps.Keys(scopes))
	return p
}

// add puts a rule into the tree of its kind.
func (p *Policy) add(r *rule) {
	trees := [...]*node{kindAllow: &p.allow, kindDeny: &p.deny, kindRequire: &p.require, kindGlass: &p.glass, kindBudget: &p.budgets}
	for _, pattern := range r.patterns {
		e := newEntry(r, pattern)
		trees[r.kind].add(e, p.loose)
		p.entries[r] = append(p.entries[r], e)
	}
	switch r.kind {
	case kindRequire:
		p.requires = true
	case kindGlass:
		p.glasses[r.words] = r
	case kindBudget:
		p.counts = true
	}
}

func duplicate(line Line, first string) *Problem {
	where := "a line above"
	if first != "" {
		where = first
	}
	return &Problem{At: line.At, Line: strings.Join(line.Words, " "), Reason: "duplicate",
		Wrong: "this says the same as " + where, Write: "it once"}
}
