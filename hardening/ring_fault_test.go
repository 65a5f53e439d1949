package hardening

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// TestStoreFaults: a write that was lost must never look like success, a write that was kept and reported lost is one.
// In both cases the next good look brings the same ring.
func TestStoreFaults(t *testing.T) {
	gone := fmt.Errorf("%w: pulled", store.ErrUnavailable)
	for name, c := range map[string]struct {
		fault func(*faults)
		want  error // nil: success
	}{
		"refused":                       {func(f *faults) { f.cas = gone }, ErrWaiting},
		"lost and acknowledged":         {func(f *faults) { f.lose = true }, ErrWaiting},
		"kept, reported lost":           {func(f *faults) { f.misreport = gone }, nil},
		"kept, reported as conflict":    {func(f *faults) { f.misreport = store.ErrConflict }, nil},
		"kept, cannot be read back":     {func(f *faults) { f.getAfter = gone }, ErrWaiting},
		"lost, and cannot be read back": {func(f *faults) { f.lose, f.getAfter = true, gone }, ErrWaiting},
		"store does not answer":         {func(f *faults) { f.get = gone }, ErrWaiting},
		"every race lost":               {func(f *faults) { f.cas = store.ErrConflict }, ErrWaiting},
		"somebody writes garbage between": {func(f *faults) {
			f.beforeCAS = func() { f.Put(context.Background(), labelStore+"/passwords", []byte("x"), time.Time{}) }
		}, ErrLocked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("first ring", func(t *testing.T) {
				clock, st := newClock(), openBolt(t)
				k := testKey(t, clock)
				n := newNode(t, st, clock, nil, k)
				c.fault(st)
				err := n.Sync(t.Context())
				if !errors.Is(err, c.want) {
					t.Fatal(err)
				}
				if c.want != nil && n.held() != nil {
					t.Error("a ring that may not be durable is in use")
				}
				if c.want == ErrLocked {
					return
				}
				st = &faults{Store: st.Store}
				n.cfg.Store = st
				o := n.mustSync(t)
				restarted := newNode(t, st, clock, nil, k).mustSync(t)
				if restarted.file.Ring != o.file.Ring || !bytes.Equal(restarted.key("p1"), o.key("p1")) {
					t.Error("the restart sees another ring")
				}
			})
			t.Run("renewal", func(t *testing.T) {
				clock, st := newClock(), openBolt(t)
				n := newNode(t, st, clock, nil, testKey(t, clock))
				before := n.mustSync(t)
				next := testKey(t, clock)
				st.triedWrite = false
				c.fault(st)
				err := n.Sync(t.Context(), next)
				if !errors.Is(err, c.want) {
					t.Fatal(err)
				}
				if n.held() == nil || !bytes.Equal(n.held().key("p1"), before.key("p1")) {
					t.Error("the open ring was lost")
				}
				if c.want == ErrLocked {
					return
				}
				st = &faults{Store: st.Store}
				n.cfg.Store = st
				n.mustSync(t, next)
				if !bytes.Equal(newNode(t, st, clock, nil, next).mustSync(t).key("p1"), before.key("p1")) {
					t.Error("the new key does not open the ring")
				}
			})
		})
	}
}

// TestNodesRace: many nodes start at once on an empty store, each with a certificate of its own; one ring comes out of it
// and every key opens it.
func TestNodesRace(t *testing.T) {
	c, st := newClock(), openBolt(t)
	nodes := make([]*node, 6)
	for i := range nodes {
		nodes[i] = newNode(t, st, c, nil, testKey(t, c))
	}
	opener := testKey(t, c) // what the nodes share, as peers of one certificate storage do
	var wg sync.WaitGroup
	for _, n := range nodes {
		n.serve(append(n.live, opener)...)
		wg.Go(func() {
			if err := n.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := nodes[0].held()
	for _, n := range nodes {
		if n.held().file.Ring != want.file.Ring || !bytes.Equal(n.held().key("p1"), want.key("p1")) {
			t.Fatal("two rings")
		}
		newNode(t, st, c, nil, n.live[0]).mustSync(t)
	}
}

// TestRollback: somebody puts an old copy, another ring or nothing in the place of the ring while it is in use.
func TestRollback(t *testing.T) {
	c, st := newClock(), openBolt(t)
	key := labelStore + "/passwords"
	k := testKey(t, c)
	n := newNode(t, st, c, nil, k)
	n.mustSync(t)
	old := stored(t, st)
	held := n.mustSync(t, testKey(t, c))
	put := func(raw []byte) {
		t.Helper()
		if err := st.Put(t.Context(), key, raw, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	current := stored(t, st)
	put(old)
	if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) || n.held() != held || !bytes.Equal(stored(t, st), old) {
		t.Errorf("rolled back: %v", err)
	}
	other := openBolt(t)
	newNode(t, other, c, nil, k).mustSync(t)
	put(stored(t, other))
	if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) || n.held() != held {
		t.Errorf("another ring: %v", err)
	}
	put(current)
	n.mustSync(t)
	if err := st.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	n.mustSync(t)
	if again := newNode(t, st, c, nil, k).mustSync(t); again.file.Ring != held.file.Ring || !bytes.Equal(again.key("p1"), held.key("p1")) {
		t.Error("the vanished ring was not put back")
	}
	if !strings.Contains(n.log.String(), "vanished") {
		t.Error("the operator did not hear of it")
	}
	// A peer's later write is taken over although none of its keys is ours: the file key is known.
	peerKey := testKey(t, c)
	peer := newNode(t, st, c, nil, k, peerKey)
	peer.mustSync(t)
	n.serve()
	if n.mustSync(t).file.Epoch != peer.held().file.Epoch {
		t.Error("the peer's epoch was not taken over")
	}
}
