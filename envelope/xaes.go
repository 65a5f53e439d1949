package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
)

const (
	xaesNonceLen = 24
	xaesTagLen   = 16
)

var errOpen = errors.New("message authentication failed")

// xaes is XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM with a nonce of 192 bits,
// which may be random for 2^80 messages. Each message has a key of its own, which the
// counter-mode KDF of NIST SP 800-108r1 (4.1) with CMAC-AES256 derives from the first
// half of the nonce; CMAC of one whole block is one call of AES (SP 800-38B, 6.2).
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // the CMAC subkey of SP 800-38B, 6.1
}

func newXAES(key []byte) (*xaes, error) {
	if len(key) != keyLen {
		return nil, fmt.Errorf("a key of %d bytes instead of %d", len(key), keyLen)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	var carry byte
	for i := len(x.k1) - 1; i >= 0; i-- {
		x.k1[i], carry = x.k1[i]<<1|carry, x.k1[i]>>7
	}
	x.k1[len(x.k1)-1] ^= 0b1000_0111 & -carry // the polynomial, when a bit fell out
	return x, nil
}

// message makes the cipher of one message.
func (x *xaes) message(nonce []byte) (cipher.AEAD, error) {
	var key [keyLen]byte
	defer clear(key[:])
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		half[1], half[2] = byte(i+1), 'X'
		copy(half[4:], nonce[:12])
		subtle.XORBytes(half, half, x.k1[:])
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal appends ciphertext and tag to dst.
func (x *xaes) seal(dst, nonce, plaintext, about []byte) ([]byte, error) {
	if len(nonce) != xaesNonceLen {
		return nil, fmt.Errorf("a nonce of %d bytes instead of %d", len(nonce), xaesNonceLen)
	}
	gcm, err := x.message(nonce)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(dst, nonce[12:], plaintext, about), nil
}

func (x *xaes) open(nonce, ciphertext, about []byte) ([]byte, error) {
	if len(nonce) != xaesNonceLen || len(ciphertext) < xaesTagLen {
		return nil, errOpen
	}
	gcm, err := x.message(nonce)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nonce[12:], ciphertext, about)
}
