package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// somebody is the username of an asker who has none: it is nobody's, since a username has no blanks around it.
const somebody = " somebody "

// askWords begin what comes with a request; claim.NAME does, too.
var askWords = []string{"from", "at", "acr", "amr", "age", "role", "user", "group", "org", "idp", "device", "scope", "patient", "host"}

// sayInstead are words of rules that somebody writes for what a request has.
var sayInstead = map[string]string{"network": "from 10.1.2.3", "hours": "at 2026-11-23T08:00 Europe/Brussels", "max_age": "age 10m", "when": "host NAME"}

// ParseAsker reads WHO [WITH]: who makes a request, and from where, when and with what. Expectations begin with it, and tools that
// ask a policy one question read it from their flags, so that both take the same words and say the same of wrong ones.
//
//   - WHO is anonymous, any (signed in, without a role), ROLE[,ROLE][:USER], user:USER, or the words of a rule: role a[,b], user a,
//     group a[,b], org a, idp a, scope a[,b], device known. Those can also come later.
//   - WITH is any number of: from ADDRESS, at 2026-11-23T08:00 ZONE, acr LEVEL, amr METHOD[,METHOD], age 10m (of the sign-in; left out:
//     just now), the words of a rule, claim.NAME VALUE, patient ID (with scope: a token, and no session), host NAME. Each is there once.
//
// What it returns has no method, path and outcome. The error is a *Problem.
func ParseAsker(line Line) (*Expectation, error) {
	p := newExpectReader(line)
	p.who()
	for len(p.problems) == 0 && p.with() {
	}
	if len(p.problems) == 0 && len(p.words) > 0 {
		p.wrong("expect", fmt.Sprintf("%q is nothing that comes with a request", p.words[0]), "`"+strings.Join(askWords, "`, `")+"` or `claim.NAME`, each with its value")
	}
	if len(p.problems) > 0 {
		return nil, p.problems[0]
	}
	return p.e, nil
}

// Person returns who it is at a moment, nil for nobody. A username that was not said is empty.
func (e *Expectation) Person(now time.Time) *Subject {
	if e.Who == nil {
		return nil
	}
	who := *e.Who
	if who.AuthTime = now.Add(-e.Age); who.Username == somebody {
		who.Username = ""
	}
	return &who
}

func newExpectReader(line Line) *expectReader {
	return &expectReader{reader: reader{config: &Config{}, line: line, words: line.Words}, e: &Expectation{At: line.At, Words: strings.Join(line.Words, " ")}}
}

// isAsk reports whether a word begins something that comes with a request.
func isAsk(word string) bool {
	return slices.Contains(askWords, word) || strings.HasPrefix(word, "claim.")
}

func (p *expectReader) who() {
	word := p.next()
	if isAsk(word) && len(p.words) > 0 && (!isAsk(p.words[0]) || word == "role") && badMethod(p.words[0]) != "" {
		p.words = append([]string{word}, p.words...) // a rule's words. `patient GET /x` is about a role of that name
		p.e.Who = &Subject{Username: somebody}
		if word == "from" || word == "at" || word == "host" {
			p.wrong("expect", "it does not say who", "`anonymous`, `any`, `doctor`, `doctor,admin`, `patient:ann` or `user:ann` first")
		}
		return
	}
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
	if p.continues(names) {
		p.wrong("blank", "the list of names has blanks in it", "`doctor,admin`")
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
	if len(p.words) == 0 || !isAsk(p.words[0]) {
		return false
	}
	word := p.next()
	if slices.Contains(p.seen, word) {
		p.wrong("expect", fmt.Sprintf("it says `%s` twice", word), "it once, several names as `a,b`")
		return false
	}
	if p.seen = append(p.seen, word); len(p.words) == 0 || p.words[0] == "" {
		p.wrong("expect", fmt.Sprintf("there is nothing after `%s`", word), expectForm)
		return false
	}
	if p.e.Who == nil && word != "from" && word != "at" && word != "host" {
		p.wrong("expect", fmt.Sprintf("nobody is signed in who has `%s %s`", word, p.next()), "`any`, a role or `user:NAME` for `anonymous`")
		return false
	}
	switch word {
	case "from":
		value := p.next()
		addr, err := netip.ParseAddr(value)
		if err != nil || addr.Zone() != "" {
			p.wrong("expect", fmt.Sprintf("%q is no address", value), "one such as `from 10.1.2.3`")
		}
		p.e.Addr = addr.Unmap()
	case "at":
		p.at(p.next())
	case "age":
		p.e.Age = p.age("expect", "age 10m", p.next())
	case "host":
		p.e.Host = p.next()
	default:
		p.has(word, p.e.Who)
	}
	return true
}

// has reads what somebody has who is signed in.
func (p *expectReader) has(word string, who *Subject) {
	switch word {
	case "role":
		if len(who.Roles) > 0 {
			p.wrong("expect", "it names roles twice", "all of them as `role a,b`")
		}
		who.Roles = p.list("role", "expect", badRole)
	case "user":
		names := p.list("user", "expect", badUser)
		if len(names) != 1 || who.Username != somebody {
			p.wrong("expect", "one person makes a request", "one name, as in `user ann` or `doctor:ann`")
			return
		}
		who.Username = names[0]
	case "group":
		who.Groups = p.list("group", "expect", badRole)
	case "org":
		who.Org = p.next()
	case "idp":
		who.Source = p.next()
	case "acr":
		who.ACR = p.next()
	case "amr":
		who.AMR = p.list("amr", "expect", badLevel)
	case "scope":
		who.Bearer, who.Scopes = true, p.list("scope", "expect", badScope)
	case "patient":
		who.Bearer, who.Patient = true, p.next()
	case "device":
		if value := p.next(); value != "known" {
			p.wrong("expect", fmt.Sprintf("%q is nothing that a device is", value), "`device known`, or the line without it")
		}
		who.Device = true
	default:
		p.claim(strings.TrimPrefix(word, "claim."), p.next())
	}
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

// at reads a moment on the clock of a zone: in two words, in three, in one between quotes, or as RFC 3339 has it, where the zone is in it.
func (p *expectReader) at(text string) {
	const write = "`at 2026-11-23T08:00 Europe/Brussels`"
	if now, err := time.Parse(time.RFC3339, text); err == nil {
		p.e.Time = now
		return
	}
	words := strings.Fields(text)
	if len(words) == 1 && len(p.words) > 0 && isClock(p.words[0]) {
		words = append(words, p.next())
	}
	zone := ""
	if n := len(words) - 1; n > 0 && !isClock(words[n]) {
		words, zone = words[:n], words[n]
	} else {
		zone = p.next()
	}
	location, fault := readZone(zone)
	if fault != "" {
		p.wrong("expect", fault, write)
		return
	}
	text = strings.Join(words, "T")
	layout := "2006-01-02T15:04"
	if strings.Count(text, ":") == 2 {
		layout += ":05"
	}
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

// isClock reports whether a word is 08:00 or 08:00:30, and no date.
func isClock(word string) bool { return len(word) > 2 && word[2] == ':' }
