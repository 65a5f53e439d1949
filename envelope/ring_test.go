package envelope

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const ringAt = storeKeyRing + "/own"

// TestRow156Life: a data key's states, and what each allows.
func TestRow156Life(t *testing.T) {
	ctx, keys := t.Context(), new(memory)
	e := open(t, keys, "own", local(t, 1))
	first := primary(t, e).ID
	a := seal(t, e, testLabel, []byte("a"))
	second, err := e.Rotate(ctx)
	if err != nil || second.State != StatePrimary || second.ID == first || state(e, first) != StateOpen {
		t.Fatal(second, err, e.Keys())
	}
	b := seal(t, e, testLabel, []byte("b"))
	opens(t, e, a, "a")
	third, err := e.Condemn(ctx, second.ID)
	if err != nil || third.State != StatePrimary || third.ID == second.ID || state(e, second.ID) != StateCondemned {
		t.Fatal(third, err, e.Keys())
	}
	if id, _ := KeyOf(seal(t, e, testLabel, nil)); id != third.ID {
		t.Errorf("sealed under %s; want %s", id, third.ID)
	}
	_, err = e.Open(ctx, testLabel, b)
	refused(t, "opening what is condemned", err, ErrCondemned)
	opens(t, e, a, "a")
	c, changed, err := e.Reseal(ctx, testLabel, b)
	if id, _ := KeyOf(c); err != nil || !changed || id != third.ID {
		t.Fatal(id, changed, err)
	}
	opens(t, e, c, "b")
	if same, changed, err := e.Reseal(ctx, testLabel, c); err != nil || changed || !bytes.Equal(same, c) {
		t.Errorf("resealing twice: %v, %v", changed, err)
	}
	forged := append(c[:headerLen:headerLen], make([]byte, 60)...)
	if _, _, err := e.Reseal(ctx, testLabel, forged); !errors.Is(err, ErrSealed) {
		t.Errorf("resealing what names the primary and is not sealed: %v", err)
	}
	refused(t, "destroying the primary", e.Destroy(ctx, third.ID), ErrRefused)
	refused(t, "destroying what is not there", e.Destroy(ctx, "0000000000000000"), ErrRefused)
	if again, err := e.Condemn(ctx, second.ID); err != nil || again != third {
		t.Errorf("condemning twice: %v, %v", again, err)
	}
	for range 2 {
		if err := e.Destroy(ctx, second.ID); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := e.Condemn(ctx, second.ID); err != nil || again != third {
		t.Errorf("condemning what is destroyed: %v, %v", again, err)
	}
	after := open(t, keys, "own", local(t, 1))
	for _, e := range []*Envelope{e, after} {
		_, err = e.Open(ctx, testLabel, b)
		refused(t, "opening what was sealed under a destroyed key", err, ErrSealed)
		_, _, err = e.Reseal(ctx, testLabel, b)
		refused(t, "resealing it", err, ErrSealed)
		opens(t, e, a, "a")
		opens(t, e, c, "b")
	}
	if r, _, err := parseRing("own", keys.values[ringAt]); err != nil || r.key(second.ID).Data != "" {
		t.Errorf("the wrapped bytes of the destroyed key are still there: %v", err)
	}
}

// TestRow156OpenCondemned: applications reseal when they can.
func TestRow156OpenCondemned(t *testing.T) {
	e := open(t, new(memory), "apps", local(t, 1), func(c *Config) { c.OpenCondemned = true })
	id, sealed := primary(t, e).ID, seal(t, e, testLabel, []byte("x"))
	if _, err := e.Condemn(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	opens(t, e, sealed, "x")
	if now, _ := KeyOf(seal(t, e, testLabel, nil)); now == id {
		t.Error("it still seals")
	}
	if err := e.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	_, err := e.Open(t.Context(), testLabel, sealed)
	refused(t, "destroyed", err, ErrSealed)
}

// TestRow156PlantedRing: who can write to the store and has no master key can neither make
// a ring nor change a word of one.
func TestRow156PlantedRing(t *testing.T) {
	keys, stranger := new(memory), new(memory)
	e := open(t, keys, "own", local(t, 1))
	bad := primary(t, e).ID
	if _, err := e.Condemn(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	theirs := open(t, stranger, "own", local(t, 2))
	for range 5 {
		if _, err := theirs.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	good := string(keys.values[ringAt])
	body, end, _ := strings.Cut(good, "\n")
	other := open(t, new(memory), "apps", local(t, 1))
	forOther := string(other.core().view.Load().record)
	_, otherEnd, _ := strings.Cut(forOther, "\n")
	for name, record := range map[string]string{
		"a stranger's ring":           string(stranger.values[ringAt]),
		"a stranger's, in our name":   strings.ReplaceAll(string(stranger.values[ringAt]), local(t, 2).ID(), local(t, 1).ID()),
		"the condemned key reopened":  strings.Replace(strings.Replace(good, `"condemned"`, `"open"`, 1), `"epoch":2`, `"epoch":3`, 1),
		"another epoch":               strings.Replace(good, `"epoch":2`, `"epoch":3`, 1),
		"another ring's proof":        strings.Replace(body, `"epoch":2`, `"epoch":3`, 1) + "\n" + otherEnd,
		"another ring":                strings.Replace(strings.Replace(forOther, `"apps"`, `"own"`, 1), `"epoch":1`, `"epoch":3`, 1),
		"no proof":                    strings.Replace(body, `"epoch":2`, `"epoch":3`, 1),
		"a data key as the proof":     strings.Replace(body, `"epoch":2`, `"epoch":3`, 1) + "\n" + proofLine(local(t, 1).ID(), e.core().view.Load().ring.Keys[0].Data),
		"nothing":                     "",
		"a member more":               strings.Replace(strings.Replace(good, `"epoch":2`, `"epoch":3`, 1), `{"v":1,`, `{"v":1,"x":1,`, 1),
		"a doubled member":            strings.Replace(good, `"epoch":2`, `"epoch":2,"epoch":3`, 1),
		"its end missing":             strings.Replace(good[:len(good)-3], `"epoch":2`, `"epoch":3`, 1),
		"a proof with a changed byte": strings.Replace(body, `"epoch":2`, `"epoch":3`, 1) + "\n" + strings.Replace(end, "A", "B", 1),
	} {
		planted := &memory{values: map[string][]byte{ringAt: []byte(record)}}
		_, err := Start(t.Context(), Config{Name: "own", Master: local(t, 1), Store: planted})
		if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrSealed) {
			t.Errorf("%s: started with %v", name, err)
		}
		if string(planted.values[ringAt]) != record {
			t.Errorf("%s: the store was changed", name)
		}
		keys.restore(map[string][]byte{ringAt: []byte(record)})
		if err := e.core().look(t.Context()); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrSealed) {
			t.Errorf("%s: a running node took it, %v", name, err)
		}
		keys.restore(map[string][]byte{ringAt: []byte(good)})
		if err := e.core().look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func proofLine(master, wrapped string) string {
	return `{"master":"` + master + `","wrapped":"` + wrapped + `"}`
}

// TestRow156SetBack: a store that is set back, emptied or replaced while nodes run does not
// bring a condemned key back. Reads go on, sealing stops, nobody makes a second ring.
func TestRow156SetBack(t *testing.T) {
	keys, clock := new(memory), newTicker()
	e := open(t, keys, "own", local(t, 1), clock.at)
	bad, backup := primary(t, e).ID, keys.snapshot()
	if _, err := e.Condemn(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	sealed, good := seal(t, e, testLabel, []byte("x")), keys.snapshot()
	again := new(memory)
	_ = open(t, again, "own", local(t, 1)) // another ring under the same master
	for name, values := range map[string]map[string][]byte{"set back": backup, "emptied": nil, "replaced": again.snapshot()} {
		keys.restore(values)
		clock.add(time.Minute)
		_, err := e.Seal(t.Context(), testLabel, nil)
		refused(t, name+": Seal", err, ErrRefused)
		for verb, do := range map[string]func() error{
			"Rotate":  func() error { _, err := e.Rotate(t.Context()); return err },
			"Condemn": func() error { _, err := e.Condemn(t.Context(), primary(t, e).ID); return err },
			"Destroy": func() error { return e.Destroy(t.Context(), bad) },
			"Start":   func() error { return e.Start(t.Context()) },
		} {
			refused(t, name+": "+verb, do(), ErrRefused)
		}
		if !bytes.Equal(keys.values[ringAt], values[ringAt]) {
			t.Errorf("%s: the store was changed", name)
		}
		opens(t, e, sealed, "x")
		keys.restore(good)
		_ = seal(t, e, testLabel, nil)
	}
}

// TestRow156NoWayBack: even with the master's proof a key never leaves the state that this
// node has seen: a node of an earlier version, or a mistake of ours, cannot reopen it.
func TestRow156NoWayBack(t *testing.T) {
	keys := new(memory)
	e := open(t, keys, "own", local(t, 1))
	first := primary(t, e).ID
	if _, err := e.Condemn(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	c := e.core()
	good := c.view.Load()
	for name, edit := range map[string]func(r *ring){
		"condemned becomes open":  func(r *ring) { r.key(first).State = StateOpen },
		"a key is left out":       func(r *ring) { r.Keys = r.Keys[1:] },
		"a key is another one":    func(r *ring) { r.key(first).Check = strings.Repeat("0", 2*checkLen) },
		"the same epoch":          func(r *ring) { r.Epoch--; r.primary().Created = time.Unix(1, 0).UTC() },
		"the old primary is back": func(r *ring) { r.primary().State = StateOpen; r.key(first).State = StatePrimary },
	} {
		next := good.ring.clone()
		next.Epoch++
		edit(next)
		record, err := next.encode(t.Context(), c.cfg.Master)
		if err != nil {
			t.Fatal(name, err)
		}
		keys.restore(map[string][]byte{ringAt: record})
		refused(t, name, c.look(t.Context()), ErrRefused)
		if c.view.Load() != good {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestRow156FormerProof: a master was given up because its file was copied. A running node
// that has seen the ring under the new master takes no ring that the former one proves.
func TestRow156FormerProof(t *testing.T) {
	keys, leaked := new(memory), local(t, 1)
	_ = open(t, keys, "own", leaked)
	e := open(t, keys, "own", local(t, 2), func(c *Config) { c.Former = []Master{leaked} })
	if _, err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := e.core()
	next := c.view.Load().ring.clone()
	next.Epoch++
	record, err := next.encode(t.Context(), leaked)
	if err != nil {
		t.Fatal(err)
	}
	keys.restore(map[string][]byte{ringAt: record})
	refused(t, "a ring that the former master proves", c.look(t.Context()), ErrRefused)
}

// TestStartTogether: nodes that start at once on an empty store end with one ring.
func TestStartTogether(t *testing.T) {
	keys := new(memory)
	all := make([]*Envelope, 8)
	done := make(chan error, len(all))
	for i := range all {
		go func() {
			var err error
			all[i], err = Start(t.Context(), Config{Name: "own", Master: local(t, 1), Store: keys})
			done <- err
		}()
	}
	for range all {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range all {
		opens(t, e, seal(t, all[0], testLabel, []byte("x")), "x")
		if primary(t, e) != primary(t, all[0]) {
			t.Error("two rings")
		}
	}
}

// TestOtherMaster: the key file was replaced, or another node has another one. The text
// says what to do, and the ring stays as it is.
func TestOtherMaster(t *testing.T) {
	keys := new(memory)
	_ = open(t, keys, "own", local(t, 1))
	before := keys.snapshot()
	other, err := OpenLocal(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Config{Name: "own", Master: other, Store: keys})
	refused(t, "another key file", err, ErrRefused)
	for _, part := range []string{"own", local(t, 1).ID(), other.ID(), "anteroom keys migrate", "former"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the message lacks %q: %v", part, err)
		}
	}
	if !bytes.Equal(before[ringAt], keys.values[ringAt]) {
		t.Error("the ring was changed")
	}
}

func TestNewRefuses(t *testing.T) {
	l := local(t, 1)
	for _, c := range []Config{
		{}, {Master: l, Store: new(memory)}, {Name: "own", Store: new(memory)}, {Name: "own", Master: l},
		{Name: "Own", Master: l, Store: new(memory)}, {Name: "own\x00", Master: l, Store: new(memory)}, {Name: "own/x", Master: l, Store: new(memory)},
		{Name: "own", Master: l, Store: new(memory), Former: []Master{nil}},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	e, err := New(Config{Name: "own", Master: l, Store: new(memory)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Seal(t.Context(), testLabel, nil)
	refused(t, "Seal before Start", err, ErrUnavailable)
	_, err = e.Open(t.Context(), testLabel, seal(t, fixed(t, 1), testLabel, nil))
	refused(t, "Open before Start", err, ErrUnavailable)
	if _, err := e.Rotate(t.Context()); err == nil {
		t.Error("Rotate before Start")
	}
}

// TestRingFixture holds the format of the ring and of version 2: what lies in stores today
// opens for ever.
func TestRingFixture(t *testing.T) {
	record, err1 := os.ReadFile("testdata/ring-v1")
	sealed, err2 := os.ReadFile("testdata/sealed-v2.bin")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	e := open(t, &memory{values: map[string][]byte{ringAt: record}}, "own", local(t, 1))
	opens(t, e, sealed, "sealed by the second version")
	var states []string
	for _, k := range e.Keys() {
		states = append(states, k.State)
	}
	if got := strings.Join(states, " "); got != "open open condemned primary" { // the first one is version 1
		t.Errorf("states: %s", got)
	}
}

// FuzzRing: whatever lies in the store, parseRing answers without a panic, takes only what
// it would write itself, and judge refuses what no master proved.
func FuzzRing(f *testing.F) {
	l := local(f, 1)
	record, err := os.ReadFile("testdata/ring-v1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &core{cfg: Config{Name: "own", Master: l}, masters: map[string]Master{l.ID(): l}}
		if next, err := c.judge(t.Context(), nil, data); err == nil {
			if next.check() != nil || next.primary() == nil {
				t.Fatalf("taken: %q", data)
			}
			if !bytes.Equal(data, record) {
				t.Fatalf("a ring that this test did not make: %q", data)
			}
		} else if !errors.Is(err, ErrRefused) && !errors.Is(err, ErrSealed) {
			t.Fatal(err)
		}
	})
}
