package envelope

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The errors of this package. A Master answers with one of ErrUnavailable, ErrSealed
// and ErrRefused (wrapped, with the remedy in the text).
var (
	// ErrSealed is the answer for everything that will never open: another label,
	// another key, changed, cut short, or never sealed at all.
	ErrSealed = errors.New("sealed value does not open")
	// ErrUnavailable says to try again later: the master or the store did not answer
	// and what is cached has reached its limit. Nothing takes their place.
	ErrUnavailable = errors.New("envelope encryption unavailable")
	// ErrRefused says that somebody has to act first: a master key that is disabled,
	// deleted or denied, a ring that was set back, a key that may not be destroyed.
	ErrRefused = errors.New("envelope encryption refused")
	// ErrCondemned says that the value is sealed under a key that was reported as
	// compromised: anybody may have made it. Reseal opens it.
	ErrCondemned = errors.New("sealed under a condemned key")
	// ErrLabel says that Seal was called without a label, which is a mistake in the
	// calling code.
	ErrLabel = errors.New("sealing needs a label")
)

// Master wraps data keys: 32 bytes, never more. Local is one; awskms.Master is another.
// about is the encryption context: it is authenticated, not secret, and the same map
// has to be given to open what was wrapped with it. Methods may be called from any
// goroutine, return within seconds, and answer failures with ErrUnavailable, ErrSealed
// or ErrRefused. The suite for all of them is envelope/mastertest.
type Master interface {
	// ID names the master: "local:<16 hex>" or "awskms:<arn>". It never changes.
	ID() string
	// Generate makes a data key and wraps it.
	Generate(ctx context.Context, about map[string]string) (plain, wrapped []byte, err error)
	// Wrap wraps 32 bytes.
	Wrap(ctx context.Context, plain []byte, about map[string]string) ([]byte, error)
	// Unwrap opens what Generate, Wrap or Rewrap made with the same about.
	Unwrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error)
	// Rewrap wraps anew, under the newest material of this master.
	Rewrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error)
}

// KeyStore is where key rings lie: two methods of store.Store, with its errors. What
// lies there is wrapped and needs no further sealing.
type KeyStore interface {
	Get(ctx context.Context, key string) ([]byte, error)
	CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error
}

// keyLen is the length of master keys and data keys, in bytes: 256 bits.
const keyLen = 32

// generate makes a data key with m and judges what comes back: a master that answers
// with something else must not decide what we seal with.
func generate(ctx context.Context, m Master, about map[string]string) (plain *secret, wrapped []byte, err error) {
	p, wrapped, err := m.Generate(ctx, about)
	defer clear(p)
	if err != nil {
		return nil, nil, asMaster(m, err)
	}
	plain, err = asKey(m, p)
	if err != nil {
		return nil, nil, err
	}
	if len(wrapped) == 0 || len(wrapped) > maxWrapped {
		return nil, nil, fmt.Errorf("%w: master %s wrapped a key into %d bytes", ErrRefused, m.ID(), len(wrapped))
	}
	return plain, wrapped, nil
}

// unwrap opens a wrapped key and judges what comes back.
func unwrap(ctx context.Context, m Master, wrapped []byte, about map[string]string) (*secret, error) {
	p, err := m.Unwrap(ctx, wrapped, about)
	defer clear(p)
	if err != nil {
		return nil, asMaster(m, err)
	}
	return asKey(m, p)
}

// asKey copies a key that has the right length and is not all zero.
func asKey(m Master, plain []byte) (*secret, error) {
	if len(plain) != keyLen {
		return nil, fmt.Errorf("%w: master %s answered with a key of %d bytes instead of %d", ErrRefused, m.ID(), len(plain), keyLen)
	}
	key := secret(plain)
	if key == (secret{}) {
		return nil, fmt.Errorf("%w: master %s answered with a key of zero bytes only", ErrRefused, m.ID())
	}
	return &key, nil
}

// asMaster makes sure that a master's failure is one of the three: what is neither
// "never" nor "somebody has to act" is worth another try.
func asMaster(m Master, err error) error {
	switch {
	case errors.Is(err, ErrSealed), errors.Is(err, ErrRefused), errors.Is(err, ErrUnavailable):
		return fmt.Errorf("master key %s: %w", m.ID(), err)
	default:
		return fmt.Errorf("%w: master key %s: %w", ErrUnavailable, m.ID(), err)
	}
}
