package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// The one portal: a site that signs people in for the others (the global option `portal`).

// portalSource is the name that the hand-off has in addresses; no way to sign in may be called so next to a portal.
const portalSource = "portal"

var portalHost = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$`)

// checkPortal judges the option by itself. Whether it names a gated site is known when all sites are there.
func (a *App) checkPortal() error {
	if a.Portal == "" {
		return nil
	}
	a.Portal = strings.TrimSuffix(strings.ToLower(a.Portal), ":443") // browsers leave the port of https out
	if !portalHost.MatchString(a.Portal) {
		return fmt.Errorf("portal %q: write the host of the site that signs people in, with its port when it is not 443, for example auth.hospital.example", a.Portal)
	}
	for _, g := range a.sources {
		if g.Source().Name() == portalSource {
			return errors.New("a way to sign in is called `portal`, which is the name of the hand-off between the sites; give it another name")
		}
	}
	return nil
}

// isPortal reports whether a host of a site is the portal's.
func (a *App) isPortal(host string) bool {
	name, _, _ := strings.Cut(a.Portal, ":")
	return name != "" && host == name
}

// serves reports whether a host, with or without a port, is one of a gated site. The port does not count: it may be another
// outside than inside, and browsers share cookies between the ports of a host.
func (a *App) serves(host string) bool {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.hosts, host)
}

// gate remembers the hosts of the gated sites, as they are known while the last of them is validated.
func (a *App) gate(places []place) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hosts, a.counted = nil, map[string]string{}
	blocks := map[int][]string{}
	for _, p := range places {
		a.hosts = append(a.hosts, p.hosts...)
		blocks[p.site.Block] = append(blocks[p.site.Block], p.hosts...)
	}
	for _, p := range places {
		together := p.hosts
		if p.site.Block != 0 { // the same block at other ports
			together = blocks[p.site.Block]
		}
		for _, host := range p.hosts { // the same on all nodes, whatever the order
			a.counted[host] = min(cmp.Or(a.counted[host], host), slices.Min(together))
		}
	}
}

// countedAs returns the name under which the budgets of a host's site count: one for all of its hosts.
func (a *App) countedAs(host string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return cmp.Or(a.counted[host], host)
}

// gatedPlaces lists the gated sites of all servers.
func gatedPlaces(app *caddyhttp.App) (places []place) {
	for _, name := range slices.Sorted(maps.Keys(app.Servers)) {
		found, _ := surveyServer(name, app.Servers[name]) // survey reports what is wrong
		places = append(places, found...)
	}
	return places
}

// surveyPortal refuses a portal that no gated site is, and a site without `allow` that is not the portal.
func surveyPortal(app *App, places []place) error {
	var problems []error
	found := app.Portal == ""
	for _, p := range places {
		home := slices.ContainsFunc(p.hosts, app.isPortal)
		found = found || home
		if p.site.onlyPortal() && !(home && len(p.hosts) == 1) {
			problems = append(problems, fmt.Errorf("%s: without an `allow` line everything is denied; add one, for example `allow any` (only the site that the global option `portal` names needs none)", p))
		}
	}
	if !found {
		problems = append(problems, fmt.Errorf("portal %s: no site with `anteroom` has this host, so that nobody could sign in; add `%s { anteroom }`", app.Portal, app.Portal))
	}
	return errors.Join(problems...)
}

// portalAlone reports whether the site of the portal serves nothing but sign-in.
func (a *App) portalAlone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.ContainsFunc(a.sites, (*Site).onlyPortal)
}

// onlyPortal reports whether the site serves nothing but sign-in.
func (s *Site) onlyPortal() bool { return len(s.Rules) == 0 }

// portalRules let people who are signed in see the start page of a site that is only the portal.
var portalRules = []Rule{{Words: []string{"allow", "any", "GET", "/"}, At: "portal"}}

// toWho is what stands behind the gate of a site that is only the portal: the page about oneself.
func (s *Site) toWho() caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Location", s.app.Prefix)
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusFound)
		return nil
	})
}
