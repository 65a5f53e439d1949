package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// note is a Mark in memory.
type note struct {
	mu     sync.Mutex
	cursor string
	saves  int
	err    error
}

func (n *note) Load() (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cursor, n.err
}

func (n *note) Save(cursor string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	n.cursor, n.saves = cursor, n.saves+1
	return nil
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Row 165: all nodes are down, somebody restores yesterday's copy of the store: a
// session that was revoked since does not come back, and neither does any other
// that may have been.
func TestRow165StoreRestored(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	sealer := openSealer(t, dir)
	db, copied := filepath.Join(dir, "store", "test.db"), filepath.Join(dir, "copy.db")
	mark := &note{}
	marked := func(c *Config) { c.Mark = mark }

	s := openStore(t, dir, c.now)
	m := start(t, s, sealer, c.now, marked)
	revoked, revokedCookies := issue(t, m)
	_, aliveCookies := issue(t, m)
	first, _ := issue(t, m)
	if err := m.Revoke(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	stop := func() { m.follow(); m.Close(); s.Close() }
	stop()
	copyFile(t, db, copied)

	// Starting on what is there signs nobody out.
	s = openStore(t, dir, c.now)
	m = start(t, s, sealer, c.now, marked)
	wantFound(t, m, lines(revokedCookies))
	wantFound(t, m, lines(aliveCookies))
	if err := m.Revoke(t.Context(), revoked.ID); err != nil {
		t.Fatal(err)
	}
	stop()
	copyFile(t, copied, db)

	s = openStore(t, dir, c.now)
	unmarked := start(t, s, sealer, c.now)
	wantFound(t, unmarked, lines(revokedCookies)) // this is what the mark is for
	m = start(t, s, sealer, c.now, marked)
	unmarked.follow()
	for _, node := range []*Manager{m, unmarked} { // the other nodes hear of it
		wantNone(t, node, lines(revokedCookies))
		wantNone(t, node, lines(aliveCookies))
	}
	_, cookies := issue(t, m) // in the same second
	wantFound(t, m, lines(cookies))
	wantFound(t, unmarked, lines(cookies))
	unmarked.Close()
	stop()

	// That is said once. Another start finds the store as it was left.
	s = openStore(t, dir, c.now)
	m = start(t, s, sealer, c.now, marked)
	wantFound(t, m, lines(cookies))
	wantNone(t, m, lines(aliveCookies))
	stop()

	// A store that is new altogether knows the mark as little.
	s = openStore(t, t.TempDir(), c.now)
	m = start(t, s, sealer, c.now, marked)
	if m.live.over.all.Load() == 0 {
		t.Error("a new store was not noticed")
	}
	stop()
}

func TestMarkIsSaved(t *testing.T) {
	mark := &note{}
	w := newShared(t, 1, func(c *Config) { c.Mark = mark })
	m := w.nodes[0]
	if mark.saves != 0 {
		t.Error("a mark of nothing")
	}
	revoke := func() {
		t.Helper()
		if err := m.Revoke(t.Context(), newID()); err != nil {
			t.Fatal(err)
		}
		m.follow()
	}
	revoke()
	for range 5 {
		revoke()
		w.pass(time.Second)
	}
	if _, err := mark.Load(); err != nil || mark.saves != 1 {
		t.Errorf("%d saves in 5 s", mark.saves)
	}
	w.pass(5 * time.Second)
	if mark.saves != 2 || mark.cursor != m.follows.cursor {
		t.Errorf("%d saves in 10 s", mark.saves)
	}
	w.pass(time.Minute)
	if mark.saves != 2 {
		t.Error("saved although nothing was new")
	}
	mark.err = os.ErrPermission
	revoke() // logged, and no reason to let nobody in
	w.pass(time.Minute)
	_, cookies := issue(t, m)
	wantFound(t, m, lines(cookies))
	mark.err = nil
	revoke()
	m.Close()
	if mark.cursor != m.follows.cursor {
		t.Error("not saved at the end")
	}
}

// Without knowing the mark, or whether the store knows it, nothing starts.
func TestMarkThatCannotBeRead(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	p := newProxy(openStore(t, dir, c.now))
	mark := &note{err: os.ErrPermission}
	m, err := New(Config{Store: p, Sealer: openSealer(t, dir), Now: c.now, Mark: mark})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Start(t.Context()); !errors.Is(err, os.ErrPermission) {
		t.Errorf("%v", err)
	}
	mark.err, mark.cursor = nil, "00000000000000ff"
	p.hook(func(_ context.Context, op, key string) error {
		if op == "after" && key != "" {
			return store.ErrUnavailable
		}
		return nil
	})
	if err := m.Start(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	p.hook(func(_ context.Context, op, value string) error {
		if op == "append" && strings.Contains(value, labelRevokedAll) {
			return store.ErrUnavailable
		}
		return nil
	})
	if err := m.Start(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	p.hook(nil)
	mark.cursor = "no cursor at all"
	if err := m.Start(t.Context()); err != nil || m.live.over.all.Load() == 0 {
		t.Errorf("%v", err)
	}
}
