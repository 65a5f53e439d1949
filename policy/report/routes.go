package report

import (
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

const everything = "/**"

// maxMeets bounds the rows of a table that are for what two lines have in common.
const maxMeets = 300

// routes are the patterns of all lines, what an allow line and one that narrows it have in common, the start page, and what no line
// names.
func routes(sites ...*Site) []string {
	list, meets := []string{"/", everything}, []string{}
	for _, s := range sites {
		for i := range s.lines {
			narrow := &s.lines[i]
			list = append(list, narrow.patterns...)
			for j := range s.lines {
				if allow := &s.lines[j]; narrow.narrows() && allow.kind == kindAllow && !allow.shadow && len(meets) < maxMeets {
					meets = append(meets, narrow.meet(allow)...)
				}
			}
		}
	}
	list = append(list, meets...)
	slices.SortFunc(list, comparePatterns)
	return slices.Compact(list)
}

// narrows reports whether a line takes something away.
func (l *line) narrows() bool { return !l.shadow && (l.kind == kindDeny || l.kind == kindRequire) }

// meet are patterns for what two lines have in common, where none of their own is just that.
func (l *line) meet(allow *line) (list []string) {
	for _, a := range l.patterns {
		for _, b := range allow.patterns {
			if overlap(a, b) && !covers(a, b) && !covers(b, a) {
				list = append(list, meet(a, b))
			}
		}
	}
	return list
}

// meet writes what two patterns that overlap have in common: of each two segments the one that says more. A slash at the end is that
// of b, as a does not look at it.
func meet(a, b string) string {
	x, y := strings.Split(strings.TrimSuffix(a, "/"), "/"), strings.Split(b, "/")
	var out []string
	for i := 0; i < max(len(x), len(y)); i++ {
		switch {
		case i >= len(x) || x[i] == "**":
			out = append(out, y[min(i, len(y)):]...)
			return strings.Join(out, "/")
		case i >= len(y) || y[i] == "**":
			out = append(out, x[i:]...)
			return strings.Join(out, "/")
		case weight(x[i]) < weight(y[i]) && y[i] != "":
			out = append(out, x[i])
		default:
			out = append(out, y[i])
		}
	}
	return strings.Join(out, "/")
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
