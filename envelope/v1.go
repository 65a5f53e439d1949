package envelope

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Seal seals in version 1, under the master key itself.
func (l *Local) Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	if label == "" {
		return nil, ErrLabel
	}
	aead, err := l.aead(label)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	out := make([]byte, headerLen+chacha20poly1305.NonceSizeX, overhead+len(plaintext))
	out[0] = version1
	copy(out[1:], l.id[:])
	nonce := out[headerLen:]
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return aead.Seal(out, nonce, plaintext, associated(out[:headerLen], label)), nil
}

// Open opens version 1.
func (l *Local) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("opening a sealed value: %w", err)
	}
	if len(sealed) < overhead {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrSealed, len(sealed))
	}
	header, rest := sealed[:headerLen], sealed[headerLen:]
	if header[0] != version1 {
		return nil, fmt.Errorf("%w: version %d is not known", ErrSealed, header[0])
	}
	aead, err := l.aead(label)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if [keyIDLen]byte(header[1:]) != l.id {
		return nil, fmt.Errorf("%w: it was sealed under master key %x, and this one is %x: put the master key file back that it was made with", ErrSealed, header[1:], l.id)
	}
	nonce, ciphertext := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	plaintext, err := aead.Open(nil, nonce, ciphertext, associated(header, label))
	if err != nil {
		return nil, fmt.Errorf("%w: it was changed, or sealed for another purpose", ErrSealed)
	}
	return plaintext, nil
}

// aead makes the cipher of one label.
func (l *Local) aead(label string) (cipher.AEAD, error) {
	if l == nil || l.derive == nil {
		return nil, errors.New("no master key")
	}
	key, err := l.derive(labelSeal+"\x00"+label, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return chacha20poly1305.NewX(key)
}
