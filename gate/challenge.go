package gate

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
)

// lack is what a program has to hear with a refusal.
type lack struct {
	need   policy.Need  // what a new sign-in has to show
	scopes []string     // any one of which is enough
	token  *BearerError // what is wrong with the token
	// For the page of somebody who is signed in:
	missing   policy.Missing
	emergency *policy.Emergency // what they may open by breaking the glass
}

// challenge tells a program what is missing, one line of WWW-Authenticate for each way to get it (RFC 9110 section 11.6.1).
func (x *exchange) challenge(no refusal) {
	l, scheme := x.lack, "Bearer"
	if l == nil {
		l = &lack{}
	}
	if x.caller != nil {
		scheme = x.caller.Scheme
	}
	var lines []string
	switch {
	case no.kind == KindUnavailable: // asking again with something else would not help
	case l.token != nil:
		lines = x.bearerLines(l.token.Scheme, param("error", l.token.Code))
	case l.scopes != nil:
		lines = x.bearerLines(scheme, param("error", "insufficient_scope")+", "+param("scope", strings.Join(l.scopes, " ")))
	case no.kind == KindStepUp:
		lines = x.bearerLines(scheme, stepUp(l.need))
	case no.kind == KindNoSession:
		lines = x.bearerLines("", "")
	}
	if x.caller == nil && (no.kind == KindStepUp || no.kind == KindNoSession) {
		lines = append(lines, "Anteroom uri="+quote(x.loginURL("")))
	}
	if len(lines) > 0 {
		x.answer.Header()["Www-Authenticate"] = lines
	}
}

// bearerLines returns the site's challenges for tokens, with the parameters first in the one of the scheme. Without that scheme
// there it is one more line.
func (x *exchange) bearerLines(scheme, params string) []string {
	var lines []string
	if x.gate.bearer != nil {
		lines = slices.Clone(x.gate.bearer.Challenge(x.origin()))
	}
	if params == "" {
		return lines
	}
	if scheme != "DPoP" {
		scheme = "Bearer"
	}
	for i, line := range lines {
		if name, rest, _ := strings.Cut(line, " "); strings.EqualFold(name, scheme) {
			lines[i] = name + " " + params
			if rest != "" {
				lines[i] += ", " + rest
			}
			return lines
		}
	}
	return append(lines, scheme+" "+params)
}

// stepUp is the challenge of RFC 9470 section 3. There is no parameter for methods (amr).
func stepUp(need policy.Need) string {
	params := param("error", "insufficient_user_authentication") + ", " + param("error_description", "A stronger or more recent sign-in is needed")
	if len(need.ACR) > 0 {
		params += ", " + param("acr_values", strings.Join(need.ACR, " "))
	}
	if need.MaxAge > 0 {
		params += ", " + param("max_age", strconv.Itoa(int(need.MaxAge/time.Second)))
	}
	return params
}

// loginURL is where somebody signs in, with all that the route asks for.
func (x *exchange) loginURL(query string) string {
	add := func(name, value string) {
		if query != "" {
			query += "&"
		}
		query += name + "=" + value
	}
	if x.lack != nil {
		need := x.lack.need
		if len(need.ACR) > 0 {
			add("acr_values", escape(strings.Join(need.ACR, " ")))
		}
		for _, list := range need.AMR {
			names := make([]string, 0, len(list))
			for _, name := range list {
				names = append(names, escape(name))
			}
			add("amr", strings.Join(names, ","))
		}
		if need.MaxAge > 0 {
			add("max_age", strconv.Itoa(int(need.MaxAge/time.Second)))
		}
	}
	if query != "" {
		query = "?" + query
	}
	return x.gate.prefix + "login" + query
}

// escape writes a blank as %20, which nobody takes for a plus.
func escape(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }

func param(name, value string) string { return name + "=" + quote(value) }

// quote makes a quoted-string (RFC 9110 section 5.6.4). What cannot stand in one, or not in every one of these parameters, is left
// out: controls and everything beyond ASCII.
func quote(value string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(value) {
		switch c := value[i]; {
		case c < ' ' || c >= 0x7f:
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			fallthrough
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
