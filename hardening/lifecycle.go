package hardening

import (
	"context"
	"errors"
	"fmt"

	"github.com/anteroom-proxy/anteroom/store"
)

// change writes one edit to the ring by compare-and-set, reads it back and publishes it. edit may run several times, each
// time on a fresh copy of what the store holds, and says whether it changed something.
func (r *Ring) change(ctx context.Context, doing string, edit func(o *openRing, keys []TLSKey) (bool, error)) (RingStatus, error) {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	err := r.edit(ctx, edit)
	if err != nil {
		err = fmt.Errorf("%s ring %q: %w", doing, r.cfg.Name, err)
	}
	return r.Status(), err
}

func (r *Ring) edit(ctx context.Context, edit func(o *openRing, keys []TLSKey) (bool, error)) error {
	keys, _ := r.cfg.Keys(ctx) // a ring that we hold can be changed while no key is visible
	r.setLive(keys)
	for range maxTries {
		old, err := r.load(ctx)
		if err != nil {
			return err
		}
		if old == nil {
			return fmt.Errorf("%w: the store has no such ring", ErrWaiting)
		}
		cur, err := r.read(ctx, old, keys)
		if err != nil {
			return err
		}
		want := cur.clone()
		promoted := want.promote(r.cfg.Now())
		changed, err := edit(want, want.wrappable(keys))
		if err != nil {
			return err
		}
		if !changed && !promoted {
			r.publish(cur, nil)
			return nil
		}
		usable := want.wrappable(keys) // without what the edit banned
		if _, err := want.addTLSKeys(usable); err != nil {
			return err
		}
		want.file.Epoch++
		switch err := r.write(ctx, old, want, usable); {
		case errors.Is(err, store.ErrConflict):
			continue
		case err != nil:
			return err
		}
		r.publish(want, nil)
		return nil
	}
	return r.racesLost()
}
