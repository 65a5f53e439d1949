package gate

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// special is what few policies have. A request pays for none of it where it is not written.
type special struct {
	uses      policy.Uses    // of the rules and of the shadow rules
	shadow    *policy.Policy // nil: none
	emergency bool           // the glass can be broken somewhere
	budgets   bool
}

// specialOf reads it from the policy once.
func specialOf(p *policy.Policy, ledger bool) (s special) {
	if p == nil {
		return s
	}
	s.uses, s.shadow, s.emergency, s.budgets = p.Uses(), p.Shadow(), ledger && p.HasEmergency(), p.HasBudgets()
	if s.shadow != nil {
		also := s.shadow.Uses()
		s.uses.Time = s.uses.Time || also.Time
		s.uses.Addr = s.uses.Addr || also.Addr
	}
	return s
}

// mayThey asks the policy once. Without a session there is one answer for everything that is not public.
func (x *exchange) mayThey() refusal {
	g := x.gate
	d := g.policy.Decide(x.question())
	if g.special.shadow != nil {
		x.compare(&d)
	}
	if !d.Allowed && g.special.emergency {
		d = x.tryGlass(d)
	}
	x.rule, x.route, x.reason, x.public = d.Rule, d.Route, d.Reason, d.Public
	if !d.Allowed {
		return x.refusalOf(&d)
	}
	if g.special.budgets {
		return x.countAll()
	}
	return refusal{}
}

// named is what a request has whose sender is known, in one piece of memory.
type named struct {
	who    policy.Subject
	values [len(identityHeaders)]string // of the headers that tell the app
	glass  *emergency.Active            // the emergency access that lets it through
}

// glass is the emergency access that lets the request through, nil for nearly all.
func (x *exchange) glass() *emergency.Active {
	if x.named == nil {
		return nil
	}
	return x.named.glass
}

// subject is who asks; nil: nobody is known.
func (x *exchange) subject() *policy.Subject {
	g := x.grant()
	if g == nil {
		return nil
	}
	if x.named == nil {
		x.named = &named{who: subjectOf(g)}
		if c := x.caller; c != nil {
			who := &x.named.who
			who.Bearer, who.Scopes, who.Patient = true, c.Scopes, c.Patient
		}
	}
	return &x.named.who
}

// subjectOf is whom a session or a token names.
func subjectOf(g *session.Grant) policy.Subject {
	return policy.Subject{
		Username: g.Username, Roles: g.Roles, ACR: g.ACR, AMR: g.AMR, AuthTime: g.AuthTime,
		Groups: g.Groups, Org: g.Org, Source: g.Source, Device: g.Device, Claims: g.Claims,
	}
}

// question is what the policy is asked. The address is only read where a rule asks for it; one that cannot be read is none, and
// meets no rule.
func (x *exchange) question() policy.Request {
	ask := policy.Request{Method: x.r.Method, Path: x.path, Query: x.r.URL.RawQuery, Body: x.hasBody(), Who: x.subject(), Host: x.site}
	if x.gate.special.uses.Time {
		ask.Now = x.gate.now()
	}
	if x.gate.special.uses.Addr {
		ask.Addr = parseAddr(x.clientAddr())
	}
	return ask
}

// parseAddr reads an address without zone, IPv4 as such; the zero Addr when it is none.
func parseAddr(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// refusalOf is what a decision that denies means here.
func (x *exchange) refusalOf(d *policy.Decision) refusal {
	if x.grant() == nil {
		return refusal{KindNoSession, http.StatusUnauthorized, policy.ReasonNoSession}
	}
	switch d.Reason {
	case policy.ReasonStepUp:
		x.lacks().need = d.Need
		return refusal{KindStepUp, http.StatusUnauthorized, policy.ReasonStepUp}
	case policy.ReasonScope:
		x.lacks().scopes = d.Scopes
	}
	if d.Missing != 0 {
		x.lacks().missing = d.Missing
	}
	return refusal{KindForbidden, http.StatusForbidden, d.Reason}
}

// lacks is for writing down what is missing.
func (x *exchange) lacks() *lack {
	if x.lack == nil {
		x.lack = &lack{}
	}
	return x.lack
}

// compare writes down what the shadow rules would have decided, where that is something else. It decides nothing.
func (x *exchange) compare(d *policy.Decision) {
	would := x.gate.special.shadow.Decide(x.question())
	before, after := outcomeOf(d), outcomeOf(&would)
	if before == after {
		return
	}
	text := "would " + after
	if would.Rule != "" {
		text += ": " + would.Rule
	}
	x.shadow = &text
}

// outcomeOf is a decision in one word.
func outcomeOf(d *policy.Decision) string {
	switch {
	case d.Allowed:
		return "allow"
	case d.Reason == policy.ReasonStepUp:
		return "step_up"
	}
	return "deny"
}

// missingNames are the codes of what is missing in the audit log.
var missingNames = []struct {
	bit  policy.Missing
	name string
}{
	{policy.MissingRole, "role"}, {policy.MissingNetwork, "network"}, {policy.MissingHours, "hours"},
	{policy.MissingLevel, "level"}, {policy.MissingDevice, "device"}, {policy.MissingOther, "other"},
}

func missingText(m policy.Missing) string {
	var names []string
	for _, known := range missingNames {
		if m&known.bit != 0 {
			names = append(names, known.name)
		}
	}
	return strings.Join(names, ",")
}
