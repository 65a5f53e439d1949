package caddymodule

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// origin says where a value comes from.
type origin struct {
	Role string `json:"role,omitempty"` // whose line decided; empty: everybody's
	From string `json:"from"`           // "Caddyfile:12", or "default"
}

// explainedTime is a lifetime.
type explainedTime struct {
	Seconds int64 `json:"seconds"`
	origin
}

// explainedLimit is how many sign-ins there may be at once; 0: any number.
type explainedLimit struct {
	Count   int    `json:"count"`
	OnLimit string `json:"on_limit,omitempty"` // move or refuse
	origin
}

// explanation is what `explain` prints: how long a session of somebody with these roles lasts, and how the sites behave.
type explanation struct {
	Roles    []string        `json:"roles"`
	Idle     explainedTime   `json:"idle"`
	Absolute explainedTime   `json:"absolute"`
	Sessions explainedLimit  `json:"sessions"`
	Sites    []explainedSite `json:"sites"`
	Warnings []string        `json:"warnings"`
}

// explainedSite is one gated site.
type explainedSite struct {
	Hosts       []string `json:"hosts"`
	At          string   `json:"at"`
	OnStoreLoss string   `json:"on_store_loss"`     // deny, or running_sessions
	Seconds     int64    `json:"seconds,omitempty"` // of running_sessions
	Portal      string   `json:"portal"`            // that signs people in; empty: the site itself
}

const (
	fromDefault = "default"
	lossDeny    = "deny"
	lossRunning = "running_sessions"
)

// explainLifetimes says what holds for somebody with these roles and which line decided. The values are those of
// session.Lifetimes, which decides at sign-in, too; only the lines are looked up here.
func explainLifetimes(rules []SessionRule, roles []string) (idle, absolute explainedTime, sessions explainedLimit, err error) {
	all, err := lifetimes(rules)
	if err != nil {
		return idle, absolute, sessions, err
	}
	of := all.Of(roles)
	nobody := origin{From: fromDefault}
	idle, absolute = explainedTime{int64(of.Idle / time.Second), nobody}, explainedTime{int64(of.Absolute / time.Second), nobody}
	sessions = explainedLimit{of.Sessions, string(of.OnLimit), nobody}

	said := idle.decided(rules, roles, func(r session.Lifetime) (said, this bool) { return r.Idle != 0, r.Idle == of.Idle })
	absolute.decided(rules, roles, func(r session.Lifetime) (said, this bool) { return r.Absolute != 0, r.Absolute == of.Absolute })
	sessions.decided(rules, roles, func(r session.Lifetime) (said, this bool) {
		limit := cmp.Or(r.Sessions, all.Default.Sessions) == of.Sessions
		return r.Sessions != 0 || r.OnLimit != "", limit && cmp.Or(r.OnLimit, all.Default.OnLimit, session.Move) == cmp.Or(of.OnLimit, session.Move)
	})
	if idle.From == fromDefault && (said || of.Idle != (session.Lifetimes{}).Of(nil).Idle) {
		idle = absolute // what was said is longer than the session may last
	}
	return idle, absolute, sessions, nil
}

// decided finds the line that decided: of a role that says something the one with the effective value, else everybody's. It
// reports whether any line said something.
func (o *origin) decided(rules []SessionRule, roles []string, judge func(session.Lifetime) (said, this bool)) (any bool) {
	for _, role := range append(slices.Clone(roles), "") {
		for _, r := range rules {
			if role == "" && len(r.Roles) > 0 || role != "" && !slices.Contains(r.Roles, role) {
				continue
			}
			said, this := judge(r.lifetime())
			if said && this {
				o.Role, o.From = role, cmp.Or(r.At, "the config")
				return true
			}
			any = any || said
		}
		if role != "" && any && role == roles[len(roles)-1] {
			return true // what a role says replaces everybody's
		}
	}
	return any
}

// explain reads an adapted config without running it: no secret is resolved, nothing is opened.
func explain(config []byte, roles []string) (explanation, error) {
	var cfg struct {
		Apps struct {
			Anteroom *App            `json:"anteroom"`
			HTTP     json.RawMessage `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(config, &cfg); err != nil {
		return explanation{}, fmt.Errorf("reading the config: %w", err)
	}
	app := cfg.Apps.Anteroom
	if app == nil {
		return explanation{}, errors.New("the config has no global option `anteroom`, so that nobody signs in")
	}
	e := explanation{Roles: listed(roles), Sites: []explainedSite{}, Warnings: []string{}}
	var err error
	if e.Idle, e.Absolute, e.Sessions, err = explainLifetimes(app.Session, roles); err != nil {
		return explanation{}, err
	}
	known, err := app.known()
	if err != nil {
		return explanation{}, err
	}
	for _, role := range roles {
		if !slices.Contains(known.roles, role) {
			e.Warnings = append(e.Warnings, fmt.Sprintf("no way to sign in gives the role %s; known are %s", role, strings.Join(known.roles, ", ")))
		}
	}
	e.Sites, err = explainSites(app, cfg.Apps.HTTP)
	return e, err
}

// explainSites finds the gated sites as Validate does, in a config that is not provisioned.
func explainSites(app *App, raw json.RawMessage) ([]explainedSite, error) {
	sites := []explainedSite{}
	if raw == nil {
		return sites, nil
	}
	h := new(caddyhttp.App)
	if err := json.Unmarshal(raw, h); err != nil {
		return nil, fmt.Errorf("reading the http app: %w", err)
	}
	for name, srv := range h.Servers {
		places, _ := surveyServer(name, srv) // whether the config would load is `validate`'s business
		for _, p := range places {
			sites = append(sites, explainSite(app, p))
		}
	}
	slices.SortFunc(sites, func(a, b explainedSite) int { return slices.Compare(a.Hosts, b.Hosts) })
	return sites, nil
}

func explainSite(app *App, p place) explainedSite {
	s := explainedSite{Hosts: listed(p.hosts), At: p.site.At, OnStoreLoss: lossDeny, Portal: app.Portal}
	if d := time.Duration(p.site.OnStoreLoss); d > 0 {
		s.OnStoreLoss, s.Seconds = lossRunning, int64(d/time.Second)
	}
	return s
}
