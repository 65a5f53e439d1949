package caddymodule

import (
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/proxyprotocol"
)

// Whom the server believes when it says which client's a request is chooses the address that `network` rules judge, and that the
// audit log has. It is asked about addresses, whatever module it has its ranges from: two of everywhere, which belong to no
// range that somebody would write for proxies, make it everybody.

var (
	// everywhere are addresses all over the world, and some that exist nowhere (RFC 5737, RFC 3849, RFC 9637).
	everywhere = [][]netip.Addr{
		addresses("8.8.8.8", "9.9.9.9", "53.1.2.3", "126.1.2.3", "192.0.2.217", "198.51.100.138", "203.0.113.171", "217.1.2.3"),
		addresses("2001:4860:4860::8888", "2620:fe::fe", "2a01::5a3d", "2001:db8:b7e3::5a3d", "3fff:b7e::5a3d"),
	}
	// private are addresses of the ranges that people's computers have, too (RFC 1918, RFC 4193).
	private = addresses("10.203.119.41", "172.29.187.53", "192.168.233.171", "fd5b:91c2:7ae3::5a3d")
)

func addresses(texts ...string) (list []netip.Addr) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// believer is a part of the server that takes somebody's word for where a request comes from.
type believer struct {
	line, mend string
	believes   func(netip.Addr) bool
}

func (b believer) everybody() bool {
	return slices.ContainsFunc(everywhere, func(family []netip.Addr) bool {
		n := 0
		for _, addr := range family {
			if b.believes(addr) {
				n++
			}
		}
		return n >= 2
	})
}

// believers are those of one server.
func believers(srv *caddyhttp.Server) []believer {
	list := []believer{{"trusted_proxies", "`trusted_proxies static 192.0.2.10`", func(addr netip.Addr) bool { return trusts(srv, addr) }}}
	local := !slices.ContainsFunc(srv.Listen, func(listen string) bool {
		at, err := caddy.ParseNetworkAddress(listen)
		return err != nil || !at.IsUnixNetwork()
	})
	if local { // the PROXY protocol is believed there, and nobody comes from elsewhere
		return list
	}
	for _, p := range proxyProtocols(srv) {
		list = append(list, believer{"proxy_protocol", "`allow 192.0.2.10/32` in its block, without `fallback_policy`", func(addr netip.Addr) bool { return accepts(p, addr) }})
	}
	return list
}

// trusts asks the server, as it is provisioned, whether it believes the headers of a request from there.
func trusts(srv *caddyhttp.Server, addr netip.Addr) bool {
	r, err := http.NewRequest(http.MethodGet, "https://localhost/", nil)
	if err != nil {
		return false
	}
	r.RemoteAddr = netip.AddrPortFrom(addr, 50000).String()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, srv)
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// accepts reports whether the wrapper takes the address of a client from a peer, as its own policy does.
func accepts(p *proxyprotocol.ListenerWrapper, addr netip.Addr) bool {
	within := func(list []string) bool {
		return slices.ContainsFunc(list, func(text string) bool {
			prefix, err := netip.ParsePrefix(text)
			return err == nil && prefix.Contains(addr)
		})
	}
	if within(p.Deny) {
		return false
	}
	return p.FallbackPolicy == proxyprotocol.PolicyUSE || p.FallbackPolicy == proxyprotocol.PolicyREQUIRE || within(p.Allow)
}

// proxyProtocols are the listener wrappers of the server that are the PROXY protocol's. Caddy has dropped their JSON by now and keeps
// them in a field that it does not export.
func proxyProtocols(srv *caddyhttp.Server) (list []*proxyprotocol.ListenerWrapper) {
	wrappers := reflect.ValueOf(srv).Elem().FieldByName("listenerWrappers")
	if wrappers.Kind() != reflect.Slice {
		return nil // another Caddy; a test says so
	}
	for i := range wrappers.Len() {
		if w := wrappers.Index(i).Elem(); w.Type() == reflect.TypeFor[*proxyprotocol.ListenerWrapper]() {
			list = append(list, (*proxyprotocol.ListenerWrapper)(w.UnsafePointer()))
		}
	}
	return list
}

// asksAddress returns the first line of the policy that judges the client's address; empty: none.
func (s *Site) asksAddress() string {
	for _, line := range s.policy.Lines() {
		for _, c := range line.Conditions {
			if c.Key == "network" || c.Key == "when" && strings.Contains(strings.Join(c.Values, " "), "request.address") {
				return line.Rule
			}
		}
	}
	return ""
}

// checkProxies refuses rules about addresses that everybody chooses, and warns of those that a neighbour may choose.
func (s *Site) checkProxies() error {
	rule := s.asksAddress()
	for _, b := range believers(s.server) {
		switch {
		case b.everybody() && rule != "":
			return fmt.Errorf("%s: `%s` in the global option `servers` believes everybody, so that each client chooses the address that is judged (%s); name your proxy's own address alone, for example %s", siteAt(s), b.line, rule, b.mend)
		case b.everybody():
			s.logger.Warn("`"+b.line+"` in the global option `servers` believes everybody: each client chooses the address that the audit log has; name your proxy's own address alone, for example "+b.mend, "site", siteAt(s))
		case rule != "" && slices.ContainsFunc(private, b.believes):
			s.logger.Warn("`"+b.line+"` in the global option `servers` believes a whole private range: each computer in it chooses the address that is judged; name your proxy's own address alone, for example "+b.mend, "site", siteAt(s), "line", rule)
		}
	}
	return nil
}
