package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/portal"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const (
	// openTimeout bounds how long connecting to a store takes before the load is given up.
	openTimeout = 15 * time.Second
	// readTimeout is the same for reading the revocation feed. A million entries take half a minute where the store is far
	// or the machine busy, and a node that gave up would begin anew and never start. A store that falls silent meanwhile
	// ends it sooner: each call has its own time.
	readTimeout = 5 * time.Minute
)

// These functions open the shared resources, each once for all configs that name it. Their loggers
// outlive the config that opened them, so they hang on Caddy's default logger.

func (a *App) openStore() (openStore, func() error, error) {
	m, err := a.open(a.Directory) // before the store: a start cut short leaves a key without a store, never the reverse
	if err != nil {
		return openStore{}, nil, err
	}
	st, err := a.storeFrom.OpenStore(a.Directory, m, poolLogger("store"))
	if err != nil {
		return openStore{}, nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	begin := m.ring
	if st.late != nil { // a master that does not answer is not asked a second time
		begin = m.ringLater
	}
	apps, err := begin(ctx, a.storeFrom.Name(a.Directory), ringApps, st.keys, poolLogger("envelope"))
	if err != nil && !away(err) {
		return openStore{}, nil, errors.Join(err, st.Close())
	}
	late := st.late
	if late == nil {
		late = err
	}
	stop := follow(apps)
	return openStore{st.Store, st.envelope, apps, m, late}, func() error { stop(); return st.Close() }, nil
}

// begun reports whether the envelopes have begun, or why they have not.
func (st openStore) begun() error {
	if st.late == nil || st.envelope.Keys() != nil && st.apps.Keys() != nil {
		return nil
	}
	return st.late
}

// await starts the envelopes that could not be started with the store, because their master was away.
func (st openStore) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	if err := st.envelope.Await(ctx); err != nil {
		return err
	}
	return st.apps.Await(ctx)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (a *App) openAudit() (audit.Recorder, func() error, error) {
	if a.Audit == "off" {
		return audit.Off(), func() error { return nil }, nil
	}
	log, err := audit.Open(audit.Config{Dir: a.Audit, Logger: poolLogger("audit")})
	if err != nil {
		return nil, nil, err
	}
	return log, log.Close, nil
}

// openSessions holds a reference of its own to the store, because a manager may outlive the config
// that opened it.
func (a *App) openSessions(st openStore) (*session.Manager, func() error, error) {
	hold, err := take[openStore](a.storeRef.key)
	if err != nil {
		return nil, nil, err
	}
	m, err := session.New(session.Config{
		Store: st.Store, Sealer: st.envelope, Logger: poolLogger("session"),
		Lifetimes: a.lifetimes, Mark: a.mark(), Journal: a.journal(), Refresh: pages.reverify(a.sessionsRef.key),
	})
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		err = m.Start(ctx)
	}
	if err != nil {
		_ = hold.release() // the error that matters is the manager's
		return nil, nil, fmt.Errorf("opening sessions: %w", err)
	}
	return m, func() error { m.Close(); return hold.release() }, nil
}

func (a *App) portalConfig(st openStore, log audit.Recorder, sessions *session.Manager, w watch) portal.Config {
	sources := make([]identity.Source, len(a.sources))
	for i, s := range a.sources {
		sources[i] = s.Source()
	}
	var reserved []string
	for _, b := range a.Bearer {
		reserved = append(reserved, b.UsernamePrefix)
	}
	return portal.Config{
		Reserved: reserved, Prefix: a.Prefix, Sources: sources, Sessions: sessions, Store: st, Sealer: st.envelope,
		Audit: log, ClientAddr: clientAddr, Logger: a.logger, Home: a.Portal, HomeAlone: a.portalAlone(), Served: a.serves, Posted: a.posted,
		Contact: a.Contact, ContactOf: contactOf, Emergency: w.emergency, BreakGlass: breakGlass,
	}
}

// clientAddr is the client's address as Caddy sees it: the connection's, or what a configured
// trusted proxy says. No header is read here.
func clientAddr(r *http.Request) string {
	if ip, ok := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string); ok {
		return ip
	}
	return r.RemoteAddr
}
