package policy

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxPath is the greatest length of a path in bytes.
const MaxPath = 8 << 10

// ErrAmbiguousPath is wrapped by every error of ParsePath.
var ErrAmbiguousPath = errors.New("ambiguous path")

// PathError says why a path was refused. It never holds the path.
type PathError struct {
	Reason string // a fixed code: "slash", "length", "character", "escape", "encoded", "control", "utf-8", "double-encoding", "empty-segment", "dot", "blank", "readings"
}

// Error returns a text without any part of the path.
func (e *PathError) Error() string { return "checking path: " + e.Reason }

// Unwrap returns ErrAmbiguousPath.
func (e *PathError) Unwrap() error { return ErrAmbiguousPath }

var (
	errSlash     = &PathError{"slash"}           // does not begin with "/": also "*" and CONNECT's authority
	errLength    = &PathError{"length"}          // longer than MaxPath
	errCharacter = &PathError{"character"}       // a raw byte outside of RFC 3986's pchar: "#", "\", ";", blanks, non-ASCII
	errEscape    = &PathError{"escape"}          // "%" without two hex digits
	errEncoded   = &PathError{"encoded"}         // an encoded "/", "\", ";", "?" or "#"
	errControl   = &PathError{"control"}         // a control character, raw or encoded
	errUTF8      = &PathError{"utf-8"}           // not UTF-8 after decoding, overlong forms included
	errDouble    = &PathError{"double-encoding"} // an encoded "%", which a second decoder takes for an escape
	errEmpty     = &PathError{"empty-segment"}   // "//"
	errDot       = &PathError{"dot"}             // a segment that ends in "."
	errBlank     = &PathError{"blank"}           // a segment that begins or ends in white space
	errReadings  = &PathError{"readings"}        // more than maxReadings ways to read it
)

// Path is a path whose meanings are all known: one, or with Exceptions a few. It is made by ParsePath or parseReadings; the zero
// Path is denied everywhere.
type Path struct {
	raw     string  // as received
	decoded string  // percent-decoded, an accepted encoded "/" as keptSlash: raw and decoded have the same segments
	folded  string  // decoded, ASCII letters in lower case
	others  *[]Path // nil: it can be read in this one way only
}

// String returns the path byte for byte as it was received.
func (p Path) String() string { return p.raw }

// Under reports whether somebody could read the path as prefix, which ends in "/", or as something below it: decoded, in any
// case, also without the slash at the end.
func (p Path) Under(prefix string) bool {
	for _, other := range p.readings() {
		if other.Under(prefix) {
			return true
		}
	}
	n := len(prefix) - 1
	return n >= 0 && len(p.folded) >= n && equalFold(p.folded[:n], prefix[:n]) && (len(p.folded) == n || p.folded[n] == '/')
}

// Classes of raw bytes.
const (
	bad = iota
	plain
	upper
	slash
	dot
	percent
	control
	semicolon
)

// classes holds RFC 3986's pchar without ";": parameters of a segment are cut off by some servers and not by others. "[" and
// "]" are let through as well since browsers do not encode them.
var classes = func() (t [256]uint8) {
	for c := range 256 {
		switch b := byte(c); {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', strings.IndexByte("-_~!$&'()*+,=:@[]", b) >= 0:
			t[c] = plain
		case 'A' <= b && b <= 'Z':
			t[c] = upper
		case b == '/':
			t[c] = slash
		case b == '.':
			t[c] = dot
		case b == '%':
			t[c] = percent
		case b == ';':
			t[c] = semicolon
		case b < 0x20 || b == 0x7f:
			t[c] = control
		}
	}
	return t
}()

// ParsePath accepts the path of a request as received (escaped, without query) or says why it is ambiguous. Refused are: a
// missing slash at the start, more than MaxPath bytes, bytes outside of RFC 3986's pchar, ";", empty segments, dot segments
// in any encoding, bad escapes, an encoded "/", "\", ";", "?", "#", control characters (C0, DEL, C1), invalid UTF-8,
// double encoding (every "%25": what follows it may be an escape to the next decoder), and segments that end in "." or begin
// or end in white space, which file systems and frameworks drop. For a plain path it allocates nothing.
func ParsePath(escaped string) (Path, error) {
	p, _, err := parsePath(escaped, Exceptions{})
	return p, err
}

// parsePath reads a path in one way, as it is written, and says which exceptions it took.
func parsePath(escaped string, e Exceptions) (Path, Exceptions, error) {
	if escaped == "" || escaped[0] != '/' {
		return Path{}, Exceptions{}, errSlash
	}
	if len(escaped) > MaxPath {
		return Path{}, Exceptions{}, errLength
	}
	r := pathReader{allow: e}
	escapes, capitals, err := r.scan(escaped)
	if err != nil {
		return Path{}, Exceptions{}, err
	}
	p := Path{raw: escaped, decoded: escaped, folded: escaped}
	if escapes {
		if p.decoded, err = r.decode(escaped); err != nil {
			return Path{}, Exceptions{}, err
		}
		p.folded = lower(p.decoded)
	} else if capitals {
		p.folded = lower(escaped)
	}
	return p, r.took, nil
}

type pathReader struct{ allow, took Exceptions }

// scan judges the raw bytes.
func (r *pathReader) scan(escaped string) (escapes, capitals bool, err error) {
	prev, start := uint8(plain), 0
	for i := 0; i < len(escaped); i++ {
		class := classes[escaped[i]]
		switch class {
		case bad:
			return false, false, errCharacter
		case control:
			return false, false, errControl
		case upper:
			capitals = true
		case percent:
			escapes = true
		case semicolon:
			if !r.allow.Semicolon {
				return false, false, errCharacter
			}
			if prev == dot { // "..;/", which Tomcat reads as "../"
				return false, false, errDot
			}
			r.took.Semicolon = true
		case slash:
			if prev == slash {
				return false, false, errEmpty
			}
			if prev == dot && !r.dotted(escaped[start:i]) {
				return false, false, errDot
			}
			start = i + 1
		}
		prev = class
	}
	if prev == dot && !r.dotted(escaped[start:]) {
		return false, false, errDot
	}
	return escapes, capitals, nil
}

// dotted reports whether a raw segment may end in a dot.
func (r *pathReader) dotted(segment string) bool {
	r.took.TrailingDot = r.allow.TrailingDot
	return r.allow.TrailingDot && !onlyDots(segment)
}

// decode undoes percent-encoding once and refuses what must not come out of it.
func (r *pathReader) decode(escaped string) (string, error) {
	out := make([]byte, 0, len(escaped))
	parameter := false // after a ";" of the segment
	for i := 0; i < len(escaped); i++ {
		c := escaped[i]
		switch c {
		case '/':
			parameter = false
		case ';':
			if out[len(out)-1] == '.' { // "%2e%2e;"
				return "", errDot
			}
			parameter = true
		case '%':
			if i+2 >= len(escaped) || !isHex(escaped[i+1]) || !isHex(escaped[i+2]) {
				return "", errEscape
			}
			c = unhex(escaped[i+1])<<4 | unhex(escaped[i+2])
			i += 2
			if err := r.unescaped(c, out[len(out)-1], parameter, escaped[i+1:]); err != nil {
				return "", err
			}
			if c == '/' {
				c = keptSlash
			}
		}
		out = append(out, c)
	}
	decoded := string(out)
	if !utf8.ValidString(segmentText(decoded)) {
		return "", errUTF8
	}
	raw, rest := escaped, decoded
	for rest != "" {
		var written, segment string
		written, raw = cut(raw)
		segment, rest = cut(rest)
		if err := checkSegment(segment, r.allow.TrailingDot && strings.HasSuffix(written, ".")); err != nil {
			return "", err
		}
	}
	return decoded, nil
}

// unescaped judges a byte that was percent-encoded, by the byte before it and the path after it.
func (r *pathReader) unescaped(c, before byte, parameter bool, rest string) error {
	switch {
	case c < 0x20 || c == 0x7f:
		return errControl
	case c == keptSlash:
		return errUTF8
	case c == '\\' || c == ';' || c == '?' || c == '#' || c == '/' && (!r.allow.EncodedSlash || parameter):
		return errEncoded
	case c == '/' && before == '.': // "..%2f"
		return errDot
	case c == '/':
		r.took.EncodedSlash = true
	case c == '%' && (!r.allow.EncodedPercent || !plainPercent(rest)):
		return errDouble
	case c == '%':
		r.took.EncodedPercent = true
	}
	return nil
}

// checkSegment judges one decoded segment. ".", ".." and "..." are among those that end in ".", which only an exception for
// dots written as such allows.
func checkSegment(segment string, dotted bool) error {
	if strings.HasSuffix(segment, ".") && (!dotted || onlyDots(segment)) {
		return errDot
	}
	for _, r := range segment {
		if unicode.IsControl(r) {
			return errControl
		}
	}
	if strings.TrimSpace(segment) != segment {
		return errBlank
	}
	return nil
}

// lower returns s with the letters A to Z in lower case and nothing else changed, s itself when there are none.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			lowerBytes(b)
			return string(b)
		}
	}
	return s
}

func lowerBytes(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&0x0f + 9 // both cases of A to F end in 1 to 6
}
