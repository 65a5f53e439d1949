package rekey

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// whole checks that nothing was lost and nothing is under the keys that are gone.
func (w *world) whole(gone ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	want := map[string]string{"anteroom/session/keys/v1": "signing keys", "anteroom/oidc/client-key/v1/x": "client key", "anteroom/session/record/v1/other": "under B"}
	for i := range testRecords {
		want[fmt.Sprintf("anteroom/session/record/v1/%02d", i)] = fmt.Sprint("record ", i)
	}
	for key, plain := range want {
		v := w.values[key]
		id, ok := testKeyOf(v)
		if !ok || slices.Contains(gone, id) {
			w.t.Errorf("%s is under %q", key, id)
		}
		if ok && !bytes.HasSuffix(v, []byte("\x00"+plain)) {
			w.t.Errorf("%s was lost: %q", key, v)
		}
		for _, k := range w.keys {
			if k.ID == id && k.State == Destroyed {
				w.t.Errorf("%s is under %s, which is destroyed", key, id)
			}
		}
	}
	for i := range testRecords {
		if at := w.expires[fmt.Sprintf("anteroom/session/record/v1/%02d", i)]; at.Unix() != 5e9+int64(i) {
			w.t.Errorf("record %d expires at %v", i, at)
		}
	}
	if string(w.values["anteroom/portal/consumed/v1/x"]) != "\x01" || !bytes.HasPrefix(w.values["looks-sealed"], []byte("\x0212345678")) {
		w.t.Error("what is not sealed was changed")
	}
}

// reported checks that one report stands in the store, and its hash in the audit log.
func (w *world) reported(o *Operator) *Report {
	w.t.Helper()
	text, err := o.Report(context.Background(), "")
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	w.mu.Lock()
	events := slices.Clone(w.events)
	w.mu.Unlock()
	if len(events) == 0 {
		w.t.Fatal("no audit event")
	}
	for _, e := range events {
		if e.Kind != "admin" || !strings.HasSuffix(e.Rule, "sha256:"+hex.EncodeToString(sum[:])) {
			w.t.Errorf("audit event %+v", e)
		}
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		w.t.Fatal(err)
	}
	return &r
}

func (w *world) state(id string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range w.keys {
		if k.ID == id {
			return k.State
		}
	}
	return ""
}

// reader is an Operator to look with, of no process that dies.
func (w *world) reader() *Operator {
	_, o, _ := w.start("reader", 0, false)
	return o
}

// Row 156: the process dies at every single effect, before it and after it. Whoever comes next finishes the operation; nothing
// is lost, nothing is left under the old key, and the key is never destroyed too early (see ring.Destroy).
func TestRow156DiesAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p, o, ctx := w.start("one", n, after)
				if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err == nil {
					o.Follow(withLimit(t, ctx, 10*time.Minute))
				}
				p.cancel()
				died = p.dead
				q, o2, ctx := w.start("two", 0, false)
				if err := o2.Mend(ctx); err != nil {
					t.Fatal(err)
				}
				if id, _ := testKeyOf(w.values["anteroom/session/keys/v1"]); w.state(id) == Condemned {
					t.Errorf("effect %d: a start would not open the signing keys", n)
				}
				if _, err := o2.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil && w.state(keyA) != Destroyed {
					t.Fatal(err) // the same once more is the one under way
				}
				cur := w.finish(o2, q, ctx)
				if cur.State != StateDone {
					t.Fatalf("effect %d: %s, %s", n, cur.State, cur.Problem)
				}
				w.whole(keyA)
				if w.state(keyA) != Destroyed || w.state(keyB) != Open {
					t.Errorf("effect %d: the old key is %s, another %s", n, w.state(keyA), w.state(keyB))
				}
				if slices.Contains(w.signing, "kid-one-0001") || slices.Contains(w.signing, "kid-two-0002") || w.ended == 0 {
					t.Errorf("effect %d: signing keys %v, sessions ended %d times", n, w.signing, w.ended)
				}
				w.reported(w.reader())
			})
			if t.Failed() || !died {
				if n < 50 {
					t.Fatalf("only %d effects", n)
				}
				break
			}
		}
	}
}

func withLimit(t testing.TB, ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return ctx
}

func TestRow156Report(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		plan, err := o.Plan(ctx, Request{Verb: CompromisedData, Target: keyA})
		if err != nil || plan.Reseal != testRecords+2 || plan.Purpose["anteroom/session/record/v1"] != testRecords || len(w.events) != 0 || p.count != 0 {
			t.Fatalf("dry run: %+v, %v, %d effects", plan, err, p.count)
		}
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA, Asker: "unix"}); err != nil {
			t.Fatal(err)
		}
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		r := w.reported(w.reader())
		if r.Before[keyA] != testRecords+2 || r.After[keyA] != 0 || r.Left != 0 || !slices.Equal(r.Gone, []string{keyA}) || len(r.Signing) != 2 || r.Values < testRecords {
			t.Errorf("%+v", r)
		}
		if !slices.Contains(r.Notes, noteClient) || slices.Contains(r.Notes, noteTokens) {
			t.Errorf("notes %q", r.Notes)
		}
		var page bytes.Buffer
		text, _ := w.reader().Report(t.Context(), r.ID)
		if err := WriteHTML(&page, text); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{keyA, r.ID, "destroyed", "Nothing is left", "default-src &#39;none&#39;"} {
			if !strings.Contains(page.String(), want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if strings.Contains(page.String(), "<script") || strings.Contains(page.String(), "http") && strings.Contains(page.String(), "src=") {
			t.Error("the page loads something")
		}
	})
}

// A page shows what stands in the report as text, whatever it is.
func TestPageIsText(t *testing.T) {
	var b bytes.Buffer
	hostile := "<script>alert(1)</script>\u202e\x1b[2J"
	text, err := json.Marshal(Report{Verb: Verb(hostile), Target: hostile, Asker: hostile, Notes: []string{hostile}, Steps: []Step{{Name: hostile, Detail: hostile}}, Exposed: map[string]int{hostile: 1}, Before: map[string]int{hostile: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteHTML(&b, text); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<script") || strings.ContainsAny(b.String(), "\u202e\x1b") {
		t.Error("the page is not text")
	}
}

// Row 156: a value under the old key that nobody knows stops the operation before the key is destroyed; --force goes on.
func TestRow156StopsAtTheUnknown(t *testing.T) {
	for name, spoil := range map[string]func(*world){
		"unknown": func(w *world) { w.values["anteroom/new/thing/v1/x"] = sealAs(keyA, "new", "?") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				spoil(w)
				p, o, ctx := w.start("one", 0, false)
				if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
					t.Fatal(err)
				}
				cur := w.finish(o, p, ctx)
				if cur.State != StateStopped || cur.Phase != stepVerify || w.state(keyA) != Condemned || len(w.events) != 0 {
					t.Fatalf("%s at %s: %s; the key is %s", cur.State, cur.Phase, cur.Problem, w.state(keyA))
				}
				if name == "unknown" && !strings.Contains(cur.Problem, "anteroom/new/thing/v1/x") {
					t.Errorf("%s", cur.Problem)
				}
				w.whole(keyA)
				// Somebody mends it, and it goes on.
				delete(w.values, "anteroom/new/thing/v1/x")
				delete(w.values, "anteroom/session/record/v1/zz")
				p, o, ctx = w.start("two", 0, false)
				if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
					t.Fatal(err)
				}
				if cur := w.finish(o, p, ctx); cur.State != StateDone || w.state(keyA) != Destroyed {
					t.Fatalf("%+v", cur)
				}
			})
		})
	}
}

// One operation at a time, for all nodes; the same one twice is one.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		first, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA})
		if err != nil {
			t.Fatal(err)
		}
		_, other, _ := w.start("two", 0, false)
		if _, err := other.Begin(ctx, Request{Verb: RotateData}); !errors.Is(err, ErrBusy) {
			t.Errorf("another one: %v", err)
		}
		if again, err := other.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil || again.ID != first.ID {
			t.Errorf("the same one: %v, %v", again, err)
		}
		w.finish(o, p, ctx)
	})
}

// Two nodes: the second takes over 30 s after the first one's last sign of life, whatever its clock says, and not before.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		shared := func(c *Config) { c.Alone = false }
		p1, o1, ctx1 := w.start("one", 0, false, shared)
		_, o2, ctx2 := w.start("two", 0, false, shared, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } })
		ctx2, cancel2 := context.WithCancel(ctx2)
		if _, err := o1.Begin(ctx1, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		w.lag = 10 * time.Minute // one waits that long, and shows that it lives
		go o1.Follow(ctx1)
		go o2.Follow(ctx2)
		defer cancel2()
		owner := func() string {
			op, _, err := o2.load(ctx2)
			if err != nil {
				t.Fatal(err)
			}
			return op.Owner
		}
		time.Sleep(5 * time.Minute)
		if owner() != "one" {
			t.Fatal("a node that lives was robbed")
		}
		p1.pmu.Lock()
		p1.dead = true
		p1.pmu.Unlock()
		p1.cancel()
		time.Sleep(15 * time.Second)
		if owner() != "one" {
			t.Error("taken over too early")
		}
		time.Sleep(30 * time.Second)
		if owner() != "two" {
			t.Error("nobody took over")
		}
		time.Sleep(20 * time.Minute)
		cur, err := o2.Current(t.Context())
		if err != nil || cur.State != StateDone || cur.Starts != 2 {
			t.Errorf("%+v, %v", cur, err)
		}
		w.whole(keyA)
		cancel2()
		synctest.Wait()
	})
}

// A node that was only slow, and comes back after another one took over, stops working.
func TestSlowNodeLoses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		_, o1, ctx1 := w.start("one", 0, false)
		if _, err := o1.Begin(ctx1, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		op, raw, err := o1.load(ctx1)
		if err != nil {
			t.Fatal(err)
		}
		taken := op.clone()
		taken.Owner = "two"
		if _, err := o1.swap(ctx1, raw, taken); err != nil {
			t.Fatal(err)
		}
		if err := o1.work(ctx1, op, raw); !errors.Is(err, errLost) || w.state(keyA) != Primary {
			t.Errorf("%v; the key is %s", err, w.state(keyA))
		}
	})
}

// The store falls silent in the middle, and comes back.
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		if _, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
			t.Fatal(err)
		}
		go o.Follow(ctx)
		time.Sleep(time.Second) // it waits for others to hear
		p.pmu.Lock()
		p.silent = true
		p.pmu.Unlock()
		time.Sleep(time.Minute)
		p.pmu.Lock()
		p.silent = false
		p.pmu.Unlock()
		time.Sleep(time.Minute)
		if cur, err := o.Current(t.Context()); err != nil || cur.State != StateDone {
			t.Errorf("%+v, %v", cur, err)
		}
		w.whole(keyA)
		p.cancel()
		synctest.Wait()
	})
}
