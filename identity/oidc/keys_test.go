package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
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

// Row N32: whole sets, through a sign-in with nothing cached.
func TestN32Sets(t *testing.T) {
	keys := func(change func([]map[string]any) []map[string]any) idptest.Fault {
		return idptest.Keys(func(set map[string]any) { set["keys"] = change(set["keys"].([]map[string]any)) })
	}
	text := func(s string) idptest.Fault { return idptest.Text(idptest.AtKeys, "application/json", s) }
	r := newRig(t, nil)
	for _, c := range []struct {
		name   string
		fault  idptest.Fault
		kind   error
		reason string
	}{
		{"N32 empty", keys(func([]map[string]any) []map[string]any { return nil }), identity.ErrUnavailable, "jwks.malformed"},
		{"N32 no keys in it", text(`{"keys":[]}`), identity.ErrRefused, "idtoken.key"},
		{"N32 no member keys", text(`{}`), identity.ErrUnavailable, "jwks.malformed"},
		{"N32 keys an object", text(`{"keys":{}}`), identity.ErrUnavailable, "jwks.malformed"},
		{"N32 a list", text(`[]`), identity.ErrUnavailable, "jwks.unreachable"},
		{"N32 two members keys", text(`{"keys":[],"keys":[]}`), identity.ErrUnavailable, "jwks.unreachable"},
		{"N32 HTML", idptest.Status(idptest.AtKeys, 200), identity.ErrUnavailable, "jwks.unreachable"},
		{"N32 5 MiB", idptest.Huge(idptest.AtKeys, 5<<20), identity.ErrUnavailable, "jwks.unreachable"},
		{"R47 redirect to another host", idptest.RedirectTo(idptest.AtKeys, "http://127.0.0.1:1/jwks"), identity.ErrUnavailable, "jwks.unreachable"},
		{"N32 10000 keys", keys(func(k []map[string]any) []map[string]any {
			for len(k) < 10_000 {
				k = append(k, map[string]any{"kty": "x"})
			}
			return k
		}), identity.ErrUnavailable, "jwks.malformed"},
		{"N32 51 keys", keys(func(k []map[string]any) []map[string]any {
			for len(k) < 51 {
				k = append(k, map[string]any{"kty": "x"})
			}
			return k
		}), identity.ErrUnavailable, "jwks.malformed"},
		{"N32 the same kid twice", keys(func(k []map[string]any) []map[string]any {
			return append(k, idptest.JWK(rsaKey(t).Public(), "shared-RS256", "RS256"))
		}), identity.ErrRefused, "idtoken.key"},
		{"N32 the key is for encryption", keys(func(k []map[string]any) []map[string]any { k[0]["use"] = "enc"; return k }), identity.ErrRefused, "idtoken.key"},
		{"R46 the key shows its private half", keys(func(k []map[string]any) []map[string]any { k[0]["d"] = "AQAB"; return k }), identity.ErrRefused, "idtoken.key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.source = r.another(t, nil)
			who, err := r.attempt(t, c.fault)
			wantFailure(t, who, err, c.kind, c.reason)
		})
	}
	t.Run("unknown kinds beside a good key", func(t *testing.T) {
		r.source = r.another(t, nil)
		r.accepts(t, keys(func(k []map[string]any) []map[string]any {
			return append([]map[string]any{{"kty": "AKP"}, {"kty": "OKP", "crv": "X25519", "x": "AA"}, {"kty": "oct", "k": "AA"}}, k...)
		}))
	})
	t.Run("redirect within the origin", func(t *testing.T) {
		r.source = r.another(t, nil)
		r.accepts(t, idptest.Metadata(func(m map[string]any) { m["jwks_uri"] = r.server.URL + "/keys-moved" }),
			idptest.Replace(idptest.AtElsewhere, idptest.GoTo("/jwks")))
	})
}

// A rotation while twenty people sign in: everybody gets in, for one request.
func TestRotationUnderLoad(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	r.server.Rotate()
	r.server.Forget()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			step, err := r.source.Begin(t.Context(), started)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := r.source.Finish(t.Context(), back(step, r.server.SignIn(t, step.RedirectURL, "doctor", "doctor"))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := r.server.Count(idptest.AtKeys); n != 1 {
		t.Errorf("%d requests for the keys, want 1", n)
	}
}

// A rotation at a provider that names no keys.
func TestRotationWithoutKid(t *testing.T) {
	r := newRig(t, nil)
	nameless := []idptest.Fault{
		idptest.SignWith("ES256"),
		idptest.Header(func(h map[string]any) { delete(h, "kid") }),
		idptest.Keys(func(set map[string]any) {
			for _, key := range set["keys"].([]map[string]any) {
				delete(key, "kid")
			}
		}),
	}
	r.accepts(t, nameless...)
	r.server.Rotate()
	r.accepts(t, nameless...)
}

func otherKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
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
