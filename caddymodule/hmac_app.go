package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// hmacApp is what all hmac_service of a config share. Nobody configures it: the first handler brings it up, and Caddy then
// starts it like any app. So the directive needs no global option, and a store that cannot be opened fails the load.
type hmacApp struct {
	ctx    caddy.Context
	logger *slog.Logger
	base   *App // where store and audit log are: the config's, or the defaults

	storeRef reference[openStore]
	auditRef reference[audit.Recorder]
	store    lateStore
	audit    lateAudit
	guests   tenancy
	startup  *startup
	waiting  waiting // for the master key
	follow   sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	services  []*HMACService
	envelopes []*EnvelopeService
}

// CaddyModule returns the module's information.
func (*hmacApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom_hmac", New: func() caddy.Module { return new(hmacApp) }}
}

// Provision takes references to the same store and audit log as the anteroom app, whether or not it is configured.
func (a *hmacApp) Provision(ctx caddy.Context) error {
	a.ctx, a.logger, a.startup = ctx, ctx.Slogger(), newStartup()
	// One that is not configured comes up with the defaults: it has what operations on keys need, of which every config with
	// these services has some, and the signing keys that may lie in the same store.
	app, err := ctx.App("anteroom")
	if err != nil {
		return err
	}
	a.base = app.(*App)
	var err1, err2 error
	a.storeRef, err1 = take[openStore]("store " + a.base.storeFrom.Key(a.base.Directory))
	a.auditRef, err2 = take[audit.Recorder]("audit " + a.base.Audit)
	return errors.Join(err1, err2)
}

// add registers a service and returns the limits of its ring, which live on through reloads.
func (a *hmacApp) add(h *HMACService) (*hardening.Limits, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.services {
		if other.Ring == h.Ring && (other.Recovery != h.Recovery || other.Existing != h.Existing || other.limit() != h.limit()) {
			return nil, fmt.Errorf("the ring %q is also used by %s, with another `ring`, `recovery` or `limit` line; write the same lines in both", h.Ring, other.where())
		}
	}
	ref, err := take[*hardening.Limits]("hmac limits " + h.Ring)
	if err != nil {
		return nil, err
	}
	h.limits = ref
	a.services = append(a.services, h)
	return ref.open(func() (*hardening.Limits, func() error, error) {
		limits, err := hardening.NewLimits(h.limit().Units, h.limit().Burst, nil)
		if err == nil {
			hmacCounts.add(limits)
		}
		return limits, func() error { hmacCounts.drop(limits); return nil }, err
	})
}

// registered lists the services of the config.
func (a *hmacApp) registered() []*HMACService {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.services)
}

// sealing lists the envelope services of the config.
func (a *hmacApp) sealing() []*EnvelopeService {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.envelopes)
}

// Start opens store and audit log, looks at each ring once and follows it until the config is replaced. A store that does not
// open because the master key is away is waited for, as by the anteroom app.
func (a *hmacApp) Start() error {
	log, err := a.auditRef.open(a.base.openAudit)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	a.audit.set(log)
	openingAudit.set(log)
	err = a.begin()
	if !away(err) || !mayWait() {
		return err
	}
	a.startup.reached()
	a.waiting.begin("every hmac_service and envelope_service", err, a.logger, a.begin)
	return nil
}

func (a *hmacApp) begin() error {
	st, err := a.storeRef.open(a.base.openStore)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if err := a.base.same(a.base.Directory, st.masters.key); err != nil {
		return err
	}
	a.store.set(st)
	for _, h := range a.registered() {
		if err := h.start(); err != nil {
			return fmt.Errorf("%s: %w", h.where(), err)
		}
	}
	for _, s := range a.sealing() {
		if err := s.start(); err != nil {
			return fmt.Errorf("%s: %w", s.where(), err)
		}
	}
	warnLoops(a.ctx, "hmac_service")
	warnLoops(a.ctx, "envelope_service")
	a.startup.reached()
	return nil
}

func (h *HMACService) start() error {
	limits, err := h.limits.open(nil) // open since Provision
	if err != nil {
		return err
	}
	if err := limits.Set(h.limit().Units, h.limit().Burst); err != nil {
		return err
	}
	if h.NoRecovery {
		h.logger.Warn("no_recovery: when the TLS key of "+h.Subject+" is lost, every record of the ring is lost; make a recovery key with `anteroom keys ring recovery-key --out FILE`", "ring", h.Ring)
	}
	// At a reload with a new certificate file this is the moment at which both keys are in the cache.
	h.look(h.app.ctx)
	if keys, _ := h.keys.live(h.app.ctx); len(keys) == 0 && !h.site.serves(h.Subject) {
		h.logger.Warn("no certificate of "+h.Subject+" is there, and it is no host of this site: callers get 503 until there is one; write a host of the site as `subject`", "ring", h.Ring)
	}
	h.app.follow.Go(func() { h.followRing(h.app.ctx) })
	return nil
}

// followRing polls until the config is replaced; ctx ends then. While keys of a renewal wait, it looks every second.
func (h *HMACService) followRing(ctx context.Context) {
	h.app.follow.Go(func() { h.ring.Follow(ctx) })
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if h.keys.waiting() > 0 {
				h.look(ctx)
			}
		}
	}
}

// Stop does nothing: requests of this config may still be running. Cleanup gives things back.
func (a *hmacApp) Stop() error { return nil }

// Cleanup gives the shared resources back when the last request has left and nobody follows a ring any more.
func (a *hmacApp) Cleanup() error {
	if a.startup != nil { // nil when Provision never ran
		a.startup.reached()
	}
	a.waiting.end(func() { a.guests.close(a.releaseAll, a.retakeAll) })
	return nil
}

func (a *hmacApp) releaseAll() {
	a.follow.Wait() // the config's context has ended: they are about to leave
	problems := []error{a.auditRef.release(), a.storeRef.release()}
	for _, h := range a.registered() {
		problems = append(problems, h.limits.release())
	}
	for _, s := range a.sealing() {
		problems = append(problems, s.limits.release())
	}
	if err := errors.Join(problems...); err != nil {
		a.logger.Error("closing the store and the audit log", "error", err)
	}
}

func (a *hmacApp) retakeAll() bool {
	same := a.storeRef.again() && a.auditRef.again()
	for _, h := range a.registered() {
		same = same && h.limits.again()
	}
	for _, s := range a.sealing() {
		same = same && s.limits.again()
	}
	if !same {
		a.releaseAll()
	}
	return same
}

// httpPort is the http app's port for plain HTTP.
func (a *hmacApp) httpPort() int {
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return 0
	}
	return app.(*caddyhttp.App).HTTPPort
}

// lateStore is the store from the moment on at which it is open. Before that every call fails as if the store were away,
// and a request waits for its ring.
type lateStore struct{ p atomic.Pointer[openStore] }

func (l *lateStore) set(s openStore) { l.p.Store(&s) }

// Get implements hardening.Store.
func (l *lateStore) Get(ctx context.Context, key string) ([]byte, error) {
	if s := l.p.Load(); s != nil {
		return s.Get(ctx, key)
	}
	return nil, fmt.Errorf("not started yet: %w", store.ErrUnavailable)
}

// CompareAndSwap implements hardening.Store.
func (l *lateStore) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if s := l.p.Load(); s != nil {
		return s.CompareAndSwap(ctx, key, old, new, expires)
	}
	return fmt.Errorf("not started yet: %w", store.ErrUnavailable)
}

// lateAudit is the audit log from the moment on at which it is open. No record, no answer: before that there is none.
type lateAudit struct {
	p atomic.Pointer[audit.Recorder]
}

func (l *lateAudit) set(r audit.Recorder) { l.p.Store(&r) }

// Record implements audit.Recorder.
func (l *lateAudit) Record(ctx context.Context, e audit.Event) error {
	if r := l.p.Load(); r != nil {
		return (*r).Record(ctx, e)
	}
	return fmt.Errorf("not started yet: %w", audit.ErrUnavailable)
}

var (
	_ caddy.App          = (*hmacApp)(nil)
	_ caddy.Provisioner  = (*hmacApp)(nil)
	_ caddy.CleanerUpper = (*hmacApp)(nil)
)
