package caddymodule

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const tls13 = "tls1.3"

// raiseTLS makes every connection policy of a server TLS 1.3 only (invariant 5). All of them, not
// only the site's own: a client that names another host in its SNI gets that host's policy and can
// then ask for ours in the Host header. strict_sni_host refuses exactly that (421), and early data,
// which can be replayed, is off.
//
// It runs while a handler of the server is provisioned: the list of policies is final by then and
// none of the server's is built yet. A policy that is built already (a second handler, a later
// Caddy) is raised in its built form too.
func raiseTLS(srv *caddyhttp.Server) {
	for _, p := range srv.TLSConnPolicies {
		if p.ProtocolMin == "" {
			p.ProtocolMin = tls13
		}
		if p.TLSConfig != nil {
			p.TLSConfig.MinVersion = tls.VersionTLS13
		}
	}
	yes, no := true, false
	srv.StrictSNIHost = &yes
	srv.Allow0RTT = &no
}

// checkTLS reports every way in which the server of a site could be reached with less than
// TLS 1.3. what names the site or directive in the message; httpPort is the http app's port for
// plain HTTP (0 means 80).
func checkTLS(srv *caddyhttp.Server, what string, httpPort int) error {
	if httpPort == 0 {
		httpPort = caddyhttp.DefaultHTTPPort
	}
	var problems []error
	refuse := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %w", what, fmt.Errorf(format, args...)))
	}
	if len(srv.TLSConnPolicies) == 0 {
		refuse("it would be served over plain HTTP, but anteroom accepts TLS 1.3 only; remove http:// from the site's address, and with `auto_https off` add a `tls` line with a certificate")
	}
	for _, p := range srv.TLSConnPolicies {
		if p.ProtocolMin != tls13 || (p.ProtocolMax != "" && p.ProtocolMax != tls13) {
			refuse("a `tls` line of this site or of another one on the same address says `protocols %s`, but anteroom accepts TLS 1.3 only; remove `protocols` or write `protocols tls1.3`",
				strings.TrimSpace(p.ProtocolMin+" "+p.ProtocolMax))
		}
		if p.InsecureSecretsLog != "" {
			refuse("`insecure_secrets_log` writes the keys of every connection to a file; remove it from the `tls` line")
		}
	}
	for _, listen := range srv.Listen {
		addr, err := caddy.ParseNetworkAddress(listen)
		if err != nil {
			refuse("listener address %q: %w", listen, err)
			continue
		}
		if !addr.IsUnixNetwork() && uint(httpPort) >= addr.StartPort && uint(httpPort) <= addr.EndPort {
			refuse("it listens on port %d, which is `http_port`: Caddy answers there without TLS; choose another port for the site or another `http_port`", httpPort)
		}
	}
	return errors.Join(problems...)
}
