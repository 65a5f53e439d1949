package hardening

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// DefaultRotate is how long a new pepper is pending: all nodes have seen it by then, also one that was busy.
	DefaultRotate = 5 * time.Minute
	maxRotate     = 30 * 24 * time.Hour
	maxVersions   = 1000
	// censusAge is how old a finished count may be to decide over a pepper.
	censusAge = 24 * time.Hour
	// destroyAfter is how long a retired pepper is kept: time to notice that it was needed.
	destroyAfter = 7 * 24 * time.Hour
)

// refuse says no to an operator, and what to do.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInput}, args...)...)
}

// Rotate makes a new pepper, which is the primary after in, or at once when in is 0. The one before verifies on.
func (r *Ring) Rotate(ctx context.Context, in time.Duration) (RingStatus, error) {
	pepper := newPepper()
	return r.change(ctx, "rotating", func(o *openRing, _ []TLSKey) (bool, error) {
		if o.holds(pepper) {
			return false, nil // an earlier try was written after all
		}
		if in < 0 || in > maxRotate {
			return false, refuse("a new pepper waits for 0 to 30 days")
		}
		for _, v := range o.body.Versions {
			if v.State == StatePending {
				return false, refuse("pepper %s is on its way already and becomes the primary at %s; wait for it", v.ID, v.Activates.Format(time.RFC3339))
			}
		}
		return true, o.addPepper(pepper, r.cfg.Now(), in)
	})
}

// addPepper adds a version that becomes the primary after in.
func (o *openRing) addPepper(pepper []byte, now time.Time, in time.Duration) error {
	if len(o.body.Versions) >= maxVersions {
		return refuse("the ring has %d peppers; that is as many as it takes", maxVersions)
	}
	o.body.Versions = append(o.body.Versions, version{
		ID: o.nextID(), Key: pepper, Created: now.UTC().Truncate(time.Second), State: StatePending, Activates: now.Add(in).UTC().Round(0),
	})
	o.promote(now)
	return nil
}

// sameKey takes as long for keys that begin alike as for others.
func sameKey(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

func (o *openRing) holds(pepper []byte) bool {
	return slices.ContainsFunc(o.body.Versions, func(v version) bool { return sameKey(v.Key, pepper) })
}

// Compromise is the answer to a key that somebody else may have: id is a pepper ("p3"), or at least 16 digits of the name
// of a TLS or recovery key. At once, and in one write: a new file key; stanzas for the keys that are left, and never again
// for that one; a new primary pepper; every pepper so far marked, so that [RingStatus.UpgradeDue] asks for the upgrade of
// all records; a new key for the hashes of uids. It is refused while that key is all that opens the ring.
//
// A node that has another TLS key than this one, and neither a KMS nor a key in common, cannot follow; it says so.
func (r *Ring) Compromise(ctx context.Context, id string) (RingStatus, error) {
	pepper, uidKey, fileKey := newPepper(), newPepper(), newPepper()
	return r.change(ctx, "replacing the keys of", func(o *openRing, keys []TLSKey) (bool, error) {
		if o.holds(pepper) {
			return false, nil
		}
		kid, err := r.compromised(o, id)
		if err != nil {
			return false, err
		}
		if kid == "" && o.body.Versions[o.find(id)].Compromised || kid != "" && o.banned(kid) {
			return false, nil // done before; what came after it is not touched by it
		}
		if kid != "" {
			o.body.Banned = append(o.body.Banned, kid)
		}
		if err := r.rekey(ctx, o, o.wrappable(keys), fileKey, true); err != nil {
			return false, err
		}
		now := r.cfg.Now()
		for i, v := range o.body.Versions {
			o.body.Versions[i].Compromised = v.State != StateDestroyed
			if v.State == StatePending {
				o.set(i, StateVerify, now) // a node whose clock is ahead may have used it
			}
		}
		o.body.UIDKey = uidKey
		return true, o.addPepper(pepper, now, 0)
	})
}

// compromised finds what an operator named: the full name of a key, or "" for a pepper.
func (r *Ring) compromised(o *openRing, id string) (kid string, err error) {
	if i := o.find(id); i >= 0 {
		if o.body.Versions[i].State == StateDestroyed {
			return "", refuse("%s is destroyed", id)
		}
		return "", nil
	}
	r.mu.Lock()
	names := slices.Clone(r.live)
	r.mu.Unlock()
	for _, s := range o.file.Stanzas {
		if s.Type == stanzaKMS && len(id) >= 16 && hasPrefix(s.KID, id) {
			return "", refuse("%s is a KMS key: replace it there, write the new one as `master`, and name the primary pepper %s here", shortID(id), o.body.Primary)
		}
		if s.Type != stanzaKMS {
			names = append(names, s.KID)
		}
	}
	if names = append(names, o.body.Banned...); r.cfg.Recovery != nil {
		names = append(names, r.cfg.Recovery.id)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return len(id) < 16 || !hasPrefix(name, id) })
	slices.Sort(names)
	switch names = slices.Compact(names); len(names) {
	case 0:
		return "", refuse("the ring knows no pepper and no key of that name; give at least 16 digits of a key's; for a key that the ring has forgotten, name the primary pepper %s", o.body.Primary)
	case 1:
		return names[0], nil
	}
	return "", refuse("several keys begin with that; give more of the name")
}

func hasPrefix(name, digits string) bool {
	return len(name) >= len(digits) && name[:len(digits)] == digits
}

// Rewrap makes a new file key and wraps it for the live TLS keys, the recovery key and the KMS: every other stanza is gone,
// and an old copy of the ring with an old key opens nothing that is written from now on. No record changes.
func (r *Ring) Rewrap(ctx context.Context) (RingStatus, error) {
	fileKey := newPepper()
	return r.change(ctx, "rewrapping", func(o *openRing, keys []TLSKey) (bool, error) {
		if sameKey(o.fileKey, fileKey) {
			return false, nil
		}
		return true, r.rekey(ctx, o, keys, fileKey, false)
	})
}

// rekey changes the file key. What wraps it is made anew from keys that are at hand now. An urgent change does not wait for
// a KMS that is away as long as something else opens the ring; the poll adds it.
func (r *Ring) rekey(ctx context.Context, o *openRing, keys []TLSKey, fileKey []byte, urgent bool) error {
	before := o.file.Stanzas
	o.fileKey, o.file.Stanzas = fileKey, nil
	if _, err := o.addTLSKeys(keys); err != nil {
		return err
	}
	if _, err := r.updateRecovery(o); err != nil {
		return err
	}
	if r.cfg.KMS != nil {
		switch s, err := r.wrapKMS(ctx, o.file.Ring, fileKey); {
		case err == nil:
			o.file.Stanzas = append(o.file.Stanzas, s)
		case len(o.file.Stanzas) == 0 || !urgent:
			return fmt.Errorf("%w: %w", ErrWaiting, err)
		default:
			r.cfg.Logger.Warn("the password ring could not be wrapped by the KMS; it is tried again", "ring", r.cfg.Name, "error", err)
		}
	}
	if len(o.file.Stanzas) == 0 {
		return refuse("nothing would open the ring then: the only live TLS key is the one that must not; give the site a new certificate with a new key first, or write `recovery KEY` and reload")
	}
	for _, s := range before {
		if s.Type == stanzaTLS && !slices.ContainsFunc(keys, func(k TLSKey) bool { return k.kid == s.KID }) {
			r.cfg.Logger.Warn("a TLS key no longer opens the password ring; a node that has only this one needs a new certificate", "ring", r.cfg.Name, "key", shortID(s.KID))
		}
	}
	return nil
}

// Retire takes a version out of use: records that need it are refused from then on. It wants a finished census of all
// records that began after the version ceased to be the primary, is younger than a day and names it nowhere; force goes
// without.
func (r *Ring) Retire(ctx context.Context, id string, force bool) (RingStatus, error) {
	return r.move(ctx, "retiring a pepper of", id, StateRetired, func(o *openRing, v version) error {
		if v.State != StateVerify && v.State != StateInner {
			return notFrom(v, "retired")
		}
		if r.cfg.Compat && id == o.body.Compat {
			return refuse("the original form answers with %s; remove `compat` from the configuration first", id)
		}
		if force {
			return nil
		}
		return o.counted(v, r.cfg.Now(), func(c *Census) int { return c.Versions[id] })
	})
}

// Close lets a version open only beneath a newer layer, once a census (as for Retire) found no record that it covers alone.
func (r *Ring) Close(ctx context.Context, id string) (RingStatus, error) {
	return r.move(ctx, "closing a pepper of", id, StateInner, func(o *openRing, v version) error {
		if v.State != StateVerify {
			return notFrom(v, "closed")
		}
		if r.cfg.Compat && id == o.body.Compat {
			return refuse("the original form answers with %s; remove `compat` from the configuration first", id)
		}
		return o.counted(v, r.cfg.Now(), func(c *Census) int { return c.Outermost[id] })
	})
}

// Reopen takes a retirement back: the version verifies again.
func (r *Ring) Reopen(ctx context.Context, id string) (RingStatus, error) {
	return r.move(ctx, "reopening a pepper of", id, StateVerify, func(_ *openRing, v version) error {
		if v.State != StateRetired && v.State != StateInner {
			return notFrom(v, "reopened")
		}
		return nil
	})
}

// Destroy overwrites the key of a version that was retired for a week, or for any time with force. Records that need it are
// lost for good. Its name is never given again.
func (r *Ring) Destroy(ctx context.Context, id string, force bool) (RingStatus, error) {
	return r.move(ctx, "destroying a pepper of", id, StateDestroyed, func(_ *openRing, v version) error {
		if v.State != StateRetired {
			return notFrom(v, "destroyed; retire it first")
		}
		if left := destroyAfter - r.cfg.Now().Sub(v.Changed); left > 0 && !force {
			return refuse("%s was retired at %s; a pepper is kept for a week, until %s: destroy it then, or with --force", id, v.Changed.Format(time.RFC3339), v.Changed.Add(destroyAfter).Format(time.RFC3339))
		}
		return nil
	})
}

// move changes the state of one version. One that is there already is no error and no change.
func (r *Ring) move(ctx context.Context, doing, id string, to State, allowed func(*openRing, version) error) (RingStatus, error) {
	return r.change(ctx, doing, func(o *openRing, _ []TLSKey) (bool, error) {
		i := o.find(id)
		if i < 0 {
			return false, refuse("it has no pepper of that name")
		}
		v := o.body.Versions[i]
		if v.State == to {
			return false, nil
		}
		if err := allowed(o, v); err != nil {
			return false, err
		}
		o.set(i, to, r.cfg.Now())
		if to == StateDestroyed {
			o.body.Versions[i].Key = nil
		}
		return true, nil
	})
}

func notFrom(v version, what string) error {
	if v.State == StatePrimary || v.State == StatePending {
		return refuse("%s is %s: new records need it; rotate first", v.ID, v.State)
	}
	return refuse("%s is %s and cannot be %s", v.ID, v.State, what)
}

// counted says whether the last census allows that a version goes.
func (o *openRing) counted(v version, now time.Time, found func(*Census) int) error {
	c, since := o.body.Census, v.Changed
	if since.IsZero() {
		since = v.Created
	}
	const how = "count all records with 'anteroom keys ring census FILE'"
	switch {
	case c == nil:
		return refuse("no census has shown that nothing needs %s; %s", v.ID, how)
	case c.Records <= c.Foreign:
		return refuse("the last census found no record of this ring among %d; a line of its file is a record and nothing else, no quotes, no other column; %s", c.Records, how)
	case !c.Began.After(since):
		return refuse("the last census began at %s, before %s became %s at %s; %s again", c.Began.Format(time.RFC3339), v.ID, v.State, since.Format(time.RFC3339), how)
	case now.Sub(c.Ended) > censusAge:
		return refuse("the last census ended at %s, more than a day ago; %s again", c.Ended.Format(time.RFC3339), how)
	case found(c) > 0:
		return refuse("the last census found %d records that need %s; upgrade them and let the people sign in, then %s again", found(c), v.ID, how)
	}
	return nil
}

// MayRenew says whether the subject's TLS key may be replaced now; an error is a veto for this try. Only a ring that nothing
// else opens vetoes, while it cannot be wrapped for the new key: then the old key is all there is. And never for long: a
// site must not lose its certificate for this.
func (r *Ring) MayRenew(remaining, lifetime time.Duration) error {
	r.mu.Lock()
	o, err := r.open, r.err
	r.mu.Unlock()
	switch {
	case remaining <= max(24*time.Hour, lifetime/10), err == nil, errors.Is(err, errNoKey):
		return nil
	case o == nil && (r.cfg.KMS != nil || r.cfg.Recovery != nil), o == nil && !errors.Is(err, ErrWaiting):
		return nil // something else opens it; or it is locked, and this key does not open it either
	case o != nil && slices.ContainsFunc(o.file.Stanzas, func(s stanza) bool { return s.Type != stanzaTLS }):
		return nil
	}
	return fmt.Errorf("the TLS key stays for now: the password ring %q opens with nothing else and could not be wrapped for a new key: %w", r.cfg.Name, err)
}

// edit is change without its lock and its words.
func (r *Ring) edit(ctx context.Context, edit func(o *openRing, keys []TLSKey) (bool, error)) error {
	keys, _ := r.cfg.Keys(ctx) // a ring that we hold can be changed while no key is visible
	r.setLive(keys)
	for round := range maxTries {
		if err := r.again(ctx, round); err != nil {
			return err
		}
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
		switch err := r.put(ctx, old, want, keys); {
		case errors.Is(err, store.ErrConflict):
			continue
		default:
			return err
		}
	}
	return r.racesLost()
}

// put writes an edited ring, wrapped for the live keys as well, and publishes it.
func (r *Ring) put(ctx context.Context, old []byte, want *openRing, keys []TLSKey) error {
	usable := want.wrappable(keys) // without what the edit banned
	if _, err := want.addTLSKeys(usable); err != nil {
		return err
	}
	want.file.Epoch++
	if err := r.write(ctx, old, want, usable); err != nil {
		return err
	}
	r.publish(want, nil)
	return nil
}

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

// newPepper returns 32 fresh random bytes.
func newPepper() []byte {
	raw := make([]byte, pepperSize)
	rand.Read(raw)
	return raw
}
