package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/policy/condition"
)

// ignoreCase is the word for an app that takes paths in any case.
const ignoreCase = "ignore_case"

// pathExceptions are the words of `paths allow`, each with what it sets.
var pathExceptions = []struct {
	word string
	set  func(*policy.Exceptions)
}{
	{"encoded_slash", func(e *policy.Exceptions) { e.EncodedSlash = true }},
	{"semicolon", func(e *policy.Exceptions) { e.Semicolon = true }},
	{"encoded_percent", func(e *policy.Exceptions) { e.EncodedPercent = true }},
	{"trailing_dot", func(e *policy.Exceptions) { e.TrailingDot = true }},
}

func exceptionNames() (names []string) {
	for _, e := range pathExceptions {
		names = append(names, e.word)
	}
	return names
}

// exceptions reads Paths.
func (s *Site) exceptions() (e policy.Exceptions, err error) {
	for i, word := range s.Paths {
		known := word == ignoreCase
		for _, p := range pathExceptions {
			if p.word == word {
				known = true
				p.set(&e)
			}
		}
		if !known {
			return e, fmt.Errorf("paths %q: want one of %s, or `paths %s`", word, strings.Join(exceptionNames(), ", "), ignoreCase)
		}
		if slices.Contains(s.Paths[:i], word) {
			return e, fmt.Errorf("paths %q stands twice; write it once", word)
		}
	}
	return e, nil
}

// policyConfig is all that the site's policy is made from.
func (s *Site) policyConfig(a *App) (policy.Config, error) {
	rules := s.Rules
	if s.onlyPortal() && a.Portal != "" {
		rules = portalRules
	}
	rules, err1 := a.expand(rules)
	networks, err2 := a.networks()
	exceptions, err3 := s.exceptions()
	known, err4 := a.known()
	err5 := literal(slices.Concat(rules, s.Expect))
	if err3 != nil {
		err3 = fmt.Errorf("%s: %w", siteAt(s), err3)
	}
	return policy.Config{
		Lines: linesOf(rules), Networks: networks, IgnoreCase: slices.Contains(s.Paths, ignoreCase), Exceptions: exceptions,
		Roles: known.roles, Groups: known.groups, Sources: known.sources, Claims: known.claims,
	}, errors.Join(err1, err2, err3, err4, err5)
}

// literal refuses names that nobody has because Caddy was to put something in their place: {env.NAME} and the argument of a snippet that
// was imported without it stay as they are, and `deny user {env.NAME}` would hold for nobody. The same with blanks in quotes.
func literal(rules []Rule) error {
	var problems []error
	for _, r := range rules {
		for i, word := range r.Words {
			if i > 0 && r.Words[i-1] == "when" || strings.HasPrefix(word, "/") {
				continue // these have names in braces; the policy knows which
			}
			braces := strings.ContainsAny(word, "{}") && !(r.Words[0] == "budget" && r.Words[i-1] == "distinct")
			if blanks := slices.ContainsFunc(strings.Split(word, ","), func(s string) bool { return s != strings.TrimSpace(s) }); braces || blanks {
				problems = append(problems, fmt.Errorf("%s: `%s`: %q is no name: nothing is put in the place of {…} here, and blanks count; write the name, or {$NAME} for a variable of the environment", r.At, strings.Join(r.Words, " "), word))
			}
		}
	}
	return errors.Join(problems...)
}

func linesOf(rules []Rule) []policy.Line {
	lines := make([]policy.Line, len(rules))
	for i, r := range rules {
		lines[i] = policy.Line{Words: r.Words, At: r.At}
	}
	return lines
}

// compile makes the site's policy. Its error names everything that is wrong with it.
func (s *Site) compile(a *App) (*policy.Policy, error) {
	config, err1 := s.policyConfig(a)
	p, err2 := policy.New(config)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return p, nil
}

// judge compiles the policies of all sites and checks their expectations, so that an operator sees everything at once. It runs once
// for a config, by the first site that is validated; the others are not provisioned then.
func (a *App) judge(places []place) error {
	a.judged.Do(func() {
		var problems []error
		for _, p := range places {
			problems = append(problems, a.judgeSite(p.site))
		}
		a.judgement = errors.Join(append(problems, a.unusedPolicies(places))...)
		a.warnUngated(places)
	})
	return a.judgement
}

func (a *App) judgeSite(s *Site) error {
	if s.onlyPortal() && a.Portal == "" {
		return nil // surveyPortal says so
	}
	p, err := s.compile(a)
	if err != nil {
		return fmt.Errorf("the anteroom block at %s: %w", siteAt(s), err)
	}
	for _, warning := range p.Warnings() {
		a.logger.Warn(warning.Error(), "site", siteAt(s))
	}
	rules, _ := a.expand(s.Rules) // compile says what is wrong
	uses := slices.DeleteFunc(slices.Clone(s.Rules), func(r Rule) bool { return len(r.Words) == 0 || r.Words[0] != "use" })
	for _, warning := range missing(slices.Concat(uses, rules, s.Expect)) {
		a.logger.Warn(warning, "site", siteAt(s))
	}
	if known, err := a.known(); err == nil { // compile says so
		for _, warning := range known.sharedClaims(rules) {
			a.logger.Warn(warning, "site", siteAt(s))
		}
	}
	return checkExpectations(p, s.Expect, time.Now())
}

// checkExpectations holds the policy against what its operator expects.
func checkExpectations(p *policy.Policy, rules []Rule, now time.Time) error {
	var problems []error
	for _, line := range linesOf(rules) {
		e, err := policy.ParseExpectation(line)
		if err == nil {
			err = p.Check(e, now)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// rules are all that decides on the site, in one comparable form: order does not matter.
func (s *Site) rules(a *App) []string {
	var lines []string
	expanded, _ := a.expand(s.Rules) // judge says what is wrong
	for _, r := range expanded {
		lines = append(lines, fmt.Sprintf("%q", r.Words)) // a word may hold blanks: user "ann group lab" is one name
	}
	for _, o := range s.AllowOrigins {
		lines = append(lines, "allow_origin "+o)
	}
	for _, word := range s.Paths {
		lines = append(lines, "paths "+word)
	}
	lines = append(lines, fmt.Sprintf("on_store_loss %d assertion %q %t bearer %q %q %t", s.OnStoreLoss, s.Audience, s.NoAssertion, s.Bearer.From, s.Bearer.Audience, s.Bearer.Unbound))
	slices.Sort(lines)
	return slices.Compact(lines)
}

// networks reads the networks that have names.
func (a *App) networks() (map[string][]netip.Prefix, error) {
	var problems []error
	all := make(map[string][]netip.Prefix, len(a.Networks))
	for name, texts := range a.Networks {
		for _, text := range texts {
			prefix, err := parseNetwork(text)
			if err != nil {
				problems = append(problems, fmt.Errorf("network %s: %w", name, err))
			}
			all[name] = append(all[name], prefix)
		}
	}
	return all, errors.Join(problems...)
}

// parseNetwork reads an address or a range, as lines of policies have it.
func parseNetwork(text string) (netip.Prefix, error) {
	p, wrong := condition.ParseNetwork(text)
	if wrong != "" {
		return p, fmt.Errorf("%q is no network: %s; write 10.1.0.0/16, 2001:db8::/32 or one address", text, wrong)
	}
	return p, nil
}
