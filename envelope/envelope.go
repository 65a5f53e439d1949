// Package envelope seals what Anteroom stores or hands to a browser for safe keeping
// (signing keys, sign-in attempts, provider tokens) and what local applications ask it
// to. Values are sealed under data keys; data keys lie in a ring in the store, wrapped
// by a master key, which is a file (Local) or in a KMS (envelope/awskms).
//
// Call New, then Start, which reads the ring or makes the first one, and let Follow run.
// Then Seal and Open. Each takes a label, a constant that names the purpose
// (`anteroom/<package>/<purpose>/v1`): what was sealed under one label does not open
// under another, so that a sealed sign-in attempt from a browser can never pass for a
// sealed signing key from the store.
//
// A sealed value is
//
//	version (1) ‖ key id (8) ‖ nonce (24) ‖ ciphertext and tag (length + 16)
//
// Version 2: XAES-256-GCM (c2sp.org/XAES-256-GCM) under a key that HKDF-SHA-256 (RFC
// 5869) derives from the data key for each ring and label. Version 1, which still opens
// in the ring "own": XChaCha20-Poly1305 under a key that is derived from the local master
// itself. The first nine bytes and the label are associated data. Nonces are random: with
// 192 bits, 2^80 values under one key collide with a probability of 2^-32.
//
// It promises that Open gives back exactly what Seal was given, or an error; it never
// panics, whatever the bytes. There is no other key and no clear text to fall back to:
// when the master is away and the data key in memory has reached its limit of age or
// use, the answer is ErrUnavailable. After Condemn and Lag no node seals under the
// condemned key: a node that has not seen the ring for ten seconds looks before it seals.
// A ring is proved by a master, so that write access to the store does not suffice to
// plant one, and a running node never goes back to an older one.
//
// It trusts the master, and the file system to keep a key file from other users. Whoever
// may use the master opens everything. A node that starts without a Mark believes the ring
// that it finds, also one that was set back. What is left to the caller: freshness (an old sealed value opens as well as a
// new one), padding (the length of the plaintext shows), and keeping the master: without
// it nothing that was sealed can be opened again.
package envelope

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
)

// Config says what an Envelope works with. Name, Master and Store are required.
type Config struct {
	Name   string   // of the ring: "own" is what Anteroom itself seals, "apps" what applications have sealed
	Master Master   // wraps new data keys
	Former []Master // open what they wrapped until Migrate
	Store  KeyStore // holds the ring

	CacheAge    time.Duration // how long a data key of a remote master is used without asking it again; default 15 minutes
	CacheUses   int64         // and how many times; default 1,000,000
	RotateAfter time.Duration // age of a primary at which Follow makes the next; default 90 days, negative: never

	Mark Mark // where this node notes what it has seen of the ring; nil: nowhere

	Audit audit.Recorder // takes what does not open (values of the service apart, which names their caller); nil: nobody

	Cache *CacheCounts // counts what data keys are asked for; nil: nobody counts

	OpenCondemned bool // Open goes on opening what is sealed under a condemned key, until it is destroyed

	Now    func() time.Time
	Logger *slog.Logger
}

// States of a data key, as KeyInfo names them.
const (
	StatePrimary   = "primary"   // seals and opens; there is exactly one
	StateOpen      = "open"      // opens what it sealed while it was the primary
	StateCondemned = "condemned" // reported as compromised: never seals again, only Reseal opens
	StateDestroyed = "destroyed" // its bytes are gone; the id is never used again
)

// KeyInfo says about a data key what everybody may know.
type KeyInfo struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // when it came to this state
	Master  string    `json:"master"`  // ID of the master that wraps it; "" when destroyed
	Wrapped time.Time `json:"wrapped"` // when it was last wrapped
}

// Envelope seals and opens under the data keys of one ring. It is made by New; the zero
// value seals nothing and opens nothing. Its methods may be called from any goroutine.
type Envelope struct {
	inner func() *core // closures, see secret.go; nil denies
	swap  func(*core)
}

var errZero = fmt.Errorf("%w: this envelope was not made by New", ErrRefused)

// New checks the configuration. It asks neither store nor master: Start does.
func New(cfg Config) (*Envelope, error) {
	c, err := newCore(cfg)
	if err != nil {
		return nil, fmt.Errorf("envelope %q: %w", cfg.Name, err)
	}
	var present atomic.Pointer[core]
	present.Store(c)
	return &Envelope{inner: present.Load, swap: present.Store}, nil
}

// Start makes an Envelope and starts it.
func Start(ctx context.Context, cfg Config) (*Envelope, error) {
	e, err := New(cfg)
	if err == nil {
		err = e.Start(ctx)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

// core is nil for the zero value.
func (e *Envelope) core() *core {
	if e == nil || e.inner == nil {
		return nil
	}
	return e.inner()
}

// Seal encrypts plaintext so that only Open with the same label and ring gives it back.
// The result is 49 bytes longer than the plaintext.
func (e *Envelope) Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if label == "" {
		return nil, ErrLabel
	}
	c := e.core()
	if c == nil {
		return nil, errZero
	}
	sealed, err := c.seal(ctx, label, plaintext)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return sealed, nil
}

// Open gives back what Seal was given. ErrSealed is for ever, ErrUnavailable is for now,
// ErrCondemned and ErrRefused say in their text what to do.
func (e *Envelope) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening a sealed value: %w", err)
	}
	c := e.core()
	if c == nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, errZero)
	}
	plain, err := c.open(ctx, label, sealed, c.cfg.OpenCondemned)
	if err != nil {
		c.refuseValue(ctx, label, sealed, err)
	}
	return plain, err
}

// Reseal brings a sealed value under the primary. It opens also what is condemned. What
// is under the primary already comes back as it is, with changed false, when it opens.
func (e *Envelope) Reseal(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("resealing: %w", err)
	}
	if label == "" {
		return nil, false, ErrLabel
	}
	c := e.core()
	if c == nil {
		return nil, false, fmt.Errorf("%w: %w", ErrSealed, errZero)
	}
	plain, err := c.open(ctx, label, sealed, true)
	if err != nil {
		c.refuseValue(ctx, label, sealed, err)
		return nil, false, err
	}
	defer clear(plain)
	v, err := c.fresh(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("resealing: %w", err)
	}
	if id, _ := KeyOf(sealed); id == v.ring.primary().ID {
		return sealed, false, nil
	}
	if out, err = c.seal(ctx, label, plain); err != nil {
		return nil, false, fmt.Errorf("resealing: %w", err)
	}
	return out, true, nil
}

// Keys lists the keys of the ring as this node last saw it, oldest first, and before them
// the local masters that version 1 values still open under.
func (e *Envelope) Keys() []KeyInfo {
	c := e.core()
	if c == nil {
		return nil
	}
	v := c.view.Load()
	if v == nil {
		return nil
	}
	var keys []KeyInfo
	for _, id := range slices.Sorted(maps.Keys(c.locals)) {
		if v.ring.key(id) == nil && c.local(id) != nil {
			keys = append(keys, KeyInfo{ID: id, State: StateOpen, Master: c.locals[id].ID()})
		}
	}
	for _, k := range v.ring.Keys {
		keys = append(keys, k.KeyInfo)
	}
	return keys
}

// Lag is how long after Condemn a node may still seal under the condemned key: it may
// not have seen the ring since, and what it began may not be finished.
func (e *Envelope) Lag() time.Duration { return lag }

const (
	freshFor = 10 * time.Second // age of what we know of the ring at which Seal looks again
	lag      = 15 * time.Second // age at which what was sealed meanwhile is thrown away
)

// seal seals under the primary. The ring that named the primary is younger than lag when
// the value is handed out.
func (c *core) seal(ctx context.Context, label string, plaintext []byte) ([]byte, error) {
	for range 3 {
		v, err := c.fresh(ctx)
		if err != nil {
			return nil, err
		}
		k, err := c.key(ctx, v.ring.primary())
		if err != nil {
			return nil, err
		}
		sealed, err := k.seal(label, plaintext)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		if !older(v.looked, c.cfg.Now(), lag) {
			return sealed, nil
		}
	}
	return nil, fmt.Errorf("%w: this machine is too slow to know which key seals", ErrUnavailable)
}

func (c *core) open(ctx context.Context, label string, sealed []byte, condemned bool) ([]byte, error) {
	id, ok := KeyOf(sealed)
	if !ok {
		if len(sealed) < overhead {
			return nil, fmt.Errorf("%w: %d bytes are too few", ErrSealed, len(sealed))
		}
		return nil, fmt.Errorf("%w: version %d is not known", ErrSealed, sealed[0])
	}
	v := c.view.Load()
	if v == nil {
		return nil, errNotStarted
	}
	entry := v.ring.key(id)
	if entry == nil && sealed[0] == version2 {
		// Another node may have made the key a moment ago.
		if err := c.look(ctx); err != nil {
			return nil, fmt.Errorf("opening what key %s sealed, which this node has not seen: %w", id, err)
		}
		if entry = c.view.Load().ring.key(id); entry == nil {
			return nil, fmt.Errorf("%w: it was sealed under key %s, which the key ring %q does not have: the store was replaced, or the value is another installation's", ErrSealed, id, c.cfg.Name)
		}
	}
	switch {
	case entry == nil: // version 1, of which the ring knows nothing: it opens
	case entry.State == StateDestroyed:
		return nil, fmt.Errorf("%w: key %s was destroyed on %s", ErrSealed, id, entry.Changed.Format(time.DateOnly))
	case entry.State == StateCondemned && !condemned:
		return nil, fmt.Errorf("%w: key %s, on %s", ErrCondemned, id, entry.Changed.Format(time.DateOnly))
	}
	if sealed[0] == version1 {
		return c.openV1(label, sealed)
	}
	k, err := c.key(ctx, entry)
	if err != nil {
		return nil, err
	}
	return k.open(label, sealed)
}
