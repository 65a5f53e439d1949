package hardening

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/loopback"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 3, 9, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// faults is a real store whose calls can go wrong in both ways: lost, and done but reported lost.
type faults struct {
	store.Store
	mu         sync.Mutex // guards what follows
	get, cas   error      // returned without doing anything
	lose       bool       // compare-and-set says yes and does nothing
	misreport  error      // compare-and-set does it and says this
	beforeCAS  func()
	getAfter   error // Get fails once a write was tried
	triedWrite bool
}

func (f *faults) Get(ctx context.Context, key string) ([]byte, error) {
	f.mu.Lock()
	err := f.get
	if f.triedWrite && err == nil {
		err = f.getAfter
	}
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, key)
}

func (f *faults) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.triedWrite = true
	if f.beforeCAS != nil {
		f.beforeCAS()
	}
	if f.cas != nil {
		return f.cas
	}
	if f.lose {
		return nil
	}
	err := f.Store.CompareAndSwap(ctx, key, old, new, expires)
	if f.misreport != nil {
		return f.misreport
	}
	return err
}

func openBolt(t testing.TB) *faults { return openBoltAt(t, nil) }

func openBoltAt(t testing.TB, now func() time.Time) *faults {
	t.Helper()
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(t.TempDir(), "store", "db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &faults{Store: s}
}

// testKey is a TLS key of its own with a certificate that ends in a day.
func testKey(t testing.TB, c *clock) TLSKey {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewTLSKey(priv, c.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fileKey reads a key of testdata; all are published test keys of RFC 9500 and RFC 8410.
func fileKey(t *testing.T, name string) crypto.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// node is one process with a ring: live can be changed as a certificate is renewed.
type node struct {
	*Ring
	mu   sync.Mutex
	live []TLSKey
	err  error
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (n *node) serve(keys ...TLSKey) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.live = keys
}

func newNode(t testing.TB, st Store, c *clock, change func(*RingConfig), live ...TLSKey) *node {
	t.Helper()
	n := &node{live: live, log: new(lockedBuffer)}
	cfg := RingConfig{Name: "passwords", Store: st, NoRecovery: true, Now: c.Now,
		Logger: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Keys: func(context.Context) ([]TLSKey, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.live, n.err
		}}
	if change != nil {
		change(&cfg)
	}
	var err error
	if n.Ring, err = NewRing(cfg); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) mustSync(t testing.TB, next ...TLSKey) *openRing {
	t.Helper()
	if err := n.Sync(t.Context(), next...); err != nil {
		t.Fatal(err)
	}
	return n.held()
}

func stored(t *testing.T, st Store) []byte {
	t.Helper()
	raw, err := st.Get(t.Context(), labelStore+"/passwords")
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// events is an audit log that tests read, or that fails.
type events struct {
	mu   sync.Mutex
	list []audit.Event
	err  error
}

func (e *events) Record(_ context.Context, ev audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.list = append(e.list, ev)
	return nil
}

func (e *events) last() audit.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.list) == 0 {
		return audit.Event{}
	}
	return e.list[len(e.list)-1]
}

const testToken = "0123456789abcdef0123456789abcdef-not-a-secret"

func writeToken(t testing.TB, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// world is a service with everything around it.
type world struct {
	*Service
	node   *node
	clock  *clock
	events *events
	facts  loopback.Facts
	log    *lockedBuffer
}

// goodFacts is a local program that does everything right.
func goodFacts() loopback.Facts {
	lo := netip.MustParseAddr("127.0.0.1")
	return loopback.Facts{KernelRemote: lo, KernelLocal: lo, Remote: lo, Client: lo, ProtoMajor: 1, ProtoMinor: 1,
		TLSVersion: tls.VersionTLS13, HandshakeComplete: true, SNI: "localhost", Host: "localhost:8444", Header: http.Header{}}
}

func newWorld(t testing.TB, change func(*Config)) *world {
	t.Helper()
	c := newClock()
	w := &world{clock: c, events: new(events), facts: goodFacts(), log: new(lockedBuffer)}
	w.node = newNode(t, openBoltAt(t, c.Now), c, func(r *RingConfig) { r.Compat = true }, testKey(t, c))
	w.node.mustSync(t)
	limits, err := NewLimits(200, 8192, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := loopback.OpenTokenFile(writeToken(t, testToken+"\n", 0o640))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Ring: w.node.Ring, Limits: limits, Callers: loopback.Callers{Token: token}, MaxRounds: 100000, Hosts: []string{"localhost"}, Audit: w.events, Now: c.Now,
		Logger: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Facts: func(r *http.Request) loopback.Facts {
			f := w.facts
			f.Header = r.Header
			return f
		}}
	if change != nil {
		change(&cfg)
	}
	if w.Service, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// do sends one request through Handle; 299 is the answer of what stands behind the service.
func (w *world) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.Handle(rec, r, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(299) }))
	return rec
}

// post is do with the credential.
func (w *world) post(endpoint, body string) *httptest.ResponseRecorder {
	return w.do("POST", Path+"/v1/"+endpoint, body, "Authorization", "Bearer "+testToken)
}

// hmacOf computes an HMAC a second way, without our pools.
func hmacOf(key, message []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(message)
	return h.Sum(nil)
}

// original is the original form as its words say it.
func original(key, password []byte, rounds int) string {
	sum := hmacOf(key, password)
	for range rounds - 1 {
		sum = hmacOf(key, sum)
	}
	return fmt.Sprintf("%X", sum)
}

// innerTag and overTag are the two formulas of a record's layers, without our pools.
func innerTag(pepper []byte, context, uid string, salt, slow []byte) []byte {
	return hmacOf(pepper, lp(lp(lp(lp(lp(nil, labelRecord), context), uid), salt), slow))
}

func overTag(pepper []byte, below string, tag []byte) []byte {
	return hmacOf(pepper, lp(lp(lp(nil, labelLayer), below), tag))
}
