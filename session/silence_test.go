package session

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// Row 162 and what a site may tolerate: while the store is silent, Find hands out
// the sessions that this node had verified before it was heard last, and says so;
// no other is handed out, and there is no new one.
func TestRow162SilentStore(t *testing.T) {
	w := newShared(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	_, known := issue(t, a)
	_, elsewhere := issue(t, b)
	w.pass(time.Second)
	w.proxies[0].dead.Store(true)
	w.clock.add(10 * time.Second)
	if a.Silence() != 0 {
		t.Errorf("silence of %v", a.Silence())
	}
	// Verified when the store was silent already, for less than 30 s: let in, but
	// nobody knows whether it was revoked by then.
	late, lateCookies := issue(t, b)
	wantFound(t, a, lines(lateCookies))
	for range 25 { // b hears all the time
		w.clock.add(time.Second)
		b.follow()
	}
	if d := a.Silence(); d != 35*time.Second {
		t.Errorf("silence of %v", d)
	}
	wantStale(t, a, lines(known), true)
	wantStale(t, a, lines(elsewhere), false)
	wantStale(t, a, lines(lateCookies), false)
	wantNone(t, a, nil)
	wantNone(t, a, line(known[0].Value, strings.Repeat("A", 43)))
	wantFound(t, b, lines(known))
	if h := a.Health(); !h.Stale || h.Silence != 35*time.Second || !h.Running {
		t.Errorf("%+v", h)
	}
	for name, err := range map[string]error{
		"Issue": func() error { _, _, err := signIn(t, a, Admission{}); return err }(),
		"Join":  func() error { _, _, err := a.Join(t.Context(), late, "lab.example"); return err }(),
		"Revive": func() error {
			_, _, err := a.Revive(t.Context(), lines(known), host)
			return err
		}(),
		"Sessions": func() error { _, err := a.Sessions(t.Context(), "hospital", "x"); return err }(),
	} {
		if !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.proxies[0].dead.Store(false)
	a.follow()
	for _, c := range [][]string{lines(known), lines(elsewhere), lines(lateCookies)} {
		wantFound(t, a, c)
	}
	if a.Silence() != 0 || a.Health().Stale {
		t.Error("still silent")
	}
}

// An active person's idle end does not come because the store is silent, nor before
// it is silent for long enough to be stale; what was not known here is not renewed;
// and what was revoked meanwhile is over when the store is back.
func TestRenewalInSilence(t *testing.T) {
	w := newShared(t, 2, func(c *Config) {
		c.Refresh = func(context.Context, *Session, Kept) (Verdict, error) { return Verdict{}, store.ErrUnavailable }
	})
	a, b := w.nodes[0], w.nodes[1]
	s, cookies := issue(t, a)
	w.pass(time.Second)
	w.proxies[0].dead.Store(true)
	other, otherCookies := issue(t, b)
	now, current := lines(cookies), s
	for minute := range 40 {
		w.clock.add(time.Minute)
		b.follow()
		found, err := a.Find(now, host)
		if found == nil || !errors.Is(err, ErrStale) {
			t.Fatalf("minute %d: %v", minute, err)
		}
		cookie, next, err := renew(a, found, now, host)
		if err != nil || cookie == nil {
			t.Fatalf("minute %d: %v", minute, err)
		}
		now, current = line(cookie.Value, cookies[1].Value), next
	}
	if current.ID != s.ID || !current.Ends.Equal(s.Ends) {
		t.Errorf("%+v", current)
	}
	if cookie, _, err := renew(a, other, lines(otherCookies), host); cookie != nil || err == nil {
		t.Errorf("one that was not known here: %v", err)
	}
	if err := b.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	w.proxies[0].dead.Store(false)
	a.follow()
	wantNone(t, a, now)
}

func TestRenewalWhenTheStoreFailsAMoment(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	s, cookies := issue(t, m)
	w.pass(14 * time.Minute)
	w.proxies[0].dead.Store(true) // not stale yet
	cookie, next, err := renew(m, s, lines(cookies), host)
	if err != nil || cookie == nil || !next.Expires.Equal(w.clock.now().Add(15*time.Minute)) {
		t.Errorf("%v", err)
	}
}

// Connections go on for as long as their site tolerates, if their session was known.
func TestWatchTolerates(t *testing.T) {
	w := newShared(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	known, _ := issue(t, a)
	w.pass(time.Second)
	w.proxies[0].dead.Store(true)
	w.clock.add(time.Second)
	late, lateCookies := issue(t, b)
	wantFound(t, a, lines(lateCookies))
	type cut struct {
		who string
		err error
	}
	cuts := make(chan cut, 10)
	watch := func(who string, sid string, tolerate time.Duration) {
		a.Watch(sid, tolerate, func(err error) { cuts <- cut{who, err} })
	}
	watch("strict", known.ID, 0)
	watch("ten", known.ID, 10*time.Minute)
	watch("five", known.ID, 5*time.Minute)
	watch("late", late.ID, 10*time.Minute)
	expect := func(after time.Duration, who ...string) {
		t.Helper()
		w.clock.add(after)
		a.sweep()
		got := map[string]error{}
		for range who {
			c := <-cuts
			got[c.who] = c.err
		}
		for _, name := range who {
			if err, there := got[name]; !there || !errors.Is(err, ErrStale) || Reason(err) != "silent" {
				t.Errorf("%s: %v", name, err)
			}
		}
		if len(cuts) != 0 {
			t.Errorf("also %v", <-cuts)
		}
	}
	expect(28 * time.Second)
	expect(2*time.Second, "strict", "late")
	watch("new and tolerant", known.ID, 5*time.Minute) // the request was let in, marked
	watch("new and strict", known.ID, 0)
	expect(0, "new and strict")
	expect(4*time.Minute + 28*time.Second)
	expect(2*time.Second, "five", "new and tolerant")
	expect(5*time.Minute, "ten")
	if h := a.Health(); h.Watchers != 0 {
		t.Errorf("%d watchers", h.Watchers)
	}
}

// ticking is a store with a clock of its own.
type ticking struct {
	store.Store
	skew atomic.Int64
	dead atomic.Bool
	now  func() time.Time
}

func (s *ticking) Time(context.Context) (time.Time, error) {
	if s.dead.Load() {
		return time.Time{}, store.ErrUnavailable
	}
	return s.now().Add(time.Duration(s.skew.Load())), nil
}

// A node whose clock differs from the store's lets nobody in, tolerates nothing and
// cuts what is open: it would judge every end wrongly.
func TestWrongClockLetsNobodyIn(t *testing.T) {
	for _, skew := range []time.Duration{31 * time.Second, -31 * time.Second, 10 * time.Minute, -10 * time.Minute} {
		dir, c := t.TempDir(), newClock()
		s := &ticking{Store: openStore(t, dir, c.now), now: c.now}
		m := start(t, s, openSealer(t, dir), c.now)
		session, cookies := issue(t, m)
		told := make(chan error, 1)
		defer m.Watch(session.ID, time.Hour, func(err error) { told <- err })()
		edge := 30 * time.Second
		if skew < 0 {
			edge = -edge
		}
		s.skew.Store(int64(edge))
		m.follow()
		wantFound(t, m, lines(cookies))
		s.skew.Store(int64(skew))
		m.follow()
		wantStale(t, m, lines(cookies), false)
		if m.Silence() != 0 || m.Health().Skew != skew || !m.Health().Stale {
			t.Errorf("%+v", m.Health())
		}
		if _, _, err := signIn(t, m, Admission{}); !errors.Is(err, ErrStale) {
			t.Errorf("%v", err)
		}
		m.sweep()
		if err := <-told; !errors.Is(err, ErrStale) {
			t.Errorf("%v", err)
		}
		s.skew.Store(0)
		m.follow()
		wantFound(t, m, lines(cookies))
		s.dead.Store(true) // a clock that cannot be asked is a store that is silent
		c.add(31 * time.Second)
		m.follow()
		wantStale(t, m, lines(cookies), true)
		m.Close()
	}
}

// A store that answers slowly is not taken for one with another clock.
func TestSlowClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := &ticking{Store: openStore(t, dir, nil), now: func() time.Time {
			time.Sleep(40 * time.Second)
			now := time.Now()
			time.Sleep(40 * time.Second)
			return now
		}}
		m, err := New(Config{Store: s, Sealer: openSealer(t, dir)})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.checkClock(t.Context()); err != nil || m.skewed() {
			t.Errorf("%v, %v", err, m.Health().Skew)
		}
		s.Close()
	})
}

// On a node that only keeps a connection open, the idle end is where another node's
// renewals have moved it; when the store does not say so in time, it has come.
func TestWatchAsksTheOthers(t *testing.T) {
	w := newShared(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	s, cookies := issue(t, a)
	wantFound(t, b, lines(cookies))
	told := make(chan error, 2)
	defer b.Watch(s.ID, time.Hour, func(err error) { told <- err })()
	w.pass(10 * time.Minute)
	if _, _, err := renew(a, s, lines(cookies), host); err != nil {
		t.Fatal(err)
	}
	idle := func() {
		b.sweep()
		eventually(t, "the answer", func() bool {
			shard := b.live.shard(s.ID)
			shard.mu.Lock()
			defer shard.mu.Unlock()
			l := shard.lives[s.ID]
			return l == nil || !l.asking
		})
	}
	w.pass(6 * time.Minute)
	idle()
	if len(told) != 0 {
		t.Fatalf("cut although it is in use: %v", <-told)
	}
	w.pass(8*time.Minute + 59*time.Second)
	idle()
	if len(told) != 0 {
		t.Fatalf("%v", <-told)
	}
	w.pass(time.Second)
	idle()
	if err := <-told; !errors.Is(err, ErrNone) || Reason(err) != "expired" {
		t.Errorf("%v", err)
	}

	for name, fail := range map[string]func(ctx context.Context) error{
		"fails": func(context.Context) error { return store.ErrUnavailable },
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		s, cookies := issue(t, a)
		wantFound(t, b, lines(cookies))
		defer b.Watch(s.ID, time.Hour, func(err error) { told <- err })()
		w.pass(10 * time.Minute)
		if _, _, err := renew(a, s, lines(cookies), host); err != nil {
			t.Fatal(err)
		}
		w.proxies[1].hook(func(ctx context.Context, op, key string) error {
			if op == "get" && key == recordKey(s.ID) {
				return fail(ctx)
			}
			return nil
		})
		w.pass(6 * time.Minute)
		began := time.Now()
		b.sweep()
		if err := <-told; Reason(err) != "expired" || time.Since(began) > 4*time.Second {
			t.Errorf("a store that %s: %v after %v", name, err, time.Since(began))
		}
		w.proxies[1].hook(nil)
	}
}

// Between the moment in which a session is revoked and that in which its
// connections are cut, none is added.
func TestWatchOfARevokedSession(t *testing.T) {
	m, c := manager(t)
	s, _ := issue(t, m)
	m.live.over.end(bySession, parseID(s.ID), c.now().Unix()+1000, causeMoved)
	told := make(chan error, 1)
	m.Watch(s.ID, 0, func(err error) { told <- err })
	if err := <-told; Reason(err) != "moved" {
		t.Errorf("%v", err)
	}
}

// A renewal on this node while the store is being asked counts, whatever the store
// says then.
func TestWatchRenewedWhileAsking(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	s, _ := issue(t, m)
	told := make(chan error, 1)
	defer m.Watch(s.ID, time.Hour, func(err error) { told <- err })()
	asked, answer := make(chan struct{}), make(chan struct{})
	w.proxies[0].hook(func(_ context.Context, op, key string) error {
		if op == "get" && key == recordKey(s.ID) {
			close(asked)
			<-answer
			return store.ErrUnavailable
		}
		return nil
	})
	w.pass(15 * time.Minute)
	m.sweep()
	<-asked
	next := *s
	next.Expires = w.clock.now().Add(15 * time.Minute)
	m.live.seen(&next, w.clock.now())
	close(answer)
	eventually(t, "the answer", func() bool {
		shard := m.live.shard(s.ID)
		shard.mu.Lock()
		defer shard.mu.Unlock()
		l := shard.lives[s.ID]
		return l == nil || !l.asking
	})
	if len(told) != 0 {
		t.Errorf("cut: %v", <-told)
	}
}

// A machine that slept has a monotonic clock that stood still, and one whose clock was set back a wall clock that did: the
// store was silent for the longer of the two.
func TestSilenceThroughSleep(t *testing.T) {
	now := time.Now() // with a monotonic reading
	for name, c := range map[string]struct {
		then time.Time
		want time.Duration
	}{
		"running":  {now.Add(-time.Minute), time.Minute},
		"by wall":  {now.Round(0).Add(-time.Hour), time.Hour},
		"set back": {now.Round(0).Add(time.Hour), 0},
	} {
		if got := since(now, c.then); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
