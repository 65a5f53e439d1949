package idptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
)

type key struct {
	kid, alg string
	signer   crypto.Signer
}

var shared struct {
	sync.Mutex
	keys map[string]key
}

// sharedKey makes one key an algorithm for the whole test binary: RSA keys are
// slow to make.
func sharedKey(alg string) key {
	shared.Lock()
	defer shared.Unlock()
	if k, ok := shared.keys[alg]; ok {
		return k
	}
	if shared.keys == nil {
		shared.keys = map[string]key{}
	}
	k := key{kid: "shared-" + alg, alg: alg, signer: makeKey(alg)}
	shared.keys[alg] = k
	return k
}

func makeKey(alg string) crypto.Signer {
	var made crypto.Signer
	var err error
	switch alg {
	case "ES256":
		made, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		made, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, made, err = ed25519.GenerateKey(rand.Reader)
	default:
		made, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(fmt.Sprintf("idptest: making a key: %v", err))
	}
	return made
}

// JWK is a public key as a member of a key set.
func JWK(public crypto.PublicKey, kid, alg string) map[string]any {
	m := map[string]any{"kid": kid, "use": "sig", "alg": alg}
	switch k := public.(type) {
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			panic(fmt.Sprintf("idptest: a key of its own: %v", err))
		}
		half := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Curve.Params().Name, b64(point[1:1+half]), b64(point[1+half:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", b64(k)
	}
	return m
}

func (s *Server) published() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []map[string]any
	for _, k := range s.keys {
		all = append(all, JWK(k.signer.Public(), k.kid, k.alg))
	}
	return all
}

// Rotate replaces all keys by one new P-256 key, with which ID tokens are signed
// from now on.
func (s *Server) Rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	s.keys = []key{{kid: fmt.Sprintf("rotated-%d", s.made), alg: "ES256", signer: makeKey("ES256")}}
}

// keyFor gives the key to sign with; one of a rare algorithm is published first.
func (s *Server) keyFor(alg string) key {
	s.mu.Lock()
	defer s.mu.Unlock()
	if alg == "" {
		return s.keys[0]
	}
	for _, k := range s.keys {
		if k.alg == alg {
			return k
		}
	}
	k := sharedKey(alg)
	s.keys = append(s.keys, k)
	return k
}

// AtHash is the at_hash claim for an access token.
func AtHash(alg, access string) string {
	switch alg {
	case "EdDSA", "RS512":
		sum := sha512.Sum512([]byte(access))
		return b64(sum[:32])
	case "ES384", "RS384":
		sum := sha512.Sum384([]byte(access))
		return b64(sum[:24])
	}
	sum := sha256.Sum256([]byte(access))
	return b64(sum[:16])
}

func signature(k key, text []byte) []byte {
	hash := crypto.SHA256
	switch {
	case strings.HasSuffix(k.alg, "384"):
		hash = crypto.SHA384
	case strings.HasSuffix(k.alg, "512"):
		hash = crypto.SHA512
	}
	h := hash.New()
	h.Write(text)
	digest := h.Sum(nil)
	var out []byte
	var err error
	switch private := k.signer.(type) {
	case nil:
		if k.alg == "HS256" {
			mac := hmac.New(sha256.New, publicPEM())
			mac.Write(text)
			return mac.Sum(nil)
		}
		return nil // alg none
	case ed25519.PrivateKey:
		return ed25519.Sign(private, text)
	case *ecdsa.PrivateKey:
		r, v, failed := ecdsa.Sign(rand.Reader, private, digest)
		size := (private.Curve.Params().BitSize + 7) / 8
		out, err = make([]byte, 2*size), failed
		if err == nil {
			r.FillBytes(out[:size])
			v.FillBytes(out[size:])
		}
	case *rsa.PrivateKey:
		if strings.HasPrefix(k.alg, "PS") {
			out, err = rsa.SignPSS(rand.Reader, private, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			out, err = rsa.SignPKCS1v15(rand.Reader, private, hash, digest)
		}
	}
	if err != nil {
		panic(fmt.Sprintf("idptest: signing: %v", err))
	}
	return out
}

// publicPEM is the text that a client would use as an HMAC key if it took the
// algorithm from the token.
func publicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(sharedKey("RS256").signer.Public())
	if err != nil {
		panic(fmt.Sprintf("idptest: a key of its own: %v", err))
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func marshal(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("idptest: a fault made claims that are no JSON: %v", err))
	}
	return string(text)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
