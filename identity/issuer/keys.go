package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

const maxKeys = 50 // in one set

// Why a token's signature is not believed; the reasons of a [KeyError].
const (
	reasonAlg       = "alg"           // not one of the accepted algorithms
	reasonKey       = "key"           // no key of the issuer fits the header
	reasonAmbiguous = "key_ambiguous" // the token names no key and several fit
	reasonSignature = "signature"     // it does not verify
)

// KeyError is a token that no key of the issuer vouches for. Reason is one of
// "alg", "key", "key_ambiguous" and "signature".
type KeyError struct {
	Reason string
	Err    error
}

func (e *KeyError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return "the token's algorithm is not accepted"
}

func (e *KeyError) Unwrap() error { return e.Err }

// KeysConfig describes an issuer's key set.
type KeysConfig struct {
	Client *Client
	URL    string           // as the metadata names it
	Algs   []string         // accepted; a key verifies one of them
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: none
}

// Keys holds the issuer's keys. It is safe for concurrent use. Keys come from
// the metadata's jwks_uri only, never from a token (RFC 8725, section 3.8).
type Keys struct {
	cache *Cache[[]Key]
	algs  []string
	log   *slog.Logger
}

// NewKeys fetches nothing before the first token.
func NewKeys(c KeysConfig) *Keys {
	k := &Keys{algs: slices.Clone(c.Algs), log: c.Logger}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	k.cache = NewCache(CacheConfig[[]Key]{
		Now: c.Now, Fresh: KeysFresh, Keep: KeysKeep,
		Failed: func(err error) { k.log.Error("fetching the provider's keys", "error", err) },
		Fetch: func(ctx context.Context, _ []Key, _ bool) ([]Key, error) {
			document, err := c.Client.JSON(ctx, c.URL, "")
			if err != nil {
				return nil, unavailable("jwks.unreachable", err)
			}
			keys, err := k.read(document)
			if err != nil {
				return nil, unavailable("jwks.malformed", err)
			}
			return keys, nil
		},
	})
	return k
}

// Count is how many usable keys the issuer has at the moment.
func (k *Keys) Count(ctx context.Context) (int, error) {
	keys, _, err := k.cache.Get(ctx)
	return len(keys), err
}

// read takes the usable keys out of a set (RFC 7517, section 5). A key that is
// not for us is skipped; a set that is no set is refused whole.
func (k *Keys) read(document jws.Claims) ([]Key, error) {
	var members []json.RawMessage
	if raw := document["keys"]; len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &members) != nil {
		return nil, errors.New("reading key set: no array of keys")
	}
	if len(members) > maxKeys {
		return nil, fmt.Errorf("reading key set: %d keys, at most %d", len(members), maxKeys)
	}
	var keys []Key
	for number, member := range members {
		key, err := ReadKey(member, k.algs)
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
func dropAmbiguous(keys []Key, log *slog.Logger) []Key {
	count := map[[2]string]int{}
	for _, key := range keys {
		count[[2]string{key.Kid, key.Alg}]++
	}
	return slices.DeleteFunc(keys, func(key Key) bool {
		twice := key.Kid != "" && count[[2]string{key.Kid, key.Alg}] > 1
		if twice {
			log.Warn("skipping a key of the provider", "error", "its kid stands at two keys")
		}
		return twice
	})
}

// choose gives the one key that fits a header, or says how many do.
func choose(keys []Key, h jws.Header) (Key, int) {
	var found Key
	n := 0
	for _, key := range keys {
		// Without a kid every key of the algorithm fits, with one only
		// its bearer; a key without a kid is never chosen by name.
		if key.Alg == h.Alg && (h.Kid == "" || key.Kid == h.Kid) {
			found = key
			n++
		}
	}
	return found, n
}

// Verify checks the signature, with one look at a newer key set when the known
// one does not have the key (OpenID Connect Core 1.0, section 10.1.1).
func (k *Keys) Verify(ctx context.Context, token *jws.Token) error {
	if !slices.Contains(k.algs, token.Header.Alg) {
		return &KeyError{Reason: reasonAlg}
	}
	keys, version, err := k.cache.Get(ctx)
	if err != nil {
		return err
	}
	err = check(keys, token)
	if err == nil || !worthRefetch(token, err) {
		return err
	}
	newer, found := k.cache.Miss(ctx, version)
	if !found {
		return err
	}
	return check(newer, token)
}

// worthRefetch: a named key that is unknown, or an unnamed one that does not
// verify, may have been rotated. A bad signature by a known key is just bad.
func worthRefetch(token *jws.Token, err error) bool {
	wrong, ok := errors.AsType[*KeyError](err)
	return ok && (wrong.Reason == reasonKey || (token.Header.Kid == "" && wrong.Reason == reasonSignature))
}

func check(keys []Key, token *jws.Token) error {
	key, n := choose(keys, token.Header)
	switch {
	case n == 0:
		return &KeyError{reasonKey, errors.New("no key of the provider fits the token's header")}
	case n > 1:
		return &KeyError{reasonAmbiguous, errors.New("the token names no key and several fit")}
	}
	if err := token.Verify(key.Alg, key.Public); err != nil {
		return &KeyError{reasonSignature, err}
	}
	return nil
}
