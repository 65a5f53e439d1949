package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// longestAge is the greatest max_age.
const longestAge = 30 * 24 * time.Hour

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

// requirement reads what a require line asks for.
func (p *reader) requirement() {
	if p.is(conditionWords...) {
		p.condition(p.next())
		return
	}
	word := p.next()
	wrong := fmt.Sprintf("%q is nothing that a sign-in shows, and no other condition", word)
	if word == "" {
		wrong = "it does not say what"
	}
	p.wrong("require", wrong, "`acr LEVEL`, `amr METHOD`, `max_age 5m`, `network NAME`, `hours mon-fri 07:00-19:00 Europe/Brussels`, `device known` or `when EXPRESSION` after the first word")
}

// age reads a time of whole seconds.
func (p *reader) age(reason, example, word string) time.Duration {
	age, err := time.ParseDuration(word)
	if days, isDays := strings.CutSuffix(word, "d"); isDays {
		var n int
		if n, err = strconv.Atoi(days); err == nil && n <= int(longestAge/(24*time.Hour)) {
			age = time.Duration(n) * 24 * time.Hour
		}
	}
	if err != nil || age < time.Second || age > longestAge || age%time.Second != 0 {
		if strings.HasPrefix(word, "/") {
			p.words = append([]string{word}, p.words...)
		}
		p.wrong(reason, fmt.Sprintf("%q is no time from one second to thirty days", word), "`"+example+"`: whole seconds, with one of the units s, m, h and d")
		return 0
	}
	return age
}

// badLevel says what is wrong with a value of acr or amr, "" when nothing is. Providers get several with blanks between them, and
// applications get them in quotes.
func badLevel(text string) string {
	if fault := badScope(text); fault != "" {
		return strings.Replace(fault, "a scope has", "it may have", 1)
	}
	return ""
}

// scopeTexts returns the scopes of a line as they are written.
func (r *rule) scopeTexts() []string {
	texts := make([]string, 0, len(r.scopes))
	for _, s := range r.scopes {
		texts = append(texts, s.text)
	}
	return texts
}

// What a step-up asks for travels through the sign-in in addresses and cookies. These are the most that it may be, over all lines of
// a policy, so that no request can ask for more.
const (
	maxNeedNames = 16 // in one line
	maxNeedLists = 8  // of methods
	maxNeedText  = 500
)

// asked is what the lines of a policy ask sign-ins for, so far.
type asked struct {
	levels, methods int // characters
	lists           map[string]bool
}

// tooMuch adds a line, or says so when it asks for more than fits beside the others.
func (a *asked) tooMuch(line Line, r *rule) []*Problem {
	names, methods, more := len(r.need.ACR), a.methods, 0
	for _, list := range r.need.AMR {
		names += len(list)
		if text := strings.Join(list, ","); !a.lists[text] {
			methods, more = methods+len(text), more+1
		}
	}
	levels := max(a.levels, len(strings.Join(r.need.ACR, " ")))
	if names <= maxNeedNames && len(a.lists)+more <= maxNeedLists && levels+methods <= maxNeedText {
		a.levels, a.methods = levels, methods
		for _, list := range r.need.AMR {
			a.lists[strings.Join(list, ",")] = true
		}
		return nil
	}
	return []*Problem{{At: line.At, Line: strings.Join(line.Words, " "), Reason: "require", Wrong: "this is more than a sign-in can be asked for",
		Write: fmt.Sprintf("at most %d names in a line, %d different lists for amr, and %d characters in all", maxNeedNames, maxNeedLists, maxNeedText)}}
}

// unmeetable finds the lines that ask for levels of which none is the line's, where both hold.
func unmeetable(line Line, r *rule, others []*rule) (found []*Problem) {
	for _, other := range others {
		if len(r.need.ACR) > 0 && len(other.need.ACR) > 0 && !slices.ContainsFunc(r.need.ACR, func(level string) bool { return slices.Contains(other.need.ACR, level) }) && r.overlaps(other) {
			found = append(found, &Problem{At: line.At, Line: strings.Join(line.Words, " "), Reason: "require",
				Wrong: "no sign-in meets this and `" + other.text + "` at once", Write: "the levels that are enough for both into each of them, or paths that do not overlap"})
		}
	}
	return found
}

// overlaps reports whether some request concerns both lines, whose paths are compared as denies are.
func (r *rule) overlaps(other *rule) bool {
	methods := len(r.methods) == 0 || len(other.methods) == 0 || slices.ContainsFunc(r.methods, other.lists) || slices.ContainsFunc(other.methods, r.lists)
	return methods && slices.ContainsFunc(r.patterns, func(a string) bool {
		return slices.ContainsFunc(other.patterns, func(b string) bool { return patternsOverlap(foldPattern(a), foldPattern(b)) })
	})
}

// foldPattern writes a pattern as the tree of denies has it.
func foldPattern(pattern string) string {
	if pattern = lower(pattern); pattern != "/" {
		pattern = strings.TrimSuffix(pattern, "/")
	}
	return pattern
}

func patternsOverlap(a, b string) bool {
	for a != "" && b != "" {
		var x, y string
		x, a = cut(a)
		y, b = cut(b)
		wild := isOpen(x) || isOpen(y)
		switch {
		case x == "**" || y == "**":
			return true
		case x != y && !(wild && x != "" && y != ""):
			return false
		}
	}
	return a == b || a == "/**" || b == "/**"
}

// isOpen reports whether a segment of a pattern is more than one text.
func isOpen(segment string) bool { return segment == "*" || strings.HasPrefix(segment, "{") }
