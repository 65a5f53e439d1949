package policy

import (
	"fmt"
	"slices"
	"strings"
)

// maxMethod is the greatest length of a method's name in bytes; the longest registered one, UPDATEREDIRECTREF, has 17.
const maxMethod = 32

// refused are the methods that no rule can allow: TRACE and its relatives echo cookies and headers back (RFC 9110 section
// 9.3.8), CONNECT makes a tunnel. The gate answers them with 405 before it asks a policy.
var refused = []string{"TRACE", "CONNECT", "TRACK", "DEBUG"}

// usual are the methods that get a hint when they are misspelt: a typing error in a deny line would leave a door open.
var usual = []string{
	"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
	"REPORT", "SEARCH", "MKCALENDAR", "ACL", "BIND", "LINK", "UNLINK", "PURGE", "CHECKIN", "CHECKOUT", "MERGE", "LABEL", "UPDATE", "REBIND", "UNBIND",
}

// ValidMethod reports whether a request may carry the method at all: an upper-case token of at most 32 characters other than
// TRACE, CONNECT, TRACK and DEBUG. Policy.Knows says whether a policy can allow it.
func ValidMethod(method string) bool { return badMethod(method) == "" }

func badMethod(method string) string {
	if method == "" || len(method) > maxMethod {
		return "it is empty or too long"
	}
	for i, c := range []byte(method) {
		if !('A' <= c && c <= 'Z' || i > 0 && ('0' <= c && c <= '9' || c == '-' || c == '_')) {
			return "a method is written in upper case"
		}
	}
	if slices.Contains(refused, method) {
		return "it is never let through"
	}
	return ""
}

// methods reads the word after WHO when it is no path.
func (p *reader) methods() {
	if len(p.words) == 0 || strings.HasPrefix(p.words[0], "/") || p.is(conditionWords...) || p.rule.kind == kindGlass && p.is("on", "for") {
		return
	}
	if p.looksLikePath(p.words[0]) {
		return // paths says what is wrong with it
	}
	list, blanks := p.joined("the list of methods", "")
	p.rule.methods = strings.Split(list, ",")
	for i, method := range p.rule.methods {
		if method == "" && blanks {
			continue
		}
		p.method(method, p.rule.methods[:i])
	}
}

func (p *reader) method(method string, before []string) {
	capitals := strings.ToUpper(method)
	switch fault := badMethod(method); {
	case capitals == "ALL" || capitals == "ANY":
		p.wrong("method", fmt.Sprintf("%q is no method", method), "nothing there: a line without methods is for all of them")
	case fault != "" && method != capitals && badMethod(capitals) == "" && slices.Contains(usual, capitals):
		p.wrong("method", fmt.Sprintf("%q is in lower case", method), "`"+capitals+"`")
	case fault != "" && slices.Contains(refused, capitals):
		p.wrong("method", fmt.Sprintf("%q is no method for a rule: it is never let through", method), "the line without it")
	case fault != "":
		write := "methods in upper case (`GET,POST`) and after them paths that start with `/`"
		if p.rule.who == whoSome || p.rule.who == whoScope {
			write += "; several names as `a,b`"
		}
		p.wrong("method", fmt.Sprintf("%q is neither a method nor a path", method), write)
	case slices.Contains(before, method):
		p.wrong("duplicate", fmt.Sprintf("it lists %s twice", method), "it once")
	case !slices.Contains(usual, method):
		for _, known := range usual {
			if oneSlip(method, known) {
				p.wrong("method", fmt.Sprintf("%q is no method that is known", method), "`"+known+"`")
				return
			}
		}
	}
}

// looksLikePath reports whether a word that does not start with "/" was meant as a path.
func (p *reader) looksLikePath(word string) bool { return strings.ContainsAny(word, "/*{}.%") }

// oneSlip reports whether b comes from a by one letter too many, too few or changed, or by two neighbours changed about.
func oneSlip(a, b string) bool {
	start := 0
	for start < min(len(a), len(b)) && a[start] == b[start] {
		start++
	}
	a, b = a[start:], b[start:]
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
