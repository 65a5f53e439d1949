package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"maps"
	"math/big"
)

// minSecret is the length of the shortest secret for HS256 (RFC 7518, section 3.2).
const minSecret = sha256.Size

// SignWith makes a compact token with any algorithm of [Token.Verify]. The header
// has what the caller gives (kid, typ, x5t …) and alg; with a "jwk" in it, which
// must be a public key, and a typ the token is one for [ParseProof]. It is for what
// we send to others: client assertions (RFC 7523) and DPoP proofs (RFC 9449).
//
// It returns ErrAlgorithm for a key that does not fit the algorithm, ErrMalformed
// for anything that Parse and ParseProof would refuse, and ErrSignature when the
// signer fails or gives something that does not verify.
func SignWith(key crypto.Signer, alg string, header map[string]any, payload any) (string, error) {
	a, ok := lookup(alg)
	if !ok || key == nil || !a.fits(key.Public()) {
		return "", fmt.Errorf("signing token: %w", ErrAlgorithm)
	}
	encoded, err := signHeader(alg, header, known)
	if err != nil {
		return "", err
	}
	return join(encoded, payload, a.size(key.Public()), func(text []byte) ([]byte, error) {
		signature, err := a.sign(key, text)
		// A faulty signer's wrong signature tells about its key, and an RSA
		// one the whole key.
		if err != nil || !a.verify(key.Public(), text, signature) {
			return nil, fmt.Errorf("signing token: %w", ErrSignature)
		}
		return signature, nil
	})
}

// SignHMAC makes a compact token with HS256, for client_secret_jwt (OpenID
// Connect Core 1.0, section 9) and nothing else: no token with an HMAC is ever
// accepted here. A secret of less than 32 bytes is ErrAlgorithm (RFC 7518,
// section 3.2): whoever sees the token could guess it.
func SignHMAC(secret []byte, header map[string]any, payload any) (string, error) {
	if len(secret) < minSecret {
		return "", fmt.Errorf("signing token: secret of less than %d bytes: %w", minSecret, ErrAlgorithm)
	}
	encoded, err := signHeader("HS256", header, func(alg string) bool { return alg == "HS256" })
	if err != nil {
		return "", err
	}
	return join(encoded, payload, sha256.Size, func(text []byte) ([]byte, error) {
		mac := hmac.New(sha256.New, secret)
		mac.Write(text)
		return mac.Sum(nil), nil
	})
}

// signHeader encodes a header with its alg and holds it to what a reader demands.
func signHeader(alg string, header map[string]any, accept func(string) bool) ([]byte, error) {
	if _, present := header["alg"]; present {
		return nil, fmt.Errorf("signing token: header names an algorithm: %w", ErrMalformed)
	}
	all := map[string]any{"alg": alg}
	maps.Copy(all, header)
	encoded, err := encodeJSON(all)
	if err != nil {
		return nil, fmt.Errorf("signing token: header does not encode: %w", ErrMalformed)
	}
	_, proof := header["jwk"]
	if _, _, err := readHeader(encoded, proof, accept); err != nil {
		return nil, fmt.Errorf("signing token: header: %w", ErrMalformed)
	}
	return encoded, nil
}

// size is the length of a signature by a key that fits.
func (a algorithm) size(public crypto.PublicKey) int {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return 2 * ((k.Params().BitSize + 7) / 8)
	case *rsa.PublicKey:
		return k.Size()
	}
	return ed25519.SignatureSize
}

// sign asks the key for a signature and brings it into the form of RFC 7518,
// section 3.
func (a algorithm) sign(key crypto.Signer, text []byte) ([]byte, error) {
	if a.family == familyEd25519 {
		return key.Sign(rand.Reader, text, crypto.Hash(0))
	}
	h := a.hash.New()
	h.Write(text)
	var options crypto.SignerOpts = a.hash
	if a.family == familyPSS {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	signature, err := key.Sign(rand.Reader, h.Sum(nil), options)
	if err != nil || a.family != familyECDSA {
		return signature, err
	}
	// A signer gives DER, a JWS holds the two numbers side by side.
	var pair struct{ R, S *big.Int }
	rest, err := asn1.Unmarshal(signature, &pair)
	half := a.size(key.Public()) / 2
	if err != nil || len(rest) > 0 || pair.R.Sign() <= 0 || pair.S.Sign() <= 0 || pair.R.BitLen() > half*8 || pair.S.BitLen() > half*8 {
		return nil, ErrSignature
	}
	return append(pair.R.FillBytes(make([]byte, half)), pair.S.FillBytes(make([]byte, half))...), nil
}
