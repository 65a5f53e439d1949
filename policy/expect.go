package policy

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Check says whether the policy decides as expected. now is the moment of an expectation that names none; nothing that it decides
// may depend on the time of the day then, or the same config would load in the morning and not in the evening. The error is a *Problem.
func (p *Policy) Check(e *Expectation, now time.Time) error {
	if p == nil || e == nil {
		return &Problem{Reason: "expect", Wrong: "there is no policy, or no expectation", Write: "both"}
	}
	r, err := e.Request(p, now)
	if err != nil {
		return err
	}
	if problem := p.unknown(e); problem != nil {
		return problem
	}
	came, d := p.outcome(r)
	if e.Time.IsZero() {
		if rule := p.hangsOnTime(r, came); rule != nil {
			return e.problem("it depends on the time, by `"+rule.text+"`", "the time into it, such as `at 2026-11-23T08:00 Europe/Brussels` after who it is")
		}
	}
	if came == e.Outcome {
		return nil
	}
	wrong := fmt.Sprintf("it is %s, and not %s: %s", outcomes[came], outcomes[e.Outcome], p.because(r, d, came))
	if hint := e.hint(d); hint != "" {
		wrong += "; " + hint
	}
	return e.problem(wrong, "the lines so that they decide it, or what is expected now")
}

func (e *Expectation) problem(wrong, write string) *Problem {
	return &Problem{At: e.At, Line: e.Words, Reason: "expect", Wrong: wrong, Write: write}
}

// Request makes the request that the expectation is about, with what the policy makes of its path.
func (e *Expectation) Request(p *Policy, now time.Time) (Request, error) {
	path, err := p.ParsePath(e.Path)
	if err != nil {
		return Request{}, e.problem("such a path is refused before the rules ("+err.Error()+")", "a path that can be requested, with percent-escapes where a browser writes them")
	}
	r := Request{Method: e.Method, Path: path, Query: e.Query, Now: now, Host: e.Host, Addr: e.Addr}
	if !e.Time.IsZero() {
		r.Now = e.Time
	}
	if e.Who != nil {
		who := *e.Who
		who.AuthTime = r.Now.Add(-e.Age)
		r.Who = &who
	}
	return r, nil
}

// outcome puts a decision into the words of expectations.
func (p *Policy) outcome(r Request) (string, Decision) {
	d := p.Decide(r)
	switch {
	case d.Allowed:
		return "allow", d
	case d.Reason == ReasonNoSession:
		return "login", d
	case d.Reason == ReasonStepUp:
		return "step_up", d
	}
	if _, ok := p.Emergency(r); ok {
		return "emergency", d
	}
	return "deny", d
}

// because says which line decided.
func (p *Policy) because(r Request, d Decision, came string) string {
	if came == "emergency" {
		if e, ok := p.Emergency(r); ok {
			for _, rule := range p.rules {
				if rule.kind == kindGlass && rule.words == e.Rule {
					return "`" + rule.text + "` opens it in an emergency"
				}
			}
		}
	}
	switch {
	case d.Reason == ReasonMethod:
		return "no line knows the method " + r.Method
	case d.Rule == "":
		return "no line allows it"
	case d.Allowed || d.Reason == ReasonDenied && d.Missing == 0:
		return "`" + d.Rule + "` decides"
	case d.Reason == ReasonScope:
		return "`" + d.Rule + "` asks for another scope"
	}
	return "`" + d.Rule + "` is not met"
}

// hint says what the expectation has left out that could have made the difference.
func (e *Expectation) hint(d Decision) string {
	switch {
	case d.Missing&MissingNetwork != 0 && !e.Addr.IsValid():
		return "the address was not said, as with `from 10.1.2.3`"
	case d.Missing&MissingDevice != 0 && e.Who != nil && !e.Who.Device:
		return "the device was not said, as with `device known`"
	case d.Reason == ReasonStepUp && e.Who != nil && e.Who.ACR == "" && len(d.Need.ACR) > 0:
		return "the level was not said, as with `acr " + d.Need.ACR[0] + "`"
	}
	return ""
}

// given are the names that the configuration gives; nil: not known.
type given struct{ roles, groups, sources, claims []string }

// unknown finds a name that nothing gives to anybody: whoever had it would be denied everywhere, and each expectation of a deny would
// hold.
func (p *Policy) unknown(e *Expectation) error {
	if e.Who == nil {
		return nil
	}
	g := &p.given
	for _, c := range []struct {
		kind         string
		names, known []string
	}{
		{"role", e.Who.Roles, g.roles}, {"group", e.Who.Groups, g.groups}, {"identity source", []string{e.Who.Source}, g.sources},
		{"claim", slices.Sorted(maps.Keys(e.Who.Claims)), g.claims},
	} {
		for _, name := range c.names {
			if c.known != nil && name != "" && !slices.Contains(c.known, name) {
				return e.problem(fmt.Sprintf("nothing gives anybody the %s %q", c.kind, name), instead(name, c.known, "one that the configuration has"))
			}
		}
	}
	return nil
}

// hangsOnTime returns the line by whose time of the day another outcome is possible, nil when there is none. It decides again as if
// all such lines opened as much as they can, and as if they closed as much as they can.
func (p *Policy) hangsOnTime(r Request, came string) *rule {
	var rules, timed []*rule
	for _, rule := range p.rules {
		if rule.shadow || !rule.lists(r.Method) || !rule.isNear(&r.Path) {
			continue
		}
		if rules = append(rules, rule); rule.isTimed() {
			timed = append(timed, rule)
		}
	}
	if len(timed) == 0 {
		return nil
	}
	if !p.differs(rules, nil, r, came) {
		return nil
	}
	for _, rule := range timed { // the first that makes a difference alone
		if p.differs(rules, rule, r, came) {
			return rule
		}
	}
	return timed[0]
}

// isTimed reports whether a line depends on the time of the day, or of the year. How long ago a sign-in was does not count: the
// expectation says it.
func (r *rule) isTimed() bool {
	return r.kind != kindBudget && (r.hours != nil || r.when != nil && r.when.UsesTime())
}

// isNear reports whether a line can be about a path, in one of its readings.
func (r *rule) isNear(path *Path) bool {
	near := func(folded string) bool {
		return slices.ContainsFunc(r.patterns, func(pattern string) bool { return meet(pattern, folded) })
	}
	return near(path.folded) || slices.ContainsFunc(path.readings(), func(other Path) bool { return near(other.folded) })
}

// differs reports whether there is another outcome if one line, or with nil all that depend on the time, opened or
// closed whatever the time is.
func (p *Policy) differs(rules []*rule, only *rule, r Request, came string) bool {
	for _, opens := range []bool{true, false} {
		changed := build(&Config{IgnoreCase: p.loose, Exceptions: p.exceptions}, withTime(rules, only, opens), false)
		changed.methods = p.methods
		if other, _ := changed.outcome(r); other != came {
			return true
		}
	}
	return false
}

// withTime returns the lines as if one, or with nil all that depend on the time, opened as much or as little as they can.
func withTime(rules []*rule, only *rule, opens bool) (changed []*rule) {
	for _, r := range rules {
		if !r.isTimed() || only != nil && r != only {
			changed = append(changed, r)
			continue
		}
		c := *r
		if c.hours = nil; r.when != nil && r.when.UsesTime() {
			c.when = nil
		}
		switch lifts := r.kind == kindAllow || r.kind == kindGlass; {
		case r.kind == kindRequire && !opens:
			c.networks = []span{} // nobody is there
		case r.kind == kindRequire || lifts != opens:
			continue
		}
		changed = append(changed, &c)
	}
	return changed
}
