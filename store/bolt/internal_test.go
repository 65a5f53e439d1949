package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/bbolt"

	"github.com/anteroom-proxy/anteroom/store"
)

func openAt(t *testing.T, cfg Config, maxSize int) *Store {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "store.db")
	}
	s, err := open(cfg, maxSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestLabelsDiffer(t *testing.T) {
	if labelKeys == labelFeed {
		t.Fatal("two purposes share a label")
	}
	for _, l := range []string{labelKeys, labelFeed} {
		if !strings.HasPrefix(l, "anteroom/bolt/") || !strings.HasSuffix(l, "/v1") {
			t.Errorf("label %q", l)
		}
	}
}

// TestAlwaysSyncs: the promise of the package rests on these switches of bbolt.
func TestAlwaysSyncs(t *testing.T) {
	s := openAt(t, Config{}, 0)
	if s.db.NoSync || s.db.NoGrowSync || s.db.NoFreelistSync {
		t.Fatal("the file is not fsynced")
	}
}

func count(t *testing.T, s *Store, bucket string) (n int) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket([]byte(bucket)).Stats().KeyN
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSweep: expired bytes leave the file, in bounded rounds, and nothing else does.
func TestSweep(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := openAt(t, Config{Now: func() time.Time { return now }}, 0)
	ctx := t.Context()
	const expiring = sweepBatch + 500
	var wg sync.WaitGroup
	for w := range 50 {
		wg.Go(func() {
			for i := range expiring / 50 {
				if err := s.Put(ctx, fmt.Sprintf("k%d-%d", i, w), nil, now.Add(time.Minute)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, expires := range []time.Time{now.Add(time.Minute), {}, now.Add(time.Minute)} {
		if err := s.Put(ctx, fmt.Sprint("z", expires.IsZero()), nil, expires); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(ctx, nil, expires); err != nil {
			t.Fatal(err)
		}
	}
	var at position
	if err := s.sweepOnce(ctx, &at); err != nil || count(t, s, labelKeys) != expiring+2 {
		t.Fatalf("before anything expired: %v, %d keys", err, count(t, s, labelKeys))
	}
	now = now.Add(time.Minute)
	at = position{}
	if err := s.sweepOnce(ctx, &at); err != nil || at.keys == nil {
		t.Fatal(err, at)
	}
	if n := count(t, s, labelKeys); n != expiring+2-sweepBatch {
		t.Fatalf("one round left %d keys; want %d", n, expiring+2-sweepBatch)
	}
	if n := count(t, s, labelFeed); n != 1 {
		t.Fatalf("the feed has %d entries; want 1", n)
	}
	if err := s.sweepOnce(ctx, &at); err != nil || at.keys != nil {
		t.Fatal(err, at)
	}
	if n := count(t, s, labelKeys); n != 1 {
		t.Fatalf("%d keys are left; want the one that never expires", n)
	}
	if cursor, err := s.Append(ctx, nil, time.Time{}); err != nil || cursor != formatCursor(4) {
		t.Fatalf("cursor after the sweep: %s, %v", cursor, err)
	}
}

// TestSweepKeepsUp: strangers can make one-time keys expire faster than one batch a
// round takes them out, and the file never shrinks. Sent: several batches that expire
// together. What would happen: the file grows as long as that goes on. What must hold:
// one round removes them all.
func TestSweepKeepsUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) {
		s := openAt(t, Config{Path: path}, 0)
		stored := pack(nil, time.Now().Add(time.Second))
		err := s.change(t.Context(), "filling", 0, func(tx *group) error {
			for i := range 5*sweepBatch/2 + 7 {
				if err := tx.put(fmt.Sprintf("k%06d", i), stored); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(sweepEvery + time.Second)
		synctest.Wait()
		if n := count(t, s, labelKeys); n != 0 {
			t.Errorf("%d expired keys are left after a round", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSweepLoop: the sweep runs by itself until Close.
func TestSweepLoop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	synctest.Test(t, func(t *testing.T) {
		s := openAt(t, Config{Path: path}, 0)
		if err := s.Put(t.Context(), "a", nil, time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if n := count(t, s, labelKeys); n != 1 {
				t.Fatalf("%d keys", n)
			}
			<-time.After(sweepEvery/2 - 1)
			synctest.Wait()
		}
		<-time.After(2)
		synctest.Wait()
		if n := count(t, s, labelKeys); n != 0 {
			t.Fatalf("%d keys after the first round", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSweepSparesNewValue: a key that was stored anew between the look and the
// deletion stays.
func TestSweepSparesNewValue(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := openAt(t, Config{Now: func() time.Time { return now }}, 0)
	if err := s.Put(t.Context(), "a", []byte("new"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	err := s.change(t.Context(), "test", 0, func(g *group) error {
		return g.remove(g.keys, [][]byte{[]byte("a"), []byte("gone")}, now)
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(t.Context(), "a"); err != nil || string(v) != "new" {
		t.Fatal(v, err)
	}
}

// TestFailedCommit: a write that does not fit the disk is refused, everything that was
// acknowledged stays, and the store works on as soon as there is room.
func TestFailedCommit(t *testing.T) {
	var log bytes.Buffer
	s := openAt(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, 512<<10)
	ctx := t.Context()
	acknowledged := 0
	value := bytes.Repeat([]byte("x"), 32<<10)
	var err error
	for err == nil && acknowledged < 100 {
		if err = s.Put(ctx, fmt.Sprint("k", acknowledged), value, time.Time{}); err == nil {
			acknowledged++
		}
	}
	if !errors.Is(err, store.ErrUnavailable) || acknowledged == 0 {
		t.Fatalf("after %d values: %v", acknowledged, err)
	}
	if !strings.Contains(log.String(), s.path) {
		t.Errorf("the operator was told %q", log.String())
	}
	for i := range acknowledged {
		if v, err := s.Get(ctx, fmt.Sprint("k", i)); err != nil || !bytes.Equal(v, value) {
			t.Fatalf("value %d of %d: %v", i, acknowledged, err)
		}
	}
	if _, err := s.Get(ctx, fmt.Sprint("k", acknowledged)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the refused value: %v", err)
	}
	if err := s.Delete(ctx, "k0"); err != nil {
		t.Fatalf("making room: %v", err)
	}
	if err := s.Put(ctx, "small", []byte("1"), time.Time{}); err != nil {
		t.Fatalf("after making room: %v", err)
	}
}

// TestFailureIsForTheWholeGroup: nobody in the group of a failed commit is told that
// it worked.
func TestFailureIsForTheWholeGroup(t *testing.T) {
	s := openAt(t, Config{}, 0)
	if err := s.db.Close(); err != nil { // the next Begin fails
		t.Fatal(err)
	}
	changes := make([]*change, 5)
	for i := range changes {
		changes[i] = &change{done: make(chan error, 1), run: func(g *group) error { return g.put("k", nil) }}
	}
	s.commit(changes)
	for _, c := range changes {
		if err := <-c.done; !errors.Is(answer("test", err), store.ErrUnavailable) {
			t.Errorf("error is %v", err)
		}
	}
	// The store repairs itself at the next write.
	if err := s.Put(t.Context(), "a", []byte("1"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(t.Context(), "a"); err != nil || string(v) != "1" {
		t.Fatal(v, err)
	}
}

// TestRepairFails: while the file cannot be opened, everything is refused; when it can
// be again, the sweep brings the store back without anybody writing.
func TestRepairFails(t *testing.T) {
	s := openAt(t, Config{}, 0)
	ctx := t.Context()
	if err := s.Put(ctx, "a", []byte("1"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path, s.path+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path, bytes.Repeat([]byte("no store"), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Put(ctx, "b", nil, time.Time{}); !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("Put: %v", err)
		}
	}
	if _, err := s.Get(ctx, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Get: %v", err)
	}
	if _, err := s.Take(ctx, "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Fatalf("Take: %v", err)
	}
	if err := os.Rename(s.path+".away", s.path); err != nil {
		t.Fatal(err)
	}
	var at position
	if err := s.sweepOnce(ctx, &at); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(ctx, "a"); err != nil || string(v) != "1" {
		t.Fatal(v, err)
	}
}

// TestWithdrawn: a change whose caller gave up before it began does not happen.
func TestWithdrawn(t *testing.T) {
	s := openAt(t, Config{}, 0)
	hold, held := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.change(t.Context(), "test", 0, func(*group) error {
			close(held)
			<-hold
			return nil
		})
	})
	<-held // the writer is busy: what comes now waits
	ctx, cancel := context.WithCancel(t.Context())
	wg.Go(func() {
		err := s.Put(ctx, "a", nil, time.Time{})
		if !errors.Is(err, store.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("Put: %v", err)
		}
		close(hold)
	})
	for len(s.queue) == 0 {
		runtime.Gosched()
	}
	cancel()
	wg.Wait()
	if err := s.Put(t.Context(), "b", nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the withdrawn value: %v", err)
	}
}

// TestNothingToDoCostsNothing: strangers can ask for made-up keys in any number; no
// transaction may be committed for them.
func TestNothingToDoCostsNothing(t *testing.T) {
	s := openAt(t, Config{}, 0)
	ctx := t.Context()
	writes := func() int64 {
		stats := s.db.Stats()
		return stats.TxStats.GetWrite()
	}
	before := writes()
	for i := range 20 {
		if _, err := s.Take(ctx, fmt.Sprint("made up ", i)); !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if err := s.Delete(ctx, "made up"); err != nil {
			t.Fatal(err)
		}
		if err := s.CompareAndSwap(ctx, "made up", []byte("x"), nil, time.Time{}); !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
	}
	if after := writes(); after != before {
		t.Fatalf("%d writes to the file", after-before)
	}
}

func TestStamp(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		expires time.Time
		alive   bool
	}{
		{time.Time{}, true},
		{now, false},
		{now.Add(1), true},
		{now.Add(-1), false},
		{time.Unix(0, 0), false},
		{time.Unix(-1, 0), false},
		{time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC), false},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), true},
	} {
		if v, alive := unpack(pack([]byte("v"), c.expires), now); alive != c.alive || alive && string(v) != "v" {
			t.Errorf("expires %v: alive is %v", c.expires, alive)
		}
	}
	if _, alive := unpack([]byte("short"), now); alive {
		t.Error("a stored value that is too short counts as alive")
	}
}
