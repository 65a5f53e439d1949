package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Expectation is one line that says what a policy must decide: expect WHO [WITH] METHOD PATH OUTCOME.
//
//   - WHO and WITH are those of ParseAsker.
//   - PATH can have a query.
//   - OUTCOME is allow, deny, login (without a session), step_up, or emergency: denied, and the glass may be broken. What is not
//     said is not there: nobody's address, no level, a browser that is not known.
type Expectation struct {
	At          string // where it was written
	Words       string // as it was written
	Method      string
	Path, Query string
	Outcome     string
	Host        string
	Addr        netip.Addr
	Time        time.Time     // zero: not said
	Age         time.Duration // of the sign-in
	Who         *Subject      // nil: anonymous. Its AuthTime is not set
}

// outcomes of a request, and how a message says them.
var outcomes = map[string]string{
	"allow": "allowed", "deny": "denied", "login": "asked to sign in", "step_up": "asked for another sign-in", "emergency": "denied except for emergency access",
}

// expectReader goes through the words of one expectation.
type expectReader struct {
	reader
	e    *Expectation
	seen []string // the words of what came with it
}

const expectForm = "`expect doctor GET /patients/7 allow`: who, what comes with it, a method, a path and allow, deny, login, step_up or emergency"

// ParseExpectation reads one line whose first word is expect. The error is a *Problem, the first of all.
func ParseExpectation(line Line) (*Expectation, error) {
	p := newExpectReader(line)
	if p.next() != "expect" {
		p.wrong("expect", "it is no expectation", expectForm)
	}
	p.who()
	for len(p.problems) == 0 && p.with() {
	}
	if len(p.problems) == 0 {
		p.rest()
	}
	if len(p.problems) > 0 {
		return nil, p.problems[0]
	}
	return p.e, nil
}

// rest reads METHOD PATH OUTCOME.
func (p *expectReader) rest() {
	e := p.e
	method := p.next()
	if fault := badMethod(method); fault != "" {
		write := expectForm
		if capitals := strings.ToUpper(method); badMethod(capitals) == "" && slices.Contains(usual, capitals) {
			write = "`" + capitals + "`"
		} else if said := sayInstead[method]; said != "" {
			write = "`" + said + "`: what is so for this request, and not what a line asks for"
		}
		p.wrong("expect", fmt.Sprintf("%q is neither a method nor something that comes with a request", method), write)
		return
	}
	target := p.next()
	if !strings.HasPrefix(target, "/") {
		p.wrong("expect", fmt.Sprintf("%q is no path", target), expectForm)
		return
	}
	e.Method = method
	e.Path, e.Query, _ = strings.Cut(target, "?")
	switch e.Outcome = p.next(); {
	case e.Outcome == "":
		p.wrong("expect", "it does not say what is expected", "`allow`, `deny`, `login`, `step_up` or `emergency` at the end")
	case outcomes[e.Outcome] == "":
		p.wrong("expect", fmt.Sprintf("%q is no outcome", e.Outcome), "`"+strings.Join(slices.Sorted(maps.Keys(outcomes)), "`, `")+"` at the end")
	case len(p.words) > 0:
		p.wrong("expect", fmt.Sprintf("%q has no place after the outcome", strings.Join(p.words, " ")), expectForm)
	case e.Who == nil && (e.Outcome == "step_up" || e.Outcome == "emergency"):
		p.wrong("expect", "who is anonymous has no sign-in, and is "+outcomes["login"], "`login` or `deny`, or a role for `anonymous`")
	}
}
