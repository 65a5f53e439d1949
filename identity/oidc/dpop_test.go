package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// fapi is a rig with the FAPI 2.0 profile at a provider that demands it.
func fapi(t *testing.T, register func(*idp.Config)) *rig {
	t.Helper()
	return registered(t, func(c *idp.Config) {
		client := &c.Clients[0]
		client.Auth, client.Secret, client.JWKSURI, client.PAR, client.DPoP = privateKeyJWT, "", keysAddress, true, true
		if register != nil {
			register(c)
		}
	}, func(c *Config) {
		hasty(c)
		c.FAPI2, c.Client.Auth = true, privateKeyJWT
	})
}

// signs makes the provider sign with an algorithm that the profile has.
var signs = idptest.SignWith("ES256")

type proof struct {
	jti, method, address, hash, nonce, thumbprint string
}

// proofOf verifies a proof as the provider does.
func proofOf(t *testing.T, r idptest.Request) proof {
	t.Helper()
	all := r.Header.Values("DPoP")
	if len(all) != 1 {
		t.Fatalf("%d proofs", len(all))
	}
	token, jwk, err := jws.ParseProof(all[0])
	if err != nil || !jws.TypeIs(token.Header.Typ, dpopType) {
		t.Fatalf("typ %q, %v", token.Header.Typ, err)
	}
	key, err := issuer.ReadKey(jwk, []string{dpopAlg})
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Verify(dpopAlg, key.Public); err != nil {
		t.Fatal(err)
	}
	claims, err := token.Claims()
	if err != nil {
		t.Fatal(err)
	}
	p := proof{}
	for name, to := range map[string]*string{"jti": &p.jti, "htm": &p.method, "htu": &p.address, "ath": &p.hash, "nonce": &p.nonce} {
		if *to, _, err = claims.String(name); err != nil {
			t.Fatal(err)
		}
	}
	if p.thumbprint, err = jws.Thumbprint(key.Public); err != nil {
		t.Fatal(err)
	}
	if _, present, err := claims.Time("iat"); err != nil || !present {
		t.Fatalf("iat: %v", err)
	}
	return p
}

func TestFAPI2(t *testing.T) {
	r := fapi(t, nil)
	r.server.Use(signs, lean)
	who, err := r.signedIn(t, started)
	if err != nil || who.Username != "doctor" || who.Name == "" {
		t.Fatalf("got %+v, %v", who, err)
	}
	token := proofOf(t, r.server.Requests(idptest.AtToken)[0])
	if token.method != "POST" || token.address != r.server.URL+"/token" || token.hash != "" || len(token.jti) < 22 {
		t.Errorf("proof %+v", token)
	}
	request := r.server.Requests(idptest.AtUserInfo)[0]
	user := proofOf(t, request)
	scheme, access, _ := strings.Cut(request.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(access))
	if scheme != "DPoP" || user.hash != base64.RawURLEncoding.EncodeToString(sum[:]) || user.address != r.server.URL+"/userinfo" || user.method != "GET" {
		t.Errorf("scheme %q, proof %+v", scheme, user)
	}
	if user.jti == token.jti || user.thumbprint != token.thumbprint {
		t.Error("a proof was used twice, or the key changed")
	}
	push := r.server.Requests(idptest.AtPush)[0]
	if push.Form.Get("dpop_jkt") != token.thumbprint || push.Form.Get("client_assertion") == "" {
		t.Error("the code is not bound to the key")
	}
	// The key of the proofs is not the one that we are known by.
	if header, _ := claimsOf(t, push.Form.Get("client_assertion")); header.Kid == token.thumbprint {
		t.Error("one key for two purposes")
	}
	if !who.Renews {
		t.Error("no refresh token")
	}
}

// A second node finishes what the first one began: same store, same key.
func TestFAPI2OnAnotherNode(t *testing.T) {
	r := fapi(t, nil)
	r.server.Use(signs)
	step := r.begin(t)
	other := r.another(t, func(c *Config) { c.FAPI2, c.Client.Auth = true, privateKeyJWT })
	other.Use(r.source.proves.from)
	if _, err := other.Finish(context.Background(), r.through(t, step)); err != nil {
		t.Fatal(err)
	}
}

// Row 13 with DPoP: a provider that wants a nonce gets the request once more, and
// never a third time.
func TestRow13Nonce(t *testing.T) {
	r := fapi(t, func(c *idp.Config) { c.DPoPNonce = true })
	r.server.Use(signs, lean)
	if _, err := r.signedIn(t, started); err != nil {
		t.Fatal(err)
	}
	all := r.server.Requests(idptest.AtToken)
	if len(all) != 2 {
		t.Fatalf("%d token requests, want 2", len(all))
	}
	first, second := proofOf(t, all[0]), proofOf(t, all[1])
	if first.nonce != "" || second.nonce == "" || first.jti == second.jti {
		t.Errorf("proofs %+v and %+v", first, second)
	}
	_, a := claimsOf(t, all[0].Form.Get("client_assertion"))
	_, b := claimsOf(t, all[1].Form.Get("client_assertion"))
	if string(a["jti"]) == string(b["jti"]) {
		t.Error("an assertion was used twice")
	}
	r.server.Forget()
	if _, err := r.signedIn(t, started); err != nil || r.server.Count(idptest.AtToken) != 1 {
		t.Errorf("the nonce that is known was not used: %d requests, %v", r.server.Count(idptest.AtToken), err)
	}

	wants := func(nonce string) idptest.Fault {
		return idptest.Replace(idptest.AtToken, func(w http.ResponseWriter, _ *http.Request) {
			if nonce == "new" {
				nonce = random()
			}
			if nonce != "" {
				w.Header().Set("DPoP-Nonce", nonce)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"error":"use_dpop_nonce"}`))
		})
	}
	for name, c := range map[string]struct {
		nonce string
		sent  int
	}{
		"row 13 always another nonce": {"new", 2}, "row 13 one nonce that is never right": {"the-same", 2}, "row 13 no nonce at all": {"", 1},
		"row 13 a nonce with a line break": {"a\tb", 1}, "row 13 a nonce too long": {strings.Repeat("n", 513), 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := fapi(t, nil)
			r.server.Use(signs, wants(c.nonce))
			who, err := r.signedIn(t, started)
			wantFailure(t, who, err, identity.ErrRefused, "token.refused")
			if n := r.server.Count(idptest.AtToken); n != c.sent {
				t.Errorf("%d token requests, want %d", n, c.sent)
			}
			if c.nonce != "the-same" {
				return
			}
			// The nonce that it asks for was sent: once more would change nothing.
			r.server.Forget()
			_, err = r.signedIn(t, started)
			if n := r.server.Count(idptest.AtToken); err == nil || n != 1 {
				t.Errorf("%d token requests with the nonce that is known, %v", n, err)
			}
		})
	}
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"row 13 a nonce with another error": {400, `{"error":"invalid_grant"}`}, "row 13 a nonce with another status": {401, `{"error":"use_dpop_nonce"}`},
		"row 13 a nonce with a failure": {503, `{"error":"use_dpop_nonce"}`}, "row 13 a nonce with a page": {400, `<h1>use_dpop_nonce`},
		"row 13 a nonce with an answer": {200, `{"token_type":"DPoP"}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := fapi(t, nil)
			r.server.Use(signs, idptest.Replace(idptest.AtToken, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("DPoP-Nonce", random())
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(answer.status)
				w.Write([]byte(answer.body))
			}))
			who, err := r.signedIn(t, started)
			if n := r.server.Count(idptest.AtToken); err == nil || who.Subject != "" || n != 1 {
				t.Errorf("%d token requests, %v", n, err)
			}
		})
	}
	t.Run("row 13 without DPoP", func(t *testing.T) {
		r := newRig(t, nil)
		who, err := r.attempt(t, wants("new"))
		wantFailure(t, who, err, identity.ErrRefused, "token.refused")
		if n := r.server.Count(idptest.AtToken); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
	})
	t.Run("row 13 connection cut", func(t *testing.T) {
		r := fapi(t, nil)
		r.server.Use(signs, idptest.Cut(idptest.AtToken))
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrUnavailable, "token.unreachable")
		if n := r.server.Count(idptest.AtToken); n != 1 {
			t.Errorf("%d token requests, want 1", n)
		}
	})
}

// N11, N13: the scheme in any case, and no other scheme.
func TestN11N13TokenType(t *testing.T) {
	for kind, reason := range map[string]string{"dPoP": "", "DPOP": "", "Bearer": "token.type", "bearer": "token.type", "N_A": "token.type", "": "token.type", "DPoP ": "token.type"} {
		t.Run("N13 "+kind, func(t *testing.T) {
			r := fapi(t, nil)
			r.server.Use(signs, lean, idptest.TokenAnswer(func(a map[string]any) { a["token_type"] = kind }))
			who, err := r.signedIn(t, started)
			if reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFailure(t, who, err, identity.ErrRefused, reason)
		})
	}
	// N13: the resource server's challenge in another case.
	for _, scheme := range []string{"DPoP", "dpop", "DPOP"} {
		if !asksForNonce(http.Header{"Www-Authenticate": {scheme + ` error="use_dpop_nonce", algs="ES256"`}}) {
			t.Errorf("%s is not understood", scheme)
		}
	}
	for _, value := range []string{`Bearer error="use_dpop_nonce"`, `DPoP error="invalid_token"`, "", "DPoP"} {
		if asksForNonce(http.Header{"Www-Authenticate": {value}}) {
			t.Errorf("%q counts as a request for a nonce", value)
		}
	}
}

// A token that can be read has to be bound to our key.
func TestBoundAccessToken(t *testing.T) {
	for name, c := range map[string]struct {
		cnf    any
		reason string
	}{
		"ours": {"OURS", ""}, "somebody else's": {map[string]any{"jkt": "somebody-else"}, "token.unbound"}, "none": {nil, "token.unbound"},
		"empty": {map[string]any{}, "token.unbound"}, "a string": {"jkt", "token.unbound"}, "of a certificate": {map[string]any{"x5t#S256": "x"}, "token.unbound"},
		"a number": {map[string]any{"jkt": 1}, "token.unbound"}, "empty thumbprint": {map[string]any{"jkt": ""}, "token.unbound"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fapi(t, nil)
			cnf := c.cnf
			if cnf == "OURS" {
				thumbprint, err := r.source.dpopThumbprint(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				cnf = map[string]any{"jkt": thumbprint}
			}
			claims := map[string]any{"sub": "x"}
			if cnf != nil {
				claims["cnf"] = cnf
			}
			access := r.server.Sign(t, "at+jwt", claims)
			r.server.Use(signs, idptest.DropClaims("at_hash"), idptest.TokenAnswer(func(a map[string]any) { a["access_token"] = access }))
			who, err := r.signedIn(t, started)
			if c.reason == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFailure(t, who, err, identity.ErrRefused, c.reason)
		})
	}
}

func TestUserinfoNonce(t *testing.T) {
	r := fapi(t, nil)
	asked := 0
	r.server.Use(signs, lean, idptest.Replace(idptest.AtUserInfo, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("DPoP-Nonce", "n"+strings.Repeat("x", asked))
		w.Header().Set("WWW-Authenticate", `dpop error="use_dpop_nonce"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	who, err := r.signedIn(t, started)
	wantFailure(t, who, err, identity.ErrRefused, "userinfo.status")
	all := r.server.Requests(idptest.AtUserInfo)
	if len(all) != 2 || proofOf(t, all[1]).nonce != "nx" {
		t.Errorf("%d requests", len(all))
	}
}

// What a provider has to promise, one member after the other.
func TestFAPI2Metadata(t *testing.T) {
	for name, c := range map[string]struct {
		change func(map[string]any)
		reason string
	}{
		"no iss":               {func(m map[string]any) { delete(m, "authorization_response_iss_parameter_supported") }, "discovery.fapi2"},
		"iss false":            {func(m map[string]any) { m["authorization_response_iss_parameter_supported"] = false }, "discovery.fapi2"},
		"no PAR":               {func(m map[string]any) { delete(m, "pushed_authorization_request_endpoint") }, "discovery.par"},
		"no word about PKCE":   {func(m map[string]any) { delete(m, "code_challenge_methods_supported") }, "discovery.fapi2"},
		"PKCE without S256":    {func(m map[string]any) { m["code_challenge_methods_supported"] = []string{"plain"} }, "discovery.pkce"},
		"no DPoP":              {func(m map[string]any) { delete(m, "dpop_signing_alg_values_supported") }, "discovery.fapi2"},
		"DPoP with RSA only":   {func(m map[string]any) { m["dpop_signing_alg_values_supported"] = []string{"PS256"} }, "discovery.fapi2"},
		"ID tokens with RS256": {func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{"RS256"} }, "discovery.algs"},
		"basic only":           {func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"} }, "discovery.client_auth"},
	} {
		t.Run(name, func(t *testing.T) {
			r := fapi(t, nil)
			r.server.Use(signs, idptest.Metadata(c.change))
			who, err := r.signedIn(t, started)
			wantFailure(t, who, err, identity.ErrUnavailable, c.reason)
			if r.server.Count(idptest.AtAuthorize)+r.server.Count(idptest.AtPush) != 0 {
				t.Error("a sign-in began")
			}
		})
	}
	t.Run("ID token with RS256 all the same", func(t *testing.T) {
		r := fapi(t, nil)
		r.server.Use(idptest.SignWith("RS256"))
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrRefused, "idtoken.alg")
	})
	t.Run("N2 no iss in the answer", func(t *testing.T) {
		r := fapi(t, nil)
		r.server.Use(signs, idptest.DropParameter("iss"))
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrRefused, "callback.iss_missing")
	})
}

func TestFAPI2Config(t *testing.T) {
	weak := Config{Name: "n", Issuer: "https://i.example", FAPI2: true, Client: Client{ID: "c", Auth: privateKeyJWT}}
	if _, err := New(weak); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"a secret":               func(c *Config) { c.Client = Client{ID: "c", Secret: longSecret} },
		"a secret in a JWT":      func(c *Config) { c.Client = Client{ID: "c", Secret: longSecret, Auth: secretJWT} },
		"no certificate":         func(c *Config) { c.Client.Auth = mutualTLS },
		"another audience":       func(c *Config) { c.Client.AssertionAudience = "https://i.example/token" },
		"ID tokens with RS256":   func(c *Config) { c.Algs = []string{"RS256"} },
		"a secret besides a key": func(c *Config) { c.Client.Secret = longSecret },
	} {
		c := weak
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

// A proof is for an address without query and fragment (RFC 9449, section 4.2).
func TestProofAddress(t *testing.T) {
	r := fapi(t, nil)
	for _, address := range []string{"https://h.example:8443/a%2Fb?x=1", "https://h.example/t"} {
		request, err := http.NewRequest(http.MethodPost, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.source.prove(context.Background(), request, ""); err != nil {
			t.Fatal(err)
		}
		u, _ := url.Parse(address)
		want := strings.TrimSuffix(address, "?"+u.RawQuery)
		if got := proofOf(t, idptest.Request{Header: request.Header}).address; got != want {
			t.Errorf("htu %q, want %q", got, want)
		}
	}
	text, _ := json.Marshal(r.source.nonces.get("https://nobody.example"))
	if string(text) != `""` {
		t.Error("a nonce for everybody")
	}
}
