package caddymodule

import (
	"encoding/json"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// passive are the handlers that may stand before the gate: they neither answer nor change the
// request. Everything else there would be a door beside the gate.
var passive = map[string]bool{
	"headers": true, "map": true, "vars": true, "log_append": true, "request_body": true,
	"tracing": true, "timeouts": true, "hmac_service": true, "envelope_service": true,
}

// isPassive reports whether a step may stand before the gate. `header` is about the answer and may;
// `request_header` would change what the gate judges: the Host, the Origin, the cookies.
func isPassive(s step) bool {
	h, ok := s.handler.(*headers.Handler)
	return passive[s.name] && !(ok && h.Request != nil)
}

// hideCredentials overrules log_credentials: Caddy writes a request into its logs as it came, with both
// halves of the session, and whoever read the log could take it over. It reports whether it was on.
func hideCredentials(srv *caddyhttp.Server) bool {
	if srv.Logs == nil || !srv.Logs.ShouldLogCredentials {
		return false
	}
	srv.Logs.ShouldLogCredentials = false
	return true
}

// believeLast makes Caddy read a list of addresses from the end that the trusted proxies wrote. By default it takes the first one,
// which the client wrote: whoever sends `X-Forwarded-For: 10.1.2.3` through such a proxy would be in that network, and in the audit
// log (CVE-2024-21494).
func believeLast(srv *caddyhttp.Server) { srv.TrustedProxiesStrict = 1 }

// changesRequest refuses what would send the app another path, method or identity than policy
// judged (invariant 3).
func changesRequest(s step, by influence, at string) error {
	if err := misleads(s, at); err != nil {
		return err
	}
	const remedy = "behind `anteroom` the app must receive the path that was judged; give the app a host of its own and pass the path on unchanged"
	var ops *headers.HeaderOps
	switch h := s.handler.(type) {
	case *rewrite.Rewrite:
		return fmt.Errorf("%s: `rewrite`, `uri`, `method`, `handle_path`, `try_files` and `php_fastcgi` change the request (%s); %s", at, s.path, remedy)
	case *headers.Handler:
		ops = h.Request
	case *reverseproxy.Handler:
		var transport struct {
			Protocol string `json:"protocol"`
		}
		_ = json.Unmarshal(h.TransportRaw, &transport)
		if h.Rewrite != nil {
			return fmt.Errorf("%s: `reverse_proxy` has a `rewrite` or `method` line, or is a `forward_auth`, whose place `anteroom` takes (%s); %s", at, s.path, remedy)
		}
		if transport.Protocol == "fastcgi" || isFastCGI(h) {
			return fmt.Errorf("%s: `php_fastcgi` splits the path (%s); %s: run PHP behind a web server and use `reverse_proxy`", at, s.path, remedy)
		}
		if h.Headers != nil {
			ops = h.Headers.Request
		}
	}
	return setsIdentity(ops, by, s.path, at)
}

func isFastCGI(h *reverseproxy.Handler) bool {
	m, ok := h.Transport.(caddy.Module)
	return ok && m.CaddyModule().ID == "http.reverse_proxy.transport.fastcgi"
}
