package rekey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	pageSize = 1000
	// hands write at the same time: a store that groups its writers makes one fsync of many.
	hands = 512
	// passes bounds how often what others write in between is looked after.
	passes = 5
)

// purposeOf is what a store key is for, without what names somebody: the constant in front of it.
func purposeOf(key string) string {
	if strings.HasPrefix(key, "anteroom/") {
		if parts := strings.SplitN(key, "/", 5); len(parts) >= 4 {
			return strings.Join(parts[:4], "/")
		}
	}
	return "other"
}

// outcome is what became of one value.
type outcome int

const (
	untouched outcome = iota // another key's, or sealed by nobody
	resealed
	moved   // somebody else wrote or removed it meanwhile
	foreign // under the old key, and nobody knows its label
	damaged // under the old key, and it does not open
)

// resealItem seals one value anew if its key is to go.
func (o *Operator) resealItem(ctx context.Context, op *Operation, item store.Item) (outcome, error) {
	id, ok := o.c.KeyOf(item.Value)
	if !ok || !op.stale(id) {
		return untouched, nil
	}
	label, ok := o.c.LabelOf(item.Key)
	if !ok {
		return foreign, nil
	}
	out, changed, err := o.c.Own.Reseal(ctx, label, item.Value)
	switch {
	case errors.Is(err, ErrSealed):
		return damaged, nil
	case err != nil:
		return untouched, err
	case !changed:
		return untouched, nil
	}
	switch err := o.c.Store.Rewrite(ctx, item.Key, item.Value, out); {
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		return moved, nil
	case err != nil:
		return untouched, err
	}
	return resealed, nil
}

// ErrSealed is what DataKeys answer for a value that never opens: it was changed, or is sealed under another label. Every other
// error is taken for one that passes.
var ErrSealed = errors.New("the value does not open")

// resealKey seals one value anew.
func (o *Operator) resealKey(ctx context.Context, op *Operation, key string) (outcome, error) {
	for round := range passes {
		if err := store.Pause(ctx, round); err != nil {
			return untouched, err
		}
		value, err := o.c.Store.Get(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return untouched, nil
		}
		if err != nil {
			return untouched, err
		}
		done, err := o.resealItem(ctx, op, store.Item{Key: key, Value: value})
		if err != nil || done != moved {
			return done, err
		}
	}
	return moved, nil
}

// tally is what a page came to.
type tally struct {
	mu      sync.Mutex
	changed int
	err     error
}

// resealPage seals the values of a page anew, many at a time.
func (o *Operator) resealPage(ctx context.Context, op *Operation, items []store.Item) (changed int, err error) {
	var t tally
	var all sync.WaitGroup
	next := make(chan store.Item)
	for range min(hands, len(items)) {
		all.Go(func() {
			for item := range next {
				done, err := o.resealItem(ctx, op, item)
				t.mu.Lock()
				if t.err == nil {
					t.err = err
				}
				if done == resealed {
					t.changed++
				}
				t.mu.Unlock()
			}
		})
	}
	for _, item := range items {
		if id, ok := o.c.KeyOf(item.Value); ok && op.stale(id) {
			next <- item
		}
	}
	close(next)
	all.Wait()
	return t.changed, t.err
}

// resealValues goes over the whole store from where the journal says.
func (t *task) resealValues(ctx context.Context) error {
	return t.pages(ctx, func(ctx context.Context, op *Operation) (next string, seen, changed int, err error) {
		items, next, err := t.o.c.Store.Scan(t.o.pass(ctx, op, &t.junk), "", op.Cursor, pageSize)
		if err != nil {
			return "", 0, 0, err
		}
		if err := t.suspect(ctx, items); err != nil {
			return "", 0, 0, err
		}
		changed, err = t.o.resealPage(ctx, op, items)
		return next, len(items), changed, err
	})
}

// resealStore has the store seal anew what it seals itself.
func (t *task) resealStore(ctx context.Context) error {
	if t.o.c.Sealed == nil {
		return nil
	}
	return t.pages(ctx, func(ctx context.Context, op *Operation) (next string, seen, changed int, err error) {
		return t.o.c.Sealed.Reseal(t.o.pass(ctx, op, &t.junk), op.Cursor, t.o.staleIn(op), false)
	})
}

func (o *Operator) staleIn(op *Operation) func([]byte) bool {
	return func(sealed []byte) bool {
		id, ok := o.c.KeyOf(sealed)
		return ok && op.stale(id)
	}
}

// pages calls page until the end is reached, and keeps how far it came.
func (t *task) pages(ctx context.Context, page func(ctx context.Context, op *Operation) (next string, seen, changed int, err error)) error {
	for {
		next, seen, changed, err := page(ctx, t.now())
		if errors.Is(err, store.ErrInvalid) && t.now().Cursor != "" { // of a store that was replaced, or of an older version
			if err := t.change(ctx, true, func(op *Operation) { op.Cursor, op.Seen = "", 0 }); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		err = t.change(ctx, false, func(op *Operation) {
			op.Cursor, op.Seen, op.Changed, op.Problem = next, op.Seen+seen, op.Changed+changed, ""
		})
		if err != nil || next == "" {
			return err
		}
	}
}

// census is what the store holds.
type census struct {
	total, looked int
	byKey         map[string]int
	byPurpose     map[string]int // of the keys that are to go
	foreign       []string       // store keys of values under them that nobody knows
	left          int            // of values under them
	complete      bool
}

const maxForeign = 8

// take counts the whole store: what is sealed in it, and what the store sealed itself.
func (o *Operator) take(ctx context.Context, op *Operation, progress func(seen int) error, j *junk) (*census, error) {
	ctx = o.pass(ctx, op, j)
	c := &census{byKey: map[string]int{}, byPurpose: map[string]int{}}
	for cursor := ""; ; {
		items, next, err := o.c.Store.Scan(ctx, "", cursor, pageSize)
		if err != nil {
			return c, err
		}
		for _, item := range items {
			c.add(o, op, item, j)
		}
		if err := progress(len(items)); err != nil {
			return c, err
		}
		if cursor = next; next == "" {
			break
		}
	}
	if o.c.Sealed != nil {
		if err := o.takeSealed(ctx, op, c, progress); err != nil {
			return c, err
		}
	}
	c.complete = true
	return c, nil
}

func (c *census) add(o *Operator, op *Operation, item store.Item, j *junk) {
	c.looked++
	id, ok := o.c.KeyOf(item.Value)
	if !ok {
		return
	}
	label, known := o.c.LabelOf(item.Key)
	stale := op.stale(id)
	if !known && !stale && !o.names(id) {
		return // it only looks like a sealed value
	}
	c.total++
	c.byKey[id]++
	if !stale {
		return
	}
	c.left++
	c.byPurpose[purposeOf(item.Key)]++
	if known && op.Phase == stepVerify && op.Pass > 0 || op.Phase == stepRecount { // it was tried to seal it anew
		j.add(hashedName(item.Key))
	}
	if (!known || label == "") && len(c.foreign) < maxForeign {
		c.foreign = append(c.foreign, item.Key)
	}
}

// hashedName is a store key in a report: what is behind its purpose may name somebody.
func hashedName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return purposeOf(key) + "#" + hex.EncodeToString(sum[:8])
}

// names says whether a data key of that id is ours.
func (o *Operator) names(id string) bool {
	_, found := keyOf(o.c.Own, id)
	return found || strings.HasPrefix(id, "v1:")
}

// purposeStore is the purpose of what a store seals by itself.
const purposeStore = "the store's own seal"

func (o *Operator) takeSealed(ctx context.Context, op *Operation, c *census, progress func(int) error) error {
	var mu sync.Mutex // a store may ask from several goroutines
	count := func(sealed []byte) bool {
		id, ok := o.c.KeyOf(sealed)
		if !ok {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		c.byKey[id]++
		if op.stale(id) {
			c.left++
			c.byPurpose[purposeStore]++
		}
		return false
	}
	for cursor := ""; ; {
		next, seen, _, err := o.c.Sealed.Reseal(ctx, cursor, count, true)
		if err != nil {
			return err
		}
		c.looked += seen
		if err := progress(seen); err != nil {
			return err
		}
		if cursor = next; next == "" {
			return nil
		}
	}
}

// count notes what there is before anything changes.
func (t *task) count(ctx context.Context) error {
	return t.tally(ctx, func(op *Operation, c *census) {
		op.Total, op.Before, op.Exposed = c.looked, c.byKey, c.byPurpose
		t.o.noteExposed(op)
	})
}

// tally reads everything, changes nothing of it, and notes what it found.
func (t *task) tally(ctx context.Context, note func(op *Operation, c *census)) error {
	if err := t.change(ctx, false, func(op *Operation) { op.Seen = 0 }); err != nil {
		return err
	}
	c, err := t.o.take(ctx, t.now(), func(n int) error {
		return t.change(ctx, false, func(op *Operation) { op.Seen += n })
	}, &t.junk)
	if err != nil {
		return err
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Steps[len(op.Steps)-1].Detail = fmt.Sprintf("%d of %d values are under keys that go", c.left, c.looked)
		note(op, c)
	})
}

// noteExposed tells what a person has to do about secrets that a thief of the key may have read.
func (o *Operator) noteExposed(op *Operation) {
	if op.Verb != CompromisedData && op.Verb != CompromisedMaster {
		return
	}
	if op.Exposed["anteroom/oidc/client-key/v1"]+op.Exposed["anteroom/oidc/dpop-key/v1"] > 0 {
		op.note(noteClient)
	}
	if op.Exposed["anteroom/session/kept/v1"]+op.Exposed["anteroom/portal/move-keep-id/v1"] > 0 {
		op.note(noteTokens)
	}
	for _, text := range o.c.Exposed {
		op.note(text)
	}
	if o.c.Sessions != nil {
		op.note(noteCookies)
	}
	op.note(noteBackups)
}

// verify reads everything once more. What is still under an old key is sealed anew a few times, since somebody may have written
// it in between; what cannot be opened stops the operation.
func (t *task) verify(ctx context.Context) error {
	changed := 0 // at the last try
	for pass := 0; ; pass++ {
		if err := t.change(ctx, false, func(op *Operation) { op.Seen, op.Changed, op.Cursor = 0, 0, "" }); err != nil {
			return err
		}
		op := t.now()
		c, err := t.o.take(ctx, op, func(n int) error {
			return t.change(ctx, false, func(op *Operation) { op.Seen += n })
		}, &t.junk)
		if err != nil {
			return err
		}
		if c.left == 0 {
			return t.verified(ctx, c)
		}
		if pass >= passes || op.Force && pass >= 1 {
			if done, err := t.setAside(ctx, c, changed); err != nil || done || op.Force {
				return errors.Join(err, t.verified(ctx, c))
			}
			return t.leftover(c)
		}
		if pass > 0 {
			if err := t.pause(ctx, time.Second); err != nil {
				return err
			}
		}
		changed = 0
		for _, again := range []func(context.Context) error{t.resealStore, t.resealValues} {
			if err := t.change(ctx, true, func(op *Operation) { op.Cursor, op.Seen, op.Changed, op.Pass = "", 0, 0, pass+1 }); err != nil {
				return err
			}
			if err := again(ctx); err != nil {
				return err
			}
			changed += t.now().Changed
		}
	}
}

func (t *task) verified(ctx context.Context, c *census) error {
	return t.change(ctx, true, func(op *Operation) {
		op.After, op.Changed = c.byKey, 0
		op.Steps[len(op.Steps)-1].Detail = fmt.Sprintf("%d values read, %d left under keys that go", c.looked, c.left)
	})
}

func (t *task) leftover(c *census) error {
	if len(c.foreign) > 0 {
		return &stop{fmt.Sprintf("%d values are still under the old key, and this version does not know what %d of them are, for example %.200q. The key was not destroyed. Run a version that knows them on all nodes and repeat the command; or give them up with --force, which destroys the key all the same", c.left, len(c.foreign), c.foreign[0])}
	}
	return &stop{fmt.Sprintf("%d values are still under the old key, and more come: other nodes still write with it. The key was not destroyed. See that all nodes run this version and repeat the command; or give the values up with --force, which destroys the key all the same", c.left)}
}
