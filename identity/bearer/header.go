package bearer

import (
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/jws"
)

// The schemes of RFC 6750 and RFC 9449, as [Caller].Scheme spells them.
const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"
)

// readAuthorization takes the token out of the Authorization header (RFC 6750,
// section 2.1; RFC 9110, section 11.4). An empty scheme says that there is none:
// no header, or one of another scheme.
//
// What begins like ours and is not is an error, never no token: the next reader
// may see a token where we saw none.
func readAuthorization(values []string) (scheme, token string, err error) {
	if len(values) == 0 {
		return "", "", nil
	}
	if len(values) > 1 {
		return schemeBearer, "", no("request.authorization_twice")
	}
	value := values[0]
	word := strings.TrimLeft(value, " \t")
	word = word[:nameLength(word)]
	switch {
	case strings.EqualFold(word, schemeBearer) && len(word) == len(schemeBearer):
		scheme = schemeBearer
	case strings.EqualFold(word, schemeDPoP) && len(word) == len(schemeDPoP):
		scheme = schemeDPoP
	default:
		return "", "", nil
	}
	rest, ok := strings.CutPrefix(value, word)
	if !ok {
		return scheme, "", no("request.authorization")
	}
	token = strings.TrimLeft(rest, " ")
	if len(token) == len(rest) || !isToken68(token) {
		return scheme, "", no("request.authorization")
	}
	if len(token) > jws.MaxToken {
		return scheme, "", no("token.long")
	}
	return scheme, token, nil
}

// nameLength is the length of the scheme's name that s begins with (RFC 9110,
// section 5.6.2).
func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		if !letterOrDigit(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return i
		}
	}
	return len(s)
}

// isToken68 is the b64token of RFC 6750, section 2.1.
func isToken68(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		if !letterOrDigit(body[i]) && strings.IndexByte("-._~+/", body[i]) < 0 {
			return false
		}
	}
	return body != ""
}

func letterOrDigit(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// TokenInQuery says whether some reader would find an access token in the query
// (RFC 6750, section 2.3): addresses end up in logs and histories, so one there is
// refused whether it is good or not. Separators, case and escapes are read as
// laxly as any application does.
func TokenInQuery(query string) bool {
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' || r == '?' }) {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		// PHP makes one name of these.
		name = strings.Map(func(r rune) rune {
			if r == '.' || r == ' ' {
				return '_'
			}
			return r
		}, strings.Trim(name, " "))
		if strings.EqualFold(name, "access_token") || strings.HasPrefix(strings.ToLower(name), "access_token[") {
			return true
		}
	}
	return false
}
