package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/loopback"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(&EnvelopeService{})
	httpcaddyfile.RegisterDirective("envelope_service", parseEnvelope)
	// As hmac_service: before everything, so that no span, log line or handler sees a record's id.
	httpcaddyfile.RegisterDirectiveOrder("envelope_service", httpcaddyfile.Before, "tracing")
}

// EnvelopeService answers /envelope-service for applications on the same host: it seals what they store, values and files,
// under data keys that the master key wraps. Requests from any other host pass it by.
type EnvelopeService struct {
	// Programs that may call. One is required.
	Callers
	// Name that is part of everything sealed here: what one tenant's service sealed no other one's opens. It cannot be
	// changed later. Default: the site's host, when it has exactly one.
	Tenant string `json:"tenant,omitempty"`
	// Bounds how much may be sealed and opened. Default: no bound.
	Limit *EnvelopeLimit `json:"limit,omitempty"`
	// Where the directive stands ("Caddyfile:12"), for messages of later stages.
	At string `json:"at,omitempty"`

	app     *hmacApp
	site    enclosure
	service *envelope.Service
	limits  reference[*envelope.Limits]
}

// CaddyModule returns the module's information.
func (*EnvelopeService) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.envelope_service", New: func() caddy.Module { return new(EnvelopeService) }}
}

// parseEnvelope reads the site directive:
//
//	envelope_service {
//		token_file PATH            # the callers' credential; or one of the next two, which may stand several times
//		peer uid NAME              # or gid: processes at the other end of a Unix socket
//		client_certificate FILE
//		tenant NAME                # default: the site's host
//		limit 64MiB burst 256MiB   # bytes per second, of values and as much of streams; default: no limit
//	}
func parseEnvelope(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // "envelope_service"
	warnAdmin(h)
	s := &EnvelopeService{At: at(h.Dispenser)}
	if h.NextArg() {
		return nil, h.Errf("`envelope_service` takes a block and no matcher, not %q: its path is always %s", h.Val(), envelope.ServicePath)
	}
	for nesting := h.Nesting(); h.NextBlock(nesting); {
		handled, err := s.unmarshalLine(h.Dispenser)
		switch {
		case err != nil:
			return nil, err
		case handled:
		case h.Val() == "tenant" && s.Tenant != "", h.Val() == "limit" && s.Limit != nil:
			return nil, h.Errf("%q stands twice", h.Val())
		case h.Val() == "tenant":
			if err := oneArg(h.Dispenser, &s.Tenant); err != nil {
				return nil, err
			}
		case h.Val() == "limit":
			if err := s.limitLine(h.Dispenser); err != nil {
				return nil, err
			}
		default:
			return nil, h.Errf("unrecognized line %q; want one of "+callerWords+", tenant, limit", h.Val())
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, s), nil
}

// where names the directive in messages.
func (s *EnvelopeService) where() string {
	if s.At == "" {
		return "envelope_service"
	}
	return s.At + ": envelope_service"
}

// check is what can be said of the lines alone.
func (s *EnvelopeService) check() error {
	if !s.given() {
		return fmt.Errorf("%s: nobody could call it; write %s", s.where(), callersRemedy)
	}
	if err := s.Limit.check(); err != nil {
		return fmt.Errorf("%s: %w", s.where(), err)
	}
	return nil
}

// Provision resolves names and files and builds the service. The store and its keys are opened when the app starts.
func (s *EnvelopeService) Provision(ctx caddy.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return fmt.Errorf("%s: it works only in a route of an http server", s.where())
	}
	raiseTLS(srv)
	srv.RegisterConnContext(rememberSocket)
	if err := s.settle(srv); err != nil {
		return fmt.Errorf("%s: %w", s.where(), err)
	}
	app, err := ctx.App("anteroom_hmac") // which opens store and audit log for all services
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(), err)
	}
	s.app = app.(*hmacApp)
	if err := registerEnvelopeMetrics(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.where(), err)
	}
	callers, err := s.resolve(s.where())
	if err != nil {
		return err
	}
	limits, err := s.app.addEnvelope(s)
	if err != nil {
		return err
	}
	s.service, err = envelope.NewService(envelope.ServiceConfig{
		Vault: lateVault{&s.app.store}, Ring: ringApps, Limits: limits, Tenant: s.Tenant, Hosts: s.site.hosts, Facts: factsOf, Callers: callers,
		Audit: &s.app.audit, Logger: poolLogger("envelope_service"),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(), err)
	}
	return nil
}

// settle resolves the names that depend on the site.
func (s *EnvelopeService) settle(srv *caddyhttp.Server) (err error) {
	if s.Tenant, err = caddy.NewReplacer().ReplaceOrErr(s.Tenant, true, true); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if s.site, err = enclosingOf(srv, "envelope_service"); err != nil {
		return err
	}
	s.Tenant = strings.TrimSpace(s.Tenant)
	switch {
	case len(s.site.hosts) == 0:
		return errors.New("the site has no host name by which callers could be told from a browser that was led here; write the site's address with one, for example https://localhost:8444")
	case s.Tenant == "" && len(s.site.hosts) > 1:
		return fmt.Errorf("the site has several hosts (%s); write `tenant NAME` to say under which name things are sealed", strings.Join(s.site.hosts, ", "))
	case s.Tenant == "":
		s.Tenant = s.site.hosts[0]
	}
	return nil
}

// Validate checks the way to the service, as hmac_service does.
func (s *EnvelopeService) Validate() error {
	return errors.Join(checkTLS(s.site.server, s.where(), s.app.httpPort()), s.checkSite(s.site.server, s.site.hosts, s.where()), s.site.check(s.where(), "clear documents"))
}

// ServeHTTP answers what is the service's and passes on the rest. The access log leaves out what is the service's: an address
// there holds a record's id.
func (s *EnvelopeService) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !loopback.Owns(envelope.ServicePath, r.URL.Path) {
		return s.behind(w, r, next)
	}
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	s.app.startup.wait(r.Context())
	if !s.app.guests.enter() {
		w.Header().Set("Retry-After", "1") // this config is gone, the next one answers
		w.WriteHeader(http.StatusServiceUnavailable)
		return nil
	}
	defer s.app.guests.leave() // also when a stream is broken off
	var err error
	s.service.Handle(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, nil)
		err = s.behind(w, r, next)
	}))
	return err
}

// behind is the rest of the site. A site with nothing else in it answers 404: Caddy's own end of the chain is an empty 200,
// which a caller could take for success.
func (s *EnvelopeService) behind(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if s.site.alone {
		http.NotFound(w, r)
		return nil
	}
	return next.ServeHTTP(w, r)
}

// lateVault is what applications have sealed with, from the moment on at which it is open.
type lateVault struct{ store *lateStore }

func (v lateVault) open() (*envelope.Envelope, error) {
	if s := v.store.p.Load(); s != nil && s.apps != nil {
		return s.apps, nil
	}
	return nil, fmt.Errorf("not started yet: %w", envelope.ErrUnavailable)
}

func (v lateVault) Seal(ctx context.Context, label string, plain []byte) ([]byte, error) {
	e, err := v.open()
	if err != nil {
		return nil, err
	}
	return e.Seal(ctx, label, plain)
}

func (v lateVault) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	e, err := v.open()
	if err != nil {
		return nil, err
	}
	return e.Open(ctx, label, sealed)
}

func (v lateVault) Reseal(ctx context.Context, label string, sealed []byte) ([]byte, bool, error) {
	e, err := v.open()
	if err != nil {
		return nil, false, err
	}
	return e.Reseal(ctx, label, sealed)
}

func (v lateVault) Keys() []envelope.KeyInfo {
	e, err := v.open()
	if err != nil {
		return nil
	}
	return e.Keys()
}

var (
	_ caddy.Provisioner           = (*EnvelopeService)(nil)
	_ caddy.Validator             = (*EnvelopeService)(nil)
	_ caddyhttp.MiddlewareHandler = (*EnvelopeService)(nil)
	_ envelope.Vault              = lateVault{}
)
