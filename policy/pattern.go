package policy

import (
	"fmt"
	"slices"
	"strings"
)

// everything is the pattern of a line without paths.
const everything = "/**"

// paths reads the rest of the line.
func (p *reader) paths() {
	for len(p.words) > 0 {
		pattern := p.next()
		if wrong, write := badPattern(pattern); wrong != "" {
			p.wrong("path", fmt.Sprintf("the path %q %s", pattern, wrong), write)
			continue
		}
		if p.rule.who != whoScope && hasSegment(pattern, "{patient}") {
			p.wrong("path", fmt.Sprintf("the path %q has a {patient}, which only an access token names", pattern), "`allow scope NAME` before it, or `*` for any one segment")
		}
		if p.rule.who == whoPublic && hasSegment(pattern, "{user}") {
			p.wrong("path", fmt.Sprintf("the path %q has a {user}, but public is nobody in particular", pattern), "`any` for everybody who is signed in")
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

// badPattern says what is wrong with a pattern and what to write instead. A literal that no acceptable path can have is a
// mistake too: the line would never match, and a deny that never matches is an open door.
func badPattern(pattern string) (wrong, write string) {
	if pattern == "" || pattern[0] != '/' {
		return "does not start with a slash", "`/" + pattern + "`"
	}
	segments := strings.Split(pattern[1:], "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "*" || segment == "{user}" || segment == "{patient}" || segment == "**" && last:
			continue
		case segment == "**":
			return "has something after `**`", "`**` at the end only, and `*` for each segment before it"
		case segment == "" && !last:
			return "has an empty segment", "one slash between two segments"
		case strings.ContainsAny(segment, "{}"):
			for _, variable := range []string{"{user}", "{patient}"} {
				if strings.Contains(segment, variable) {
					return "mixes " + variable + " with other characters", "`" + variable + "` as a whole segment"
				}
			}
			return "has a variable that does not exist", "`{user}` for the username, `{patient}` for a token's patient, or `*` for any one segment"
		case strings.Contains(segment, "*"):
			return "has a `*` within a segment", "`*` for one whole segment or `**` at the end for any rest"
		case strings.Contains(segment, "%"):
			return "has a percent sign", "the characters themselves, or `*` for that segment"
		}
	}
	if _, err := ParsePath(strings.NewReplacer("{user}", "x", "{patient}", "x").Replace(pattern)); err != nil {
		return "can match no request (" + err.Error() + ": such requests are refused before the rules)",
			"a path of letters, digits and -_~.!$&'()+,=:@ whose segments do not end in a dot, and `*` for other segments"
	}
	return "", ""
}
