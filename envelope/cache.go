package envelope

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// failure is the last time that a master did not give a key. For a second it is not asked
// again: a master that is away must not have every request wait for it.
type failure struct {
	at  time.Time
	err error
}

// errMasterSaid marks what is about a data key, and not about the value that needs it.
var errMasterSaid = errors.New("asking the master key")

const (
	retryAfter = time.Second
	renewAfter = 10 * time.Second // the same for what is renewed ahead of time
)

// key returns the data key of an entry from memory, and counts the use. When there is none
// within the limits the master is asked; there is nothing else to take.
func (c *core) key(ctx context.Context, entry *ringKey) (*dataKey, error) {
	c.mu.Lock()
	k := c.keys[entry.ID]
	c.mu.Unlock()
	if k != nil && !k.spent(c.cfg.Now(), c.cfg, 1) && (k.uses.Add(1) <= c.cfg.CacheUses || !k.remote) {
		c.cfg.Cache.Hits.Add(1)
		return k, nil
	}
	k, err := c.load(ctx, entry, k)
	if err != nil {
		return nil, err
	}
	k.uses.Add(1)
	return k, nil
}

// load asks the master for a key, one caller at a time; had is what the caller found and
// wants to see replaced.
func (c *core) load(ctx context.Context, entry *ringKey, had *dataKey) (*dataKey, error) {
	c.mu.Lock()
	turn := c.turns[entry.ID]
	if turn == nil {
		turn = make(chan struct{}, 1)
		c.turns[entry.ID] = turn
	}
	c.mu.Unlock()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: waiting for data key %s: %w", ErrUnavailable, entry.ID, ctx.Err())
	}
	c.mu.Lock()
	k, failed := c.keys[entry.ID], c.failed[entry.ID]
	c.mu.Unlock()
	now := c.cfg.Now()
	if k != nil && k != had && !k.spent(now, c.cfg, 1) {
		return k, nil
	}
	if failed.err != nil && !older(failed.at, now, retryAfter) {
		return nil, failed.err
	}
	// Others wait for the same answer: one caller who gives up does not end it.
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), masterTime)
	defer cancel()
	c.cfg.Cache.Asked.Add(1)
	k, err := c.ask(ask, entry)
	if err != nil {
		c.cfg.Cache.Failed.Add(1)
		c.refuse(ctx, reasonUnwrap, entry.ID, err)
		err = fmt.Errorf("%w: %w", errMasterSaid, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.failed[entry.ID] = failure{c.cfg.Now(), err}
		return nil, err
	}
	delete(c.failed, entry.ID)
	if now := c.view.Load(); now == nil || now.ring.key(entry.ID) == nil || now.ring.key(entry.ID).State != StateDestroyed {
		c.keys[entry.ID] = k
	}
	return k, nil
}

// ask has the master unwrap a key and checks that it is the one that was wrapped.
func (c *core) ask(ctx context.Context, entry *ringKey) (*dataKey, error) {
	since := c.cfg.Now()
	key, err := c.unwrapped(ctx, entry)
	if err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(entry.ID)
	if err != nil || len(id) != keyIDLen {
		return nil, fmt.Errorf("%w: key id %q", ErrSealed, entry.ID)
	}
	_, local := c.masters[entry.Master].(*Local)
	return newDataKey(c.cfg.Name, [keyIDLen]byte(id), key, entry.Master, !local, since), nil
}

// unwrapped opens the wrapped bytes of an entry with the master that it names.
func (c *core) unwrapped(ctx context.Context, entry *ringKey) (*secret, error) {
	m := c.masters[entry.Master]
	if m == nil {
		return nil, fmt.Errorf("%w: data key %s is wrapped by master %s, and this node has %s: %s", ErrRefused, entry.ID, entry.Master, c.cfg.Master.ID(), remedy)
	}
	wrapped, err := entry.wrapped()
	if err != nil {
		return nil, err
	}
	key, err := unwrap(ctx, m, wrapped, about(c.cfg.Name, entry.ID))
	if err != nil {
		return nil, fmt.Errorf("unwrapping data key %s: %w", entry.ID, err)
	}
	if err := isKey(key, entry, c.cfg.Name); err != nil {
		return nil, err
	}
	return key, nil
}

// isKey compares a key with its published check value.
func isKey(key *secret, entry *ringKey, ringName string) error {
	check, err := checkOf(key, ringName)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if subtle.ConstantTimeCompare([]byte(check), []byte(entry.Check)) != 1 {
		return fmt.Errorf("%w: master %s answered with another key than data key %s", ErrSealed, entry.Master, entry.ID)
	}
	return nil
}

// forget drops the keys that a new ring has destroyed or condemned, or had wrapped anew. A
// condemned one comes back while Reseal needs it.
func (c *core) forget(next *ring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.failed)
	for id := range c.keys {
		entry := next.key(id)
		if entry == nil || entry.Master != c.keys[id].master || entry.State == StateDestroyed || entry.State == StateCondemned && !c.cfg.OpenCondemned {
			delete(c.keys, id)
		}
	}
}

// renew asks the master again for keys that are half way to their limits and were used,
// and for the primary in any case; it drops what reached its limits unused.
func (c *core) renew(ctx context.Context) error {
	v, now := c.view.Load(), c.cfg.Now()
	if v == nil {
		return nil
	}
	var errs []error
	for i := range v.ring.Keys {
		entry := &v.ring.Keys[i]
		c.mu.Lock()
		k, failed := c.keys[entry.ID], c.failed[entry.ID]
		if k != nil && k.spent(now, c.cfg, 1) {
			delete(c.keys, entry.ID)
		}
		c.mu.Unlock()
		if failed.err != nil && !older(failed.at, now, renewAfter) {
			errs = append(errs, failed.err)
			continue
		}
		primary := entry.State == StatePrimary
		if k == nil && primary || k != nil && k.spent(now, c.cfg, 2) && (primary || k.uses.Load() > 0) {
			if _, err := c.load(ctx, entry, k); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
