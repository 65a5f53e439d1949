package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// CVE-2024-21492: copied cookies, replayed on each node after the sign-out, are
// refused within milliseconds, without anybody asking.
func TestCVE202421492ReplayOnEachNode(t *testing.T) {
	w := newShared(t, 3)
	var took []time.Duration
	for range 20 {
		s, cookies := issue(t, w.nodes[0])
		for _, m := range w.nodes {
			wantFound(t, m, lines(cookies))
		}
		if err := w.nodes[2].Revoke(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		wantNone(t, w.nodes[2], lines(cookies))
		began := time.Now()
		for _, m := range w.nodes {
			eventually(t, "the revocation", func() bool { _, err := m.Find(lines(cookies), host); return errors.Is(err, ErrNone) })
		}
		took = append(took, time.Since(began))
	}
	// Of three that only poll the last one takes most of the pause; a busy machine is not that slow most of the time.
	if slices.Sort(took); took[len(took)/2] > pollEvery/2 {
		t.Errorf("it took %v: nobody woke the follower", took)
	}
}

// A store that always says that there is something does not make a node busy, and
// one that cannot wait is asked every second all the same.
func TestFollowerRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inner := openStore(t, dir, nil)
		p := newProxy(inner)
		var polls, broken atomic.Int64
		p.hook(func(_ context.Context, op, _ string) error {
			if op == "after" {
				polls.Add(1)
			}
			if op == "wait" && broken.Load() == 0 {
				return errWoken
			}
			if op == "wait" {
				return store.ErrUnavailable
			}
			return nil
		})
		m := start(t, &wakeful{p}, openSealer(t, dir), nil)
		polls.Store(0)
		time.Sleep(10 * time.Second)
		if n := polls.Load(); n > int64(10*time.Second/restAtLeast)+1 {
			t.Errorf("%d polls in 10 s", n)
		}
		broken.Store(1)
		time.Sleep(2 * time.Second)
		polls.Store(0)
		time.Sleep(10 * time.Second)
		if n := polls.Load(); n < 8 || n > 11 {
			t.Errorf("%d polls in 10 s", n)
		}
		if m.stale(time.Now()) {
			t.Error("stale although the feed can be read")
		}
		m.Close()
		inner.Close()
	})
}

var errWoken = errors.New("woken")

// wakeful says at once that there is something.
type wakeful struct{ store.Store }

func (w *wakeful) Wait(ctx context.Context, cursor string) error {
	if err := w.Store.Wait(ctx, cursor); !errors.Is(err, errWoken) {
		return err
	}
	return nil
}

// setBack moves all nodes to a store in which everything is as in the old one but
// the feed, which is empty or holds what is given.
func (w *shared) setBack(t *testing.T, entries ...string) store.Store {
	t.Helper()
	next := openStore(t, t.TempDir(), w.clock.now)
	items, err := w.store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if err := next.Put(t.Context(), item.Key, item.Value, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range entries {
		if _, err := next.Append(t.Context(), []byte(e), w.clock.now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range w.proxies {
		p.to.Store(&next)
	}
	w.store = next
	return next
}

// A feed that was set back loses nothing that a node knows: it goes on holding
// there, and it is in the feed again for nodes that start now, of every kind.
func TestFeedSetBack(t *testing.T) {
	var logged bytes.Buffer
	var mu sync.Mutex
	w := newShared(t, 1, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&lockedWriter{mu: &mu, to: &logged}, nil))
	})
	m := w.nodes[0]
	var sessions [6]*Session
	var cookies [6][]string
	for i := range sessions {
		g := grant()
		g.Subject, g.Username, g.ProviderSession = string(rune('a'+i)), "user"+string(rune('a'+i)), "op"+string(rune('a'+i))
		s, c, err := m.Issue(t.Context(), g, host, Admission{})
		if err != nil {
			t.Fatal(err)
		}
		sessions[i], cookies[i] = s, lines(c)
	}
	moved := sessions[4]
	for _, err := range []error{
		m.Revoke(t.Context(), sessions[0].ID), m.RevokeProviderSession(t.Context(), "hospital", "opb", ""), m.end(t.Context(), moved.ID, causeMoved),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// Without the list, as on a node whose clock was right.
	for _, r := range []revocation{
		{Kind: labelRevokedAccount, Key: accountID("hospital", "c").String(), Before: w.clock.now().Unix(), Until: m.untilOf(w.clock.now().Unix())},
		{Kind: labelRevokedUsername, Key: usernameID("userd").String(), Before: w.clock.now().Unix(), Until: m.untilOf(w.clock.now().Unix())},
	} {
		if err := m.enact(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	m.follow()
	w.setBack(t)
	m.follow()
	check := func(m *Manager, what string) {
		t.Helper()
		for i := range 5 {
			if _, err := m.Find(cookies[i], host); !errors.Is(err, ErrNone) {
				t.Errorf("%s: session %d: %v", what, i, err)
			}
		}
		if m.Ended(cookies[4], host) != "moved" {
			t.Errorf("%s: the reason is lost", what)
		}
		wantFound(t, m, cookies[5])
	}
	check(m, "this node")
	var fresh *Manager
	eventually(t, "the feed holds it again", func() bool {
		if fresh != nil {
			fresh.Close()
		}
		fresh = start(t, w.store, w.sealer, w.clock.now)
		return fresh.live.over.size() == 5
	})
	check(fresh, "a new node")
	said := func() string {
		mu.Lock()
		defer mu.Unlock()
		return logged.String()
	}
	eventually(t, "the log says so", func() bool { return strings.Contains(said(), "holds again") })
	if text := said(); strings.Count(text, "was set back; reading all of it") != 1 {
		t.Errorf("%s", text)
	}
	// Once: what is there is not added again.
	entries, err := w.store.After(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		m.follow()
	}
	if later, err := w.store.After(t.Context(), "", 0); err != nil || len(later) != len(entries) {
		t.Errorf("%v, %d and then %d entries", err, len(entries), len(later))
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(b)
}

// A feed that was set back and replaced holds what others added meanwhile; what is
// in it is not added again, and what cannot be added now is later.
func TestFeedSetBackHalfway(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	first, firstCookies := issue(t, m)
	second, secondCookies := issue(t, m)
	third, thirdCookies := issue(t, m)
	for _, s := range []*Session{first, second} {
		if err := m.Revoke(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	m.follow()
	next := w.setBack(t, `{"kind":"`+labelRevokedMany+`","entries":[{"kind":"`+labelRevoked+`","sid":"`+first.ID+`","until":1999999999},`+
		`{"kind":"`+labelRevoked+`","sid":"`+third.ID+`","until":1999999999}],"until":1999999999}`)
	var refusals atomic.Int32
	w.proxies[0].hook(func(_ context.Context, op, _ string) error {
		if op == "append" && refusals.Add(1) < 3 {
			return store.ErrUnavailable
		}
		return nil
	})
	eventually(t, "the third try", func() bool { m.follow(); return refusals.Load() >= 3 })
	for _, c := range [][]string{lines(firstCookies), lines(secondCookies), lines(thirdCookies)} {
		wantNone(t, m, c)
	}
	eventually(t, "the entry", func() bool {
		entries, err := next.After(t.Context(), "", 0)
		return err == nil && len(entries) == 2 && strings.Contains(string(entries[1].Value), second.ID) && !strings.Contains(string(entries[1].Value), first.ID)
	})
}

// An entry that the store acknowledged and then lost, as when it fails over to
// another server, is added again, once it is certain.
func TestAcknowledgedEntryLost(t *testing.T) {
	w := newShared(t, 2)
	lossy := &losing{Store: w.store}
	var s store.Store = lossy
	w.proxies[0].to.Store(&s)
	a, b := w.nodes[0], w.nodes[1]
	session, cookies := issue(t, a)
	kept, _ := issue(t, a)
	wantFound(t, b, lines(cookies))
	lossy.lose.Store(true)
	if err := a.Revoke(t.Context(), session.ID); err != nil {
		t.Fatal(err)
	}
	lossy.lose.Store(false)
	wantNone(t, a, lines(cookies))
	a.follow()
	eventually(t, "the other node hears of it", func() bool { _, err := b.Find(lines(cookies), host); return errors.Is(err, ErrNone) })
	if n := lossy.appended.Load(); n != 2 {
		t.Errorf("%d appends", n)
	}
	// One that is there is not added again.
	if err := a.Revoke(t.Context(), kept.ID); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		a.follow()
	}
	if n := lossy.appended.Load(); n != 3 {
		t.Errorf("%d appends", n)
	}
}

// losing acknowledges entries that it does not keep.
type losing struct {
	store.Store
	lose     atomic.Bool
	appended atomic.Int32
}

func (l *losing) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	l.appended.Add(1)
	if l.lose.Load() {
		return "0000000000000001", nil
	}
	return l.Store.Append(ctx, value, expires)
}
