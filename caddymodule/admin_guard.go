package caddymodule

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Who may use the routes of the admin API (attack row S17): a program that runs on this host and reached the admin
// listener over a unix socket or over 127.0.0.1 or ::1. Caddy judges Host and Origin as far as its listener's address lets
// it; on a wildcard address it checks no Host at all, and it takes a request without Origin from anybody who can connect
// (CVE-2026-27589 was of that kind). What follows does not rely on it.

// adminProblem is a refusal or failure of the admin API; it becomes problem+json (RFC 9457).
type adminProblem struct {
	status int
	kind   string // the last part of urn:anteroom:problem:<kind>
	detail string
}

func (p *adminProblem) Error() string { return p.detail }

// askerOf names who asks, "unix" or the loopback address, for the audit log; or says why the request is refused.
func askerOf(r *http.Request) (string, *adminProblem) {
	asker, no := localAsker(r)
	if no == nil && asker != "unix" && !loopbackName(r.Host) {
		// A page whose name was made to point at 127.0.0.1 (DNS rebinding) speaks to us as to its own site: its name gives
		// it away, wherever the listener is bound.
		no = forbidden("not-local", "The admin API of anteroom answers to the names localhost, 127.0.0.1 and ::1 only: use one of them as the address.")
	}
	if no == nil {
		no = foreign(r)
	}
	return asker, no
}

// localAsker judges the connection's own addresses (invariant 7), never a header.
func localAsker(r *http.Request) (string, *adminProblem) {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return "", notLocal("an address that is not known")
	}
	if unix, ok := local.(*net.UnixAddr); ok && unix.Net == "unix" {
		return "unix", nil
	}
	here, err1 := netip.ParseAddrPort(local.String())
	there, err2 := netip.ParseAddrPort(r.RemoteAddr)
	if local.Network() != "tcp" || err1 != nil || !exactLoopback(here.Addr()) {
		return "", notLocal(local.String())
	}
	// The far end, too: some hosts route packets of their neighbours to 127.0.0.1 (CVE-2020-8558).
	if err2 != nil || !exactLoopback(there.Addr()) {
		return "", notLocal(local.String() + " from another host")
	}
	return there.Addr().Unmap().String(), nil
}

// exactLoopback takes 127.0.0.1 and ::1 alone: the rest of 127/8 is where service meshes put strangers.
func exactLoopback(a netip.Addr) bool {
	a = a.Unmap()
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
}

// loopbackName reports whether a Host header names this host in a way that no DNS server can change.
func loopbackName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(name, "localhost") { // RFC 6761 section 6.3
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && exactLoopback(a)
}

// relayTraces are headers of proxies. A proxy on this host reaches the listener as a local program does, for whoever asks it.
var relayTraces = []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip"}

// foreign refuses what a page of another origin made a browser of this host send, and what came through a proxy. Our own
// commands send an Origin that equals Host, as Caddy's do.
func foreign(r *http.Request) *adminProblem {
	for _, name := range relayTraces {
		if _, ok := r.Header[name]; ok {
			return forbidden("not-local", fmt.Sprintf("The admin API of anteroom takes no request from a proxy (%s): ask it directly, on this host.", name))
		}
	}
	for _, name := range []string{"Origin", "Referer"} {
		for _, v := range r.Header[name] {
			if u, err := url.Parse(v); err != nil || u.Scheme != "http" || !strings.EqualFold(u.Host, r.Host) {
				return crossOrigin()
			}
		}
	}
	for name := range r.Header {
		if !strings.HasPrefix(name, "Sec-Fetch-") {
			continue
		}
		// A browser that sends any of them sends Sec-Fetch-Site: same-origin, or none for an address that a person typed.
		site := r.Header["Sec-Fetch-Site"]
		if len(site) != 1 || site[0] != "same-origin" && site[0] != "none" {
			return crossOrigin()
		}
	}
	return nil
}

// wantJSON refuses a body that a form or a script of another origin could send without a preflight (Fetch standard,
// CORS-safelisted request headers): text/plain, form data, or none.
func wantJSON(r *http.Request) *adminProblem {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" || len(r.Header["Content-Type"]) != 1 {
		return &adminProblem{http.StatusUnsupportedMediaType, "content-type", "Send the request as Content-Type: application/json."}
	}
	return nil
}

func forbidden(kind, detail string) *adminProblem {
	return &adminProblem{http.StatusForbidden, kind, detail}
}

func notLocal(where string) *adminProblem {
	return forbidden("not-local", fmt.Sprintf("The admin API of anteroom answers on this host only, not on %s: write `admin 127.0.0.1:2019` or `admin unix//run/anteroom/admin.sock|0600` into the global options.", where))
}

func crossOrigin() *adminProblem {
	return forbidden("cross-origin", "The request was sent by a page of another origin.")
}
