package gate

import (
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// A script of another origin sees of our refusal only what CORS lets it see; without that it cannot tell a sign-in that is missing
// from a network that is down. So the origins that the operator listed may read our own answers, and their preflights, which carry
// no cookie and so pass no rule for people, are answered here. Any other origin gets not one header of CORS. What an origin may
// read of the app's answers is the app's to say. (Fetch standard, section 3.3.)

// exposed are the headers of a refusal that a script may read besides the ones it always may.
const exposed = "WWW-Authenticate, Retry-After, Grpc-Status, Grpc-Message"

// preflightAge is how long a browser may remember a preflight, in seconds: a changed list of origins is soon heard of.
const preflightAge = "60"

// Limits of Access-Control-Request-Headers: what is beyond them is not repeated.
const (
	maxAskedHeaders = 1024 // bytes
	maxAskedName    = 64
)

// otherOrigin returns the listed origin whose page sent the request, or "".
func (x *exchange) otherOrigin() string {
	if lines := x.r.Header["Origin"]; len(lines) == 1 && x.gate.origins.trusted[lines[0]] {
		return lines[0]
	}
	return ""
}

// letRead lets a page of a listed origin read the refusal.
func (x *exchange) letRead(h http.Header) {
	if origin := x.otherOrigin(); origin != "" {
		h["Access-Control-Allow-Origin"] = []string{origin}
		h["Access-Control-Allow-Credentials"] = []string{"true"}
		h["Access-Control-Expose-Headers"] = []string{exposed}
		h.Add("Vary", "Origin")
	}
}

// answersPreflight answers a preflight of a listed origin that the rules would refuse, the same for every path. It says what may
// be asked and lets nothing be done: the request itself is judged when it comes. It opened nothing, and is not recorded.
func (x *exchange) answersPreflight(no refusal) bool {
	switch no.kind {
	case KindNoSession, KindForbidden, KindStepUp, KindBudget:
	default:
		return false
	}
	methods := x.r.Header["Access-Control-Request-Method"]
	origin := x.otherOrigin()
	if origin == "" || x.r.Method != http.MethodOptions || len(methods) != 1 || !x.inside {
		return false
	}
	allowed := allowedMethods
	if method := methods[0]; policy.ValidMethod(method) && x.gate.policy.Knows(method) && !strings.Contains(", "+allowed+",", ", "+method+",") {
		allowed += ", " + method
	}
	h := x.answer.Header()
	h["Access-Control-Allow-Origin"] = []string{origin}
	h["Access-Control-Allow-Credentials"] = []string{"true"}
	h["Access-Control-Allow-Methods"] = []string{allowed}
	if names := askedHeaders(x.r.Header["Access-Control-Request-Headers"]); names != "" {
		h["Access-Control-Allow-Headers"] = []string{names}
	}
	h["Access-Control-Max-Age"] = []string{preflightAge}
	h.Add("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	h["Cache-Control"] = []string{"no-store"}
	x.answer.ResponseWriter.WriteHeader(http.StatusNoContent)
	return true
}

// askedHeaders returns the names that a preflight asks for, in lower case. Nothing is repeated of a list that is none, and no name
// that a client must not send: it would be deleted.
func askedHeaders(lines []string) string {
	if len(lines) != 1 || len(lines[0]) > maxAskedHeaders {
		return ""
	}
	var names []string
	for name := range strings.SplitSeq(lines[0], ",") {
		name = strings.ToLower(strings.Trim(name, " \t"))
		if !isToken(name) || len(name) > maxAskedName || name == "*" { // a wildcard, where no cookies come along
			return ""
		}
		if !isSpoofable(http.CanonicalHeaderKey(name)) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
