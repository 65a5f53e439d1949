package session

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// offset is a clock that is so much ahead of another one.
func offset(now func() time.Time, d time.Duration) func() time.Time {
	return func() time.Time { return now().Add(d) }
}

// The node whose clock is ahead sees an idle end that has not come on the other one.
// Whoever waits for that moment does not get two sign-ins for good where one is allowed.
func TestLimitBetweenClocksThatDiffer(t *testing.T) {
	for _, on := range []OnLimit{Refuse, Move} {
		w := newShared(t, 1, limited(1, on))
		a := w.nodes[0]
		b := start(t, w.store, w.sealer, offset(w.clock.now, 50*time.Second), limited(1, on))
		old, oldCookies, err := signIn(t, a, Admission{})
		if err != nil {
			t.Fatal(err)
		}
		pass(a, w.clock, 15*time.Minute-30*time.Second)
		b.follow()
		_, newCookies, err := signIn(t, b, Admission{})
		if err != nil {
			t.Fatal(err) // by that node's clock nobody is there any more
		}
		pass(a, w.clock, time.Second)
		b.follow()
		if _, _, err := renew(a, old, lines(oldCookies), host); !errors.Is(err, ErrLimit) {
			t.Errorf("the one that was given up is renewed beside the new one: %v", err)
		}
		pass(a, w.clock, time.Minute)
		b.follow()
		wantNone(t, a, lines(oldCookies))
		wantFound(t, a, lines(newCookies))
	}
}

// Somebody who is renewed late, in the last minute before the idle end, keeps the place
// that nobody took, also where the limit has become smaller than what is there.
func TestLateRenewalKeepsItsPlace(t *testing.T) {
	w := newShared(t, 1)
	first, firstCookies := issue(t, w.nodes[0])
	second, secondCookies := issue(t, w.nodes[0])
	m := start(t, w.store, w.sealer, w.clock.now, limited(1, Refuse))
	w.clock.add(15*time.Minute - 5*time.Second)
	w.follow()
	m.follow()
	for s, cookies := range map[*Session][]string{first: lines(firstCookies), second: lines(secondCookies)} {
		if c, _, err := renew(m, s, cookies, host); err != nil || c == nil {
			t.Errorf("%v", err)
		}
	}
	wantListed(t, m, first, second)
	if _, _, err := signIn(t, m, Admission{}); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
}

// A sign-in that waits for an answer of the person, on a node whose clock is ahead, is
// over with everything else when all sessions of the person are ended meanwhile.
func TestPendingSignInByAClockAhead(t *testing.T) {
	w := newShared(t, 1)
	a := w.nodes[0]
	b := start(t, w.store, w.sealer, offset(w.clock.now, 50*time.Second))
	proved := b.now()
	pass(a, w.clock, 10*time.Second)
	if _, err := a.RevokeUser(t.Context(), User{Source: grant().Source, Subject: grant().Subject}); err != nil {
		t.Fatal(err)
	}
	pass(a, w.clock, 5*time.Second)
	b.follow()
	if _, _, err := signIn(t, b, Admission{Proved: proved}); !errors.Is(err, ErrNone) {
		t.Errorf("what waited goes on: %v", err)
	}
	if _, _, err := signIn(t, b, Admission{}); err != nil { // who proves it anew gets in
		t.Errorf("%v", err)
	}
}

// An entry that a newer version wrote makes the older nodes refuse, not busy: they
// would ask the store for the same entry hundreds of times a second.
func TestEntryThatIsNotUnderstoodIsNoLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inner := openStore(t, dir, nil)
		p := newProxy(inner)
		var polls atomic.Int64
		m := start(t, p, openSealer(t, dir), nil)
		p.hook(func(_ context.Context, op, _ string) error {
			if op == "after" {
				polls.Add(1)
			}
			return nil
		})
		if _, err := inner.Append(t.Context(), []byte(`{"kind":"anteroom/session/newer/v9","until":4000000000}`), neverExpires); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := polls.Load(); n < 50 || n > 70 {
			t.Errorf("%d polls in a minute", n)
		}
		if !m.stale(time.Now()) {
			t.Error("not stale")
		}
		m.Close()
		inner.Close()
	})
}

// Row 165 for keys: a key was killed, all nodes are down, somebody restores the copy in
// which it was good. Whoever has the key makes no session with it.
func TestKilledKeyInARestoredStore(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	sealer := openSealer(t, dir)
	db, copied := filepath.Join(dir, "store", "test.db"), filepath.Join(dir, "copy.db")
	mark := &note{}
	marked := func(c *Config) { c.Mark = mark }

	s := openStore(t, dir, c.now)
	m := start(t, s, sealer, c.now, marked)
	one, cookies := issue(t, m)
	if err := m.Revoke(t.Context(), newID()); err != nil {
		t.Fatal(err)
	}
	m.follow()
	m.Close()
	s.Close()
	copyFile(t, db, copied)

	s = openStore(t, dir, c.now)
	m = start(t, s, sealer, c.now, marked)
	stolen := m.ring.Load().signer(c.now())
	if err := m.KillKey(t.Context(), stolen.kid); err != nil {
		t.Fatal(err)
	}
	m.follow()
	m.Close()
	s.Close()
	copyFile(t, copied, db)

	c.add(time.Minute)
	s = openStore(t, dir, c.now)
	m = start(t, s, sealer, c.now, marked)
	c.add(time.Minute)
	m.follow()
	forged := one.wire()
	forged.Started, forged.IssuedAt, forged.Expires = c.now().Unix(), c.now().Unix(), c.now().Unix()+600
	forged.ID, forged.TokenID = newID(), newID()
	wantNone(t, m, line(forgeBy(t, stolen.private, stolen.kid, tokenType, forged), cookies[1].Value))
	_, fresh := issue(t, m)
	wantFound(t, m, lines(fresh))
	// It stays so: the next start knows the store as it was left.
	m.Close()
	m = start(t, s, sealer, c.now, marked)
	wantFound(t, m, lines(fresh))
}

// Hundreds of sign-ins of one account at the same moment, a kiosk's or an attacker's:
// each writes the account's list once, and none fails because the others are there.
func TestManySignInsOfOneAccount(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	var writes atomic.Int64
	w.proxies[0].hook(func(_ context.Context, op, key string) error {
		if op == "swap" && strings.HasPrefix(key, labelList) {
			writes.Add(1)
		}
		return nil
	})
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if _, _, err := signIn(t, m, Admission{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := writes.Load(); n != 200 {
		t.Errorf("200 sign-ins wrote %d times", n)
	}
	if len(m.queue.turns) != 0 {
		t.Errorf("%d accounts stay in memory", len(m.queue.turns))
	}
}

// Whoever waits behind a sign-in that hangs gives up with the request.
func TestSignInBehindOneThatHangs(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	leave, err := m.queue.enter(t.Context(), accountID(grant().Source, grant().Subject))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, _, err := m.Issue(ctx, grant(), host, Admission{}); done <- err }()
	if _, _, err := m.Issue(t.Context(), Grant{Source: "hospital", Subject: "other"}, host, Admission{}); err != nil {
		t.Errorf("another account waits too: %v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	leave()
	if _, _, err := signIn(t, m, Admission{}); err != nil || len(m.queue.turns) != 0 {
		t.Errorf("%v, %d", err, len(m.queue.turns))
	}
}

// A feed that is lost while a node runs loses nothing, as the node adds what it knows. A
// start, or a reload with other lifetimes, a moment later signs nobody out.
func TestStartAfterASetBackThatWasMended(t *testing.T) {
	mark := &note{}
	w := newShared(t, 1, func(c *Config) { c.Mark = mark })
	m := w.nodes[0]
	gone, goneCookies := issue(t, m)
	_, cookies := issue(t, m)
	for _, sid := range []string{newID(), newID(), gone.ID} {
		if err := m.Revoke(t.Context(), sid); err != nil {
			t.Fatal(err)
		}
	}
	saved := func() string { cursor, _ := mark.Load(); return cursor }
	w.pass(markEvery)
	if saved() == "" {
		t.Fatal("no mark")
	}
	next := w.setBack(t)
	before := saved()
	w.proxies[0].hook(func(_ context.Context, op, _ string) error {
		if op == "append" {
			return store.ErrUnavailable
		}
		return nil
	})
	w.pass(time.Second)
	w.pass(time.Minute)
	if saved() != before {
		t.Fatal("the mark says that nothing is lost while the feed lacks what this node knows")
	}
	w.proxies[0].hook(nil)
	eventually(t, "the node has added what it knows", func() bool { w.follow(); return saved() != before })
	second := start(t, next, w.sealer, w.clock.now, func(c *Config) { c.Mark = mark })
	wantFound(t, second, lines(cookies))
	wantNone(t, second, lines(goneCookies))
	w.pass(markEvery)
	if saved() == before {
		t.Error("no mark of the new feed")
	}
}
