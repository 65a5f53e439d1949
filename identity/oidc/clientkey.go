package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
)

// Sealer encrypts what lies in the store. A sealed value opens under its own
// label only.
type Sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Resources are what all nodes share.
type Resources struct {
	Store  store.Store
	Sealer Sealer
}

// Use says where keys that are made here are kept. It is called once, before the
// first sign-in. A source that makes no keys does not need it.
func (s *Source) Use(r Resources) {
	s.signs.use(r)
	s.proves.use(r)
}

// madeKey is a private key that some node made the first time one was needed:
// sealed in the store, the same for all nodes and after every restart. What lies
// there and does not open is never replaced: the provider knows the old key, and
// somebody has to find out why.
type madeKey struct {
	label string // seals it; with a hash the name in the store
	owner keyOwner

	turn  chan struct{} // holds one while somebody looks at what follows
	from  Resources
	ready crypto.Signer
}

func newMadeKey(label string, owner keyOwner) *madeKey {
	return &madeKey{label: label, owner: owner, turn: make(chan struct{}, 1)}
}

// keyOwner ties a key to one client of one provider, inside what is sealed: a
// record that somebody moved to another place of the store is not taken.
type keyOwner struct {
	Issuer string `json:"iss"`
	Client string `json:"client"`
}

// keyRecord is a key in the store.
type keyRecord struct {
	keyOwner
	Key []byte `json:"key"` // PKCS #8
}

// String, GoString and MarshalJSON name the purpose and nothing else.
func (k *madeKey) String() string               { return "oidc.madeKey(" + k.label + ")" }
func (k *madeKey) GoString() string             { return k.String() }
func (k *madeKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

func (k *madeKey) use(r Resources) {
	k.turn <- struct{}{}
	defer func() { <-k.turn }()
	k.from = r
}

// get gives the key, from the store when it is asked for the first time. Failures
// are of kind [identity.ErrUnavailable]. Whoever waits for a store that hangs stops
// when their own time is over.
func (k *madeKey) get(ctx context.Context) (crypto.Signer, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, fail(identity.ErrUnavailable, "cancelled", ctx.Err())
	}
	if k.ready != nil {
		return k.ready, nil
	}
	key, err := k.load(ctx)
	if err != nil {
		return nil, fail(identity.ErrUnavailable, "client.key", err)
	}
	k.ready = key
	return key, nil
}

func (k *madeKey) load(ctx context.Context) (crypto.Signer, error) {
	if k.from.Store == nil || k.from.Sealer == nil {
		return nil, errors.New("loading client key: there is no store to keep it in")
	}
	for range 2 { // the second time another node was faster
		sealed, err := k.from.Store.Get(ctx, k.name())
		if err == nil {
			return k.open(ctx, sealed)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("loading client key: %w", err)
		}
		key, sealed, err := k.make(ctx)
		if err != nil {
			return nil, err
		}
		err = k.from.Store.CompareAndSwap(ctx, k.name(), nil, sealed, time.Time{})
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, fmt.Errorf("storing client key: %w", err)
		}
	}
	return nil, errors.New("loading client key: it comes and goes in the store")
}

// name is where the key lies. Both parts of the owner are what an operator or a
// provider wrote: they are hashed, with their lengths.
func (k *madeKey) name() string {
	text := fmt.Sprintf("%s\n%d:%s%d:%s", labelKeyID, len(k.owner.Issuer), k.owner.Issuer, len(k.owner.Client), k.owner.Client)
	sum := sha256.Sum256([]byte(text))
	return k.label + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func (k *madeKey) make(ctx context.Context) (crypto.Signer, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making client key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("making client key: %w", err)
	}
	defer clear(der)
	text, err := json.Marshal(keyRecord{k.owner, der})
	if err != nil {
		return nil, nil, fmt.Errorf("making client key: %w", err)
	}
	defer clear(text)
	sealed, err := k.from.Sealer.Seal(ctx, k.label, text)
	if err != nil {
		return nil, nil, fmt.Errorf("sealing client key: %w", err)
	}
	return key, sealed, nil
}

func (k *madeKey) open(ctx context.Context, sealed []byte) (crypto.Signer, error) {
	text, err := k.from.Sealer.Open(ctx, k.label, sealed)
	if err != nil {
		return nil, fmt.Errorf("opening client key: %w; it is not replaced, because the provider knows it: bring back the master key that sealed it", err)
	}
	defer clear(text)
	var record keyRecord
	if err := json.Unmarshal(text, &record); err != nil || record.keyOwner != k.owner {
		return nil, errors.New("opening client key: the record is another client's")
	}
	defer clear(record.Key)
	parsed, err := x509.ParsePKCS8PrivateKey(record.Key)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("opening client key: the record holds no key")
	}
	return key, nil
}

// JWKS is the set of our public keys that the provider fetches (RFC 7517): the
// one for private_key_jwt, or the one of our own certificate. Without either it is
// nil. See identity.Published.
func (s *Source) JWKS(ctx context.Context) ([]byte, error) {
	var public crypto.PublicKey
	var member map[string]any
	switch s.config.Client.Auth {
	case privateKeyJWT:
		key, err := s.clientKey(ctx)
		if err != nil {
			return nil, err
		}
		public, member = key.Public(), map[string]any{"use": "sig"}
		// An RSA key may sign with either of two: which is said by nobody
		// before the provider's metadata was read.
		if algs := s.keyAlgs(public); len(algs) == 1 {
			member["alg"] = algs[0]
		}
	case selfSignedTLS:
		leaf, err := leafOf(s.config.Fetch.Certificate)
		if err != nil {
			return nil, fail(identity.ErrUnavailable, "client.key", err)
		}
		// RFC 8705, section 2.2.2
		public, member = leaf.PublicKey, map[string]any{"use": "sig", "x5c": []string{base64.StdEncoding.EncodeToString(leaf.Raw)}}
	default:
		return nil, nil
	}
	own, err := jws.JWK(public)
	if err != nil {
		return nil, fail(identity.ErrUnavailable, "client.key", err)
	}
	for name, value := range own {
		member[name] = value
	}
	if member["kid"], err = jws.Thumbprint(public); err != nil {
		return nil, fail(identity.ErrUnavailable, "client.key", err)
	}
	text, err := json.Marshal(map[string]any{"keys": []any{member}})
	if err != nil {
		return nil, fail(identity.ErrUnavailable, "client.key", err)
	}
	return text, nil
}
