package rekey

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// hospital is a client of an identity provider.
type hospital struct {
	*process
	kids *[]string
}

func (hospital) Name() string { return "hospital" }

func (h hospital) KeyNames(context.Context) ([]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(*h.kids), h.alive()
}

func (h hospital) ReplaceKeys(_ context.Context, names []string) error {
	return h.effect(func() error {
		for i, kid := range *h.kids {
			if slices.Contains(names, kid) {
				(*h.kids)[i] = kid + "+"
			}
		}
		return nil
	})
}

// S9: a client key is replaced once, at whatever moment processes die, and by a node that has the client.
func TestCompromisedClient(t *testing.T) {
	for n := range 12 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			kids := []string{"one", "dpop"}
			with := func(p **process) func(*Config) {
				return func(c *Config) { c.Clients = func() []Client { return []Client{hospital{*p, &kids}} } }
			}
			var p, q *process
			p, o, ctx := w.start("one", n, true, with(&p))
			r, err := o.Resolve("client/hospital")
			if err != nil || r.Verb != CompromisedClient {
				t.Fatalf("%+v %v", r, err)
			}
			if _, err := o.Begin(ctx, r); err == nil {
				o.Follow(withLimit(t, ctx, time.Minute))
			}
			p.cancel()
			q, o2, ctx := w.start("two", 0, false, with(&q))
			if cur := w.finish(o2, q, ctx); cur.State != StateDone || !slices.Equal(cur.Old, []string{"one", "dpop"}) {
				t.Fatalf("%+v", cur)
			}
			if !slices.Equal(kids, []string{"one+", "dpop+"}) {
				t.Errorf("died at %d: %v", n, kids)
			}
			if r := w.reported(w.reader()); !slices.Contains(r.Notes, noteClientNew) {
				t.Errorf("%q", r.Notes)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("older config", 0, false)
		defer p.cancel()
		if _, err := o.Resolve("client/hospital"); !errors.Is(err, ErrTarget) {
			t.Errorf("nobody's client: %v", err)
		}
		if _, err := o.Begin(ctx, Request{Verb: CompromisedClient, Target: "client/hospital"}); !errors.Is(err, ErrTarget) || !strings.Contains(err.Error(), "keys status") {
			t.Errorf("nobody's client: %v", err)
		}
		kids := []string{"one"}
		var q *process
		q, two, ctx2 := w.start("another", 0, false, func(c *Config) { c.Clients = func() []Client { return []Client{hospital{q, &kids}} } })
		if _, err := two.Begin(ctx2, Request{Verb: CompromisedClient, Target: "client/hospital"}); err != nil {
			t.Fatal(err)
		}
		o.Follow(withLimit(t, ctx, time.Minute))
		if cur, err := two.Current(ctx2); err != nil || cur.Starts != 0 {
			t.Errorf("a node without that client worked at it: %+v %v", cur, err)
		}
		if cur := w.finish(two, q, ctx2); cur.State != StateDone || kids[0] != "one+" {
			t.Errorf("%+v %v", cur, kids)
		}
	})
}

// Row 156: where signing keys lie and this node has no sessions, it neither begins nor takes over what would leave them alive.
func TestRow156NoSessionsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("certificates only", 0, false, func(c *Config) { c.Sessions = nil })
		defer p.cancel()
		request := Request{Verb: CompromisedData, Target: keyA}
		if _, err := o.Begin(ctx, request); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "run the command on one of them") {
			t.Errorf("begun: %v", err)
		}
		if _, err := o.Plan(ctx, request); !errors.Is(err, ErrRefused) {
			t.Errorf("planned: %v", err)
		}
		q, two, ctx2 := w.start("with sessions", 0, false)
		if _, err := two.Begin(ctx2, request); err != nil {
			t.Fatal(err)
		}
		o.Follow(withLimit(t, ctx, time.Minute))
		if cur, err := two.Current(ctx2); err != nil || cur.Starts != 0 || w.state(keyA) != Primary {
			t.Errorf("it took it over: %+v %v", cur, err)
		}
		if cur := w.finish(two, q, ctx2); cur.State != StateDone || w.ended == 0 {
			t.Errorf("%+v", cur)
		}
		// A place without signing keys needs none.
		delete(w.values, "anteroom/session/keys/v1")
		p, o, ctx = w.start("certificates only", 0, false, func(c *Config) { c.Sessions = nil })
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyB}); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone || slices.Contains(cur.Notes, noteCookies) {
			t.Errorf("%+v", cur)
		}
	})
}

// S9: a client that no config has any more, and whose key is therefore never replaced, keeps no stolen key alive.
func TestGivesWay(t *testing.T) {
	for _, present := range []Verb{RotateData, CompromisedClient} {
		for _, next := range []Verb{CompromisedData, CompromisedApps, CompromisedMaster, CompromisedSigning, CompromisedRing, DestroyData} {
			if !gives(present, next) {
				t.Errorf("%s does not give way to %s", present, next)
			}
		}
		if gives(present, RotateData) || gives(present, Migrate) || gives(CompromisedData, CompromisedClient) || gives(CompromisedClient, CompromisedClient) {
			t.Errorf("%s gives way to what can wait", present)
		}
	}
}

// Row 156: whoever repeats the command that destroys what was spared watches it, or forces it.
func TestInsteadWhileDestroying(t *testing.T) {
	o := new(Operator)
	r := Request{Verb: CompromisedData, Target: "data-7"}
	running := &Operation{Verb: DestroyData, State: StateRunning, Target: "data-7"}
	if got := o.instead(running, r); got.Verb != DestroyData {
		t.Errorf("%+v", got)
	}
	if got := o.instead(&Operation{Verb: DestroyData, State: StateRunning, Target: "data-8"}, r); got.Verb != CompromisedData {
		t.Errorf("another key: %+v", got)
	}
}
