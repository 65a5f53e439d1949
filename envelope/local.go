package envelope

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

const localVersion = 1 // first byte of what the local master wrapped

// Local is the master key in a file of this machine. It is made by OpenLocal; the zero
// value wraps nothing and opens nothing. It never waits and is never away.
//
// What it wrapped is
//
//	version (1) ‖ nonce (24) ‖ ciphertext and tag (48)
//
// with XAES-256-GCM under a key that HKDF-SHA-256 derives from the master key; about is
// associated data, its members sorted and each length-prefixed.
type Local struct {
	// derive makes a key of n bytes for one purpose; the master key is inside it and
	// nowhere else, see secret.go. nil denies.
	derive func(purpose string, n int) ([]byte, error)
	id     [keyIDLen]byte
}

func newLocal(master *secret) (*Local, error) {
	l := &Local{derive: func(purpose string, n int) ([]byte, error) {
		return hkdf.Key(sha256.New, master[:], nil, purpose, n)
	}}
	id, err := l.derive(labelKeyID, keyIDLen)
	if err != nil {
		return nil, fmt.Errorf("deriving the key id: %w", err)
	}
	l.id = [keyIDLen]byte(id)
	return l, nil
}

// ID is "local:" and the published id of the key file.
func (l *Local) ID() string {
	if l == nil {
		return "local:none"
	}
	return fmt.Sprintf("local:%x", l.id)
}

// Generate makes a random data key and wraps it.
func (l *Local) Generate(ctx context.Context, about map[string]string) (plain, wrapped []byte, err error) {
	plain = make([]byte, keyLen)
	_, _ = rand.Read(plain) // never fails: crypto/rand ends the process instead
	wrapped, err = l.Wrap(ctx, plain, about)
	if err != nil {
		return nil, nil, err
	}
	return plain, wrapped, nil
}

// Wrap wraps 32 bytes.
func (l *Local) Wrap(ctx context.Context, plain []byte, about map[string]string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(plain) != keyLen {
		return nil, fmt.Errorf("%w: a data key has %d bytes, not %d", ErrRefused, keyLen, len(plain))
	}
	x, err := l.cipher()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+xaesNonceLen, 1+xaesNonceLen+keyLen+xaesTagLen)
	out[0] = localVersion
	_, _ = rand.Read(out[1:]) // never fails
	wrapped, err := x.seal(out, out[1:], plain, canonical(about))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return wrapped, nil
}

// Unwrap opens what was wrapped with the same about.
func (l *Local) Unwrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if len(wrapped) != 1+xaesNonceLen+keyLen+xaesTagLen || wrapped[0] != localVersion {
		return nil, fmt.Errorf("%w: %d bytes that are not a wrapped key of the local master", ErrSealed, len(wrapped))
	}
	x, err := l.cipher()
	if err != nil {
		return nil, err
	}
	plain, err := x.open(wrapped[1:1+xaesNonceLen], wrapped[1+xaesNonceLen:], canonical(about))
	if err != nil {
		return nil, fmt.Errorf("%w: the wrapped key was changed, or belongs elsewhere, or to another master key file", ErrSealed)
	}
	return plain, nil
}

// Rewrap wraps anew, under a new nonce: a key file has one material only.
func (l *Local) Rewrap(ctx context.Context, wrapped []byte, about map[string]string) ([]byte, error) {
	plain, err := l.Unwrap(ctx, wrapped, about)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return l.Wrap(ctx, plain, about)
}

func (l *Local) cipher() (*xaes, error) {
	if l == nil || l.derive == nil {
		return nil, fmt.Errorf("%w: no master key", ErrRefused)
	}
	key, err := l.derive(labelWrap, keyLen)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	defer clear(key)
	return newXAES(key)
}

// canonical gives each map of strings bytes of its own.
func canonical(about map[string]string) []byte {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(about)) {
		for _, s := range []string{name, about[name]} {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
		}
	}
	return b
}
