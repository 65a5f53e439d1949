package envelope

import (
	"errors"
	"fmt"
	"testing"

	"github.com/anteroom-proxy/anteroom/store"
)

var errDead = errors.New("this process is dead")

// die lets a process die at the n-th call of the store, before or after it took effect. It
// returns a KeyStore for the process, on the same values, and whether it came that far.
func die(keys *memory, n int, after bool) (process *memory, died func() bool) {
	count, dead := 0, false
	process = &memory{values: keys.values}
	process.before = func(string) error {
		if dead {
			return errDead
		}
		if count++; count == n && !after {
			dead = true
			return errDead
		}
		return nil
	}
	process.after = func(string) error {
		if count == n && after {
			dead = true
			return errDead
		}
		return nil
	}
	return process, func() bool { return dead }
}

// TestRow156Crash: a node dies before or after any of the calls that a change makes. What
// was sealed opens, the ring is the old one or the new one, and doing it again does it.
func TestRow156Crash(t *testing.T) {
	former := func(c *Config) { c.Former = []Master{local(t, 1)} }
	for _, verb := range []struct {
		name   string
		master Master
		do     func(e *Envelope, first, second string) error
		done   func(e *Envelope, first, second string) bool
	}{
		{"Start", local(t, 1), func(*Envelope, string, string) error { return nil }, func(*Envelope, string, string) bool { return true }},
		{"Rotate", local(t, 1), func(e *Envelope, _, _ string) error { _, err := e.Rotate(t.Context()); return err },
			func(e *Envelope, _, second string) bool { return state(e, second) == StateOpen }},
		{"Condemn", local(t, 1), func(e *Envelope, _, second string) error { _, err := e.Condemn(t.Context(), second); return err },
			func(e *Envelope, _, second string) bool { return state(e, second) == StateCondemned }},
		{"Destroy", local(t, 1), func(e *Envelope, first, _ string) error { return e.Destroy(t.Context(), first) },
			func(e *Envelope, first, _ string) bool { return state(e, first) == StateDestroyed }},
		{"Migrate", newFar(t, 9), func(e *Envelope, _, _ string) error { _, err := e.Migrate(t.Context()); return err },
			func(e *Envelope, _, _ string) bool { return under(e, newFar(t, 9).ID()) }},
		{"RewrapAll", local(t, 1), func(e *Envelope, _, _ string) error { _, err := e.RewrapAll(t.Context()); return err },
			func(e *Envelope, _, _ string) bool { return under(e, local(t, 1).ID()) }},
	} {
		for n := 1; ; n++ {
			came := false
			for _, after := range []bool{false, true} {
				what := fmt.Sprintf("%s, call %d, after %v", verb.name, n, after)
				keys := new(memory)
				e := open(t, keys, "own", local(t, 1))
				first := primary(t, e).ID
				a := seal(t, e, testLabel, []byte("a"))
				if _, err := e.Rotate(t.Context()); err != nil {
					t.Fatal(err)
				}
				second := primary(t, e).ID
				b := seal(t, e, testLabel, []byte("b"))

				process, died := die(keys, n, after)
				mortal, err := Start(t.Context(), Config{Name: "own", Master: verb.master, Former: []Master{local(t, 1)}, Store: process})
				if err == nil {
					err = verb.do(mortal, first, second)
				}
				if died() {
					came = true
				}
				if died() && !after && err == nil {
					t.Errorf("%s: done, says the dead", what)
				}
				next := open(t, keys, "own", verb.master, former)
				if verb.name != "Destroy" || state(next, first) != StateDestroyed {
					opens(t, next, a, "a")
				}
				if state(next, second) == StateCondemned {
					_, err := next.Open(t.Context(), testLabel, b)
					refused(t, what, err, ErrCondemned)
				} else {
					opens(t, next, b, "b")
				}
				if err := verb.do(next, first, second); err != nil || !verb.done(next, first, second) {
					t.Errorf("%s: again: %v, %v", what, err, next.Keys())
				}
				opens(t, next, seal(t, next, testLabel, []byte("c")), "c")
			}
			if !came {
				break
			}
			if n > 50 {
				t.Fatal(verb.name, "never ends")
			}
		}
	}
}

// under reports whether all live keys, and the ring itself, are under one master.
func under(e *Envelope, master string) bool {
	r := e.core().view.Load().ring
	for _, k := range r.Keys {
		if k.Data != "" && k.Master != master {
			return false
		}
	}
	return r.provedBy == master
}

// TestRow156FirstStartCrash: a node dies while it makes the first ring.
func TestRow156FirstStartCrash(t *testing.T) {
	for n := 1; ; n++ {
		came := false
		for _, after := range []bool{false, true} {
			keys := &memory{values: map[string][]byte{}}
			process, died := die(keys, n, after)
			e, err := Start(t.Context(), Config{Name: "own", Master: local(t, 1), Store: process})
			came = came || died()
			if died() != (err != nil) {
				t.Errorf("call %d, after %v: died %v, %v", n, after, died(), err)
			}
			next := open(t, keys, "own", local(t, 1))
			if err == nil {
				opens(t, next, seal(t, e, testLabel, []byte("x")), "x")
			}
		}
		if !came {
			break
		}
	}
}

// TestLostAnswer: the store made the change and its answer was lost: the change is done
// once, and says so.
func TestLostAnswer(t *testing.T) {
	keys := new(memory)
	lose := func() {
		keys.after = func(call string) error {
			if call == "swap" {
				keys.after = nil
				return store.ErrUnavailable
			}
			return nil
		}
	}
	lose()
	e := open(t, keys, "own", local(t, 1))
	first := primary(t, e).ID
	lose()
	second, err := e.Rotate(t.Context())
	if err != nil || state(e, first) != StateOpen || len(e.core().view.Load().ring.Keys) != 2 {
		t.Fatal(second, err, e.Keys())
	}
	lose()
	third, err := e.Condemn(t.Context(), second.ID)
	if err != nil || third.ID == second.ID || len(e.core().view.Load().ring.Keys) != 3 {
		t.Fatal(third, err, e.Keys())
	}
	// A store that did not write says so.
	keys.before = func(call string) error {
		if call == "swap" {
			return store.ErrUnavailable
		}
		return nil
	}
	_, err = e.Rotate(t.Context())
	refused(t, "a store that does not write", err, ErrUnavailable)
	if primary(t, e) != third {
		t.Error("the primary changed")
	}
}
