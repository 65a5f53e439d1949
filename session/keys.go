package session

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// purpose is what the keys of one ring sign. Each has its own record under its
// own seal label: a record that is put in the place of the other one does not
// open, so that no key ever signs two kinds of token.
type purpose struct{ use, record, seal string }

var (
	forSessions   = &purpose{"session", labelStoreKeys, labelSealKeys}
	forAssertions = &purpose{"assertion", labelStoreAssertionKeys, labelSealAssertionKeys}
	purposes      = [...]*purpose{forSessions, forAssertions}
)

// keychain is what a Manager knows about keys beside the session ring.
type keychain struct {
	assertions atomic.Pointer[ring]
	minted     mint

	// mu is held from reading a record to using it: what an older record says
	// never replaces what a newer one or a kill has said.
	mu      sync.Mutex
	killed  map[string]struct{} // kids that this process accepts never again
	made    map[string]struct{} // kids of keys that this process made
	failing bool                // the record could not be written
}

func (k *keychain) init() {
	k.killed, k.made = make(map[string]struct{}), make(map[string]struct{})
	k.minted.init(mintEntries)
}

// signingKey is one Ed25519 key. Its times are Unix seconds. It prints as its
// public name only.
type signingKey struct {
	kid     string
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	created int64
	signs   int64 // from then on it signs
	retires int64 // from then on its successor does; 0: there is none yet
	until   int64 // from then on nothing that it signed is alive
}

func (k signingKey) String() string               { return "session.signingKey(" + k.kid + ")" }
func (k signingKey) GoString() string             { return k.String() }
func (k signingKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }
func (k signingKey) LogValue() slog.Value         { return slog.StringValue(k.String()) }

func newSigningKey(seed []byte) *signingKey {
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	return &signingKey{kid: thumbprint(public), private: private, public: public}
}

// ring is the key set of one moment; it is replaced, never changed.
type ring struct {
	keys   []*signingKey
	killed []tombstone // oldest first
	sealed []byte      // as stored: equal bytes need no second look
}

// find returns the key of that name, compared byte by byte, or nil. A nil ring
// has none. It asks nobody: a name that is made up costs no store a thing.
func (r *ring) find(kid string) *signingKey {
	if r == nil {
		return nil
	}
	for _, k := range r.keys {
		if k.kid == kid {
			return k
		}
	}
	return nil
}

// signer returns the key that signs at that moment: of those that have no successor
// yet the newest that has begun. By a clock that runs behind the one that made the
// record all may be of the future: the first one signs.
func (r *ring) signer(now time.Time) *signingKey {
	if r == nil {
		return nil
	}
	var signing, first *signingKey
	for _, k := range r.keys {
		switch {
		case k.retires != 0 && k.retires <= now.Unix():
		case k.signs <= now.Unix() && (signing == nil || k.signs > signing.signs):
			signing = k
		case first == nil || k.signs < first.signs:
			first = k
		}
	}
	if signing == nil {
		return first
	}
	return signing
}

// without returns the ring without what was killed. It then differs from what is
// stored and does not pass for it, so that the next poll mends the record.
func (r *ring) without(killed map[string]struct{}) *ring {
	dead := func(k *signingKey) bool { _, dead := killed[k.kid]; return dead }
	if !slices.ContainsFunc(r.keys, dead) {
		return r
	}
	return &ring{keys: slices.DeleteFunc(slices.Clone(r.keys), dead), killed: r.killed}
}

// storedKeys is what lies in the store, sealed. Version 0.1 wrote keys without
// times, of which the first that was not retired signed.
type storedKeys struct {
	Keys   []storedKey `json:"keys"`
	Killed []tombstone `json:"killed,omitempty"`
}

type storedKey struct {
	Seed    seedBytes `json:"seed"` // RFC 8032 private key, 32 bytes
	Retired bool      `json:"retired,omitempty"`
	Created int64     `json:"created,omitempty"`
	Signs   int64     `json:"signs,omitempty"`
	Retires int64     `json:"retires,omitempty"`
	Until   int64     `json:"until,omitempty"`
}

// tombstone stays in the record for a key that was killed.
type tombstone struct {
	KID string `json:"kid"`
	At  int64  `json:"at"`
}

// seedBytes does not print. It has no MarshalJSON, as the record needs it.
type seedBytes []byte

func (s seedBytes) String() string       { return "session.seedBytes" }
func (s seedBytes) GoString() string     { return s.String() }
func (s seedBytes) LogValue() slog.Value { return slog.StringValue(s.String()) }

// sealRing makes the record of a ring.
func (m *Manager) sealRing(ctx context.Context, p *purpose, r *ring) ([]byte, error) {
	stored := storedKeys{Killed: r.killed}
	for _, k := range r.keys {
		stored.Keys = append(stored.Keys, storedKey{
			Seed: k.private.Seed(), Created: k.created, Signs: k.signs, Retires: k.retires, Until: k.until,
		})
	}
	plain, err := json.Marshal(stored)
	defer clear(plain)
	for _, sk := range stored.Keys {
		clear(sk.Seed)
	}
	if err != nil {
		return nil, fmt.Errorf("making %s signing keys: %w", p.use, err)
	}
	sealed, err := m.sealer.Seal(ctx, p.seal, plain)
	if err != nil {
		return nil, fmt.Errorf("sealing %s signing keys: %w", p.use, err)
	}
	return sealed, nil
}

// openRing unseals a key set. A set that does not open is an error and is never
// replaced by a new one: every session would end, and a wrong master key would
// look like a fresh start.
func (m *Manager) openRing(ctx context.Context, p *purpose, sealed []byte) (*ring, error) {
	plain, err := m.sealer.Open(ctx, p.seal, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening %s signing keys, which were sealed with another master key or are damaged (restore the master key; or delete %q from the store, which ends all that they signed): %w", p.use, p.record, err)
	}
	defer clear(plain)
	var stored storedKeys
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&stored); err != nil || decoder.More() {
		return nil, fmt.Errorf("reading %s signing keys: the record is not of a form that this version knows", p.use)
	}
	r, err := stored.ring()
	if err != nil {
		return nil, fmt.Errorf("reading %s signing keys: %w", p.use, err)
	}
	r.sealed = sealed
	return r, nil
}

func (s *storedKeys) ring() (*ring, error) {
	r := &ring{killed: s.Killed}
	signs := false
	for _, sk := range s.Keys {
		if len(sk.Seed) != ed25519.SeedSize {
			return nil, errors.New("a seed has the wrong length")
		}
		k := newSigningKey(sk.Seed)
		clear(sk.Seed)
		k.created, k.signs, k.retires, k.until = sk.Created, sk.Signs, sk.Retires, sk.Until
		if sk.Retired {
			k.retires = retiredBefore
		}
		switch {
		case r.find(k.kid) != nil:
			return nil, errors.New("the same key twice")
		case min(k.created, k.signs, k.retires, k.until) < 0, sk.Retired && sk.Signs != 0, k.retires == 0 && k.until != 0:
			return nil, errors.New("the times of a key contradict each other")
		}
		r.keys = append(r.keys, k)
		signs = signs || k.retires == 0
	}
	if !signs {
		return nil, errors.New("none of them may sign")
	}
	for _, t := range r.killed {
		if !isKID(t.KID) {
			return nil, errors.New("a tombstone names no key")
		}
	}
	return r, nil
}

// newSeed returns 32 random bytes. rand.Read never fails.
func newSeed() []byte {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return seed
}

// thumbprint names a key by itself (RFC 7638, RFC 8037 appendix A.3), so that
// two keys never share a name.
func thumbprint(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// isKID accepts what thumbprint makes.
func isKID(s string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(raw) == sha256.Size && len(s) == kidLength
}
