package hardening

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// memory is a store in memory whose next writes can go wrong.
type memory struct {
	mu     sync.Mutex
	value  []byte
	faults []string // of the coming writes: "lost" (said to be lost, and is), "kept" (said to be lost, and is not), ""
	writes int
	after  func() // runs once after the next write
}

func (m *memory) Get(context.Context, string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.value == nil {
		return nil, store.ErrNotFound
	}
	return bytes.Clone(m.value), nil
}

func (m *memory) CompareAndSwap(_ context.Context, _ string, old, new []byte, _ time.Time) error {
	err := m.swap(old, new)
	if after := m.after; after != nil {
		m.after = nil
		after()
	}
	return err
}

func (m *memory) swap(old, new []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fault := ""
	if len(m.faults) > 0 {
		fault, m.faults = m.faults[0], m.faults[1:]
	}
	if fault == "lost" {
		return store.ErrUnavailable
	}
	if !bytes.Equal(m.value, old) || (m.value == nil) != (old == nil) {
		return store.ErrConflict
	}
	m.value = bytes.Clone(new)
	m.writes++
	if fault == "kept" {
		return store.ErrUnavailable
	}
	return nil
}

func (m *memory) raw() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.value)
}

// census is a finished count that names nothing but what it is given.
func census(c *clock, id string, found map[string]int) Census {
	return Census{ID: id, Began: c.Now(), Ended: c.Now(), Records: 100, Versions: found, Outermost: found}
}

func stateOf(t *testing.T, s RingStatus, id string) State {
	t.Helper()
	for _, v := range s.Versions {
		if v.ID == id {
			return v.State
		}
	}
	t.Fatalf("no version %s in %+v", id, s.Versions)
	return ""
}

// ringIn brings a ring to the point at which p1 is in a state; what else there is, is p2.
func ringIn(t *testing.T, state State) (*node, *clock) {
	t.Helper()
	c := newClock()
	n := newNode(t, new(memory), c, nil, testKey(t, c))
	n.mustSync(t)
	do := func(_ RingStatus, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c.add(time.Second)
	}
	if state == StatePrimary {
		return n, c
	}
	do(n.Rotate(t.Context(), 0))
	switch state {
	case StateInner:
		do(RingStatus{}, n.KeepCensus(t.Context(), census(c, "first", nil)))
		do(n.Close(t.Context(), "p1"))
	case StateRetired, StateDestroyed:
		do(n.Retire(t.Context(), "p1", true))
		if state == StateDestroyed {
			do(n.Destroy(t.Context(), "p1", true))
		}
	}
	return n, c
}

// TestEveryVerbInEveryState: what a verb does to a version in each state, and what it says when it does nothing.
func TestEveryVerbInEveryState(t *testing.T) {
	verbs := map[string]func(*node, context.Context, string) (RingStatus, error){
		"rotate":     func(n *node, ctx context.Context, _ string) (RingStatus, error) { return n.Rotate(ctx, time.Minute) },
		"retire":     func(n *node, ctx context.Context, id string) (RingStatus, error) { return n.Retire(ctx, id, false) },
		"force":      func(n *node, ctx context.Context, id string) (RingStatus, error) { return n.Retire(ctx, id, true) },
		"close":      func(n *node, ctx context.Context, id string) (RingStatus, error) { return n.Close(ctx, id) },
		"reopen":     func(n *node, ctx context.Context, id string) (RingStatus, error) { return n.Reopen(ctx, id) },
		"destroy":    func(n *node, ctx context.Context, id string) (RingStatus, error) { return n.Destroy(ctx, id, true) },
		"rewrap":     func(n *node, ctx context.Context, _ string) (RingStatus, error) { return n.Rewrap(ctx) },
		"compromise": func(n *node, ctx context.Context, id string) (RingStatus, error) { return n.Compromise(ctx, id) },
	}
	// want is the state afterwards, "" a refusal that leaves the state as it was.
	want := map[State]map[string]State{
		StatePending:   {"rotate": "", "retire": "", "force": "", "close": "", "reopen": "", "destroy": "", "rewrap": StatePending, "compromise": StateVerify},
		StatePrimary:   {"rotate": StatePrimary, "retire": "", "force": "", "close": "", "reopen": "", "destroy": "", "rewrap": StatePrimary, "compromise": StateVerify},
		StateVerify:    {"rotate": StateVerify, "retire": StateRetired, "force": StateRetired, "close": StateInner, "reopen": StateVerify, "destroy": "", "rewrap": StateVerify, "compromise": StateVerify},
		StateInner:     {"rotate": StateInner, "retire": StateRetired, "force": StateRetired, "close": StateInner, "reopen": StateVerify, "destroy": "", "rewrap": StateInner, "compromise": StateInner},
		StateRetired:   {"rotate": StateRetired, "retire": StateRetired, "force": StateRetired, "close": "", "reopen": StateVerify, "destroy": StateDestroyed, "rewrap": StateRetired, "compromise": StateRetired},
		StateDestroyed: {"rotate": StateDestroyed, "retire": "", "force": "", "close": "", "reopen": "", "destroy": StateDestroyed, "rewrap": StateDestroyed, "compromise": ""},
	}
	for state, row := range want {
		for verb, end := range row {
			t.Run(string(state)+" "+verb, func(t *testing.T) {
				id := "p1"
				n, c := ringIn(t, state)
				if state == StatePending {
					n, c = ringIn(t, StatePrimary)
					if _, err := n.Rotate(t.Context(), time.Hour); err != nil {
						t.Fatal(err)
					}
					id = "p2"
				}
				if err := n.KeepCensus(t.Context(), census(c, "verb", nil)); err != nil {
					t.Fatal(err)
				}
				before := n.Status()
				after, err := verbs[verb](n, t.Context(), id)
				if end == "" {
					if !errors.Is(err, ErrInput) || stateOf(t, after, id) != state || after.Epoch != before.Epoch {
						t.Errorf("%v, and %s is %s", err, id, stateOf(t, after, id))
					}
					return
				}
				if err != nil || stateOf(t, after, id) != end {
					t.Errorf("%v, and %s is %s, not %s", err, id, stateOf(t, after, id), end)
				}
				// What a restart sees is what was said.
				again := newNode(t, n.cfg.Store, c, nil, n.live...)
				again.mustSync(t)
				if got := again.Status(); stateOf(t, got, id) != end || got.Primary != after.Primary || got.Epoch != after.Epoch {
					t.Errorf("after a restart it is %+v", got)
				}
			})
		}
	}
}

// TestUsable: what a record's layer may rest on, in each state.
func TestUsable(t *testing.T) {
	for state, want := range map[State][2]bool{ // outermost, beneath
		StatePrimary: {true, true}, StateVerify: {true, true}, StateInner: {false, true}, StateRetired: {false, false}, StateDestroyed: {false, false},
	} {
		n, _ := ringIn(t, state)
		for i, outermost := range []bool{true, false} {
			key, err := n.held().usable("p1", outermost)
			if (err == nil) != want[i] || (len(key) == 32) != want[i] || err != nil && !errors.Is(err, errRetired) {
				t.Errorf("%s, outermost %v: %v", state, outermost, err)
			}
		}
	}
	n, _ := ringIn(t, StatePrimary)
	if _, err := n.held().usable("p9", true); !errors.Is(err, ErrForeign) || errors.Is(err, errRetired) {
		t.Error(err)
	}
	if _, err := n.held().usable("", true); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

// TestRow142RotationReachesAllNodes: a new pepper verifies everywhere before anybody makes records with it, and all nodes
// change over at one moment, also one that does not reach the store then.
func TestRow142RotationReachesAllNodes(t *testing.T) {
	c, st := newClock(), new(memory)
	k := testKey(t, c)
	a, b := newNode(t, st, c, nil, k), newNode(t, st, c, nil, k)
	a.mustSync(t)
	b.mustSync(t)
	if _, err := a.Rotate(t.Context(), 5*time.Minute); err != nil {
		t.Fatal(err)
	}
	if got := a.held().newest(c.Now()); got != "p1" {
		t.Errorf("a pending pepper makes records: %s", got)
	}
	b.mustSync(t)
	if _, err := b.held().usable("p2", true); err != nil {
		t.Error("a pending pepper does not verify: a node whose clock is ahead uses it already")
	}
	c.add(5*time.Minute - time.Nanosecond)
	if b.held().newest(c.Now()) != "p1" {
		t.Error("too early")
	}
	c.add(time.Nanosecond)
	for _, n := range []*node{a, b} { // neither looked at the store
		if n.held().newest(c.Now()) != "p2" || n.Status().Primary != "p2" || stateOf(t, n.Status(), "p1") != StateVerify {
			t.Error("a node did not change over")
		}
	}
	a.mustSync(t)
	if o := b.mustSync(t); o.body.Primary != "p2" || o.body.Versions[o.find("p1")].State != StateVerify {
		t.Error("the change is not in the store")
	}
	if again := newNode(t, st, c, nil, k).mustSync(t); again.newest(c.Now().Add(-time.Hour)) != "p2" {
		t.Error("what is written depends on the clock")
	}
	for in, want := range map[time.Duration]bool{-time.Second: false, maxRotate + 1: false, maxRotate: true} {
		if _, err := a.Rotate(t.Context(), in); (err == nil) != want {
			t.Errorf("rotating in %v: %v", in, err)
		}
	}
}

// TestRow142UnknownVersionIsLookedForAtOnce: a record under a pepper that a peer made a moment ago; and no flood of such
// records makes a flood of questions.
func TestRow142UnknownVersionIsLookedForAtOnce(t *testing.T) {
	c := newClock()
	st := openBolt(t)
	k := testKey(t, c)
	a, b := newNode(t, st, c, nil, k), newNode(t, st, c, nil, k)
	a.mustSync(t)
	b.mustSync(t)
	if _, err := a.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := b.held().usable("p2", true); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	c.add(time.Second)
	if _, err := b.refresh(t.Context()).usable("p2", true); err != nil {
		t.Error(err)
	}
	if _, err := a.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if b.refresh(t.Context()).find("p3") >= 0 {
			t.Fatal("it looked twice within a second")
		}
	}
	c.add(time.Second)
	if b.refresh(t.Context()).find("p3") < 0 {
		t.Error("it did not look again")
	}
}

// TestRow142RetireNeedsACensus: nothing that a record needs can go by mistake.
func TestRow142RetireNeedsACensus(t *testing.T) {
	n, c := ringIn(t, StateVerify)
	refused := func(why string) {
		t.Helper()
		for _, verb := range []func() (RingStatus, error){
			func() (RingStatus, error) { return n.Retire(t.Context(), "p1", false) },
			func() (RingStatus, error) { return n.Close(t.Context(), "p1") },
		} {
			if s, err := verb(); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "anteroom keys ring census FILE") || stateOf(t, s, "p1") != StateVerify {
				t.Errorf("%s: %v", why, err)
			}
		}
	}
	keep := func(x Census) {
		t.Helper()
		if err := n.KeepCensus(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	refused("without a census")
	early := census(c, "early", nil)
	early.Began = n.held().body.Versions[0].Changed
	keep(early)
	refused("a census that began when p1 still made records")
	empty := census(c, "empty", nil)
	empty.Records = 0
	keep(empty)
	refused("a census of nothing")
	blind := census(c, "blind", nil) // of a file in which each record stands in quotes
	blind.Records, blind.Foreign = 100, 100
	keep(blind)
	refused("a census that knew no record")
	keep(census(c, "found", map[string]int{"p1": 1, "p2": 99}))
	refused("one record needs it")
	keep(census(c, "old", map[string]int{"p2": 100}))
	c.add(censusAge + time.Nanosecond)
	refused("the census is more than a day old")
	// A record under p1.p2 needs p1, and does not stand under it alone.
	both := census(c, "layered", map[string]int{"p1": 1, "p2": 100})
	both.Outermost = map[string]int{"p2": 100}
	keep(both)
	if _, err := n.Retire(t.Context(), "p1", false); !errors.Is(err, ErrInput) {
		t.Errorf("a layer is needed: %v", err)
	}
	if s, err := n.Close(t.Context(), "p1"); err != nil || stateOf(t, s, "p1") != StateInner {
		t.Error(err)
	}
	keep(census(c, "none", map[string]int{"p2": 100}))
	if _, err := n.Retire(t.Context(), "p1", false); !errors.Is(err, ErrInput) {
		t.Error("the census began at the moment of the change, not after it")
	}
	c.add(time.Second)
	keep(census(c, "after", map[string]int{"p2": 100}))
	if s, err := n.Retire(t.Context(), "p1", false); err != nil || s.LastCensus.ID != "after" {
		t.Error(err)
	}
	for name, bad := range map[string]Census{
		"no id":    {Began: c.Now(), Ended: c.Now()},
		"no begin": {ID: "x", Ended: c.Now()},
		"backward": {ID: "x", Began: c.Now(), Ended: c.Now().Add(-1)},
		"long id":  {ID: strings.Repeat("x", 129), Began: c.Now(), Ended: c.Now()},
	} {
		if err := n.KeepCensus(t.Context(), bad); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDestroyWaitsAWeekAndKeepsTheName(t *testing.T) {
	n, c := ringIn(t, StateRetired)
	key := n.held().body.Versions[0].Key
	retired := n.held().body.Versions[0].Changed
	if _, err := n.Destroy(t.Context(), "p1", false); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "--force") {
		t.Errorf("at once: %v", err)
	}
	c.add(destroyAfter - c.Now().Sub(retired) - 1)
	if _, err := n.Destroy(t.Context(), "p1", false); !errors.Is(err, ErrInput) {
		t.Errorf("a nanosecond early: %v", err)
	}
	c.add(1)
	if _, err := n.Destroy(t.Context(), "p1", false); err != nil {
		t.Fatal(err)
	}
	o := newNode(t, n.cfg.Store, c, nil, n.live...).mustSync(t)
	if v := o.body.Versions[0]; v.ID != "p1" || v.State != StateDestroyed || len(v.Key) != 0 || o.holds(key) {
		t.Error("the key is still there, or the name is not")
	}
	for range 3 {
		if _, err := n.Rotate(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.Status().Primary; got != "p5" {
		t.Errorf("the newest is %s", got)
	}
	if _, err := n.Retire(t.Context(), "p7", true); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
}

// TestOldRingsOpen: a ring as it was written before versions had states opens with TLS key and recovery key, its record
// and its original digest verify, and it is written in that form until an operator changes something.
func TestOldRingsOpen(t *testing.T) {
	old := readOldRing(t)
	c, st := newClock(), &memory{value: old.Ring}
	k, err := NewTLSKey(fileKey(t, "rfc9500-p256"), c.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(t, st, c, func(r *RingConfig) { r.Compat = true }, k)
	o := n.mustSync(t)
	check := func(o *openRing) {
		t.Helper()
		rec, err := parseRecord(old.Record)
		if err != nil {
			t.Fatal(err)
		}
		pepper, err := o.usable("p1", true)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(innerTag(pepper, old.Context, old.UID, rec.salt, slowHash(old.Secret, rec.salt)), rec.tag) {
			t.Error("the old record does not verify")
		}
		pinned, err := o.usable(o.body.Compat, true)
		if err != nil || original(pinned, []byte(old.Secret), 3) != old.Original {
			t.Error("the original digest changed")
		}
	}
	check(o)
	next := testKey(t, c)
	o = n.mustSync(t, next) // a write: the recovery stanza goes, the next key comes
	if o.file.Epoch < 2 || !bytes.Contains(st.raw(), []byte(`{"v":1,`)) {
		t.Error("an untouched ring is written in a form that the earlier program cannot read")
	}
	check(newNode(t, st, c, nil, next).mustSync(t))
	if _, err := n.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(st.raw(), []byte(`{"v":2,`)) {
		t.Error("states are written in a form in which the earlier program would drop them")
	}
	check(newNode(t, st, c, nil, next).mustSync(t))
	secret, err := ParseRecoveryKey([]byte(old.RecoveryKey))
	if err != nil {
		t.Fatal(err)
	}
	st = &memory{value: old.Ring}
	swapped := testKey(t, c)
	err = Recover(t.Context(), RingConfig{Name: "passwords", Store: st, Now: c.Now, Keys: func(context.Context) ([]TLSKey, error) { return []TLSKey{swapped}, nil }}, secret)
	if err != nil {
		t.Fatal(err)
	}
	check(newNode(t, st, c, nil, swapped).mustSync(t))
}

func TestStatusShowsNoSecret(t *testing.T) {
	n, c := ringIn(t, StateVerify)
	text := fmt.Sprintf("%+v %#v", n.Status(), n.Status())
	for _, v := range n.held().body.Versions {
		if strings.Contains(text, fmt.Sprint(v.Key)) {
			t.Error("a key is in it")
		}
	}
	s := n.Status()
	if s.State != RingOpen || s.Name != "passwords" || len(s.LiveTLS) != 1 || s.LiveTLS[0] != s.Stanzas[0].KID || s.UpgradeDue {
		t.Errorf("%+v", s)
	}
	other := newNode(t, n.cfg.Store, c, nil, testKey(t, c))
	if other.Status().State != RingWaiting {
		t.Error(other.Status())
	}
	if err := other.Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if s := other.Status(); s.State != RingLocked || !strings.Contains(s.Detail, "keys ring recover") {
		t.Errorf("%+v", s)
	}
	if _, err := other.Rotate(t.Context(), 0); !errors.Is(err, ErrLocked) {
		t.Errorf("a locked ring was changed: %v", err)
	}
}
