package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// somebody is the username of an expectation that names none: it is nobody's, since a username has no blanks around it.
const somebody = " somebody "

// Expectation is one line that says what a policy must decide: expect WHO [WITH] METHOD PATH OUTCOME.
//
//   - WHO is anonymous, any (signed in, without a role), ROLE[,ROLE][:USER] or user:USER.
//   - WITH is any number of: from ADDRESS, at 2026-11-23T08:00 ZONE, acr LEVEL, amr METHOD[,METHOD], age 10m (of the sign-in; left out:
//     just now), org NAME, idp NAME, group NAME[,NAME], device known, claim.NAME VALUE, scope SCOPE[,SCOPE] and patient ID (a token,
//     and no session), host NAME.
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
	e *Expectation
}

const expectForm = "`expect doctor GET /patients/7 allow`: who, what comes with it, a method, a path and allow, deny, login, step_up or emergency"

// ParseExpectation reads one line whose first word is expect. The error is a *Problem, the first of all.
func ParseExpectation(line Line) (*Expectation, error) {
	p := &expectReader{reader: reader{config: &Config{}, line: line, words: line.Words}, e: &Expectation{At: line.At, Words: strings.Join(line.Words, " ")}}
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

func (p *expectReader) who() {
	word := p.next()
	names, user, hasUser := strings.Cut(word, ":")
	switch {
	case word == "anonymous":
		return
	case mistaken[word] == "public" || word == "public":
		p.wrong("expect", fmt.Sprintf("%q is nobody in particular", word), "`anonymous` for who is not signed in")
		return
	}
	p.e.Who = &Subject{Username: somebody}
	if hasUser {
		if fault := badUser(user); fault != "" {
			p.wrong("expect", fmt.Sprintf("%q cannot be a user: %s", user, fault), "`patient:ann` or `user:ann`")
		}
		p.e.Who.Username = user
	}
	if word == "any" || hasUser && names == "user" {
		return
	}
	for role := range strings.SplitSeq(names, ",") {
		if fault := badRole(role); fault != "" {
			p.wrong("expect", fmt.Sprintf("%q cannot be a role: %s", role, fault), "`anonymous`, `any`, `doctor`, `doctor,admin`, `patient:ann` or `user:ann` after `expect`")
			return
		}
		p.e.Who.Roles = append(p.e.Who.Roles, role)
	}
}

// with reads one thing that comes with WHO, and returns false when there is none left.
func (p *expectReader) with() bool {
	if len(p.words) == 0 {
		return false
	}
	word := p.words[0]
	claim, isClaim := strings.CutPrefix(word, "claim.")
	if !isClaim && !slices.Contains([]string{"from", "at", "acr", "amr", "age", "org", "idp", "group", "device", "scope", "patient", "host"}, word) {
		return false
	}
	p.next()
	value := p.next()
	if value == "" {
		p.wrong("expect", fmt.Sprintf("there is nothing after `%s`", word), expectForm)
		return false
	}
	who := p.e.Who
	if who == nil && word != "from" && word != "at" && word != "host" {
		p.wrong("expect", fmt.Sprintf("nobody is signed in who has `%s %s`", word, value), "`any`, a role or `user:NAME` for `anonymous`")
		return false
	}
	switch word {
	case "from":
		addr, err := netip.ParseAddr(value)
		if err != nil {
			p.wrong("expect", fmt.Sprintf("%q is no address", value), "one such as `from 10.1.2.3`")
		}
		p.e.Addr = addr.Unmap()
	case "at":
		p.at(value, p.next())
	case "age":
		p.e.Age = p.age("expect", "age 10m", value)
	case "device":
		if value != "known" {
			p.wrong("expect", fmt.Sprintf("%q is nothing that a device is", value), "`device known`, or the line without it")
		}
		who.Device = true
	case "acr":
		who.ACR = value
	case "amr":
		who.AMR = strings.Split(value, ",")
	case "org":
		who.Org = value
	case "idp":
		who.Source = value
	case "group":
		who.Groups = strings.Split(value, ",")
	case "scope":
		who.Bearer, who.Scopes = true, strings.Split(value, ",")
	case "patient":
		who.Bearer, who.Patient = true, value
	case "host":
		p.e.Host = value
	default:
		p.claim(claim, value)
	}
	return true
}

func (p *expectReader) claim(name, value string) {
	if !isVariable(name) {
		p.wrong("expect", fmt.Sprintf("%q cannot be a claim", name), "`claim.NAME VALUE`, with small letters, digits and `_` in the name")
		return
	}
	if p.e.Who.Claims == nil {
		p.e.Who.Claims = map[string]string{}
	}
	p.e.Who.Claims[name] = value
}

// at reads a moment on the clock of a zone.
func (p *expectReader) at(text, zone string) {
	const write = "`at 2026-11-23T08:00 Europe/Brussels`"
	location, fault := readZone(zone)
	if fault != "" {
		p.wrong("expect", fault, write)
		return
	}
	const layout = "2006-01-02T15:04"
	text = strings.Replace(text, " ", "T", 1)
	now, err := time.ParseInLocation(layout, text, location)
	if err != nil {
		p.wrong("expect", fmt.Sprintf("%q is no date and time", text), write)
		return
	}
	if now.Format(layout) != text {
		p.wrong("expect", fmt.Sprintf("no clock in %s shows %s: it is put forward then", zone, text), "another time")
		return
	}
	p.e.Time = now
}

// rest reads METHOD PATH OUTCOME.
func (p *expectReader) rest() {
	e := p.e
	method := p.next()
	if fault := badMethod(method); fault != "" {
		p.wrong("expect", fmt.Sprintf("%q is neither a method nor something that comes with a request", method), expectForm)
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
