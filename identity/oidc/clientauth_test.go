package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

const longSecret = "a secret of more than 32 bytes: +%/"

// Row 12, C18: each way, at a provider that knows no other one for this client.
func TestClientAuthentication(t *testing.T) {
	for _, method := range []string{secretBasic, secretPost, secretJWT, privateKeyJWT} {
		t.Run("row 12 "+method, func(t *testing.T) {
			r := registered(t, func(c *idp.Config) {
				c.Clients[0].Auth, c.Clients[0].Secret = method, longSecret
				if method == privateKeyJWT {
					c.Clients[0].Secret, c.Clients[0].JWKSURI = "", keysAddress
				}
			}, func(c *Config) { c.Client.Auth = method })
			if _, err := r.signedIn(t, started); err != nil {
				t.Fatal(err)
			}
			request := r.server.Requests(idptest.AtToken)[0]
			ways := 0
			for _, there := range []bool{request.Header.Get("Authorization") != "", request.Form.Has("client_secret"), request.Form.Has("client_assertion")} {
				if there {
					ways++
				}
			}
			if ways != 1 {
				t.Errorf("the client shows itself in %d ways (RFC 6749, section 2.3)", ways)
			}
			if strings.Contains(request.URL.String(), "client") {
				t.Error("something of the client is in the address")
			}
		})
	}
}

func TestRow12FormEncodedBeforeBase64(t *testing.T) {
	r := registered(t, func(c *idp.Config) { c.Clients[0].ID, c.Clients[0].Secret = "an:id c%+", "a:b c%+" }, nil)
	if _, err := r.signedIn(t, started); err != nil {
		t.Fatal(err)
	}
	header := r.server.Requests(idptest.AtToken)[0].Header.Get("Authorization")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Basic "))
	if err != nil || string(raw) != "an%3Aid+c%25%2B:a%3Ab+c%25%2B" {
		t.Errorf("got %q, %v", raw, err)
	}
}

// claimsOf reads an assertion without verifying it: that is the provider's part.
func claimsOf(t *testing.T, compact string) (jws.Header, jws.Claims) {
	t.Helper()
	token, err := jws.Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := token.Claims()
	if err != nil {
		t.Fatal(err)
	}
	return token.Header, claims
}

// Row 11: two providers, the second of which names the first one's endpoints. An
// assertion that the second gets is of no use at the first.
func TestRow11AssertionAudience(t *testing.T) {
	r := registered(t, func(c *idp.Config) { c.Clients[0].Auth, c.Clients[0].JWKSURI = privateKeyJWT, keysAddress }, func(c *Config) {
		c.Client = Client{ID: c.Client.ID, Auth: privateKeyJWT}
	})
	seen := map[string]bool{}
	for range 3 {
		r.server.Forget()
		if _, err := r.signedIn(t, started); err != nil {
			t.Fatal(err)
		}
		header, claims := claimsOf(t, r.server.Requests(idptest.AtToken)[0].Form.Get("client_assertion"))
		if got := string(claims["aud"]); got != `"`+r.server.URL+`"` {
			t.Errorf("aud is %s, want the issuer as one string", got)
		}
		if header.Kid == "" || header.Alg != "ES256" {
			t.Errorf("header %+v", header)
		}
		for name, want := range map[string]string{"iss": "anteroom", "sub": "anteroom"} {
			if got, _, _ := claims.String(name); got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
		at, _, _ := claims.Time("iat")
		expires, _, _ := claims.Time("exp")
		if expires.Sub(at) != time.Minute || r.server.Now().Sub(at).Abs() > 5*time.Second {
			t.Errorf("lives from %v to %v", at, expires)
		}
		jti, _, _ := claims.String("jti")
		if len(jti) < 22 || seen[jti] {
			t.Errorf("jti %q came before or is guessable", jti)
		}
		seen[jti] = true
	}
	t.Run("row 11 metadata of another provider", func(t *testing.T) {
		evil := registered(t, func(c *idp.Config) {}, func(c *Config) { c.Client = Client{ID: "anteroom", Auth: privateKeyJWT} })
		evil.server.Use(idptest.Metadata(func(m map[string]any) { m["token_endpoint"] = r.server.URL + "/token" }))
		p, err := evil.source.ready(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		text, err := evil.source.assertion(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, claims := claimsOf(t, text); string(claims["aud"]) != `"`+evil.server.URL+`"` {
			t.Errorf("aud is %s", claims["aud"])
		}
	})
	t.Run("row 11 the exact address by configuration", func(t *testing.T) {
		s := r.another(t, func(c *Config) {
			c.Client = Client{ID: "anteroom", Auth: privateKeyJWT, AssertionAudience: r.server.URL + "/token"}
		})
		s.Use(resources(t))
		p, err := s.ready(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		text, err := s.assertion(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		if _, claims := claimsOf(t, text); string(claims["aud"]) != `"`+r.server.URL+`/token"` {
			t.Errorf("aud is %s", claims["aud"])
		}
	})
}

func TestSecretJWTIsHS256(t *testing.T) {
	r := registered(t, func(c *idp.Config) { c.Clients[0].Auth, c.Clients[0].Secret = secretJWT, longSecret }, func(c *Config) { c.Client.Auth = secretJWT })
	if _, err := r.signedIn(t, started); err != nil {
		t.Fatal(err)
	}
	compact := r.server.Requests(idptest.AtToken)[0].Form.Get("client_assertion")
	parts := strings.Split(compact, ".")
	mac := hmac.New(sha256.New, []byte(longSecret))
	mac.Write([]byte(parts[0] + "." + parts[1]))
	if base64.RawURLEncoding.EncodeToString(mac.Sum(nil)) != parts[2] {
		t.Error("not HS256 with the secret")
	}
	// What we send is nothing that we would take.
	if _, err := jws.Parse(compact); err == nil {
		t.Error("our parser takes an HMAC")
	}
}

func TestGivenKeys(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		key      crypto.Signer
		accepted []string
		alg      string
	}{
		{"P-256", p256, nil, "ES256"}, {"P-384", p384, nil, "ES384"}, {"Ed25519", ed, nil, "EdDSA"}, {"RSA", big, nil, "RS256"},
		{"RSA at a provider for PSS", big, []string{"PS256", "ES256"}, "PS256"}, {"P-256 at a provider for RSA", p256, []string{"RS256"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(config *Config) { config.Client = Client{ID: "anteroom", Auth: privateKeyJWT, Key: c.key} })
			r.server.Use(idptest.Metadata(func(m map[string]any) {
				delete(m, "token_endpoint_auth_signing_alg_values_supported")
				if c.accepted != nil {
					m["token_endpoint_auth_signing_alg_values_supported"] = c.accepted
				}
			}))
			p, err := r.source.ready(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			text, err := r.source.assertion(context.Background(), p)
			if c.alg == "" {
				wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "client.alg")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			token, err := jws.Parse(text)
			if err != nil || token.Header.Alg != c.alg {
				t.Fatalf("%+v, %v; want %s", token, err, c.alg)
			}
			// What is published verifies what is sent.
			set, err := r.source.JWKS(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			key := onlyKey(t, set)
			read, err := issuer.ReadKey(key, []string{c.alg})
			if err != nil {
				t.Fatal(err)
			}
			if read.Kid != token.Header.Kid || token.Verify(c.alg, read.Public) != nil {
				t.Error("the published key does not verify the assertion")
			}
		})
	}
}

func onlyKey(t *testing.T, set []byte) json.RawMessage {
	t.Helper()
	var all struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(set, &all); err != nil || len(all.Keys) != 1 {
		t.Fatalf("%s: %v", set, err)
	}
	for _, private := range []string{`"d"`, `"p"`, `"k"`} {
		if strings.Contains(string(set), private) {
			t.Fatalf("a private key is published: %s", set)
		}
	}
	return all.Keys[0]
}

// A provider that does not take our way gets nothing that we could show it in
// another one.
func TestProviderWithoutTheMethod(t *testing.T) {
	r := registered(t, func(*idp.Config) {}, func(c *Config) { c.Client = Client{ID: "anteroom", Auth: privateKeyJWT} })
	r.server.Use(idptest.Metadata(func(m map[string]any) {
		m["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic", "none"}
	}))
	who, err := r.signedIn(t, started)
	wantFailure(t, who, err, identity.ErrUnavailable, "discovery.client_auth")
}

// The verifier, the code and the secret are in the body and in no log.
func TestTokenRequestLeaksNothing(t *testing.T) {
	r := registered(t, func(c *idp.Config) { c.Clients[0].Auth, c.Clients[0].Secret = secretPost, longSecret }, func(c *Config) { c.Client.Auth = secretPost })
	if _, err := r.signedIn(t, started); err != nil {
		t.Fatal(err)
	}
	request := r.server.Requests(idptest.AtToken)[0]
	if !slices.Equal(request.Form["client_secret"], []string{longSecret}) || request.URL.RawQuery != "" {
		t.Errorf("form %v", url.Values(request.Form))
	}
	if strings.Contains(r.log.String(), "secret of more") {
		t.Error("the secret is in the log")
	}
}

func TestClientConfigRefused(t *testing.T) {
	short := longSecret[:31]
	for name, c := range map[string]struct {
		client Client
		says   string
	}{
		"unknown way":                       {Client{ID: "c", Secret: longSecret, Auth: "none"}, "write one of"},
		"in another case":                   {Client{ID: "c", Secret: longSecret, Auth: "Client_Secret_Post"}, "write one of"},
		"no secret for a post":              {Client{ID: "c", Auth: secretPost}, "client_secret is missing"},
		"no secret for a JWT":               {Client{ID: "c", Auth: secretJWT}, "client_secret is missing"},
		"a secret that can be guessed":      {Client{ID: "c", Secret: short, Auth: secretJWT}, "32 or more"},
		"a secret for nothing":              {Client{ID: "c", Secret: longSecret, Auth: privateKeyJWT}, "leave it out"},
		"no certificate":                    {Client{ID: "c", Auth: mutualTLS}, "needs a client certificate"},
		"no certificate of our own":         {Client{ID: "c", Auth: selfSignedTLS}, "needs a client certificate"},
		"an audience for nothing":           {Client{ID: "c", Secret: longSecret, AssertionAudience: "https://i.example/token"}, "audience"},
		"an audience that is no address":    {Client{ID: "c", Auth: privateKeyJWT, AssertionAudience: "everybody"}, "audience"},
		"a key for nothing":                 {Client{ID: "c", Secret: longSecret, Key: weakKey{&ecdsa.PublicKey{Curve: elliptic.P256()}}}, "private_key_jwt only"},
		"a key on another curve":            {Client{ID: "c", Auth: privateKeyJWT, Key: weakKey{&ecdsa.PublicKey{Curve: elliptic.P521()}}}, "the client key is none of"},
		"an RSA key that is too short":      {Client{ID: "c", Auth: privateKeyJWT, Key: weakKey{&rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 1023), E: 65537}}}, "the client key is none of"},
		"a key of a kind that nobody knows": {Client{ID: "c", Auth: privateKeyJWT, Key: weakKey{"key"}}, "the client key is none of"},
	} {
		_, err := New(Config{Name: "n", Issuer: "https://i.example", Client: c.client})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), longSecret) || strings.Contains(err.Error(), short)) {
			t.Errorf("%s: the secret is in %v", name, err)
		}
	}
}

// weakKey is a signer of which only the public half is looked at.
type weakKey struct{ public crypto.PublicKey }

func (k weakKey) Public() crypto.PublicKey { return k.public }
func (weakKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no key")
}
