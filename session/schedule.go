package session

import (
	"slices"
	"time"
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
	maxTombstones = 512 // of a record, some 40 KiB; the oldest go first
)

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

// advance does what the tombstones and the clock ask for. By a clock that is known
// to be wrong nothing begins or ends; what was killed goes all the same.
func (d *draft) advance(killed map[string]struct{}, wrongClock bool) {
	buried := d.bury(killed)
	if wrongClock {
		d.appoint(buried)
		return
	}
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
	case next == d.ring().signer(d.now):
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
