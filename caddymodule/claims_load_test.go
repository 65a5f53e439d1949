package caddymodule

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity/bearer"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/caddyserver/caddy/v2"
)

// A config that is written as JSON keeps to the same limits, and what the lines name is what rules may ask for.
func TestClaimsInJSON(t *testing.T) {
	const whole = `{"name": "hospital", "issuer": "https://login.hospital.example", "client_id": "anteroom", "client_secret": "s", "roles_claim": "r", `
	load := func(member string) (*OIDC, error) {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		defer cancel()
		o := new(OIDC)
		if err := json.Unmarshal([]byte(whole+member+"}"), o); err != nil {
			t.Fatal(err)
		}
		return o, o.Provision(ctx)
	}
	o, err := load(`"groups": {"ward-3": ["d-3"], "icu": ["d-17", "d-18"]}, "claims": {"unit": "unit", "patient_id": "pid"}`)
	if err != nil || !slices.Equal(o.GroupNames(), []string{"icu", "ward-3"}) || !slices.Equal(o.ClaimNames(), []string{"patient_id", "unit"}) {
		t.Errorf("%v, %v, %v", o.GroupNames(), o.ClaimNames(), err)
	}
	for want, member := range map[string]string{
		`claim "Unit"`:            `"claims": {"Unit": "unit"}`,
		`claim unit from ""`:      `"claims": {"unit": ""}`,
		"room for 8":              `"claims": {"a":"x","b":"x","c":"x","d":"x","e":"x","f":"x","g":"x","h":"x","i":"x"}`,
		`group "a b" from "d-17"`: `"groups": {"a b": ["d-17"]}`,
		`groups_claim "a..b"`:     `"groups_claim": "a..b"`,
	} {
		if _, err := load(member); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Whoever comes with a token has its claims, and no groups: a token cannot say that somebody is in one.
func TestClaimsOfATokensCaller(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		public, _ := jws.JWK(key.Public())
		public["kid"] = "k"
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "jwks_uri": server.URL + "/jwks", "keys": []any{public}})
	}))
	t.Cleanup(server.Close)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	b := &BearerIssuer{Name: "apps", Issuer: server.URL, Claims: map[string]string{"tenant": "ext.tenant", "unit": "unit"}}
	if err := b.provision(ctx); err != nil || b.issuer == nil {
		t.Fatalf("%v, %v", err, b.broken)
	}
	if !slices.Equal(b.ClaimNames(), []string{"tenant", "unit"}) || b.GroupNames() != nil || b.RoleNames() != nil {
		t.Errorf("%v, %v, %v", b.ClaimNames(), b.GroupNames(), b.RoleNames())
	}
	now := time.Now().Unix()
	token, err := jws.SignWith(key, "ES256", map[string]any{"kid": "k", "typ": "at+jwt"}, map[string]any{
		"iss": server.URL, "sub": "dana", "aud": "https://app.test", "client_id": "c", "jti": "1", "iat": now, "exp": now + 60, "scope": "notes",
		"ext": map[string]any{"tenant": 7}, "unit": []string{"icu"}, "groups": []string{"icu"}, "claims": map[string]string{"unit": "icu"}, "device": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "https://app.test/notes", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	c, err := tokens{&bearer.Site{Issuers: []*bearer.Issuer{b.issuer}, Unbound: true}, nil}.Check(r)
	if err != nil || !maps.Equal(c.Grant.Claims, map[string]string{"tenant": "7"}) || len(c.Grant.Groups) > 0 || c.Grant.Device {
		t.Errorf("%+v, %v", c, err)
	}
}
