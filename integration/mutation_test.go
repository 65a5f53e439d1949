package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// mutator makes request targets that somebody could read in another way than we do. The same seed makes the same targets.
type mutator struct {
	*rand.Rand
	authority string                             // of the site, for targets in absolute form
	lean      []func(m mutator, s string) string // what is done more often than the rest of changes
}

// newMutator leans to what a site's `paths` line lets through.
func newMutator(seed uint64, authority, paths string) mutator {
	m := mutator{rand.New(rand.NewPCG(seed, 0)), authority, nil}
	for _, word := range slices.Sorted(maps.Keys(exceptionChanges)) {
		if strings.Contains(paths, word) {
			m.lean = append(m.lean, exceptionChanges[word])
		}
	}
	return m
}

// exceptionChanges are made to the paths of sites that allow them.
var exceptionChanges = map[string]func(m mutator, s string) string{
	"encoded_slash": func(m mutator, s string) string {
		if m.IntN(2) == 0 {
			return m.at(s, isSlash, m.hex)
		}
		return m.insert(s, "a%2Fb", "%2Fx", "x%2f", "%2fsecret", "secret%2Fx", "public%2fsecret", "%2f..", "..%2fadmin")
	},
	"semicolon": func(m mutator, s string) string {
		return m.insert(s, ";x=y", ";", ";x;y=z", ";jsessionid=1", ";.css", ";a=b/..;c=d", ";x/secret", ";x/", ";secret")
	},
	"encoded_percent": func(m mutator, s string) string {
		if m.IntN(2) == 0 {
			return m.at(s, func(c byte) bool { return isLetter(c) || separates(c) }, func(c byte) string { return "%25" + m.hex(c)[1:] })
		}
		return m.insert(s, "100%25", "%25", "%2541", "%252e%252e", "%25zz", "%25%34%31", "%25u0041")
	},
	"trailing_dot": func(m mutator, s string) string { return m.insert(s, ".", "x.", "..", "Jr.", "%20.", ".%20", "...") },
	"ignore_case": func(m mutator, s string) string {
		if m.IntN(3) == 0 {
			return strings.ToUpper(s)
		}
		return m.at(s, isLetter, func(c byte) string { return string(c ^ 0x20) })
	},
}

// doors are the paths that a target is made from: closed ones, open ones, and detours from an open one to a closed one.
var doors = []string{
	"/", "/admin", "/admin/", "/admin/x", "/admin/index.php", "/admin/x.css", "/public", "/public/", "/public/x", "/public/a/b", "/public/index.php", "/public/index.php/x",
	"/public/secret", "/public/secret/", "/public/secret/x", "/public/x/../secret/x", "/public/../admin/x", "/public/../../admin", "/public/x/../../admin/x", "/members/x", "/members/../admin/x",
	"/patients/pat/1", "/patients/bob/1", "/patients/pat/../bob/1", "/index.php", "/.anteroom/../admin/x", "/.anteroom/login", "/nothing/x",
}

// target makes one. Most changes are few, so that many targets get through.
func (m mutator) target() string {
	s := m.pick(doors...)
	for range []int{1, 1, 1, 2, 2, 3}[m.IntN(6)] {
		all := changes
		if len(m.lean) > 0 && m.IntN(3) > 0 {
			all = m.lean
		}
		s = all[m.IntN(len(all))](m, s)
	}
	return s
}

func (m mutator) pick(list ...string) string { return list[m.IntN(len(list))] }

// at changes one byte of s that fits, if there is one.
func (m mutator) at(s string, fits func(c byte) bool, change func(c byte) string) string {
	var places []int
	for i := range len(s) {
		if fits(s[i]) {
			places = append(places, i)
		}
	}
	if len(places) == 0 {
		return s
	}
	i := places[m.IntN(len(places))]
	return s[:i] + change(s[i]) + s[i+1:]
}

// insert puts one of the texts in front of a slash, behind one, or at the end.
func (m mutator) insert(s string, texts ...string) string {
	text := m.pick(texts...)
	if m.IntN(3) == 0 {
		return s + text
	}
	behind := m.IntN(2) == 0
	return m.at(s, isSlash, func(byte) string {
		if behind {
			return "/" + text
		}
		return text + "/"
	})
}

func anyByte(byte) bool          { return true }
func isSlash(c byte) bool        { return c == '/' }
func separates(c byte) bool      { return c == '/' || c == '.' || c == ';' || c == '%' }
func isLetter(c byte) bool       { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func one(c byte) func(byte) bool { return func(b byte) bool { return b|0x20 == c } }

// hex is a byte's percent-encoding in either case.
func (m mutator) hex(c byte) string {
	return fmt.Sprintf(m.pick("%%%02x", "%%%02X"), c)
}

// changes is what is done to targets; each is a way in which somebody came in somewhere.
var changes = []func(m mutator, s string) string{
	// encoded once, twice, with too many bytes, by other schemes
	func(m mutator, s string) string { return m.at(s, anyByte, m.hex) },
	func(m mutator, s string) string { return m.at(s, separates, m.hex) },
	func(m mutator, s string) string {
		return m.at(s, anyByte, func(c byte) string { return "%25" + m.hex(c)[1:] })
	},
	func(m mutator, s string) string {
		return m.at(s, separates, func(c byte) string { return m.pick("%25", "%2525", "%25%32%35") + m.hex(c)[1:] })
	},
	func(m mutator, s string) string {
		return m.at(s, anyByte, func(c byte) string {
			return m.pick(m.hex(0xc0|c>>6)+m.hex(0x80|c&0x3f), m.hex(0xe0)+m.hex(0x80|c>>6)+m.hex(0x80|c&0x3f), m.hex(0xf0)+m.hex(0x80)+m.hex(0x80|c>>6)+m.hex(0x80|c&0x3f))
		})
	},
	func(m mutator, s string) string {
		return m.at(s, separates, func(c byte) string {
			return m.pick(fmt.Sprintf("%%u%04x", c), fmt.Sprintf("%%U%04X", c), fmt.Sprintf("%%25u%04x", c), fmt.Sprintf("%%uff%02x", c-0x20))
		})
	},
	func(m mutator, s string) string {
		return m.at(s, anyByte, func(byte) string { return m.pick("%", "%2", "%zz", "%%", "%0", "") })
	},
	// case
	func(m mutator, s string) string {
		return m.at(s, isLetter, func(c byte) string { return string(c ^ 0x20) })
	},
	func(_ mutator, s string) string { return strings.ToUpper(s) },
	// slashes and backslashes
	func(m mutator, s string) string {
		return m.at(s, isSlash, func(byte) string {
			return m.pick("//", "///", `\`, "%2f", "%2F", "%5c", "%5C", "%252f", "%255c", "%c0%af", "%ef%bc%8f", "%e2%88%95", "/\\", "%2f/", "/%2f", "%2f%2f")
		})
	},
	// dot segments
	func(m mutator, s string) string {
		return m.insert(s, ".", "..", "./", "../", "x/..", "x/../", "%2e", "%2e%2e", ".%2e", "%2E.", "%252e%252e", "..%00", "..%20", "...", "....//", "..;", ".;", "..%09", "%c0%ae%c0%ae", "..%2f", "..%5c", `..\`, "%2e%2e%2f", "..;x=y")
	},
	// parameters of a segment
	func(m mutator, s string) string {
		return m.insert(s, ";", ";x=y", ";x=y;z", ";jsessionid=1", ";.css", "%3b", "%3Bx=y", ";/", ";x=/../", ";%2f..", ";a=b/..;c=d", "%253b", ";..", ";x=%2e%2e")
	},
	// what is cut off, or dropped
	func(m mutator, s string) string {
		return m.insert(s, "%00", "%0a", "%0d", "%09", "%7f", "%c2%85", "%c2%a0", "%e2%80%a8", "\x00", "\x01", "\t", "\x7f", "%00.css", "%0d%0a", "%1f", "%e3%80%80", "\r")
	},
	func(m mutator, s string) string {
		return s + m.pick(".", "..", "%2e", "%20", "%20%20", ".%20", "+", "~", "::$DATA", ":", ".json", ".css", "/", "//", "/.", "%2f", "*", ",", "'", "%c2%ad", "%ef%bb%bf", "..", ". .")
	},
	func(m mutator, s string) string {
		return m.insert(s, "%20", ".", "+", "~", "%c2%ad", "%e2%80%8b", "%ef%bb%bf", "%cc%81", "%e2%80%ae")
	},
	// other letters
	func(m mutator, s string) string {
		return m.at(s, one('i'), func(byte) string { return m.pick("%C4%B0", "%C4%B1", "%EF%BD%89", "%E2%85%B0", "\u0130") })
	},
	func(m mutator, s string) string {
		return m.insert(s, "%E2%84%AA", "%C4%B0", "\u212a", "k", "%e2%84%aaey")
	},
	func(m mutator, s string) string {
		return m.at(s, one('s'), func(byte) string { return m.pick("%C5%BF", "%EF%BD%93", "\u017f") })
	},
	// fragments and queries
	func(m mutator, s string) string {
		return m.insert(s, "#", "#x", "#/../admin/x", "%23", "%23/../admin", "#?")
	},
	func(m mutator, s string) string {
		return m.insert(s, "?", "??", "?x=/public/", "?/../admin/x", "%3f", "%3f/../admin", "?;", "?a=b#c", "?path=/admin/x", "%253f")
	},
	// absolute form and authorities
	func(m mutator, s string) string {
		return m.pick("https://"+m.authority, "http://"+m.authority, "https://evil.example", "//"+m.authority, "//evil.example", "https://"+m.authority+"@evil.example", "HTTPS://"+strings.ToUpper(m.authority), "https:", "/https://"+m.authority, m.authority, "") + s
	},
	// PHP's PATH_INFO and scripts
	func(m mutator, s string) string {
		return m.insert(s, "index.php", "index.php/", "index.php/admin/x", "index.PHP", "index.php%00", "index.php.", "index.php%20", "index.php/../../admin/index.php", "index.php%2fadmin", "index.php/x/../..", "x.php/..", "index%2ephp")
	},
	// one path behind another
	func(m mutator, s string) string { return m.pick(doors...) + s },
	func(m mutator, s string) string {
		return m.pick("/public", "/public/x", "/members", "/patients/pat", "/.anteroom") + m.pick("/..", "/../..", "/%2e%2e", "/..;", "/..%2f", "/.%00.", "/;/..") + s
	},
	// letters lost and doubled
	func(m mutator, s string) string {
		return m.at(s, anyByte, func(c byte) string { return m.pick("", string(c)+string(c)) })
	},
	func(m mutator, s string) string { return s },
}

// clean is what can be sent as one request target: no blank and no end of line, which would end it.
func clean(target string) string {
	if target == "" {
		return "/"
	}
	return strings.NewReplacer(" ", "%20", "\n", "%0a").Replace(target)
}
