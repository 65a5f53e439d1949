package session

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

const host = "app.example:8443"

// clock is a settable time.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func openStore(t testing.TB, dir string, now func() time.Time) store.Store {
	t.Helper()
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store", "test.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openSealer(t testing.TB, dir string) Sealer {
	t.Helper()
	keys, _ := rings.LoadOrStore(dir, new(ringStore))
	return sealerIn(t, dir, keys.(*ringStore))
}

// rings has the key ring of each folder, apart from the store: a test may replace that.
var rings sync.Map

// sealerIn opens the sealer whose ring lies in keys.
func sealerIn(t testing.TB, dir string, keys envelope.KeyStore) Sealer {
	t.Helper()
	master, err := envelope.OpenLocal(filepath.Join(dir, "master", "key"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Start(context.Background(), envelope.Config{Name: "own", Master: master, Store: keys})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// ringStore holds one key ring.
type ringStore struct {
	mu    sync.Mutex
	value []byte // nil: none
}

func (m *ringStore) Get(context.Context, string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.value == nil {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(m.value), nil
}

func (m *ringStore) CompareAndSwap(_ context.Context, _ string, old, next []byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !bytes.Equal(m.value, old) || (old == nil) != (m.value == nil) {
		return store.ErrConflict
	}
	m.value = bytes.Clone(next)
	return nil
}

// start makes a running manager; the options change its configuration.
func start(t testing.TB, s store.Store, sealer Sealer, now func() time.Time, options ...func(*Config)) *Manager {
	t.Helper()
	c := Config{Store: s, Sealer: sealer, Now: now, Logger: slog.New(slog.DiscardHandler)}
	for _, option := range options {
		option(&c)
	}
	m, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// manager is the usual one: a store and a master key of its own, a fixed clock.
func manager(t testing.TB, options ...func(*Config)) (*Manager, *clock) {
	t.Helper()
	dir, c := t.TempDir(), newClock()
	return start(t, openStore(t, dir, c.now), openSealer(t, dir), c.now, options...), c
}

func grant() Grant {
	return Grant{
		Source: "hospital", Subject: "248289761001", Username: "dana", Name: "Dana Doe",
		Email: "dana@example.org", Roles: []string{"doctor", "finance"}, Org: "ward-3",
		ACR: "urn:acr:2", AMR: []string{"pwd", "otp"}, AuthTime: time.Unix(1893553400, 0).UTC(),
	}
}

func issue(t testing.TB, m *Manager) (*Session, []*http.Cookie) {
	t.Helper()
	s, cookies, err := m.Issue(context.Background(), grant(), host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cookies) != 2 || cookies[0].Name != CookieToken || cookies[1].Name != CookieContext {
		t.Fatalf("cookies: %v", cookies)
	}
	return s, cookies
}

func line(token, context string) []string {
	return []string{CookieToken + "=" + token + "; " + CookieContext + "=" + context}
}

func lines(cookies []*http.Cookie) []string { return line(cookies[0].Value, cookies[1].Value) }

func wantNone(t *testing.T, m *Manager, cookieLines []string) {
	t.Helper()
	wantError(t, m, cookieLines, host, ErrNone)
}

func wantError(t *testing.T, m *Manager, cookieLines []string, host string, want error) {
	t.Helper()
	s, err := m.Find(cookieLines, host)
	if s != nil || !errors.Is(err, want) {
		t.Errorf("Find: session %v, error %v; want %v", s != nil, err, want)
	}
}

func wantFound(t *testing.T, m *Manager, cookieLines []string) *Session {
	t.Helper()
	s, err := m.Find(cookieLines, host)
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	return s
}

// wantStale expects a silent store, with or without a session known from before.
func wantStale(t *testing.T, m *Manager, cookieLines []string, known bool) {
	t.Helper()
	s, err := m.Find(cookieLines, host)
	if (s != nil) != known || !errors.Is(err, ErrStale) {
		t.Errorf("Find: session %v, error %v; want %v, %v", s != nil, err, known, ErrStale)
	}
}

// forge signs claims with the manager's own key and the given typ.
func forge(t testing.TB, m *Manager, typ string, claims any) string {
	t.Helper()
	k := m.ring.Load().signer(m.now())
	return forgeBy(t, k.private, k.kid, typ, claims)
}

func forgeBy(t testing.TB, key ed25519.PrivateKey, kid, typ string, claims any) string {
	t.Helper()
	token, err := jws.Sign(key, kid, typ, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// renew renews as a request does that waits for it.
func renew(m *Manager, s *Session, cookieLines []string, host string) (*http.Cookie, *Session, error) {
	return m.StartRenewal(s, cookieLines, host).Wait(context.Background())
}

// pass lets time go by in which the store was heard.
func pass(m *Manager, c *clock, d time.Duration) {
	c.add(d)
	m.follow()
}

// decodeLoosely decodes base64url if it is that.
func decodeLoosely(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }

// remarshal turns one form of claims into another.
func remarshal(t testing.TB, from, to any) {
	t.Helper()
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}
