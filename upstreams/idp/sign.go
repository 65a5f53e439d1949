package idp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// signer makes compact JWS (RFC 7515) with one key and one algorithm.
type signer struct {
	key crypto.Signer
	alg string
	kid string
	jwk map[string]any
}

// newSigner uses key, or makes an RSA key of 2048 bits. The kid is the key's
// thumbprint (RFC 7638), so that another key never has the same.
func newSigner(key crypto.Signer) (signer, error) {
	if key == nil {
		made, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return signer{}, fmt.Errorf("making signing key: %w", err)
		}
		key = made
	}
	s := signer{key: key}
	switch public := key.Public().(type) {
	case *rsa.PublicKey:
		s.alg = "RS256"
		s.jwk = map[string]any{"kty": "RSA", "n": b64(public.N.Bytes()), "e": b64(big.NewInt(int64(public.E)).Bytes())}
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return signer{}, errors.New("making signer: the curve is not P-256")
		}
		point, err := public.Bytes()
		if err != nil {
			return signer{}, fmt.Errorf("making signer: %w", err)
		}
		s.alg = "ES256"
		s.jwk = map[string]any{"kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	default:
		return signer{}, errors.New("making signer: the key is neither RSA nor P-256")
	}
	s.kid = thumbprint(s.jwk)
	s.jwk["kid"], s.jwk["use"], s.jwk["alg"] = s.kid, "sig", s.alg
	return s, nil
}

// sign makes a token of a typ.
func (s signer) sign(typ string, claims map[string]any) (string, error) {
	return s.seal(map[string]any{"alg": s.alg, "kid": s.kid, "typ": typ}, claims)
}

func (s signer) seal(members, claims map[string]any) (string, error) {
	header, err := json.Marshal(members)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	text := b64(header) + "." + b64(payload)
	digest := sha256.Sum256([]byte(text))
	var signature []byte
	if key, ok := s.key.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return "", fmt.Errorf("signing: %w", err)
		}
		signature = make([]byte, 64)
		r.FillBytes(signature[:32])
		v.FillBytes(signature[32:])
	} else if signature, err = s.key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return text + "." + b64(signature), nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
