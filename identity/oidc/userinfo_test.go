package oidc

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func signedInfo(t *testing.T) *rig {
	t.Helper()
	return registered(t, func(c *idp.Config) { c.Clients[0].SignedUserInfo = true }, func(c *Config) { c.UserInfo = userinfoSigned })
}

// C20, row 38.
func TestC20SignedUserInfo(t *testing.T) {
	set := func(name string, value any) idptest.Fault { return idptest.InUserInfo(idptest.SetClaim(name, value)) }
	drop := func(name string) idptest.Fault { return idptest.InUserInfo(idptest.DropClaims(name)) }
	plain := func(kind, body string) idptest.Fault { return idptest.Text(idptest.AtUserInfo, kind, body) }
	for _, c := range []struct {
		name   string
		fault  func(r *rig) idptest.Fault
		reason string
	}{
		{"C20 good", func(*rig) idptest.Fault { return set("name", "Dominik Doctor") }, ""},
		{"C20 another algorithm of the provider", func(*rig) idptest.Fault { return idptest.InUserInfo(idptest.SignWith("ES256")) }, ""},
		{"C20 broken signature", func(*rig) idptest.Fault { return idptest.InUserInfo(idptest.Compact(flip)) }, "userinfo.signature"},
		{"C20 alg none", func(*rig) idptest.Fault { return idptest.InUserInfo(idptest.SignWith("none")) }, "userinfo.malformed"},
		{"C20 HS256", func(*rig) idptest.Fault { return idptest.InUserInfo(idptest.SignWith("HS256")) }, "userinfo.alg"},
		{"C20 unknown key", func(*rig) idptest.Fault {
			return idptest.InUserInfo(idptest.Header(func(h map[string]any) { h["kid"] = "x" }))
		}, "userinfo.key"},
		{"row 38 iss of another", func(*rig) idptest.Fault { return set("iss", "https://other.example") }, "userinfo.iss"},
		{"row 38 iss with a slash", func(r *rig) idptest.Fault { return set("iss", r.server.URL+"/") }, "userinfo.iss"},
		{"row 38 no iss", func(*rig) idptest.Fault { return drop("iss") }, "userinfo.iss"},
		{"row 38 iss a list", func(r *rig) idptest.Fault { return set("iss", []string{r.server.URL}) }, "userinfo.iss"},
		{"row 38 aud of another", func(*rig) idptest.Fault { return set("aud", "other") }, "userinfo.aud"},
		{"row 38 aud with another", func(*rig) idptest.Fault { return set("aud", []string{"anteroom", "other"}) }, "userinfo.aud"},
		{"row 38 no aud", func(*rig) idptest.Fault { return drop("aud") }, "userinfo.aud"},
		{"row 38 aud empty", func(*rig) idptest.Fault { return set("aud", []string{}) }, "userinfo.aud"},
		{"row 38 aud of one", func(*rig) idptest.Fault { return set("aud", []string{"anteroom"}) }, ""},
		{"row 37 sub of another", func(*rig) idptest.Fault { return set("sub", "somebody") }, "userinfo.sub"},
		{"row 37 no sub", func(*rig) idptest.Fault { return drop("sub") }, "userinfo.sub"},
		{"expired", func(r *rig) idptest.Fault { return set("exp", r.server.Now().Add(-5*time.Minute).Unix()) }, "userinfo.exp"},
		{"exp a string", func(*rig) idptest.Fault { return set("exp", "tomorrow") }, "userinfo.exp"},
		{"of the future", func(r *rig) idptest.Fault { return set("iat", r.server.Now().Add(time.Hour).Unix()) }, "userinfo.iat"},
		{"not yet", func(r *rig) idptest.Fault { return set("nbf", r.server.Now().Add(time.Hour).Unix()) }, "userinfo.nbf"},
		{"N31 JSON when a JWT was asked for", func(*rig) idptest.Fault { return plain("application/json", `{"sub":"x"}`) }, "userinfo.type"},
		{"N31 a JWT that calls itself JSON", func(*rig) idptest.Fault { return plain("application/json", "e30.e30.AA") }, "userinfo.type"},
		{"N31 HTML", func(*rig) idptest.Fault { return plain("text/html", "<p>") }, "userinfo.type"},
		{"N31 no token", func(*rig) idptest.Fault { return plain("application/jwt", "x") }, "userinfo.malformed"},
		{"N31 unsigned claims", func(*rig) idptest.Fault { return plain("application/jwt", "e30.e30.") }, "userinfo.malformed"},
		{"J40 line break at the end", func(*rig) idptest.Fault {
			return idptest.InUserInfo(idptest.Compact(func(s string) string { return s + "\n" }))
		}, "userinfo.malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := signedInfo(t)
			r.server.Use(lean, c.fault(r))
			who, err := r.signedIn(t, started)
			if c.reason != "" {
				wantFailure(t, who, err, identity.ErrRefused, c.reason)
				return
			}
			if err != nil || who.Name != "Dominik Doctor" {
				t.Fatalf("got %q, %v", who.Name, err)
			}
			if got := r.server.Requests(idptest.AtUserInfo)[0].Header.Get("Accept"); got != "application/jwt" {
				t.Errorf("asked for %q", got)
			}
		})
	}
}

func flip(compact string) string {
	at := len(compact) - 20
	other := "A"
	if compact[at] == 'A' {
		other = "B"
	}
	return compact[:at] + other + compact[at+1:]
}

// Row 36, N41 at the userinfo endpoint: everything else that the provider signs for
// this client with this key is something else.
func TestRow36KindsAtUserInfo(t *testing.T) {
	for name, c := range map[string]struct {
		typ    string
		claims map[string]any
		reason string
	}{
		"userinfo":                         {"JWT", nil, ""},
		"ID token":                         {"JWT", map[string]any{"nonce": "n", "at_hash": "h"}, "userinfo.kind"},
		"ID token of a refresh":            {"JWT", map[string]any{"at_hash": "h"}, "userinfo.kind"},
		"access token":                     {"at+jwt", map[string]any{"scope": "openid"}, "userinfo.typ"},
		"access token that says JWT":       {"JWT", map[string]any{"scope": "openid"}, "userinfo.kind"},
		"bound access token that says JWT": {"JWT", map[string]any{"cnf": map[string]any{"jkt": "x"}}, "userinfo.kind"},
		"logout token":                     {"logout+jwt", map[string]any{"events": map[string]any{}}, "userinfo.typ"},
		"logout token that says JWT":       {"JWT", map[string]any{"events": map[string]any{}}, "userinfo.kind"},
		"introspection answer":             {"token-introspection+jwt", map[string]any{"token_introspection": map[string]any{}}, "userinfo.typ"},
		"session of ours":                  {"anteroom+jwt", nil, "userinfo.typ"},
		"assertion of ours":                {"anteroom-assertion+jwt", nil, "userinfo.typ"},
		"proof":                            {"dpop+jwt", nil, "userinfo.typ"},
	} {
		t.Run("row 36 "+name, func(t *testing.T) {
			r := signedInfo(t)
			r.server.Use(lean, idptest.InUserInfo(
				idptest.Header(func(h map[string]any) { h["typ"] = c.typ }),
				idptest.Claims(func(claims map[string]any) {
					for name, value := range c.claims {
						claims[name] = value
					}
				})))
			who, err := r.signedIn(t, started)
			if c.reason != "" {
				wantFailure(t, who, err, identity.ErrRefused, c.reason)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUserInfoOff(t *testing.T) {
	r := newRig(t, func(c *Config) { c.UserInfo = userinfoOff })
	r.server.Use(lean)
	who, err := r.signedIn(t, started)
	if err != nil || who.Name != "" || len(who.Roles) != 0 {
		t.Errorf("got %+v, %v", who, err)
	}
	if n := r.server.Count(idptest.AtUserInfo); n != 0 {
		t.Errorf("%d requests", n)
	}
	if _, err := New(Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "s"}, UserInfo: "maybe"}); err == nil {
		t.Error("an unknown word is accepted")
	}
}

// Without DPoP nothing of it is sent, and no answer makes us ask twice.
func TestPlainUserInfoOnce(t *testing.T) {
	r := newRig(t, nil)
	r.server.Use(lean, idptest.Replace(idptest.AtUserInfo, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("DPoP-Nonce", "n")
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	who, err := r.signedIn(t, started)
	wantFailure(t, who, err, identity.ErrRefused, "userinfo.status")
	all := r.server.Requests(idptest.AtUserInfo)
	if len(all) != 1 || all[0].Header.Get("DPoP") != "" || !strings.HasPrefix(all[0].Header.Get("Authorization"), "Bearer ") {
		t.Errorf("%d requests", len(all))
	}
}
