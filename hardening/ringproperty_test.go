package hardening

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"
)

// simRecord is a record without its slow step: what it rests on.
type simRecord struct {
	layers []string
	tag    []byte
}

var simSalt, simSlow = make([]byte, saltSize), []byte("slow")

// simulation drives three nodes over one store whose writes get lost.
type simulation struct {
	t       *testing.T
	rnd     *rand.Rand
	clock   *clock
	store   *memory
	kms     *fakeKMS
	nodes   []*node
	records []simRecord
	ring    string
	epoch   uint64
	seen    []uint64 // highest epoch that each node held
	trace   []string
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf(format+"\nafter %v", append(args, s.trace)...)
}

// check holds after every step: one ring, and epochs that only rise, in the store and at each node.
func (s *simulation) check() {
	if raw := s.store.raw(); raw != nil {
		f, err := readRingFile(raw)
		if err != nil || s.ring != "" && f.Ring != s.ring || f.Epoch < s.epoch {
			s.fail("the store holds ring %s epoch %d after %s %d: %v", f.Ring, f.Epoch, s.ring, s.epoch, err)
		}
		s.ring, s.epoch = f.Ring, f.Epoch
	}
	for i, n := range s.nodes {
		if o := n.held(); o != nil {
			if o.file.Ring != s.ring || o.file.Epoch < s.seen[i] || o.file.Epoch > s.epoch {
				s.fail("node %d holds ring %s epoch %d after %d, the store %d", i, o.file.Ring, o.file.Epoch, s.seen[i], s.epoch)
			}
			s.seen[i] = o.file.Epoch
		}
	}
}

// protect makes a record on a node as it is, however long it has not looked at the store.
func (s *simulation) protect(n *node) {
	o := n.held()
	if o == nil {
		return
	}
	id := o.newest(s.clock.Now())
	key, err := o.usable(id, true)
	if err != nil {
		s.fail("the primary is not usable: %v", err)
	}
	s.records = append(s.records, simRecord{[]string{id}, innerTag(key, "", "u", simSalt, simSlow)})
}

func tagOf(o *openRing, layers []string) (tag []byte, err error) {
	for i, id := range layers {
		key, err := o.usable(id, i == len(layers)-1)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			tag = innerTag(key, "", "u", simSalt, simSlow)
			continue
		}
		tag = overTag(key, layers[i-1], tag)
	}
	return tag, nil
}

// upgrade lays the newest pepper over every record that the node can read.
func (s *simulation) upgrade(n *node) {
	o := n.held()
	if o == nil {
		return
	}
	newest := o.newest(s.clock.Now())
	key, _ := o.usable(newest, true)
	for i, r := range s.records {
		if _, err := tagOf(o, r.layers); err != nil || version.number(version{ID: newest}) <= version.number(version{ID: r.layers[len(r.layers)-1]}) {
			continue
		}
		s.records[i] = simRecord{append(slices.Clone(r.layers), newest), overTag(key, r.layers[len(r.layers)-1], r.tag)}
	}
}

// verify: a right secret is never answered with "no". It may be an error while a node lags behind.
func (s *simulation) verify(n *node, settled bool) {
	o := n.held()
	if o == nil {
		return
	}
	for _, r := range s.records {
		tag, err := tagOf(o, r.layers)
		switch {
		case err == nil && !bytes.Equal(tag, r.tag):
			s.fail("record %v does not match", r.layers)
		case err != nil && !errors.Is(err, ErrForeign):
			s.fail("record %v: %v", r.layers, err)
		case settled && errors.Is(err, ErrForeign) && !errors.Is(err, errRetired):
			s.fail("record %v is lost: %v", r.layers, err)
		}
	}
}

// census counts all records truly and hands the count to a node.
func (s *simulation) census(n *node) {
	s.clock.add(time.Millisecond)
	c := Census{ID: fmt.Sprint(len(s.trace)), Began: s.clock.Now(), Ended: s.clock.Now(), Records: len(s.records), Versions: map[string]int{}, Outermost: map[string]int{}}
	for _, r := range s.records {
		for _, id := range r.layers {
			c.Versions[id]++
		}
		c.Outermost[r.layers[len(r.layers)-1]]++
	}
	_ = n.KeepCensus(s.t.Context(), c)
}

func (s *simulation) step() {
	ctx := s.t.Context()
	i := s.rnd.Intn(len(s.nodes))
	n := s.nodes[i]
	if s.rnd.Intn(4) == 0 {
		s.store.faults = []string{[]string{"lost", "kept"}[s.rnd.Intn(2)]}
	}
	any := func() string {
		if o := n.held(); o != nil {
			return o.body.Versions[s.rnd.Intn(len(o.body.Versions))].ID
		}
		return "p1"
	}
	ops := []struct {
		name string
		do   func()
	}{
		{"sync", func() { _ = n.Sync(ctx) }},
		{"protect", func() { s.protect(n) }},
		{"protect", func() { s.protect(n) }},
		{"upgrade", func() { s.upgrade(n) }},
		{"rotate", func() { _, _ = n.Rotate(ctx, 0) }},
		{"rotate-later", func() { _, _ = n.Rotate(ctx, time.Minute) }},
		{"compromise", func() { _, _ = n.Compromise(ctx, any()) }},
		{"compromise-tls", func() { _, _ = n.Compromise(ctx, n.live[0].kid) }},
		{"rewrap", func() { _, _ = n.Rewrap(ctx) }},
		{"census", func() { s.census(n) }},
		{"retire", func() { _, _ = n.Retire(ctx, any(), false) }},
		{"close", func() { _, _ = n.Close(ctx, any()) }},
		{"destroy", func() { _, _ = n.Destroy(ctx, any(), s.rnd.Intn(2) == 0) }},
		{"time", func() { s.clock.add(time.Duration(s.rnd.Intn(90)) * time.Second) }},
		{"renew", func() {
			next := testKey(s.t, s.clock)
			if n.Sync(ctx, next) == nil {
				n.serve(next)
			}
		}},
		{"take-over", func() { n.serve(s.nodes[s.rnd.Intn(len(s.nodes))].live...) }},
		{"kms", func() { s.kms.fail([]error{nil, nil, errKMSDown}[s.rnd.Intn(3)]) }},
		{"restart", func() {
			again := newNode(s.t, s.store, s.clock, withKMS(s.kms), n.live...)
			if again.Sync(ctx) == nil {
				s.nodes[i], s.seen[i] = again, again.held().file.Epoch
			}
		}},
	}
	op := ops[s.rnd.Intn(len(ops))]
	s.trace = append(s.trace, fmt.Sprint(op.name, " ", i, s.store.faults))
	op.do()
	s.store.faults = nil
	s.check()
	s.verify(n, false)
}

// TestRow142NothingIsLost is the property: whatever operators, certificates, clocks and a bad store do on three nodes,
// every record that was ever made verifies unless its pepper was retired, and a right secret is never answered with "no".
func TestRow142NothingIsLost(t *testing.T) {
	runs := 150
	if testing.Short() {
		runs = 20
	}
	for seed := range runs {
		s := &simulation{t: t, rnd: rand.New(rand.NewSource(int64(seed))), clock: newClock(), store: new(memory), kms: newFakeKMS("arn:one"), seen: make([]uint64, 3)}
		k := testKey(t, s.clock)
		for range 3 {
			s.nodes = append(s.nodes, newNode(t, s.store, s.clock, withKMS(s.kms), k))
		}
		for range 80 {
			s.step()
		}
		// Peace: the KMS answers again, and whoever could open the ring has wrapped it for it.
		s.kms.fail(nil)
		s.clock.add(kmsPause)
		for _, n := range s.nodes {
			_ = n.Sync(t.Context())
		}
		for i, n := range s.nodes {
			if err := n.Sync(t.Context()); err != nil {
				s.fail("seed %d, node %d: %v", seed, i, err)
			}
		}
		for _, n := range s.nodes {
			n.mustSync(t)
			s.verify(n, true)
		}
	}
}

// TestCrashBetweenWrites: an operation is one write. Before it nothing has happened, after it everything has, whether or not
// the operator was told; and saying it again does no harm.
func TestCrashBetweenWrites(t *testing.T) {
	for name, op := range map[string]func(*node) error{
		"rotate":     func(n *node) error { _, err := n.Rotate(t.Context(), 0); return err },
		"compromise": func(n *node) error { _, err := n.Compromise(t.Context(), "p1"); return err },
		"rewrap":     func(n *node) error { _, err := n.Rewrap(t.Context()); return err },
		"retire":     func(n *node) error { _, err := n.Retire(t.Context(), "p1", true); return err },
		"import":     func(n *node) error { _, err := n.ImportOriginal(t.Context(), fileKey(t, "rfc9500-p256")); return err },
	} {
		for _, fault := range []string{"lost", "kept"} {
			c, st := newClock(), new(memory)
			k := testKey(t, c)
			n := newNode(t, st, c, nil, k)
			n.mustSync(t)
			if _, err := n.Rotate(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			tag, err := tagOf(n.held(), []string{"p1", "p2"})
			if err != nil {
				t.Fatal(err)
			}
			before, writes := st.raw(), st.writes
			st.faults = []string{fault}
			err = op(n)
			if fault == "lost" && (err == nil || !bytes.Equal(st.raw(), before)) || fault == "kept" && (err != nil || st.writes != writes+1) {
				t.Errorf("%s, %s: %v after %d writes", name, fault, err, st.writes-writes)
			}
			restarted := newNode(t, st, c, nil, k)
			restarted.mustSync(t)
			got, err := tagOf(restarted.held(), []string{"p1", "p2"})
			if name == "retire" && fault == "kept" {
				if !errors.Is(err, errRetired) {
					t.Error(err)
				}
			} else if err != nil || !bytes.Equal(got, tag) {
				t.Errorf("%s, %s: a record is lost: %v", name, fault, err)
			}
			if err := op(restarted); err != nil {
				t.Errorf("%s, %s, again: %v", name, fault, err)
			}
		}
	}
}
