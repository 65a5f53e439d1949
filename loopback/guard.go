package loopback

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"path"
	"strings"
)

// Verdict is what the guard says of a connection. The zero value refuses.
type Verdict int

const (
	Refused   Verdict = iota // ours to answer, and the answer is 404
	Elsewhere                // not from this host: the request goes on like any path
	Local                    // a program on this host, over its own socket
)

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// Judge judges a connection by its own facts (DESIGN.md, invariant 7). The reason is a fixed code for audit and log.
//
// Four addresses must agree, because each alone can be lied about: a PROXY protocol header makes Remote say 127.0.0.1 for a
// stranger, a local balancer makes KernelRemote say it, X-Forwarded-For behind a trusted proxy makes Client say it.
// Loopback still proves no more than "through a socket of this host" (port forwards, service meshes, a proxy that removes
// its traces), which is why everything but the original form needs a credential besides.
func Judge(f Facts, hosts []string) (Verdict, string) {
	if !fromThisHost(&f) {
		return Elsewhere, "elsewhere"
	}
	if reason := addresses(&f); reason != "" {
		return Refused, reason
	}
	switch {
	case !(f.ProtoMajor == 1 && f.ProtoMinor == 1 || f.ProtoMajor == 2 && f.ProtoMinor == 0): // RFC 9000 section 9: QUIC paths move
		return Refused, "guard.protocol"
	case f.TLSVersion != tls.VersionTLS13: // also plain HTTP, where it is 0
		return Refused, "guard.tls"
	case !f.HandshakeComplete: // RFC 8470 section 5: early data can be replayed
		return Refused, "guard.early-data"
	case !sameAllowedName(f.SNI, f.Host, hosts):
		return Refused, "guard.host"
	case trace(f.Header) != "":
		return Refused, "guard.trace"
	}
	return Local, ""
}

// addresses returns what is wrong with the addresses of a connection that is ours to answer. A Unix socket has none of its
// own, so both ends are on this host. When the server names one all the same, somebody in front speaks for somebody else
// (PROXY protocol, trusted_proxies_unix), and then it is judged like any.
func addresses(f *Facts) string {
	unix := f.Peer != nil
	absent := func(a netip.Addr) bool { return unix && !a.IsValid() }
	switch {
	case unix && (f.KernelRemote.IsValid() || f.KernelLocal.IsValid()):
		return "guard.kernel-remote"
	case !unix && !isLoopback(f.KernelRemote): // also the absent address of HTTP/3 and of unknown wrappers
		return "guard.kernel-remote"
	case !unix && !isLoopback(f.KernelLocal):
		return "guard.kernel-local"
	case !absent(f.Remote) && !isLoopback(f.Remote): // a local balancer speaks PROXY protocol for somebody else
		return "guard.remote"
	case !absent(f.Client) && !isLoopback(f.Client):
		return "guard.client"
	}
	return ""
}

// fromThisHost reports whether the connection is ours to answer. Where the kernel's address is not known, any other sign of
// loopback makes it ours, and then the missing address refuses it: a request that may carry a password is not passed on.
func fromThisHost(f *Facts) bool {
	if f.Peer != nil {
		return true
	}
	if f.KernelRemote.IsValid() {
		return f.KernelRemote.Unmap().WithZone("").IsLoopback()
	}
	return f.Remote.Unmap().WithZone("").IsLoopback() || f.Client.Unmap().WithZone("").IsLoopback()
}

// isLoopback accepts exactly 127.0.0.1 and ::1. The rest of 127/8 is where service meshes put strangers (Envoy's inbound
// calls arrive from 127.0.0.6), so netip's IsLoopback is not the question.
func isLoopback(a netip.Addr) bool {
	a = a.Unmap()
	return a == loopback4 || a == loopback6
}

// sameAllowedName wants the name of the handshake, the name of the request and a configured name to be one. It stops DNS
// rebinding from a browser of this host, and a key that follows one name while the handler follows the other.
func sameAllowedName(sni, host string, hosts []string) bool {
	sni = strings.ToLower(sni)
	if sni == "" || sni != hostOnly(host) {
		return false
	}
	for _, allowed := range hosts {
		if sni == allowed {
			return true
		}
		first, rest, found := strings.Cut(sni, ".")
		if found && first != "" && allowed == "*."+rest {
			return true
		}
	}
	return false
}

// hostOnly is the Host header's name in lower case, without port.
func hostOnly(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.Trim(host[i+1:], "0123456789") == "" {
		host = host[:i]
	}
	return strings.ToLower(host)
}

// traceNames and tracePrefixes are headers that a browser or a proxy adds and a local program has no reason to send. They
// are compared after "_" and "." became "-": some servers in front of us write them so.
var traceNames = map[string]bool{
	"forwarded": true, "via": true, "x-real-ip": true, "x-client-ip": true, "x-cluster-client-ip": true, "true-client-ip": true,
	"client-ip": true, "cf-connecting-ip": true, "fastly-client-ip": true, "x-original-url": true, "x-original-host": true,
	"x-original-uri": true, "x-rewrite-url": true, "x-scheme": true, "x-amzn-trace-id": true, "cdn-loop": true,
	"origin": true, "referer": true, "cookie": true, "cookie2": true, "upgrade-insecure-requests": true, "dnt": true,
	"x-requested-with": true, "ping-from": true, "ping-to": true, "service-worker": true, "purpose": true,
}

var tracePrefixes = []string{"x-forwarded", "sec-", "x-envoy-", "x-proxy", "proxy-", "x-original-forwarded", "access-control-request-"}

// longestTrace is what is compared of a name; all names and prefixes above are shorter.
const longestTrace = 32

// trace returns the first header that shows a browser or a proxy, "" when there is none. It makes no copies of names.
func trace(h http.Header) string {
	for name := range h {
		switch name { // most headers of most callers, without a look at the lists
		case "Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Length", "Content-Type", "Host", "User-Agent":
			continue
		}
		var b [longestTrace]byte
		n := foldName(&b, name)
		if len(name) < longestTrace && traceNames[string(n)] {
			return string(n)
		}
		for _, p := range tracePrefixes {
			if len(n) >= len(p) && string(n[:len(p)]) == p {
				return string(n)
			}
		}
	}
	return ""
}

// foldName writes the beginning of a name into b as it is compared: lower case, and "-" for "_" and ".".
func foldName(b *[longestTrace]byte, name string) []byte {
	n := min(len(name), len(b))
	for i := range n {
		switch c := name[i]; {
		case 'A' <= c && c <= 'Z':
			b[i] = c + ('a' - 'A')
		case c == '_' || c == '.':
			b[i] = '-'
		default:
			b[i] = c
		}
	}
	return b[:n]
}

// Named returns the name of a Host header in lower case and without port, and whether it is one of the allowed ones.
func Named(host string, hosts []string) (string, bool) {
	name := hostOnly(host)
	return name, sameAllowedName(name, name, hosts)
}

// Owns reports whether the service under prefix would answer this path for a local caller: its endpoints, and every other
// spelling of them, so that a secret in a query never travels on to an application because of an odd path.
func Owns(prefix, p string) bool {
	under := func(p string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }
	return under(p) || under(path.Clean("/"+p))
}
