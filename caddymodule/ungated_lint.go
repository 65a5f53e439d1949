package caddymodule

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// lintUngated returns a sentence for each upstream that a gated site has and a site without a gate, too: the app behind believes
// whoever names themselves in a header there. That is a warning and no error: some apps have a part that is for everybody. It ends when
// the site removes the headers. Two addresses of one host other than its loopback ones, and names of the DNS, are not known to be
// the same.
//
// unseen says where upstreams are found at run time (`dynamic`, placeholders), which are not compared; empty when there is nothing that
// they could be compared with.
func lintUngated(app *caddyhttp.App, places []place) (warnings, unseen []string) {
	behind, beside := upstreamsOf(app, places)
	for _, b := range beside {
		for _, a := range behind {
			if a.key == "" || a.key != b.key || b.removes(a.names) {
				continue
			}
			warnings = append(warnings, fmt.Sprintf("`reverse_proxy` to %s (%s, %s) has no gate in front and reaches the application of %s, which takes whoever sends it %s for that person; "+
				"put `anteroom` into that site, too, or remove what the application believes there: %s",
				b.dial, b.where, b.path, a.where, a.names[0], "`request_header "+strings.Join(removals(a.names), "`, `request_header ")+"`"))
		}
	}
	if len(behind) > 0 && len(beside) > 0 {
		for _, u := range slices.Concat(behind, beside) {
			if u.key == "" {
				unseen = append(unseen, u.path)
			}
		}
	}
	slices.Sort(warnings)
	slices.Sort(unseen)
	return slices.Compact(warnings), slices.Compact(unseen)
}

// believed are the headers by which the app of a gated site knows people.
var believed = []string{"Remote-User", "Remote-Groups", "Remote-Name", "Remote-Email", "Anteroom-Assertion", "Anteroom-Emergency"}

// application is one upstream as one `reverse_proxy` names it.
type application struct {
	dial, path string
	key        string   // the same for all ways to write an address; empty: known at run time only
	where      string   // the site
	names      []string // behind a gate: the headers that the app believes
	deleted    []string // outside: what is removed before the app gets it
}

// removes reports whether each of the headers is removed.
func (a application) removes(names []string) bool {
	for _, name := range names {
		if !slices.ContainsFunc(a.deleted, func(pattern string) bool { return deletes(strings.ToLower(pattern), strings.ToLower(name)) }) {
			return false
		}
	}
	return true
}

// deletes reports whether a pattern of Caddy's header operations matches a name; both are in lower case.
func deletes(pattern, name string) bool {
	inner := strings.Trim(pattern, "*")
	switch front, back := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*"); {
	case front && back:
		return strings.Contains(name, inner)
	case front:
		return strings.HasSuffix(name, inner)
	case back:
		return strings.HasPrefix(name, inner)
	}
	return pattern == name
}

// removals are the operations that remove the headers.
func removals(names []string) []string {
	ops := []string{"-Remote-*", "-Anteroom-*"}
	for _, name := range names {
		if !slices.Contains(believed, name) {
			ops = append(ops, "-"+name)
		}
	}
	return ops
}

// upstreamsOf lists the upstreams behind the gates and beside them. What follows a gate that does not end the request is behind it, and
// beside it when it also answers for other hosts.
func upstreamsOf(app *caddyhttp.App, places []place) (behind, beside []application) {
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		open := collector{named: srv.NamedRoutes, where: "the site " + strings.Join(srv.Listen, ", ")}
		open.skip = func(i int, r caddyhttp.Route) bool {
			hosts, _ := hostsOf(r)
			alone := false
			for _, p := range places {
				if p.server != name || i != p.route && (i < p.route || srv.Routes[p.route].Terminal || !overlap(hosts, p.hosts)) {
					continue
				}
				within := collector{named: srv.NamedRoutes, where: p.String()}
				within.route(r, fmt.Sprintf("%s.routes[%d]", name, i), nil, 0)
				names := slices.Concat(believed, slices.Sorted(maps.Keys(within.names)))
				for _, u := range within.found {
					u.names = names
					behind = append(behind, u)
				}
				alone = alone || i == p.route || hosts != nil && !slices.ContainsFunc(hosts, func(h string) bool { return !slices.Contains(p.hosts, h) })
			}
			return alone
		}
		open.routes(srv.Routes, name, nil, 0)
		if srv.Errors != nil { // those of gated sites proxy nothing (surveyErrors)
			open.skip = nil
			open.routes(srv.Errors.Routes, name+".errors", nil, 0)
		}
		beside = append(beside, open.found...)
	}
	return behind, beside
}

// collector gathers the upstreams of routes, with the headers that are removed on the way to each.
type collector struct {
	named map[string]*caddyhttp.Route
	where string
	skip  func(int, caddyhttp.Route) bool // asked for the routes of a server
	found []application
	names map[string]bool // the identity headers that are set on the way
}

// routes walks a list and returns what is removed for certain after it.
func (c *collector) routes(list caddyhttp.RouteList, at string, deleted []string, depth int) []string {
	if depth > maxDepth { // survey refuses it
		return deleted
	}
	for i, r := range list {
		if depth == 0 && c.skip != nil && c.skip(i, r) {
			continue
		}
		where := c.where
		if hosts, _ := hostsOf(r); depth == 0 && hosts != nil {
			c.where = "the site " + strings.Join(hosts, ", ")
		}
		after := c.route(r, fmt.Sprintf("%s.routes[%d]", at, i), slices.Clone(deleted), depth)
		if len(r.MatcherSetsRaw) == 0 && len(r.MatcherSets) == 0 && r.Group == "" {
			deleted = after
		}
		c.where = where
	}
	return deleted
}

func (c *collector) route(r caddyhttp.Route, at string, deleted []string, depth int) []string {
	steps, err := stepsOf(r, at)
	if err != nil { // Caddy says it better
		return deleted
	}
	for _, s := range steps {
		switch h := s.handler.(type) {
		case *headers.Handler:
			deleted = c.operate(h.Request, deleted)
		case *reverseproxy.Handler:
			c.proxy(h, s.path, deleted)
		}
		plain, errored := s.inner(c.named)
		for _, inner := range plain {
			after := c.routes(inner, s.path, deleted, depth+1)
			if s.name == "subroute" || s.name == "invoke" {
				deleted = after
			}
		}
		for _, inner := range errored {
			c.routes(inner, s.path, nil, depth+1)
		}
	}
	return deleted
}

// operate notes what header operations set and remove.
func (c *collector) operate(ops *headers.HeaderOps, deleted []string) []string {
	if ops == nil {
		return deleted
	}
	for name := range writes(ops) {
		if identity, own := gate.NamesIdentity(name); identity && !own {
			if c.names == nil {
				c.names = map[string]bool{}
			}
			c.names[name] = true
		}
	}
	return append(slices.Clip(deleted), ops.Delete...)
}

func (c *collector) proxy(h *reverseproxy.Handler, at string, deleted []string) {
	if h.Headers != nil {
		deleted = c.operate(h.Headers.Request, deleted)
	}
	if h.DynamicUpstreams != nil || h.DynamicUpstreamsRaw != nil {
		c.found = append(c.found, application{path: at, where: c.where, deleted: deleted})
	}
	for _, u := range h.Upstreams {
		c.found = append(c.found, application{dial: u.Dial, path: at, key: dialKey(u.Dial), where: c.where, deleted: deleted})
	}
}

// dialKey is the same for all ways to write the address of an upstream: localhost is 127.0.0.1 and ::1, and so is the unspecified
// address, which Linux connects to itself. Empty: it is known at run time only.
func dialKey(dial string) string {
	dial = caddy.NewReplacer().ReplaceKnown(dial, "")
	to, err := caddy.ParseNetworkAddressWithDefaults(dial, "tcp", 0)
	if err != nil || strings.Contains(dial, "{") {
		return ""
	}
	if to.IsUnixNetwork() {
		return "unix/" + path.Clean(socketPath(to.Host))
	}
	port := strconv.FormatUint(uint64(to.StartPort), 10)
	addr, any := loopbackHost(to.Host)
	if any || addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || addr == netip.IPv6Loopback() {
		return net.JoinHostPort("localhost", port)
	}
	host := strings.ToLower(strings.TrimSuffix(to.Host, "."))
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		host = ip.Unmap().String()
	}
	return net.JoinHostPort(host, port)
}

// warnUngated logs them when a config is loaded.
func (a *App) warnUngated(places []place) {
	warnings, unseen := lintUngated(a.http(), places)
	for _, sentence := range warnings {
		a.logger.Warn(sentence)
	}
	if len(unseen) > 0 {
		a.logger.Info("upstreams that are found at run time are not compared: whether a site without a gate reaches a gated application by them is not known", "reverse_proxy", unseen)
	}
}
