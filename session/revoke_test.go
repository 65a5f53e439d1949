package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// flaky is a store that can be cut off.
type flaky struct {
	store.Store
	dead atomic.Bool
}

func (f *flaky) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	if f.dead.Load() {
		return "", store.ErrUnavailable
	}
	return f.Store.Append(ctx, value, expires)
}

func (f *flaky) After(ctx context.Context, cursor string, limit int) ([]store.Entry, error) {
	if f.dead.Load() {
		return nil, store.ErrUnavailable
	}
	return f.Store.After(ctx, cursor, limit)
}

// J72: both copied cookies together are refused after sign-out, on this node, on
// another one, and after a restart of everything.
func TestJ72Revoked(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	sealer, s := openSealer(t, dir), openStore(t, dir, c.now)
	a, b := start(t, s, sealer, c.now), start(t, s, sealer, c.now)
	session, cookies := issue(t, a)
	_, others := issue(t, b)
	for _, m := range []*Manager{a, b} {
		wantFound(t, m, lines(cookies))
		wantFound(t, m, lines(others))
	}
	c.add(2 * time.Minute)
	a.follow()
	b.follow()
	renewed, _, err := renew(b, session, lines(cookies), host)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(context.Background(), session.ID); err != nil {
		t.Fatal(err)
	}
	b.follow()
	check := func(m *Manager) {
		t.Helper()
		wantNone(t, m, lines(cookies))
		wantNone(t, m, line(renewed.Value, cookies[1].Value))
		wantNone(t, m, line(cookies[0].Value+"=", cookies[1].Value)) // with J38
		wantFound(t, m, lines(others))
	}
	check(a)
	check(b)
	a.Close()
	b.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, openStore(t, dir, c.now), openSealer(t, dir), c.now)
	check(again)
	if string(again.JWKS()) != string(a.JWKS()) {
		t.Error("the keys changed over a restart")
	}
	if err := again.Revoke(context.Background(), session.ID); err != nil { // once more is fine
		t.Errorf("%v", err)
	}
}

// What was revoked while a request was half way through does not come back.
func TestRevokedMeanwhile(t *testing.T) {
	m, c := manager(t)
	s, _ := issue(t, m)
	if err := m.Revoke(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := m.settle(&renewal{session: s}); n != nil || !errors.Is(err, ErrNone) {
		t.Errorf("renewal: %v, %v", n, err)
	}
	m.live.seen(s, c.now())
	shard := m.live.shard(s.ID)
	shard.mu.Lock()
	if shard.lives[s.ID] != nil {
		t.Error("the session lives again")
	}
	shard.mu.Unlock()
	told := make(chan error, 1)
	m.Watch(s.ID, 0, func(err error) { told <- err })
	if err := <-told; !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
}

// An older token that arrives late does not bring the idle end back.
func TestIdleEndMovesForwardOnly(t *testing.T) {
	l := newLab(t)
	wantFound(t, l.m, line(l.with(map[string]any{"exp": l.clock.now().Unix() + 5}), l.context))
	var cuts atomic.Int32
	l.m.Watch(l.session.ID, 0, func(error) { cuts.Add(1) })
	pass(l.m, l.clock, 10*time.Second)
	l.m.sweep()
	shard := l.m.live.shard(l.session.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.lives[l.session.ID] == nil || cuts.Load() != 0 {
		t.Error("the watcher was cut at the older token's end")
	}
}

func TestRevokeErrors(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := &flaky{Store: openStore(t, dir, c.now)}
	m := start(t, s, openSealer(t, dir), c.now)
	session, cookies := issue(t, m)
	for _, sid := range []string{"", "x", strings.Repeat("A", 23), "../../../../../../../..", session.ID + "\n", "%s%n%s%n%s%n%s%n%s%n%s%"} {
		if err := m.Revoke(context.Background(), sid); err == nil {
			t.Errorf("%q revoked", sid)
		}
	}
	s.dead.Store(true)
	if err := m.Revoke(context.Background(), session.ID); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	// It was not durable, so it did not happen: the person can try again.
	wantFound(t, m, lines(cookies))
	s.dead.Store(false)
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // the browser hangs up
	if err := m.Revoke(ctx, session.ID); err != nil {
		t.Errorf("%v", err)
	}
	wantNone(t, m, lines(cookies))
	if _, _, err := m.Issue(ctx, grant(), host, Admission{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestStale(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := &flaky{Store: openStore(t, dir, c.now)}
	m := start(t, s, openSealer(t, dir), c.now)
	session, cookies := issue(t, m)
	told := make(chan error, 1)
	defer m.Watch(session.ID, 0, func(err error) { told <- err })()
	s.dead.Store(true)
	c.add(30 * time.Second)
	wantFound(t, m, lines(cookies))
	c.add(time.Nanosecond)
	wantStale(t, m, lines(cookies), true)
	wantNone(t, m, line(cookies[0].Value, strings.Repeat("A", 43))) // who has no session learns nothing
	wantNone(t, m, nil)
	if _, _, err := m.Issue(context.Background(), grant(), host, Admission{}); !errors.Is(err, ErrStale) {
		t.Errorf("Issue: %v", err)
	}
	m.sweep()
	if err := <-told; !errors.Is(err, ErrStale) {
		t.Errorf("watcher: %v", err)
	}
	m.Watch(session.ID, 0, func(err error) { told <- err })()
	if err := <-told; !errors.Is(err, ErrStale) {
		t.Errorf("late watcher: %v", err)
	}
	s.dead.Store(false)
	m.follow()
	wantFound(t, m, lines(cookies))
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s, sealer := openStore(t, dir, nil), openSealer(t, dir)
		a, b := start(t, s, sealer, nil), start(t, s, sealer, nil)
		began := time.Now()
		session, cookies := issue(t, a)
		wantFound(t, b, lines(cookies))
		type cut struct {
			node  string
			err   error
			after time.Duration
		}
		cuts := make(chan cut, 10)
		watch := func(node string, m *Manager, sid string) func() {
			return m.Watch(sid, 0, func(err error) { cuts <- cut{node, err, time.Since(began)} })
		}
		expect := func(node string, want error, from, to time.Duration) {
			t.Helper()
			if c := <-cuts; c.node != node || !errors.Is(c.err, want) || c.after < from || c.after > to {
				t.Errorf("%+v, want %s %v in %v to %v", c, node, want, from, to)
			}
		}
		stopA, stopB := watch("a", a, session.ID), watch("b", b, session.ID)
		watch("stopped", a, session.ID)()
		time.Sleep(10 * time.Minute)
		// The idle end moves with the renewal.
		cookie, next, err := renew(a, session, lines(cookies), host)
		if err != nil || cookie == nil {
			t.Fatal(err)
		}
		// On both: b asks the store before it cuts.
		first, second := <-cuts, <-cuts
		for _, c := range []cut{first, second} {
			if !errors.Is(c.err, ErrNone) || c.after < 25*time.Minute || c.after > 25*time.Minute+time.Second || first.node == second.node {
				t.Errorf("%+v", c)
			}
		}
		stopA()
		stopB()
		stopA()
		watch("late", a, next.ID)()
		expect("late", ErrNone, 25*time.Minute, 26*time.Minute)

		session, cookies = issue(t, a)
		wantFound(t, b, lines(cookies))
		defer watch("a", a, session.ID)()
		defer watch("b", b, session.ID)()
		defer watch("unknown", a, newID())()
		expect("unknown", ErrNone, 0, time.Hour)
		began = time.Now()
		if err := a.Revoke(t.Context(), session.ID); err != nil {
			t.Fatal(err)
		}
		expect("a", ErrNone, 0, 0)
		expect("b", ErrNone, 0, 100*time.Millisecond)
		defer watch("revoked", a, session.ID)()
		expect("revoked", ErrNone, 0, time.Second)

		session, _ = issue(t, a)
		defer watch("a", a, session.ID)()
		a.Close()
		b.Close()
		expect("a", ErrClosed, 0, time.Minute)
		synctest.Wait()
		if len(cuts) != 0 {
			t.Errorf("%+v", <-cuts)
		}
		s.Close()
	})
}

// The absolute end cuts, whatever was renewed.
func TestWatchAbsoluteEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := openStore(t, dir, nil)
		m := start(t, s, openSealer(t, dir), nil, func(c *Config) { c.Lifetimes.Default.Idle, c.Lifetimes.Default.Absolute = time.Minute, 5*time.Minute })
		current, cookies := issue(t, m)
		ends, token := current.Ends, cookies[0].Value
		over := make(chan time.Time, 1)
		defer m.Watch(current.ID, 0, func(error) { over <- time.Now() })()
		for time.Now().Before(ends) {
			cookie, next, err := renew(m, current, line(token, cookies[1].Value), host)
			if err != nil {
				t.Fatal(err)
			}
			if cookie != nil {
				token, current = cookie.Value, next
			}
			time.Sleep(20 * time.Second)
		}
		if at := <-over; at.Before(ends) || at.After(ends.Add(time.Second)) {
			t.Errorf("cut at %v, ends at %v", at, ends)
		}
		m.Close()
		s.Close()
	})
}

// cut and stop at the same time, cuts that call stop, panic, block or revoke.
func TestWatchRaces(t *testing.T) {
	m, _ := manager(t)
	for range 20 {
		s, cookies := issue(t, m)
		wantFound(t, m, lines(cookies))
		var all sync.WaitGroup
		var called [50]atomic.Int32
		for i := range called {
			all.Go(func() {
				var stop func()
				var mu sync.Mutex
				mu.Lock()
				stop = m.Watch(s.ID, 0, func(error) {
					called[i].Add(1)
					if i%10 == 0 {
						panic("a fault in somebody's cut")
					}
					mu.Lock()
					defer mu.Unlock()
					stop()
				})
				mu.Unlock()
				if i%2 == 0 {
					stop()
				}
			})
		}
		all.Go(func() {
			if err := m.Revoke(context.Background(), s.ID); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		for i := range called {
			if n := called[i].Load(); n > 1 {
				t.Errorf("cut %d times", n)
			}
		}
	}
}

func TestWatchersAreBounded(t *testing.T) {
	m, c := manager(t)
	s, _ := issue(t, m)
	told := make(chan error, 2*maxWatchers)
	for range maxWatchers {
		m.Watch(s.ID, 0, func(err error) { told <- err })
	}
	if len(told) != 0 {
		t.Fatalf("%v", <-told)
	}
	m.Watch(s.ID, 0, func(err error) { told <- err })
	if err := <-told; !errors.Is(err, errTooManyWatchers) {
		t.Errorf("%v", err)
	}
	// A full registry admits no further session to watching; it still works.
	full, cookies := issue(t, m)
	shard := m.live.shard(full.ID)
	shard.mu.Lock()
	delete(shard.lives, full.ID)
	for i := range maxLive / liveShards {
		shard.lives[fmt.Sprint(i)] = &life{expires: c.now().Add(time.Hour)}
	}
	shard.mu.Unlock()
	wantFound(t, m, lines(cookies))
	m.Watch(full.ID, 0, func(err error) { told <- err })
	if err := <-told; !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	// Nothing of an ended session stays.
	for range 100 {
		issue(t, m)
	}
	if err := m.Revoke(context.Background(), newID()); err != nil {
		t.Fatal(err)
	}
	c.add(24 * time.Hour)
	m.sweep()
	eventually(t, "nothing is left", func() bool { return m.Health().Sessions == 0 }) // the store is asked about the one that is watched
}
