package policy

import (
	"fmt"
	"slices"
	"strings"
)

// maxScope is the greatest length of a scope in a line.
const maxScope = 255

// Letters of a SMART scope, in the only order that they may be written in (SMART App Launch 2.2 section 3.0.2).
const (
	mayCreate = 1 << iota
	mayRead
	mayUpdate
	mayDelete
	maySearch

	letters = "cruds"
)

// scope is one that a line asks for.
type scope struct {
	text    string
	context string // "patient", "user" or "system"; "" for a scope that is not of SMART, and is compared as it is
	kind    string // resource type, or "*"
	may     uint8
}

// scopes reads the list after scope.
func (p *reader) scopes() {
	if p.rule.kind == kindDeny {
		p.wrong("scope", "an application asks for the scopes that it wants, so that a deny for one denies nothing", "`allow` lines for what it may, or `deny any`, which holds for tokens too")
	}
	for _, text := range p.list("scope", "scope", badScope) {
		if badScope(text) != "" {
			continue // list has said so
		}
		s, fault := readScope(text)
		if fault != "" {
			p.wrong("scope", fmt.Sprintf("%q is no scope of SMART: %s", text, fault), "one such as `patient/Observation.rs` or `user/*.cruds`")
		}
		p.rule.scopes = append(p.rule.scopes, s)
	}
	if len(p.words) == 0 {
		return
	}
	if word := p.words[0]; strings.HasPrefix(word, "patient/") || strings.HasPrefix(word, "user/") || strings.HasPrefix(word, "system/") {
		p.wrong("blank", "the list of scopes has blanks in it", "several as `scope a,b`")
		p.next()
	}
}

// checkScopes looks at a line for scopes when all of it is known.
func (p *reader) checkScopes() {
	if len(p.problems) > 0 {
		return
	}
	r := &p.rule
	for _, s := range r.scopes {
		switch {
		case s.context == "":
		case len(r.methods) == 0:
			p.wrong("method", fmt.Sprintf("%q says what may be done, and the line opens all methods", s.text), "the methods after it, such as `GET` for r and s, `POST` for c")
			return
		case s.context == "patient" && !r.lists("HEAD") && !slices.ContainsFunc(r.patterns, func(pattern string) bool { return hasSegment(pattern, "{patient}") }):
			p.wrong("path", fmt.Sprintf("%q is about one patient, and these methods say in the body which one, where it cannot be seen", s.text),
				"paths with a `{patient}`, such as `/Patient/{patient}/**`, or a scope that begins with `user/` or `system/`")
			return
		case s.context == "patient" && s.kind != "*" && searched[s.kind] == 0 && !slices.ContainsFunc(r.patterns, func(pattern string) bool { return hasSegment(pattern, "{patient}") }):
			p.wrong("path", fmt.Sprintf("%q is about one patient, and no search for %s names one", s.text, s.kind),
				"paths with a `{patient}`, such as `/Patient/{patient}/**`, or a scope that begins with `user/` or `system/`")
			return
		}
	}
}

// readScope reads one scope of a line or of a token. What begins like one of SMART and is none has no meaning: wrong says why.
// A constraint ("?category=…") narrows what it grants, and nobody here can hold a server to it, so that it grants nothing.
func readScope(text string) (s scope, wrong string) {
	s.text = text
	if fault := badScope(text); fault != "" {
		return s, fault
	}
	context, rest, ok := strings.Cut(text, "/")
	if !ok || context != "patient" && context != "user" && context != "system" {
		return s, ""
	}
	kind, may, _ := strings.Cut(rest, ".")
	switch {
	case strings.IndexByte(rest, '?') >= 0:
		return s, "a constraint after `?` is for the server of the resources, and not looked at here"
	case kind != "*" && !isResource(kind):
		return s, "after `" + context + "/` comes a resource type such as Observation, or `*`"
	}
	s.context, s.kind, s.may = context, kind, readLetters(may)
	if s.may == 0 {
		return s, "after the dot come some of the letters cruds, in this order"
	}
	return s, ""
}

// readLetters returns what the part after the dot allows, 0 for none. The words are those of version 1.
func readLetters(text string) (may uint8) {
	switch text {
	case "read":
		return mayRead | maySearch
	case "write":
		return mayCreate | mayUpdate | mayDelete
	case "*":
		return mayCreate | mayRead | mayUpdate | mayDelete | maySearch
	}
	rest := letters
	for i := range len(text) {
		at := strings.IndexByte(rest, text[i])
		if at < 0 {
			return 0
		}
		rest = rest[at+1:]
		may |= 1 << strings.IndexByte(letters, text[i])
	}
	return may
}

// isResource reports whether a name is written as all resource types of FHIR are: Patient, CarePlan.
func isResource(name string) bool {
	if len(name) < 2 || name[0] < 'A' || name[0] > 'Z' || name[1] < 'a' || name[1] > 'z' {
		return false
	}
	for i := range len(name) {
		if c := name[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return true
}

// badScope says what is wrong with a scope-token (RFC 6749 section 3.3), "" when nothing is.
func badScope(text string) string {
	switch {
	case text == "":
		return "it is empty"
	case len(text) > maxScope:
		return fmt.Sprintf("it is longer than %d characters", maxScope)
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return "a scope has printable ASCII only, without quotes and backslashes"
		}
	}
	return ""
}

// grantedBy reports whether the scopes of a token hold s: the same text, or for one of SMART together all its letters for its
// type or for all types.
func (s *scope) grantedBy(scopes []string) bool {
	if s.context == "" {
		return slices.Contains(scopes, s.text)
	}
	missing := s.may
	for _, text := range scopes {
		if len(text) <= len(s.context) || text[len(s.context)] != '/' || text[:len(s.context)] != s.context {
			continue
		}
		if kind := text[len(s.context)+1:]; !strings.HasPrefix(kind, s.kind) && !strings.HasPrefix(kind, "*") {
			continue // most of them, before they are read
		}
		if g, wrong := readScope(text); wrong == "" && (g.kind == "*" || g.kind == s.kind) {
			missing &^= g.may
		}
		if missing == 0 {
			return true
		}
	}
	return false
}

// scopeTexts returns the scopes of a line as they are written.
func (r *rule) scopeTexts() []string {
	texts := make([]string, 0, len(r.scopes))
	for _, s := range r.scopes {
		texts = append(texts, s.text)
	}
	return texts
}

// scoped is an allow line for scopes, at the end of one of its patterns.
type scoped struct{ *entry }

// find returns the line's entry when the token opens it. With wanting it returns it when the token does not, and one with
// other scopes would.
func (l *scoped) find(q *query) *entry {
	if !l.lists(q.method) || !l.isFor(q.who, false) {
		return nil
	}
	for i := range l.scopes {
		s := &l.scopes[i]
		if q.wanting {
			if !s.grantedBy(q.who.Scopes) && (s.context == "patient" && q.who.Patient == "" || l.isAbout(q, s)) {
				return l.entry
			}
		} else if s.grantedBy(q.who.Scopes) && l.isAbout(q, s) {
			if l.holds(q) {
				return l.entry
			}
			return nil
		}
	}
	return nil
}

// isAbout reports whether the request concerns the token's patient only, where the scope is a patient's, and the scope's type only,
// where it has one and the token may not read all of them.
func (l *scoped) isAbout(q *query, s *scope) bool {
	switch {
	case s.context == "":
		return true
	case s.context == "patient":
		return q.isAboutPatient(l.bound, s.kind)
	case s.kind == "*" || !includes(q.request.Query):
		return true
	}
	all := scope{context: s.context, kind: "*", may: mayRead}
	return all.grantedBy(q.who.Scopes)
}
