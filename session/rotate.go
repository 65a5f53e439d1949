package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// rotateAfter is how long a key signs. A month is the longest that a
	// session may live, so that hardly more than two keys are ever alive, and
	// it bounds the use of a stolen key that nobody misses. Ed25519 itself
	// would not wear out.
	rotateAfter = 30 * 24 * time.Hour
	// publishAhead is how long before that the successor stands in the record
	// and in the JWK set: applications fetch that set once a day or more often,
	// and a node that goes on without the store for a while has it as well.
	publishAhead = 24 * time.Hour
	// publishAtLeast is the same for RotateKeys. A node that has not heard from
	// the store for 30 s lets nobody in; all others know the key by then, also
	// when the clocks of two nodes differ by a minute.
	publishAtLeast = 2 * time.Minute
	// retireSlack is added to the longest life of what a key signed: clocks
	// that differ, a node that signs on for a moment, one that slept.
	retireSlack = time.Hour
	// hurryAfter keeps nodes with clocks a little apart from moving the start
	// of a successor to and fro.
	hurryAfter = time.Hour
	// retiredBefore is the time of retirement that the old form did not say.
	retiredBefore = 1

	// killedFor is how long the feed names a killed key: for as long as somebody
	// might keep a backup in which it is good.
	killedFor = 400 * 24 * time.Hour

	kidLength     = 43  // of a thumbprint: 32 bytes in base64url
	maxKeys       = 32  // of a ring: rotating by hand does not fill the record
	maxTombstones = 512 // of a record, some 40 KiB; the oldest go first
	swapTries     = 16  // each lost one means that another node wrote
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
	for range swapTries {
		var err error
		if r, err = m.readRing(ctx, p); err != nil {
			return err
		}
		d := r.draft(m.now(), m.lifeOf(p))
		d.advance(m.keys.killed)
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

// draft is a ring being changed at one moment.
type draft struct {
	keys    []*signingKey
	killed  []tombstone
	now     time.Time
	life    time.Duration // of what the keys sign
	changed bool
}

func (r *ring) draft(now time.Time, life time.Duration) *draft {
	d := &draft{killed: slices.Clone(r.killed), now: now, life: life}
	for _, k := range r.keys {
		clone := *k
		d.keys = append(d.keys, &clone)
	}
	return d
}

func (d *draft) ring() *ring { return &ring{keys: d.keys, killed: d.killed} }

// advance does what the clock and the tombstones ask for.
func (d *draft) advance(killed map[string]struct{}) {
	buried := d.bury(killed)
	for _, k := range d.keys {
		d.date(k)
	}
	d.keys = slices.DeleteFunc(d.keys, func(k *signingKey) bool {
		over := k.until != 0 && d.now.Unix() >= k.until
		d.changed = d.changed || over
		return over
	})
	signer := d.appoint(buried)
	if unixTime(signer.signs).Add(rotateAfter - publishAhead).After(d.now) {
		return
	}
	d.succeed(publishAhead, hurryAfter)
}

// bury takes out what was killed and leaves a tombstone. It does so whoever
// brought the key back: a store that was set back shows it again.
func (d *draft) bury(killed map[string]struct{}) bool {
	buried := false
	d.keys = slices.DeleteFunc(d.keys, func(k *signingKey) bool {
		if _, dead := killed[k.kid]; !dead {
			return false
		}
		d.killed = slices.DeleteFunc(d.killed, func(t tombstone) bool { return t.KID == k.kid })
		d.killed = append(d.killed, tombstone{k.kid, d.now.Unix()})
		buried = true
		return true
	})
	if len(d.killed) > maxTombstones {
		d.killed = d.killed[len(d.killed)-maxTombstones:]
	}
	d.changed = d.changed || buried
	return buried
}

// date gives times to a key of the old form, which had none, and keeps a retired
// key for as long as the node with the longest sessions needs it.
func (d *draft) date(k *signingKey) {
	if k.signs == 0 {
		k.created, k.signs = d.now.Unix(), d.now.Unix()
		if k.retires == retiredBefore {
			k.retires = d.now.Unix()
		}
		d.changed = true
	}
	if k.retires != 0 {
		if until := d.over(k.retires); until > k.until {
			k.until = until
			d.changed = true
		}
	}
}

// over is when nothing is alive of what was signed before a key retired.
func (d *draft) over(retires int64) int64 {
	return unixTime(retires).Add(d.life + retireSlack).Unix()
}

// appoint sees to it that a key signs, and returns it. A retired key signs never
// again; after a kill a successor that waits signs at once.
func (d *draft) appoint(buried bool) *signingKey {
	r := d.ring()
	signer := r.signer(d.now)
	switch {
	case signer == nil:
		return d.add(d.now)
	case d.open() == nil: // its successor was killed
		signer.retires, signer.until, d.changed = 0, 0, true
	case buried && signer.signs > d.now.Unix():
		signer.signs, d.changed = d.now.Unix(), true
	}
	return signer
}

// open returns the newest key that has no successor.
func (d *draft) open() (newest *signingKey) {
	for _, k := range d.keys {
		if k.retires == 0 && (newest == nil || k.signs > newest.signs) {
			newest = k
		}
	}
	return newest
}

// succeed makes sure of a successor that signs ahead of now. One that waits
// already is moved when it would sign later than that and the grace.
func (d *draft) succeed(ahead, grace time.Duration) {
	at := d.now.Add(ahead)
	next := d.open()
	switch {
	case next == nil || next.signs <= d.now.Unix():
		next = d.add(at)
	case next.signs > at.Add(grace).Unix():
		next.signs, d.changed = at.Unix(), true
	}
	for _, k := range d.keys {
		if k != next && (k.retires == 0 || k.retires > next.signs) {
			k.retires, k.until = next.signs, d.over(next.signs)
			d.changed = true
		}
	}
}

func (d *draft) add(signs time.Time) *signingKey {
	seed := newSeed()
	defer clear(seed)
	k := newSigningKey(seed)
	k.created, k.signs = d.now.Unix(), signs.Unix()
	d.keys = append(d.keys, k)
	d.changed = true
	return k
}
