package rekey

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const evil = "kid-evil-0666"

// thief has the old data key and can write to the store. As soon as a walk begins after the key was condemned he puts signing
// keys of his own, sealed with it, in the place of ours.
type thief struct {
	memory
	done *bool
}

func (s thief) Scan(ctx context.Context, prefix, cursor string, limit int) ([]store.Item, string, error) {
	if s.state(keyA) == Condemned && !*s.done {
		*s.done = true
		s.mu.Lock()
		s.values["anteroom/session/keys/v1"] = sealAs(keyA, "seal-keys", evil)
		s.mu.Unlock()
	}
	return s.memory.Scan(ctx, prefix, cursor, limit)
}

// Rewrite makes the record one that every node believes.
func (s thief) Rewrite(ctx context.Context, key string, old, new []byte) error {
	err := s.memory.Rewrite(ctx, key, old, new)
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(s.values[key]) == string(new) && strings.Contains(string(new), evil) { // also when the process died of it
		s.signing = append(s.signing, evil)
	}
	return err
}

// Row 156: signing keys that a thief of the data key writes while the operation seals everything anew are dead at its end,
// also when the process dies on the way.
func TestRow156ForgedSigningKeys(t *testing.T) {
	for n := 0; ; n += 5 {
		died := false
		synctest.Test(t, func(t *testing.T) {
			w, planted := newWorld(t), false
			attacked := func(c *Config) { c.Store = thief{c.Store.(memory), &planted} }
			p, o, ctx := w.start("one", n, true, attacked)
			if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err == nil {
				o.Follow(withLimit(t, ctx, 10*time.Minute))
			}
			p.cancel()
			died = p.dead
			q, o2, ctx := w.start("two", 0, false, attacked)
			if _, err := o2.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil && w.state(keyA) != Destroyed {
				t.Fatal(err)
			}
			if cur := w.finish(o2, q, ctx); cur.State != StateDone {
				t.Fatalf("%+v", cur)
			}
			r := w.reported(w.reader())
			if slices.Contains(w.signing, evil) || !slices.Contains(r.Signing, evil) || !slices.Contains(r.Notes, noteAgain) || w.ended < 2 || !planted {
				t.Errorf("died at %d: signing keys %v, the report names %v, ended %d times", n, w.signing, r.Signing, w.ended)
			}
		})
		if t.Failed() || n > 0 && !died {
			return
		}
	}
}

// Row 156: the same, of keys that were planted before the old key was condemned, and that the first killing of keys, or a node
// that started meanwhile, has sealed anew in good faith.
func TestRow156ForgedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false, func(c *Config) {
			real := c.Sessions()
			c.Sessions = func() Sessions { return &planted{Sessions: real, w: w} }
		})
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		if r := w.reported(w.reader()); slices.Contains(w.signing, evil) || !slices.Contains(r.Signing, evil) || !slices.Contains(r.Notes, noteAgain) || w.ended != 2 {
			t.Errorf("%v, the report names %v, ended %d times", w.signing, r.Signing, w.ended)
		}
	})
}

// planted has a key more than was made, from the first killing on.
type planted struct {
	Sessions
	w *world
}

func (s *planted) KillKey(ctx context.Context, kid string) error {
	if kid == "kid-one-0001" {
		s.w.mu.Lock()
		if s.w.ended == 0 {
			s.w.signing = append(s.w.signing, evil)
		}
		s.w.mu.Unlock()
	}
	return s.Sessions.KillKey(ctx, kid)
}

// Row 158: a signing key that was made between the beginning and the new data key, and so was sealed with the old one, dies too.
func TestRow158RotatedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		w.signing = append(w.signing, "kid-next-0007")
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		if r := w.reported(w.reader()); slices.Contains(w.signing, "kid-next-0007") || !slices.Contains(r.Signing, "kid-next-0007") || slices.Contains(r.Notes, noteAgain) {
			t.Errorf("%v, %v", w.signing, r)
		}
	})
}

// A data key that came after the beginning is under the stolen master key as well.
func TestCompromisedMasterMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		if _, err := o.Begin(ctx, Request{Verb: CompromisedMaster, Target: w.master}); err != nil {
			t.Fatal(err)
		}
		made, app := ring{p, false}.rotate().ID, ring{p, true}.rotate().ID
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		if w.state(made) != Destroyed {
			t.Errorf("own: %s", w.state(made))
		}
		if k, _ := keyOf(ring{p, true}, app); k.State != Condemned {
			t.Errorf("of applications: %+v", k)
		}
	})
}

// What does not exist is refused, and not reported as done.
func TestNothingToDo(t *testing.T) {
	w := newWorld(t)
	_, o, _ := w.start("one", 0, false)
	if _, err := o.Begin(t.Context(), Request{Verb: RotateRing, Target: "pasword/"}); !errors.Is(err, ErrTarget) {
		t.Errorf("a ring that is not there: %v", err)
	}
	w.master = "" // the file is gone
	for _, verb := range []Verb{RotateMaster, CompromisedMaster} {
		if _, err := o.Begin(t.Context(), Request{Verb: verb}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	if op, err := o.Current(t.Context()); op != nil || err != nil {
		t.Errorf("%+v, %v", op, err)
	}
}

// Whether the former key file goes is said by whoever lets a stopped migration go on.
func TestStoppedRemoves(t *testing.T) {
	w := newWorld(t)
	_, o, ctx := w.start("one", 0, false)
	op, err := o.Begin(ctx, Request{Verb: Migrate, Remove: true})
	if err != nil {
		t.Fatal(err)
	}
	_, raw, err := o.load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	op.State = StateStopped
	if _, err := o.swap(ctx, raw, op); err != nil {
		t.Fatal(err)
	}
	if op, err = o.Begin(ctx, Request{Verb: Migrate}); err != nil || op.State != StateRunning || op.Remove {
		t.Errorf("%+v, %v", op, err)
	}
}

// Row 156: a compromised key does not wait until records were sealed under new keys for another reason.
func TestRow156DoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		slow, o, ctx := w.start("one", 12, false) // dies in the middle
		if _, err := o.Begin(ctx, Request{Verb: RotateData}); err != nil {
			t.Fatal(err)
		}
		o.Follow(withLimit(t, ctx, time.Minute))
		slow.cancel()
		p, o2, ctx := w.start("two", 0, false)
		for _, verb := range []Verb{RotateMaster, Migrate, RotateRing} {
			if _, err := o2.Begin(ctx, Request{Verb: verb}); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %v", verb, err)
			}
		}
		if _, err := o2.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		if _, err := o2.Begin(ctx, Request{Verb: CompromisedData, Target: keyB}); !errors.Is(err, ErrBusy) {
			t.Errorf("a second one: %v", err)
		}
		if cur := w.finish(o2, p, ctx); cur.State != StateDone || cur.Verb != CompromisedData || w.state(keyA) != Destroyed {
			t.Fatalf("%+v, the key is %s", cur, w.state(keyA))
		}
		w.whole(keyA)
	})
}
