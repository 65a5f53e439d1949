package issuer

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

var made = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func otherKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func with(m map[string]any, name string, value any) map[string]any {
	if m[name] = value; value == nil {
		delete(m, name)
	}
	return m
}

// Row N32 and requirement 46: one key at a time.
func TestN32Keys(t *testing.T) {
	r2048, p256 := rsaKey(t), otherKey(t)
	weak := new(big.Int).SetBit(big.NewInt(1), 1023, 1).Bytes()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs := func() map[string]any { return idptest.JWK(r2048.Public(), "k", "RS256") }
	es := func() map[string]any { return idptest.JWK(p256.Public(), "k", "ES256") }
	encode := base64.RawURLEncoding.EncodeToString
	off := es()
	off["y"] = encode(make([]byte, 32))
	for _, c := range []struct {
		name string
		key  map[string]any
		err  error
		alg  string
	}{
		{"RSA", rs(), nil, "RS256"},
		{"RSA without alg", with(rs(), "alg", nil), nil, "RS256"},
		{"RSA for PS256", with(rs(), "alg", "PS256"), nil, "PS256"},
		{"RSA without use and kid", with(with(rs(), "use", nil), "kid", nil), nil, "RS256"},
		{"P-256 without alg", with(es(), "alg", nil), nil, "ES256"},
		{"P-384", idptest.JWK(p384.Public(), "k", "ES384"), nil, "ES384"},
		{"Ed25519", idptest.JWK(ed, "k", "EdDSA"), nil, "EdDSA"},
		{"key_ops verify", with(rs(), "key_ops", []string{"verify"}), nil, "RS256"},
		{"x5c that matches", with(es(), "x5c", []string{certificate(t, p256)}), nil, "ES256"},
		{"N32 symmetric", map[string]any{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "k"}, errPrivate, ""},
		{"N32 symmetric member in an RSA key", with(rs(), "k", "c2VjcmV0"), errPrivate, ""},
		{"R46 private member", with(rs(), "d", "AQAB"), errPrivate, ""},
		{"R46 private EC key", with(es(), "d", "AQAB"), errPrivate, ""},
		{"N32 for encryption", with(rs(), "use", "enc"), errPurpose, ""},
		{"R46 use a list", with(rs(), "use", []string{"sig"}), errPurpose, ""},
		{"R46 key_ops encrypt", with(rs(), "key_ops", []string{"encrypt"}), errPurpose, ""},
		{"N32 RSA of 1024 bits", with(rs(), "n", encode(weak)), errWeak, ""},
		{"R46 e=1", with(rs(), "e", "AQ"), errWeak, ""},
		{"R46 e even", with(rs(), "e", "BA"), errWeak, ""},
		{"R46 e of five bytes", with(rs(), "e", encode([]byte{1, 0, 0, 0, 1})), errMember, ""},
		{"R46 n even", with(rs(), "n", encode(append(make([]byte, 0), append([]byte{0x80}, make([]byte, 255)...)...))), errWeak, ""},
		{"R46 n far too long", with(rs(), "n", strings.Repeat("A", 4096)), errMember, ""},
		{"R46 n with padding", with(rs(), "n", rs()["n"].(string)+"=="), errMember, ""},
		{"R46 n missing", with(rs(), "n", nil), errMember, ""},
		{"N32 point not on the curve", off, errWeak, ""},
		{"R46 x too short", with(es(), "x", "AQAB"), errMember, ""},
		{"R46 ES256 on P-384", idptest.JWK(p384.Public(), "k", "ES256"), errAlg, ""},
		{"R46 RS256 on P-256", idptest.JWK(p256.Public(), "k", "RS256"), errAlg, ""},
		{"R46 alg none", with(rs(), "alg", "none"), errAlg, ""},
		{"R46 alg HS256", with(rs(), "alg", "HS256"), errAlg, ""},
		{"R46 alg that the provider does not list", with(rs(), "alg", "RS512"), errAlg, ""},
		{"unknown curve", idptest.JWK(p521.Public(), "k", "ES512"), errKind, ""},
		{"unknown kind", map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "pub": "x"}, errKind, ""},
		{"Ed25519 too short", map[string]any{"kty": "OKP", "crv": "Ed25519", "x": "AQAB"}, errMember, ""},
		{"kid a number", with(rs(), "kid", 5), errMember, ""},
		{"kid empty", with(rs(), "kid", ""), errMember, ""},
		{"kid too long", with(rs(), "kid", strings.Repeat("k", 257)), errMember, ""},
		{"N32 x5c of another key", with(es(), "x5c", []string{certificate(t, otherKey(t))}), errChain, ""},
		{"N32 x5c rubbish", with(es(), "x5c", []string{"AAAA"}), errChain, ""},
		{"N32 x5c a string", with(es(), "x5c", certificate(t, p256)), errChain, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := json.Marshal(c.key)
			if err != nil {
				t.Fatal(err)
			}
			key, err := ReadKey(raw, []string{"RS256", "ES256", "ES384", "EdDSA", "PS256"})
			if !errors.Is(err, c.err) || key.Alg != c.alg {
				t.Fatalf("got %q, %v; want %q, %v", key.Alg, err, c.alg, c.err)
			}
		})
	}
}

func TestRSAKeyWithoutAlg(t *testing.T) {
	raw, err := json.Marshal(with(idptest.JWK(rsaKey(t).Public(), "k", ""), "alg", nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		algs []string
		want string
		err  error
	}{
		{[]string{"RS256", "PS256"}, "RS256", nil},
		{[]string{"PS256", "ES256"}, "PS256", nil},
		{[]string{"PS256", "PS512"}, "", errAlg},
		{[]string{"ES256"}, "", errAlg},
	} {
		key, err := ReadKey(raw, c.algs)
		if key.Alg != c.want || !errors.Is(err, c.err) {
			t.Errorf("%v: %q, %v; want %q, %v", c.algs, key.Alg, err, c.want, c.err)
		}
	}
}

func certificate(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Unix(1, 0), NotAfter: time.Unix(2, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func selfSigned(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key := otherKey(t)
	der, err := base64.StdEncoding.DecodeString(certificate(t, key))
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func TestDropAmbiguous(t *testing.T) {
	keys := []Key{{Kid: "a", Alg: "RS256"}, {Kid: "a", Alg: "RS256"}, {Kid: "a", Alg: "ES256"}, {Alg: "RS256"}, {Alg: "RS256"}}
	got := dropAmbiguous(keys, slog.New(slog.DiscardHandler))
	if len(got) != 3 || got[0].Alg != "ES256" {
		t.Errorf("left: %v", got)
	}
}
