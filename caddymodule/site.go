package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/anteroom-proxy/anteroom/identity/bearer"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Site is the gate in front of one site: it lets a request pass to the handlers behind it when the
// session's role allows it, and answers everything else itself.
type Site struct {
	// The policy, one entry a line; `use NAME` stands for the lines of that policy of the app. A request that no line allows
	// is refused.
	Rules []Rule `json:"rules"`
	// What the policy must decide, one entry a line (`expect doctor GET /patients/7 allow`). A config for which one does not
	// hold is refused.
	Expect []Rule `json:"expect,omitempty"`
	// How the app reads paths, where it differs: `ignore_case`, and the exceptions `encoded_slash`, `semicolon`,
	// `encoded_percent`, `trailing_dot` (docs/paths.md). Default: paths with one meaning only, compared exactly.
	Paths []string `json:"paths,omitempty"`
	// Whom people ask who are refused; on the pages. Default: that of the app.
	Contact string `json:"contact,omitempty"`
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
	// Which block of the Caddyfile this is, from 1: one that names hosts on several ports becomes several sites, whose budgets count
	// together. 0: budgets count by the hosts alone.
	Block int `json:"block,omitempty"`
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
	// The variables of the environment that stand in the line and were empty when it was read: it may say less than its author meant.
	Empty []string `json:"empty,omitempty"`
}

type siteRunning struct {
	gate *gate.Gate
	run  *running
}

// CaddyModule returns the module's information.
func (*Site) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.anteroom", New: func() caddy.Module { return new(Site) }}
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
	s.policy, _ = s.compile(s.app) // Validate says what is wrong with the policies of all sites
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return fmt.Errorf("%s: the anteroom handler works only in a route of an http server", siteAt(s))
	}
	s.server = srv
	raiseTLS(srv)
	believeLast(srv)
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
	places := gatedPlaces(s.app.http())
	s.app.gate(places)
	if err := s.app.judge(places); err != nil {
		return err
	}
	return errors.Join(s.checkGate(), s.checkBearer(), s.checkProxies(), survey(s.app, s.app.http(), s.server), surveyPortal(s.app, places))
}

// ServeHTTP hands the request to the gate, and what the gate lets pass to the next handler. When Start
// does not come, or the last request of an old config has left, it is 503.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s.app.startup.wait(r.Context())
	run := s.running.Load()
	if run == nil && s.app.waiting.reason() != nil {
		answerAway(w, r)
		return nil
	}
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
