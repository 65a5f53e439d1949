package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A break_glass line takes the place of an allow line that is missing, for one part of the paths and for a while. It lifts no
// deny line and no require line.

// longestGlass is the greatest time that a break_glass line may open something for, as a grant lasts no longer (emergency.MaxLife).
const longestGlass = 4 * time.Hour

// Emergency is what a break_glass line opens for one request.
type Emergency struct {
	Rule    string // the line's words, without its place: it is the same line after a reload
	Route   string // the pattern that matched
	Scope   string // the path that the grant holds for, and all below it: raw bytes, whole segments, "/patients/7"
	Subject string // the decoded last segment of Scope, whom or what it is about
	For     time.Duration
	// Need is what a new sign-in has to show before; nil: nothing. Fresh is how old the sign-in may be as long as the provider answers, 0
	// for however old; without a provider the access begins all the same, and is marked. Drill says that it may be for practice.
	Need  *Need
	Fresh time.Duration
	Drill bool
}

// shortestFresh is the least time for a form that has to be filled in.
const shortestFresh = time.Minute

// longestGlassLine is how long such a line may be, in bytes: it stands in the record of each grant, and in a cookie (package emergency).
const longestGlassLine = 1024

// glass reads on PATHS for DURATION [fresh DURATION] [drill].
func (p *reader) glass() {
	if !p.is("on") {
		p.wrong("break_glass", "it does not say on which paths", "`on /patients/{patient}/**` after WHO and methods")
	} else {
		p.next()
	}
	p.paths("for")
	for _, pattern := range p.rule.patterns {
		if pattern == everything || !slices.ContainsFunc(strings.Split(pattern, "/"), leavesOpen) {
			wrong := "it opens all of the app at once"
			if pattern != everything {
				wrong = fmt.Sprintf("the path %q leaves no patient open", pattern)
			}
			p.wrong("break_glass", wrong, "`on` and the paths of what is opened, such as `/patients/{patient}/**`: one grant is for one patient")
			break
		}
	}
	if !p.is("for") {
		p.wrong("break_glass", "it does not say for how long", "`for 30m` after the paths")
		return
	}
	p.next()
	p.rule.lasts = p.age("break_glass", "for 30m", p.next())
	if p.rule.lasts > longestGlass {
		p.wrong("break_glass", "it opens for more than four hours", "`for 30m`; whoever still needs it breaks the glass again")
	}
	p.glassOptions()
}

// glassOptions reads what may stand between the time and the conditions, in any order.
func (p *reader) glassOptions() {
	for p.is("fresh", "drill") {
		word := p.next()
		if word == "drill" && p.rule.drill || word == "fresh" && p.rule.fresh != 0 {
			p.again(word, word, "it once")
		}
		if word == "drill" {
			p.rule.drill = true
			continue
		}
		if p.rule.fresh = p.age("break_glass", "fresh 5m", p.next()); p.rule.fresh != 0 && p.rule.fresh < shortestFresh {
			p.wrong("break_glass", "nobody fills in the form that soon after signing in", "`fresh 5m`: a minute at least")
		}
	}
}

// glassConditions refuses a line whose condition takes away what its option promises. It is called when both were read.
func (p *reader) glassConditions() {
	if p.rule.fresh != 0 && p.rule.need.MaxAge != 0 {
		p.wrong("break_glass", "fresh and max_age ask for the same", "`fresh 5m`, which lets somebody in while the identity provider is down, or `max_age 5m`, which does not")
	}
}

// HasEmergency reports whether there are break_glass lines.
func (p *Policy) HasEmergency() bool { return p != nil && len(p.glasses) > 0 }

// Emergency reports whether somebody whom no line allows r could break the glass for it, for what part of the paths, and what a new
// sign-in has to show before. A path with several readings has to be in that part in each of them.
func (p *Policy) Emergency(r Request) (Emergency, bool) {
	if !p.HasEmergency() || r.Who == nil || r.Who.Bearer || r.Path.raw == "" || !p.Knows(r.Method) {
		return Emergency{}, false
	}
	d := p.Decide(r)
	if d.Allowed {
		return Emergency{}, false
	}
	q := newQuery(&r, &r.Path)
	if e := p.allowed(&p.glass, &q); e != nil {
		grant, ok := p.offered(&r, e)
		return grant, ok && (grant.Need == nil || d.Reason != ReasonStepUp) // else the new sign-in opens the page itself
	}
	if d.Reason == ReasonStepUp {
		return Emergency{}, false
	}
	var n near
	q.near = &n
	p.allowed(&p.glass, &q)
	for _, e := range n.levels {
		if grant, ok := p.offered(&r, e); ok {
			return grant, true
		}
	}
	return Emergency{}, false
}

// offered is what one line opens.
func (p *Policy) offered(r *Request, e *entry) (Emergency, bool) {
	scope, subject, ok := scopeOf(e.route, &r.Path)
	if !ok {
		return Emergency{}, false
	}
	var need Need
	readings := append([]Path{r.Path}, r.Path.readings()...)
	for i := range readings {
		lacks, ok := p.breaks(r, &readings[i], e.rule, scope)
		if !ok {
			return Emergency{}, false
		}
		need.add(&lacks)
	}
	grant := Emergency{Rule: e.words, Route: e.route, Scope: scope, Subject: subject, For: e.lasts, Fresh: e.fresh, Drill: e.drill}
	if need.ACR != nil && len(need.ACR) == 0 { // no level is enough for all
		return Emergency{}, false
	}
	if !need.isZero() {
		grant.Need = &need
	}
	return grant, true
}

// Break reports whether a grant that was made earlier, for e.Rule and e.Scope, covers r now: the line is still there and is still for
// this person, the path is the scope or below it, no deny line matches, and what is required is met. Nothing else of e counts. The age
// of the sign-in counts when the glass is broken and not later: an access of half an hour would end with a max_age of five minutes.
func (p *Policy) Break(r Request, e Emergency) bool {
	if !p.HasEmergency() || r.Who == nil || r.Who.Bearer || r.Path.raw == "" || !p.Knows(r.Method) {
		return false
	}
	rule := p.glasses[e.Rule]
	if rule == nil || !p.holds(&r, &r.Path, rule, e.Scope) {
		return false
	}
	others := r.Path.readings()
	for i := range others {
		if !p.holds(&r, &others[i], rule, e.Scope) {
			return false
		}
	}
	return true
}

// holds judges one reading of a path for a grant that runs.
func (p *Policy) holds(r *Request, path *Path, rule *rule, scope string) bool {
	need, ok := p.breaks(r, path, rule, scope)
	if !ok || need.isZero() {
		return ok
	}
	q := newQuery(r, path)
	young := Need{ACR: rule.need.ACR, AMR: rule.need.AMR}
	return p.unmet(&q, Need{}, false).Reason == "" && young.isMet(r.Who, r.Now)
}

// breaks judges one reading of a path, and says what of it only a new sign-in can show.
func (p *Policy) breaks(r *Request, path *Path, rule *rule, scope string) (need Need, ok bool) {
	q := newQuery(r, path)
	if !isBelow(path.raw, scope) || !rule.lists(r.Method) || p.denied(&q) != nil {
		return Need{}, false
	}
	for _, pattern := range rule.patterns {
		of, _, ok := scopeOf(pattern, path)
		// A scope is what this pattern would grant for this path, or a part of it: nothing that was given for one pattern holds for
		// more through another one.
		e := newEntry(rule, pattern)
		if !ok || !isBelow(scope, of) || !p.matches(&q, e) {
			continue
		}
		lacks := e.lacks(&q)
		if lacks&^MissingLevel != 0 {
			continue
		}
		switch d := p.unmet(&q, e.need, lacks != 0); d.Reason {
		case "":
			return Need{}, true
		case ReasonStepUp:
			return d.Need, true
		}
		return Need{}, false
	}
	return Need{}, false
}

// isBelow reports whether a path is another one or below it, by whole segments and exact bytes.
func isBelow(path, scope string) bool {
	return len(scope) > 1 && strings.HasPrefix(path, scope) && (len(path) == len(scope) || path[len(scope)] == '/')
}

// leavesOpen reports whether a segment of a pattern can be more than one person's or thing's.
func leavesOpen(segment string) bool {
	return segment == "*" || segment == "**" || variableName(segment) != ""
}

// scopeOf returns the part of a path up to whom or what the pattern is about: its {patient}, else its first variable, else its first
// "*" or the first segment under "**". Not ok is a path that names nothing there, such as the list of all.
func scopeOf(pattern string, path *Path) (scope, subject string, ok bool) {
	raw, decoded, at := path.raw, path.decoded, 0
	for left := subjectAt(pattern); raw != ""; left-- {
		part, rest := cut(raw)
		name, more := cut(decoded)
		at += 1 + len(part)
		if left == 0 {
			return path.raw[:at], segmentText(name), name != ""
		}
		raw, decoded = rest, more
	}
	return "", "", false
}

// subjectAt says which segment of a pattern a grant is for, -1 for none. "*" in front of a variable is not it: a grant for
// /wards/*/{patient} is for one patient and not for a ward.
func subjectAt(pattern string) int {
	found, named := -1, false
	for n := 0; pattern != ""; n++ {
		var segment string
		segment, pattern = cut(pattern)
		switch {
		case segment == "{patient}":
			return n
		case variableName(segment) != "" && !named:
			found, named = n, true
		case found < 0 && leavesOpen(segment):
			found = n
		}
	}
	return found
}
