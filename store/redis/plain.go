package redis

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

// Plain keeps what cannot be sealed by the store's sealer, because the sealer needs it to
// begin with: the wrapped data keys of an envelope. Names are hashes, as everywhere; values
// lie in Redis as they come. They have nothing to do with the values of the Store.
//
// Whoever can write to Redis can change, delete and set back what is here: a value must
// authenticate itself (it is wrapped by a master key, under a context that names its
// purpose), and a reader that has seen a newer one must not believe an older one.
type Plain struct{ s *Store }

// A plain value is version (1) ‖ expiry (8) ‖ random (16) ‖ value. The random part makes
// each write another one, so that a swap whose answer was lost knows its own bytes.
const (
	plainVersion = 1
	plainHead    = 1 + 8 + 16
)

func (p *Plain) nameOf(key string) string { return p.s.prefix + namePlain + hashName(labelPlain, key) }

// Get returns the value, or store.ErrNotFound.
func (p *Plain) Get(ctx context.Context, key string) ([]byte, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	there, err := p.read(ctx, "reading a plain key", key)
	return there.value, err
}

// read returns the value with its bytes, which come with store.ErrNotFound too.
func (p *Plain) read(ctx context.Context, doing, key string) (held, error) {
	name := p.nameOf(key)
	b, err := run(ctx, p.s, doing, name, again, func(ctx context.Context, c link) ([]byte, error) {
		b, err := c.Get(ctx, name).Bytes()
		return b, absent(err)
	})
	switch {
	case err != nil:
		return held{}, err
	case len(b) < plainHead || b[0] != plainVersion:
		return held{}, fmt.Errorf("%s: %w: what lies under %s is of another version, or somebody changed it", doing, store.ErrUnavailable, name)
	}
	there := held{value: b[plainHead:], sealed: b, expires: binary.BigEndian.Uint64(b[1:])}
	if !alive(there.expires, p.s.now()) {
		there.value = nil
		return there, fmt.Errorf("%s: %w", doing, store.ErrNotFound)
	}
	return there, nil
}

// CompareAndSwap stores new when the present value equals old; see store.Store.
func (p *Plain) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	const doing = "swapping a plain key"
	if err := check(key, new); err != nil {
		return err
	}
	for range attempts * 4 {
		there, err := p.read(ctx, doing, key)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		case (old == nil) != (err != nil), !bytes.Equal(there.value, old):
			return fmt.Errorf("%s: %w", doing, store.ErrConflict)
		}
		b := binary.BigEndian.AppendUint64([]byte{plainVersion}, stamp(expires))
		b = append(b, make([]byte, 16)...)
		_, _ = rand.Read(b[9:]) // never fails: crypto/rand ends the process instead
		b = append(b, new...)
		if won, err := p.s.swap(ctx, doing, p.nameOf(key), there.sealed, b, p.s.ttl(expires)); won || err != nil {
			return err
		}
		// Somebody else was faster. Only the value says whether that is a conflict.
	}
	return fmt.Errorf("%s: %w: others change it all the time", doing, store.ErrUnavailable)
}

// resealer is a Sealer that can be told of a key that no longer counts: its Open refuses
// what that key sealed, and its Reseal opens it all the same and seals it under the present
// key. changed is false for what is under the present key already.
type resealer interface {
	Reseal(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error)
}

// unseal opens what this store has sealed, also under a key that was condemned since.
//
// While keys are replaced after one became known, most of what lies in Redis is still under
// the condemned one. Refusing it would close every site until the last value is sealed anew.
// What our seal keeps from whoever can write to Redis is forging; whoever has the condemned
// key and can write to Redis can forge until that key is destroyed, as he could before
// anybody knew. It gains him nothing where it counts:
//
//   - Signing keys, sign-in state, records of sessions and provider tokens are sealed by
//     their own packages too, whose Open refuses the condemned key. Sessions that it
//     sealed are revoked.
//   - Pepper rings have their own AEAD under keys that were never the envelope's, and the
//     wrapped data keys (Plain) are under the master key.
//   - Entries of the feed only take away: a forged one ends sessions, none brings one back.
//   - Counters (failures, emergency budgets) and marks of what was used once can be set
//     back, which whoever can write to Redis does by DEL as well.
//
// After the key was destroyed nothing that it sealed opens any more; what was forged until
// then and not removed was sealed anew like the rest, and signing keys among it are killed
// (package rekey).
func (s *Store) unseal(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	b, err := s.sealer.Open(ctx, label, sealed)
	if err == nil {
		return b, nil
	}
	r, ok := s.sealer.(resealer)
	if !ok {
		return nil, err
	}
	for range 3 { // what it was sealed anew under may be condemned by now too
		out, changed, resealErr := r.Reseal(ctx, label, sealed)
		if resealErr != nil {
			return nil, err
		}
		if changed {
			sealed = out
		}
		if b, openErr := s.sealer.Open(ctx, label, sealed); openErr == nil {
			return b, nil
		}
	}
	return nil, err
}

// readProbe returns the probe, or nil when there is none.
func (s *Store) readProbe(ctx context.Context, doing, name string) ([]byte, error) {
	return run(ctx, s, doing, name, again, func(ctx context.Context, c link) ([]byte, error) {
		b, err := c.Get(ctx, name).Bytes()
		if errors.Is(err, goredis.Nil) {
			return nil, nil
		}
		return b, err
	})
}
