package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/anteroom-proxy/anteroom/identity/bearer"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Site is the gate in front of one site: it lets a request pass to the handlers behind it when the
// session's role allows it, and answers everything else itself.
type Site struct {
	// The policy, one entry a line. A request that no line allows is refused.
	Rules []Rule `json:"rules"`
	// Origins (`https://host[:port]`) whose pages may send unsafe requests and open websockets
	// here. Default: only the site's own.
	AllowOrigins []string `json:"allow_origins,omitempty"`
	// How long sessions that were verified before go on when the store does not answer. Default: 0, everybody is
	// refused after 30 s.
	OnStoreLoss caddy.Duration `json:"on_store_loss,omitempty"`
	// Whose access tokens the site accepts. Default: none; `Authorization` belongs to the app.
	Bearer SiteBearer `json:"bearer,omitzero"`
	// Whom the assertion that the app gets is for (its `aud`). Default: the site's host.
	Audience string `json:"assertion_audience,omitempty"`
	// Send no Anteroom-Assertion header.
	NoAssertion bool `json:"no_assertion,omitempty"`
	// Where the directive stands ("Caddyfile:12"), for messages.
	At string `json:"at,omitempty"`

	logger  *slog.Logger
	app     *App
	server  *caddyhttp.Server
	policy  *policy.Policy
	running atomic.Pointer[siteRunning]
}

// Rule is one policy line.
type Rule struct {
	// The words of the line: `allow`, `role`, `doctor`, `GET`, `/patients/*`.
	Words []string `json:"words"`
	// Where the line stands ("Caddyfile:13"), for messages and the audit log.
	At string `json:"at,omitempty"`
}

type siteRunning struct {
	gate *gate.Gate
	run  *running
}

// CaddyModule returns the module's information.
func (*Site) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.anteroom", New: func() caddy.Module { return new(Site) }}
}

// parseSite reads the site directive:
//
//	anteroom {
//		allow|deny WHO [METHODS] [PATHS]
//		require acr A | amr A | max_age 5m [METHODS] [PATHS]
//		bearer from NAME… | audience URI | unbound allow
//		allow_origin https://HOST[:PORT]…
//		on_store_loss deny | running_sessions 10m
//		assertion off | audience NAME
//	}
func parseSite(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // "anteroom"
	option, ok := h.Option("anteroom").(httpcaddyfile.App)
	if !ok {
		return nil, h.Errf("`anteroom` in a site needs the global option `anteroom { identity … }` at the top of the Caddyfile")
	}
	s := &Site{At: at(h.Dispenser)}
	if h.NextArg() {
		return nil, h.Errf("`anteroom` takes a block and no matcher, not %q: it stands before everything in its site", h.Val())
	}
	for nesting := h.Nesting(); h.NextBlock(nesting); {
		switch h.Val() {
		case "allow", "deny", "require":
			s.Rules = append(s.Rules, Rule{Words: append([]string{h.Val()}, h.RemainingArgs()...), At: at(h.Dispenser)})
		case "allow_origin":
			origins := h.RemainingArgs()
			if len(origins) == 0 {
				return nil, h.Errf("allow_origin needs at least one origin, for example https://portal.hospital.example")
			}
			s.AllowOrigins = append(s.AllowOrigins, origins...)
		case "bearer":
			if err := s.Bearer.unmarshal(h.Dispenser); err != nil {
				return nil, err
			}
		case "on_store_loss", "assertion":
			if err := s.option(h.Dispenser); err != nil {
				return nil, err
			}
		default:
			return nil, h.Errf("unrecognized line %q; want one of allow, deny, require, bearer, allow_origin, on_store_loss, assertion", h.Val())
		}
	}
	if len(s.Rules) == 0 && portalOf(option) != "" { // whether this site is the portal is known later
		return h.NewRoute(nil, s), nil
	}
	if _, err := s.compile(); err != nil {
		return nil, fmt.Errorf("the anteroom block at %s: %w", s.At, err)
	}
	return h.NewRoute(nil, s), nil
}

// option reads `on_store_loss` and `assertion`.
func (s *Site) option(d *caddyfile.Dispenser) error {
	word, args := d.Val(), d.RemainingArgs()
	switch {
	case word == "on_store_loss" && slices.Equal(args, []string{"deny"}):
		s.OnStoreLoss = 0
	case word == "on_store_loss" && len(args) == 2 && args[0] == "running_sessions":
		v, err := caddy.ParseDuration(args[1])
		if err != nil || v < time.Minute || v > 12*time.Hour {
			return d.Errf("on_store_loss running_sessions %s: write a duration from 1m to 12h", args[1])
		}
		s.OnStoreLoss = caddy.Duration(v.Round(time.Second))
	case word == "on_store_loss":
		return d.Errf("write `on_store_loss deny` or `on_store_loss running_sessions 10m`")
	case slices.Equal(args, []string{"off"}):
		s.NoAssertion = true
	case len(args) == 2 && args[0] == "audience":
		s.Audience = args[1]
	default:
		return d.Errf("write `assertion off` or `assertion audience NAME`")
	}
	return nil
}

// portalOf reads the portal out of the global option.
func portalOf(option httpcaddyfile.App) string {
	var app struct {
		Portal string `json:"portal"`
	}
	_ = json.Unmarshal(option.Value, &app) // parseGlobal wrote it
	return app.Portal
}

func (s *Site) compile() (*policy.Policy, error) {
	rules := s.Rules
	if s.onlyPortal() && s.app != nil && s.app.Portal != "" {
		rules = portalRules
	}
	lines := make([]policy.Line, len(rules))
	for i, r := range rules {
		lines[i] = policy.Line{Words: r.Words, At: r.At}
	}
	return policy.Compile(lines)
}

// rules are the site's rules and excepted origins in one comparable form: order does not matter.
func (s *Site) rules() []string {
	var lines []string
	for _, r := range s.Rules {
		lines = append(lines, strings.Join(r.Words, " "))
	}
	for _, o := range s.AllowOrigins {
		lines = append(lines, "allow_origin "+o)
	}
	lines = append(lines, fmt.Sprintf("on_store_loss %d assertion %q %t bearer %q %q %t", s.OnStoreLoss, s.Audience, s.NoAssertion, s.Bearer.From, s.Bearer.Audience, s.Bearer.Unbound))
	slices.Sort(lines)
	return slices.Compact(lines)
}

// Provision compiles the policy and raises the server that the site belongs to.
func (s *Site) Provision(ctx caddy.Context) error {
	s.logger = ctx.Slogger()
	app, err := ctx.AppIfConfigured("anteroom")
	switch {
	case errors.Is(err, caddy.ErrNotConfigured):
		return fmt.Errorf("%s: the anteroom handler needs the anteroom app (the global option `anteroom { … }`): %w", siteAt(s), err)
	case err != nil: // the app is there, and says itself what is wrong with it
		return fmt.Errorf("%s: %w", siteAt(s), err)
	}
	s.app = app.(*App)
	if s.policy, err = s.compile(); err != nil {
		return fmt.Errorf("%s: %w", siteAt(s), err)
	}
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return fmt.Errorf("%s: the anteroom handler works only in a route of an http server", siteAt(s))
	}
	s.server = srv
	raiseTLS(srv)
	if hideCredentials(srv) {
		s.logger.Warn("`log_credentials` is off on this site's address: it would write session cookies into the log; remove it from the global option `servers`", "site", siteAt(s))
	}
	s.app.addSite(s)
	return nil
}

// Validate reads the whole http app, whose shape is final by now, for ways round the gate.
func (s *Site) Validate() error {
	if len(s.app.sources) == 0 && len(s.Bearer.From) == 0 {
		return fmt.Errorf("%s: nobody could sign in: add `identity oidc NAME { … }` to the global option `anteroom`", siteAt(s))
	}
	for _, role := range s.policy.Roles() {
		if !slices.Contains(s.app.givable(), role) {
			s.logger.Warn("a policy line names a role that no way to sign in can give; add `role "+role+" from …` or mend the line", "role", role, "site", siteAt(s))
		}
	}
	places := gatedPlaces(s.app.http())
	s.app.gate(places)
	return errors.Join(s.checkGate(), s.checkBearer(), survey(s.app.http(), s.server), surveyPortal(s.app, places))
}

// checkGate builds the gate as Start will, so that a bad origin is found while the config loads.
func (s *Site) checkGate() error {
	if _, err := gate.New(s.gateConfig(&running{})); err != nil {
		return fmt.Errorf("%s: %w", siteAt(s), err)
	}
	return nil
}

func (s *Site) gateConfig(run *running) gate.Config {
	return gate.Config{
		Policy: s.policy, Sessions: run.sessions, Audit: run.audit, Prefix: s.app.Prefix,
		Portal: run.portal, Deny: denyWith(run.portal), AllowOrigins: s.AllowOrigins,
		ClientAddr: clientAddr, Logger: s.logger,
		OnStoreLoss: time.Duration(s.OnStoreLoss), Assertion: s.Audience, NoAssertion: s.NoAssertion,
		Bearer: s.bearerOf(), Posted: s.app.posted,
	}
}

// build makes the gate; the app calls it in Start, when everything is open.
func (s *Site) build(run *running) error {
	g, err := gate.New(s.gateConfig(run))
	if err != nil {
		return err
	}
	s.running.Store(&siteRunning{gate: g, run: run})
	degraded.add(g)
	return nil
}

// denyWith shows the portal's page for a refusal of the gate.
func denyWith(p *portal.Portal) func(http.ResponseWriter, *http.Request, gate.Outcome) {
	return func(w http.ResponseWriter, r *http.Request, o gate.Outcome) {
		p.Refuse(w, r, portal.Refusal{Kind: string(o.Kind), Status: o.Status, Ref: o.Ref, Session: o.Session})
	}
}

// ServeHTTP hands the request to the gate, and what the gate lets pass to the next handler. When Start
// does not come, or the last request of an old config has left, it is 503.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s.app.startup.wait(r.Context())
	run := s.running.Load()
	if run == nil || !s.app.guests.enter() {
		w.Header().Set("Retry-After", "1")
		gate.WriteProblem(w, http.StatusServiceUnavailable, "unavailable", "the gate is starting", "")
		return nil
	}
	defer s.app.guests.leave()
	if strings.HasPrefix(r.URL.Path, s.app.Prefix) {
		// Sign-in answers carry codes and states in their addresses; they stand in the audit log
		// without them, and not in an access log.
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	if len(s.Bearer.From) > 0 && bearer.TokenInQuery(r.URL.RawQuery) {
		// It is refused and recorded in the audit log, but the token is as good as before.
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	}
	on := passage{next: next}
	if s.onlyPortal() {
		on.next = s.toWho()
	}
	if run.gate.Handle(w, r, &on) {
		return nil
	}
	if on.err != nil && s.server.Errors == nil && s.noAnswer(run.run, w, r, on.err) {
		return nil
	}
	return on.err
}

// noAnswer says that the application does not answer, where Caddy would send an empty page: for sites
// whose operator wrote no handle_errors. It reports whether it did; only failures of the server's
// side (5xx) are its business.
func (s *Site) noAnswer(run *running, w http.ResponseWriter, r *http.Request, cause error) bool {
	var failed caddyhttp.HandlerError
	if !errors.As(cause, &failed) || failed.StatusCode < 500 {
		return false
	}
	ref := audit.NewRef()
	s.logger.Error("the application did not answer", "ref", ref, "status", failed.StatusCode, "error", cause)
	event := audit.Event{Ref: ref, Kind: "request", Site: strings.ToLower(r.Host), Method: r.Method, Decision: "failed", Reason: "application", Client: clientAddr(r)}
	if err := run.audit.Record(r.Context(), event); err != nil {
		ref = "" // what is not in the log cannot be looked up there
	}
	w.Header().Set("Cache-Control", "no-store")
	if gate.IsAPIClient(r) {
		gate.WriteProblem(w, failed.StatusCode, "application", "The application behind this site does not answer.", ref)
	} else {
		run.portal.Refuse(w, r, portal.Refusal{Kind: "application", Status: failed.StatusCode, Ref: ref})
	}
	return true
}

// passage is the way on to the next handler, with the error that net/http's handlers cannot return.
type passage struct {
	next caddyhttp.Handler
	err  error
}

func (p *passage) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.err = p.next.ServeHTTP(w, r) }

var (
	_ caddy.Provisioner           = (*Site)(nil)
	_ caddy.Validator             = (*Site)(nil)
	_ caddyhttp.MiddlewareHandler = (*Site)(nil)
)
