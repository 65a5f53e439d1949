package report

import (
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

const everything = "/**"

// routes are the patterns of all lines, the start page, and what no line names.
func routes(sites ...*Site) []string {
	list := []string{"/", everything}
	for _, s := range sites {
		for _, l := range s.lines {
			list = append(list, l.patterns...)
		}
	}
	slices.SortFunc(list, comparePatterns)
	return slices.Compact(list)
}

// comparePatterns puts a path before those below it, and a name before a variable.
func comparePatterns(a, b string) int {
	return slices.CompareFunc(strings.Split(a, "/"), strings.Split(b, "/"), func(x, y string) int {
		if d := weight(x) - weight(y); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
}

func weight(segment string) int {
	switch {
	case segment == "**":
		return 3
	case segment == "*":
		return 2
	case strings.HasPrefix(segment, "{"):
		return 1
	}
	return 0
}

// border adds the paths beside a pattern that somebody could take for covered, or for not covered: without and with a slash at
// the end, one segment less and more, in capitals, and percent-encoded.
func border(pattern string) []string {
	list := []string{pattern}
	stem := strings.TrimSuffix(strings.TrimSuffix(pattern, "/**"), "/")
	for at := stem; at != ""; at = at[:strings.LastIndexByte(at, '/')] {
		list = append(list, at, at+"/", at+"/*", at+"/*/*")
	}
	if capitals := upperLiterals(stem); capitals != stem {
		list = append(list, capitals, capitals+"/", capitals+"/*")
	}
	if len(stem) > 1 && stem[1] != '{' && stem[1] != '*' {
		const hex = "0123456789abcdef"
		list = append(list, "/%"+string(hex[stem[1]>>4])+string(hex[stem[1]&15])+stem[2:])
	}
	return list
}

// upperLiterals writes a pattern in capitals, but for its variables.
func upperLiterals(pattern string) string {
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		if !strings.HasPrefix(s, "{") {
			segments[i] = strings.ToUpper(s)
		}
	}
	return strings.Join(segments, "/")
}

// odd are paths that a site accepts only when it says so (`paths allow`).
var odd = []string{"/*%2F*", "/*;*", "/*%25*", "/*."}

// concrete makes a path of a pattern: with the names of whoever asks (own), or with those of somebody else.
func (m made) concrete(pattern string, who *policy.Subject, own bool) string {
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		claim, isClaim := claimOf(s)
		switch {
		case s == "**":
			segments[i] = m.other
		case isClaim && own && who != nil:
			segments[i] = m.claims[claim]
		case s == "{user}" && own && who != nil && !who.Bearer:
			segments[i] = escape(who.Username)
		case s == "{patient}" && own && who != nil && who.Bearer:
			segments[i] = who.Patient
		case strings.HasPrefix(s, "{"):
			segments[i] = m.other
		default:
			segments[i] = strings.ReplaceAll(s, "*", m.other)
		}
	}
	return strings.Join(segments, "/")
}

// hasOwn reports whether a pattern has a place for a name of whoever asks.
func hasOwn(pattern string) bool {
	return strings.Contains(pattern, "/{user}") || strings.Contains(pattern, "/{claim.") || strings.Contains(pattern, "/{patient}")
}

// escape percent-encodes what a path cannot have (RFC 3986 section 3.3), as browsers do.
func escape(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.~!$&'()*+,=:@", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
	}
	return b.String()
}

// usual are the methods that every policy knows.
var usual = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// methods are the usual ones and those that lines name.
func methods(sites ...*Site) []string {
	list := slices.Clone(usual)
	var more []string
	for _, s := range sites {
		for _, l := range s.lines {
			for _, method := range l.methods {
				if !slices.Contains(list, method) {
					more = append(more, method)
				}
			}
		}
	}
	slices.Sort(more)
	return append(list, slices.Compact(more)...)
}
