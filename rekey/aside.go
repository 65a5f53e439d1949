package rekey

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// Whoever can write to the store can put bytes there that name the compromised key and open with no key at all. They hold up no
// operation for ever: what does not open after several tries is set aside, with counts and names in the report, and the operation
// ends without destroying the key. The same command once more destroys it when nothing is left, or by force.

// Aside is what an operation has set aside.
type Aside struct {
	Count int      `json:"count"` // values under keys that go, at the last reading, that open with no key
	Names []string `json:"names"` // the first of them: where they lie; hashes where the store has no others
}

// maxAside is how many names are kept.
const maxAside = 32

// Lenient is a store whose Scan and Reseal can pass over what does not open.
type Lenient interface {
	Lenient(ctx context.Context, skip func(name string, sealed []byte, err error) bool) context.Context
}

// junk gathers names of what does not open.
type junk struct {
	mu    sync.Mutex
	names []string
}

func (j *junk) add(name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.names) < maxAside && !slices.Contains(j.names, name) {
		j.names = append(j.names, name)
	}
}

func (j *junk) list() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.names)
}

// pass makes a context in which the store passes over what never opens, whichever key it names; j gets the names of what is
// under keys that go. What does not open for now fails as ever.
func (o *Operator) pass(ctx context.Context, op *Operation, j *junk) context.Context {
	l, ok := o.c.Store.(Lenient)
	if !ok || o.c.Never == nil {
		return ctx
	}
	return l.Lenient(ctx, func(name string, sealed []byte, err error) bool {
		if !o.c.Never(err) {
			return false
		}
		if id, named := o.c.KeyOf(sealed); named && op.stale(id) {
			j.add(name)
		}
		return true
	})
}

// setAside ends the last reading when what is left opens with no key. False: a person has to decide.
func (t *task) setAside(ctx context.Context, c *census, changed int) (bool, error) {
	if len(c.foreign) > 0 || changed > 0 {
		return false, nil
	}
	t.o.c.Logger.Warn("values that name a compromised key open with no key; they are set aside", "operation", t.now().ID, "values", c.left, "names", t.junk.list())
	return true, t.change(ctx, true, func(op *Operation) { op.Aside = &Aside{c.left, t.junk.list()} })
}

// spares says that the keys are not destroyed, because something is left under them.
func (op *Operation) spares() bool { return op.Aside != nil && op.Aside.Count > 0 && !op.Force }

// instead is what a request for a compromised data key means after an operation that has done everything but destroy it.
func (o *Operator) instead(present *Operation, r Request) Request {
	if present == nil || r.Verb != CompromisedData {
		return r
	}
	if present.Verb == DestroyData && present.State != StateDone && present.Target == r.Target { // it is to be watched, or forced
		r.Verb = DestroyData
		return r
	}
	if present.State != StateDone {
		return r
	}
	k, found := keyOf(o.c.Own, r.Target)
	if found && k.State == Condemned && present.Aside != nil && slices.Contains(present.IDs, r.Target) {
		r.Verb = DestroyData
	}
	return r
}

// recount is the last reading of DestroyData. It seals nothing anew: what would open by now came after the operation had ended.
func (t *task) recount(ctx context.Context) error {
	return t.tally(ctx, func(op *Operation, c *census) {
		op.Total, op.Before, op.After = c.looked, c.byKey, c.byKey
		if c.left > 0 {
			op.Aside = &Aside{c.left, append(t.junk.list(), c.foreign...)}
		}
	})
}

// spared says in a step why nothing was destroyed.
func (op *Operation) spared() string {
	return fmt.Sprintf("nothing was destroyed: %d values name the key, and nobody can open them", op.Aside.Count)
}
