package idp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"time"
)

// assertionAlgs are the algorithms of client assertions and DPoP proofs.
var assertionAlgs = []string{"ES256", "RS256", "PS256", "EdDSA"}

// jws is a token that a client made, taken apart and not yet believed.
type jws struct {
	header, claims    map[string]any
	signed, signature []byte
}

func parseJWS(compact string) (jws, bool) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 || len(compact) > 16<<10 {
		return jws{}, false
	}
	t := jws{signed: []byte(parts[0] + "." + parts[1])}
	decode := func(text string, into *map[string]any) error {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, into)
	}
	var err error
	t.signature, err = base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err = errors.Join(err, decode(parts[0], &t.header), decode(parts[1], &t.claims)); err != nil || t.header["crit"] != nil {
		return jws{}, false
	}
	return t, true
}

// keyedWith is for HS256, signedWith for everything else: the caller knows which
// of the two it wants, the token does not choose.
func (t jws) keyedWith(secret []byte) bool {
	mac := hmac.New(sha256.New, secret)
	mac.Write(t.signed)
	return t.header["alg"] == "HS256" && hmac.Equal(mac.Sum(nil), t.signature)
}

func (t jws) signedWith(public crypto.PublicKey) bool {
	digest := sha256.Sum256(t.signed)
	alg, _ := t.header["alg"].(string)
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if alg != "ES256" || len(t.signature) != 64 {
			return false
		}
		r, s := new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:])
		return ecdsa.Verify(key, digest[:], r, s)
	case *rsa.PublicKey:
		switch alg {
		case "RS256":
			return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], t.signature) == nil
		case "PS256":
			return rsa.VerifyPSS(key, crypto.SHA256, digest[:], t.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
	case ed25519.PublicKey:
		return alg == "EdDSA" && ed25519.Verify(key, t.signed, t.signature)
	}
	return false
}

// publicKey reads a JWK (RFC 7517), which must not have private members.
func publicKey(jwk map[string]any) (crypto.PublicKey, error) {
	bad := errors.New("reading key: not a public key that is served here")
	if jwk["d"] != nil || jwk["k"] != nil {
		return nil, bad
	}
	member := func(name string) []byte {
		text, _ := jwk[name].(string)
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			return nil
		}
		return raw
	}
	switch {
	case jwk["kty"] == "RSA":
		n, e := new(big.Int).SetBytes(member("n")), new(big.Int).SetBytes(member("e"))
		if n.BitLen() < 2048 || n.BitLen() > 8192 || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, bad
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case jwk["kty"] == "EC" && jwk["crv"] == "P-256":
		x, y := member("x"), member("y")
		if len(x) != 32 || len(y) != 32 {
			return nil, bad
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	case jwk["kty"] == "OKP" && jwk["crv"] == "Ed25519":
		if x := member("x"); len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x), nil
		}
	}
	return nil, bad
}

// thumbprint is RFC 7638 with SHA-256.
func thumbprint(jwk map[string]any) string {
	required := map[string]any{}
	for _, name := range []string{"crv", "e", "kty", "n", "x", "y"} {
		if value, ok := jwk[name]; ok {
			required[name] = value
		}
	}
	members, err := json.Marshal(required) // sorted, without blanks: the form of section 3
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(members)
	return b64(sum[:])
}

// moment reads a NumericDate (RFC 7519, section 2).
func moment(claim any) (time.Time, bool) {
	seconds, ok := claim.(float64)
	if !ok || seconds < 1 || seconds > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}
