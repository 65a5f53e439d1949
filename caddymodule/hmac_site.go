package caddymodule

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
)

// enclosure is the site in which a service for local applications stands.
type enclosure struct {
	name     string // of the service: hmac_service or envelope_service
	server   *caddyhttp.Server
	hosts    []string // lower case; none when the site has no host
	services int      // how many of this service are in it
	alone    bool     // nothing else in it answers
	before   string   // what stands before the service and could take its requests; empty: nothing
	nested   bool     // the service stands in something that not every request goes through, or not as it came
}

// enclosing finds the site of the handler that is being provisioned. A directive cannot see its site's hosts and a handler
// is not told them, but routes are provisioned one after the other, and Caddy drops a route's JSON when all of it is
// loaded: the first route that still has its JSON is the one that we are in.
func enclosing(srv *caddyhttp.Server) (enclosure, error) { return enclosingOf(srv, "hmac_service") }

func enclosingOf(srv *caddyhttp.Server, name string) (enclosure, error) {
	e := enclosure{name: name, server: srv}
	for i, route := range srv.Routes {
		if len(route.HandlersRaw) == 0 {
			continue
		}
		e.hosts, _ = hostsOf(route)
		site := caddyhttp.RouteList{route}
		if len(e.hosts) == 0 { // the only site of its server, which the adapter spreads over several routes
			site = srv.Routes
		}
		e.alone = true
		return e, e.look(site, fmt.Sprintf("routes[%d]", i), srv.NamedRoutes, 0, false)
	}
	// An error route or a named route: what its requests have gone through cannot be known.
	e.nested = true
	return e, nil
}

// check says what is wrong with the site: one service of a kind, nothing before or around it that could get what is precious
// in its requests, or keep a caller away.
func (e *enclosure) check(where, precious string) error {
	var problems []error
	refuse := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %w", where, fmt.Errorf(format, args...)))
	}
	if e.services > 1 {
		refuse("it stands twice in this site; put all lines into one block")
	}
	if e.nested {
		refuse("it stands inside a `handle`, `route`, `handle_errors` or another block that not every request goes through; write it at the top level of the site")
	}
	if e.before != "" {
		refuse("%q stands before it and could get or change its requests, %s included; let Caddy order the directives (no `order` option, no `route` around them)", e.before, precious)
	}
	return errors.Join(problems...)
}

// look goes through the routes of a site: how many services, what else answers, what stands before or around the service.
// within tells that not every request of the site comes this way.
func (e *enclosure) look(list caddyhttp.RouteList, path string, named map[string]*caddyhttp.Route, depth int, within bool) error {
	if depth > maxDepth {
		return fmt.Errorf("routes are nested deeper than %d; simplify the site", maxDepth)
	}
	for _, route := range list {
		steps, err := stepsOf(route, path)
		if err != nil {
			return err
		}
		limited := within || depth > 0 && (route.Group != "" || len(route.MatcherSetsRaw) > 0 || len(route.MatcherSets) > 0)
		for _, s := range steps {
			if s.name == e.name {
				e.services++
				e.nested = e.nested || limited
				continue
			}
			if s.name == "hmac_service" || s.name == "envelope_service" { // the other one: it passes on what is not its own
				e.alone = e.alone && e.services == 0
				continue
			}
			plain, _ := s.inner(named)
			for _, inner := range plain {
				if err := e.look(inner, s.path, named, depth+1, limited || s.name != "subroute"); err != nil {
					return err
				}
			}
			if s.name != "subroute" && !passive[s.name] {
				e.alone = false
				if e.services == 0 && e.before == "" {
					e.before = s.name
				}
			}
		}
	}
	return nil
}

// only is the site's one host by name. With several there is no first one: the adapter hands them on in random order, and
// the ring's name hangs on it.
func (e enclosure) only() (string, error) {
	var names []string
	for _, h := range e.hosts {
		if _, err := netip.ParseAddr(strings.Trim(h, "[]")); err != nil && !strings.Contains(h, "{") {
			names = append(names, h)
		}
	}
	switch len(names) {
	case 0:
		return "", errors.New("the site has no host name of which the TLS key could be taken; write `subject NAME`, for example `subject localhost`, and call the service by that name")
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("the site has several hosts (%s); write `subject NAME` to say whose TLS key wraps the ring", strings.Join(names, ", "))
}

// serves reports whether a name is one of the site's hosts, which get their certificates by themselves.
func (e enclosure) serves(name string) bool {
	return slices.ContainsFunc(e.hosts, func(host string) bool { return host == name || certmagic.MatchWildcard(name, host) })
}

// names are the names under which local programs may call.
func (e enclosure) names(subject string) []string {
	if len(e.hosts) == 0 {
		return []string{subject}
	}
	return e.hosts
}
