package bolt_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

// TestRow165SetBack: the file was replaced by an older copy. A follower that went on from
// its cursor would miss every revocation up to that number.
func TestRow165SetBack(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	s := openStore(t, filepath.Join(dir, "new.db"), nil)
	var cursor string
	for range 3 {
		var err error
		if cursor, err = s.Append(ctx, nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	old := openStore(t, filepath.Join(dir, "old.db"), nil)
	if _, err := old.Append(ctx, nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := old.After(ctx, cursor, 0); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("After: %v", err)
	}
}

// TestRow163TakeAndSwap: the same one-time value is asked for by Take, by
// CompareAndSwap and by Delete at one moment. A value that two of them get is a code
// that works twice.
func TestRow163TakeAndSwap(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "store.db"), nil)
	ctx := t.Context()
	for round := range 20 {
		key := fmt.Sprint("code ", round)
		if err := s.Put(ctx, key, []byte("unused"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex // guards winners
		winners := 0
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = s.Take(ctx, key)
				} else if err = s.CompareAndSwap(ctx, key, []byte("unused"), []byte("used"), time.Time{}); err == nil {
					_, _ = s.Take(ctx, key) // may lose to another Take, of the value "used"
				}
				if err == nil {
					mu.Lock()
					winners++
					mu.Unlock()
				} else if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if winners < 1 || winners > 2 { // 2: one swap of "unused", one Take of "used"
			t.Fatalf("%d winners", winners)
		}
	}
}

// TestRow162DamagedWhileOpen: somebody cuts the open file short. Reading what is gone
// faults in the memory map; that must refuse the call, neither end the process nor let
// anything through.
func TestRow162DamagedWhileOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s, err := bolt.Open(bolt.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		if err := s.Put(t.Context(), fmt.Sprint(i), make([]byte, 10_000), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get(t.Context(), "1"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: %d bytes, %v", len(v), err)
	}
	if _, err := s.Take(t.Context(), "1"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Take: %v", err)
	}
	if err := s.Put(t.Context(), "1", nil, time.Time{}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Put: %v", err)
	}
	_ = s.Close()
}
