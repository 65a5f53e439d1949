package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
// there and does not open is never replaced by itself: the provider knows the old
// key, and somebody has to find out why. keychange.go replaces it on demand.
type madeKey struct {
	label string // seals it; with a hash the name in the store
	owner keyOwner
	now   func() time.Time

	turn   chan struct{} // holds one while somebody looks at what follows
	from   Resources
	ready  *heldKeys
	looked time.Time // when the store was asked last
}

const (
	// keyFresh is how long a node uses a key before it looks whether another one
	// has replaced it.
	keyFresh = 10 * time.Second
	// keyLook bounds that look, for the key that is there is good meanwhile.
	keyLook = 2 * time.Second
)

func newMadeKey(label string, owner keyOwner, now func() time.Time) *madeKey {
	return &madeKey{label: label, owner: owner, now: now, turn: make(chan struct{}, 1)}
}

// keyOwner ties a key to one client of one provider, inside what is sealed: a
// record that somebody moved to another place of the store is not taken.
type keyOwner struct {
	Issuer string `json:"iss"`
	Client string `json:"client"`
}

// keyRecord is a key in the store. Versions that know the first three members only
// sign with the right one after a restart.
type keyRecord struct {
	keyOwner
	Key     []byte       `json:"key"`               // PKCS #8
	Created int64        `json:"created,omitempty"` // Unix; 0: not known
	Next    *nextRecord  `json:"next,omitempty"`
	Former  []formerPart `json:"former,omitempty"`
}

// nextRecord is a key that is published and does not sign yet.
type nextRecord struct {
	Key     []byte `json:"key"`
	Created int64  `json:"created"`
}

// formerPart is a key that is still published and signs no more: its private half
// is gone.
type formerPart struct {
	Public []byte `json:"public"` // PKIX
	Until  int64  `json:"until"`
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

// take waits for the turn. Whoever waits for a store that hangs stops when their
// own time is over.
func (k *madeKey) take(ctx context.Context) (leave func(), err error) {
	select {
	case k.turn <- struct{}{}:
		return func() { <-k.turn }, nil
	case <-ctx.Done():
		return nil, fail(identity.ErrUnavailable, "cancelled", ctx.Err())
	}
}

// get gives the key that signs.
func (k *madeKey) get(ctx context.Context) (crypto.Signer, error) {
	held, err := k.held(ctx)
	if err != nil {
		return nil, err
	}
	return held.signs, nil
}

// held gives the keys, from the store when that was not asked for a while. Failures
// are of kind [identity.ErrUnavailable]; a store that does not answer leaves the keys
// that were read before.
func (k *madeKey) held(ctx context.Context) (*heldKeys, error) {
	leave, err := k.take(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	now := k.now()
	if k.ready != nil {
		if age := now.Sub(k.looked); age >= 0 && age < keyFresh {
			return k.ready, nil
		}
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, keyLook)
		defer cancel()
	}
	held, err := k.load(ctx)
	switch {
	case err == nil:
		k.ready = held
	case k.ready == nil:
		return nil, fail(identity.ErrUnavailable, "client.key", err)
	}
	k.looked = now
	return k.ready, nil
}

// load reads the keys, and makes the first one.
func (k *madeKey) load(ctx context.Context) (*heldKeys, error) {
	for range 2 { // the second time another node was faster
		held, err := k.read(ctx)
		if !errors.Is(err, store.ErrNotFound) {
			return held, err
		}
		if k.ready != nil { // the store lost what the provider knows: it is put back
			again := *k.ready
			held = &again
		} else {
			held = &heldKeys{created: k.now()}
			if held.signs, err = makeKey(); err != nil {
				return nil, err
			}
		}
		err = k.write(ctx, nil, held)
		if err == nil {
			return held, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
	}
	return nil, errors.New("loading client key: it comes and goes in the store")
}

// read reads the keys; store.ErrNotFound when there are none yet.
func (k *madeKey) read(ctx context.Context) (*heldKeys, error) {
	if k.from.Store == nil || k.from.Sealer == nil {
		return nil, errors.New("loading client key: there is no store to keep it in")
	}
	sealed, err := k.from.Store.Get(ctx, k.name())
	if err != nil {
		return nil, fmt.Errorf("loading client key: %w", err)
	}
	if k.ready != nil && bytes.Equal(sealed, k.ready.sealed) {
		return k.ready, nil
	}
	return k.open(ctx, sealed)
}

// write puts keys in the place of what was read, and notes the bytes in them.
func (k *madeKey) write(ctx context.Context, was []byte, keys *heldKeys) error {
	sealed, err := k.seal(ctx, keys)
	if err != nil {
		return err
	}
	if err := k.from.Store.CompareAndSwap(ctx, k.name(), was, sealed, time.Time{}); err != nil {
		return fmt.Errorf("storing client key: %w", err)
	}
	keys.sealed = sealed
	return nil
}

// name is where the key lies. Both parts of the owner are what an operator or a
// provider wrote: they are hashed, with their lengths.
func (k *madeKey) name() string {
	text := fmt.Sprintf("%s\n%d:%s%d:%s", labelKeyID, len(k.owner.Issuer), k.owner.Issuer, len(k.owner.Client), k.owner.Client)
	sum := sha256.Sum256([]byte(text))
	return k.label + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// JWKS is the set of our public keys that the provider fetches (RFC 7517): the
// one for private_key_jwt, or the one of our own certificate. Without either it is
// nil. See identity.Published.
func (s *Source) JWKS(ctx context.Context) ([]byte, error) {
	var members []map[string]any
	switch {
	case s.config.Client.Auth == privateKeyJWT && s.given.signer == nil:
		held, err := s.signs.held(ctx)
		if err != nil {
			return nil, err
		}
		for _, public := range held.published(s.now()) {
			members = append(members, s.signingMember(public))
		}
	case s.config.Client.Auth == privateKeyJWT:
		members = []map[string]any{s.signingMember(s.given.signer.Public())}
	case s.config.Client.Auth == selfSignedTLS:
		leaf, err := leafOf(s.config.Fetch.Certificate)
		if err != nil {
			return nil, fail(identity.ErrUnavailable, "client.key", err)
		}
		// RFC 8705, section 2.2.2
		members = []map[string]any{{publicMember: leaf.PublicKey, "use": "sig", "x5c": []string{base64.StdEncoding.EncodeToString(leaf.Raw)}}}
	default:
		return nil, nil
	}
	for _, member := range members {
		if err := spellOut(member); err != nil {
			return nil, fail(identity.ErrUnavailable, "client.key", err)
		}
	}
	text, err := json.Marshal(map[string]any{"keys": members})
	if err != nil {
		return nil, fail(identity.ErrUnavailable, "client.key", err)
	}
	return text, nil
}

// publicMember stands for the key in a member of a set until spellOut.
const publicMember = ""

// signingMember is a key that signs assertions. An RSA key may sign with either of
// two algorithms: which is said by nobody before the provider's metadata was read.
func (s *Source) signingMember(public crypto.PublicKey) map[string]any {
	member := map[string]any{publicMember: public, "use": "sig"}
	if algs := s.keyAlgs(public); len(algs) == 1 {
		member["alg"] = algs[0]
	}
	return member
}

// spellOut writes the key and its name into a member.
func spellOut(member map[string]any) error {
	public := member[publicMember]
	delete(member, publicMember)
	own, err := jws.JWK(public)
	if err != nil {
		return err
	}
	maps.Copy(member, own)
	member["kid"], err = jws.Thumbprint(public)
	return err
}
