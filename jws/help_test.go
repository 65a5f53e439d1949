package jws

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"sync"
	"testing"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// keys of every kind, made once.
type keySet struct {
	ed     ed25519.PrivateKey
	p256   *ecdsa.PrivateKey
	p384   *ecdsa.PrivateKey
	rsa    *rsa.PrivateKey
	others *rsa.PrivateKey
}

var keys = sync.OnceValue(func() keySet {
	var k keySet
	var err error
	check := func() {
		if err != nil {
			panic(err)
		}
	}
	_, k.ed, err = ed25519.GenerateKey(nil)
	check()
	k.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check()
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check()
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	check()
	k.others, err = rsa.GenerateKey(rand.Reader, 2048)
	check()
	return k
})

// signRaw returns the signature that alg asks for over text.
func signRaw(t testing.TB, alg, text string) []byte {
	t.Helper()
	k := keys()
	digest := func(h crypto.Hash) []byte {
		w := h.New()
		w.Write([]byte(text))
		return w.Sum(nil)
	}
	raw := func(key *ecdsa.PrivateKey, h crypto.Hash) ([]byte, error) {
		r, s, err := ecdsa.Sign(rand.Reader, key, digest(h))
		if err != nil {
			return nil, err
		}
		half := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, half)), s.FillBytes(make([]byte, half))...), nil
	}
	pkcs1 := func(h crypto.Hash) ([]byte, error) { return rsa.SignPKCS1v15(nil, k.rsa, h, digest(h)) }
	pss := func(h crypto.Hash) ([]byte, error) {
		return rsa.SignPSS(rand.Reader, k.rsa, h, digest(h), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	var signature []byte
	var err error
	switch alg {
	case "EdDSA":
		signature = ed25519.Sign(k.ed, []byte(text))
	case "ES256":
		signature, err = raw(k.p256, crypto.SHA256)
	case "ES384":
		signature, err = raw(k.p384, crypto.SHA384)
	case "RS256":
		signature, err = pkcs1(crypto.SHA256)
	case "RS384":
		signature, err = pkcs1(crypto.SHA384)
	case "RS512":
		signature, err = pkcs1(crypto.SHA512)
	case "PS256":
		signature, err = pss(crypto.SHA256)
	case "PS384":
		signature, err = pss(crypto.SHA384)
	case "PS512":
		signature, err = pss(crypto.SHA512)
	default:
		t.Fatalf("no such algorithm %q", alg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func publicKey(alg string) crypto.PublicKey {
	k := keys()
	switch alg {
	case "EdDSA":
		return k.ed.Public()
	case "ES256":
		return &k.p256.PublicKey
	case "ES384":
		return &k.p384.PublicKey
	}
	return &k.rsa.PublicKey
}

var allAlgs = []string{"EdDSA", "ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}

// made is a token with a correct signature by alg over any header and payload.
func made(t testing.TB, alg, header, payload string) string {
	t.Helper()
	text := b64(header) + "." + b64(payload)
	return text + "." + b64(string(signRaw(t, alg, text)))
}

const goodPayload = `{"sub":"dana","role":"doctor"}`

// check parses and verifies with the EdDSA key, as a consumer does.
func check(token, alg string) error {
	parsed, err := Parse(token)
	if err != nil {
		return err
	}
	return parsed.Verify(alg, publicKey(alg))
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// withSignature replaces the signature part.
func withSignature(t testing.TB, header string, signature []byte) string {
	t.Helper()
	return b64(header) + "." + b64(goodPayload) + "." + b64(string(signature))
}

func ints(half int, r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, half)), s.FillBytes(make([]byte, half))...)
}
