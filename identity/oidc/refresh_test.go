package oidc

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// again asks the provider once more about who, while the faults are on.
func (r *rig) again(t *testing.T, who identity.Identity, faults ...idptest.Fault) (identity.Identity, error) {
	t.Helper()
	r.server.Use(faults...)
	r.server.Forget()
	return r.source.Refresh(context.Background(), who.Keep)
}

func (r *rig) stillGood(t *testing.T, who identity.Identity, faults ...idptest.Fault) identity.Identity {
	t.Helper()
	next, err := r.again(t, who, faults...)
	if err != nil {
		t.Fatalf("asking again: %v", err)
	}
	if next.Source != who.Source || next.Issuer != who.Issuer || next.Subject != who.Subject || !next.Renews {
		t.Fatalf("got %+v of %+v", next, who)
	}
	if next.ACR != who.ACR || !slices.Equal(next.AMR, who.AMR) || !next.AuthTime.Equal(who.AuthTime) || next.Session != who.Session {
		t.Fatalf("the level changed: %+v, was %+v", next, who)
	}
	return next
}

func refreshTokenOf(t *testing.T, keep []byte) string {
	t.Helper()
	var h held
	if err := json.Unmarshal(keep, &h); err != nil {
		t.Fatal(err)
	}
	return h.Refresh
}

// Row C30: asked again, several times, with a refresh token that is replaced each
// time.
func TestC30Refresh(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t)
	if !who.Renews || len(who.Keep) == 0 {
		t.Fatalf("nothing is kept: %+v", who)
	}
	seen := map[string]bool{refreshTokenOf(t, who.Keep): true}
	for range 3 {
		r.server.Pass(10 * time.Minute)
		next := r.stillGood(t, who)
		if next.Username != "doctor" || !slices.Equal(next.Roles, []string{"doctor"}) || next.Name == "" || next.Email == "" || next.Issued.IsZero() {
			t.Fatalf("got %+v", next)
		}
		requests := r.server.Requests(idptest.AtToken)
		if len(requests) != 1 || requests[0].Form.Get("grant_type") != "refresh_token" || !seen[requests[0].Form.Get("refresh_token")] {
			t.Fatalf("asked with %v", requests)
		}
		if token := refreshTokenOf(t, next.Keep); token == "" || seen[token] {
			t.Fatal("the new refresh token did not replace the old one")
		} else {
			seen[token] = true
		}
		who = next
	}
}

// Roles, names and addresses follow; the level of the sign-in does not.
func TestRefreshFollows(t *testing.T) {
	r := newRig(t, nil)
	first := r.accepts(t)
	r.server.Provider.Change("doctor", func(u *idp.User) { u.Roles, u.Name = []string{"patient"}, "Dr. New" })
	next := r.stillGood(t, first)
	if !slices.Equal(next.Roles, []string{"patient"}) || next.Name != "Dr. New" {
		t.Errorf("got %v, %q", next.Roles, next.Name)
	}
	next = r.stillGood(t, next, idptest.SetClaim("acr", "urn:highest"), idptest.SetClaim("amr", []string{"hwk"}))
	if next.ACR == "urn:highest" {
		t.Error("the level rose")
	}
	// No role any more, in whatever way that is said.
	for name, value := range map[string]any{"empty": []string{}, "unknown": []string{"x"}} {
		if next = r.stillGood(t, next, idptest.SetClaim("roles", value)); len(next.Roles) != 0 {
			t.Errorf("%s: still %v", name, next.Roles)
		}
	}
	gone := []idptest.Fault{idptest.DropClaims("roles"), idptest.UserInfo(func(u map[string]any) { delete(u, "roles") })}
	next = r.stillGood(t, r.stillGood(t, next), gone...)
	if len(next.Roles) != 0 {
		t.Errorf("absent: still %v", next.Roles)
	}
}

// Rows C31, C32 and requirement 39: what a later ID token must have in common with
// the first one, and what every ID token must have. The session is over then, and
// nothing is asked afterwards.
func TestR39Continuity(t *testing.T) {
	suffix := func(name string) idptest.Fault {
		return idptest.Claims(func(c map[string]any) { c[name] = c[name].(string) + "1" })
	}
	for _, c := range []struct {
		name, reason string
		fault        idptest.Fault
	}{
		{"C31 iss", "idtoken.iss", suffix("iss")},
		{"C32 sub", "idtoken.sub", suffix("sub")},
		{"R39 sub missing", "idtoken.sub", idptest.DropClaims("sub")},
		{"R39 aud", "idtoken.aud", suffix("aud")},
		{"R39 aud with somebody else", "idtoken.aud", idptest.Claims(func(m map[string]any) { m["aud"] = []any{m["aud"], "other"} })},
		{"R39 azp", "idtoken.azp", claim("azp", "other")},
		{"R39 auth_time", "idtoken.auth_time", idptest.Claims(func(m map[string]any) { m["auth_time"] = 1_000_000_000 })},
		{"R39 auth_time, later in another session", "idtoken.auth_time", idptest.Claims(func(m map[string]any) {
			m["auth_time"], m["sid"] = time.Now().Unix()+30, "another"
		})},
		{"R39 auth_time to come", "idtoken.auth_time", idptest.Claims(func(m map[string]any) { m["auth_time"] = 4_000_000_000 })},
		{"R39 auth_time a string", "idtoken.auth_time", claim("auth_time", "1000000000")},
		{"R39 nonce of another attempt", "idtoken.nonce", claim("nonce", "another")},
		{"R39 nonce empty", "idtoken.nonce", claim("nonce", "")},
		{"R39 nonce null", "idtoken.nonce", claim("nonce", nil)},
		{"R39 old", "idtoken.iat", idptest.Claims(func(m map[string]any) { m["iat"] = 1_000_000_000 })},
		{"R39 iat missing", "idtoken.iat", idptest.DropClaims("iat")},
		{"R39 over", "idtoken.exp", idptest.Claims(func(m map[string]any) { m["exp"] = 1_000_000_000 })},
		{"R39 at_hash", "idtoken.at_hash", claim("at_hash", "AAAA")},
		{"R36 access token", "idtoken.typ", header("typ", "at+jwt")},
		{"R36 logout token", "idtoken.typ", header("typ", "logout+jwt")},
		{"N41 logout token without a type", "idtoken.typ", claim("events", map[string]any{logoutEvent: map[string]any{}})},
		{"R39 signature", "idtoken.signature", idptest.Compact(swapEnd)},
		{"J1 none", "idtoken.malformed", idptest.SignWith("none")},
		{"C12 HS256", "idtoken.alg", idptest.SignWith("HS256")},
		{"R39 roles a number", "roles.type", claim("roles", 5)},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			faults := []idptest.Fault{lean, c.fault}
			if c.reason == "roles.type" { // found when the claims are put together
				faults = faults[1:]
			}
			who, err := r.again(t, r.accepts(t), faults...)
			wantFailure(t, who, err, identity.ErrRefused, c.reason)
			if n := r.server.Count(idptest.AtUserInfo); n != 0 {
				t.Errorf("%d userinfo requests afterwards", n)
			}
			if n := r.server.Count(idptest.AtToken); n != 1 {
				t.Errorf("%d token requests, want 1", n)
			}
		})
	}
}

// Somebody who proved themselves once more in the same session of the provider, at
// another site, is the same person, with the level of the sign-in here.
func TestR39ProvedAgain(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t)
	if who.Session == "" {
		t.Fatal("the provider names no session")
	}
	r.server.Pass(time.Minute)
	r.stillGood(t, who, idptest.Claims(func(m map[string]any) { m["auth_time"], m["acr"] = m["iat"], idp.ACRMultiFactor }))
}

// swapEnd changes the signature.
func swapEnd(compact string) string {
	n := strings.LastIndexByte(compact, '.') + 10
	other := "A"
	if compact[n:n+1] == other {
		other = "B"
	}
	return compact[:n] + other + compact[n+1:]
}

// What ends a session for good and what does not: only the refusal of this grant
// does.
func TestRefreshFailures(t *testing.T) {
	refusal := func(status int, code string) idptest.Fault {
		return idptest.Replace(idptest.AtToken, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"error":"` + code + `","error_description":"secret text"}`))
		})
	}
	for _, c := range []struct {
		name   string
		fault  idptest.Fault
		kind   error
		reason string
	}{
		{"invalid_grant", refusal(400, "invalid_grant"), identity.ErrDeclined, "token.invalid_grant"},
		{"a new proof is needed", refusal(400, "interaction_required"), identity.ErrDeclined, "token.declined"},
		{"our secret expired", refusal(401, "invalid_client"), identity.ErrUnavailable, "token.client"},
		{"our registration changed", refusal(400, "unauthorized_client"), identity.ErrUnavailable, "token.client"},
		{"the request is read otherwise", refusal(400, "invalid_request"), identity.ErrUnavailable, "token.refused"},
		{"refreshing was switched off", refusal(400, "unsupported_grant_type"), identity.ErrUnavailable, "token.refused"},
		{"500", refusal(500, "server_error"), identity.ErrUnavailable, "token.status"},
		{"503", idptest.Status(idptest.AtToken, 503), identity.ErrUnavailable, "token.status"},
		{"429", idptest.Status(idptest.AtToken, 429), identity.ErrUnavailable, "token.status"},
		{"a page of a proxy", idptest.Status(idptest.AtToken, 200), identity.ErrUnavailable, "token.malformed"},
		{"a redirect", idptest.RedirectTo(idptest.AtToken, "http://127.0.0.1:1/"), identity.ErrUnavailable, "token.status"},
		{"cut", idptest.Cut(idptest.AtToken), identity.ErrUnavailable, "token.unreachable"},
		{"2 MiB", idptest.Huge(idptest.AtToken, 2<<20), identity.ErrUnavailable, "token.malformed"},
		{"a token that is not one", idptest.TokenAnswer(func(a map[string]any) { a["access_token"] = 5 }), identity.ErrUnavailable, "token.access_token"},
		{"a token of another kind", idptest.TokenAnswer(func(a map[string]any) { a["token_type"] = "MAC" }), identity.ErrUnavailable, "token.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			first := r.accepts(t)
			who, err := r.again(t, first, c.fault)
			wantFailure(t, who, err, c.kind, c.reason)
			r.noText(t, err, "secret text")
			if n := r.server.Count(idptest.AtToken); n != 1 {
				t.Errorf("%d token requests, want 1", n)
			}
			used := strings.HasPrefix(c.name, "a token") // the provider sent another one
			if c.kind == identity.ErrUnavailable && !used {
				r.stillGood(t, first)
			}
		})
	}
	t.Run("the person was disabled", func(t *testing.T) {
		r := newRig(t, nil)
		first := r.accepts(t)
		r.server.Provider.Disable("doctor")
		who, err := r.again(t, first)
		wantFailure(t, who, err, identity.ErrDeclined, "token.invalid_grant")
	})
	t.Run("the provider ended the session", func(t *testing.T) {
		r := newRig(t, nil)
		first := r.accepts(t)
		if err := r.server.Provider.EndSession("doctor"); err != nil {
			t.Fatal(err)
		}
		who, err := r.again(t, first)
		wantFailure(t, who, err, identity.ErrDeclined, "token.invalid_grant")
	})
	t.Run("the token was used before", func(t *testing.T) {
		r := newRig(t, nil)
		first := r.accepts(t)
		r.stillGood(t, first)
		who, err := r.again(t, first)
		wantFailure(t, who, err, identity.ErrDeclined, "token.invalid_grant")
	})
}

// A provider that is down keeps its token unused: neither metadata nor keys are
// looked for after it is sent.
func TestRefreshSendsNothingInVain(t *testing.T) {
	for name, fault := range map[string]idptest.Fault{
		"metadata": idptest.Status(idptest.AtMetadata, 503), "keys": idptest.Status(idptest.AtKeys, 503),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			first := r.accepts(t)
			r.source = r.another(t, nil) // another node, or a restart: nothing is cached
			who, err := r.again(t, first, fault)
			if err == nil || !isUnavailable(err) || !reflect.DeepEqual(who, identity.Identity{}) {
				t.Fatalf("got %+v, %v", who, err)
			}
			if n := r.server.Count(idptest.AtToken); n != 0 {
				t.Error("the token was sent")
			}
			r.server.Pass(issuer.FailureFresh)
			r.stillGood(t, first)
		})
	}
}

func isUnavailable(err error) bool {
	f, ok := err.(*identity.Failure)
	return ok && f.Kind == identity.ErrUnavailable
}

// Answers of any shape, at every endpoint that is asked: nobody is signed out by
// them, and nobody waits longer than the limit.
func TestRefreshShapes(t *testing.T) {
	for _, at := range []idptest.Endpoint{idptest.AtMetadata, idptest.AtKeys, idptest.AtToken, idptest.AtUserInfo} {
		for name, shape := range idptest.Shapes(at) {
			if at == idptest.AtUserInfo && name == "an empty object" {
				continue // says nothing of the person: another subject
			}
			t.Run(string(at)+" "+name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, hasty)
				first := r.accepts(t)
				r.source = r.another(t, hasty)
				began := time.Now()
				next, err := r.again(t, first, lean, shape)
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("it took %v", took)
				}
				if at == idptest.AtUserInfo && err == nil && next.Username == first.Username && next.Renews {
					return
				}
				if !isUnavailable(err) {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// With no patience at all nobody goes on with what was found last.
func TestNoPatience(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Patience = -1 })
	if got := r.source.Patience(); got != 0 {
		t.Errorf("patience is %v", got)
	}
	who, err := r.again(t, r.accepts(t), lean, idptest.Status(idptest.AtUserInfo, 503))
	wantFailure(t, who, err, identity.ErrRefused, "refresh.stale")
}

// After the token was replaced, nothing that fails for now loses its successor:
// the person goes on as found last, for as long as patience lasts.
func TestRefreshTokenIsNotLost(t *testing.T) {
	unknownKey := header("kid", "nobody's")
	for name, faults := range map[string][]idptest.Fault{
		"userinfo is down":       {lean, idptest.Status(idptest.AtUserInfo, 503)},
		"userinfo cuts":          {lean, idptest.Cut(idptest.AtUserInfo)},
		"userinfo is a page":     {lean, idptest.Status(idptest.AtUserInfo, 200)},
		"userinfo says 429":      {lean, idptest.Status(idptest.AtUserInfo, 429)},
		"a key that is not seen": {unknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.Patience = 30 * time.Minute })
			first := r.accepts(t)
			next := r.stillGood(t, first, faults...)
			if !reflect.DeepEqual(next.Roles, first.Roles) || next.Username != first.Username || next.Name != first.Name {
				t.Fatalf("got %+v", next)
			}
			if refreshTokenOf(t, next.Keep) == refreshTokenOf(t, first.Keep) {
				t.Fatal("the new token is lost")
			}
			r.server.Pass(29 * time.Minute)
			next = r.stillGood(t, next, faults...)
			fresh := r.stillGood(t, next) // the clock of patience begins anew
			r.server.Pass(29 * time.Minute)
			fresh = r.stillGood(t, fresh, faults...)
			r.server.Pass(30 * time.Minute)
			who, err := r.again(t, fresh, faults...)
			wantFailure(t, who, err, identity.ErrRefused, "refresh.stale")
		})
	}
	t.Run("userinfo about somebody else ends it", func(t *testing.T) {
		r := newRig(t, nil)
		who, err := r.again(t, r.accepts(t), lean, idptest.UserInfo(func(u map[string]any) { u["sub"] = "x" }))
		wantFailure(t, who, err, identity.ErrRefused, "userinfo.sub")
	})
	t.Run("an ID token that was not checked is not kept", func(t *testing.T) {
		r := newRig(t, nil)
		first := r.accepts(t)
		next := r.stillGood(t, first, unknownKey)
		var a, b held
		if json.Unmarshal(first.Keep, &a) != nil || json.Unmarshal(next.Keep, &b) != nil || a.ID != b.ID {
			t.Error("it is")
		}
	})
}

// Providers that send no new ID token: userinfo speaks for the claims.
func TestRefreshWithoutIDToken(t *testing.T) {
	thin := idptest.TokenAnswer(func(a map[string]any) { delete(a, "id_token") })
	r := newRig(t, nil)
	first := r.accepts(t)
	r.server.Provider.Change("doctor", func(u *idp.User) { u.Roles = []string{"patient"} })
	next := r.stillGood(t, first, thin)
	if !slices.Equal(next.Roles, []string{"patient"}) {
		t.Errorf("userinfo says patient, got %v", next.Roles)
	}
	if n := r.server.Count(idptest.AtUserInfo); n != 1 {
		t.Errorf("%d userinfo requests, want 1", n)
	}
	// What only the first ID token has stays; what userinfo had and has no more
	// is gone.
	none := idptest.UserInfo(func(u map[string]any) { delete(u, "roles") })
	if next = r.stillGood(t, next, thin, none); !slices.Equal(next.Roles, []string{"doctor"}) {
		t.Errorf("the ID token had the roles, got %v", next.Roles)
	}
	r = newRig(t, nil)
	first = r.accepts(t, lean)
	if !slices.Equal(first.Roles, []string{"doctor"}) {
		t.Fatal(first.Roles)
	}
	if next = r.stillGood(t, first, thin, none); len(next.Roles) != 0 {
		t.Errorf("userinfo had the roles and has them no more, got %v", next.Roles)
	}
	who, err := r.again(t, next, thin, idptest.UserInfo(func(u map[string]any) { u["sub"] = "x" }))
	wantFailure(t, who, err, identity.ErrRefused, "userinfo.sub")
}

// Later ID tokens of large providers have neither name nor username.
func TestRefreshWithThinIDToken(t *testing.T) {
	r := newRig(t, func(c *Config) { c.UserInfo = userinfoOff; c.Claims.UsernamePrefix = "h:" })
	first, err := r.attempt(t)
	if err != nil {
		t.Fatal(err)
	}
	next := r.stillGood(t, first, idptest.DropClaims("name", "email", "preferred_username"))
	if next.Username != "h:doctor" || next.Name != first.Name || next.Email != first.Email {
		t.Errorf("got %+v", next)
	}
	if next = r.stillGood(t, next, idptest.DropClaims("name", "email", "preferred_username", "roles")); len(next.Roles) != 0 {
		t.Errorf("roles that are not given again are gone, got %v", next.Roles)
	}
}

// Requirement 31: an address that changes has to be checked anew before it is one.
func TestR31RefreshedEmail(t *testing.T) {
	checked := []idptest.Fault{claim("email", "a@h.example"), claim("email_verified", true)}
	r := newRig(t, func(c *Config) { c.Claims.Username = "email"; c.UserInfo = userinfoOff })
	first, err := r.attempt(t, checked...)
	if err != nil || first.Username != "a@h.example" {
		t.Fatal(first.Username, err)
	}
	if next := r.stillGood(t, first, idptest.DropClaims("email", "email_verified")); next.Username != "a@h.example" {
		t.Errorf("got %q", next.Username)
	}
	for name, faults := range map[string][]idptest.Fault{
		"nothing is said of the new one": {claim("email", "chief@h.example"), idptest.DropClaims("email_verified")},
		"it was not checked":             {claim("email", "chief@h.example"), claim("email_verified", false)},
	} {
		first, err := r.attempt(t, checked...)
		if err != nil {
			t.Fatal(err)
		}
		who, err := r.again(t, first, faults...)
		t.Log(name)
		wantFailure(t, who, err, identity.ErrRefused, "username.unverified")
	}
}
