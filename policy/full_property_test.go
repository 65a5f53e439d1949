package policy

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fullPattern makes up a path of a line; with p it has that variable.
func (l lottery) fullPattern(p bool) string {
	segments := []string{l.pick("a", "b", "A", "*")}
	for range l.IntN(3) {
		segments = append(segments, l.pick("a", "b", "B", "*", "{user}", "{claim.c}", "{q}"))
	}
	for i := range segments { // a name is there once
		if slices.Contains(segments[:i], segments[i]) && segments[i] == "{q}" {
			segments[i] = "*"
		}
	}
	if p {
		segments[l.IntN(len(segments))] = "{p}"
	}
	return "/" + strings.Join(segments, "/") + l.pick("", "", "/", "/**", "/**")
}

// full makes up a line of the whole language.
func (l lottery) full() (r plainRule) {
	r.kind = l.pick("allow", "allow", "allow", "allow", "deny", "deny", "require", "require", "break_glass", "budget")
	r.shadow = l.IntN(6) == 0 && r.kind != "break_glass" && r.kind != "budget"
	if r.kind != "require" {
		names := map[string][]string{"role": {"r1", "r2", "R1"}, "group": {"g1", "g2", "G1"}, "user": {"a", "b", "A"}, "org": {"o", "O"}, "idp": {"i", "j"}}
		kinds := slices.Sorted(maps.Keys(names))
		l.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		r.subjects = map[string][]string{}
		for _, kind := range kinds[:1+l.IntN(2)*l.IntN(3)] {
			r.subjects[kind] = strings.Split(l.many(2, ",", names[kind]...), ",")
		}
		if l.IntN(3) == 0 && r.kind != "break_glass" {
			r.who, r.subjects = l.pick("any", "any", "public"), nil
		}
		if r.kind == "budget" && r.who == "public" {
			r.who = "any"
		}
		r.device = l.IntN(6) == 0 && r.who != "public" && r.kind != "deny" && r.kind != "budget"
	}
	if l.IntN(4) == 0 && r.kind != "budget" {
		r.methods = strings.Split(l.many(2, ",", "GET", "HEAD", "POST"), ",")
	}
	p := l.IntN(2) == 0 || r.kind == "budget"
	for range 1 + l.IntN(2) {
		pattern := l.fullPattern(p)
		if r.who == "public" {
			pattern = strings.NewReplacer("{user}", "*", "{claim.c}", "*").Replace(pattern)
		}
		if r.kind == "break_glass" && !slices.ContainsFunc(strings.Split(pattern, "/"), leavesOpen) {
			pattern = strings.TrimSuffix(pattern, "/") + "/**"
		}
		if !slices.Contains(r.patterns, pattern) {
			r.patterns = append(r.patterns, pattern)
		}
	}
	conds := plainConds(p)
	switch {
	case r.kind == "require":
		r.conds = []plainCond{conds[l.IntN(len(conds))]}
		if l.IntN(5) == 0 {
			r.conds = []plainCond{{words: []string{"device", "known"}, user: true, yes: func(r Request, _ string, _ map[string]string) *bool {
				b := r.Who != nil && r.Who.Device
				return &b
			}}}
		}
	case r.kind != "budget":
		for _, c := range conds[l.IntN(len(conds)):] {
			if l.IntN(3) == 0 && !slices.ContainsFunc(r.conds, func(o plainCond) bool { return o.words[0] == c.words[0] }) &&
				!(c.level && (r.kind == "deny" || r.who == "public")) {
				r.conds = append(r.conds, c)
			}
		}
	}
	return r
}

// fullRequest makes up a request, with or without exceptions of paths.
func (l lottery) fullRequest(t *testing.T, exceptions Exceptions) Request {
	r := Request{Method: l.pick("GET", "GET", "HEAD", "POST", "DELETE"), Query: l.pick("", "x")}
	for {
		path := ""
		for range 1 + l.IntN(4) {
			path += "/" + l.pick("a", "b", "A", "B", "a", "b", "%61", "%41", "q", "a%20b", "a;x=1", "a%2Fb", "b.", "a%2562")
		}
		parsed, err := parseReadings(l.pick(path, path, path, path+"/"), exceptions)
		if err == nil {
			r.Path = parsed
			break
		}
	}
	if l.IntN(10) > 0 {
		r.Now = time.Date(2026, 10, 19+l.IntN(14), l.IntN(24), l.IntN(60), 0, 0, time.UTC) // the clocks are put back on the 25th
	}
	if l.IntN(10) > 0 {
		r.Addr = netip.MustParseAddr(l.pick("10.1.2.3", "10.200.0.1", "192.0.2.7", "198.51.100.1", "2001:db8::1", "::ffff:10.1.2.3", "2001:db9::1", "fe80::1%eth0"))
	}
	if l.IntN(6) == 0 {
		return r
	}
	pick := func(list ...string) []string { return strings.Split(l.many(2, ",", list...), ",") }
	r.Who = &Subject{Username: l.pick("a", "b", "A", "", "q"), Roles: pick("r1", "r2", "R1", "x"), Groups: pick("g1", "g2", "G1", "x"), Org: l.pick("o", "O", ""), Source: l.pick("i", "j", "J"),
		Device: l.IntN(2) == 0, ACR: l.pick("", "low", "mid", "high"), AMR: pick("pwd", "otp", "hwk"), Claims: map[string]string{"c": l.pick("a", "b", "A", "")}}
	if l.IntN(3) > 0 {
		r.Who.AuthTime = r.Now.Add(-time.Duration(l.IntN(10)) * time.Minute)
	}
	if l.IntN(8) == 0 {
		r.Who.Claims = nil
	}
	return r
}

// TestFullEqualsPlain compares thousands of random sets of rules of the whole language with an evaluator that tries each line.
func TestFullEqualsPlain(t *testing.T) {
	l := lottery{rand.New(rand.NewPCG(3, 4))}
	seen := map[string]int{}
	for range 2000 {
		config := Config{Networks: plainNetworks, IgnoreCase: l.IntN(3) == 0}
		if l.IntN(2) == 0 {
			config.Exceptions = Exceptions{EncodedSlash: true, Semicolon: true, EncodedPercent: true, TrailingDot: true}
		}
		var rules []plainRule
		for range 1 + l.IntN(9) {
			rules = append(rules, l.full())
		}
		p, rules := compileThose(t, config, rules)
		seen["sets"]++
		for range 15 {
			checkFull(t, l, p, rules, l.fullRequest(t, config.Exceptions), config.IgnoreCase, seen)
		}
	}
	for _, reason := range []string{ReasonAllowed, ReasonDenied, ReasonNoRule, ReasonNoSession, ReasonStepUp, ReasonCondition, "emergency", "break", "shadow", "count", "readings"} {
		if seen[reason] < 100 {
			t.Errorf("the test sees too little of %s: %v", reason, seen)
		}
	}
}

// compileThose compiles the lines without those that are refused by themselves. What lines are to each other is not judged: also sets
// that no operator would write have to be decided rightly.
func compileThose(t *testing.T, c Config, rules []plainRule) (*Policy, []plainRule) {
	t.Helper()
	var kept []plainRule
	c.Lines = []Line{{Words: []string{"allow", "user", "zoe", "/only/zoe"}}}
	for i, rule := range rules {
		line := Line{Words: rule.line(), At: strconv.Itoa(i)}
		if _, problems := parseLine(&c, line); len(problems) > 0 {
			t.Fatalf("%q: %v", line.Words, problems[0])
		}
		if slices.ContainsFunc(kept, func(other plainRule) bool { return slices.Equal(other.line(), line.Words) }) {
			continue
		}
		kept, c.Lines = append(kept, rule), append(c.Lines, line)
	}
	p, err := compileAll(&c, nil)
	if err != nil { // levels that nobody can meet, duplicates in another order
		return compileThose(t, c, kept[:len(kept)-1])
	}
	return p, kept
}

func checkFull(t *testing.T, l lottery, p *Policy, rules []plainRule, r Request, ignoreCase bool, seen map[string]int) {
	t.Helper()
	fail := func(what string, got, want any) {
		t.Helper()
		var texts []string
		for _, rule := range rules {
			texts = append(texts, strings.Join(rule.line(), " "))
		}
		t.Fatalf("%s: %s %s?%s at %s from %s by %+v (ignore case: %t)\n%s\n%+v, plain: %+v", what, r.Method, r.Path, r.Query, r.Now, r.Addr, r.Who, ignoreCase, strings.Join(texts, "\n"), got, want)
	}
	real := slices.DeleteFunc(slices.Clone(rules), func(rule plainRule) bool { return rule.shadow })
	d, want := p.Decide(r), plainAnswer(real, r, ignoreCase)
	if d.Reason != want || d.Allowed != (want == ReasonAllowed) || d.Allowed && d.Rule == "" {
		fail("Decide", d, want)
	}
	if e := p.Explain(r); e.Decision.Reason != want {
		fail("Explain", e, want)
	}
	seen[want]++
	if len(r.Path.readings()) > 0 {
		seen["readings"]++
	}
	checkStepUp(r, d, p, fail)
	if shadow := p.Shadow(); (shadow != nil) != (len(real) < len(rules)) {
		fail("Shadow", shadow != nil, len(real) < len(rules))
	} else if shadow != nil {
		d, want := shadow.Decide(r), plainAnswer(rules, r, ignoreCase)
		if d.Reason != want {
			fail("Shadow", d, want)
		}
		seen["shadow"]++
	}
	checkGlass(l, r, d, p, real, ignoreCase, seen, fail)
	got := map[[2]string]bool{}
	p.Counts(r, func(c Count) bool {
		got[[2]string{strings.TrimRight(c.Rule, "()0123456789"), c.Value}] = true
		return true
	})
	if counted := plainCounts(real, r); !maps.Equal(got, counted) {
		fail("Counts", got, counted)
	}
	seen["count"] += len(got)
}

// signedIn is the same person after a sign-in that shows what is needed and nothing else.
func signedIn(r Request, need Need) *Subject {
	who := *r.Who
	who.AuthTime, who.AMR, who.ACR = r.Now, nil, ""
	if len(need.ACR) > 0 {
		who.ACR = need.ACR[0]
	}
	for _, list := range need.AMR {
		who.AMR = append(who.AMR, list[0])
	}
	return &who
}

// checkStepUp signs in with all that was asked for, and with nothing else.
func checkStepUp(r Request, d Decision, p *Policy, fail func(string, any, any)) {
	if d.Reason != ReasonStepUp || r.Now.IsZero() {
		return
	}
	r.Who = signedIn(r, d.Need)
	if again := p.Decide(r); !again.Allowed && len(r.Path.readings()) == 0 {
		fail("step-up", again, d.Need)
	}
}

func checkGlass(l lottery, r Request, d Decision, p *Policy, real []plainRule, ignoreCase bool, seen map[string]int, fail func(string, any, any)) {
	e, ok := p.Emergency(r)
	if ok {
		seen["emergency"]++
		begins := plainBreak(real, r, e.Rule, e.Scope, ignoreCase, true)
		if begins != (e.Need == nil) || d.Allowed || e.Need == nil && !p.Break(r, e) {
			fail("Emergency", e, begins)
		}
		if e.Need != nil && len(r.Path.readings()) == 0 && !r.Now.IsZero() {
			seen["emergency after a sign-in"]++
			again := r
			again.Who = signedIn(r, *e.Need)
			if anew, ok := p.Emergency(again); (!ok || anew.Need != nil) && !p.Decide(again).Allowed {
				fail("Emergency after a sign-in", anew, *e.Need)
			}
		}
	}
	segments := strings.Split(r.Path.raw[1:], "/")
	for _, rule := range real {
		if rule.kind != "break_glass" {
			continue
		}
		words, scope := strings.Join(rule.line(), " "), "/"+strings.Join(segments[:1+l.IntN(len(segments))], "/")
		want := plainBreak(real, r, words, scope, ignoreCase, false)
		if got := p.Break(r, Emergency{Rule: words, Scope: scope}); got != want {
			fail("Break "+words+" "+scope, got, want)
		}
		if want {
			seen["break"]++
			if !ok && plainBreak(real, r, words, scope, ignoreCase, true) && !d.Allowed && d.Reason != ReasonDenied && len(r.Path.readings()) == 0 && len(real) == 1 {
				fail("no Emergency", d, words)
			}
		}
	}
}

func plainCounts(rules []plainRule, r Request) map[[2]string]bool {
	counted := map[[2]string]bool{}
	for _, path := range append([]Path{r.Path}, r.Path.readings()...) {
		visit(rules, "budget", r, path, false, func(rule plainRule, _ string, vars map[string]string) {
			if r.Who != nil && rule.fits(r) {
				counted[[2]string{strings.Join(rule.line(), " ") + " ", strings.ReplaceAll(vars["p"], "\xff", "/")}] = true
			}
		})
	}
	return counted
}
