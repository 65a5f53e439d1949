package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
)

// ParseProof is [Parse] for a token that brings its key along: the header must
// have a "jwk", which is returned as it stands there, and a "typ". Everything
// else is as strict as in Parse. The key must be public: with a private or a
// symmetric one, whose header everybody sees, the token is ErrMalformed.
//
// The key proves nothing but that whoever made the token holds it. It says who
// that is only when something else that was verified names its [Thumbprint].
func ParseProof(compact string) (*Token, json.RawMessage, error) { return parse(compact, true) }

// checkPublicJWK looks only for what makes a key no public key (RFC 7518, section
// 6); what kind it is and whether it is any good is judged by who builds it.
func checkPublicJWK(raw json.RawMessage) error {
	var members Claims
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &members) != nil {
		return malformed("header member jwk is missing or not an object")
	}
	kty, _, err := members.String("kty")
	if err != nil || (kty != "EC" && kty != "RSA" && kty != "OKP") {
		return malformed("header member jwk is not a public key of a kind that signs")
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
		if _, present := members[name]; present {
			return malformed("header member jwk is a private key")
		}
	}
	return nil
}

// JWK gives the members of a public key (RFC 7517; RFC 7518, section 6; RFC 8037)
// that belong to the key itself: no kid, no use, no alg. It returns ErrAlgorithm
// for a key that no algorithm of [Token.Verify] takes.
func JWK(public crypto.PublicKey) (map[string]any, error) {
	b64 := base64.RawURLEncoding.EncodeToString
	if usable(public) {
		switch k := public.(type) {
		case ed25519.PublicKey:
			return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(k)}, nil
		case *ecdsa.PublicKey:
			point, err := k.Bytes() // 4, x, y
			if err != nil {
				break
			}
			curve := "P-256"
			if k.Curve == elliptic.P384() {
				curve = "P-384"
			}
			half := len(point) / 2
			return map[string]any{"kty": "EC", "crv": curve, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}, nil
		case *rsa.PublicKey:
			e := big.NewInt(int64(k.E)).Bytes()
			return map[string]any{"kty": "RSA", "n": b64(k.N.Bytes()), "e": b64(e)}, nil
		}
	}
	return nil, fmt.Errorf("encoding public key: %w", ErrAlgorithm)
}

// Thumbprint is a public key's SHA-256 thumbprint in base64url (RFC 7638; RFC
// 8037, section 2). It is made from the key, not from the text that the key came
// in: two spellings of one key have one thumbprint.
func Thumbprint(public crypto.PublicKey) (string, error) {
	members, err := JWK(public)
	if err != nil {
		return "", err
	}
	// The members are the required ones and no others, their values need no
	// escapes, and a map is encoded sorted by name and without blanks: that is
	// RFC 7638, section 3.
	text, err := encodeJSON(members)
	if err != nil {
		return "", fmt.Errorf("encoding public key: %w", ErrAlgorithm)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// usable says whether a key fits any algorithm at all.
func usable(public crypto.PublicKey) bool {
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "RS256"} {
		if a, _ := lookup(alg); a.fits(public) {
			return true
		}
	}
	return false
}
