package session

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// proxy stands between a node and the store: it can be cut off, be moved to another
// store, and look at each call first.
type proxy struct {
	to   atomic.Pointer[store.Store]
	dead atomic.Bool
	look atomic.Pointer[func(ctx context.Context, op, key string) error]
}

func newProxy(s store.Store) *proxy {
	p := &proxy{}
	p.to.Store(&s)
	return p
}

// hook sets what looks at each call; nil: nothing.
func (p *proxy) hook(f func(ctx context.Context, op, key string) error) {
	if f == nil {
		p.look.Store(nil)
		return
	}
	p.look.Store(&f)
}

func (p *proxy) ask(ctx context.Context, op, key string) (store.Store, error) {
	if p.dead.Load() {
		return nil, store.ErrUnavailable
	}
	if f := p.look.Load(); f != nil {
		if err := (*f)(ctx, op, key); err != nil {
			return nil, err
		}
	}
	return *p.to.Load(), nil
}

func (p *proxy) Get(ctx context.Context, key string) ([]byte, error) {
	s, err := p.ask(ctx, "get", key)
	if err != nil {
		return nil, err
	}
	return s.Get(ctx, key)
}

func (p *proxy) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	s, err := p.ask(ctx, "put", key)
	if err != nil {
		return err
	}
	return s.Put(ctx, key, value, expires)
}

func (p *proxy) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	s, err := p.ask(ctx, "swap", key)
	if err != nil {
		return err
	}
	return s.CompareAndSwap(ctx, key, old, new, expires)
}

func (p *proxy) Take(ctx context.Context, key string) ([]byte, error) {
	s, err := p.ask(ctx, "take", key)
	if err != nil {
		return nil, err
	}
	return s.Take(ctx, key)
}

func (p *proxy) Delete(ctx context.Context, key string) error {
	s, err := p.ask(ctx, "delete", key)
	if err != nil {
		return err
	}
	return s.Delete(ctx, key)
}

func (p *proxy) List(ctx context.Context, prefix string) ([]store.Item, error) {
	s, err := p.ask(ctx, "list", prefix)
	if err != nil {
		return nil, err
	}
	return s.List(ctx, prefix)
}

func (p *proxy) Scan(ctx context.Context, prefix, cursor string, limit int) ([]store.Item, string, error) {
	s, err := p.ask(ctx, "scan", prefix)
	if err != nil {
		return nil, "", err
	}
	return s.Scan(ctx, prefix, cursor, limit)
}

func (p *proxy) Rewrite(ctx context.Context, key string, old, new []byte) error {
	s, err := p.ask(ctx, "rewrite", key)
	if err != nil {
		return err
	}
	return s.Rewrite(ctx, key, old, new)
}

func (p *proxy) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	s, err := p.ask(ctx, "append", string(value))
	if err != nil {
		return "", err
	}
	return s.Append(ctx, value, expires)
}

func (p *proxy) After(ctx context.Context, cursor string, limit int) ([]store.Entry, error) {
	s, err := p.ask(ctx, "after", cursor)
	if err != nil {
		return nil, err
	}
	return s.After(ctx, cursor, limit)
}

func (p *proxy) Wait(ctx context.Context, cursor string) error {
	s, err := p.ask(ctx, "wait", cursor)
	if err != nil {
		return err
	}
	return s.Wait(ctx, cursor)
}

func (p *proxy) Close() error { return nil }

// shared is several nodes on one store, each behind a proxy of its own.
type shared struct {
	store   store.Store
	sealer  Sealer
	clock   *clock
	nodes   []*Manager
	proxies []*proxy
}

func newShared(t testing.TB, n int, options ...func(*Config)) *shared {
	t.Helper()
	dir, c := t.TempDir(), newClock()
	w := &shared{store: openStore(t, dir, c.now), sealer: openSealer(t, dir), clock: c}
	for range n {
		p := newProxy(w.store)
		w.proxies = append(w.proxies, p)
		w.nodes = append(w.nodes, start(t, p, w.sealer, c.now, options...))
	}
	return w
}

// pass lets time go by in which every node hears the store.
func (w *shared) pass(d time.Duration) {
	w.clock.add(d)
	for _, m := range w.nodes {
		m.follow()
	}
}

func (w *shared) follow() { w.pass(0) }

// limited sets the limit of everybody.
func limited(n int, on OnLimit) func(*Config) {
	return func(c *Config) { c.Lifetimes.Default.Sessions, c.Lifetimes.Default.OnLimit = n, on }
}

// eventually asks until something that another goroutine does is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		<-time.After(time.Millisecond)
	}
}
