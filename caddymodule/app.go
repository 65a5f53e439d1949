package caddymodule

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// App holds what all gated sites of a config share: the ways to sign in, the store, the audit log and
// the lifetimes of sessions. The Caddyfile's global option `anteroom` makes it.
type App struct {
	// The ways to sign in, in the order in which the sign-in page offers them. A site with the
	// `anteroom` directive needs at least one.
	IdentityRaw []json.RawMessage `json:"identity,omitempty" caddy:"namespace=anteroom.identity inline_key=source"`
	// Authorization servers whose access tokens sites may accept.
	Bearer []*BearerIssuer `json:"bearer,omitempty"`
	// Where sessions, revocations and rings are kept. Default: the embedded store in Directory.
	StoreRaw json.RawMessage `json:"store,omitempty" caddy:"namespace=anteroom.store inline_key=module"`
	masterSite
	// Folder of the embedded store, the master key and the audit log. Default: "anteroom" under
	// Caddy's data directory. Made with mode 0700.
	Directory string `json:"directory,omitempty"`
	// Folder of the audit log, or "off" for none, which warns at every start. Default: "audit" in Directory.
	Audit string `json:"audit,omitempty"`
	// How long sessions last and how many a person may have: for everybody, and for roles. Default: 15m without a
	// request, 12h in all, any number.
	Session []SessionRule `json:"session,omitempty"`
	// Sets of policy lines that sites take over with `use NAME`.
	Policies []*Policy `json:"policies,omitempty"`
	// Names for networks, for the policies: addresses and CIDR ranges.
	Networks map[string][]string `json:"networks,omitempty"`
	// Whom people ask who are refused; on the pages. Default: nobody in particular.
	Contact string `json:"contact,omitempty"`
	// Where alarms go: emergency access, view budgets. Default: the log alone.
	Alarm *Alarm `json:"alarm,omitempty"`
	// The one site that talks to identity providers, as browsers write it: a host, with a port when it is not 443. The
	// other sites send people there to sign in. Default: each site signs in by itself.
	Portal string `json:"portal,omitempty"`
	// Path prefix of our own pages, with a slash at both ends. Default: "/.anteroom/".
	Prefix string `json:"prefix,omitempty"`

	ctx       caddy.Context
	logger    *slog.Logger
	sources   []Guest
	storeFrom StoreOpener
	lifetimes session.Lifetimes

	storeRef    reference[openStore]
	auditRef    reference[audit.Recorder]
	alarmRef    reference[*alarm.Alarm]
	sessionsRef reference[*session.Manager]

	mu      sync.Mutex // guards the fields below
	sites   []*Site
	hosts   []string          // of the gated sites
	counted map[string]string // of each host: under which name budgets count
	running *running
	guests  tenancy
	startup *startup
	waiting waiting // for the master key

	judged    sync.Once // guards judgement, what is wrong with the policies of all sites
	judgement error
}

// Guest is a module of the namespace anteroom.identity: one way to sign in.
type Guest interface {
	// Source is the way to sign in, after Provision.
	Source() identity.Source
	// Prefixed reports the prefix of its usernames, "" for none.
	Prefixed() string
	// RoleNames, GroupNames and ClaimNames are the roles, groups and claims that it can give.
	RoleNames() []string
	GroupNames() []string
	ClaimNames() []string
}

// StoreOpener is a guest module of the namespace anteroom.store.
type StoreOpener interface {
	// Key names the resource (a path, a server), for the pool.
	Key(dir string) string
	// Name names the data in it, the same at every start, for the mark.
	Name(dir string) string
	// OpenStore opens it; called in Start, never while a config is only validated.
	OpenStore(dir string, m masters, logger *slog.Logger) (sealedStore, error)
}

// openStore is the store, the envelope that seals what lies in it, and the one of applications.
type openStore struct {
	store.Store
	envelope *envelope.Envelope
	apps     *envelope.Envelope
	masters  masters
	late     error // why the envelopes had not begun when the store was opened; nil: they had
}

// running is what exists between Start and Cleanup.
type running struct {
	store    openStore
	audit    audit.Recorder
	sessions *session.Manager
	portal   *portal.Portal
	keys     keyDesk
	watch
}

// CaddyModule returns the module's information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom", New: func() caddy.Module { return new(App) }}
}

// Provision sets defaults, loads the guests and takes references to shared resources. It opens
// nothing.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger, a.startup = ctx, ctx.Slogger(), newStartup()
	if err := a.complete(); err != nil {
		return err
	}
	if a.Directory == "" {
		a.Directory = filepath.Join(caddy.AppDataDir(), "anteroom")
	}
	a.Directory = filepath.Clean(a.Directory)
	if a.Audit == "" {
		a.Audit = filepath.Join(a.Directory, "audit")
	}
	if a.Prefix == "" {
		a.Prefix = "/.anteroom/"
	}
	if a.IdentityRaw != nil {
		guests, err := ctx.LoadModule(a, "IdentityRaw")
		if err != nil {
			return fmt.Errorf("loading the ways to sign in: %w", err)
		}
		for _, g := range guests.([]any) {
			a.sources = append(a.sources, g.(Guest))
		}
	}
	for _, b := range a.Bearer {
		if err := b.provision(ctx); err != nil {
			return err
		}
	}
	a.storeFrom = &Bolt{}
	if a.StoreRaw != nil {
		guest, err := ctx.LoadModule(a, "StoreRaw")
		if err != nil {
			return fmt.Errorf("loading the store: %w", err)
		}
		a.storeFrom = guest.(StoreOpener)
	}
	if err := a.provisionMaster(ctx); err != nil {
		return err
	}
	var err error
	if a.lifetimes, err = lifetimes(a.Session); err != nil {
		return err
	}
	if a.Alarm != nil {
		if err := a.Alarm.provision(a.logger); err != nil {
			return err
		}
	}
	return errors.Join(registerMetrics(ctx), registerEnvelopeMetrics(ctx), a.takeReferences())
}

func (a *App) takeReferences() error {
	key := a.storeFrom.Key(a.Directory)
	lives, err := json.Marshal(a.lifetimes)
	if err != nil {
		return fmt.Errorf("naming the lifetimes: %w", err)
	}
	var err1, err2, err3, err4 error
	a.storeRef, err1 = take[openStore]("store " + key)
	a.auditRef, err2 = take[audit.Recorder]("audit " + a.Audit)
	a.sessionsRef, err3 = take[*session.Manager](fmt.Sprintf("sessions %s %s", key, lives))
	a.alarmRef, err4 = take[*alarm.Alarm](a.alarmKey())
	return errors.Join(err1, err2, err3, err4)
}

// Validate checks what needs no other app.
func (a *App) Validate() error {
	return errors.Join(checkSources(a.sources), checkBroken(a.sources), a.checkBearers(), checkPrefix(a.Prefix), a.checkPortal(), a.checkPolicies(), a.checkAlarm())
}

// checkSources refuses two sources of one name, and usernames that two sources could give to
// different people: the app behind would show one the other's record.
func checkSources(guests []Guest) error {
	var problems []error
	names, prefixes := map[string]bool{}, map[string]string{}
	for _, g := range guests {
		name, prefix := g.Source().Name(), strings.ToLower(g.Prefixed()) // `Lab:` and `lab:` look alike to people and to some apps
		if names[name] {
			problems = append(problems, fmt.Errorf("two ways to sign in are called %q; the name is part of the callback address, choose another for one of them", name))
		}
		names[name] = true
		switch other, taken := prefixes[prefix]; {
		case taken && prefix == "":
			problems = append(problems, fmt.Errorf("%q and %q could give the same username to two people; with several ways to sign in all but one need a `username_prefix`: add for example `username_prefix %s:` to %q", other, name, name, name))
		case taken:
			problems = append(problems, fmt.Errorf("%q and %q have the same `username_prefix`; give each its own", other, name))
		}
		prefixes[prefix] = name
	}
	return errors.Join(problems...)
}

func checkPrefix(prefix string) error {
	inner := strings.Trim(prefix, "/")
	if prefix != "/"+inner+"/" || inner == "" || strings.Trim(inner, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" || strings.Trim(inner, ".") == "" {
		return fmt.Errorf("prefix %q: write one path segment of letters, digits, `.`, `_`, `-` with a slash at both ends, for example /.anteroom/", prefix)
	}
	return nil
}

// Start opens the store, the audit log and the sessions, and builds each site's gate. A failure rolls
// the whole load back: at start nothing serves, at a reload the old config stays. A master key that is away is
// waited for in the background, unless something that works would be replaced.
func (a *App) Start() error {
	if a.Audit == "off" {
		a.logger.Warn("the audit log is off: nobody will be able to tell who read what; remove `audit off` to keep one")
	}
	err := a.begin(openStore.begun) // which has just been tried
	if !away(err) || !mayWait() {
		return err
	}
	a.startup.reached() // nobody waits for what may take hours
	a.waiting.begin("every site with `anteroom`", err, a.logger, func() error { return a.begin(openStore.await) })
	return nil
}

func (a *App) begin(sealed func(openStore) error) error {
	st, err := a.storeRef.open(a.openStore)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	if err := a.same(a.Directory, st.masters.key); err != nil {
		return err
	}
	log, err := a.auditRef.open(a.openAudit)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	openingAudit.set(log)
	if err := sealed(st); err != nil {
		return err
	}
	if err := a.mendKeys(st, log); err != nil {
		return err
	}
	sessions, err := a.sessionsRef.open(func() (*session.Manager, func() error, error) { return a.openSessions(st) })
	if err != nil {
		return fmt.Errorf("starting sessions: %w", err)
	}
	w, err := a.openWatch(st, log)
	if err != nil {
		return err
	}
	ownPages, err := portal.New(a.portalConfig(st, log, sessions, w))
	if err != nil {
		w.stop()
		return fmt.Errorf("preparing the sign-in pages: %w", err)
	}
	a.equip(st)
	run := &running{store: st, audit: log, sessions: sessions, portal: ownPages, watch: w}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, site := range a.sites {
		if err := site.build(run); err != nil {
			w.stop()
			return fmt.Errorf("%s: %w", siteAt(site), err)
		}
	}
	if run.keys, err = a.openKeyDesk(st, log, sessions); err != nil {
		w.stop()
		return err
	}
	a.running = run
	pages.add(a.sessionsRef.key, a, ownPages)
	a.startup.reached()
	return nil
}

// equip gives the ways to sign in and the token issuers what they need of the store: keys that all nodes share, and the memory
// of what was used.
func (a *App) equip(st openStore) {
	for _, g := range a.sources {
		if s, ok := g.Source().(interface{ Use(oidc.Resources) }); ok {
			s.Use(oidc.Resources{Store: st.Store, Sealer: st.envelope})
		}
	}
	for _, b := range a.Bearer {
		if b.issuer != nil {
			b.issuer.Use(st.Store)
		}
	}
}

// Stop does nothing: requests of this config may still be running. Cleanup gives things back.
func (a *App) Stop() error { return nil }

// Cleanup gives the shared resources back when the last request of this config has left.
func (a *App) Cleanup() error {
	if a.startup != nil { // nil when Provision never ran
		a.startup.reached()
	}
	a.waiting.end(func() { a.guests.close(a.releaseAll, a.retakeAll) })
	return nil
}

func (a *App) releaseAll() {
	degraded.dropAll(a)
	pages.drop(a)
	if run := a.live(); run != nil {
		run.stop() // before the store is closed
		run.keys.stop()
	}
	if err := errors.Join(a.sessionsRef.release(), a.alarmRef.release(), a.auditRef.release(), a.storeRef.release()); err != nil {
		a.logger.Error("closing the store and the audit log", "error", err)
	}
}

// retakeAll takes everything once more for a late request of this config. Reviews are swept by the config that keeps it open.
func (a *App) retakeAll() bool {
	if a.storeRef.again() && a.auditRef.again() && a.sessionsRef.again() && a.alarmRef.again() {
		return true
	}
	a.releaseAll()
	return false
}

// addSite is called by each site while it is provisioned; the site's gate is built in Start.
func (a *App) addSite(s *Site) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sites = append(a.sites, s)
}

// live returns what runs, nil before Start.
func (a *App) live() *running {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

// http is the http app: while a handler is provisioned it exists, at least half-built.
func (a *App) http() *caddyhttp.App {
	app, err := a.ctx.AppIfConfigured("http")
	if err != nil {
		return new(caddyhttp.App)
	}
	return app.(*caddyhttp.App)
}

// posted reports whether a way to sign in has its answers posted by its provider's page.
func (a *App) posted(source string) bool {
	for _, g := range a.sources {
		if f, ok := g.(interface{ FormPost() bool }); ok && g.Source().Name() == source {
			return f.FormPost()
		}
	}
	return false
}
