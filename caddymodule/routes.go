package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"
)

// passive are the handlers that may stand before the gate: they neither answer nor change the
// request's method or path. Everything else there would be a door beside the gate.
var passive = map[string]bool{
	"headers": true, "map": true, "vars": true, "log_append": true, "request_body": true,
	"tracing": true, "timeouts": true, "hmac_service": true, "envelope_service": true,
}

// step is one handler of a route. While Caddy provisions a config some routes are decoded and
// others still JSON; a step is decoded either way, though not provisioned in the second case.
type step struct {
	name    string // "reverse_proxy"
	handler any
	path    string // where it stands: "srv0.routes[1].handle[0]"
}

func stepsOf(r caddyhttp.Route, path string) ([]step, error) {
	var steps []step
	if r.HandlersRaw == nil {
		for i, h := range r.Handlers {
			id := ""
			if m, ok := h.(caddy.Module); ok {
				id = m.CaddyModule().ID.Name()
			}
			steps = append(steps, step{id, h, fmt.Sprintf("%s.handle[%d]", path, i)})
		}
		return steps, nil
	}
	for i, raw := range r.HandlersRaw {
		at := fmt.Sprintf("%s.handle[%d]", path, i)
		var named struct {
			Handler string `json:"handler"`
		}
		if err := json.Unmarshal(raw, &named); err != nil {
			return nil, fmt.Errorf("reading %s: %w", at, err)
		}
		info, err := caddy.GetModule("http.handlers." + named.Handler)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", at, err)
		}
		h := info.New()
		if err := json.Unmarshal(raw, h); err != nil {
			return nil, fmt.Errorf("reading %s: %w", at, err)
		}
		steps = append(steps, step{named.Handler, h, at})
	}
	return steps, nil
}

// inner returns the route lists nested in a handler. proxied tells those that answer a response of
// the app (handle_response); errored those that run on an error.
func (s step) inner(named map[string]*caddyhttp.Route) (plain, errored []caddyhttp.RouteList) {
	switch h := s.handler.(type) {
	case *caddyhttp.Subroute:
		plain = append(plain, h.Routes)
		if h.Errors != nil {
			errored = append(errored, h.Errors.Routes)
		}
	case *reverseproxy.Handler:
		for _, rh := range h.HandleResponse {
			plain = append(plain, rh.Routes)
		}
	case *intercept.Intercept:
		for _, rh := range h.HandleResponse {
			plain = append(plain, rh.Routes)
		}
	case *caddyhttp.Invoke:
		if r := named[h.Name]; r != nil {
			plain = append(plain, caddyhttp.RouteList{*r})
		}
	}
	return plain, errored
}

// hostsOf returns the hosts that a route is limited to, nil for "every host", and whether it is
// limited by anything else.
func hostsOf(r caddyhttp.Route) (hosts []string, more bool) {
	sets := 0
	for _, set := range r.MatcherSetsRaw {
		sets++
		var h []string
		if json.Unmarshal(set["host"], &h) == nil {
			hosts = append(hosts, h...)
		} else {
			hosts, more = nil, true
		}
		more = more || len(set) > 1
	}
	for _, set := range r.MatcherSets {
		sets++
		found := false
		for _, m := range set {
			switch h := m.(type) {
			case caddyhttp.MatchHost:
				hosts, found = append(hosts, h...), true
			case *caddyhttp.MatchHost:
				hosts, found = append(hosts, *h...), true
			default:
				more = true
			}
		}
		more = more || !found
	}
	for i := range hosts {
		hosts[i] = strings.ToLower(hosts[i])
	}
	return hosts, more || (sets > 1 && len(hosts) < sets)
}

// place is where a gated site stands in the http app.
type place struct {
	server string
	route  int // index of the site's route in its server
	hosts  []string
	site   *Site
}

func (p place) String() string {
	at := ""
	if p.site.At != "" {
		at = " (" + p.site.At + ")"
	}
	return "site " + strings.Join(p.hosts, ", ") + at
}

// survey walks the whole http app and reports every way round a gate. It is called while the app
// is being provisioned, from the Validate of each gate, with the server that gate stands in: the
// routes of all servers are complete by then, the TLS settings of that one are.
func survey(app *caddyhttp.App, own *caddyhttp.Server) error {
	var problems []error
	var places []place
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		found, err := surveyServer(name, app.Servers[name])
		places = append(places, found...)
		problems = append(problems, err)
	}
	for _, p := range places {
		srv := app.Servers[p.server]
		problems = append(problems, surveyBypass(app, p), surveyErrors(srv, p))
		if srv == own {
			problems = append(problems, checkTLS(srv, p.String(), app.HTTPPort))
		}
	}
	problems = append(problems, surveyTwins(places))
	return errors.Join(problems...)
}

// surveyServer finds the gated sites of one server and checks the inside of each.
func surveyServer(name string, srv *caddyhttp.Server) ([]place, error) {
	var places []place
	var problems []error
	for i, route := range srv.Routes {
		path := fmt.Sprintf("%s.routes[%d]", name, i)
		w := walk{named: srv.NamedRoutes}
		w.site(route, path)
		problems = append(problems, w.problems...)
		if len(w.gates) == 0 {
			continue
		}
		hosts, more := hostsOf(route)
		p := place{server: name, route: i, hosts: hosts, site: w.gates[0]}
		if len(hosts) == 0 || more || slices.ContainsFunc(hosts, func(h string) bool { return strings.ContainsAny(h, "*{") }) {
			problems = append(problems, fmt.Errorf("%s: a site with `anteroom` names its hosts, in full and without a path or wildcard (sessions belong to one host); write for example `medrecords.hospital.example { … }`", siteAt(p.site)))
		}
		if len(w.gates) > 1 {
			problems = append(problems, fmt.Errorf("%s: `anteroom` stands twice in this site; put all lines into one block", siteAt(w.gates[1])))
		}
		places = append(places, p)
	}
	return places, errors.Join(problems...)
}

func siteAt(s *Site) string {
	if s.At == "" {
		return "anteroom"
	}
	return s.At
}

// walk goes through the routes of one site in the order in which Caddy runs them.
type walk struct {
	named    map[string]*caddyhttp.Route
	gates    []*Site
	before   []step // what stands before the gate and is not passive
	after    []step // everything after it
	problems []error
	depth    int
}

// maxDepth bounds recursion through named routes that invoke each other.
const maxDepth = 64

// site walks one top-level route and judges it.
func (w *walk) site(r caddyhttp.Route, path string) {
	w.route(r, path, false)
	w.judge()
}

// route walks one route; matched tells that a matcher stands somewhere on the way to it.
func (w *walk) route(r caddyhttp.Route, path string, matched bool) {
	if w.depth++; w.depth > maxDepth {
		w.problems = append(w.problems, fmt.Errorf("%s: routes are nested deeper than %d; simplify the site", path, maxDepth))
		return
	}
	defer func() { w.depth-- }()
	steps, err := stepsOf(r, path)
	if err != nil {
		w.problems = append(w.problems, err)
		return
	}
	for _, s := range steps {
		w.step(s, matched)
	}
}

func (w *walk) step(s step, matched bool) {
	if site, ok := s.handler.(*Site); ok {
		if matched {
			w.problems = append(w.problems, fmt.Errorf("%s: `anteroom` stands inside a `handle`, `route` or matcher, so that requests could go round it; write it at the top level of the site", siteAt(site)))
		}
		w.gates = append(w.gates, site)
		return
	}
	plain, errored := s.inner(w.named)
	gatesBefore := len(w.gates)
	for _, list := range plain {
		w.nested(list, s.path, matched)
	}
	for _, list := range errored {
		w.problems = append(w.problems, proxiesIn(list, s.path, w.named, 0)...)
	}
	switch {
	case len(w.gates) > gatesBefore: // the gate is inside this one
	case len(w.gates) > 0:
		w.after = append(w.after, s)
	case s.name != "subroute" && !passive[s.name]:
		w.before = append(w.before, s)
	}
}

// nested walks inner routes; a matcher on the way in applies to all below it.
func (w *walk) nested(list caddyhttp.RouteList, path string, matched bool) {
	for i, r := range list {
		limited := r.Group != "" || len(r.MatcherSetsRaw) > 0 || len(r.MatcherSets) > 0
		w.route(r, fmt.Sprintf("%s.routes[%d]", path, i), matched || limited)
	}
}

// judge turns what stands before and after the gate into sentences.
func (w *walk) judge() {
	if len(w.gates) == 0 {
		return
	}
	at := siteAt(w.gates[0])
	for _, s := range w.before {
		w.problems = append(w.problems, fmt.Errorf("%s: %q stands before `anteroom` (%s) and could answer without a sign-in or change the path; let Caddy order the directives (no `order` option, no `route` around them)", at, s.name, s.path))
	}
	for _, s := range w.after {
		w.problems = append(w.problems, changesRequest(s, at))
	}
}

// changesRequest refuses what would send the app another path or method than policy judged
// (invariant 3).
func changesRequest(s step, at string) error {
	const remedy = "behind `anteroom` the app must receive the path that was judged; give the app a host of its own and pass the path on unchanged"
	switch h := s.handler.(type) {
	case *rewrite.Rewrite:
		return fmt.Errorf("%s: `rewrite`, `uri`, `method`, `handle_path`, `try_files` and `php_fastcgi` change the request (%s); %s", at, s.path, remedy)
	case *reverseproxy.Handler:
		var transport struct {
			Protocol string `json:"protocol"`
		}
		_ = json.Unmarshal(h.TransportRaw, &transport)
		if h.Rewrite != nil {
			return fmt.Errorf("%s: `reverse_proxy` has a `rewrite` or `method` line (%s); %s", at, s.path, remedy)
		}
		if transport.Protocol == "fastcgi" || isFastCGI(h) {
			return fmt.Errorf("%s: `php_fastcgi` splits the path (%s); %s: run PHP behind a web server and use `reverse_proxy`", at, s.path, remedy)
		}
	}
	return nil
}

func isFastCGI(h *reverseproxy.Handler) bool {
	m, ok := h.Transport.(caddy.Module)
	return ok && m.CaddyModule().ID == "http.reverse_proxy.transport.fastcgi"
}

// proxiesIn reports each proxying handler in error routes: a request that the gate refused with
// an error would be sent to the app after all.
func proxiesIn(list caddyhttp.RouteList, path string, named map[string]*caddyhttp.Route, depth int) []error {
	var problems []error
	for i, r := range list {
		steps, err := stepsOf(r, fmt.Sprintf("%s.errors[%d]", path, i))
		if err != nil {
			return append(problems, err)
		}
		for _, s := range steps {
			if proxying(s.name) {
				problems = append(problems, fmt.Errorf("`handle_errors` contains %q (%s): a refused request would reach the app after all; answer errors with `respond` or a file", s.name, s.path))
			}
			if depth > maxDepth {
				continue
			}
			plain, errored := s.inner(named)
			for _, inner := range slices.Concat(plain, errored) {
				problems = append(problems, proxiesIn(inner, s.path, named, depth+1)...)
			}
		}
	}
	return problems
}

// harmless are handlers that send a request nowhere. What is not listed counts as proxying.
var harmless = map[string]bool{
	"subroute": true, "static_response": true, "error": true, "file_server": true, "templates": true,
	"rewrite": true, "encode": true, "intercept": true, "copy_response": true, "copy_response_headers": true,
	"invoke": true, "acme_server": true, "metrics": true, "authentication": true,
}

func proxying(name string) bool { return !harmless[name] && !passive[name] && name != "anteroom" }

// surveyErrors checks the error routes of a site's server that can see the site's requests.
func surveyErrors(srv *caddyhttp.Server, p place) error {
	if srv.Errors == nil {
		return nil
	}
	var problems []error
	for i, r := range srv.Errors.Routes {
		if hosts, _ := hostsOf(r); !overlap(hosts, p.hosts) {
			continue
		}
		for _, err := range proxiesIn(caddyhttp.RouteList{r}, fmt.Sprintf("%s.errors[%d]", p.server, i), srv.NamedRoutes, 0) {
			problems = append(problems, fmt.Errorf("%s: %w", p, err))
		}
	}
	return errors.Join(problems...)
}

// surveyBypass finds routes that answer for the site's hosts without its gate: on the same server
// before it, or on another port, to which browsers send the same cookies.
func surveyBypass(app *caddyhttp.App, p place) error {
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		srv := app.Servers[name]
		for i, r := range srv.Routes {
			if name == p.server && i >= p.route {
				break // terminal: what comes after the site never sees its hosts
			}
			hosts, _ := hostsOf(r)
			if !overlap(hosts, p.hosts) {
				continue
			}
			w := walk{named: srv.NamedRoutes}
			w.site(r, fmt.Sprintf("%s.routes[%d]", name, i))
			if len(w.gates) > 0 {
				continue // gated itself: surveyTwins compares the rules
			}
			for _, s := range w.before {
				if name == p.server || proxying(s.name) {
					problems = append(problems, fmt.Errorf("%s: %q answers for the same host outside the gate (%s); put it into the site's own block behind `anteroom`, or give it a host of its own", p, s.name, s.path))
				}
			}
		}
	}
	return errors.Join(problems...)
}

// overlap reports whether two host lists can match the same request; nil matches every host.
func overlap(a, b []string) bool {
	if a == nil || b == nil {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x == y || strings.ContainsAny(x, "*{") && caddyMatches(x, y) || strings.ContainsAny(y, "*{") && caddyMatches(y, x) {
				return true
			}
		}
	}
	return false
}

// caddyMatches reports whether a host pattern with wildcard labels or placeholders can match host.
func caddyMatches(pattern, host string) bool {
	if strings.Contains(pattern, "{") {
		return true
	}
	p, h := strings.Split(pattern, "."), strings.Split(host, ".")
	if len(p) != len(h) {
		return false
	}
	for i := range p {
		if p[i] != "*" && p[i] != h[i] {
			return false
		}
	}
	return true
}

// surveyTwins refuses two gated sites of one host (they differ by port) with different rules:
// every browser sends the session of one to the other.
func surveyTwins(places []place) error {
	var problems []error
	for i, a := range places {
		for _, b := range places[:i] {
			if overlap(a.hosts, b.hosts) && !slices.Equal(a.site.rules(), b.site.rules()) {
				problems = append(problems, fmt.Errorf("%s and %s differ only by port and share their cookies in every browser; give both the same rules, or different hosts", b, a))
			}
		}
	}
	return errors.Join(problems...)
}
