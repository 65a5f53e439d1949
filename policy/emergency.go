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
}

// longestGlassLine is how long such a line may be, in bytes: it stands in the record of each grant, and in a cookie (package emergency).
const longestGlassLine = 1024

// glass reads on PATHS for DURATION.
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
}

// HasEmergency reports whether there are break_glass lines.
func (p *Policy) HasEmergency() bool { return p != nil && len(p.glasses) > 0 }

// Emergency reports whether somebody whom no line allows r could break the glass for it, and for what part of the paths. A path with
// several readings has to be in that part in each of them.
func (p *Policy) Emergency(r Request) (Emergency, bool) {
	if !p.HasEmergency() || r.Who == nil || r.Who.Bearer || r.Path.raw == "" || !p.Knows(r.Method) || p.Decide(r).Allowed {
		return Emergency{}, false
	}
	q := newQuery(&r, &r.Path)
	e := p.allowed(&p.glass, &q)
	if e == nil {
		return Emergency{}, false
	}
	scope, subject, ok := scopeOf(e.route, &r.Path)
	grant := Emergency{Rule: e.words, Route: e.route, Scope: scope, Subject: subject, For: e.lasts}
	if !ok || !p.Break(r, grant) {
		return Emergency{}, false
	}
	return grant, true
}

// Break reports whether a grant that was made earlier, for e.Rule and e.Scope, covers r now: the line is still there and is still for
// this person, the path is the scope or below it, no deny line matches, and what is required is met. Nothing else of e counts.
func (p *Policy) Break(r Request, e Emergency) bool {
	if !p.HasEmergency() || r.Who == nil || r.Who.Bearer || r.Path.raw == "" || !p.Knows(r.Method) {
		return false
	}
	rule := p.glasses[e.Rule]
	if rule == nil || !p.breaks(&r, &r.Path, rule, e.Scope) {
		return false
	}
	others := r.Path.readings()
	for i := range others {
		if !p.breaks(&r, &others[i], rule, e.Scope) {
			return false
		}
	}
	return true
}

// breaks judges one reading of a path.
func (p *Policy) breaks(r *Request, path *Path, rule *rule, scope string) bool {
	q := newQuery(r, path)
	if !isBelow(path.raw, scope) || !rule.lists(r.Method) || p.denied(&q) != nil {
		return false
	}
	if p.unmet(&q, Need{}, false).Reason != "" {
		return false
	}
	for _, pattern := range rule.patterns {
		of, _, ok := scopeOf(pattern, path)
		// A scope is what this pattern would grant for this path, or a part of it: nothing that was given for one pattern holds for
		// more through another one.
		if e := newEntry(rule, pattern); ok && isBelow(scope, of) && p.matches(&q, e) && e.lacks(&q) == 0 {
			return true
		}
	}
	return false
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
