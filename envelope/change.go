package envelope

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// Every change of the ring is one compare-and-swap: a node that dies at any moment leaves
// the old ring or the new one, whole. Repeating a change is harmless.

// errNothing ends a change that has nothing to do.
var errNothing = errors.New("nothing to change")

const (
	tries      = 20          // how often a change begins anew because another node was faster; some 4 s in all
	changeTime = time.Minute // how long a change may take in all
)

// update reads the ring, changes a copy of it, and stores that with the next epoch; when
// another node was faster it begins anew. It returns after the ring was read back.
func (c *core) update(ctx context.Context, edit func(next *ring, now time.Time) error) error {
	select {
	case c.change <- struct{}{}:
		defer func() { <-c.change }()
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting to change the key ring: %w", ErrUnavailable, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	for round := range tries {
		if err := store.Pause(ctx, round); err != nil {
			return fmt.Errorf("%w: waiting to change the key ring: %w", ErrUnavailable, err)
		}
		if err := c.look(ctx); err != nil {
			return err
		}
		v := c.view.Load()
		next := v.ring.clone()
		next.Epoch++
		err := edit(next, c.now())
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil {
			return err
		}
		done, err := c.write(ctx, next, v.record)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: other nodes change the key ring %q all the time", ErrUnavailable, c.cfg.Name)
}

// write stores a ring in the place of old, nil for the first one, and reads it back. Not
// done and no error: another ring is there.
func (c *core) write(ctx context.Context, next *ring, old []byte) (done bool, err error) {
	record, err := next.encode(ctx, c.cfg.Master)
	if err != nil {
		return false, err
	}
	swap := c.cfg.Store.CompareAndSwap(ctx, c.storeKey(), old, record, time.Time{})
	if errors.Is(swap, store.ErrConflict) {
		return false, nil
	}
	// The outcome of any other failure is unknown: what is there now tells.
	err = c.look(ctx)
	switch {
	case swap != nil && (err != nil || bytes.Equal(c.view.Load().record, old)):
		return false, fmt.Errorf("%w: storing the key ring %q: %w", ErrUnavailable, c.cfg.Name, swap)
	case err != nil:
		return false, fmt.Errorf("reading the key ring %q back: %w", c.cfg.Name, err)
	}
	return swap == nil || bytes.Equal(c.view.Load().record, record), nil
}

// now is the time as rings hold it.
func (c *core) now() time.Time { return c.cfg.Now().UTC().Truncate(time.Second) }

// Start reads the ring from the store, or makes the first one, reads it back, and has the
// master open the primary. When it fails, the text says what to do.
func (e *Envelope) Start(ctx context.Context) error {
	c := e.core()
	if c == nil {
		return errZero
	}
	if err := c.begin(ctx); err != nil {
		return fmt.Errorf("envelope %q: %w", c.cfg.Name, err)
	}
	v := c.view.Load()
	for i := range v.ring.Keys {
		entry := &v.ring.Keys[i]
		if entry.Data == "" {
			continue
		}
		_, err := c.load(ctx, entry, nil)
		if err != nil && entry.State == StatePrimary {
			return fmt.Errorf("envelope %q: %w", c.cfg.Name, err)
		}
		if err != nil {
			c.cfg.Logger.Error("what is sealed under this data key does not open", "ring", c.cfg.Name, "key", entry.ID, "state", entry.State, "error", err)
		}
	}
	if ours := c.cfg.Master.ID(); v.ring.provedBy != ours {
		c.cfg.Logger.Warn("the key ring is under a former master: run `anteroom keys migrate`", "ring", c.cfg.Name, "former", v.ring.provedBy, "master", ours)
	}
	return nil
}

// begin reads the ring or makes the first one. Of several nodes that make one at the same
// time one wins, and all use the winner's.
func (c *core) begin(ctx context.Context) error {
	for round := range tries {
		if err := store.Pause(ctx, round); err != nil {
			return fmt.Errorf("%w: waiting to make the key ring: %w", ErrUnavailable, err)
		}
		err := c.look(ctx)
		if !errors.Is(err, errNoRing) {
			return err
		}
		first := &ring{Version: ringVersion, Name: c.cfg.Name, Epoch: 1}
		if err := c.add(ctx, first, c.now()); err != nil {
			return err
		}
		if done, err := c.write(ctx, first, nil); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: the store has a key ring %q and has none", ErrUnavailable, c.cfg.Name)
}

// add makes a new primary. What was the primary is open from now on. The new key is opened
// once before anything is sealed under it.
func (c *core) add(ctx context.Context, r *ring, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, masterTime)
	defer cancel()
	raw := make([]byte, keyIDLen)
	_, _ = rand.Read(raw) // never fails
	entry := ringKey{KeyInfo: KeyInfo{ID: hex.EncodeToString(raw), State: StatePrimary, Created: now, Changed: now}}
	if r.key(entry.ID) != nil {
		return fmt.Errorf("%w: a random key id came twice", ErrRefused)
	}
	key, wrapped, err := generate(ctx, c.cfg.Master, about(r.Name, entry.ID))
	if err != nil {
		return fmt.Errorf("making a data key: %w", err)
	}
	defer clear(key[:])
	if entry.Check, err = checkOf(key, r.Name); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if slices.ContainsFunc(r.Keys, func(k ringKey) bool { return k.Check == entry.Check }) {
		return fmt.Errorf("%w: master %s made the same key twice", ErrRefused, c.cfg.Master.ID())
	}
	entry.wrap(c.cfg.Master, wrapped, now)
	if _, err := c.unwrapped(ctx, &entry); err != nil {
		return fmt.Errorf("trying the new data key: %w", err)
	}
	if was := r.primary(); was != nil {
		was.set(StateOpen, now)
	}
	r.Keys = append(r.Keys, entry)
	return nil
}

// Rotate makes a new primary and returns it. Values under the former one go on opening.
func (e *Envelope) Rotate(ctx context.Context) (KeyInfo, error) { return e.rotate(ctx, false) }

func (e *Envelope) rotate(ctx context.Context, onlyDue bool) (KeyInfo, error) {
	c := e.core()
	if c == nil {
		return KeyInfo{}, errZero
	}
	was := ""
	err := c.update(ctx, func(next *ring, now time.Time) error {
		if was == "" {
			was = next.primary().ID
		}
		if next.primary().ID != was || onlyDue && !c.due(now) {
			return errNothing // another node did it
		}
		return c.add(ctx, next, now)
	})
	return c.sealing(err, "rotating the data key")
}

// Condemn says that a key is compromised: it never seals again on any node (after Lag),
// Open refuses what it sealed unless OpenCondemned, Reseal opens it. When it was the
// primary there is a new one at once. The key that seals from now on is returned. An id
// that begins with "v1:" condemns values of version 1. Doing it again is no error.
func (e *Envelope) Condemn(ctx context.Context, id string) (KeyInfo, error) {
	c := e.core()
	if c == nil {
		return KeyInfo{}, errZero
	}
	err := c.update(ctx, func(next *ring, now time.Time) error {
		entry, err := c.entry(next, id, now)
		if err != nil {
			return err
		}
		if rank(entry.State) >= rank(StateCondemned) {
			return errNothing
		}
		if entry.State == StatePrimary {
			if err := c.add(ctx, next, now); err != nil {
				return err
			}
		}
		next.key(id).set(StateCondemned, now) // add may have moved the entries
		return nil
	})
	return c.sealing(err, "condemning data key "+id)
}

// Destroy removes the wrapped bytes of a key for good. Never the primary: Rotate or
// Condemn first. Whoever calls it has made sure that nothing is sealed under the key.
func (e *Envelope) Destroy(ctx context.Context, id string) error {
	c := e.core()
	if c == nil {
		return errZero
	}
	err := c.update(ctx, func(next *ring, now time.Time) error {
		entry, err := c.entry(next, id, now)
		switch {
		case err != nil:
			return err
		case entry.State == StateDestroyed:
			return errNothing
		case entry.State == StatePrimary:
			return fmt.Errorf("%w: key %s seals: rotate or condemn it first", ErrRefused, id)
		}
		entry.set(StateDestroyed, now)
		entry.Data, entry.Master, entry.Wrapped = "", "", time.Time{}
		return nil
	})
	if err != nil {
		return fmt.Errorf("destroying data key %s: %w", id, err)
	}
	return nil
}

// entry finds a key in a ring that is being changed. The entry of version 1 values is made
// when somebody first asks for it.
func (c *core) entry(next *ring, id string, now time.Time) (*ringKey, error) {
	if found := next.key(id); found != nil {
		return found, nil
	}
	if c.locals[id] == nil {
		return nil, fmt.Errorf("%w: the key ring %q has no key %q", ErrRefused, next.Name, id)
	}
	next.Keys = append(next.Keys, ringKey{KeyInfo: KeyInfo{ID: id, State: StateOpen, Created: now, Changed: now}})
	return next.key(id), nil
}

// sealing is the answer of the verbs that may change which key seals.
func (c *core) sealing(err error, what string) (KeyInfo, error) {
	if err != nil {
		return KeyInfo{}, fmt.Errorf("%s: %w", what, err)
	}
	return c.view.Load().ring.primary().KeyInfo, nil
}
