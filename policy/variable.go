package policy

import "strings"

// maxVariables is how many variables one pattern may have.
const maxVariables = 8

// maxVariable is the greatest length of the name of a variable or a claim.
const maxVariable = 32

// variable is a segment of a pattern that has a name.
type variable struct {
	name string
	at   int // which segment, from 0
}

// captures are the values of variables in one path.
type captures struct {
	path string
	list []variable
}

func (c captures) value(name string) (string, bool) {
	for _, v := range c.list {
		if v.name == name {
			return segmentText(nth(c.path, v.at)), true
		}
	}
	return "", false
}

// nth returns a segment of a path, "" when there are fewer.
func nth(path string, n int) (segment string) {
	for i := 0; i <= n; i++ {
		if path == "" {
			return ""
		}
		segment, path = cut(path)
	}
	return segment
}

// variables returns the named segments of a pattern: the free ones and {patient}.
func variables(pattern string) (list []variable) {
	for i, segment := range strings.Split(pattern[1:], "/") {
		if name := variableName(segment); name != "" {
			list = append(list, variable{name, i})
		}
	}
	return list
}

// variableName returns the name of a free variable or of {patient}, "" for another segment.
func variableName(segment string) string {
	if len(segment) < 3 || segment[0] != '{' || segment[len(segment)-1] != '}' {
		return ""
	}
	if name := segment[1 : len(segment)-1]; name != "user" && isVariable(name) {
		return name
	}
	return ""
}

// claimName returns the name in {claim.NAME}, "" for another segment.
func claimName(segment string) string {
	if name, ok := strings.CutPrefix(segment, "{claim."); ok && strings.HasSuffix(name, "}") && isVariable(name[:len(name)-1]) {
		return name[:len(name)-1]
	}
	return ""
}

// isVariable reports whether a text is [a-z][a-z0-9_]{0,31}.
func isVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || c == '_')) {
			return false
		}
	}
	return name != "" && len(name) <= maxVariable
}
