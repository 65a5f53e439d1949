package gate

import (
	"net/http"
	"strings"
)

// The header names that are deleted on every route, folded: lower case, and every character but letters and digits a dash. A
// gateway interface (CGI, WSGI, FastCGI) turns names into variables that way, so that X_Remote!User is the same variable as
// X-Remote-User there (CVE-2025-64484, CVE-2026-52845).

// identityPrefixes begin the names that say who somebody is, ours and those of other products.
var identityPrefixes = []string{
	"remote-", "anteroom-", "x-remote-", "x-auth-", "x-authenticated-", "x-webauth-", "x-token-", "x-authentik-", "x-pomerium-",
	"x-goog-authenticated-user-", "x-amzn-oidc-", "x-ms-client-principal", "cf-access-", "tailscale-user-", "oidc-",
	"x-forwarded-user", "x-forwarded-email", "x-forwarded-groups", "x-forwarded-preferred-username", "x-forwarded-access-token",
}

// otherPrefixes begin the names that speak of a client certificate, another path, another method or another client.
var otherPrefixes = []string{
	"x-client-cert", "x-clientcert", "x-ssl-", "ssl-", "x-tls-client-", "x-amzn-mtls-", "x-arr-", "client-cert",
	"x-original-", "x-rewrite-", "x-override-", "x-envoy-original-", "x-http-method", "x-forwarded-",
}

// others are the names that are deleted as they are: addresses, hosts and methods, hop-by-hop headers (RFC 9110 section 7.6.1),
// what makes Rack look for files, and pseudo headers.
var others = map[string]bool{
	"remote": true, "forwarded": true, "x-forwarded": true, "forwarded-for": true, "x-host": true, "x-real-ip": true, "true-client-ip": true, "x-client-ip": true,
	"x-cluster-client-ip": true, "x-originating-ip": true, "cf-connecting-ip": true, "cf-connecting-ipv6": true, "fastly-client-ip": true,
	"x-url-scheme": true, "x-scheme": true, "front-end-https": true, "x-method-override": true, "x-method": true,
	"x-sendfile-type": true, "x-accel-mapping": true, "proxy": true, "proxy-connection": true, "keep-alive": true, "te": true, "trailer": true,
	"http2-settings": true, "early-data": true, "-protocol": true,
}

// longestName is what is compared of a name; all names above are shorter.
const longestName = 40

// fold writes the folded name into b and returns it.
func fold(b *[longestName]byte, name string) []byte {
	n := min(len(name), len(b))
	for i := range n {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			b[i] = c
		case 'A' <= c && c <= 'Z':
			b[i] = c + ('a' - 'A')
		default:
			b[i] = '-'
		}
	}
	return b[:n]
}

// byLetter holds the prefixes under their first letter.
type byLetter [26][]string

func group(lists ...[]string) (g byLetter) {
	for _, list := range lists {
		for _, p := range list {
			g[p[0]-'a'] = append(g[p[0]-'a'], p)
		}
	}
	return g
}

var (
	identities = group(identityPrefixes)
	spoofables = group(identityPrefixes, otherPrefixes)
)

// candidates returns the prefixes that a name could begin with.
func (g *byLetter) candidates(name string) []string {
	if name == "" {
		return nil
	}
	if letter := name[0] | 0x20; 'a' <= letter && letter <= 'z' {
		return g[letter-'a']
	}
	return nil
}

func hasPrefixOf(folded []byte, prefixes []string) bool {
	for _, p := range prefixes {
		if len(folded) >= len(p) && string(folded[:len(p)]) == p {
			return true
		}
	}
	return false
}

// isIdentity reports whether a header name says who somebody is.
func isIdentity(name string) bool {
	candidates := identities.candidates(name)
	if len(candidates) == 0 {
		return false
	}
	var b [longestName]byte
	return hasPrefixOf(fold(&b, name), candidates)
}

// ownNames begin the names that the gate itself gives to the application.
var ownNames = []string{"remote-user", "remote-groups", "remote-name", "remote-email", "anteroom-"}

// NamesIdentity reports whether a header name says who somebody is, in any spelling, and whether it is one of those that the gate
// itself sets: so are configurations judged that set headers behind it.
func NamesIdentity(name string) (identity, own bool) {
	var b [longestName]byte
	return isIdentity(name), hasPrefixOf(fold(&b, name), ownNames)
}

// isSpoofable reports whether a header must not come from a client.
func isSpoofable(name string) bool {
	switch name { // most headers of most requests, without a look at the lists
	case "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "Content-Length", "Content-Type", "Cookie", "Host",
		"If-None-Match", "If-Modified-Since", "Origin", "Priority", "Range", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User",
		"Upgrade", "Upgrade-Insecure-Requests", "User-Agent", "X-Requested-With":
		return false
	case "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto": // the proxy overwrites them, unless its operator trusts the peer
		return false
	}
	var b [longestName]byte
	folded := fold(&b, name)
	if len(name) < longestName && others[string(folded)] {
		return true
	}
	return hasPrefixOf(folded, spoofables.candidates(name))
}

// strip removes from the request whatever a client must not say, scrubs Connection, drops trailers, and reports whether an
// upgrade to a WebSocket is left. The app never sees another Upgrade: a proxy that forwards h2c opens a tunnel round the gate.
func strip(r *http.Request) (upgrade bool) {
	h := r.Header
	for name := range h {
		if isSpoofable(name) {
			delete(h, name)
		}
	}
	r.Trailer = nil
	if c := h["Connection"]; len(c) == 1 && (c[0] == "keep-alive" || c[0] == "close") && h["Upgrade"] == nil {
		return false // as nearly every client writes it
	}
	kept, asked := scrub(h["Connection"])
	up := h["Upgrade"]
	upgrade = asked && len(up) == 1 && up[0] == "websocket" && r.Method == http.MethodGet && r.ProtoMajor == 1 && r.ProtoMinor >= 1
	if !upgrade {
		delete(h, "Upgrade")
	} else {
		kept = append(kept, "Upgrade")
	}
	switch {
	case len(kept) > 0:
		h["Connection"] = []string{strings.Join(kept, ", ")}
	case h["Connection"] != nil:
		delete(h, "Connection")
	}
	return upgrade
}

// scrub keeps of the Connection tokens those that concern the connection, and says whether an upgrade was asked for. Any other
// token names a header that a proxy deletes later, after ours were set (CVE-2024-45410).
func scrub(lines []string) (kept []string, upgrade bool) {
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			switch token = strings.ToLower(strings.Trim(token, " \t")); token {
			case "close", "keep-alive":
				kept = append(kept, token)
			case "upgrade":
				upgrade = true
			}
		}
	}
	return kept, upgrade
}
