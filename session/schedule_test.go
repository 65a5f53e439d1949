package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// The record of version 0.1, whose keys have no times, is carried over: the key
// signs for another month, what it signed stays good, also on a second node.
func TestUpgradeSignsNobodyOut(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	signing, retired := seed(), seed()
	putKeys(t, s, sealer, `{"keys":[{"seed":"`+retired+`","retired":true},{"seed":"`+signing+`"}]}`)
	var logged bytes.Buffer
	first := start(t, s, sealer, c.now, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	keys := first.ring.Load().keys
	if len(keys) != 2 || first.ring.Load().signer(c.now()) != keys[1] {
		t.Fatal("another key signs")
	}
	byOld := forgeOld(t, first, keys[0])
	_, cookies := issue(t, first)
	sealed, err := s.Get(context.Background(), labelStoreKeys)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := sealer.Open(context.Background(), labelSealKeys, sealed)
	now := c.now().Unix()
	want := fmt.Sprintf(`{"keys":[{"seed":"%s","created":%d,"signs":%[2]d,"retires":%[2]d,"until":%d},{"seed":"%s","created":%[2]d,"signs":%[2]d}]}`,
		retired, now, now+int64((defaultAbsolute+retireSlack)/time.Second), signing)
	if err != nil || string(plain) != want {
		t.Errorf("%s", plain)
	}
	second := start(t, s, sealer, c.now)
	for _, m := range []*Manager{first, second} {
		wantFound(t, m, lines(cookies))
		wantFound(t, m, byOld)
		if n := stateOf(m, "session"); n[KeySigning] != 1 || n[KeyRetired] != 1 || len(n) != 2 {
			t.Errorf("%v", n)
		}
	}
	again, err := s.Get(context.Background(), labelStoreKeys)
	if err != nil || !bytes.Equal(sealed, again) {
		t.Error("carried over twice")
	}
	c.add(rotateAfter - publishAhead)
	first.follow()
	if n := stateOf(first, "session"); n[KeySigning] != 1 || n[KeyNext] != 1 || len(n) != 2 {
		t.Errorf("after a month: %v", n)
	}
	if strings.Contains(logged.String(), "refused") {
		t.Errorf("%s", logged.String())
	}
}

// forgeOld makes the cookies of a session that another key of the ring signed.
func forgeOld(t *testing.T, m *Manager, k *signingKey) []string {
	t.Helper()
	s, cookies := issue(t, m)
	return line(forgeBy(t, k.private, k.kid, tokenType, s.wire()), cookies[1].Value)
}

// A retired key verifies until the longest session that it can have signed is
// over, goes then, and takes no connection with it.
func TestExpiredKeyCutsNothing(t *testing.T) {
	var logged bytes.Buffer
	m, c := manager(t, func(c *Config) {
		c.Lifetimes = Lifetimes{Default: Lifetime{Idle: time.Hour, Absolute: time.Hour}, Roles: map[string]Lifetime{"night": {Absolute: 2 * time.Hour, Idle: 2 * time.Hour}}}
		c.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	})
	old := m.ring.Load().keys[0].kid
	if err := m.RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	retires := c.now().Add(publishAtLeast)
	g := grant()
	g.Roles = []string{"night"}
	night := func() (*Session, []*http.Cookie) {
		s, cookies, err := m.Issue(context.Background(), g, host, Admission{})
		if err != nil {
			t.Fatal(err)
		}
		return s, cookies
	}
	pass(m, c, publishAtLeast-time.Second)
	_, last := night() // by the old key, in its last second
	told, watching := make(chan error, 1), false
	for c.now().Before(retires.Add(2*time.Hour + retireSlack)) {
		if m.ring.Load().find(old) == nil {
			t.Fatalf("gone %s after it retired", c.now().Sub(retires))
		}
		if c.now().Before(retires.Add(2*time.Hour - 20*time.Second)) {
			wantFound(t, m, lines(last))
		} else if !watching {
			watching = true
			s, _ := night()
			defer m.Watch(s.ID, 0, func(err error) { told <- err })()
		}
		pass(m, c, 19*time.Second)
	}
	if m.ring.Load().find(old) != nil {
		t.Error("still there")
	}
	if len(told) != 0 {
		t.Errorf("cut: %v", <-told)
	}
	if strings.Contains(logged.String(), "refused") || !strings.Contains(logged.String(), "retired signing key is over") {
		t.Errorf("%s", logged.String())
	}
}

// What a node with longer sessions needs is kept, whichever node rotated.
func TestLongestNodeDecides(t *testing.T) {
	c := newClock()
	s, sealer := openStore(t, t.TempDir(), c.now), openSealer(t, t.TempDir())
	life := func(d time.Duration) func(*Config) {
		return func(c *Config) { c.Lifetimes = Lifetimes{Default: Lifetime{Absolute: d}} }
	}
	brief, long := start(t, s, sealer, c.now, life(time.Hour)), start(t, s, sealer, c.now, life(48*time.Hour))
	if err := brief.RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	want := c.now().Add(publishAtLeast + 48*time.Hour + retireSlack)
	for range 2 { // and the other one does not take it back
		long.follow()
		brief.follow()
		for _, m := range []*Manager{brief, long} {
			if until := m.Keys()[0].Until; !until.Equal(want) {
				t.Errorf("until %s, want %s", until, want)
			}
		}
	}
}

// A node whose clock was years ahead has published successors of the future: a
// node whose clock is right goes on signing and, when its time comes, does not
// wait for them.
func TestSuccessorOfTheFuture(t *testing.T) {
	c := newClock()
	s, sealer := openStore(t, t.TempDir(), c.now), openSealer(t, t.TempDir())
	m := start(t, s, sealer, c.now)
	_, cookies := issue(t, m)
	wrong := start(t, s, sealer, func() time.Time { return c.now().Add(3 * 365 * 24 * time.Hour) })
	wrong.Close()
	m.follow()
	wantFound(t, m, lines(cookies))
	if n := stateOf(m, "session"); n[KeySigning] != 1 || n[KeyNext] != 1 {
		t.Fatalf("%v", n)
	}
	c.add(rotateAfter - publishAhead)
	m.follow()
	c.add(publishAhead)
	m.follow()
	if n := stateOf(m, "session"); n[KeySigning] != 1 || n[KeyNext] != 0 || n[KeyRetired] != 1 {
		t.Errorf("%v", n)
	}
}

// A node that starts with a clock behind the one that made the keys signs with
// them and makes none.
func TestClockBehindSigns(t *testing.T) {
	c := newClock()
	all := nodes(t, openStore(t, t.TempDir(), c.now), c, Lifetime{}, 30*time.Second, -30*time.Second)
	_, cookies := issue(t, all[1])
	wantFound(t, all[0], lines(cookies))
	if a, err := all[1].Assertion(wantFound(t, all[1], lines(cookies)), "app"); a == "" || err != nil {
		t.Errorf("%v", err)
	}
	if len(all[0].Keys()) != 2 || !bytes.Equal(all[0].JWKS(), all[1].JWKS()) {
		t.Errorf("%d keys", len(all[0].Keys()))
	}
}

// stuck is a store in which keys cannot be swapped, as when its disk is full.
type stuck struct {
	store.Store
	full atomic.Bool
}

func (s *stuck) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if s.full.Load() && (key == labelStoreKeys || key == labelStoreAssertionKeys) {
		return store.ErrUnavailable
	}
	return s.Store.CompareAndSwap(ctx, key, old, new, expires)
}

// A rotation that cannot be written closes nothing; it is made up for later.
func TestRotationThatCannotBeWritten(t *testing.T) {
	var logged bytes.Buffer
	dir, c := t.TempDir(), newClock()
	s := &stuck{Store: openStore(t, dir, c.now)}
	m := start(t, s, openSealer(t, dir), c.now, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	s.full.Store(true)
	c.add(rotateAfter)
	for range 3 {
		pass(m, c, 20*time.Second)
	}
	_, cookies := issue(t, m)
	wantFound(t, m, lines(cookies))
	if n := strings.Count(logged.String(), "cannot be stored"); n != 1 || len(m.Keys()) != 2 {
		t.Errorf("%d lines, %d keys", n, len(m.Keys()))
	}
	if err := m.RotateKeys(context.Background()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	s.full.Store(false)
	m.follow()
	if n := stateOf(m, "session"); n[KeySigning] != 1 || n[KeyNext] != 1 {
		t.Errorf("%v", n)
	}
	fresh, err := New(Config{Store: &stuck{Store: openStore(t, t.TempDir(), c.now)}, Sealer: openSealer(t, dir), Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	fresh.store.(*stuck).full.Store(true)
	if err := fresh.Start(context.Background()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("started without keys: %v", err)
	}
}

// KeyInfo is what operators see; its JSON names are a contract.
func TestKeyInfoJSON(t *testing.T) {
	m, c := manager(t)
	encoded, err := json.Marshal(m.Keys()[0])
	at := c.now().Format(time.RFC3339)
	want := `{"kid":"` + m.ring.Load().keys[0].kid + `","use":"session","state":"signing","created":"` + at + `","signs":"` + at + `"}`
	if err != nil || string(encoded) != want {
		t.Errorf("%s", encoded)
	}
}

// timed is a store with a clock that all nodes share.
type timed struct {
	store.Store
	now func() time.Time
}

func (s *timed) Time(context.Context) (time.Time, error) { return s.now(), nil }

// A node that knows its clock to be wrong begins and ends no key, which would sign
// out people at nodes whose clocks are right; a kill is obeyed all the same.
func TestWrongClockRotatesNothing(t *testing.T) {
	c := newClock()
	s := &timed{openStore(t, t.TempDir(), c.now), c.now}
	all := nodes(t, s, c, Lifetime{}, 0)
	if err := all[0].RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, cookies := issue(t, all[0])
	pass(all[0], c, publishAtLeast)
	before := string(all[0].JWKS())
	restore := copyRecord(t, s, labelStoreKeys)
	sealer := all[0].sealer
	wrong := start(t, s, sealer, func() time.Time { return c.now().Add(40 * 24 * time.Hour) })
	wrong.follow()
	if err := wrong.RotateKeys(context.Background()); err == nil {
		t.Error("rotated")
	}
	all[0].follow()
	wantFound(t, all[0], lines(cookies))
	if string(all[0].JWKS()) != before || string(wrong.JWKS()) != before {
		t.Error("the keys changed")
	}
	kill(t, wrong, signed(t, cookies[0].Value))
	restore()
	wrong.follow()
	all[0].follow()
	wantNone(t, all[0], lines(cookies))
	_, fresh := issue(t, all[0])
	wantFound(t, all[0], lines(fresh))
}
