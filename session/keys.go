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

	"github.com/anteroom-proxy/anteroom/store"
)

// signingKey is one Ed25519 key. It prints as its public name only.
type signingKey struct {
	kid     string
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	retired bool // verifies, but signs no more
}

func (k *signingKey) String() string               { return "session.signingKey(" + k.kid + ")" }
func (k *signingKey) GoString() string             { return k.String() }
func (k *signingKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }
func (k *signingKey) LogValue() slog.Value         { return slog.StringValue(k.String()) }

// ring is the key set of one moment; it is replaced, never changed.
type ring struct {
	keys    []*signingKey // the first one signs
	sealed  []byte        // as stored: equal bytes need no second look
	jwks    []byte
	current *signingKey
}

// find returns the key of that name, compared byte by byte, or nil. A nil ring
// has none.
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

// storedKeys is what lies in the store, sealed.
type storedKeys struct {
	Keys []storedKey `json:"keys"`
}

type storedKey struct {
	Seed    []byte `json:"seed"` // RFC 8032 private key, 32 bytes
	Retired bool   `json:"retired,omitempty"`
}

// loadRing reads the key set and makes it when the store has none. Of two
// managers that do so at once the store lets one write; the other reads that.
func (m *Manager) loadRing(ctx context.Context) (*ring, error) {
	sealed, err := m.store.Get(ctx, labelStoreKeys)
	if errors.Is(err, store.ErrNotFound) {
		if sealed, err = m.makeKeys(ctx); err != nil {
			return nil, err
		}
		err = m.store.CompareAndSwap(ctx, labelStoreKeys, nil, sealed, neverExpires)
		if err == nil {
			m.log.Info("made new session signing keys")
		}
		if errors.Is(err, store.ErrConflict) {
			sealed, err = m.store.Get(ctx, labelStoreKeys)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading session signing keys: %w", err)
	}
	if r := m.ring.Load(); r != nil && bytes.Equal(r.sealed, sealed) {
		return r, nil
	}
	return m.openRing(ctx, sealed)
}

func (m *Manager) makeKeys(ctx context.Context) ([]byte, error) {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	defer clear(seed)
	plain, err := json.Marshal(storedKeys{Keys: []storedKey{{Seed: seed}}})
	if err != nil {
		return nil, fmt.Errorf("making session signing keys: %w", err)
	}
	defer clear(plain)
	sealed, err := m.sealer.Seal(ctx, labelSealKeys, plain)
	if err != nil {
		return nil, fmt.Errorf("sealing session signing keys: %w", err)
	}
	return sealed, nil
}

// openRing unseals a key set. A set that does not open is an error and is never
// replaced by a new one: every session would end, and a wrong master key would
// look like a fresh start.
func (m *Manager) openRing(ctx context.Context, sealed []byte) (*ring, error) {
	plain, err := m.sealer.Open(ctx, labelSealKeys, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening session signing keys, which were sealed with another master key or are damaged (restore the master key; or delete %q from the store, which ends every session): %w", labelStoreKeys, err)
	}
	defer clear(plain)
	var stored storedKeys
	decoder := json.NewDecoder(bytes.NewReader(plain))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&stored); err != nil || decoder.More() {
		return nil, errors.New("reading session signing keys: the record is not of a form that this version knows")
	}
	r := &ring{sealed: sealed}
	for _, sk := range stored.Keys {
		if len(sk.Seed) != ed25519.SeedSize {
			return nil, errors.New("reading session signing keys: a seed has the wrong length")
		}
		private := ed25519.NewKeyFromSeed(sk.Seed)
		clear(sk.Seed)
		k := &signingKey{private: private, public: private.Public().(ed25519.PublicKey), retired: sk.Retired}
		k.kid = thumbprint(k.public)
		if r.find(k.kid) != nil {
			return nil, errors.New("reading session signing keys: the same key twice")
		}
		r.keys = append(r.keys, k)
		if r.current == nil && !k.retired {
			r.current = k
		}
	}
	if r.current == nil {
		return nil, errors.New("reading session signing keys: none of them may sign")
	}
	return r, r.publish()
}

// thumbprint names a key by itself (RFC 7638, RFC 8037 appendix A.3), so that
// two keys never share a name.
func thumbprint(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// publish writes the public parts as a JWK set (RFC 7517, RFC 8037).
func (r *ring) publish() error {
	type jwk struct {
		Type  string `json:"kty"`
		Curve string `json:"crv"`
		X     string `json:"x"`
		Kid   string `json:"kid"`
		Use   string `json:"use"`
		Alg   string `json:"alg"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range r.keys {
		set.Keys = append(set.Keys, jwk{"OKP", "Ed25519", base64.RawURLEncoding.EncodeToString(k.public), k.kid, "sig", "EdDSA"})
	}
	var err error
	if r.jwks, err = json.Marshal(set); err != nil {
		return fmt.Errorf("publishing session keys: %w", err)
	}
	return nil
}

// JWKS returns the public keys as a JWK set (RFC 7517), for jwks.json. Before
// Start the set is empty.
func (m *Manager) JWKS() []byte {
	r := m.ring.Load()
	if r == nil {
		return []byte(`{"keys":[]}`)
	}
	return bytes.Clone(r.jwks)
}
