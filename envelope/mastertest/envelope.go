package mastertest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store"
)

const label = "anteroom/envelope/mastertest/v1"

// keys is a key store in memory.
type keys struct {
	mu     sync.Mutex // guards values
	values map[string][]byte
}

// Get implements envelope.KeyStore.
func (k *keys) Get(_ context.Context, key string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.values[key]; ok {
		return bytes.Clone(v), nil
	}
	return nil, store.ErrNotFound
}

// CompareAndSwap implements envelope.KeyStore.
func (k *keys) CompareAndSwap(_ context.Context, key string, old, new []byte, _ time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if v, ok := k.values[key]; ok != (old != nil) || !bytes.Equal(v, old) {
		return store.ErrConflict
	}
	k.values[key] = bytes.Clone(new)
	return nil
}

func (k *keys) copied() map[string][]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.values)
}

// clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

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

const cacheAge = 15 * time.Minute

// house is a store and a clock for envelopes.
type house struct {
	keys  *keys
	clock *clock
}

func newHouse() house {
	return house{&keys{values: map[string][]byte{}}, &clock{now: time.Date(2026, 3, 1, 3, 0, 0, 0, time.UTC)}}
}

func (h house) start(t *testing.T, m envelope.Master, former ...envelope.Master) (*envelope.Envelope, error) {
	return envelope.Start(t.Context(), envelope.Config{Name: "own", Master: m, Former: former, Store: h.keys, CacheAge: cacheAge, Now: h.clock.Now})
}

func (h house) started(t *testing.T, m envelope.Master, former ...envelope.Master) *envelope.Envelope {
	t.Helper()
	e, err := h.start(t, m, former...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// RunEnvelope is the suite of an envelope.Envelope under the master.
func RunEnvelope(t *testing.T, b Backend) {
	t.Run("Nodes", func(t *testing.T) { testNodes(t, b) })
	t.Run("Row155Rotations", func(t *testing.T) { testRotations(t, b) })
	t.Run("FromLocal", func(t *testing.T) { testFromLocal(t, b) })
	for _, f := range b.faults() {
		t.Run("Row157"+f.name, func(t *testing.T) { testCut(t, b, f) })
	}
}

func sealed(t *testing.T, e *envelope.Envelope, content string) []byte {
	t.Helper()
	s, err := e.Seal(t.Context(), label, []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func opensTo(t *testing.T, e *envelope.Envelope, s []byte, content string) {
	t.Helper()
	if got, err := e.Open(t.Context(), label, s); err != nil || string(got) != content {
		t.Fatalf("opened to %q, %v; want %q", got, err, content)
	}
}

// testNodes: two nodes and a restarted one have one ring, and the store holds no key in the clear.
func testNodes(t *testing.T, b Backend) {
	h := newHouse()
	one := h.started(t, b.Open(t))
	two := h.started(t, b.Open(t))
	opensTo(t, two, sealed(t, one, "of one"), "of one")
	opensTo(t, one, sealed(t, two, "of two"), "of two")
	opensTo(t, h.started(t, b.Open(t)), sealed(t, one, "before"), "before")
	primaries := 0
	for _, k := range one.Keys() {
		if k.State == envelope.StatePrimary {
			primaries++
		}
	}
	if primaries != 1 {
		t.Errorf("two nodes have the keys %+v", one.Keys())
	}
	if other, err := h.start(t, local(t)); err == nil {
		t.Errorf("a node with another master starts: %v", other.Keys())
	}
}

func local(t *testing.T) envelope.Master {
	t.Helper()
	m, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// testRotations: rotating the master re-wraps data keys and changes no data; rotating the data key leaves what was sealed open, and
// Reseal moves it.
func testRotations(t *testing.T, b Backend) {
	h := newHouse()
	m := b.Open(t)
	e := h.started(t, m)
	old := sealed(t, e, "x")
	id, _ := envelope.KeyOf(old)
	before := h.keys.copied()
	if b.Rotate != nil {
		b.Rotate()
	}
	if n, err := e.RewrapAll(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d keys re-wrapped, %v", n, err)
	}
	after := h.keys.copied()
	for key, value := range before {
		if bytes.Equal(after[key], value) {
			t.Errorf("%s is as before", key)
		}
	}
	if got, _ := envelope.KeyOf(sealed(t, e, "y")); got != id {
		t.Errorf("re-wrapping made data key %s out of %s", got, id)
	}
	opensTo(t, h.started(t, b.Open(t)), old, "x")
	if _, err := e.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	opensTo(t, e, old, "x")
	again, changed, err := e.Reseal(t.Context(), label, old)
	if now, _ := envelope.KeyOf(again); err != nil || !changed || now == id {
		t.Fatalf("resealed under %s: %v, %v", now, changed, err)
	}
	opensTo(t, h.started(t, b.Open(t)), again, "x")
}

// testFromLocal: an installation that began with a key file moves under this master, and needs the file no longer.
func testFromLocal(t *testing.T, b Backend) {
	h := newHouse()
	file := local(t)
	old := sealed(t, h.started(t, file), "x")
	m := b.Open(t)
	if _, err := h.start(t, m); err == nil {
		t.Fatal("it starts without the master that wrapped its keys")
	}
	e := h.started(t, m, file)
	opensTo(t, e, old, "x")
	if n, err := e.Migrate(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d keys moved, %v", n, err)
	}
	alone := h.started(t, b.Open(t))
	opensTo(t, alone, old, "x")
	for _, k := range alone.Keys() {
		if k.Master != m.ID() {
			t.Errorf("key %s is under %s", k.ID, k.Master)
		}
	}
	if _, err := h.start(t, file); err == nil {
		t.Error("the key file alone still opens the ring")
	}
}

// testCut: within the cache all goes on; afterwards nothing is sealed or opened, by no other key and not in the clear; when the
// master is back all is as before, without a restart.
func testCut(t *testing.T, b Backend, f fault) {
	h := newHouse()
	e := h.started(t, b.Open(t))
	old := sealed(t, e, "before")
	cold := b.Open(t)
	f.begin()
	defer b.Heal() // in case of a failure below
	h.clock.add(cacheAge / 3)
	opensTo(t, e, old, "before")
	opensTo(t, e, sealed(t, e, "meanwhile"), "meanwhile")

	h.clock.add(cacheAge)
	for range 2 { // the second answer comes from what is known of the first
		if s, err := e.Seal(t.Context(), label, []byte("content")); !errors.Is(err, f.want) || s != nil {
			t.Errorf("sealing gives %d bytes, %v; want %v", len(s), err, f.want)
		}
		if got, err := e.Open(t.Context(), label, old); !errors.Is(err, f.want) || errors.Is(err, envelope.ErrSealed) || got != nil {
			t.Errorf("opening gives %q, %v; want %v", got, err, f.want)
		}
	}
	before := h.keys.copied()
	if _, err := h.start(t, cold); !errors.Is(err, f.want) {
		t.Errorf("a node that starts meanwhile: %v, want %v", err, f.want)
	}
	for key, value := range h.keys.copied() {
		if !bytes.Equal(before[key], value) {
			t.Errorf("%s was written over", key)
		}
	}
	b.Heal()
	h.clock.add(2 * time.Second)
	opensTo(t, e, old, "before")
	opensTo(t, h.started(t, cold), sealed(t, e, "after"), "after")
}
