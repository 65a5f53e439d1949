package hardening

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// RingConfig is what a [Ring] needs. Store and Keys are required, and one of Recovery and NoRecovery.
type RingConfig struct {
	// Name names the ring in its store: 1 to 128 characters of [A-Za-z0-9._*:-].
	Name string
	// Store keeps the ring. It must be durable; what it says is read back all the same.
	Store Store
	// Keys returns the live TLS keys, the one being served first; none when none is visible yet. It is called for every
	// look at the ring.
	Keys func(context.Context) ([]TLSKey, error)
	// Recovery is the offline recipient. Without one, a TLS key that is swapped while the program is down, or a crash
	// between a renewal and its stanza, loses the ring and every record for good: NoRecovery says that this is known.
	Recovery   *RecoveryRecipient
	NoRecovery bool
	// Compat pins the key of the original form, from the first moment it is on.
	Compat bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what the operator must know; nil discards.
	Logger *slog.Logger
}

// Store is what a ring needs of a [store.Store], with its promises and errors: a durable compare-and-set.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error
}

// Ring follows one ring in the store. It is safe for concurrent use. Several (of one process or of many nodes) may follow
// the same ring: the store's compare-and-set orders their writes.
type Ring struct {
	cfg    RingConfig
	secret *RecoveryKey // set by Recover only

	syncing  sync.Mutex // one look at a time; guards reported
	reported string     // the last trouble told to the operator

	mu      sync.Mutex    // guards what follows
	open    *openRing     // nil until the ring was opened once
	err     error         // what the last look met
	changed chan struct{} // closed at each look, and replaced
}

// NewRing checks the configuration. It does not touch the store.
func NewRing(cfg RingConfig) (*Ring, error) {
	switch {
	case cfg.Store == nil || cfg.Keys == nil:
		return nil, errors.New("making ring: Store and Keys are required")
	case cfg.Name == "" || len(cfg.Name) > 128 || strings.Trim(cfg.Name, ringNameChars) != "":
		return nil, fmt.Errorf("making ring: the name %q is not 1 to 128 characters of letters, digits and . _ * : -", cfg.Name)
	case cfg.Recovery == nil && !cfg.NoRecovery:
		return nil, errors.New("making ring: neither a recovery key nor no_recovery")
	case cfg.Recovery != nil && cfg.NoRecovery:
		return nil, errors.New("making ring: both a recovery key and no_recovery")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Ring{cfg: cfg, err: ErrWaiting, changed: make(chan struct{})}, nil
}

const ringNameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._*:-"

// maxTries is how often a lost race for the store is run again; each loser's next look contains the winner's stanzas.
const maxTries = 8

// Sync looks at the store once: it opens the ring, makes it when there is none, and wraps it for every live key and for the
// keys in next. Call it with the new key of a renewal before that key is served: only then are both at hand.
//
// An error leaves an opened ring as it was: a lost store does not stop a service that holds its peppers.
func (r *Ring) Sync(ctx context.Context, next ...TLSKey) error {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	live, err := r.cfg.Keys(ctx)
	if err == nil {
		err = r.sync(ctx, live, next)
	} else {
		err = fmt.Errorf("finding TLS keys of ring %q: %w: %w", r.cfg.Name, ErrWaiting, err)
	}
	r.publish(nil, err)
	r.report(err)
	return err
}

func (r *Ring) sync(ctx context.Context, live, next []TLSKey) error {
	keys := mergeKeys(live, next)
	for range maxTries {
		old, err := r.cfg.Store.Get(ctx, r.storeKey())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("reading ring %q: %w: %w", r.cfg.Name, ErrWaiting, err)
		}
		absent := err != nil
		cur, err := r.read(old, absent, keys)
		if err != nil {
			return err
		}
		if !absent {
			r.publish(cur, nil)
		}
		want, changed, err := r.update(cur, live, keys)
		if err != nil {
			return err
		}
		if !changed && !absent {
			return nil
		}
		if absent {
			old = nil
		}
		switch err := r.write(ctx, old, want, keys); {
		case errors.Is(err, store.ErrConflict):
			continue // somebody else wrote: look again, with what he wrote
		case err != nil:
			return err
		}
		if absent && r.held() == nil {
			r.cfg.Logger.Info("a new password ring was made: records of any other ring do not verify with it", "ring", r.cfg.Name, "id", want.file.Ring)
		}
		r.publish(want, nil)
		return nil
	}
	return fmt.Errorf("writing ring %q: %w: lost %d races for the store", r.cfg.Name, ErrWaiting, maxTries)
}

// read turns the store's bytes into an opened ring. This is the place that never makes a second ring: a fresh one comes
// only from a store that says "absent", with a live key at hand, to a process that has not held this ring before.
func (r *Ring) read(raw []byte, absent bool, keys []TLSKey) (*openRing, error) {
	held := r.held()
	if absent {
		switch {
		case held != nil:
			r.cfg.Logger.Error("the password ring has vanished from its store and is put back; was the store replaced under a running program?", "ring", r.cfg.Name)
			return held, nil
		case r.secret != nil:
			return nil, fmt.Errorf("opening ring %q: there is no such ring in this store", r.cfg.Name)
		case len(keys) == 0:
			return nil, fmt.Errorf("making ring %q: %w", r.cfg.Name, errNoKey)
		}
		return freshRing(r.cfg.Now()), nil
	}
	f, err := readRingFile(raw)
	if err != nil {
		return nil, r.locked(fmt.Errorf("%w; restore the store from a backup", err))
	}
	if held != nil {
		// A ring that goes back, or becomes another one, is somebody's old backup or his attack: what we hold stays.
		if f.Ring != held.file.Ring || f.Epoch < held.file.Epoch {
			return nil, r.locked(fmt.Errorf("the store holds ring %s epoch %d where ring %s epoch %d was; restore the newest backup", f.Ring, f.Epoch, held.file.Ring, held.file.Epoch))
		}
	}
	fileKey := unwrap(f, keys, r.secret)
	if fileKey == nil && held != nil {
		fileKey = held.fileKey
	}
	if fileKey == nil && len(keys) == 0 && r.secret == nil {
		return nil, fmt.Errorf("opening ring %q: %w", r.cfg.Name, errNoKey)
	}
	if fileKey == nil && r.secret != nil {
		return nil, r.locked(fmt.Errorf("this recovery key is not one of its recipients, which are %s", stanzaNames(f)))
	}
	if fileKey == nil {
		return nil, r.locked(fmt.Errorf("it is wrapped for %s, and the live TLS keys are %v; put the earlier key back, or stop the program and run 'anteroom keys ring recover --key FILE --cert-key FILE' with the recovery key and the site's private key", stanzaNames(f), keys))
	}
	o, err := openBody(f, fileKey)
	if err != nil {
		return nil, r.locked(fmt.Errorf("%w; restore the store from a backup", err))
	}
	return o, nil
}

func (r *Ring) locked(cause error) error {
	return fmt.Errorf("opening ring %q: %w: %w", r.cfg.Name, ErrLocked, cause)
}

// update brings recipients and the pinned key to what the configuration and the live keys ask for.
func (r *Ring) update(cur *openRing, live, keys []TLSKey) (want *openRing, changed bool, err error) {
	want = cur.clone()
	for _, k := range keys {
		added, err := want.addTLS(k)
		if err != nil {
			return nil, false, err
		}
		changed = changed || added
	}
	if r.secret == nil {
		recovery, err := r.updateRecovery(want)
		if err != nil {
			return nil, false, err
		}
		changed = r.dropOld(want, keys) || recovery || changed
		changed = r.pin(want, live) || changed
	}
	if changed || cur.file.Epoch == 0 {
		want.file.Epoch++
	}
	return want, changed, nil
}

// updateRecovery makes the configured recovery key, and no other, a recipient. One that left the configuration may have
// left because it leaked.
func (r *Ring) updateRecovery(o *openRing) (changed bool, err error) {
	present := false
	o.file.Stanzas = slices.DeleteFunc(o.file.Stanzas, func(s stanza) bool {
		if s.Type != stanzaRecovery {
			return false
		}
		if r.cfg.Recovery != nil && s.KID == r.cfg.Recovery.id {
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
		if k.alg != live[0].alg {
			r.cfg.Logger.Error("the original form of the hmac service stays off: the site has certificates of two kinds; leave one, or name another subject", "ring", r.cfg.Name, "kinds", live[0].alg+", "+k.alg)
			return false
		}
	}
	id := "d:" + live[0].short()
	o.body.Compat = id
	o.body.Versions = append(o.body.Versions, version{ID: id, Key: slices.Clone(live[0].original[:]), Created: r.cfg.Now().UTC().Truncate(time.Second)})
	return true
}

// write stores the ring and believes only what it reads back. A store that lost an acknowledged write is an error; one that
// kept a write which it reported lost is a success.
func (r *Ring) write(ctx context.Context, old []byte, want *openRing, keys []TLSKey) error {
	raw, err := want.seal()
	if err != nil {
		return err
	}
	wrote := r.cfg.Store.CompareAndSwap(ctx, r.storeKey(), old, raw, time.Time{})
	back, err := r.cfg.Store.Get(ctx, r.storeKey())
	switch {
	case err == nil && bytes.Equal(back, raw):
	case wrote != nil:
		return fmt.Errorf("writing ring %q: %w: %w", r.cfg.Name, ErrWaiting, wrote)
	case err != nil:
		return fmt.Errorf("reading ring %q back: %w: %w", r.cfg.Name, ErrWaiting, err)
	default:
		// Acknowledged, and already something else: a peer was quick, or the write is gone. The next look tells.
		return fmt.Errorf("reading ring %q back: %w", r.cfg.Name, store.ErrConflict)
	}
	if err := opensWith(back, want, keys); err != nil {
		return fmt.Errorf("writing ring %q: %w: %w", r.cfg.Name, ErrWaiting, err)
	}
	return nil
}

func (r *Ring) storeKey() string { return labelStore + "/" + r.cfg.Name }

// mergeKeys joins two lists; the first mention of a key counts.
func mergeKeys(a, b []TLSKey) []TLSKey {
	var out []TLSKey
	for _, k := range slices.Concat(a, b) {
		if !slices.ContainsFunc(out, func(o TLSKey) bool { return o.kid == k.kid }) {
			out = append(out, k)
		}
	}
	return out
}
