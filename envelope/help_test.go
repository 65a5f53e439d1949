package envelope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// local returns a master under a key that is always the same.
func local(t testing.TB, first byte) *Local {
	t.Helper()
	l, err := newLocal(&secret{first, 1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// open starts an envelope; the options change its configuration.
func open(t testing.TB, keys KeyStore, name string, m Master, options ...func(*Config)) *Envelope {
	t.Helper()
	cfg := Config{Name: name, Master: m, Store: keys}
	for _, option := range options {
		option(&cfg)
	}
	e, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fixed is an envelope with a ring of its own under a local master.
func fixed(t testing.TB, first byte) *Envelope {
	t.Helper()
	return open(t, new(memory), "own", local(t, first))
}

// opens says that a value opens to what was sealed.
func opens(t testing.TB, e *Envelope, sealed []byte, want string) {
	t.Helper()
	if got, err := e.Open(t.Context(), testLabel, sealed); err != nil || string(got) != want {
		t.Errorf("opened to %q, %v; want %q", got, err, want)
	}
}

// refused says that err is what was expected.
func refused(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v; want %v", what, err, want)
	}
}

// primary is the key that seals.
func primary(t testing.TB, e *Envelope) KeyInfo {
	t.Helper()
	for _, k := range e.Keys() {
		if k.State == StatePrimary {
			return k
		}
	}
	t.Fatal("no primary")
	return KeyInfo{}
}

// state is the state of a key, "" when it is not there.
func state(e *Envelope, id string) string {
	for _, k := range e.Keys() {
		if k.ID == id {
			return k.State
		}
	}
	return ""
}

// memory is a KeyStore. before and after run around each call, without the lock; an error
// of before keeps the call from happening, one of after is the answer although it happened.
type memory struct {
	mu            sync.Mutex // guards values
	values        map[string][]byte
	before, after func(call string) error
}

func (m *memory) around(call string, do func() error) error {
	if m.before != nil {
		if err := m.before(call); err != nil {
			return err
		}
	}
	m.mu.Lock()
	err := do()
	m.mu.Unlock()
	if m.after != nil {
		err = errors.Join(err, m.after(call))
	}
	return err
}

func (m *memory) Get(_ context.Context, key string) (value []byte, err error) {
	err = m.around("get", func() error {
		v, ok := m.values[key]
		if !ok {
			return store.ErrNotFound
		}
		value = bytes.Clone(v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return value, nil
}

func (m *memory) CompareAndSwap(_ context.Context, key string, old, next []byte, _ time.Time) error {
	return m.around("swap", func() error {
		v, ok := m.values[key]
		if ok != (old != nil) || !bytes.Equal(v, old) {
			return store.ErrConflict
		}
		if m.values == nil {
			m.values = map[string][]byte{}
		}
		m.values[key] = bytes.Clone(next)
		return nil
	})
}

// snapshot and restore are a backup of the store.
func (m *memory) snapshot() map[string][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.values)
}

func (m *memory) restore(values map[string][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values = maps.Clone(values)
}

// ticker is a settable time.
type ticker struct {
	mu sync.Mutex
	t  time.Time
}

func newTicker() *ticker { return &ticker{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *ticker) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *ticker) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// at gives an envelope the clock.
func (c *ticker) at(cfg *Config) { cfg.Now = c.now }

// far is a master in another machine, which can be away and can lie. It wraps with a Local.
type far struct {
	*Local
	mu    sync.Mutex
	err   error // its answer to everything
	lie   func(plain []byte) []byte
	calls map[string]int
}

func newFar(t testing.TB, first byte) *far {
	return &far{Local: local(t, first), calls: map[string]int{}}
}

func (f *far) ID() string { return fmt.Sprintf("awskms:test/%x", f.Local.id) }

func (f *far) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *far) called(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[what]
}

func (f *far) call(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[what]++
	return f.err
}

func (f *far) Generate(ctx context.Context, about map[string]string) (plain, wrapped []byte, err error) {
	if err := f.call("generate"); err != nil {
		return nil, nil, err
	}
	plain, wrapped, err = f.Local.Generate(ctx, about)
	if f.lie != nil {
		plain = f.lie(plain)
	}
	return plain, wrapped, err
}

func (f *far) Wrap(ctx context.Context, plain []byte, about map[string]string) ([]byte, error) {
	if err := f.call("wrap"); err != nil {
		return nil, err
	}
	return f.Local.Wrap(ctx, plain, about)
}

func (f *far) Unwrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	if err := f.call("unwrap"); err != nil {
		return nil, err
	}
	plain, err := f.Local.Unwrap(ctx, wrapped, about)
	if f.lie != nil && err == nil {
		plain = f.lie(plain)
	}
	return plain, err
}

func (f *far) Rewrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	if err := f.call("rewrap"); err != nil {
		return nil, err
	}
	return f.Local.Rewrap(ctx, wrapped, about)
}
