package hardening

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
)

// TestRingChangesTogether: eight nodes change one ring at the same moment, each in its own way. All come through, and
// nothing that one did is lost to another.
func TestRingChangesTogether(t *testing.T) {
	c, st := newClock(), openBolt(t)
	nodes := make([]*node, 8)
	shared := testKey(t, c)
	for i := range nodes {
		nodes[i] = newNode(t, st, c, nil, shared)
		nodes[i].mustSync(t)
	}
	ids := make([]string, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			var err error
			if ids[i], err = n.ImportOriginal(t.Context(), bytes.Repeat([]byte{byte(i + 1)}, sha256.Size)); err != nil {
				t.Error(err)
			}
			if err := n.Sync(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	held := nodes[0].mustSync(t)
	for _, id := range ids {
		if held.find(id) < 0 {
			t.Errorf("%s is lost", id)
		}
	}
}

// TestCensusTogether: an application counts its table in many parts at once, over two nodes: each part counts once.
func TestCensusTogether(t *testing.T) {
	w, services := services(t, 2)
	record := fastRecord(t, w.Service, "alice", "right")
	begun, err := w.node.Count(t.Context(), "", []string{record}, false)
	if err != nil {
		t.Fatal(err)
	}
	const parts = 40
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			if _, err := services[i%2].cfg.Ring.Count(t.Context(), begun.ID, []string{record, record}, false); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	got, err := w.node.Count(t.Context(), begun.ID, nil, true)
	if err != nil || got.Records != 1+2*parts || got.Versions["p1"] != got.Records {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestFailuresTogether: many tries of one account end at the same moment on three nodes. Each is written, and all that
// succeeded are forgotten.
func TestFailuresTogether(t *testing.T) {
	w := newWorld(t, nil)
	l := ledger{w.node.cfg.Store, w.clock.Now}
	key := labelFailures + "/together"
	var src sourceKey
	var all sync.WaitGroup
	for range 3 * freeFailures {
		all.Go(func() {
			was, err := l.begin(t.Context(), key, src)
			if errors.Is(err, ErrLimited) { // as many as may run at once do
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			if err := l.end(t.Context(), key, src, was, right); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if a, ok := l.peek(t.Context(), key); !ok || a.Failed != 0 {
		t.Errorf("%+v, %v", a, ok)
	}
}

// TestGivingUpWhileOthersWin: whoever does not wait any more leaves at once, with an error that says so.
func TestGivingUpWhileOthersWin(t *testing.T) {
	c, st := newClock(), openBolt(t)
	n := newNode(t, st, c, nil, testKey(t, c))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Sync(ctx); !errors.Is(err, ErrWaiting) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "writing ring") {
		t.Error(err)
	}
}
