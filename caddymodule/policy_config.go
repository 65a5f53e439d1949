package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/policy/report"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// judgedConfig is a config that was adapted and not provisioned, with the policies of its sites.
type judgedConfig struct {
	file    string
	adapted []byte
	app     *App
	sites   []*judgedSite
}

// judgedSite is one site of it.
type judgedSite struct {
	*report.Site
	site *Site
}

// readJudged compiles the policies of all sites as the config's load does; its error names everything that is wrong with them. No
// secret is resolved, nothing is opened.
func readJudged(adapted []byte) (*judgedConfig, error) {
	var cfg struct {
		Apps struct {
			Anteroom *App           `json:"anteroom"`
			HTTP     *caddyhttp.App `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(adapted, &cfg); err != nil {
		return nil, fmt.Errorf("reading the config: %w", err)
	}
	g := &judgedConfig{adapted: adapted, app: cfg.Apps.Anteroom}
	if g.app == nil {
		return nil, errors.New("the config has no global option `anteroom`, so that no site has a policy")
	}
	if err := g.app.complete(); err != nil {
		return nil, err
	}
	if cfg.Apps.HTTP == nil {
		return nil, errors.New("the config has no sites")
	}
	problems := []error{g.app.checkPolicies()}
	for _, name := range slices.Sorted(maps.Keys(cfg.Apps.HTTP.Servers)) {
		places, _ := surveyServer(name, cfg.Apps.HTTP.Servers[name]) // whether the config would load is `validate`'s business
		for _, p := range places {
			problems = append(problems, g.addSite(p))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if len(g.sites) == 0 {
		return nil, errors.New("no site of the config has an `anteroom` block")
	}
	slices.SortStableFunc(g.sites, func(a, b *judgedSite) int { return slices.Compare(a.Hosts, b.Hosts) })
	return g, nil
}

func (g *judgedConfig) addSite(p place) error {
	config, err := p.site.policyConfig(g.app)
	if err != nil {
		return fmt.Errorf("the anteroom block at %s: %w", siteAt(p.site), err)
	}
	compiled, err := policy.New(config)
	if err != nil {
		return fmt.Errorf("the anteroom block at %s: %w", siteAt(p.site), err)
	}
	for _, other := range g.sites {
		if slices.Equal(other.Hosts, p.hosts) && slices.Equal(other.site.rules(g.app), p.site.rules(g.app)) {
			return nil // the same site on another port: its rules are the same, or the config does not load
		}
	}
	g.sites = append(g.sites, &judgedSite{report.NewSite(p.hosts, p.site.At, compiled, config), p.site})
	return nil
}

// reports are the sites as the report package takes them.
func (g *judgedConfig) reports() []*report.Site {
	var list []*report.Site
	for _, s := range g.sites {
		list = append(list, s.Site)
	}
	return list
}

// names are the hosts of all sites, for messages.
func (g *judgedConfig) names() string {
	var hosts []string
	for _, s := range g.sites {
		hosts = append(hosts, s.Hosts...)
	}
	return strings.Join(hosts, ", ")
}

// serving finds the site of a host.
func (g *judgedConfig) serving(host string) (*judgedSite, error) {
	for _, s := range g.sites {
		if s.Serves(host) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no site with an `anteroom` block serves %s; there are %s", printable(host), printable(g.names()))
}

// target reads an address, or a path when the config has one site, and returns the host, the path and the query as a client sends them.
func (g *judgedConfig) target(address string) (s *judgedSite, host, path, query string, err error) {
	rest := address
	if strings.HasPrefix(address, "/") {
		if len(g.sites) > 1 {
			return nil, "", "", "", fmt.Errorf("the config has several sites; write the whole address, such as https://%s%s", g.sites[0].Hosts[0], printable(address))
		}
		s = g.sites[0]
		if host = s.Hosts[0]; s.AsksHost() {
			return nil, "", "", "", fmt.Errorf("the lines of the site ask under which host; write the whole address, such as https://%s%s", host, printable(address))
		}
	} else {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, "", "", "", fmt.Errorf("%q is no address; write https://HOST/PATH", address)
		}
		host = strings.ToLower(u.Hostname())
		if _, _, err := net.SplitHostPort(u.Host); err != nil && strings.Contains(u.Host, "]") {
			host = strings.ToLower(strings.Trim(u.Host, "[]"))
		}
		if s, err = g.serving(host); err != nil {
			return nil, "", "", "", err
		}
		// The bytes as they were written: url.Parse would have them decoded, and another path judged.
		rest = strings.TrimPrefix(address[len("https://"):], u.Host)
		if i := strings.Index(rest, "@"); u.User != nil && i >= 0 {
			rest = strings.TrimPrefix(rest[i+1:], u.Host)
		}
	}
	rest, _, _ = strings.Cut(rest, "#")
	path, query, _ = strings.Cut(rest, "?")
	if path == "" {
		path = "/"
	}
	return s, host, path, query, nil
}
