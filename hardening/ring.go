package hardening

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// RingConfig is what a [Ring] needs. Store and Keys are required, and one of Recovery, NoRecovery and KMS.
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
	// KMS is a key management service as a further recipient, and the only one of TLS keys that cannot be exported. Nil: none.
	KMS Wrapper
	// Existing says that the ring must be there already, or will be imported: none is made.
	Existing bool
	// Mark is where this node notes what it has seen of the ring. Nil: nowhere.
	Mark Mark
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

	syncing  sync.Mutex // one look at a time; guards reported and kmsAgain
	reported string     // the last trouble told to the operator
	kmsAgain time.Time  // no earlier try to wrap for a KMS that does not answer

	marked      uint64 // epoch that was last noted in cfg.Mark, guarded by syncing
	markedRing  string // and of which ring
	markTrouble string // why it could not be noted, as that was last said

	mu        sync.Mutex    // guards what follows
	open      *openRing     // nil until the ring was opened once
	err       error         // what the last look met
	changed   chan struct{} // closed at each look, and replaced
	live      []string      // names of the live TLS keys, as of the last look
	refreshed time.Time     // the last look for a record's sake
	behind    bool          // the store has a newer state of the open ring that does not open here
}

// NewRing checks the configuration. It does not touch the store.
func NewRing(cfg RingConfig) (*Ring, error) {
	switch {
	case cfg.Store == nil || cfg.Keys == nil:
		return nil, errors.New("making ring: Store and Keys are required")
	case cfg.Name == "" || len(cfg.Name) > 128 || strings.Trim(cfg.Name, ringNameChars) != "":
		return nil, fmt.Errorf("making ring: the name %q is not 1 to 128 characters of letters, digits and . _ * : -", cfg.Name)
	case cfg.Recovery == nil && !cfg.NoRecovery && cfg.KMS == nil:
		return nil, errors.New("making ring: neither a recovery key, nor a KMS, nor no_recovery")
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
const maxTries = 20

// Sync looks at the store once: it opens the ring, makes it when there is none, and wraps it for every live key and for the
// keys in next. Call it with the new key of a renewal before that key is served: only then are both at hand.
//
// An error leaves an opened ring as it was: a lost store does not stop a service that holds its peppers.
func (r *Ring) Sync(ctx context.Context, next ...TLSKey) error {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	live, err := r.cfg.Keys(ctx)
	r.setLive(live)
	if err == nil || len(live) > 0 || r.cfg.KMS != nil {
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
	for round := range maxTries {
		if err := r.again(ctx, round); err != nil {
			return err
		}
		old, err := r.load(ctx)
		if err != nil {
			return err
		}
		absent := old == nil
		cur, err := r.read(ctx, old, keys)
		if err != nil {
			return err
		}
		if !absent {
			r.publish(cur, nil)
		}
		want, changed, err := r.update(ctx, cur, live, keys)
		if err != nil {
			return err
		}
		if !changed && !absent {
			return nil
		}
		switch err := r.write(ctx, old, want, want.wrappable(keys)); {
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
	return r.racesLost()
}

// again goes before each try, and waits a random moment when one was lost: all nodes wrap the ring at the same renewal.
func (r *Ring) again(ctx context.Context, round int) error {
	if err := store.Pause(ctx, round); err != nil {
		return fmt.Errorf("writing ring %q: %w: %w", r.cfg.Name, ErrWaiting, err)
	}
	return nil
}

func (r *Ring) racesLost() error {
	return fmt.Errorf("writing ring %q: %w: lost %d races for the store", r.cfg.Name, ErrWaiting, maxTries)
}

// load returns the store's bytes, nil when there are none.
func (r *Ring) load(ctx context.Context) ([]byte, error) {
	raw, err := r.cfg.Store.Get(ctx, r.storeKey())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading ring %q: %w: %w", r.cfg.Name, ErrWaiting, err)
	case raw == nil:
		raw = []byte{} // there, and empty
	}
	return raw, nil
}

// read turns the store's bytes into an opened ring. This is the place that never makes a second ring: a fresh one comes
// only from a store that says "absent", with a live key at hand, to a process that has not held this ring before.
func (r *Ring) read(ctx context.Context, raw []byte, keys []TLSKey) (*openRing, error) {
	held := r.held()
	if raw == nil {
		return r.begin(held, keys)
	}
	if held != nil && held.sum == sha256.Sum256(raw) {
		return held, nil
	}
	f, err := readRingFile(raw)
	if err != nil {
		return nil, r.locked(fmt.Errorf("%w; restore the store from a backup", err))
	}
	if held != nil && (f.Ring != held.file.Ring || f.Epoch <= held.file.Epoch) {
		// A ring that goes back, or becomes another one, is somebody's old backup or his attack: what we hold stays.
		return nil, r.locked(fmt.Errorf("the store holds ring %s epoch %d where ring %s epoch %d was; restore the newest backup", f.Ring, f.Epoch, held.file.Ring, held.file.Epoch))
	}
	if held == nil {
		if err := r.checkMark(f.Ring, f.Epoch); err != nil {
			return nil, err
		}
	}
	o, err := r.unlock(ctx, f, held, keys)
	if err != nil {
		if held != nil {
			r.fallBehind()
		}
		return nil, err
	}
	o.sum = sha256.Sum256(raw)
	if held != nil {
		if err := o.inherits(held); err != nil {
			return nil, r.locked(fmt.Errorf("the store holds another line of this ring: %w; restore the newest backup", err))
		}
	}
	return o, nil
}

// begin answers a store that has no ring.
func (r *Ring) begin(held *openRing, keys []TLSKey) (*openRing, error) {
	switch {
	case held != nil:
		r.cfg.Logger.Error("the password ring has vanished from its store and is put back; was the store replaced under a running program?", "ring", r.cfg.Name)
		return held, nil
	case r.secret != nil:
		return nil, fmt.Errorf("opening ring %q: there is no such ring in this store", r.cfg.Name)
	case r.cfg.Existing:
		return nil, fmt.Errorf("opening ring %q: %w: it is not in the store yet, and the configuration says that it exists: import it with 'anteroom keys ring import', or restore the store from a backup", r.cfg.Name, ErrWaiting)
	case len(keys) == 0:
		return nil, fmt.Errorf("making ring %q: %w", r.cfg.Name, errNoKey)
	}
	if err := r.checkAbsent(); err != nil {
		return nil, err
	}
	return freshRing(r.cfg.Now()), nil
}

// unlock opens a ring with whatever recipient is at hand: the TLS keys, the file key of the ring as we know it, and the
// KMS last, because it is a question over the network.
func (r *Ring) unlock(ctx context.Context, f ringFile, held *openRing, keys []TLSKey) (*openRing, error) {
	if fileKey := unwrap(f, keys, r.secret); fileKey != nil {
		return r.openWith(f, fileKey)
	}
	if held != nil {
		if o, err := openBody(f, held.fileKey); err == nil {
			return o, nil
		}
	}
	fileKey, err := r.unwrapKMS(ctx, f)
	switch {
	case fileKey != nil:
		return r.openWith(f, fileKey)
	case err != nil:
		return nil, fmt.Errorf("opening ring %q: %w: it is wrapped for %s, none of the live TLS keys %v is among them, and the KMS does not open it: %w", r.cfg.Name, ErrWaiting, stanzaNames(f), keys, err)
	case len(keys) == 0 && r.secret == nil:
		return nil, fmt.Errorf("opening ring %q: %w", r.cfg.Name, errNoKey)
	case r.secret != nil:
		return nil, r.locked(fmt.Errorf("this recovery key is not one of its recipients, which are %s", stanzaNames(f)))
	}
	return nil, r.locked(fmt.Errorf("it is wrapped for %s, and the live TLS keys are %v; put the earlier key back, or run 'anteroom keys ring recover --key FILE' with the recovery key beside the running program; when it is stopped, 'anteroom keys ring recover --key FILE --cert-key FILE' with the site's private key", stanzaNames(f), keys))
}

func (r *Ring) openWith(f ringFile, fileKey []byte) (*openRing, error) {
	o, err := openBody(f, fileKey)
	if err != nil {
		return nil, r.locked(fmt.Errorf("%w; restore the store from a backup", err))
	}
	return o, nil
}

func (r *Ring) locked(cause error) error {
	return fmt.Errorf("opening ring %q: %w: %w", r.cfg.Name, ErrLocked, cause)
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
	want.sum = sha256.Sum256(back)
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
