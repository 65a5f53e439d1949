package redis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// lag is how long Redis keeps what has expired: far more than the clocks of nodes may
	// differ, so that none of them misses what it still holds alive.
	lag = time.Hour
	// longest is where a time to live becomes none: Redis refuses what overflows.
	longest = 100 * 365 * 24 * time.Hour
	// keep instead of a time to live leaves the one that is there.
	keep = -time.Millisecond
)

// swapScript swaps exactly the bytes that were read (ARGV[1]; "" means absent, no sealed
// value is empty) for new ones (ARGV[2]). New bytes that are there already are its own
// from an attempt whose answer was lost: sealed twice, no value is twice the same. ARGV[3]
// is the time to live in milliseconds, 0 for none, -1 for the one that is there.
const swapScript = `local there = redis.call('GET', KEYS[1])
if there == ARGV[2] then return 1 end
if (there or '') ~= ARGV[1] then return 0 end
if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) elseif ARGV[3] == '-1' then redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL') else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1`

// nameOf is the name of a key in Redis. Nothing of the key stands in it.
func (s *Store) nameOf(key string) string {
	h := sha256.New()
	h.Write([]byte(labelKey))
	h.Write([]byte{0})
	h.Write([]byte(key))
	return s.prefix + nameValue + hex.EncodeToString(h.Sum(nil))
}

// stamp is the stored form of an expiry, nanoseconds since 1970, 0 for never. A time
// before 1970 becomes 1: in the past, not never. One after 2262 means never.
func stamp(expires time.Time) uint64 {
	switch {
	case expires.IsZero():
		return 0
	case expires.Unix() < 1:
		return 1
	case expires.Unix() >= 1<<33:
		return 0
	}
	return uint64(expires.UnixNano())
}

func alive(expires uint64, now time.Time) bool { return expires == 0 || expires > stamp(now) }

// ttl is when Redis may forget a value, 0 for never.
func (s *Store) ttl(expires time.Time) time.Duration {
	if stamp(expires) == 0 {
		return 0
	}
	left := max(expires.Sub(s.now()), 0)
	if left > longest {
		return 0
	}
	return (left + lag).Round(time.Millisecond)
}

// seal makes what is stored: the expiry, the key, the value. The label binds it to its
// name, the prefix included.
func (s *Store) seal(ctx context.Context, doing, key string, value []byte, expires time.Time) ([]byte, error) {
	return s.sealStamped(ctx, doing, key, value, stamp(expires))
}

func (s *Store) sealStamped(ctx context.Context, doing, key string, value []byte, expires uint64) ([]byte, error) {
	b := make([]byte, 0, 8+2+len(key)+len(value))
	b = binary.BigEndian.AppendUint64(b, expires)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)))
	b = append(append(b, key...), value...)
	sealed, err := s.sealer.Seal(ctx, labelValue+" "+s.nameOf(key), b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: sealing: %w", doing, store.ErrUnavailable, err)
	}
	return sealed, nil
}

// open is the reverse. What does not open was written with another master key, or
// changed or exchanged by somebody who can write to Redis: never "absent", which would
// let a caller begin anew.
func (s *Store) open(ctx context.Context, name string, sealed []byte) (key string, value []byte, expires uint64, err error) {
	key, value, expires, err = s.opened(ctx, name, sealed)
	if err != nil {
		return "", nil, 0, s.unopened(ctx, name)
	}
	return key, value, expires, nil
}

// opened is open without a word about what is wrong.
func (s *Store) opened(ctx context.Context, name string, sealed []byte) (key string, value []byte, expires uint64, err error) {
	b, err := s.unseal(ctx, labelValue+" "+name, sealed)
	if err != nil {
		return "", nil, 0, err
	}
	if len(b) >= 10 {
		expires = binary.BigEndian.Uint64(b)
		n := int(binary.BigEndian.Uint16(b[8:]))
		if b = b[10:]; n <= len(b) {
			if key = string(b[:n]); s.nameOf(key) == name {
				return key, append([]byte{}, b[n:]...), expires, nil
			}
		}
	}
	return "", nil, 0, errShape
}

// unopened tells of a value that does not open.
func (s *Store) unopened(ctx context.Context, name string) error {
	if ctx.Err() == nil {
		s.log.Error("a value in Redis does not open: it was sealed with another master key, changed or exchanged. Give all nodes one master key; whatever needs the value is refused until then", "redis", s.conf.name(), "name", name)
	}
	return fmt.Errorf("%w: a value in Redis does not open: another master key, or somebody changed it", store.ErrUnavailable)
}

// Get returns a copy of the value, or store.ErrNotFound.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	there, err := s.read(ctx, "reading a key", key)
	return there.value, err
}

// held is a value as it was read, and the bytes that it was read from.
type held struct {
	value, sealed []byte
	expires       uint64
}

// read returns the value. The bytes come with store.ErrNotFound too, when they hold an
// expired value.
func (s *Store) read(ctx context.Context, doing, key string) (held, error) {
	name := s.nameOf(key)
	sealed, err := run(ctx, s, doing, name, again, func(ctx context.Context, c link) ([]byte, error) {
		b, err := c.Get(ctx, name).Bytes()
		return b, absent(err)
	})
	if err != nil {
		return held{}, err
	}
	there, err := s.unpack(ctx, doing, name, sealed)
	there.sealed = sealed
	return there, err
}

func (s *Store) unpack(ctx context.Context, doing, name string, sealed []byte) (held, error) {
	_, value, expires, err := s.open(ctx, name, sealed)
	if err != nil {
		return held{}, fmt.Errorf("%s: %w", doing, err)
	}
	if !alive(expires, s.now()) {
		return held{}, fmt.Errorf("%s: %w", doing, store.ErrNotFound)
	}
	return held{value: value, expires: expires}, nil
}

func absent(err error) error {
	if errors.Is(err, goredis.Nil) {
		return store.ErrNotFound
	}
	return err
}

// Put stores the value.
func (s *Store) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	const doing = "storing a key"
	if err := check(key, value); err != nil {
		return err
	}
	sealed, err := s.seal(ctx, doing, key, value, expires)
	if err != nil {
		return err
	}
	name, ttl := s.nameOf(key), s.ttl(expires)
	_, err = run(ctx, s, doing, name, once, func(ctx context.Context, c link) (none, error) {
		cmd := goredis.NewStatusCmd(ctx, "SET", name, sealed)
		if ttl != 0 {
			cmd = goredis.NewStatusCmd(ctx, "SET", name, sealed, "PX", ttl.Milliseconds())
		}
		return none{}, s.durable(ctx, c, cmd)
	})
	return err
}

type none struct{}

// CompareAndSwap stores new when the present value equals old; see store.Store. The
// bytes in Redis decide, so that of many callers that have read the same value one wins.
func (s *Store) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	const doing = "swapping a key"
	if err := check(key, new); err != nil {
		return err
	}
	for range attempts * 4 {
		there, err := s.read(ctx, doing, key)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		case (old == nil) != (err != nil), !bytes.Equal(there.value, old):
			return fmt.Errorf("%s: %w", doing, store.ErrConflict)
		}
		sealed, err := s.seal(ctx, doing, key, new, expires)
		if err != nil {
			return err
		}
		if won, err := s.swap(ctx, doing, s.nameOf(key), there.sealed, sealed, s.ttl(expires)); won || err != nil {
			return err
		}
		// Somebody else was faster. Only the plaintext says whether that is a conflict.
	}
	return fmt.Errorf("%s: %w: others change it all the time", doing, store.ErrUnavailable)
}

func (s *Store) swap(ctx context.Context, doing, name string, there, sealed []byte, ttl time.Duration) (bool, error) {
	broke := false // an attempt's outcome is unknown; run calls fn one after the other
	return run(ctx, s, doing, name, change, func(ctx context.Context, c link) (bool, error) {
		cmd := goredis.NewIntCmd(ctx, "EVAL", swapScript, 1, name, string(there), sealed, ttl.Milliseconds())
		err := s.durable(ctx, c, cmd)
		var said goredis.Error
		switch {
		case err != nil:
			broke = broke || !errors.As(err, &said)
			return false, err
		case cmd.Val() == 0 && broke:
			return false, fmt.Errorf("%w: the connection broke, and meanwhile the value is another one", store.ErrUnavailable)
		}
		return cmd.Val() == 1, nil
	})
}

// Take returns the value and deletes the key in one command.
func (s *Store) Take(ctx context.Context, key string) ([]byte, error) {
	const doing = "taking a key"
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	name := s.nameOf(key)
	sealed, err := run(ctx, s, doing, name, once, func(ctx context.Context, c link) ([]byte, error) {
		cmd := goredis.NewStringCmd(ctx, "GETDEL", name)
		err := s.durable(ctx, c, cmd)
		b, _ := cmd.Bytes()
		return b, absent(err)
	})
	if err != nil {
		return nil, err
	}
	taken, err := s.unpack(ctx, doing, name, sealed)
	return taken.value, err
}

// Delete removes the key; an absent key is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	name := s.nameOf(key)
	_, err := run(ctx, s, "deleting a key", name, once, func(ctx context.Context, c link) (none, error) {
		return none{}, s.durable(ctx, c, goredis.NewIntCmd(ctx, "DEL", name))
	})
	return err
}

func check(key string, value []byte) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return store.CheckValue(value)
}
