package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

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
// limited by anything else. Matcher sets are alternatives: one without a host lets every host in.
func hostsOf(r caddyhttp.Route) (hosts []string, more bool) {
	every := false
	for _, set := range r.MatcherSetsRaw {
		var h []string
		if json.Unmarshal(set["host"], &h) != nil {
			every = true
		}
		hosts, more = append(hosts, h...), more || len(set) > 1
	}
	for _, set := range r.MatcherSets {
		found := false
		for _, m := range set {
			switch h := m.(type) {
			case caddyhttp.MatchHost:
				hosts, found = append(hosts, h...), true
			case *caddyhttp.MatchHost:
				hosts, found = append(hosts, *h...), true
			}
		}
		every, more = every || !found, more || len(set) > 1
	}
	if every {
		return nil, true
	}
	for i := range hosts {
		hosts[i] = strings.ToLower(hosts[i])
	}
	return hosts, more
}

// place is where a gated site stands in the http app.
type place struct {
	server string
	route  int // index of the site's route in its server
	hosts  []string
	site   *Site
}

func (p place) String() string {
	if len(p.hosts) == 0 {
		return siteAt(p.site)
	}
	at := ""
	if p.site.At != "" {
		at = " (" + p.site.At + ")"
	}
	return "site " + strings.Join(p.hosts, ", ") + at
}

// survey walks the whole http app and reports every way round a gate. It is called while the app
// is being provisioned, from the Validate of each gate, with the server that gate stands in: the
// routes of all servers are complete by then, the TLS settings of that one are.
func survey(a *App, app *caddyhttp.App, own *caddyhttp.Server) error {
	var problems []error
	var places []place
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		found, err := surveyServer(name, app.Servers[name])
		places = append(places, found...)
		problems = append(problems, err)
	}
	for _, p := range places {
		srv := app.Servers[p.server]
		problems = append(problems, surveyBypass(app, p))
		if srv == own {
			problems = append(problems, checkTLS(srv, p.String(), app.HTTPPort))
		}
	}
	problems = append(problems, surveyErrors(app, places), surveyTwins(a, places))
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
		p, problem := settle(name, i, route, w.gates[0])
		problems = append(problems, problem)
		if !route.Terminal { // what follows is behind the gate, too
			for j, next := range srv.Routes[i+1:] {
				if hosts, _ := hostsOf(next); overlap(hosts, p.hosts) {
					rest := walk{named: srv.NamedRoutes}
					rest.route(next, fmt.Sprintf("%s.routes[%d]", name, i+1+j), false)
					for _, m := range rest.asked {
						w.askedLate = append(w.askedLate, m.text)
					}
					w.behind(slices.Concat(rest.early, rest.before))
				}
			}
			problems = append(problems, w.late...)
		}
		if len(w.gates) > 1 {
			problems = append(problems, fmt.Errorf("%s: `anteroom` stands twice in this site; put all lines into one block", siteAt(w.gates[1])))
		}
		places = append(places, p)
	}
	return places, errors.Join(problems...)
}

// settle makes the place of a site out of its route, and says what its address lacks.
func settle(server string, index int, route caddyhttp.Route, site *Site) (place, error) {
	hosts, more := hostsOf(route)
	p := place{server: server, route: index, hosts: hosts, site: site}
	switch {
	case len(hosts) == 0 || more || slices.ContainsFunc(hosts, func(h string) bool { return strings.ContainsAny(h, "*{") }):
		return p, fmt.Errorf("%s: a site with `anteroom` names its hosts, in full and without a path or wildcard (sessions belong to one host); write for example `medrecords.hospital.example { … }`", siteAt(site))
	case !slices.ContainsFunc(hosts, func(h string) bool { _, err := netip.ParseAddr(strings.Trim(h, "[]")); return err != nil }):
		return p, fmt.Errorf("%s: nobody could reach the site under %s: clients do not send an IP address in the TLS handshake, where anteroom compares it with the Host; give the site a name, for example localhost", siteAt(site), strings.Join(hosts, ", "))
	case route.Group != "":
		return p, fmt.Errorf("%s: the route belongs to the group %q, so that another one of it could take its turn; remove `group` (%s.routes[%d])", siteAt(site), route.Group, server, index)
	}
	return p, nil
}

func siteAt(s *Site) string {
	if s.At == "" {
		return "anteroom"
	}
	return s.At
}

// walk goes through the routes of one site in the order in which Caddy runs them.
type walk struct {
	named     map[string]*caddyhttp.Route
	gates     []*Site
	hosts     []string // when set, routes in it that are limited to other hosts do not count
	before    []step   // what stands before the gate and is not passive
	early     []step   // what stands before it and is
	asked     []asking // the matchers on the way to the gate
	after     []step   // everything after it
	askedLate []string // the matchers there
	errored   []step   // what has routes of its own for errors
	problems  []error
	late      []error // what behind found wrong
	depth     int
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
	if len(w.gates) == 0 {
		w.asked = append(w.asked, asking{path, matcherText(r)})
	} else {
		w.askedLate = append(w.askedLate, matcherText(r))
	}
	for _, s := range steps {
		w.step(s, matched)
	}
}

func (w *walk) step(s step, matched bool) {
	if site, ok := s.handler.(*Site); ok {
		if site.At == "" {
			site.At = s.path
		}
		if matched {
			w.problems = append(w.problems, fmt.Errorf("%s: `anteroom` stands inside a `handle`, `route`, `handle_response` or matcher, so that requests could go round it; write it at the top level of the site", siteAt(site)))
		}
		w.gates = append(w.gates, site)
		return
	}
	plain, errored := s.inner(w.named)
	inline := s.name == "subroute" || s.name == "invoke" // the others run their routes after an answer of the app
	gatesBefore := len(w.gates)
	for _, list := range plain {
		w.nested(list, s.path, matched || !inline)
	}
	if len(errored) > 0 {
		w.errored = append(w.errored, s)
	}
	switch {
	case len(w.gates) > gatesBefore: // the gate is inside this one
	case len(w.gates) > 0:
		w.after = append(w.after, s)
	case isPassive(s):
		w.early = append(w.early, s)
	case !inline:
		w.before = append(w.before, s)
	}
}

// nested walks inner routes; a matcher on the way in applies to all below it.
func (w *walk) nested(list caddyhttp.RouteList, path string, matched bool) {
	for i, r := range list {
		if hosts, _ := hostsOf(r); w.hosts != nil && !overlap(hosts, w.hosts) {
			continue
		}
		limited := r.Group != "" || len(r.MatcherSetsRaw) > 0 || len(r.MatcherSets) > 0
		w.route(r, fmt.Sprintf("%s.routes[%d]", path, i), matched || limited)
	}
}

// judge turns what stands before and after the gate into sentences.
func (w *walk) judge() {
	for _, s := range w.errored {
		_, errored := s.inner(w.named)
		for _, list := range errored {
			w.problems = append(w.problems, judgeErrors(list, s.path, w.named, len(w.gates) > 0, true)...)
		}
	}
	if len(w.gates) == 0 {
		return
	}
	at := siteAt(w.gates[0])
	for _, s := range w.before {
		w.problems = append(w.problems, fmt.Errorf("%s: %q stands before `anteroom` (%s) and could answer without a sign-in or change the request; let Caddy order the directives (no `order` option, no `route` around them)", at, s.name, s.path))
	}
	w.problems = append(w.problems, w.pries(at)...)
	w.behind(w.after)
	w.problems, w.late = append(w.problems, w.late...), nil
}

// behind judges steps behind the gate.
func (w *walk) behind(steps []step) {
	by := w.influence(steps)
	for _, s := range steps {
		if err := changesRequest(s, by, siteAt(w.gates[0])); err != nil {
			w.late = append(w.late, err)
		}
	}
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
			if name != p.server && hosts != nil && len(srv.TLSConnPolicies) > 0 {
				raiseTLS(srv) // whatever answers there, browsers send it the session
				problems = append(problems, checkTLS(srv, p.String()+", on another port", app.HTTPPort))
			}
			w := walk{named: srv.NamedRoutes, hosts: p.hosts}
			w.site(r, fmt.Sprintf("%s.routes[%d]", name, i))
			if len(w.gates) > 0 {
				continue // gated itself: surveyTwins compares the rules
			}
			for _, s := range w.before {
				if name == p.server || proxying(s.name) || s.name == "file_server" && hosts != nil {
					problems = append(problems, fmt.Errorf("%s: %q handles requests for the same host outside the gate (%s); put it into the site's own block behind `anteroom`, or give it a host of its own", p, s.name, s.path))
				}
			}
			if name == p.server {
				problems = append(problems, w.pries(p.String())...)
			}
		}
	}
	return errors.Join(problems...)
}

// overlap reports whether two host lists can match the same request; nil matches every host. A name
// that Caddy has not yet brought into its ASCII form could be any.
func overlap(a, b []string) bool {
	if a == nil || b == nil {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if x == y || !isASCII(x) || !isASCII(y) || strings.ContainsAny(x, "*{") && caddyMatches(x, y) || strings.ContainsAny(y, "*{") && caddyMatches(y, x) {
				return true
			}
		}
	}
	return false
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
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
func surveyTwins(a *App, places []place) error {
	var problems []error
	for i, one := range places {
		for _, other := range places[:i] {
			if overlap(one.hosts, other.hosts) && !slices.Equal(one.site.rules(a), other.site.rules(a)) {
				problems = append(problems, fmt.Errorf("%s and %s differ only by port and share their cookies in every browser; give both the same rules, or different hosts", other, one))
			}
		}
	}
	return errors.Join(problems...)
}
