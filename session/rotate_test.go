package session

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// nodes starts managers on one store whose clocks differ from it by the offsets.
func nodes(t *testing.T, s store.Store, c *clock, life Lifetime, offsets ...time.Duration) []*Manager {
	t.Helper()
	sealer := openSealer(t, t.TempDir())
	all := make([]*Manager, len(offsets))
	for i, offset := range offsets {
		now := func() time.Time { return c.now().Add(offset) }
		all[i] = start(t, s, sealer, now, func(c *Config) { c.Lifetimes = Lifetimes{Default: life} })
	}
	return all
}

// followAll lets all nodes poll at the same time.
func followAll(all []*Manager) {
	var group sync.WaitGroup
	for _, m := range all {
		group.Go(m.follow)
	}
	group.Wait()
}

// stateOf counts the keys of one use by state.
func stateOf(m *Manager, use string) map[string]int {
	states := make(map[string]int)
	for _, k := range m.Keys() {
		if k.Use == use {
			states[k.State]++
		}
	}
	return states
}

// person is a session that is checked on every node as long as it should live.
type person struct {
	session *Session
	lines   []string
	context string
	renews  bool
}

// S9: three nodes with clocks that differ by a minute live through two rotations.
// Never are there two rotations for one, and nobody is signed out: neither who
// comes back now and then nor who stays away as long as is allowed.
func TestRotationSignsNobodyOut(t *testing.T) {
	c := newClock()
	all := nodes(t, openStore(t, t.TempDir(), c.now), c, Lifetime{Idle: 20 * time.Hour, Absolute: 5 * 24 * time.Hour}, -30*time.Second, 0, 30*time.Second)
	began, seen := c.now(), make(map[string]time.Time)
	var people []*person
	for step := range 156 { // 65 days
		if step > 0 {
			c.add(10 * time.Hour)
			followAll(all)
			followAll(all) // who read before another one wrote
		}
		s, cookies := issue(t, all[step%3])
		people = append(people, &person{s, lines(cookies), cookies[1].Value, step%4 == 0})
		people = alive(t, all, people, c.now(), all[(step+1)%3])
		for _, m := range all {
			if !bytes.Equal(m.ring.Load().sealed, all[0].ring.Load().sealed) || m.ring.Load().sealed == nil {
				t.Fatal("the nodes do not agree")
			}
			for _, k := range m.Keys() {
				if _, known := seen[k.KID]; !known {
					seen[k.KID] = c.now()
					if lead := k.Signs.Sub(c.now()); c.now().After(began) && lead < publishAtLeast {
						t.Errorf("published %s before it signs", lead)
					}
				}
			}
			if n := stateOf(m, "session"); n[KeySigning] != 1 || n[KeyRetired] > 1 || n[KeyNext] > 1 {
				t.Errorf("%v", n)
			}
		}
	}
	if len(seen) != 2*3 {
		t.Errorf("%d keys in 65 days", len(seen))
	}
	for _, m := range all {
		if n := stateOf(m, "assertion"); n[KeySigning] != 1 || n[KeyRetired] != 0 {
			t.Errorf("a retired assertion key is kept for longer than an assertion lives: %v", n)
		}
	}
}

// alive looks for everybody on every node, renews at one, and drops who is over.
func alive(t *testing.T, all []*Manager, people []*person, now time.Time, at *Manager) (left []*person) {
	t.Helper()
	for _, p := range people {
		if now.Add(time.Minute).After(p.session.Expires) {
			if p.renews && now.Before(p.session.Ends.Add(-time.Minute)) {
				t.Fatal("one that renews has ended")
			}
			continue
		}
		for i, m := range all {
			if _, err := m.Find(p.lines, host); err != nil {
				t.Fatalf("node %d, session of %s, renews %v: %v", i, p.session.Started, p.renews, err)
			}
		}
		if p.renews {
			renewed, s, err := renew(at, p.session, p.lines, host)
			if err != nil {
				t.Fatal(err)
			}
			if renewed != nil {
				p.session, p.lines = s, line(renewed.Value, p.context)
			}
		}
		left = append(left, p)
	}
	return left
}

// meeting lets the first n swaps of a record wait for each other, so that all have
// read the same record before any of them writes.
type meeting struct {
	store.Store
	key       string
	n         atomic.Int32
	all       chan struct{}
	conflicts atomic.Int32
}

func (s *meeting) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if key != s.key {
		return s.Store.CompareAndSwap(ctx, key, old, new, expires)
	}
	if n := s.n.Add(-1); n >= 0 {
		if n == 0 {
			close(s.all)
		}
		select {
		case <-s.all:
		case <-ctx.Done(): // they did not all come: the test says so
		}
	}
	err := s.Store.CompareAndSwap(ctx, key, old, new, expires)
	if errors.Is(err, store.ErrConflict) {
		s.conflicts.Add(1)
	}
	return err
}

// Of three nodes that find a rotation due at the same moment one writes it.
func TestRotationRace(t *testing.T) {
	for _, record := range []string{labelStoreKeys, labelStoreAssertionKeys} {
		for name, act := range map[string]func(*Manager) error{
			"scheduled": func(m *Manager) error { m.follow(); return nil },
			"by hand":   func(m *Manager) error { return m.RotateKeys(context.Background()) },
		} {
			t.Run(name+" "+record, func(t *testing.T) {
				c := newClock()
				s := &meeting{Store: openStore(t, t.TempDir(), c.now), key: record, all: make(chan struct{})}
				all := nodes(t, s, c, Lifetime{}, 0, 10*time.Second, -10*time.Second)
				if name == "scheduled" {
					c.add(rotateAfter - time.Hour)
				}
				s.n.Store(int32(len(all)))
				var group sync.WaitGroup
				for _, m := range all {
					group.Go(func() {
						if err := act(m); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				followAll(all)
				if s.conflicts.Load() < 2 {
					t.Errorf("%d conflicts", s.conflicts.Load())
				}
				for _, m := range all {
					if !bytes.Equal(m.JWKS(), all[0].JWKS()) || len(m.Keys()) != 4 {
						t.Errorf("%d keys", len(m.Keys()))
					}
				}
			})
		}
	}
}

// RotateKeys publishes for two minutes; a second call, or one on another node,
// adds nothing. A node that is ahead signs first, and one that is behind, or has
// polled only half a minute after the publication, knows the key by then.
func TestRotateByHand(t *testing.T) {
	c := newClock()
	all := nodes(t, openStore(t, t.TempDir(), c.now), c, Lifetime{}, 0, 30*time.Second, -30*time.Second)
	_, old := issue(t, all[0])
	for _, m := range all[:2] {
		if err := m.RotateKeys(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	before := all[0].ring.Load().keys[0].kid
	c.add(29 * time.Second)
	followAll(all)
	for i, m := range all {
		for _, use := range []string{"session", "assertion"} {
			if n := stateOf(m, use); n[KeySigning] != 1 || n[KeyNext] != 1 || len(n) != 2 {
				t.Errorf("node %d: %s keys %v", i, use, n)
			}
		}
	}
	if got := all[0].Keys()[1].Signs; !got.Equal(c.now().Add(publishAtLeast - 29*time.Second)) {
		t.Errorf("signs at %s", got)
	}
	c.add(61 * time.Second) // ahead: two minutes; behind: one
	signed := make(map[string]int)
	for i, m := range all {
		followAll(all)
		_, cookies := issue(t, m)
		kid := m.ring.Load().signer(m.now()).kid
		if (kid == before) == (i == 1) {
			t.Errorf("node %d signs with the wrong key", i)
		}
		signed[kid]++
		for _, other := range all {
			wantFound(t, other, lines(cookies))
			wantFound(t, other, lines(old))
		}
	}
	if len(signed) != 2 {
		t.Error("the nodes that are ahead and behind sign alike: nothing was tested")
	}
	// A rotation that the schedule has published a day ahead is brought forward.
	c.add(rotateAfter - time.Hour)
	followAll(all)
	if n := stateOf(all[0], "session"); n[KeyNext] != 1 {
		t.Fatalf("%v", n)
	}
	if err := all[0].RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := stateOf(all[0], "session"); n[KeyNext] != 1 {
		t.Fatalf("%v", n)
	}
	c.add(publishAtLeast)
	followAll(all[:1])
	if n := stateOf(all[0], "session"); n[KeySigning] != 1 || n[KeyNext] != 0 || n[KeyRetired] != 1 {
		t.Errorf("%v", n)
	}
}

// Rotating by hand again and again does not fill the record, and does not keep
// the schedule from its work.
func TestRotateTooOften(t *testing.T) {
	m, c := manager(t)
	var err error
	for range maxKeys + 1 {
		if err = m.RotateKeys(context.Background()); err != nil {
			break
		}
		pass(m, c, publishAtLeast)
	}
	if err == nil || errors.Is(err, store.ErrConflict) || len(m.ring.Load().keys) != maxKeys {
		t.Errorf("%d keys: %v", len(m.ring.Load().keys), err)
	}
	_, cookies := issue(t, m)
	pass(m, c, time.Second)
	wantFound(t, m, lines(cookies))
	m.Close()
	if err := m.RotateKeys(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}
