package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func clientCertificate(t *testing.T) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "anteroom"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// door is where the provider takes clients with a certificate. Behind it is the same
// provider, to which it vouches for those with the right one.
type door struct {
	*httptest.Server
	mu   sync.Mutex
	seen []string // paths of requests with the certificate
}

func (d *door) paths() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.seen, " ")
}

// behind is a rig whose provider has such a door.
func behind(t *testing.T, certificate *tls.Certificate, change func(*Config)) (*rig, *door) {
	t.Helper()
	d := &door{}
	var r *rig
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if len(q.TLS.PeerCertificates) != 1 || string(q.TLS.PeerCertificates[0].Raw) != string(certificate.Certificate[0]) {
			http.Error(w, "no certificate", http.StatusForbidden)
			return
		}
		d.mu.Lock()
		d.seen = append(d.seen, q.URL.Path)
		d.mu.Unlock()
		q.Host = strings.TrimPrefix(r.server.URL, "http://")
		if q.Method == http.MethodPost {
			q.SetBasicAuth("anteroom", url.QueryEscape(longSecret))
		}
		r.server.ServeHTTP(w, q)
	}))
	d.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	d.StartTLS()
	t.Cleanup(d.Close)
	roots := x509.NewCertPool()
	roots.AddCert(d.Certificate())
	r = registered(t, func(c *idp.Config) { c.Clients[0].Secret = longSecret }, func(c *Config) {
		c.Client.Auth = mutualTLS
		c.Fetch.Certificate, c.Fetch.Roots = certificate, roots
		if change != nil {
			change(c)
		}
	})
	return r, d
}

// doors is what the provider says of it.
func doors(d *door, more ...func(map[string]any)) idptest.Fault {
	return idptest.Metadata(func(m map[string]any) {
		m["token_endpoint_auth_methods_supported"] = []string{mutualTLS, selfSignedTLS, secretBasic, privateKeyJWT}
		m["mtls_endpoint_aliases"] = map[string]any{
			"token_endpoint": d.URL + "/token", "userinfo_endpoint": d.URL + "/userinfo",
			"pushed_authorization_request_endpoint": d.URL + "/par", "revocation_endpoint": "https://elsewhere.example/",
		}
		for _, change := range more {
			change(m)
		}
	})
}

func TestC22MutualTLS(t *testing.T) {
	for _, method := range []string{mutualTLS, selfSignedTLS} {
		t.Run("C22 "+method, func(t *testing.T) {
			r, d := behind(t, clientCertificate(t), func(c *Config) { c.Client.Auth, c.Request.PAR = method, true })
			r.server.Use(doors(d), lean)
			if _, err := r.signedIn(t, started); err != nil {
				t.Fatal(err)
			}
			if got := d.paths(); got != "/par /token /userinfo" {
				t.Errorf("with the certificate: %s", got)
			}
			form := r.server.Requests(idptest.AtToken)[0].Form
			if form.Get("client_id") != "anteroom" || form.Has("client_secret") || form.Has("client_assertion") {
				t.Errorf("form %v", form)
			}
		})
	}
	t.Run("C22 without a certificate nobody looks at them", func(t *testing.T) {
		r := newRig(t, nil)
		r.server.Use(idptest.Metadata(func(m map[string]any) {
			m["mtls_endpoint_aliases"] = map[string]any{"token_endpoint": "https://elsewhere.example/token"}
		}))
		if _, err := r.signedIn(t, started); err != nil {
			t.Fatal(err)
		}
		if r.server.Count(idptest.AtToken) != 1 {
			t.Error("the token request went elsewhere")
		}
	})
	t.Run("C22 at a host that is not listed", func(t *testing.T) {
		r, d := behind(t, clientCertificate(t), nil)
		for name, alias := range map[string]any{
			"host": "https://elsewhere.example/token", "scheme": "ftp://127.0.0.1/token", "kind": 5, "host in capitals": "HTTPS://ELSEWHERE.example/token",
		} {
			r.server.Use(doors(d, func(m map[string]any) { m["mtls_endpoint_aliases"].(map[string]any)["token_endpoint"] = alias }))
			r.server.Pass(6 * time.Second)
			who, err := r.signedIn(t, started)
			wantFailure(t, who, err, identity.ErrUnavailable, "discovery.mtls_endpoint_aliases")
			if name == "host" && !strings.Contains(err.Error(), "hosts elsewhere.example") {
				t.Errorf("no remedy in %v", err)
			}
		}
	})
	t.Run("the provider sees another certificate", func(t *testing.T) {
		right, wrong := clientCertificate(t), clientCertificate(t)
		r, d := behind(t, right, func(c *Config) { c.Fetch.Certificate = wrong })
		r.server.Use(doors(d))
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrRefused, "token.refused")
	})
}

// The FAPI 2.0 profile with a certificate: tokens are bound to it, not to a proof.
func TestFAPI2WithCertificate(t *testing.T) {
	certificate := clientCertificate(t)
	sum := sha256.Sum256(certificate.Certificate[0])
	ours := base64.RawURLEncoding.EncodeToString(sum[:])
	promise := func(m map[string]any) { m["tls_client_certificate_bound_access_tokens"] = true }
	for name, c := range map[string]struct {
		promise func(map[string]any)
		cnf     map[string]any
		kind    error
		reason  string
	}{
		"bound":                     {promise, map[string]any{"x5t#S256": ours}, nil, ""},
		"bound to another":          {promise, map[string]any{"x5t#S256": "x"}, identity.ErrRefused, "token.unbound"},
		"bound to a proof":          {promise, map[string]any{"jkt": ours}, identity.ErrRefused, "token.unbound"},
		"unbound":                   {promise, nil, identity.ErrRefused, "token.unbound"},
		"not promised":              {func(map[string]any) {}, nil, identity.ErrUnavailable, "discovery.fapi2"},
		"promised with other words": {func(m map[string]any) { m["tls_client_certificate_bound_access_tokens"] = "true" }, nil, identity.ErrUnavailable, "discovery.fapi2"},
	} {
		t.Run(name, func(t *testing.T) {
			r, d := behind(t, certificate, func(config *Config) { config.FAPI2 = true })
			claims := map[string]any{"sub": "x"}
			if c.cnf != nil {
				claims["cnf"] = c.cnf
			}
			access := r.server.Sign(t, "at+jwt", claims)
			r.server.Use(doors(d, c.promise), signs, idptest.DropClaims("at_hash"), idptest.TokenAnswer(func(a map[string]any) { a["access_token"] = access }))
			who, err := r.signedIn(t, started)
			if c.kind != nil {
				wantFailure(t, who, err, c.kind, c.reason)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.server.Requests(idptest.AtToken)[0].Header.Get("DPoP") != "" {
				t.Error("a proof besides the certificate")
			}
		})
	}
}

// RFC 8705, section 2.2: the provider finds our certificate in our key set.
func TestSelfSignedCertificateIsPublished(t *testing.T) {
	certificate := clientCertificate(t)
	s := keyed(t, Resources{}, func(c *Config) { c.Client.Auth, c.Fetch.Certificate = selfSignedTLS, certificate })
	set, err := s.JWKS(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var key struct {
		Kty, Kid string
		X5c      [][]byte
	}
	if err := json.Unmarshal(onlyKey(t, set), &key); err != nil {
		t.Fatal(err)
	}
	if key.Kty != "EC" || key.Kid == "" || len(key.X5c) != 1 || string(key.X5c[0]) != string(certificate.Certificate[0]) {
		t.Errorf("published %s", set)
	}
	for _, method := range []string{mutualTLS, selfSignedTLS} {
		if _, err := New(Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Auth: method}}); err == nil {
			t.Errorf("%s without a certificate is accepted", method)
		}
	}
}
