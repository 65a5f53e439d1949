package portal

import (
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// DefaultPrefix is where the portal lives when Config.Prefix is empty.
const DefaultPrefix = "/.anteroom/"

// maxReturnTo bounds a return address, in bytes. It travels in a cookie.
const maxReturnTo = 1024

// ReturnTo returns s when it is an address on our own site that a person may
// be sent to after signing in, and "/" otherwise. The result is safe as the
// whole value of a Location header, provided it is written there directly:
// http.Redirect cleans paths after the check, and turns "/./\evil.example"
// into what browsers read as "//evil.example".
//
// An attacker who gets a foreign address through here owns the page that a
// person sees right after typing a password, so the rule is an allowlist:
// printable ASCII that begins with one slash, whose path means the same to
// every parser, and that does not lead back into our own pages (a loop).
func ReturnTo(s string) string {
	return returnTo(s, DefaultPrefix)
}

func returnTo(s, prefix string) string {
	if len(s) == 0 || len(s) > maxReturnTo || s[0] != '/' {
		return "/"
	}
	for i := 0; i < len(s); i++ {
		// Browsers drop tabs and line ends, read "\" as "/", and IDNA maps
		// some letters above ASCII to dots and slashes (WHATWG URL 4.4).
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == '\\' {
			return "/"
		}
	}
	path := s
	if i := strings.IndexAny(s, "?#"); i >= 0 {
		path = s[:i]
	}
	if !plainPath(path) || ownPath(path, prefix) {
		return "/"
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return "/"
	}
	// What the gate would answer with 400 is no place to send a person to.
	// plainPath is the guard against open redirects; this one only keeps the
	// two rules from drifting apart.
	if _, err := policy.ParsePath(path); err != nil {
		return "/"
	}
	return s
}

// plainPath reports whether every parser reads the path in the same way: no
// empty, "." or ".." segment, no parameters after ";", and no escape that
// decodes to a byte which some parser treats as structure.
func plainPath(path string) bool {
	if strings.Contains(path, "//") || strings.Contains(path, ";") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			continue
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return false
		}
		b := unhex(path[i+1])<<4 | unhex(path[i+2])
		if b < 0x20 || b >= 0x7f || strings.IndexByte(`/\%.;`, b) >= 0 {
			return false
		}
	}
	return true
}

// ownPath reports whether the path lies among our own pages. Only the pages
// about oneself and the form for emergency access may be returned to: signing in, signing out and callbacks
// would loop, the rest is not for people. Spelling does not matter here,
// because being too strict costs nothing.
func ownPath(path, prefix string) bool {
	if path == prefix || path == prefix+"sessions" || path == prefix+"emergency" {
		return false
	}
	plain, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	plain = strings.ToLower(plain)
	prefix = strings.ToLower(prefix)
	return strings.HasPrefix(plain, prefix) || plain == strings.TrimSuffix(prefix, "/")
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

func unhex(b byte) byte {
	switch {
	case b <= '9':
		return b - '0'
	case b <= 'F':
		return b - 'A' + 10
	default:
		return b - 'a' + 10
	}
}
