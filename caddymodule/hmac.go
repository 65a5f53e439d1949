package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/anteroom-proxy/anteroom/loopback"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Defaults of the directive. The numbers are HMAC units a second and at once, and rounds of one original request.
const (
	defaultUnits     = 200
	defaultBurst     = 8192
	defaultMaxRounds = 100_000
)

func init() {
	caddy.RegisterModule(&HMACService{})
	caddy.RegisterModule(&hmacApp{})
	httpcaddyfile.RegisterDirective("hmac_service", parseHMAC)
	// Before tracing, and so before everything: no span, log line or handler sees a query that holds a password.
	httpcaddyfile.RegisterDirectiveOrder("hmac_service", httpcaddyfile.Before, "tracing")
}

// HMACService answers /hmac-service for applications on the same host: it hardens their passwords with a pepper that is in
// no database. Requests from any other host pass it by.
type HMACService struct {
	// Name whose TLS key wraps the ring. Default: the site's host, when it has exactly one.
	Subject string `json:"subject,omitempty"`
	// Name of the ring in the store. Default: the subject. Another name is another ring, which verifies no record of this one.
	Ring string `json:"ring,omitempty"`
	// Says that the ring is there already, or will be imported: none is made when the store has none.
	Existing bool `json:"existing,omitempty"`
	// Programs that may call. None: only the original form answers.
	Callers
	// Public half of the offline recovery key, which opens the ring when its TLS key is lost.
	Recovery string `json:"recovery,omitempty"`
	// Says that no recovery key is wanted: a lost TLS key then loses every record. Warns at every start.
	NoRecovery bool `json:"no_recovery,omitempty"`
	// Switches the original GET form on. Default: off, because it needs no credential and puts the password into the URL.
	Compat *HMACCompat `json:"compat,omitempty"`
	// Bounds the work in HMAC units for each second. Default: 200 units, 8192 at once.
	Limit *HMACLimit `json:"limit,omitempty"`
	// Where the directive stands ("Caddyfile:12"), for messages of later stages.
	At string `json:"at,omitempty"`

	logger  *slog.Logger
	app     *hmacApp
	site    enclosure
	service *hardening.Service
	ring    *hardening.Ring
	limits  reference[*hardening.Limits]
	keys    keyring
}

// HMACCompat configures the original GET form.
type HMACCompat struct {
	// Most rounds that one request may ask for, 1 to 1000000. Default: 100000, some 15 ms of one core.
	MaxRounds int `json:"max_rounds,omitempty"`
}

// HMACLimit bounds the work of one ring.
type HMACLimit struct {
	// Units that come back each second; one record or one round costs one unit. Default: 200.
	Units int `json:"units,omitempty"`
	// Units that may be spent at once after a pause. Default: 8192.
	Burst int `json:"burst,omitempty"`
}

// CaddyModule returns the module's information.
func (*HMACService) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.hmac_service", New: func() caddy.Module { return new(HMACService) }}
}

// where names the directive in messages.
func (h *HMACService) where() string {
	if h.At == "" {
		return "hmac_service"
	}
	return h.At + ": hmac_service"
}

// check is what can be said of the lines alone.
func (h *HMACService) check() error {
	switch {
	case !h.given() && h.Compat == nil:
		return fmt.Errorf("%s: nobody could call it; write %s, or `compat` for the original GET form", h.where(), callersRemedy)
	case h.Recovery != "" && h.NoRecovery:
		return fmt.Errorf("%s: `recovery` and `no_recovery` exclude each other; remove one", h.where())
	case h.Compat != nil && (h.Compat.MaxRounds < 0 || h.Compat.MaxRounds > 1_000_000):
		return fmt.Errorf("%s: max_rounds %d: write a number from 1 to 1000000", h.where(), h.Compat.MaxRounds)
	case h.Limit != nil && (h.Limit.Units < 0 || h.Limit.Burst < 0 || h.Limit.Units > 1e8 || h.Limit.Burst > 1e8):
		return fmt.Errorf("%s: limit %d burst %d: write numbers from 1 to 100000000", h.where(), h.Limit.Units, h.Limit.Burst)
	}
	return nil
}

// checkRecovery asks for a second recipient of the ring, unless a master key in a KMS is one.
func (h *HMACService) checkRecovery(kms bool) error {
	if h.Recovery != "" || h.NoRecovery || kms {
		return nil
	}
	return fmt.Errorf("%s: when the TLS key is lost, every record is lost with it; write `recovery KEY` (make one with: anteroom keys ring recovery-key --out FILE), or `no_recovery` to accept that; with the option `master awskms` neither is needed", h.where())
}

// limit is the limit with its defaults.
func (h *HMACService) limit() HMACLimit {
	l := HMACLimit{defaultUnits, defaultBurst}
	if h.Limit != nil && h.Limit.Units > 0 {
		l.Units = h.Limit.Units
	}
	if h.Limit != nil && h.Limit.Burst > 0 {
		l.Burst = h.Limit.Burst
	}
	return l
}

// Provision resolves names and files and builds the service. It opens no store: that is the app's Start.
func (h *HMACService) Provision(ctx caddy.Context) error {
	h.logger = ctx.Slogger()
	if err := h.check(); err != nil {
		return err
	}
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return fmt.Errorf("%s: it works only in a route of an http server", h.where())
	}
	raiseTLS(srv)
	srv.RegisterConnContext(rememberSocket)
	if err := h.settle(srv); err != nil {
		return err
	}
	if _, err := ctx.App("tls"); err != nil { // the key lookup panics without it
		return fmt.Errorf("%s: %w", h.where(), err)
	}
	app, err := ctx.App("anteroom_hmac")
	if err != nil {
		return fmt.Errorf("%s: %w", h.where(), err)
	}
	h.app = app.(*hmacApp)
	if err := registerHMACMetrics(ctx); err != nil {
		return fmt.Errorf("%s: %w", h.where(), err)
	}
	if err := h.checkRecovery(h.app.base.remote()); err != nil {
		return err
	}
	callers, err := h.resolve(h.where())
	if err != nil {
		return err
	}
	if err := h.build(callers); err != nil {
		return fmt.Errorf("%s: %w", h.where(), err)
	}
	return h.followRenewals(ctx)
}

// settle resolves placeholders and the names that depend on the site.
func (h *HMACService) settle(srv *caddyhttp.Server) error {
	repl := caddy.NewReplacer()
	for name, text := range map[string]*string{"subject": &h.Subject, "ring": &h.Ring, "recovery": &h.Recovery} {
		value, err := repl.ReplaceOrErr(*text, true, true)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", h.where(), name, err)
		}
		*text = strings.TrimSpace(value)
	}
	var err error
	if h.site, err = enclosing(srv); err != nil {
		return fmt.Errorf("%s: %w", h.where(), err)
	}
	if h.Subject == "" {
		if h.Subject, err = h.site.only(); err != nil {
			return fmt.Errorf("%s: %w", h.where(), err)
		}
	}
	h.Subject = strings.ToLower(h.Subject)
	if h.Ring == "" {
		h.Ring = h.Subject
	}
	return nil
}

// build makes ring and service; both wait for the store until the app starts.
func (h *HMACService) build(callers loopback.Callers) error {
	cfg := hardening.RingConfig{
		Name: h.Ring, Store: &h.app.store, Keys: h.ringKeys, NoRecovery: h.NoRecovery, Existing: h.Existing, Compat: h.Compat != nil,
		Mark:   pepperMark{h.app.base.Directory, h.app.base.storeFrom.Name(h.app.base.Directory), h.Ring},
		Logger: poolLogger("hmac_service"),
	}
	var err error
	if h.Recovery != "" {
		if cfg.Recovery, err = hardening.ParseRecoveryRecipient(h.Recovery); err != nil {
			return err
		}
	}
	if h.app.base.remote() {
		cfg.KMS = lateWrapper{&h.app.store}
	}
	h.keys.subject = h.Subject
	if h.ring, err = hardening.NewRing(cfg); err != nil {
		return err
	}
	service := hardening.Config{
		Ring: h.ring, Callers: callers, Hosts: h.site.names(h.Subject), Facts: factsOf, Audit: &h.app.audit, Alarm: tellOfGuessing,
		Logger: poolLogger("hmac_service"),
	}
	if h.Compat != nil {
		if service.MaxRounds = h.Compat.MaxRounds; service.MaxRounds == 0 {
			service.MaxRounds = defaultMaxRounds
		}
	}
	if service.Limits, err = h.app.add(h); err != nil {
		return err
	}
	h.service, err = hardening.New(service)
	return err
}

// Validate checks the way to the service: TLS 1.3 only, one service in a site, and nothing before or around it that could
// get a password or keep a caller away.
func (h *HMACService) Validate() error {
	return errors.Join(checkTLS(h.site.server, h.where(), h.app.httpPort()), h.checkSite(h.site.server, h.site.names(h.Subject), h.where()), h.site.check(h.where(), "passwords"))
}

// ServeHTTP answers what is the service's and passes on the rest. It returns no error of its own: Caddy would log it with
// the request's address, and that may hold a password. What it passes on is logged like any request: a path that begins
// like ours must not be a stranger's way past the access log.
func (h *HMACService) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !hardening.Owns(r.URL.Path) {
		return h.behind(w, r, next)
	}
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	h.app.startup.wait(r.Context())
	if !h.app.guests.enter() {
		w.Header().Set("Retry-After", "1") // this config is gone, the next one answers
		w.WriteHeader(http.StatusServiceUnavailable)
		return nil
	}
	defer h.app.guests.leave()
	rest := passedOn{service: h, next: next}
	h.service.Handle(w, r, &rest)
	return rest.err
}

// passedOn is what a request meets that is not the service's.
type passedOn struct {
	service *HMACService
	next    caddyhttp.Handler
	err     error
}

func (p *passedOn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, nil)
	p.err = p.service.behind(w, r, p.next)
}

// behind is the rest of the site. A site with nothing else in it answers 404: Caddy's own end of the chain is an empty 200,
// which a caller could take for success.
func (h *HMACService) behind(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.site.alone {
		http.NotFound(w, r)
		return nil
	}
	return next.ServeHTTP(w, r)
}

var (
	_ caddy.Provisioner           = (*HMACService)(nil)
	_ caddy.Validator             = (*HMACService)(nil)
	_ caddyhttp.MiddlewareHandler = (*HMACService)(nil)
)
