package oidc

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

const maxKeys = 50 // in one set

// signingKey is one usable key of the provider. It verifies one algorithm.
type signingKey struct {
	kid string // may be empty
	alg string
	key crypto.PublicKey
}

// keySet holds the issuer's keys and is go-oidc's KeySet. Keys come from the
// metadata's jwks_uri only, never from a token (RFC 8725, section 3.8).
type keySet struct {
	cache *cache[[]signingKey]
	algs  []string
	log   *slog.Logger
}

func (s *Source) newKeySet(address string, algs []string) *keySet {
	k := &keySet{algs: algs, log: s.log}
	k.cache = &cache[[]signingKey]{
		now: s.now, fresh: keysFresh, keep: keysKeep,
		failed: func(err error) { s.log.Error("fetching the provider's keys", "error", err) },
		fetch: func(ctx context.Context, _ []signingKey, _ bool) ([]signingKey, error) {
			document, err := s.getJSON(ctx, address, "")
			if err != nil {
				return nil, fail(identity.ErrUnavailable, "jwks.unreachable", err)
			}
			keys, err := k.read(document)
			if err != nil {
				return nil, fail(identity.ErrUnavailable, "jwks.malformed", err)
			}
			return keys, nil
		},
	}
	return k
}

// read takes the usable keys out of a set (RFC 7517, section 5). A key that is
// not for us is skipped; a set that is no set is refused whole.
func (k *keySet) read(document jws.Claims) ([]signingKey, error) {
	var members []json.RawMessage
	if raw := document["keys"]; len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &members) != nil {
		return nil, errors.New("reading key set: no array of keys")
	}
	if len(members) > maxKeys {
		return nil, fmt.Errorf("reading key set: %d keys, at most %d", len(members), maxKeys)
	}
	var keys []signingKey
	for number, member := range members {
		key, err := readKey(member, k.algs)
		if err != nil {
			k.log.Warn("skipping a key of the provider", "number", number+1, "error", err)
			continue
		}
		keys = append(keys, key)
	}
	return dropAmbiguous(keys, k.log), nil
}

// dropAmbiguous removes keys that another key cannot be told from: same kid,
// same algorithm. Trying both would let the weaker one speak for the other.
func dropAmbiguous(keys []signingKey, log *slog.Logger) []signingKey {
	count := map[[2]string]int{}
	for _, key := range keys {
		count[[2]string{key.kid, key.alg}]++
	}
	return slices.DeleteFunc(keys, func(key signingKey) bool {
		twice := key.kid != "" && count[[2]string{key.kid, key.alg}] > 1
		if twice {
			log.Warn("skipping a key of the provider", "error", "its kid stands at two keys")
		}
		return twice
	})
}

// choose gives the one key that fits a header, or says how many do.
func choose(keys []signingKey, h jws.Header) (signingKey, int) {
	var found signingKey
	n := 0
	for _, key := range keys {
		// Without a kid every key of the algorithm fits, with one only
		// its bearer; a key without a kid is never chosen by name.
		if key.alg == h.Alg && (h.Kid == "" || key.kid == h.Kid) {
			found = key
			n++
		}
	}
	return found, n
}

// VerifySignature implements go-oidc's KeySet. It gives back only the members
// that go-oidc reads, under their exact names, because its JSON decoder takes
// "SUB" or a long s for "sub" and would look at claims by reference.
func (k *keySet) VerifySignature(ctx context.Context, compact string) ([]byte, error) {
	token, err := jws.Parse(compact)
	if err != nil {
		return nil, err
	}
	if err := k.verify(ctx, token); err != nil {
		return nil, err
	}
	claims, err := token.Claims()
	if err != nil {
		return nil, err
	}
	exact := jws.Claims{}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "at_hash"} {
		if raw, present := claims[name]; present {
			exact[name] = raw
		}
	}
	return json.Marshal(exact)
}

// verify checks the signature, with one look at a newer key set when the known
// one does not have the key (OpenID Connect Core 1.0, section 10.1.1).
func (k *keySet) verify(ctx context.Context, token *jws.Token) error {
	if !slices.Contains(k.algs, token.Header.Alg) {
		return refused("idtoken.alg")
	}
	keys, version, err := k.cache.get(ctx)
	if err != nil {
		return err
	}
	err = check(keys, token)
	if err == nil || !worthRefetch(token, err) {
		return err
	}
	newer, found := k.cache.miss(ctx, version)
	if !found {
		return err
	}
	return check(newer, token)
}

// worthRefetch: a named key that is unknown, or an unnamed one that does not
// verify, may have been rotated. A bad signature by a known key is just bad.
func worthRefetch(token *jws.Token, err error) bool {
	reason := identity.Reason(err)
	return reason == "idtoken.key" || (token.Header.Kid == "" && reason == "idtoken.signature")
}

func check(keys []signingKey, token *jws.Token) error {
	key, n := choose(keys, token.Header)
	switch {
	case n == 0:
		return fail(identity.ErrRefused, "idtoken.key", errors.New("no key of the provider fits the token's header"))
	case n > 1:
		return fail(identity.ErrRefused, "idtoken.key_ambiguous", errors.New("the token names no key and several fit"))
	}
	if err := token.Verify(key.alg, key.key); err != nil {
		return fail(identity.ErrRefused, "idtoken.signature", err)
	}
	return nil
}
