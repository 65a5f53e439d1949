package session

import (
	"encoding/base64"
	"net/http"
	"strings"
)

const (
	maxCookie     = 4096 // bytes of name and value: browsers drop larger ones silently
	contextLength = 43   // 32 bytes in base64url without padding
)

// none is a reason for "no session". The reason is fixed text for our own logs;
// to errors.Is every one of them is [ErrNone].
type none string

func (n none) Error() string        { return "finding session: " + string(n) }
func (n none) Is(target error) bool { return target == ErrNone }

var (
	errAbsent    error = none("cookie missing")
	errDuplicate error = none("cookie sent twice")
	errCookie    error = none("cookie malformed")
)

// scan finds our two cookies in the Cookie lines of a request. It splits as
// RFC 6265, section 5.4, joins (at semicolons; quotes mean nothing) and does not
// allocate. A name that appears twice, even over several lines or with a blank
// before its "=", makes the whole request one without session: somebody who can
// plant one cookie would otherwise choose whose session it is. Names in another
// case are other names.
func scan(lines []string) (token, context string, err error) {
	var tokens, contexts int
	var malformed bool
	for _, line := range lines {
		for more := true; more; {
			var part string
			part, line, more = strings.Cut(line, ";")
			name, value, assigned := strings.Cut(part, "=")
			name = trimLeft(name)
			bare := trimControls(name)
			switch bare {
			case CookieToken:
				tokens++
				token = value
			case CookieContext:
				contexts++
				context = value
			default:
				continue
			}
			if !assigned || name != bare {
				malformed = true
			}
		}
	}
	switch {
	case tokens > 1 || contexts > 1:
		return "", "", errDuplicate
	case malformed:
		return "", "", errCookie
	case tokens == 0 || contexts == 0:
		return "", "", errAbsent
	case token == "" || len(token) > maxCookie-len(CookieToken) || len(context) != contextLength:
		return "", "", errCookie
	}
	return token, context, nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func trimLeft(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	return s
}

// trimControls cuts blanks and control characters off both ends. HTTP lets no control character through; were there
// one, some parser would read the name without it.
func trimControls(s string) string {
	odd := func(c byte) bool { return c <= ' ' || c == 0x7f }
	for s != "" && odd(s[0]) {
		s = s[1:]
	}
	for s != "" && odd(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// decodeContext reads the context cookie's value: exactly 43 characters that are
// the only base64url spelling of 32 bytes. An absent or empty cookie never gets
// here, so that no hash of nothing can match.
func decodeContext(value string) (raw [32]byte, ok bool) {
	if len(value) != contextLength {
		return raw, false
	}
	var text [contextLength]byte
	for i := range text {
		c := value[i]
		if l := lower(c); (l < 'a' || l > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return raw, false
		}
		text[i] = c
	}
	var decoded [33]byte // Decode wants room for the padded length
	n, err := base64.RawURLEncoding.Strict().Decode(decoded[:], text[:])
	if err != nil || n != len(raw) {
		return raw, false
	}
	copy(raw[:], decoded[:])
	return raw, true
}

// cookie is the one form of our cookies, for setting and for clearing: a browser
// refuses a clearing line whose attributes a __Host- name does not allow.
func cookie(name, value string) *http.Cookie {
	return &http.Cookie{
		Name:     name,
		Value:    value,
		Path:     "/",
		Secure:   true,
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
	}
}

// ClearCookies returns the Set-Cookie lines that remove both cookies.
func ClearCookies() []*http.Cookie {
	cookies := []*http.Cookie{cookie(CookieToken, ""), cookie(CookieContext, "")}
	for _, c := range cookies {
		c.MaxAge = -1 // written as Max-Age=0
	}
	return cookies
}

// StripCookies removes our cookies from the Cookie header before a request goes
// on to an app: every name that begins with __Host-anteroom in any case, also
// where only an odd cookie parser (one that honours quotes or commas) would see
// it. The other cookies stay byte for byte; the header goes when none is left.
func StripCookies(h http.Header) {
	lines := h["Cookie"]
	dirty := false
	for _, line := range lines {
		dirty = dirty || holdsOwn(line)
	}
	if !dirty {
		return
	}
	var kept []string
	for _, line := range lines {
		rest, removed := stripLine(line)
		if !removed || strings.Trim(rest, " \t;") != "" {
			kept = append(kept, rest)
		}
	}
	if len(kept) == 0 {
		delete(h, "Cookie")
		return
	}
	h["Cookie"] = kept
}

// stripLine drops the parts of one Cookie line that are ours and leaves the bytes
// of the others alone.
func stripLine(line string) (rest string, removed bool) {
	if !holdsOwn(line) {
		return line, false
	}
	// Mostly nothing or one part is left: then nothing is copied.
	parts, size, only := 0, 0, ""
	for part := range strings.SplitSeq(line, ";") {
		switch {
		case isOwnPart(part):
			removed = true
			continue
		case parts == 0 && removed:
			part = trimLeft(part) // it stands at the beginning now
		}
		parts, size, only = parts+1, size+len(part)+1, part
	}
	switch {
	case !removed:
		return line, false
	case parts < 2:
		return only, true
	}
	var b strings.Builder
	b.Grow(size)
	first, shifted := true, false
	for part := range strings.SplitSeq(line, ";") {
		switch {
		case isOwnPart(part):
			shifted = true
			continue
		case !first:
			b.WriteByte(';')
		case shifted:
			part = trimLeft(part)
		}
		first = false
		b.WriteString(part)
	}
	return b.String(), true
}

// holdsOwn is the quick look: without our name's text nothing is to be removed.
func holdsOwn(line string) bool {
	for i := 0; i+len(CookieToken) <= len(line); i++ {
		if line[i] == '_' && hasOwnPrefix(line[i:]) {
			return true
		}
	}
	return false
}

// isOwnPart says whether some cookie parser could read a cookie with one of our
// names out of this part of a Cookie line.
func isOwnPart(part string) bool {
	if hasOwnPrefix(trimEdges(part)) {
		return true
	}
	for i := 1; i+len(CookieToken) <= len(part); i++ {
		if part[i] != '_' || !isEdge(part[i-1]) || !hasOwnPrefix(part[i:]) {
			continue
		}
		// Only an assignment is a cookie; a value that merely mentions
		// the name is the app's own.
		rest := strings.TrimLeft(part[i:], "_-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.")
		for rest != "" && isEdge(rest[0]) {
			if rest[0] == '=' {
				return true
			}
			rest = rest[1:]
		}
	}
	return false
}

// isEdge says whether a byte may stand around a cookie's name in the eyes of some
// parser: blanks, control characters, quotes, commas, what is blank in Latin-1.
func isEdge(c byte) bool {
	return c <= ' ' || c >= 0x7f || c == '"' || c == '\'' || c == ',' || c == '='
}

func trimEdges(s string) string {
	for s != "" && isEdge(s[0]) {
		s = s[1:]
	}
	return s
}

// IsOwnCookie reports whether a Set-Cookie line of an app sets a cookie whose
// name begins with __Host-anteroom in any case, whatever quotes or blanks stand
// before it. A nameless cookie whose value begins so counts too: browsers send it
// back looking like ours.
func IsOwnCookie(setCookie string) bool {
	return hasOwnPrefix(trimEdges(setCookie))
}

func hasOwnPrefix(s string) bool {
	if len(s) < len(CookieToken) {
		return false
	}
	for i := 0; i < len(CookieToken); i++ {
		if lower(s[i]) != lower(CookieToken[i]) {
			return false
		}
	}
	return true
}
