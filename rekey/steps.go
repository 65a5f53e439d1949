package rekey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// nextKey has a new data key seal from here on when the present one is to go. The journal that is written after it is sealed,
// where the store seals, by the new one: no restart finds a journal that nobody may open.
func (t *task) nextKey(ctx context.Context) error {
	op, own := t.now(), t.o.c.Own
	if op.Verb == RotateData {
		return t.rotateData(ctx, op)
	}
	primary, _ := primaryOf(own)
	if slices.Contains(op.IDs, primary.ID) || primary.ID == "" {
		var err error
		if primary, err = own.Rotate(ctx); err != nil {
			return fmt.Errorf("making a new data key: %w", err)
		}
	}
	return t.detail(ctx, true, "%s seals now", primary.ID)
}

// rotateData makes new keys once: the ones that were there when the operation began stand in its record.
func (t *task) rotateData(ctx context.Context, op *Operation) error {
	var made []string
	for _, keys := range []DataKeys{t.o.c.Own, t.o.c.Apps} {
		if keys == nil {
			continue
		}
		primary, _ := primaryOf(keys)
		if slices.Contains(op.IDs, primary.ID) || slices.Contains(op.Apps, primary.ID) || primary.ID == "" {
			var err error
			if primary, err = keys.Rotate(ctx); err != nil {
				return fmt.Errorf("making a new data key: %w", err)
			}
		}
		made = append(made, primary.ID)
	}
	if t.o.c.Apps != nil {
		if err := t.change(ctx, false, func(op *Operation) { op.note(noteAppsReseal) }); err != nil {
			return err
		}
	}
	return t.detail(ctx, true, "new keys: %s", strings.Join(made, ", "))
}

func primaryOf(keys DataKeys) (Key, bool) {
	for _, k := range keys.Keys() {
		if k.State == Primary {
			return k, true
		}
	}
	return Key{}, false
}

func keyOf(keys DataKeys, id string) (Key, bool) {
	if keys == nil {
		return Key{}, false
	}
	for _, k := range keys.Keys() {
		if k.ID == id {
			return k, true
		}
	}
	return Key{}, false
}

// revoke kills the signing keys of the moment at which the operation began, and ends all sessions. It stands before condemn:
// the records of new keys are sealed by the new data key, so that a process that starts now can read them.
func (t *task) revoke(ctx context.Context) error {
	if t.o.c.Sessions == nil {
		return t.detail(ctx, false, "no sessions are kept here")
	}
	sessions, op := t.o.c.Sessions(), t.now()
	if op.Steps[len(op.Steps)-1].Detail == "" { // once: what this step makes is not to go
		// Counting takes its time, and meanwhile signing keys may have been rotated.
		err := t.change(ctx, true, func(op *Operation) {
			op.kill(sessions.SigningKeys())
			op.Steps[len(op.Steps)-1].Detail = "to be killed: " + orNone(op.Kills)
		})
		if err != nil {
			return err
		}
		op = t.now()
	}
	if err := revokeAll(ctx, sessions, op.Kills); err != nil {
		return err
	}
	if err := t.change(ctx, true, func(op *Operation) { op.Fresh = append(op.Fresh, sessions.Made()...) }); err != nil {
		return err
	}
	for _, key := range t.o.c.First {
		value, err := t.o.c.Store.Get(ctx, key)
		if err == nil {
			err = t.suspect(ctx, []store.Item{{Key: key, Value: value}})
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if _, err := t.o.resealKey(ctx, op, key); err != nil {
			return err
		}
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Steps[len(op.Steps)-1].Detail = "killed: " + orNone(op.Kills)
		op.note(noteSessions)
	})
}

func revokeAll(ctx context.Context, sessions Sessions, kids []string) error {
	for _, kid := range kids {
		if err := sessions.KillKey(ctx, kid); err != nil {
			return err
		}
	}
	return sessions.EndAll(ctx)
}

// suspect looks for signing keys under a key that goes, after revoke has killed them all and made new ones under another key. A
// node that had not heard may have written them, or a thief of the key who can write to the store; sealing them anew makes them
// good. So it is noted, before that, that they die when the old key can seal no others.
func (t *task) suspect(ctx context.Context, items []store.Item) error {
	op := t.now()
	if op.Again || op.Verb != CompromisedData && op.Verb != CompromisedMaster {
		return nil
	}
	for _, item := range items {
		if id, ok := t.o.c.KeyOf(item.Value); ok && op.stale(id) && slices.Contains(t.o.c.First, item.Key) {
			return t.change(ctx, true, func(op *Operation) { op.Again = true })
		}
	}
	return nil
}

// revokeAgain kills what suspect has seen, once nothing opens any more that the old key sealed; and, seen or not, every key that
// this operation did not make: what was planted before the old key was condemned looks like any other by now.
func (t *task) revokeAgain(ctx context.Context) error {
	op := t.now()
	if t.o.c.Sessions == nil || len(op.Kills) == 0 || op.Verb != CompromisedData && op.Verb != CompromisedMaster {
		return nil
	}
	sessions := t.o.c.Sessions()
	if err := sessions.KillKey(ctx, op.Kills[0]); err != nil { // once more, because it reads the present keys
		return err
	}
	good := append(sessions.Made(), op.Fresh...)
	if !op.Again && !slices.ContainsFunc(sessions.SigningKeys(), func(kid string) bool { return !slices.Contains(good, kid) }) {
		return nil
	}
	err := t.change(ctx, true, func(op *Operation) {
		op.kill(sessions.SigningKeys())
		op.note(noteAgain)
	})
	if err != nil {
		return err
	}
	return revokeAll(ctx, sessions, t.now().Kills)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func (t *task) condemn(ctx context.Context) error {
	for _, id := range t.now().IDs {
		k, found := keyOf(t.o.c.Own, id)
		if !found || k.State == Condemned || k.State == Destroyed {
			continue
		}
		if _, err := t.o.c.Own.Condemn(ctx, id); err != nil {
			return fmt.Errorf("condemning %s: %w", id, err)
		}
	}
	return t.detail(ctx, true, "condemned: %s", strings.Join(t.now().IDs, ", "))
}

// aloneLag is how long a call of this process may take from sealing to writing.
const aloneLag = 2 * time.Second

func (t *task) wait(ctx context.Context) error {
	lag := aloneLag
	if !t.o.c.Alone {
		lag += t.o.c.Own.Lag()
	}
	if err := t.pause(ctx, lag); err != nil {
		return err
	}
	return t.detail(ctx, false, "%s", lag)
}

func (t *task) destroy(ctx context.Context) error {
	op := t.now()
	if op.spares() {
		err := t.change(ctx, true, func(op *Operation) {
			op.Steps[len(op.Steps)-1].Detail = op.spared()
			op.note(noteAside)
		})
		if err != nil {
			return err
		}
		return t.revokeAgain(ctx)
	}
	for _, id := range op.IDs {
		k, found := keyOf(t.o.c.Own, id)
		if !found || k.State == Destroyed {
			continue
		}
		if k.State == Primary {
			return &stop{fmt.Sprintf("the data key %s seals again: begin anew with `anteroom keys compromised %s`", id, id)}
		}
		if err := t.o.c.Own.Destroy(ctx, id); err != nil {
			return fmt.Errorf("destroying %s: %w", id, err)
		}
	}
	if err := t.revokeAgain(ctx); err != nil {
		return err
	}
	return t.detail(ctx, true, "destroyed: %s", strings.Join(op.IDs, ", "))
}

// apps condemns data keys of applications. Only they can seal their values anew; until then the key opens.
func (t *task) apps(ctx context.Context) error {
	apps, op := t.o.c.Apps, t.now()
	if apps == nil {
		return t.detail(ctx, false, "no envelope_service has keys here")
	}
	ids := op.Apps
	if primary, _ := primaryOf(apps); slices.Contains(ids, primary.ID) {
		if _, err := apps.Rotate(ctx); err != nil {
			return fmt.Errorf("making a new data key for applications: %w", err)
		}
	}
	for _, id := range ids {
		if k, found := keyOf(apps, id); !found || k.State == Condemned || k.State == Destroyed {
			continue
		}
		if _, err := apps.Condemn(ctx, id); err != nil {
			return fmt.Errorf("condemning %s: %w", id, err)
		}
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Steps[len(op.Steps)-1].Detail = "condemned: " + orNone(ids)
		op.note(noteAppsReseal)
		op.note(noteAppsDestroy)
	})
}

func (t *task) nextMaster(ctx context.Context) error {
	if t.o.c.Master == nil {
		return &stop{t.o.c.NoMaster}
	}
	if op := t.now(); op.Verb == CompromisedMaster && op.Master == "" {
		// Counting takes its time, and meanwhile a data key may have come that the old master key wrapped.
		err := t.change(ctx, true, func(op *Operation) {
			op.IDs = append(op.IDs, newer(t.o.c.Own, op.IDs)...)
			op.Apps = append(op.Apps, newer(t.o.c.Apps, op.Apps)...)
		})
		if err != nil {
			return err
		}
	}
	id, err := t.o.c.Master.Prepare(ctx)
	if err != nil {
		return fmt.Errorf("making a new master key: %w", err)
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Master = id
		op.Steps[len(op.Steps)-1].Detail = id
	})
}

// newer are the ids of live data keys that are not in the list.
func newer(keys DataKeys, ids []string) (more []string) {
	if keys == nil {
		return nil
	}
	for _, k := range keys.Keys() {
		if k.State != Destroyed && !slices.Contains(ids, k.ID) {
			more = append(more, k.ID)
		}
	}
	return more
}

// migrate wraps every data key under the present master key.
func (t *task) migrate(ctx context.Context) error {
	if m := t.now().Master; m != "" && t.o.c.Master != nil {
		// A process that was started again opens both files by itself; it must wrap under the same one.
		if id, err := t.o.c.Master.Prepare(ctx); err != nil || id != m {
			return fmt.Errorf("the new master key %s is not there: %w", m, errors.Join(err, ErrTarget))
		}
	}
	total := 0
	for _, keys := range []DataKeys{t.o.c.Own, t.o.c.Apps} {
		if keys == nil {
			continue
		}
		n, err := keys.Migrate(ctx)
		if err != nil {
			return fmt.Errorf("wrapping data keys: %w", err)
		}
		total += n
	}
	return t.change(ctx, true, func(op *Operation) { op.Changed = total })
}

// finishMaster puts the former master key away, once nothing is left that it wraps or sealed.
func (t *task) finishMaster(ctx context.Context) error {
	op := t.now()
	for _, keys := range []DataKeys{t.o.c.Own, t.o.c.Apps} {
		if keys == nil {
			continue
		}
		primary, _ := primaryOf(keys)
		want := op.Master
		if want == "" {
			want = primary.Master
		}
		for _, k := range keys.Keys() {
			if strings.HasPrefix(k.ID, "v1:") {
				// No data key: what a master sealed by itself. The step before found nothing of it left, so that what says so
				// from now on was made by somebody who has the file.
				if k.State != Destroyed {
					if err := keys.Destroy(ctx, k.ID); err != nil {
						return fmt.Errorf("ending what %s sealed: %w", k.ID, err)
					}
				}
				continue
			}
			if k.State != Destroyed && k.Master != want {
				return fmt.Errorf("the data key %s is wrapped by %s still", k.ID, k.Master)
			}
		}
	}
	detail, err := "nothing to put away", error(nil)
	switch {
	case op.Verb == Migrate && t.o.c.PutAway != nil:
		detail, err = t.o.c.PutAway(op.Remove)
	case op.Verb != Migrate && t.o.c.Master != nil:
		detail, err = t.o.c.Master.Finish(ctx, op.Former, op.Remove || op.Verb == CompromisedMaster)
	}
	if err != nil {
		return fmt.Errorf("putting the former master key away: %w", err)
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Steps[len(op.Steps)-1].Detail = detail
		op.note(noteMasterCopies)
	})
}

// pepper has the rings make a new pepper. A ring that did so before the process died is not asked again.
func (t *task) pepper(ctx context.Context) error {
	op := t.now()
	ringName, id := ringTarget(op.Target)
	var done []string
	if n := len(op.Steps); n > 0 && op.Steps[n-1].Detail != "" {
		done = strings.Split(op.Steps[n-1].Detail, "; ")
	}
	for _, r := range t.o.rings() {
		if ringName != "" && r.Name() != ringName || slices.ContainsFunc(done, func(s string) bool { return strings.HasPrefix(s, r.Name()+": ") }) {
			continue
		}
		primary, err := "", error(nil)
		if op.Verb == RotateRing {
			primary, err = r.Rotate(ctx)
		} else if known, over := r.Knows(id); known && !over {
			primary, err = r.Compromise(ctx, id)
		} else {
			continue
		}
		if err != nil {
			return fmt.Errorf("ring %s: %w", r.Name(), err)
		}
		done = append(done, r.Name()+": "+primary+" is the newest pepper")
		if err := t.detail(ctx, true, "%s", strings.Join(done, "; ")); err != nil {
			return err
		}
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Changed = len(done)
		if op.Verb == CompromisedRing {
			op.note(noteUpgrade)
		}
	})
}

func (t *task) killNamed(ctx context.Context) error {
	op := t.now()
	for _, kid := range op.Kills {
		if err := t.o.c.Sessions().KillKey(ctx, kid); err != nil {
			return err
		}
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Changed = len(op.Kills)
		op.Steps[len(op.Steps)-1].Detail = "killed: " + orNone(op.Kills)
		op.note(noteSigning)
	})
}

func (o *Operator) rings() []Ring {
	if o.c.Rings == nil {
		return nil
	}
	return o.c.Rings()
}

// clientTarget begins the name of a client's keys.
const clientTarget = "client/"

// client is the one that a name means, nil when there is none.
func (o *Operator) client(target string) Client {
	name, ok := strings.CutPrefix(target, clientTarget)
	if !ok || o.c.Clients == nil {
		return nil
	}
	for _, c := range o.c.Clients() {
		if c.Name() == name {
			return c
		}
	}
	return nil
}

// clientKeys replaces the keys that there are when the step begins, once: their names are noted before.
func (t *task) clientKeys(ctx context.Context) error {
	op := t.now()
	client := t.o.client(op.Target)
	if client == nil {
		return fmt.Errorf("%w: no identity provider here is called %.80q any more", ErrTarget, op.Target)
	}
	if op.Steps[len(op.Steps)-1].Detail == "" {
		names, err := client.KeyNames(ctx)
		if err == nil {
			err = t.change(ctx, true, func(op *Operation) {
				op.Old = names
				op.Steps[len(op.Steps)-1].Detail = "to be replaced: " + orNone(names)
			})
		}
		if err != nil {
			return err
		}
		op = t.now()
	}
	if err := client.ReplaceKeys(ctx, op.Old); err != nil {
		return err
	}
	names, err := client.KeyNames(ctx)
	if err != nil {
		return err
	}
	return t.change(ctx, true, func(op *Operation) {
		op.Changed = len(op.Old)
		op.Steps[len(op.Steps)-1].Detail = "replaced: " + orNone(op.Old) + "; now: " + orNone(names)
		op.note(noteClientNew)
	})
}
