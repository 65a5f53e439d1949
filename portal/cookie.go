package portal

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// promptCookie asks the next sign-in of this browser for a prompt at the
	// provider: whoever comes to a shared workstation next must not become
	// the person who just signed out. Its presence says that, and its value the
	// Unix second of the sign-out to the one portal (promptSince).
	promptCookie = "__Host-anteroom-prompt"
	promptTTL    = 30 * 24 * time.Hour

	// roundCookie counts sign-ins that ended well shortly before: when the
	// browser starts another one without a session, it does not keep the
	// session's cookies and would go round for ever.
	roundCookie = "__Host-anteroom-round"
	roundTTL    = 30 * time.Second
	roundMax    = 2
	stepMax     = 4 // of sign-ins that pages ask for one after the other
)

// ownCookie makes a cookie of ours. Lax, because the provider sends the
// person back with a cross-site navigation, which Strict would strip
// (RFC 6265bis, section 5.2).
func ownCookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}

// dropCookie deletes a cookie of ours. It has the attributes of the original:
// a browser refuses a __Host- cookie without them, also for deleting.
func dropCookie(w http.ResponseWriter, name string) {
	c := ownCookie(name, "", 0)
	c.MaxAge = -1
	http.SetCookie(w, c)
}

// cookies yields name and value of each cookie of the request as it was sent:
// no unquoting, no trimming inside, so that two spellings stay two.
func cookies(r *http.Request) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, line := range r.Header["Cookie"] {
			for pair := range strings.SplitSeq(line, ";") {
				name, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
				if ok && !yield(name, value) {
					return
				}
			}
		}
	}
}

// hasCookie reports whether the browser sent a cookie of this name.
func hasCookie(r *http.Request, name string) bool {
	for n := range cookies(r) {
		if n == name {
			return true
		}
	}
	return false
}

// rounds reads the round counter; nonsense counts as none.
func rounds(r *http.Request) int {
	for name, value := range cookies(r) {
		if name == roundCookie {
			n, err := strconv.Atoi(value)
			if err != nil || n < 0 || n > stepMax {
				return 0
			}
			return n
		}
	}
	return 0
}

// isToken reports whether s holds base64url letters only.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != ""
}
