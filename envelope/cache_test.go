package envelope

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestRow157MasterAway: the master is away. What is in memory serves until its age, then
// there is nothing: no clear text, no other key, no old one.
func TestRow157MasterAway(t *testing.T) {
	clock, kms, keys := newTicker(), newFar(t, 1), new(memory)
	e := open(t, keys, "own", kms, clock.at)
	id, sealed, before := primary(t, e).ID, seal(t, e, testLabel, []byte("x")), keys.snapshot()
	kms.fail(ErrUnavailable)
	clock.add(15 * time.Minute)
	opens(t, e, sealed, "x")
	if now, _ := KeyOf(seal(t, e, testLabel, nil)); now != id {
		t.Errorf("sealed under %s; want %s", now, id)
	}
	clock.add(2 * time.Second)
	for range 3 {
		got, err := e.Open(t.Context(), testLabel, sealed)
		refused(t, "Open", err, ErrUnavailable)
		out, err2 := e.Seal(t.Context(), testLabel, []byte("secret"))
		refused(t, "Seal", err2, ErrUnavailable)
		again, changed, err3 := e.Reseal(t.Context(), testLabel, sealed)
		refused(t, "Reseal", err3, ErrUnavailable)
		if got != nil || out != nil || again != nil || changed || errors.Is(err, ErrSealed) {
			t.Errorf("%q, %x, %x, %v", got, out, again, changed)
		}
	}
	for verb, do := range map[string]func() error{
		"Rotate":    func() error { _, err := e.Rotate(t.Context()); return err },
		"Condemn":   func() error { _, err := e.Condemn(t.Context(), id); return err },
		"RewrapAll": func() error { _, err := e.RewrapAll(t.Context()); return err },
	} {
		refused(t, verb, do(), ErrUnavailable)
	}
	if after := keys.snapshot(); string(after[ringAt]) != string(before[ringAt]) {
		t.Error("the ring changed")
	}
	_, err := Start(t.Context(), Config{Name: "own", Master: kms, Store: keys})
	refused(t, "starting without the master", err, ErrUnavailable)
	kms.fail(nil)
	clock.add(2 * time.Second)
	opens(t, e, sealed, "x")
	opens(t, e, seal(t, e, testLabel, []byte("y")), "y")
}

// TestRow157NotAskedByAll: while the master is away requests do not queue up for it.
func TestRow157NotAskedByAll(t *testing.T) {
	clock, kms := newTicker(), newFar(t, 1)
	e := open(t, new(memory), "own", kms, clock.at)
	sealed := seal(t, e, testLabel, []byte("x"))
	kms.fail(ErrUnavailable)
	clock.add(time.Hour)
	before := kms.called("unwrap")
	for range 100 {
		_, err := e.Open(t.Context(), testLabel, sealed)
		refused(t, "Open", err, ErrUnavailable)
	}
	if n := kms.called("unwrap") - before; n != 1 {
		t.Errorf("asked %d times in a second", n)
	}
	kms.fail(nil)
	clock.add(2 * time.Second)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { opens(t, e, sealed, "x") })
	}
	wg.Wait()
	if n := kms.called("unwrap") - before; n != 2 {
		t.Errorf("%d calls for one key", n)
	}
}

// TestRow157Uses: a data key in memory is used a limited number of times.
func TestRow157Uses(t *testing.T) {
	clock, kms := newTicker(), newFar(t, 1)
	e := open(t, new(memory), "own", kms, clock.at, func(c *Config) { c.CacheUses = 10 })
	sealed, before := seal(t, e, testLabel, []byte("x")), kms.called("unwrap")
	for range 9 {
		opens(t, e, sealed, "x")
	}
	if n := kms.called("unwrap") - before; n != 0 {
		t.Errorf("%d calls within the limit", n)
	}
	kms.fail(ErrUnavailable)
	_, err := e.Open(t.Context(), testLabel, sealed)
	refused(t, "the eleventh use", err, ErrUnavailable)
	kms.fail(nil)
	clock.add(2 * time.Second)
	for range 25 {
		opens(t, e, sealed, "x")
	}
	if n := kms.called("unwrap") - before; n != 4 {
		t.Errorf("%d calls for 36 uses; want 4, the failed one among them", n)
	}
}

// TestLocalHasNoLimit: a key file is not asked again.
func TestLocalHasNoLimit(t *testing.T) {
	clock := newTicker()
	e := open(t, new(memory), "own", local(t, 1), clock.at, func(c *Config) { c.CacheUses, c.CacheAge = 2, time.Second })
	sealed := seal(t, e, testLabel, []byte("x"))
	k := e.core().keys[primary(t, e).ID]
	clock.add(1000 * time.Hour)
	for range 10 {
		opens(t, e, sealed, "x")
	}
	if e.core().keys[primary(t, e).ID] != k {
		t.Error("it was unwrapped again")
	}
}

// TestRow157Renewed: the keys in use are renewed in time, so that the master may be away
// for half the limit and nobody notices; unused ones are let go.
func TestRow157Renewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kms := newFar(t, 1)
		e := open(t, new(memory), "own", kms)
		old := seal(t, e, testLabel, []byte("old"))
		unused := primary(t, e).ID
		if _, err := e.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		sealed := seal(t, e, testLabel, []byte("x"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); e.Follow(ctx) }()
		for minute := range 60 {
			opens(t, e, sealed, "x")
			switch minute % 10 {
			case 2:
				kms.fail(ErrUnavailable) // for seven minutes
			case 9:
				kms.fail(nil)
			}
			time.Sleep(time.Minute)
		}
		core := e.core()
		core.mu.Lock()
		_, kept := core.keys[unused]
		core.mu.Unlock()
		if kept {
			t.Error("a key that nobody used for an hour is still in memory")
		}
		opens(t, e, old, "old")
		if n := kms.called("unwrap"); n > 200 {
			t.Errorf("the master was asked %d times in an hour", n)
		}
		cancel()
		<-done
	})
}

// TestFollow: a node sees within seconds what another one did, and a primary that is old
// is replaced once, whatever the number of nodes.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, hourly := new(memory), func(c *Config) { c.RotateAfter = time.Hour }
		nodes := []*Envelope{open(t, keys, "own", local(t, 1), hourly), open(t, keys, "own", local(t, 1), hourly), open(t, keys, "own", local(t, 1), hourly)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, e := range nodes {
			wg.Go(func() { e.Follow(ctx) })
		}
		first := primary(t, nodes[0]).ID
		sealed := seal(t, nodes[1], testLabel, []byte("x"))
		next, err := nodes[0].Condemn(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*pollEvery + time.Second)
		for i, e := range nodes {
			_, err := e.Open(t.Context(), testLabel, sealed)
			refused(t, "opening what is condemned", err, ErrCondemned)
			if id, _ := KeyOf(seal(t, e, testLabel, nil)); id != next.ID {
				t.Errorf("node %d seals under %s", i, id)
			}
		}
		time.Sleep(61 * time.Minute)
		third := primary(t, nodes[0])
		if third.ID == next.ID || len(nodes[0].core().view.Load().ring.Keys) != 3 {
			t.Errorf("after an hour: %v", nodes[0].Keys())
		}
		for _, e := range nodes {
			if primary(t, e).ID != third.ID {
				t.Error("the nodes differ")
			}
		}
		cancel()
		wg.Wait()
	})
}
