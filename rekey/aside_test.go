package rekey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// junkyard is a store that seals what it keeps, and into which somebody has written: bytes that do not open fail every walk over
// it, unless they may be passed over.
type junkyard struct {
	memory
	junk map[string][]byte
}

type skipKey struct{}

func (j junkyard) Lenient(ctx context.Context, skip func(string, []byte, error) bool) context.Context {
	return context.WithValue(ctx, skipKey{}, skip)
}

// look fails for the first piece of junk that is not passed over.
func (j junkyard) look(ctx context.Context, stale func([]byte) bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, b := range j.junk {
		skip, _ := ctx.Value(skipKey{}).(func(string, []byte, error) bool)
		if stale(b) && (skip == nil || !skip(name, b, ErrSealed)) {
			return fmt.Errorf("%s does not open: %w", name, store.ErrUnavailable)
		}
	}
	return nil
}

func (j junkyard) Scan(ctx context.Context, prefix, cursor string, limit int) ([]store.Item, string, error) {
	if err := j.look(ctx, func([]byte) bool { return true }); err != nil {
		return nil, "", err
	}
	return j.memory.Scan(ctx, prefix, cursor, limit)
}

func (j junkyard) Reseal(ctx context.Context, _ string, stale func([]byte) bool, dry bool) (next string, seen, changed int, err error) {
	if dry {
		j.mu.Lock()
		defer j.mu.Unlock()
		for _, b := range j.junk {
			stale(b)
		}
		return "", len(j.junk), 0, nil
	}
	return "", len(j.junk), 0, j.look(ctx, stale)
}

func yard(all map[string][]byte) func(*Config) {
	return func(c *Config) {
		j := junkyard{c.Store.(memory), all}
		c.Store, c.Sealed, c.Never = j, j, func(err error) bool { return errors.Is(err, ErrSealed) }
	}
}

// Row 156: junk that names the compromised key holds the operation up for a while and not for ever. The report says how much there
// is and where; the key stays refused, and the same command once more destroys it when the junk is gone, or by force. Nobody is
// signed out twice.
func TestRow156JunkIsSetAside(t *testing.T) {
	for _, how := range []string{"gone", "by force", "still there"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				all := map[string][]byte{"k:other": sealAs(keyB, "", "junk of another key"), "k:nobody": sealAs("00000000000000ff", "", "junk")}
				for i := range 40 {
					all[fmt.Sprintf("k:%02d", i)] = sealAs(keyA, "", "junk")
				}
				w.values["anteroom/session/record/v1/dana"] = sealAs(keyA, "another place", "moved here")
				p, o, ctx := w.start("one", 0, false, yard(all))
				op, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA})
				if err != nil {
					t.Fatal(err)
				}
				cur := w.finish(o, p, ctx)
				if cur.State != StateDone || w.state(keyA) != Condemned || cur.Aside == nil || cur.Aside.Count != 41 || len(cur.Aside.Names) != maxAside {
					t.Fatalf("%+v; the key is %s", cur, w.state(keyA))
				}
				if slices.Contains(cur.Aside.Names, "k:other") || strings.Contains(strings.Join(cur.Aside.Names, " "), "dana") {
					t.Errorf("names: %v", cur.Aside.Names)
				}
				ended, signing := w.ended, slices.Clone(w.signing)
				p, o, ctx = w.start("reader", 0, false, yard(all))
				text, err := o.Report(ctx, "")
				p.cancel()
				if err != nil || !bytes.Contains(text, []byte(op.ID)) || !bytes.Contains(text, []byte("no key opens them")) {
					t.Fatalf("the report: %s %v", text, err)
				}
				var page bytes.Buffer
				if err := WriteHTML(&page, text); err != nil || !strings.Contains(page.String(), "it was not destroyed") {
					t.Errorf("the page: %v", err)
				}
				again := Request{Verb: CompromisedData, Target: keyA, Force: how == "by force"}
				if how == "gone" {
					maps.DeleteFunc(all, func(_ string, b []byte) bool { id, _ := testKeyOf(b); return id == keyA })
					delete(w.values, "anteroom/session/record/v1/dana")
				}
				p, o, ctx = w.start("two", 0, false, yard(all))
				if plan, err := o.Plan(ctx, again); err != nil || plan.Verb != DestroyData || len(plan.Steps) != 3 {
					t.Errorf("%+v %v", plan, err)
				}
				if _, err := o.Begin(ctx, again); err != nil {
					t.Fatal(err)
				}
				if how == "by force" { // for the check in Destroy
					w.values["anteroom/session/record/v1/dana"] = sealAs(keyB, "another place", "moved here")
				}
				cur = w.finish(o, p, ctx)
				want := map[bool]string{true: Condemned, false: Destroyed}[how == "still there"]
				if cur.State != StateDone || w.state(keyA) != want {
					t.Errorf("%+v; the key is %s", cur, w.state(keyA))
				}
				if w.ended != ended || !slices.Equal(w.signing, signing) {
					t.Error("everybody was signed out once more")
				}
				w.whole(keyA)
			})
		})
	}
	// Who forces it at once is not asked twice.
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false, yard(map[string][]byte{"k:1": sealAs(keyA, "", "junk")}))
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA, Force: true}); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone || w.state(keyA) != Destroyed || cur.Aside == nil || cur.Aside.Count != 1 {
			t.Errorf("%+v; the key is %s", cur, w.state(keyA))
		}
	})
}

// The command once more, and processes die at every moment of it.
func TestRow156DestroyDies(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; n < 12; n++ {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				all := map[string][]byte{"k:1": sealAs(keyA, "", "junk")}
				p, o, ctx := w.start("one", 0, false, yard(all))
				if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
					t.Fatal(err)
				}
				w.finish(o, p, ctx)
				again := Request{Verb: CompromisedData, Target: keyA, Force: true}
				p, o, ctx = w.start("two", n, after, yard(all))
				if _, err := o.Begin(ctx, again); err == nil {
					o.Follow(withLimit(t, ctx, time.Minute))
				}
				p.cancel()
				p, o, ctx = w.start("three", 0, false, yard(all))
				if cur, err := o.Current(ctx); err != nil || cur.Verb != DestroyData {
					if _, err := o.Begin(ctx, again); err != nil {
						t.Fatal(err)
					}
				}
				if cur := w.finish(o, p, ctx); cur.State != StateDone || cur.Verb != DestroyData || w.state(keyA) != Destroyed {
					t.Errorf("died at %d: %+v; the key is %s", n, cur, w.state(keyA))
				}
			})
		}
	}
}

// Two operators at the same moment: one operation, and neither is told of a failure.
func TestTwoBeginAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, one, ctx := w.start("one", 0, false)
		defer p.cancel()
		q, two, ctx2 := w.start("two", 0, false)
		defer q.cancel()
		var all sync.WaitGroup
		ids := make([]string, 2)
		for i, o := range []*Operator{one, two} {
			all.Go(func() {
				op, err := o.Begin([]context.Context{ctx, ctx2}[i], Request{Verb: CompromisedData, Target: keyA})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = op.ID
			})
		}
		all.Wait()
		if ids[0] != ids[1] {
			t.Errorf("two operations: %v", ids)
		}
	})
}

// Row 156: junk in the place of signing keys, where no node of this kind has any, holds nothing up.
func TestRow156JunkForSigningKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		delete(w.values, "anteroom/session/keys/v1")
		all := map[string][]byte{}
		p, o, ctx := w.start("one", 0, false, yard(all), func(c *Config) {
			c.Sessions, c.Store = nil, blocked{c.Store.(junkyard), "anteroom/session/keys/v1"}
		})
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Errorf("%+v", cur)
		}
	})
}

// blocked is a store with junk in the place of one key.
type blocked struct {
	junkyard
	key string
}

func (b blocked) Get(ctx context.Context, key string) ([]byte, error) {
	if key == b.key {
		return nil, store.ErrUnavailable
	}
	return b.junkyard.Get(ctx, key)
}

// Row 156: an end with something set aside is believed only of a key that is refused.
func TestRow156PlantedAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		defer p.cancel()
		op, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA})
		if err != nil {
			t.Fatal(err)
		}
		op.Phase, op.State, op.Aside = stepReport, StateDone, &Aside{Count: 1}
		if w.values[labelJournal], err = op.encode(); err != nil {
			t.Fatal(err)
		}
		if cur, err := o.Current(ctx); err != nil || cur.State == StateDone {
			t.Errorf("%+v %v", cur, err)
		}
		if plan, err := o.Plan(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil || plan.Verb != CompromisedData {
			t.Errorf("%+v %v", plan, err)
		}
	})
}
