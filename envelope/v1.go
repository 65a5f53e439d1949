package envelope

import (
	"crypto/cipher"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// ringOwn is the one ring whose users have values of version 1.
const ringOwn = "own"

// openV1 opens what an earlier version sealed under the local master itself.
func (c *core) openV1(label string, sealed []byte) ([]byte, error) {
	id, _ := KeyOf(sealed)
	l := c.local(id)
	if l == nil {
		return nil, fmt.Errorf("%w: it was sealed under the master key %s, which is not here: put the master key file back that it was made with, and name it with `former local FILE`", ErrSealed, id)
	}
	return l.openV1(label, sealed)
}

func (l *Local) openV1(label string, sealed []byte) ([]byte, error) {
	aead, err := l.aeadV1(label)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	header, rest := sealed[:headerLen], sealed[headerLen:]
	nonce, ciphertext := rest[:chacha20poly1305.NonceSizeX], rest[chacha20poly1305.NonceSizeX:]
	plaintext, err := aead.Open(nil, nonce, ciphertext, associated(header, label))
	if err != nil {
		return nil, errChanged
	}
	return plaintext, nil
}

// aeadV1 makes the cipher of one label.
func (l *Local) aeadV1(label string) (cipher.AEAD, error) {
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
