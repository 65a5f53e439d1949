package envelope

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Migrate brings every data key that a former master wraps, and the ring's proof, under
// Master: in one step, after each new wrapping was opened. Then it reads the ring back and
// has Master open each key once more. It returns how many it wrapped. What they sealed
// stays as it is.
func (e *Envelope) Migrate(ctx context.Context) (n int, err error) {
	return e.rewrap(ctx, "migrating the key ring", func(ctx context.Context, c *core, entry *ringKey) ([]byte, error) {
		if entry.Master == c.cfg.Master.ID() {
			return nil, errNothing
		}
		key, err := c.unwrapped(ctx, entry)
		if err != nil {
			return nil, err
		}
		defer clear(key[:])
		wrapped, err := c.cfg.Master.Wrap(ctx, key[:], about(c.cfg.Name, entry.ID))
		if err != nil {
			return nil, asMaster(c.cfg.Master, err)
		}
		return wrapped, nil
	})
}

// RewrapAll has Master wrap each of its keys under its newest material, for example after
// the KMS rotated. It returns how many there were. Keys of former masters need Migrate.
func (e *Envelope) RewrapAll(ctx context.Context) (n int, err error) {
	return e.rewrap(ctx, "wrapping the key ring anew", func(ctx context.Context, c *core, entry *ringKey) ([]byte, error) {
		if entry.Master != c.cfg.Master.ID() {
			return nil, errNothing
		}
		old, err := entry.wrapped()
		if err != nil {
			return nil, err
		}
		wrapped, err := c.cfg.Master.Rewrap(ctx, old, about(c.cfg.Name, entry.ID))
		if err != nil {
			return nil, asMaster(c.cfg.Master, err)
		}
		return wrapped, nil
	})
}

// rewrap gives each live key new wrapped bytes, unless again says errNothing.
func (e *Envelope) rewrap(ctx context.Context, what string, again func(context.Context, *core, *ringKey) ([]byte, error)) (n int, err error) {
	c := e.core()
	if c == nil {
		return 0, errZero
	}
	err = c.update(ctx, func(next *ring, now time.Time) error {
		n = 0
		for i := range next.Keys {
			entry := &next.Keys[i]
			if entry.Data == "" {
				continue
			}
			wrapped, err := again(ctx, c, entry)
			if errors.Is(err, errNothing) {
				continue
			}
			if err != nil {
				return err
			}
			if len(wrapped) == 0 || len(wrapped) > maxWrapped {
				return fmt.Errorf("%w: master %s wrapped a key into %d bytes", ErrRefused, c.cfg.Master.ID(), len(wrapped))
			}
			entry.wrap(c.cfg.Master, wrapped, now)
			if _, err := c.unwrapped(ctx, entry); err != nil {
				return fmt.Errorf("trying the new wrapping: %w", err)
			}
			n++
		}
		if n == 0 && next.provedBy == c.cfg.Master.ID() {
			return errNothing
		}
		return nil
	})
	if err == nil && n > 0 {
		err = c.tryAll(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return n, nil
}

// tryAll has the masters open each live key of the ring as it lies in the store, and takes
// the answers as the keys in memory.
func (c *core) tryAll(ctx context.Context) error {
	v := c.view.Load()
	for i := range v.ring.Keys {
		if entry := &v.ring.Keys[i]; entry.Data != "" {
			c.mu.Lock()
			had := c.keys[entry.ID]
			c.mu.Unlock()
			if _, err := c.load(ctx, entry, had); err != nil {
				return fmt.Errorf("the ring is stored, but opening key %s again failed: %w", entry.ID, err)
			}
		}
	}
	return nil
}
