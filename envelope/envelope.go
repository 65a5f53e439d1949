// Package envelope seals what Anteroom stores or hands to a browser for safe
// keeping: signing keys, sign-in attempts, provider tokens.
//
// Call OpenLocal with the path of the master key file; it is made at first start.
// Then Seal and Open. Each takes a label, a constant that names the purpose
// (`anteroom/<package>/<purpose>/v1`): what was sealed under one label does not
// open under another, so that a sealed sign-in attempt from a browser can never
// pass for a sealed signing key from the store.
//
// A sealed value is
//
//	version (1) ‖ key id (8) ‖ nonce (24) ‖ ciphertext and tag (length + 16)
//
// with XChaCha20-Poly1305 (RFC 8439 with a 192-bit nonce, draft-irtf-cfrg-xchacha-03)
// under a key that HKDF-SHA-256 (RFC 5869) derives from the master key for each
// label. The first nine bytes and the label are associated data. Nonces are random:
// with 192 bits, 2^80 values under one key collide with a probability of 2^-33.
//
// It promises that Open gives back exactly what Seal was given, or ErrSealed; it
// never panics, whatever the bytes, and all failures look the same to errors.Is. The
// error's text tells an operator whether the value was sealed under another master
// key (the file was replaced) or was changed; it names key ids, never content.
//
// It trusts the file system to keep the key file from other users; OpenLocal refuses
// a file that they can read. Whoever has the file opens everything. What is left to
// the caller: freshness (an old sealed value opens as well as a new one), padding
// (the length of the plaintext shows), and keeping a copy of the key file: without it
// nothing that was sealed can be opened again.
package envelope

import (
	"context"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// ErrSealed is the answer for everything that does not open: another label, another
// master key, changed, cut short, or never sealed at all.
var ErrSealed = errors.New("sealed value does not open")

// ErrLabel says that Seal was called without a label, which is a mistake in the
// calling code.
var ErrLabel = errors.New("sealing needs a label")

const (
	version   = 1 // first byte of every sealed value
	keyIDLen  = 8 // bytes of the key id: enough to tell an operator's keys apart
	headerLen = 1 + keyIDLen
	overhead  = headerLen + chacha20poly1305.NonceSizeX + chacha20poly1305.Overhead
)

// Envelope seals and opens under one master key. It is made by OpenLocal; the zero
// value seals nothing and opens nothing. Its methods may be called from any goroutine.
type Envelope struct {
	// derive makes a key of n bytes for one purpose; the master key is inside it and
	// nowhere else, see secret.go. nil denies.
	derive func(purpose string, n int) ([]byte, error)
	id     [keyIDLen]byte
}

func newEnvelope(master *secret) (*Envelope, error) {
	e := &Envelope{derive: func(purpose string, n int) ([]byte, error) {
		return hkdf.Key(sha256.New, master[:], nil, purpose, n)
	}}
	id, err := e.derive(labelKeyID, keyIDLen)
	if err != nil {
		return nil, fmt.Errorf("deriving the key id: %w", err)
	}
	e.id = [keyIDLen]byte(id)
	return e, nil
}

// Seal encrypts plaintext so that only Open with the same label and master key gives
// it back. The result is 49 bytes longer than the plaintext. The context is there for
// master keys that live in another machine; the local one never waits.
func (e *Envelope) Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if label == "" {
		return nil, ErrLabel
	}
	aead, err := e.aead(label)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	out := make([]byte, headerLen+chacha20poly1305.NonceSizeX, overhead+len(plaintext))
	out[0] = version
	copy(out[1:], e.id[:])
	nonce := out[headerLen:]
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return aead.Seal(out, nonce, plaintext, associated(out[:headerLen], label)), nil
}

// Open gives back what Seal was given, or ErrSealed.
func (e *Envelope) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening a sealed value: %w", err)
	}
	if len(sealed) < overhead {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrSealed, len(sealed))
	}
	header, rest := sealed[:headerLen], sealed[headerLen:]
	if header[0] != version {
		return nil, fmt.Errorf("%w: version %d is not known", ErrSealed, header[0])
	}
	aead, err := e.aead(label)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if [keyIDLen]byte(header[1:]) != e.id {
		return nil, fmt.Errorf("%w: it was sealed under master key %x, and this one is %x: put the master key file back that it was made with", ErrSealed, header[1:], e.id)
	}
	nonce, ciphertext := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	plaintext, err := aead.Open(nil, nonce, ciphertext, associated(header, label))
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or sealed for another purpose", ErrSealed)
	}
	return plaintext, nil
}

// aead makes the cipher of one label. Deriving costs a few microseconds, so nothing
// derived is kept in memory.
func (e *Envelope) aead(label string) (cipher.AEAD, error) {
	if e == nil || e.derive == nil {
		return nil, errors.New("no master key")
	}
	key, err := e.derive(labelSeal+"\x00"+label, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return chacha20poly1305.NewX(key)
}

// associated is the header, whose length is fixed, and the label.
func associated(header []byte, label string) []byte {
	return append(append(make([]byte, 0, len(header)+len(label)), header...), label...)
}
