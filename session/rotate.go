package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	maxKeys   = 32 // of a ring: rotating by hand does not fill the record
	swapTries = 16 // each lost one means that another node wrote
)

// errNotWritten: the record was read and is in use, but what ought to change in
// it could not be written.
var errNotWritten = errors.New("signing keys could not be written")

func (m *Manager) ringOf(p *purpose) *atomic.Pointer[ring] {
	if p == forAssertions {
		return &m.keys.assertions
	}
	return &m.ring
}

// lifeOf is how long after its signature something signed can matter at most.
func (m *Manager) lifeOf(p *purpose) time.Duration {
	if p == forAssertions {
		return assertionLife
	}
	return m.longest
}

// loadKeys reads both records, makes what is missing and rotates what is due. A
// rotation that cannot be written is tried again at the next poll and closes
// nothing: the key that should have been replaced is as good as a second ago.
func (m *Manager) loadKeys(ctx context.Context) error {
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	var failed error
	for _, p := range purposes {
		switch err := m.refresh(ctx, p, nil); {
		case errors.Is(err, errNotWritten):
			failed = err
		case err != nil:
			return err
		}
	}
	if failed != nil && !m.keys.failing {
		m.log.Error("the signing keys are due for a change that cannot be stored; trying again", "error", failed)
	}
	m.keys.failing = failed != nil
	return nil
}

// RotateKeys publishes a successor for the session keys and for the assertion
// keys, which signs in two minutes; nobody is signed out. When a successor is
// published already it signs by then instead. On an error one of the two may be
// done; it is safe to repeat.
func (m *Manager) RotateKeys(ctx context.Context) error {
	if !m.running.Load() {
		return fmt.Errorf("rotating signing keys: %w", ErrClosed)
	}
	if m.skewed() {
		return errors.New("rotating signing keys: this machine's clock differs from the store's; set it right first")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	m.keys.mu.Lock()
	defer m.keys.mu.Unlock()
	for _, p := range purposes {
		if err := m.refresh(ctx, p, func(d *draft) { d.succeed(publishAtLeast, 0) }); err != nil {
			return fmt.Errorf("rotating signing keys: %w", err)
		}
	}
	return nil
}

// refresh reads a record, brings it to what it ought to be at this moment and
// takes it into use. All nodes judge the same record, so that of many that find
// a rotation due one writes it and the others, refused by the store, read that
// and find nothing left to do. keys.mu is held.
func (m *Manager) refresh(ctx context.Context, p *purpose, change func(*draft)) error {
	var r *ring
	var failed error
	for round := range swapTries {
		err := again(ctx, round)
		if err != nil && r != nil { // what was read last is good enough to go on with
			failed = err
			break
		}
		if r, err = m.readRing(ctx, p); err != nil {
			return err
		}
		d := r.draft(m.now(), m.lifeOf(p))
		d.advance(m.keys.killed, m.skewed())
		if change != nil {
			change(d)
		}
		if !d.changed {
			m.useRing(p, r)
			return nil
		}
		if change != nil && len(d.keys) > max(maxKeys, len(r.keys)) {
			return fmt.Errorf("there are %d %s keys already; wait until retired ones are over", maxKeys, p.use)
		}
		err = m.swapRing(ctx, p, r, d.ring())
		if err == nil {
			return nil
		}
		failed = err
		if !errors.Is(err, store.ErrConflict) {
			break
		}
	}
	if r.sealed == nil { // there is no record to go on with
		return failed
	}
	m.useRing(p, r)
	return fmt.Errorf("%w: %w", errNotWritten, failed)
}

// readRing returns the ring as stored, an empty one when there is none. The
// tombstones in it hold in this process from now on.
func (m *Manager) readRing(ctx context.Context, p *purpose) (*ring, error) {
	sealed, err := m.store.Get(ctx, p.record)
	if errors.Is(err, store.ErrNotFound) {
		return &ring{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s signing keys: %w", p.use, err)
	}
	if r := m.ringOf(p).Load(); r != nil && r.sealed != nil && bytes.Equal(r.sealed, sealed) {
		return r, nil
	}
	r, err := m.openRing(ctx, p, sealed)
	if err != nil {
		return nil, err
	}
	for _, t := range r.killed {
		m.keys.killed[t.KID] = struct{}{}
	}
	return r, nil
}

// swapRing writes next in the place of r and takes it into use.
func (m *Manager) swapRing(ctx context.Context, p *purpose, r, next *ring) error {
	sealed, err := m.sealRing(ctx, p, next)
	if err != nil {
		return err
	}
	if err := m.store.CompareAndSwap(ctx, p.record, r.sealed, sealed, neverExpires); err != nil {
		return fmt.Errorf("writing %s signing keys: %w", p.use, err)
	}
	for _, k := range next.keys {
		if r.find(k.kid) == nil {
			m.keys.made[k.kid] = struct{}{}
			m.log.Info("made a new signing key", "use", p.use, "kid", k.kid, "signs", unixTime(k.signs))
		}
	}
	next.sealed = sealed
	m.useRing(p, next)
	return nil
}

// useRing makes r the key set. Whoever may hold a session by a key that is gone
// has none any more, and neither has its open connections: the ones that still
// hold a good session connect again. A key that is gone because nothing of it is
// alive any more ends nothing. keys.mu is held.
func (m *Manager) useRing(p *purpose, r *ring) {
	r = r.without(m.keys.killed)
	before := m.ringOf(p).Swap(r)
	if before == r || before == nil {
		return
	}
	lost := false
	for _, k := range before.keys {
		switch {
		case r.find(k.kid) != nil:
		case k.until != 0 && m.now().Add(retireSlack/2).Unix() >= k.until:
			m.log.Info("a retired signing key is over", "use", p.use, "kid", k.kid)
		default:
			lost = true
			m.log.Warn("a signing key was removed; what it signed is refused", "use", p.use, "kid", k.kid)
		}
	}
	if p != forSessions {
		return
	}
	m.cache.keep(func(v *verified) bool { return r.find(v.kid) != nil })
	if lost {
		m.fire(m.live.cutAll(), errKey)
	}
}
