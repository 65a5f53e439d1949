package budget

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// clock is a settable time.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

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

// counted is a store that counts its calls and can fail.
type counted struct {
	store.Store
	calls atomic.Int64
	fail  atomic.Bool
}

func (s *counted) err() error {
	s.calls.Add(1)
	if s.fail.Load() {
		return fmt.Errorf("test: %w", store.ErrUnavailable)
	}
	return nil
}

func (s *counted) Get(ctx context.Context, key string) ([]byte, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Store.Get(ctx, key)
}

func (s *counted) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

type rig struct {
	*testing.T
	clock  *clock
	store  *counted
	sealer Sealer
}

func newRig(t *testing.T) rig {
	t.Helper()
	c := &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	dir := t.TempDir()
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "store", "test.db"), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	master, err := envelope.OpenLocal(filepath.Join(dir, "master", "key"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := envelope.Start(t.Context(), envelope.Config{Name: "own", Master: master, Store: s})
	if err != nil {
		t.Fatal(err)
	}
	return rig{t, c, &counted{Store: s}, e}
}

func (r rig) node() *Budget {
	r.Helper()
	b, err := New(Config{Store: r.store, Sealer: r.sealer, Now: r.clock.now})
	if err != nil {
		r.Fatal(err)
	}
	return b
}

var (
	dana  = Key{"line1", "app.test", "idp/1"}
	sixty = Limit{Max: 60, Alarm: 30, Per: time.Hour}
)

func (r rig) count(b *Budget, k Key, value string, l Limit, since time.Time) Result {
	r.Helper()
	result, err := b.Count(context.Background(), k, value, l, since)
	if err != nil {
		r.Fatal(err)
	}
	return result
}
