package rekey

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A thief of the key who can write to the store does not only plant values: he can say of the operation that ends his key what he
// likes. Its report and its end are believed only as far as the keys themselves say the same.

// Row 156: a report that was there before the operation came to its own is not taken for it.
func TestRow156PlantedReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		p, o, ctx := w.start("one", 0, false)
		op, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA})
		if err != nil {
			t.Fatal(err)
		}
		forged := *o.reportOf(op)
		forged.Ended, forged.Notes = time.Now(), []string{"nothing was exposed"}
		text, err := forged.encode()
		if err != nil {
			t.Fatal(err)
		}
		w.values[labelReport+"/"+op.ID] = text
		if cur := w.finish(o, p, ctx); cur.State != StateDone {
			t.Fatalf("%+v", cur)
		}
		if r := w.reported(w.reader()); len(r.Gone) != 1 || len(r.Steps) == 0 || strings.Contains(strings.Join(r.Notes, ""), "nothing was exposed") {
			t.Errorf("the report is %+v", r)
		}
	})
}

// Row 156: a journal that jumps to the end ends nothing.
func TestRow156PlantedJournal(t *testing.T) {
	for name, forge := range map[string]func(*Operation){
		"at the report": func(op *Operation) { op.Phase = stepReport },
		"done":          func(op *Operation) { op.Phase, op.State, op.Ended = stepReport, StateDone, time.Now() },
		"of nothing":    func(op *Operation) { op.Phase, op.IDs = stepReport, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p, o, ctx := w.start("one", 0, false)
				op, err := o.Begin(ctx, Request{Verb: CompromisedData, Target: keyA})
				if err != nil {
					t.Fatal(err)
				}
				forge(op)
				if w.values[labelJournal], err = op.encode(); err != nil {
					t.Fatal(err)
				}
				o.Follow(withLimit(t, ctx, 5*time.Minute))
				cur, err := o.Current(ctx)
				if err != nil || cur.State == StateDone || !strings.Contains(cur.Problem, keyA) {
					t.Fatalf("%+v, %v", cur, err)
				}
				p.cancel()
				// The same order once more does it.
				q, o2, ctx := w.start("two", 0, false)
				if _, err := o2.Begin(ctx, Request{Verb: CompromisedData, Target: keyA}); err != nil {
					t.Fatal(err)
				}
				if cur := w.finish(o2, q, ctx); cur.State != StateDone || w.state(keyA) != Destroyed {
					t.Errorf("%+v, the key is %s", cur, w.state(keyA))
				}
			})
		})
	}
}
