package caddymodule

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// lintLoops returns a sentence for each `reverse_proxy` of a config that dials a site with the directive over a loopback
// address or Unix socket. What comes that way comes from this host, whoever sent it: the proxy's traces refuse it, and when
// `header_up` removes them only the callers' credential does. That is a warning and no error, because there is a credential.
// Names other than localhost and upstreams that are found at run time are not looked up.
func lintLoops(app *caddyhttp.App, directive string) []string {
	var services []local
	var proxies []proxied
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		l := lint{named: srv.NamedRoutes, directive: directive}
		l.routes(srv.Routes, name, 0)
		if srv.Errors != nil {
			l.routes(srv.Errors.Routes, name+".errors", 0)
		}
		proxies = append(proxies, l.proxies...)
		for _, where := range l.services {
			services = append(services, local{where, srv.Listen})
		}
	}
	var found []string
	for _, p := range proxies {
		for _, s := range services {
			if slices.ContainsFunc(s.listen, func(listen string) bool { return reaches(p.dial, listen) }) {
				found = append(found, fmt.Sprintf("`reverse_proxy` to %s (%s) reaches %s over this host: whatever it passes on seems to come from a local program; let it dial the application itself, or give %s a site of its own on another port or a Unix socket",
					p.dial, p.path, s.where, directive))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// local is a site with the directive.
type local struct {
	where  string
	listen []string
}

// proxied is one upstream.
type proxied struct{ dial, path string }

// lint collects services and upstreams of one server.
type lint struct {
	named     map[string]*caddyhttp.Route
	directive string
	services  []string
	proxies   []proxied
}

func (l *lint) routes(list caddyhttp.RouteList, path string, depth int) {
	if depth > maxDepth { // the directive's own check refuses it
		return
	}
	for i, route := range list {
		steps, err := stepsOf(route, fmt.Sprintf("%s.routes[%d]", path, i))
		if err != nil { // Caddy says it better
			continue
		}
		for _, s := range steps {
			if s.name == l.directive {
				where := l.directive
				if w, ok := s.handler.(interface{ where() string }); ok {
					where = w.where()
				}
				l.services = append(l.services, where)
			}
			if h, ok := s.handler.(*reverseproxy.Handler); ok {
				for _, u := range h.Upstreams {
					l.proxies = append(l.proxies, proxied{caddy.NewReplacer().ReplaceKnown(u.Dial, ""), s.path})
				}
			}
			plain, errored := s.inner(l.named)
			for _, inner := range slices.Concat(plain, errored) {
				l.routes(inner, s.path, depth+1)
			}
		}
	}
}

// reaches reports whether dialing one address over loopback ends at the other.
func reaches(dial, listen string) bool {
	to, err1 := caddy.ParseNetworkAddress(dial)
	at, err2 := caddy.ParseNetworkAddress(listen)
	if err1 != nil || err2 != nil {
		return false
	}
	if to.IsUnixNetwork() || at.IsUnixNetwork() {
		return to.IsUnixNetwork() == at.IsUnixNetwork() && socketPath(to.Host) == socketPath(at.Host)
	}
	target, any := loopbackHost(to.Host)
	if !target.IsValid() && !any || to.StartPort < at.StartPort || to.StartPort > at.EndPort {
		return false
	}
	bound, everywhere := loopbackHost(at.Host)
	return everywhere || bound.IsValid() && (any || bound == target)
}

// socketPath takes the mode off a socket's path.
func socketPath(host string) string {
	path, _, _ := strings.Cut(host, "|")
	return path
}

// loopbackHost is the loopback address that a host stands for; any says that it stands for each of them, as localhost does, and
// the unspecified address, which Linux connects to itself.
func loopbackHost(host string) (addr netip.Addr, any bool) {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return netip.Addr{}, true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return netip.Addr{}, false
	}
	addr = addr.Unmap().WithZone("")
	if addr.IsUnspecified() {
		return netip.Addr{}, true
	}
	if !addr.IsLoopback() {
		return netip.Addr{}, false
	}
	return addr, false
}

// warnLoops logs them when a config starts.
func warnLoops(ctx caddy.Context, directive string) {
	app, err := ctx.AppIfConfigured("http")
	if err != nil {
		return
	}
	for _, sentence := range lintLoops(app.(*caddyhttp.App), directive) {
		ctx.Slogger().Warn(sentence)
	}
}
