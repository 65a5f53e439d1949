package hardening

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// update brings recipients and the pinned key to what the configuration and the live keys ask for.
func (r *Ring) update(ctx context.Context, cur *openRing, live, keys []TLSKey) (want *openRing, changed bool, err error) {
	want = cur.clone()
	usable := want.wrappable(keys)
	if changed, err = want.addTLSKeys(usable); err != nil {
		return nil, false, err
	}
	if r.secret == nil {
		recovery, err := r.updateRecovery(want)
		if err != nil {
			return nil, false, err
		}
		kms, err := r.updateKMS(ctx, want, usable)
		if err != nil {
			return nil, false, err
		}
		changed = r.dropOld(want, usable) || recovery || kms || changed
		changed = r.pin(want, live) || changed
		changed = want.promote(r.cfg.Now()) || changed
	} else if len(usable) == 0 {
		return nil, false, fmt.Errorf("wrapping ring %q: %w: this TLS key is compromised; give the site a new one first", r.cfg.Name, ErrInput)
	}
	if cur.file.Epoch == 0 && !want.opens(usable) {
		return nil, false, fmt.Errorf("making ring %q: %w: its TLS key cannot be exported, and nothing else could open the ring; write `master awskms KEY`, or use a key in a file", r.cfg.Name, ErrWaiting)
	}
	want.file.Epoch++ // of what is written: a ring that was put back is a write, too
	return want, changed, nil
}

// wrappable are those of the keys that the ring may be wrapped for: they can be exported and are not compromised.
func (o *openRing) wrappable(keys []TLSKey) []TLSKey {
	return slices.DeleteFunc(slices.Clone(keys), func(k TLSKey) bool { return k.hardware || o.banned(k.kid) })
}

func (o *openRing) addTLSKeys(keys []TLSKey) (changed bool, err error) {
	for _, k := range keys {
		added, err := o.addTLS(k)
		if err != nil {
			return false, err
		}
		changed = changed || added
	}
	return changed, nil
}

// opens reports whether the ring has a stanza that opens it without a person: for one of these keys, or for a KMS.
func (o *openRing) opens(keys []TLSKey) bool {
	return slices.ContainsFunc(o.file.Stanzas, func(s stanza) bool {
		return s.Type == stanzaKMS || s.Type == stanzaTLS && slices.ContainsFunc(keys, func(k TLSKey) bool { return k.kid == s.KID })
	})
}

// updateRecovery makes the configured recovery key, and no other, a recipient. One that left the configuration may have
// left because it leaked.
func (r *Ring) updateRecovery(o *openRing) (changed bool, err error) {
	present := r.cfg.Recovery != nil && o.banned(r.cfg.Recovery.id) // compromised: treated as there, and never added
	o.file.Stanzas = slices.DeleteFunc(o.file.Stanzas, func(s stanza) bool {
		if s.Type != stanzaRecovery {
			return false
		}
		if r.cfg.Recovery != nil && s.KID == r.cfg.Recovery.id && !o.banned(s.KID) {
			present = true
			return false
		}
		r.cfg.Logger.Warn("an earlier recovery key no longer opens the password ring", "ring", r.cfg.Name, "recovery", shortID(s.KID))
		changed = true
		return true
	})
	if present || r.cfg.Recovery == nil {
		return changed, nil
	}
	ct, err := r.cfg.Recovery.seal(o.file.Ring, o.fileKey)
	if err != nil {
		return false, fmt.Errorf("wrapping ring %q for the recovery key: %w", r.cfg.Name, err)
	}
	o.file.Stanzas = append(o.file.Stanzas, stanza{Type: stanzaRecovery, KID: r.cfg.Recovery.id, CT: ct})
	return true, nil
}

// dropOld forgets TLS keys a week after their certificate's end, and beyond maxStanzas those that ended first (certificates
// of some seconds would otherwise fill the file). Live keys stay whatever their date; without a live key nothing is
// dropped, because then nothing shows that the ring would still open.
func (r *Ring) dropOld(o *openRing, keys []TLSKey) bool {
	if len(keys) == 0 {
		return false
	}
	isLive := func(s stanza) bool {
		return s.Type != stanzaTLS || slices.ContainsFunc(keys, func(k TLSKey) bool { return k.kid == s.KID })
	}
	before := len(o.file.Stanzas)
	limit := r.cfg.Now().Add(-keepStanza)
	o.file.Stanzas = slices.DeleteFunc(o.file.Stanzas, func(s stanza) bool {
		return !isLive(s) && s.NotAfter.Before(limit)
	})
	for len(o.file.Stanzas) > maxStanzas {
		oldest := -1
		for i, s := range o.file.Stanzas {
			if !isLive(s) && (oldest < 0 || s.NotAfter.Before(o.file.Stanzas[oldest].NotAfter)) {
				oldest = i
			}
		}
		if oldest < 0 {
			break
		}
		o.file.Stanzas = slices.Delete(o.file.Stanzas, oldest, oldest+1)
	}
	return len(o.file.Stanzas) != before
}

// pin keeps the effective key of the original form, once and for good. With live keys of two kinds it is not ours to guess
// which one the old digests were made with.
func (r *Ring) pin(o *openRing, live []TLSKey) bool {
	if !r.cfg.Compat || o.body.Compat != "" || len(live) == 0 {
		return false
	}
	for _, k := range live {
		if k.hardware {
			r.cfg.Logger.Error("the original form of the hmac service stays off: the TLS key cannot be exported", "ring", r.cfg.Name)
			return false
		}
		if k.alg != live[0].alg {
			r.cfg.Logger.Error("the original form of the hmac service stays off: the site has certificates of two kinds; leave one, or name another subject", "ring", r.cfg.Name, "kinds", live[0].alg+", "+k.alg)
			return false
		}
	}
	id := "d:" + live[0].short()
	o.body.Compat = id
	o.body.Versions = append(o.body.Versions, version{ID: id, Key: slices.Clone(live[0].original[:]), Created: r.cfg.Now().UTC().Truncate(time.Second), State: StateVerify})
	return true
}
