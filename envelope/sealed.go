package envelope

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

const (
	version1  = 1 // first byte: under the local master itself
	version2  = 2 // first byte: under a data key of a ring
	keyIDLen  = 8 // bytes of a key id
	headerLen = 1 + keyIDLen
	overhead  = headerLen + xaesNonceLen + xaesTagLen // the same in both versions

	maxWrapped = 8 << 10 // a wrapped key of KMS has about 200 bytes
)

// KeyOf names the key that a value is sealed under, as far as its shape tells: 16 hex
// digits, or "v1:" and 16 for a value of version 1. ok is false for what is none of our
// sealed values. Nothing is opened: whoever can write the value can write any id.
func KeyOf(sealed []byte) (id string, ok bool) {
	if len(sealed) < overhead {
		return "", false
	}
	id = hex.EncodeToString(sealed[1:headerLen])
	switch sealed[0] {
	case version1:
		return prefixV1 + id, true
	case version2:
		return id, true
	default:
		return "", false
	}
}

// prefixV1 marks the id of a local master under which version 1 values are sealed.
const prefixV1 = "v1:"

// associated is the header, whose length is fixed, and the label.
func associated(header []byte, label string) []byte {
	return append(append(make([]byte, 0, len(header)+len(label)), header...), label...)
}

var errChanged = fmt.Errorf("%w: it was changed, or sealed for another purpose", ErrSealed)

// seal makes a value of version 2.
func (k *dataKey) seal(label string, plaintext []byte) ([]byte, error) {
	x, err := k.cipher(label)
	if err != nil {
		return nil, err
	}
	out := make([]byte, headerLen+xaesNonceLen, overhead+len(plaintext))
	out[0] = version2
	copy(out[1:], k.id[:])
	nonce := out[headerLen:]
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return x.seal(out, nonce, plaintext, associated(out[:headerLen], label))
}

// open opens a value of version 2, whose length KeyOf has checked.
func (k *dataKey) open(label string, sealed []byte) ([]byte, error) {
	x, err := k.cipher(label)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	header, nonce := sealed[:headerLen], sealed[headerLen:headerLen+xaesNonceLen]
	plaintext, err := x.open(nonce, sealed[headerLen+xaesNonceLen:], associated(header, label))
	if err != nil {
		return nil, errChanged
	}
	return plaintext, nil
}
