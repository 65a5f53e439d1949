package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
)

// copyRecord returns what lies in the store for a ring, and a function that puts
// it back, as a restored backup does.
func copyRecord(t *testing.T, s store.Store, key string) (restore func()) {
	t.Helper()
	sealed, err := s.Get(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := s.Put(context.Background(), key, sealed, neverExpires); err != nil {
			t.Fatal(err)
		}
	}
}

// wantCut waits for a watcher to be cut.
func wantCut(t *testing.T, told <-chan error, reason string) {
	t.Helper()
	select {
	case err := <-told:
		if Reason(err) != reason {
			t.Errorf("cut: %v, want %s", err, reason)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("not cut: %s", reason)
	}
}

func kill(t *testing.T, m *Manager, kid string) {
	t.Helper()
	if err := m.KillKey(context.Background(), kid); err != nil {
		t.Fatal(err)
	}
}

// signed returns the kid of a token.
func signed(t *testing.T, token string) string {
	t.Helper()
	parsed, err := jws.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header.Kid
}

// J74, row 158: what a killed key signed is refused at once, cached or not, on every node,
// and what is open is cut; another key's sessions and new sign-ins are good. It
// stays so when the store is set back, under the feet of running nodes and of one
// that starts afterwards.
func TestJ74Row158KeyKilled(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	a, b := start(t, s, sealer, c.now), start(t, s, sealer, c.now)
	_, older := issue(t, a)
	if err := a.RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	b.follow()
	c.add(publishAtLeast)
	followAll([]*Manager{a, b})
	session, cookies := issue(t, b)
	kid := signed(t, cookies[0].Value)
	told := make(chan error, 2)
	for _, m := range []*Manager{a, b} {
		wantFound(t, m, lines(cookies))
		wantFound(t, m, lines(older))
		defer m.Watch(session.ID, 0, func(err error) { told <- err })()
	}
	restore := copyRecord(t, s, labelStoreKeys)
	kill(t, a, kid)
	wantNone(t, a, lines(cookies))
	if _, err := a.Find(lines(cookies), host); !errors.Is(err, errToken) || a.ring.Load().find(kid) != nil {
		t.Errorf("%v", err)
	}
	b.follow()
	for range 2 {
		wantCut(t, told, "key-killed")
	}
	refused := func(all ...*Manager) {
		t.Helper()
		for _, m := range all {
			wantNone(t, m, lines(cookies))
			if strings.Contains(string(m.JWKS()), kid) {
				t.Error("published")
			}
			_, fresh := issue(t, m)
			for _, other := range all {
				wantFound(t, other, lines(fresh))
			}
		}
	}
	refused(a, b)
	wantFound(t, a, lines(older))
	wantFound(t, b, lines(older))

	restore()
	followAll([]*Manager{a, b})
	followAll([]*Manager{a, b})
	refused(a, b)
	sealed, err := s.Get(context.Background(), labelStoreKeys)
	if err != nil {
		t.Fatal(err)
	}
	mended, err := a.openRing(context.Background(), forSessions, sealed)
	if err != nil || mended.find(kid) != nil || len(mended.killed) != 1 || mended.killed[0].KID != kid {
		t.Errorf("the record was not mended: %v", err)
	}

	a.Close()
	b.Close()
	restore()
	again := start(t, s, sealer, c.now)
	refused(again)
	// And a node that knows it from the record alone.
	again.Close()
	fresh := &noFeed{Store: s}
	last := start(t, fresh, sealer, c.now)
	restore()
	last.follow()
	refused(last)
}

// noFeed is a store whose feed has lost everything.
type noFeed struct{ store.Store }

func (*noFeed) After(context.Context, string, int) ([]store.Entry, error) { return nil, nil }

// The successor of a killed key: whichever key is killed, one signs, the same on
// all nodes, and a retired one never signs again.
func TestRow158KillEveryState(t *testing.T) {
	for _, state := range []string{KeyNext, KeySigning, KeyRetired} {
		for _, use := range []string{"session", "assertion"} {
			t.Run(state+" "+use, func(t *testing.T) {
				c := newClock()
				all := nodes(t, openStore(t, t.TempDir(), c.now), c, Lifetime{}, 0, 20*time.Second, -20*time.Second)
				for range 2 { // retired, signing, next
					if err := all[0].RotateKeys(context.Background()); err != nil {
						t.Fatal(err)
					}
					c.add(publishAtLeast)
					followAll(all)
				}
				c.add(time.Minute)
				if err := all[1].RotateKeys(context.Background()); err != nil {
					t.Fatal(err)
				}
				followAll(all)
				killed, retired := "", map[string]bool{}
				for _, k := range all[0].Keys() {
					if k.Use == use && k.State == state {
						killed = k.KID
					}
					retired[k.KID] = k.State == KeyRetired
				}
				kill(t, all[2], killed)
				for range 2 {
					followAll(all)
					for i, m := range all {
						n := stateOf(m, use)
						r := m.ringOf(forSessions).Load()
						if use == "assertion" {
							r = m.keys.assertions.Load()
						}
						if n[KeySigning] != 1 || r.find(killed) != nil || retired[r.signer(m.now()).kid] || len(m.Keys()) != 7 {
							t.Errorf("node %d: %v, %d keys", i, n, len(m.Keys()))
						}
						for _, k := range m.Keys() {
							if k.State == KeySigning && k.Signs.After(m.now().Add(time.Minute)) {
								t.Errorf("signs from %s on", k.Signs)
							}
						}
						if string(m.JWKS()) != string(all[0].JWKS()) {
							t.Error("the nodes do not agree")
						}
					}
				}
				c.add(publishAtLeast)
				followAll(all)
				_, cookies := issue(t, all[0])
				for _, m := range all {
					wantFound(t, m, lines(cookies))
				}
			})
		}
	}
}

// Killing assertion keys touches no session; the next assertion is by another.
func TestKillAssertionKey(t *testing.T) {
	m, _ := manager(t)
	session, cookies := issue(t, m)
	told := make(chan error, 1)
	defer m.Watch(session.ID, 0, func(err error) { told <- err })()
	first, err := m.Assertion(session, "app")
	if err != nil {
		t.Fatal(err)
	}
	kid := signed(t, first)
	kill(t, m, kid[:minPrefix])
	second, err := m.Assertion(session, "app")
	if err != nil || signed(t, second) == kid || strings.Contains(string(m.JWKS()), kid) {
		t.Errorf("%v", err)
	}
	wantFound(t, m, lines(cookies))
	m.follow()
	if len(told) != 0 {
		t.Errorf("cut: %v", <-told)
	}
}

// Which names KillKey takes, and that it may be repeated.
func TestKillKeyNames(t *testing.T) {
	m, _ := manager(t)
	_, cookies := issue(t, m)
	kid := m.ring.Load().keys[0].kid
	for name, matches := range map[string]int{
		"": 0, kid[:minPrefix-1]: 0, strings.Repeat("A", 43): 0, kid + "x": 0, strings.ToUpper(kid) + "é": 0, kid[1:]: 0, "*": 0, "        ": 0,
	} {
		var wrong *KeyError
		if err := m.KillKey(context.Background(), name); !errors.As(err, &wrong) || wrong.Matches != matches || wrong.Error() == "" {
			t.Errorf("%q: %v", name, err)
		}
	}
	twin := kid[:20] + strings.Repeat("A", 23)
	if kid[20] == 'A' {
		twin = kid[:20] + strings.Repeat("E", 23)
	}
	m.keys.killed[twin] = struct{}{}
	var wrong *KeyError
	if err := m.KillKey(context.Background(), kid[:20]); !errors.As(err, &wrong) || wrong.Matches != 2 || !strings.Contains(err.Error(), "2 signing keys") {
		t.Errorf("%v", err)
	}
	wantFound(t, m, lines(cookies))
	for range 2 {
		kill(t, m, kid[:21])
		wantNone(t, m, lines(cookies))
	}
	if n := len(m.ring.Load().killed); n != 1 || len(m.Keys()) != 2 {
		t.Errorf("%d tombstones, %d keys", n, len(m.Keys()))
	}
	m.Close()
	if err := m.KillKey(context.Background(), kid); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

// A key that another node made a moment ago is found too, and of several nodes
// that kill the same key at the same time each succeeds.
func TestKillKeyOfAnotherNode(t *testing.T) {
	c := newClock()
	all := nodes(t, openStore(t, t.TempDir(), c.now), c, Lifetime{}, 0, 0, 0)
	if err := all[0].RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	kid := all[0].Keys()[1].KID
	var group sync.WaitGroup
	for _, m := range all {
		group.Go(func() {
			if err := m.KillKey(context.Background(), kid); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	followAll(all)
	for _, m := range all {
		if n := stateOf(m, "session"); n[KeySigning] != 1 || len(n) != 1 || string(m.JWKS()) != string(all[0].JWKS()) {
			t.Errorf("%v", n)
		}
	}
}

// broken is a store that fails where it is told to.
type broken struct {
	store.Store
	swap, feed atomic.Bool
	asked      atomic.Int32
}

func (s *broken) Get(ctx context.Context, key string) ([]byte, error) {
	s.asked.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *broken) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	s.asked.Add(1)
	if s.swap.Load() && (key == labelStoreKeys || key == labelStoreAssertionKeys) {
		return store.ErrUnavailable
	}
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

func (s *broken) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	s.asked.Add(1)
	if s.feed.Load() {
		return "", store.ErrUnavailable
	}
	return s.Store.Append(ctx, value, expires)
}

// A kill that cannot be stored is an error and holds on this node all the same; the
// record is mended when it can be, and the kill can be repeated.
func TestKillKeyThatCannotBeStored(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := &broken{Store: openStore(t, dir, c.now)}, openSealer(t, dir)
	a, b := start(t, s, sealer, c.now), start(t, s, sealer, c.now)
	session, cookies := issue(t, a)
	wantFound(t, b, lines(cookies))
	kid := signed(t, cookies[0].Value)
	s.swap.Store(true)
	if err := a.KillKey(context.Background(), kid); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	for range 2 {
		wantNone(t, a, lines(cookies))
		// No key is left: nobody signs in, nothing panics.
		if _, _, err := a.Issue(context.Background(), grant(), host, Admission{}); err == nil {
			t.Error("issued")
		}
		a.follow()
	}
	if _, err := a.Assertion(session, "app"); err != nil { // by a key of its own
		t.Errorf("%v", err)
	}
	s.swap.Store(false)
	a.follow()
	b.follow()
	_, fresh := issue(t, a)
	for _, m := range []*Manager{a, b} {
		wantNone(t, m, lines(cookies))
		wantFound(t, m, lines(fresh))
	}
	kid = signed(t, fresh[0].Value)
	s.feed.Store(true)
	if err := a.KillKey(context.Background(), kid); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	s.feed.Store(false)
	kill(t, a, kid)
	entries, err := s.After(context.Background(), "", 0)
	if err != nil || len(entries) == 0 || !strings.Contains(string(entries[len(entries)-1].Value), kid) {
		t.Errorf("the feed does not say it: %v", err)
	}
}

// J77: a kid that does not exist costs no store access and leaves nothing behind.
func TestJ77UnknownKeyAsksNobody(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := &broken{Store: openStore(t, dir, c.now)}
	m := start(t, s, openSealer(t, dir), c.now)
	session, cookies := issue(t, m)
	private := newSigningKey(newSeed())
	m.follows.mu.Lock() // no poll meanwhile
	asked := s.asked.Load()
	for i := range 100 {
		for _, kid := range []string{private.kid, fmt.Sprint("kid-", i), strings.Repeat("k", 200), m.keys.assertions.Load().keys[0].kid} {
			wantNone(t, m, line(forgeBy(t, private.private, kid, tokenType, session.wire()), cookies[1].Value))
		}
	}
	if n := s.asked.Load() - asked; n != 0 || m.cache.size() != 0 {
		t.Errorf("%d store accesses, %d cached", n, m.cache.size())
	}
	m.follows.mu.Unlock()
}

// A feed entry that names no key is not passed over: it may be a kill.
func TestKilledKeyEntryNotUnderstood(t *testing.T) {
	m, c := manager(t)
	for _, kid := range []string{"", "x", strings.Repeat("A", 42), strings.Repeat("A", 44), strings.Repeat("+", 43), m.ring.Load().keys[0].kid[:8]} {
		if err := m.obeyKilledKey(revocation{KID: kid}); !errors.Is(err, errFeed) {
			t.Errorf("%q: %v", kid, err)
		}
	}
	until := c.now().Add(time.Hour)
	value := fmt.Sprintf(`{"kind":%q,"kid":"?","until":%d}`, labelKilledKey, until.Unix())
	if _, err := m.store.Append(context.Background(), []byte(value), until); err != nil {
		t.Fatal(err)
	}
	pass(m, c, 31*time.Second)
	if _, _, err := m.Issue(context.Background(), grant(), host, Admission{}); !errors.Is(err, ErrStale) {
		t.Errorf("%v", err)
	}
}

// Tombstones are bounded; the newest stay.
func TestTombstonesAreBounded(t *testing.T) {
	now := newClock().now()
	d := (&ring{}).draft(now, time.Hour)
	var last string
	for range maxTombstones + 10 {
		last = d.add(now).kid
		d.advance(map[string]struct{}{last: {}}, false)
	}
	if len(d.killed) != maxTombstones || d.killed[maxTombstones-1].KID != last || len(d.keys) != 1 {
		t.Errorf("%d tombstones, %d keys", len(d.killed), len(d.keys))
	}
}
