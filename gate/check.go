package gate

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
)

// checkReady refuses while what the gate needs is not there.
func (x *exchange) checkReady() refusal {
	g := x.gate
	if g.sessions == nil || g.audit == nil || g.ready != nil && !g.ready() {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "not-ready"}
	}
	return refusal{}
}

// checkTransport keeps invariant 5 once more, behind the listener: TLS 1.3 or nothing, and no early data, which can be
// replayed (RFC 8446 section 8, RFC 8470).
func (x *exchange) checkTransport() refusal {
	state := x.r.TLS
	if state == nil || state.Version < tls.VersionTLS13 {
		x.gate.misdirection.warn(state)
		return refusal{KindMisdirected, http.StatusMisdirectedRequest, "transport"}
	}
	if !state.HandshakeComplete {
		return refusal{KindUnavailable, http.StatusTooEarly, "early-data"}
	}
	return refusal{}
}

// checkHost refuses a Host that is no host, and one that the handshake did not name: the certificate and the rules of one site
// must not meet the sessions of another.
func (x *exchange) checkHost() refusal {
	name, ok := hostName(x.r.Host)
	if !ok {
		return refusal{KindMisdirected, http.StatusBadRequest, "host"}
	}
	if strings.HasSuffix(name, ".") || x.r.TLS.ServerName != "" && !strings.EqualFold(x.r.TLS.ServerName, name) {
		return refusal{KindMisdirected, http.StatusMisdirectedRequest, "host"}
	}
	x.site = name
	return refusal{}
}

// checkMethod lets pass what the policy can decide. Methods are compared exactly (RFC 9110 section 9.1).
func (x *exchange) checkMethod() refusal {
	if !policy.ValidMethod(x.r.Method) || !x.gate.policy.Knows(x.r.Method) {
		return refusal{KindMethod, http.StatusMethodNotAllowed, "method"}
	}
	return refusal{}
}

// checkTarget keeps invariant 3: the path that is judged is the one that came and the one that will be sent on. What came is
// RequestURI; what will be sent is made from URL; they have to agree, whatever ran before us.
func (x *exchange) checkTarget() refusal {
	target := x.r.RequestURI
	raw, query, asked := strings.Cut(target, "?")
	path, err := x.gate.policy.ParsePath(raw)
	if err != nil {
		reason := "path"
		var ambiguous *policy.PathError
		if errors.As(err, &ambiguous) {
			reason = "path." + ambiguous.Reason
		}
		return refusal{KindAmbiguousPath, http.StatusBadRequest, reason}
	}
	u := x.r.URL
	if u.RawPath != "" && u.RawPath != raw { // EscapedPath passes over one that does not fit the path; others may not
		return refusal{KindAmbiguousPath, http.StatusBadRequest, "path.changed"}
	}
	if u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || u.Fragment != "" || u.EscapedPath() != raw ||
		u.RawQuery != query || (u.ForceQuery || u.RawQuery != "") != asked {
		return refusal{KindAmbiguousPath, http.StatusBadRequest, "path.changed"}
	}
	if strings.IndexByte(query, '#') >= 0 { // a fragment never stands in a request (RFC 9112 section 3.2)
		return refusal{KindAmbiguousPath, http.StatusBadRequest, "path.fragment"}
	}
	if path.Under(x.gate.prefix) { // our own paths have one spelling, also where the app's have more
		if _, err := policy.ParsePath(raw); err != nil || raw+"/" != x.gate.prefix && !strings.HasPrefix(raw, x.gate.prefix) {
			return refusal{KindAmbiguousPath, http.StatusBadRequest, "path.prefix"}
		}
	}
	x.path = path
	return refusal{}
}

// checkOrigin refuses what another origin's page sends in a person's name: unsafe methods and WebSockets. Old apps have no
// defence of their own, and SameSite does not stop sibling hosts.
func (x *exchange) checkOrigin() refusal {
	if x.isPosted() {
		return refusal{}
	}
	probe := x.r
	if x.upgrade {
		probe = &http.Request{Method: http.MethodPost, Header: x.r.Header, Host: x.r.Host, URL: x.r.URL}
	}
	if x.gate.crossOrigin(probe) {
		return refusal{KindCrossOrigin, http.StatusForbidden, "origin"}
	}
	return refusal{}
}

// isPosted reports whether a request is the form in which a provider answers a sign-in. It carries no cookie of a session, since
// those are SameSite=Lax, and the portal believes it no more than the address of a callback.
func (x *exchange) isPosted() bool {
	if x.gate.posted == nil || x.r.Method != http.MethodPost {
		return false
	}
	rest, below := strings.CutPrefix(x.path.String(), x.gate.prefix)
	source, callback := strings.CutPrefix(rest, "callback/")
	return below && callback && source != "" && !strings.ContainsAny(source, "/%") && x.gate.posted(source)
}

// origins are those whose pages may do what only the site's own may otherwise.
type origins struct {
	protection *http.CrossOriginProtection
	trusted    map[string]bool
}

// crossOrigin is http.CrossOriginProtection and a little more: it has no ear for an Origin of the same host over plain HTTP, which a
// man in the middle can be.
func (g *Gate) crossOrigin(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	origin, site := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	if len(origin) > 1 || len(site) > 1 || g.origins.protection.Check(r) != nil {
		return true
	}
	if len(site) == 0 && len(origin) == 1 && !g.origins.trusted[origin[0]] {
		return !strings.HasPrefix(origin[0], "https://")
	}
	return false
}

// hostName returns the host without port in lower case: a DNS name, or an IPv6 address without its brackets. Anything else,
// such as userinfo, a list or a port with letters, is no host.
func hostName(host string) (string, bool) {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
		if port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "" {
			return "", false
		}
	}
	allowed := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_'
	}
	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		name = name[1 : len(name)-1]
		allowed = func(c byte) bool {
			return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' || c == ':' || c == '.'
		}
	}
	if name == "" || len(name) > 255 {
		return "", false
	}
	for i := range len(name) {
		if !allowed(name[i]) {
			return "", false
		}
	}
	return strings.ToLower(name), true
}
