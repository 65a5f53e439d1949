package policy

import (
	"fmt"
	"slices"
	"strings"
)

// everything is the pattern of a line without paths.
const everything = "/**"

// paths reads the patterns, up to a condition or one of the words that end them.
func (p *reader) paths(ends ...string) {
	for len(p.words) > 0 && !p.is(conditionWords...) && !p.is(ends...) {
		pattern := p.next()
		if wrong, write := p.badPattern(pattern); wrong != "" {
			p.wrong("path", fmt.Sprintf("the path %q %s", pattern, wrong), write)
			continue
		}
		if p.rule.who == whoPublic && hasSegment(pattern, "{user}") {
			p.wrong("path", fmt.Sprintf("the path %q has a {user}, but public is nobody in particular", pattern), "`any` for everybody who is signed in")
		} else if p.rule.who == whoPublic && strings.Contains(pattern, "{claim.") {
			p.wrong("path", fmt.Sprintf("the path %q has a {claim.NAME}, but public is nobody in particular", pattern), "`any` for everybody who is signed in")
		}
		if slices.Contains(p.rule.patterns, pattern) {
			p.wrong("duplicate", fmt.Sprintf("it lists the path %q twice", pattern), "it once")
		}
		p.rule.patterns = append(p.rule.patterns, pattern)
	}
	if len(p.rule.patterns) == 0 {
		p.rule.patterns = []string{everything}
	}
}

// hasSegment reports whether one whole segment of a pattern is the text.
func hasSegment(pattern, segment string) bool {
	return slices.Contains(strings.Split(pattern, "/"), segment)
}

// confusing are names of variables that look like one that is bound to who is asking, and would match anybody's.
var confusing = []string{"username", "user_name", "userid", "user_id", "uid", "sub", "subject", "login", "me", "self", "claim", "claims"}

// slashed is what to write for a word in the place of a path that begins with no slash. It is never more than was meant: "/*" for a "*"
// that stands where methods do would open every path of one segment.
func slashed(word string) string {
	if _, rest, isAddress := strings.Cut(word, "://"); isAddress {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return "the path alone, `" + rest[i:] + "`: the site says the host"
		}
		return "`/`: the site says the host"
	}
	switch {
	case word == "*" || word == "**":
		return "nothing there: without methods a line is for all of them, and without paths for all of these"
	case badMethod(word) == "" && slices.Contains(usual, word):
		return "methods before the paths: `" + word + " /path`"
	}
	return "`/" + word + "`"
}

// badPattern says what is wrong with a pattern and what to write instead. A literal that no acceptable path can have is a
// mistake too: the line would never match, and a deny that never matches is an open door.
func (p *reader) badPattern(pattern string) (wrong, write string) {
	if pattern == "" || pattern[0] != '/' {
		return "does not start with a slash", slashed(pattern)
	}
	segments := strings.Split(pattern[1:], "/")
	literal := slices.Clone(segments)
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "*" || segment == "**" && last:
			continue
		case segment == "**":
			return "has something after `**`", "`**` at the end only, and `*` for each segment before it"
		case segment == "" && !last:
			return "has an empty segment", "one slash between two segments"
		case strings.ContainsAny(segment, "{}"):
			if wrong, write := badVariable(segment); wrong != "" {
				return wrong, write
			}
			if variableName(segment) != "" && slices.Contains(segments[:i], segment) {
				return "has " + segment + " twice", "another name for one of the two"
			}
			literal[i] = "x"
		case strings.Contains(segment, "*"):
			return "has a `*` within a segment", "`*` for one whole segment or `**` at the end for any rest"
		case strings.Contains(segment, "%"):
			return "has a percent sign", "the characters themselves, or `*` for that segment"
		}
	}
	if len(variables(pattern)) > maxVariables {
		return fmt.Sprintf("has more than %d variables", maxVariables), "`*` for those that nothing looks at"
	}
	if _, err := parseReadings("/"+strings.Join(literal, "/"), p.config.Exceptions); err != nil {
		return "can match no request (" + err.Error() + ": such requests are refused before the rules)",
			"a path of letters, digits and -_~.!$&'()+,=:@ whose segments do not end in a dot, and `*` for other segments"
	}
	return "", ""
}

// badVariable judges a segment with braces.
func badVariable(segment string) (wrong, write string) {
	const all = "`{user}` for the username, `{claim.NAME}` for a claim of the session, `{patient}` for a token's patient, or `{name}` or `*` for any one segment"
	name := variableName(segment)
	switch {
	case segment == "{user}" || claimName(segment) != "":
		return "", ""
	case slices.Contains(confusing, name):
		return "has a variable that would match anybody's", "`{user}` for the username of whoever is asking, or another name, such as `{id}`, for any one segment"
	case name != "":
		return "", ""
	case segment[0] != '{' || segment[len(segment)-1] != '}' || strings.Count(segment, "{") != 1:
		return "mixes " + variableIn(segment) + " with other characters", "`" + variableIn(segment) + "` as a whole segment"
	}
	return "has a variable that does not exist", all + "; names have small letters, digits and `_`"
}

// variableIn finds what looks like a variable in a segment.
func variableIn(segment string) string {
	_, rest, found := strings.Cut(segment, "{")
	name, _, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return "{user}"
	}
	return "{" + name + "}"
}

// foldPattern writes a pattern as the tree of denies has it.
func foldPattern(pattern string) string {
	if pattern = lower(pattern); pattern != "/" {
		pattern = strings.TrimSuffix(pattern, "/")
	}
	return pattern
}

// isOpen reports whether a segment of a pattern is more than one text.
func isOpen(segment string) bool { return segment == "*" || strings.HasPrefix(segment, "{") }

// contains reports whether a pattern of an allow line holds all that another pattern holds.
func contains(a, b string) bool {
	for a != "" {
		var x, y string
		if x, a = cut(a); x == "**" {
			return true
		}
		if b == "" {
			return false
		}
		if y, b = cut(b); y == "**" {
			return false
		}
		wild := x == "*" || variableName(x) != ""
		if wild && y == "" || !wild && x != y {
			return false
		}
	}
	return b == ""
}

// meet reports whether some path matches both patterns, read as a deny reads it.
func meet(a, b string) bool {
	a, b = foldPattern(a), foldPattern(b)
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
	return a == b || a == everything || b == everything
}
