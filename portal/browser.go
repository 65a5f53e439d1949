package portal

import (
	"net"
	"net/http"
	"strings"
)

// isAPIClient reports whether a program is asking, not a person with a page:
// it then gets problem+json. The rule is the gate's (design, "No session is
// one answer"); it stands here a second time because the portal must not
// import the gate.
func isAPIClient(r *http.Request) bool {
	for _, mode := range r.Header["Sec-Fetch-Mode"] {
		if mode != "navigate" {
			return true
		}
	}
	if len(r.Header["X-Requested-With"]) > 0 || strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return true
	}
	for _, line := range r.Header["Accept"] {
		if strings.Contains(strings.ToLower(line), "text/html") {
			return false
		}
	}
	return true
}

// embedded reports whether another site's page asks for this within itself: an
// image, a script's fetch, a frame (Fetch Metadata, W3C). No sign-in begins or
// ends so: browsers keep no SameSite cookie of an answer to a foreign page. But
// each would count against an address that a whole hospital shares. A sibling's
// page may frame an application, sign-in included.
func embedded(r *http.Request) bool {
	from, mode, dest := r.Header.Get("Sec-Fetch-Site"), r.Header.Get("Sec-Fetch-Mode"), r.Header.Get("Sec-Fetch-Dest")
	if from != "cross-site" && from != "same-site" {
		return false
	}
	return mode != "" && mode != "navigate" || from == "cross-site" && dest != "" && dest != "document"
}

// fromOurPage reports whether a form of our own pages sent this request. The
// browser states where a request comes from and scripts cannot forge it:
// Origin must equal the site; only when it is absent does Sec-Fetch-Site
// decide. "Origin: null" is a foreign page that hides (a sandboxed frame), and
// two Origin lines are no browser's.
func fromOurPage(r *http.Request) bool {
	switch origins := r.Header["Origin"]; len(origins) {
	case 0:
		sites := r.Header["Sec-Fetch-Site"]
		return len(sites) == 1 && sites[0] == "same-origin"
	case 1:
		return origins[0] == "https://"+originHost(r.Host)
	default:
		return false
	}
}

// originHost is the host as an Origin header spells it: lower case, without
// the default port (RFC 6454, section 6.1).
func originHost(host string) string {
	return strings.TrimSuffix(strings.ToLower(host), ":443")
}

// validHost reports whether a Host header can be put into addresses that we
// make: letters, digits, dots, hyphens, a port, an IPv6 literal. Caddy routes
// by host before us; this holds when a site answers for any host.
func validHost(host string) bool {
	if host == "" || len(host) > 255 {
		return false
	}
	for i := 0; i < len(host); i++ {
		c := host[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']':
		default:
			return false
		}
	}
	return true
}

// siteName is the host for people and for the audit log: no port.
func siteName(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

// socketAddr is the default of Config.ClientAddr: the address of the
// connection, never a header.
func socketAddr(r *http.Request) string {
	if h, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return h
	}
	return r.RemoteAddr
}
