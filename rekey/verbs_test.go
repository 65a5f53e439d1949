package rekey

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Row 155: a new master key wraps the data keys anew and changes no value; a new data key re-encrypts the values.
func TestRow155RootIsNotData(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				before := string(w.values["anteroom/session/record/v1/00"])
				w.values["anteroom/session/record/v1/29"][0] = 1 // sealed by the master itself, in the old format
				p, o, ctx := w.start("one", n, after)
				if _, err := o.Begin(ctx, Request{Verb: RotateMaster, Target: "master"}); err == nil {
					o.Follow(withLimit(t, ctx, 10*time.Minute))
				}
				p.cancel()
				died = p.dead
				q, o2, ctx := w.start("two", 0, false)
				if cur, err := o2.Current(ctx); err != nil || cur == nil { // it died before it was journaled
					if _, err := o2.Begin(ctx, Request{Verb: RotateMaster, Target: "master"}); err != nil {
						t.Fatal(err)
					}
				}
				if cur := w.finish(o2, q, ctx); cur.State != StateDone {
					t.Fatalf("effect %d: %+v", n, cur)
				}
				w.whole()
				if string(w.values["anteroom/session/record/v1/00"]) != before {
					t.Error("a value was changed")
				}
				if id, _ := testKeyOf(w.values["anteroom/session/record/v1/29"]); strings.HasPrefix(id, "v1:") {
					t.Error("a value is sealed by the master still")
				}
				if w.master != "local:2222222222222222" || w.next != "" || len(w.former) != 1 {
					t.Errorf("effect %d: master %s, next %q, former %v", n, w.master, w.next, w.former)
				}
				for _, k := range append(w.keys, w.apps...) {
					if k.Master != w.master {
						t.Errorf("effect %d: %s is wrapped by %s", n, k.ID, k.Master)
					}
				}
				if w.ended != 0 {
					t.Error("sessions were ended")
				}
			})
			if t.Failed() || !died {
				break
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		if _, err := o.Begin(ctx, Request{Verb: RotateData}); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		w.whole(keyA, keyB)
		if w.state(keyA) != Open || w.ended != 0 || len(w.keys) != 3 || len(w.apps) != 2 {
			t.Errorf("%s, ended %d, %d own keys, %d of applications", w.state(keyA), w.ended, len(w.keys), len(w.apps))
		}
	})
}

// A stolen master key: new master, and every data key that it wrapped goes as if stolen.
func TestCompromisedMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		r, err := o.Resolve("master")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Begin(ctx, r); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		w.whole(keyA, keyB)
		if w.state(keyA) != Destroyed || w.state(keyB) != Destroyed || w.apps[0].State != Condemned || w.apps[1].State != Primary || w.ended == 0 {
			t.Errorf("%s %s %v, ended %d", w.state(keyA), w.state(keyB), w.apps, w.ended)
		}
	})
}

// A pepper: the ring is asked once, also when the process dies right after it.
func TestCompromisedRing(t *testing.T) {
	for n := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p, o, ctx := w.start("one", n, true)
			if _, err := o.Begin(ctx, Request{Verb: CompromisedRing, Target: "passwords/p3"}); err == nil {
				o.Follow(withLimit(t, ctx, time.Minute))
			}
			p.cancel()
			q, o2, ctx := w.start("two", 0, false)
			if cur := w.finish(o2, q, ctx); cur.State != StateDone {
				t.Fatalf("%+v", cur)
			}
			if w.peppers["passwords"] != 4 || !w.bad["p3"] || w.bad["p4"] {
				t.Errorf("died at %d: %v %v", n, w.peppers, w.bad)
			}
			if r := w.reported(w.reader()); !slices.Contains(r.Notes, noteUpgrade) {
				t.Errorf("%q", r.Notes)
			}
		})
	}
}

func TestCompromisedApps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		r, err := o.Resolve("cccccccccccccccc")
		if err != nil || r.Verb != CompromisedApps {
			t.Fatalf("%+v, %v", r, err)
		}
		if _, err := o.Begin(ctx, r); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		if w.apps[0].State != Condemned || w.apps[1].State != Primary || w.ended != 0 || w.state(keyA) != Primary {
			t.Errorf("%v, ended %d", w.apps, w.ended)
		}
	})
}

// What a name means; a name that means two keys, or none, does nothing.
func TestResolve(t *testing.T) {
	w := newWorld(t)
	_, o, _ := w.start("one", 0, false)
	for name, want := range map[string]Verb{
		keyA: CompromisedData, "data:" + keyA: CompromisedData, "cccccccccccccccc": CompromisedApps, "apps:cccccccccccccccc": CompromisedApps,
		"ring/p3": CompromisedRing, "passwords/p1": CompromisedRing, "p2": CompromisedRing, "kid-one-0001": CompromisedSigning, "kid-two-": CompromisedSigning,
		"signing:kid-one-0001": CompromisedSigning, "master": CompromisedMaster, "local:1111111111111111": CompromisedMaster, "v1:1111111111111111": CompromisedMaster,
	} {
		if r, err := o.Resolve(name); err != nil || r.Verb != want {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	for _, name := range []string{"", "p9", "other/p1", "kid-", "kid-thre", "dddddddddddddddd", "apps:" + keyA, "data:cccccccccccccccc", "tls:" + keyA, "local:9999999999999999", "../x", strings.Repeat("a", 500)} {
		if r, err := o.Resolve(name); !errors.Is(err, ErrTarget) {
			t.Errorf("%.40q: %+v, %v", name, r, err)
		}
	}
	w.apps[0].ID = keyA
	if _, err := o.Resolve(keyA); !errors.Is(err, ErrTarget) {
		t.Errorf("one name of two keys: %v", err)
	}
	_, o, _ = w.start("one", 0, false, func(c *Config) { c.Master, c.NoMaster = nil, "use the other command" })
	for _, name := range []string{"master", "local:1111111111111111"} {
		if _, err := o.Resolve(name); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "use the other command") {
			t.Errorf("%v", err)
		}
	}
	if _, err := o.Begin(t.Context(), Request{Verb: RotateMaster, Target: "master"}); !errors.Is(err, ErrRefused) {
		t.Errorf("%v", err)
	}
}

func TestStatusCounts(t *testing.T) {
	w := newWorld(t)
	p, o, ctx := w.start("one", 0, false)
	s, err := o.Status(ctx)
	if err != nil || s.Records[keyA] != testRecords+2 || s.Records[keyB] != 1 || len(s.Records) != 2 || !s.Complete || p.count != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
