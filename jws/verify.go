package jws

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"math/big"

	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
)

const (
	minModulus  = 2048 // bits, RFC 7518 section 3.3
	maxModulus  = 8192 // bits: a larger one costs us more than it protects
	maxExponent = 1<<31 - 1
)

// algorithm is what one "alg" (RFC 7518 section 3.1, RFC 8037) stands for.
type algorithm struct {
	family family
	hash   crypto.Hash
	curve  elliptic.Curve
}

type family int

const (
	familyEd25519 family = iota + 1
	familyECDSA
	familyPKCS1
	familyPSS
)

// lookup is the whole list: there is no "none" and no HMAC, so that no public
// key can ever be taken for a shared secret (CVE-2016-5431). Names are compared
// exactly.
func lookup(alg string) (algorithm, bool) {
	switch alg {
	case "EdDSA":
		return algorithm{family: familyEd25519}, true
	case "ES256":
		return algorithm{familyECDSA, crypto.SHA256, elliptic.P256()}, true
	case "ES384":
		return algorithm{familyECDSA, crypto.SHA384, elliptic.P384()}, true
	case "RS256":
		return algorithm{familyPKCS1, crypto.SHA256, nil}, true
	case "RS384":
		return algorithm{familyPKCS1, crypto.SHA384, nil}, true
	case "RS512":
		return algorithm{familyPKCS1, crypto.SHA512, nil}, true
	case "PS256":
		return algorithm{familyPSS, crypto.SHA256, nil}, true
	case "PS384":
		return algorithm{familyPSS, crypto.SHA384, nil}, true
	case "PS512":
		return algorithm{familyPSS, crypto.SHA512, nil}, true
	}
	return algorithm{}, false
}

func known(alg string) bool {
	_, ok := lookup(alg)
	return ok
}

// Verify checks the signature with key, which is used with alg and no other
// algorithm: EdDSA (ed25519.PublicKey), ES256, ES384 (*ecdsa.PublicKey on the
// curve of that name), RS256 … RS512, PS256 … PS512 (*rsa.PublicKey of 2048 to
// 8192 bits). It returns ErrAlgorithm when the header names another algorithm or
// the key does not fit or is too weak, and ErrSignature otherwise.
func (t *Token) Verify(alg string, key crypto.PublicKey) error {
	a, ok := lookup(alg)
	if t == nil || !ok || t.Header.Alg != alg || !a.fits(key) {
		return fmt.Errorf("verifying token: %w", ErrAlgorithm)
	}
	if !a.verify(key, []byte(t.signed), t.signature) {
		return fmt.Errorf("verifying token: %w", ErrSignature)
	}
	return nil
}

// fits says whether key is of the kind and strength that the algorithm needs.
func (a algorithm) fits(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return a.family == familyEd25519 && len(k) == ed25519.PublicKeySize && ordinaryPoint(k)
	case *ecdsa.PublicKey:
		if a.family != familyECDSA || k == nil || k.Curve != a.curve {
			return false
		}
		//lint:ignore SA1019 only compared with nil, on which the next call would panic
		if k.X == nil || k.Y == nil {
			return false
		}
		_, err := k.ECDH() // refuses a point that is not on the curve
		return err == nil
	case *rsa.PublicKey:
		if a.family != familyPKCS1 && a.family != familyPSS {
			return false
		}
		return k != nil && k.N != nil && k.N.Sign() > 0 && k.N.BitLen() >= minModulus && k.N.BitLen() <= maxModulus &&
			k.E >= 3 && k.E%2 == 1 && k.E <= maxExponent && k.N.Bit(0) == 1 && !isROCA(k.N)
	}
	return false
}

// verify compares the signature's length exactly before any arithmetic: a
// shorter or longer spelling of the same numbers would be a second token.
func (a algorithm) verify(key crypto.PublicKey, signed, signature []byte) bool {
	if a.family == familyEd25519 {
		return len(signature) == ed25519.SignatureSize && ordinaryPoint(signature[:32]) &&
			ed25519.Verify(key.(ed25519.PublicKey), signed, signature)
	}
	h := a.hash.New()
	h.Write(signed)
	digest := h.Sum(nil)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		half := (a.curve.Params().BitSize + 7) / 8
		if len(signature) != 2*half {
			return false
		}
		r := new(big.Int).SetBytes(signature[:half])
		s := new(big.Int).SetBytes(signature[half:])
		n := a.curve.Params().N
		if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(n) >= 0 || s.Cmp(n) >= 0 {
			return false // CVE-2022-21449
		}
		return ecdsa.Verify(k, digest, r, s)
	case *rsa.PublicKey:
		if len(signature) != k.Size() {
			return false
		}
		if a.family == familyPKCS1 {
			return rsa.VerifyPKCS1v15(k, a.hash, digest, signature) == nil
		}
		// RFC 7518, section 3.5: the salt is as long as the hash.
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
		return rsa.VerifyPSS(k, a.hash, digest, signature, options) == nil
	}
	return false
}

// lowOrder holds the y coordinates of the eight points of small order on
// edwards25519, little-endian with the sign bit cleared. With such a public key
// one signature fits many messages.
var lowOrder = func() (points [5][32]byte) {
	for i, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		if n, err := hex.Decode(points[i][:], []byte(text)); err != nil || n != 32 {
			panic("jws: bad constant")
		}
	}
	return points
}()

// ordinaryPoint says whether an encoded point has its canonical y coordinate
// (below 2^255-19) and not a small order. Go accepts both otherwise.
func ordinaryPoint(encoded []byte) bool {
	var y [32]byte
	copy(y[:], encoded)
	y[31] &= 0x7f
	if y[31] == 0x7f && y[0] >= 0xed && bytes.Count(y[1:31], []byte{0xff}) == 30 {
		return false
	}
	for i := range lowOrder {
		if y == lowOrder[i] {
			return false
		}
	}
	return true
}

// rocaPrimes divide the number that the broken generator of CVE-2017-15361
// built its primes from.
var rocaPrimes = []uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// isROCA recognises moduli of that generator: modulo each of these primes they
// are a power of 65537. Such a key can be factored; an ordinary modulus passes
// for one with a chance below 2^-25.
func isROCA(n *big.Int) bool {
	for _, p := range rocaPrimes {
		rest := new(big.Int).Mod(n, new(big.Int).SetUint64(p)).Uint64()
		power, found := uint64(1), false
		for range p {
			if power == rest {
				found = true
				break
			}
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}
