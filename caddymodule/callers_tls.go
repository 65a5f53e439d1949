package caddymodule

import (
	"encoding/json"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
)

// asksForCertificates reports whether each of the names gets a connection policy that asks for a client certificate. As in a
// handshake, the first policy that fits a name is the one.
func asksForCertificates(srv *caddyhttp.Server, hosts []string) bool {
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, host := range hosts {
		i := slices.IndexFunc(srv.TLSConnPolicies, func(p *caddytls.ConnectionPolicy) bool { return fitsName(p, host) })
		if i < 0 {
			return false
		}
		if auth := srv.TLSConnPolicies[i].ClientAuthentication; auth == nil || !auth.Active() {
			return false
		}
	}
	return true
}

// fitsName reports whether a policy is for a name; one without names is for all. A policy with other conditions is taken to fit.
func fitsName(p *caddytls.ConnectionPolicy, host string) bool {
	raw, ok := p.MatchersRaw["sni"]
	if !ok || host == "" {
		return true
	}
	var names []string
	if json.Unmarshal(raw, &names) != nil {
		return true
	}
	return slices.ContainsFunc(names, func(name string) bool { return name == host || certmagic.MatchWildcard(host, name) })
}
