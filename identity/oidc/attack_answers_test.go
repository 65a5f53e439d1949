package oidc

import (
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func TestTokenAnswers(t *testing.T) {
	change := func(name string, value any) idptest.Fault {
		return idptest.TokenAnswer(func(a map[string]any) {
			if a[name] = value; value == nil {
				delete(a, name)
			}
		})
	}
	secret := "provider-text-that-nobody-shall-read"
	refusal := func(status, body string) idptest.Fault { return answerJSON(idptest.AtToken, status, body) }
	r := newRig(t, hasty)
	for _, c := range []struct {
		name   string
		fault  idptest.Fault
		kind   error
		reason string
	}{
		{"N11 token_type bEARER", change("token_type", "bEARER"), nil, ""},
		{"N12 no expires_in", change("expires_in", nil), nil, ""},
		{"token_type missing", change("token_type", nil), identity.ErrRefused, "token.type"},
		{"token_type DPoP", change("token_type", "DPoP"), identity.ErrRefused, "token.type"},
		{"token_type with a long s", change("token_type", "Bearer\u017f"), identity.ErrRefused, "token.type"},
		{"no access_token", change("access_token", nil), identity.ErrRefused, "token.access_token"},
		{"access_token that is a header", change("access_token", "a\r\nX: y"), identity.ErrRefused, "token.access_token"},
		{"access_token with a blank", change("access_token", "a b"), identity.ErrRefused, "token.access_token"},
		{"no id_token", change("id_token", nil), identity.ErrRefused, "token.id_token"},
		{"id_token a number", change("id_token", 5), identity.ErrRefused, "token.id_token"},
		{"expires_in a word", change("expires_in", secret), identity.ErrRefused, "token.malformed"},
		{"J42 ID_TOKEN in another case", idptest.TokenAnswer(func(a map[string]any) { a["ID_TOKEN"] = a["id_token"]; delete(a, "id_token") }), identity.ErrRefused, "token.id_token"},
		{"J42 ACCESS_TOKEN in another case", idptest.TokenAnswer(func(a map[string]any) { a["ACCESS_TOKEN"] = a["access_token"]; delete(a, "access_token") }), identity.ErrRefused, "token.access_token"},
		{"J41 duplicate member", idptest.Text(idptest.AtToken, "application/json", `{"access_token":"a","access_token":"b","token_type":"Bearer","id_token":"x"}`), identity.ErrRefused, "token.malformed"},
		{"a form", idptest.Text(idptest.AtToken, "application/x-www-form-urlencoded", "access_token=a&token_type=Bearer&id_token=x"), identity.ErrRefused, "token.malformed"},
		{"JSON as text", idptest.Text(idptest.AtToken, "text/plain", `{"access_token":"a"}`), identity.ErrRefused, "token.malformed"},
		{"HTML", idptest.Status(idptest.AtToken, 200), identity.ErrRefused, "token.malformed"},
		{"an array", idptest.Text(idptest.AtToken, "application/json", `[]`), identity.ErrRefused, "token.malformed"},
		{"R47 too large", idptest.Huge(idptest.AtToken, issuer.MaxBody+1), identity.ErrRefused, "token.malformed"},
		{"N22 invalid_grant", refusal("400", `{"error":"invalid_grant","error_description":"`+secret+`"}`), identity.ErrRefused, "token.invalid_grant"},
		{"N22 invalid_grant with 200", refusal("200", `{"error":"invalid_grant","error_description":"`+secret+`"}`), identity.ErrRefused, "token.invalid_grant"},
		{"invalid_client", refusal("401", `{"error":"invalid_client","error_description":"`+secret+`"}`), identity.ErrUnavailable, "token.client"},
		{"own error", refusal("400", `{"error":"`+secret+`"}`), identity.ErrRefused, "token.refused"},
		{"500", refusal("500", secret), identity.ErrUnavailable, "token.status"},
		{"429", refusal("429", secret), identity.ErrUnavailable, "token.status"},
		{"204", refusal("204", ""), identity.ErrRefused, "token.malformed"},
		{"R47 redirect", idptest.RedirectTo(idptest.AtToken, "http://127.0.0.1:1/"+secret), identity.ErrUnavailable, "token.status"},
		{"R13 connection cut", idptest.Cut(idptest.AtToken), identity.ErrUnavailable, "token.unreachable"},
		{"R13 no answer", idptest.Hang(idptest.AtToken), identity.ErrUnavailable, "token.unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := r.attempt(t, lean, c.fault)
			if c.kind == nil {
				if err != nil || who.Username != "doctor" {
					t.Fatalf("got %v", err)
				}
				return
			}
			wantFailure(t, who, err, c.kind, c.reason)
			r.noText(t, err, secret)
			if n := r.server.Count(idptest.AtToken); n != 1 {
				t.Errorf("%d token requests, want exactly 1", n)
			}
			if n := r.server.Count(idptest.AtUserInfo); n != 0 {
				t.Errorf("%d userinfo requests, want none", n)
			}
		})
	}
}

// The redirect above must not be followed even within the provider's origin: a
// code goes to the token endpoint or nowhere.
func TestCodeIsNotSentOn(t *testing.T) {
	r := newRig(t, nil)
	who, err := r.attempt(t, idptest.RedirectTo(idptest.AtToken, r.server.URL+"/elsewhere"))
	wantFailure(t, who, err, identity.ErrUnavailable, "token.status")
	if n := r.server.Count(idptest.AtElsewhere); n != 0 {
		t.Errorf("the code was sent on")
	}
}

func TestN31UserInfo(t *testing.T) {
	r := newRig(t, hasty)
	secret := "provider-text-that-nobody-shall-read"
	for _, c := range []struct {
		name   string
		fault  idptest.Fault
		kind   error
		reason string
	}{
		{"N31 401", idptest.Status(idptest.AtUserInfo, 401), identity.ErrRefused, "userinfo.status"},
		{"N31 500", idptest.Status(idptest.AtUserInfo, 500), identity.ErrUnavailable, "userinfo.unreachable"},
		{"N31 HTML", idptest.Status(idptest.AtUserInfo, 200), identity.ErrRefused, "userinfo.type"},
		{"N31 JWT", idptest.Text(idptest.AtUserInfo, "application/jwt", "e30.e30.AA"), identity.ErrRefused, "userinfo.type"},
		{"N31 JSON without type", idptest.Text(idptest.AtUserInfo, "", `{"sub":"x"}`), identity.ErrRefused, "userinfo.type"},
		{"N31 sub missing", idptest.UserInfo(func(u map[string]any) { delete(u, "sub") }), identity.ErrRefused, "userinfo.sub"},
		{"N31 sub null", idptest.UserInfo(func(u map[string]any) { u["sub"] = nil }), identity.ErrRefused, "userinfo.sub"},
		{"N31 sub a list", idptest.UserInfo(func(u map[string]any) { u["sub"] = []any{u["sub"]} }), identity.ErrRefused, "userinfo.sub"},
		{"N31 SUB in another case", idptest.UserInfo(func(u map[string]any) { u["SUB"] = u["sub"]; delete(u, "sub") }), identity.ErrRefused, "userinfo.sub"},
		{"N31 not JSON", idptest.Text(idptest.AtUserInfo, "application/json", `{"sub":`+secret), identity.ErrRefused, "userinfo.malformed"},
		{"N31 two subs", idptest.Text(idptest.AtUserInfo, "application/json", `{"sub":"a","sub":"b"}`), identity.ErrRefused, "userinfo.malformed"},
		{"N31 too large", idptest.Huge(idptest.AtUserInfo, issuer.MaxBody+1), identity.ErrRefused, "userinfo.malformed"},
		{"N31 redirect to another host", idptest.RedirectTo(idptest.AtUserInfo, "http://127.0.0.1:1/"), identity.ErrRefused, "userinfo.status"},
		{"N31 redirect in the origin", idptest.RedirectTo(idptest.AtUserInfo, "/elsewhere"), identity.ErrRefused, "userinfo.status"},
		{"N31 no answer", idptest.Hang(idptest.AtUserInfo), identity.ErrUnavailable, "userinfo.unreachable"},
		{"N31 connection cut", idptest.Cut(idptest.AtUserInfo), identity.ErrUnavailable, "userinfo.unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who, err := r.attempt(t, lean, c.fault)
			wantFailure(t, who, err, c.kind, c.reason)
			r.noText(t, err, secret)
			if n := r.server.Count(idptest.AtElsewhere); n != 0 {
				t.Errorf("the access token was sent on")
			}
		})
	}
}

func TestN33N34Keys(t *testing.T) {
	t.Run("N33 keys down and not cached", func(t *testing.T) {
		r := newRig(t, nil)
		who, err := r.attempt(t, idptest.Status(idptest.AtKeys, 503))
		wantFailure(t, who, err, identity.ErrUnavailable, "jwks.unreachable")
	})
	t.Run("N33 keys down and cached", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t)
		r.server.Pass(issuer.KeysFresh + time.Second)
		r.accepts(t, idptest.Status(idptest.AtKeys, 503))
		r.accepts(t, idptest.Status(idptest.AtKeys, 503))
		if n := r.server.Count(idptest.AtKeys); n != 0 {
			t.Errorf("%d requests for the keys right after one failed", n)
		}
		r.server.Pass(issuer.KeysKeep)
		who, err := r.attempt(t, idptest.Status(idptest.AtKeys, 503))
		wantFailure(t, who, err, identity.ErrUnavailable, "jwks.unreachable")
	})
	t.Run("N34 random kids", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t)
		r.server.Forget()
		n := 0
		r.server.Use(idptest.Header(func(h map[string]any) { n++; h["kid"] = "k" + strings.Repeat("x", n) }))
		for range 50 {
			step := r.begin(t)
			who, err := r.source.Finish(t.Context(), back(step, r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor")))
			wantFailure(t, who, err, identity.ErrRefused, "idtoken.key")
		}
		if got := r.server.Count(idptest.AtKeys); got != 1 {
			t.Errorf("%d requests for the keys within a minute, want 1", got)
		}
		r.server.Pass(issuer.MissRefetch)
		who, err := r.attempt(t, idptest.Header(func(h map[string]any) { h["kid"] = "again" }))
		wantFailure(t, who, err, identity.ErrRefused, "idtoken.key")
		if got := r.server.Count(idptest.AtKeys); got != 1 {
			t.Errorf("%d requests after a minute, want 1", got)
		}
	})
}

// N37, J74: an old key's token is worth nothing once the cache was refreshed.
func TestN37RemovedKey(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	r.server.Pass(issuer.KeysFresh + time.Second)
	r.refuses(t, "idtoken.key", idptest.Keys(func(set map[string]any) { set["keys"] = set["keys"].([]map[string]any)[1:] }))
}
