package redis_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// walker is a walk that a test does step by step.
type walker struct {
	t      *testing.T
	s      *redis.Store
	seen   map[string]bool
	cursor string
	pages  int
}

func walk(t *testing.T, s *redis.Store, many int) *walker {
	t.Helper()
	for i := range many {
		if err := s.Put(t.Context(), fmt.Sprint(i), nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	return &walker{t: t, s: s, seen: map[string]bool{}}
}

// step reads one page, and is patient while servers change their places.
func (w *walker) step() (more bool) {
	w.t.Helper()
	for until := time.Now().Add(30 * time.Second); ; {
		items, next, err := w.s.Scan(w.t.Context(), "", w.cursor, 10)
		if err != nil {
			is(w.t, err, store.ErrUnavailable, "Scan")
			if time.Now().After(until) {
				w.t.Fatal(err)
			}
			continue
		}
		for _, item := range items {
			w.seen[item.Key] = true
		}
		w.cursor, w.pages = next, w.pages+1
		return next != ""
	}
}

func (w *walker) rest(many int) {
	w.t.Helper()
	for w.step() {
		if w.pages > 10_000 {
			w.t.Fatal("it does not end")
		}
	}
	if len(w.seen) != many {
		w.t.Errorf("%d of %d keys were seen", len(w.seen), many)
	}
}

// TestScanRestart: a server's cursor means nothing to its next process, which has another
// seed. A walk that went on with it would miss about half of the keys.
func TestScanRestart(t *testing.T) {
	const many = 400
	server := redistest.Standalone(t)
	w := walk(t, open(t, config(t, server)), many)
	for range 3 {
		for range 10 {
			w.step()
		}
		server.Stop()
		server.Start()
		w.seen = map[string]bool{} // what was seen before is seen again
	}
	w.rest(many)
}

// TestScanFailover: the replica has another seed too.
func TestScanFailover(t *testing.T) {
	const many = 200
	server := redistest.Sentinel(t)
	w := walk(t, open(t, config(t, server)), many)
	for range 5 {
		w.step()
	}
	server.Failover()
	w.rest(many)
}

// TestScanMovedSlots: keys move from a server of the Cluster that is still to come to one
// that is done.
func TestScanMovedSlots(t *testing.T) {
	const many = 120
	server := redistest.Cluster(t)
	c := config(t, server)
	w := walk(t, patient(t, c), many)
	ids := map[string]int{} // server by id
	for i := range server.Addresses {
		ids[server.DoAt(i, "CLUSTER", "MYID")] = i
	}
	var order []string
	for id := range ids {
		order = append(order, id)
	}
	slices.Sort(order)
	done, source := ids[order[0]], ids[order[2]]
	for w.step() && strings.Split(w.cursor, ".")[2] != order[2] {
	}
	if w.cursor == "" {
		t.Fatal("the walk has ended")
	}
	moved := map[string][]string{} // by slot
	for _, name := range strings.Fields(server.DoAt(source, "KEYS", c.Prefix+":k:*")) {
		slot := server.DoAt(source, "CLUSTER", "KEYSLOT", name)
		moved[slot] = append(moved[slot], name)
	}
	host, port, err := net.SplitHostPort(server.Addresses[done])
	if err != nil || len(moved) < 10 {
		t.Fatal(moved, err)
	}
	before := w.cursor
	for slot, names := range moved {
		server.DoAt(done, "CLUSTER", "SETSLOT", slot, "IMPORTING", order[2])
		server.DoAt(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", order[0])
		for _, name := range names {
			server.DoAt(source, "MIGRATE", host, port, name, "0", "5000")
		}
	}
	_, _, err = w.s.Scan(t.Context(), "", before, 10)
	is(t, err, store.ErrUnavailable, "Scan while slots move")
	for slot := range moved {
		for i := range server.Addresses {
			server.DoAt(i, "CLUSTER", "SETSLOT", slot, "NODE", order[0])
		}
	}
	w.seen = map[string]bool{}
	w.rest(many)
}
