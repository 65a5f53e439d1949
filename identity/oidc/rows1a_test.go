package oidc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// The requirements on the front channel that this package keeps; 5, 6, 10 and 16 to
// 19 are the portal's.
func TestFrontChannelRows(t *testing.T) {
	minimal := func(change func(*Config)) error {
		c := Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "s"}}
		change(&c)
		_, err := New(c)
		return err
	}
	t.Run("row 1 code flow only", func(t *testing.T) {
		if err := minimal(func(c *Config) { c.Request.Parameters = map[string]string{"response_type": "id_token token"} }); err == nil {
			t.Error("a configuration chooses the response type")
		}
		if got := newRig(t, nil).asked(t, started); len(got["response_type"]) != 1 || got.Get("response_type") != "code" {
			t.Errorf("asked for %q", got["response_type"])
		}
	})
	t.Run("row 2 PKCE", func(t *testing.T) {
		r := newRig(t, nil)
		step := r.begin(t)
		to, _ := url.Parse(step.RedirectURL)
		if _, err := r.source.Finish(context.Background(), r.through(t, step)); err != nil {
			t.Fatal(err)
		}
		verifier := r.server.Requests(idptest.AtToken)[0].Form.Get("code_verifier")
		sum := sha256.Sum256([]byte(verifier))
		if to.Query().Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) || to.Query().Get("code_challenge_method") != "S256" {
			t.Error("the challenge is another verifier's")
		}
		if len(verifier) < 43 || len(verifier) > 128 || strings.Trim(verifier, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("verifier of %d characters", len(verifier))
		}
	})
	for _, methods := range [][]string{{"plain"}, {}, {"s256"}, {"plain", "S384"}} {
		t.Run("row 3 no downgrade to "+strings.Join(methods, "+"), func(t *testing.T) {
			r := newRig(t, nil)
			who, err := r.attempt(t, idptest.Metadata(func(m map[string]any) { m["code_challenge_methods_supported"] = methods }))
			wantFailure(t, who, err, identity.ErrUnavailable, "discovery.pkce")
			if r.server.Count(idptest.AtAuthorize) != 0 {
				t.Error("the browser was sent there")
			}
		})
	}
	t.Run("row 4 an answer without the attempt", func(t *testing.T) {
		r := newRig(t, nil)
		cb := r.through(t, r.begin(t))
		for _, keep := range [][]byte{nil, {}, []byte("{}"), []byte(`{"state":"` + started.State + `"}`)} {
			cb.Keep = keep
			who, err := r.source.Finish(context.Background(), cb)
			wantFailure(t, who, err, identity.ErrRefused, "attempt.keep")
		}
		if r.server.Count(idptest.AtToken) != 0 {
			t.Error("the code was sent")
		}
	})
	t.Run("row 7 nonce before any token is used", func(t *testing.T) {
		r := newRig(t, nil)
		r.refuses(t, "idtoken.nonce", idptest.Claims(func(c map[string]any) { c["nonce"] = c["nonce"].(string) + "1" }))
	})
	t.Run("row 9 another provider's callback", func(t *testing.T) {
		r := newRig(t, nil)
		cb := r.through(t, r.begin(t))
		elsewhere := cb
		elsewhere.CallbackURL = strings.Replace(idptest.Callback, "hospital", "clinic", 1)
		who, err := r.source.Finish(context.Background(), elsewhere)
		wantFailure(t, who, err, identity.ErrRefused, "attempt.callback")
		other := r.another(t, func(c *Config) { c.Name = "clinic" })
		who, err = other.Finish(context.Background(), cb)
		wantFailure(t, who, err, identity.ErrRefused, "attempt.source")
		if r.server.Count(idptest.AtToken) != 0 {
			t.Error("the code was sent")
		}
	})
	t.Run("row 13 code used once", func(t *testing.T) {
		r := newRig(t, nil)
		for _, fault := range []idptest.Fault{idptest.Cut(idptest.AtToken), idptest.CutOff(idptest.AtToken), idptest.Status(idptest.AtToken, 503)} {
			who, err := r.attempt(t, fault)
			if err == nil || who.Subject != "" || r.server.Count(idptest.AtToken) != 1 {
				t.Errorf("%d token requests, %v", r.server.Count(idptest.AtToken), err)
			}
		}
	})
	for _, member := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "pushed_authorization_request_endpoint"} {
		t.Run("row 20 http at "+member, func(t *testing.T) {
			r := newRig(t, nil)
			who, err := r.attempt(t, idptest.Metadata(func(m map[string]any) { m[member] = "http://login.hospital.example/x" }))
			wantFailure(t, who, err, identity.ErrUnavailable, "discovery."+member)
		})
	}
	t.Run("row 21 configured scopes only", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Request.Scopes = []string{} })
		r.server.Use(idptest.Metadata(func(m map[string]any) { m["scopes_supported"] = []string{"openid", "offline_access", "admin"} }))
		if got := r.asked(t, started).Get("scope"); got != "openid" {
			t.Errorf("asked for %q", got)
		}
	})
}

// Row 22: of the tokens, what is kept is what is needed later, and it is in Keep only.
func TestRow22TokensStayHere(t *testing.T) {
	r := newRig(t, nil)
	var access, refresh, id string
	r.server.Use(lean, idptest.TokenAnswer(func(a map[string]any) {
		access, id = a["access_token"].(string), a["id_token"].(string)
		refresh, _ = a["refresh_token"].(string)
	}))
	step := r.begin(t)
	who, err := r.source.Finish(context.Background(), r.through(t, step))
	if err != nil {
		t.Fatal(err)
	}
	keep := who.Keep
	who.Keep = nil
	rest, err := json.Marshal(who)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"access": access, "refresh": refresh, "ID": id} {
		if token == "" {
			t.Fatalf("no %s token came", name)
		}
		if strings.Contains(string(rest)+step.RedirectURL+string(step.Keep)+r.log.String(), token) {
			t.Errorf("the %s token is outside of Keep", name)
		}
	}
	if bytes.Contains(keep, []byte(access)) {
		t.Error("the access token is kept")
	}
	if !bytes.Contains(keep, []byte(refresh)) || !bytes.Contains(keep, []byte(id)) || !who.Renews {
		t.Error("what is needed later is not kept")
	}
	t.Run("row 22 no refresh token when it is switched off", func(t *testing.T) {
		s := r.another(t, func(c *Config) { c.NoRefresh = true })
		step, err := s.Begin(context.Background(), started)
		if err != nil {
			t.Fatal(err)
		}
		who, err := s.Finish(context.Background(), r.through(t, step))
		if err != nil || who.Renews || bytes.Contains(who.Keep, []byte(refresh)) || refresh == "" {
			t.Errorf("renews %v, %v", who.Renews, err)
		}
	})
	t.Run("row 22 a refresh token that is too long", func(t *testing.T) {
		for size, renews := range map[int]bool{4 << 10: true, 4<<10 + 1: false, 512 << 10: false} {
			who, err := r.attempt(t, idptest.TokenAnswer(func(a map[string]any) { a["refresh_token"] = strings.Repeat("r", size) }))
			if err != nil || who.Renews != renews || len(who.Keep) > 24<<10 {
				t.Errorf("%d bytes: renews %v, keeps %d bytes, %v", size, who.Renews, len(who.Keep), err)
			}
		}
	})
	for name, value := range map[string]any{"a number": 5, "empty": "", "a line break": "a\r\nb", "a blank": "a b"} {
		t.Run("refresh token: "+name, func(t *testing.T) {
			who, err := r.attempt(t, idptest.TokenAnswer(func(a map[string]any) { a["refresh_token"] = value }))
			wantFailure(t, who, err, identity.ErrRefused, "token.refresh_token")
		})
	}
}

// Pushed requests and form posts as well: answers of any shape end in time.
func TestPushAnswersOfAnyShape(t *testing.T) {
	for name, fault := range idptest.Shapes(idptest.AtPush) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *Config) { hasty(c); pushing(c) })
			r.server.Use(fault)
			began := time.Now()
			_, err := r.source.Begin(t.Context(), started)
			if !strings.HasPrefix(identity.Reason(err), "par.") {
				t.Errorf("got %v", err)
			}
			if spent := time.Since(began); spent > 20*time.Second {
				t.Errorf("took %v", spent)
			}
		})
	}
}

// FuzzTokenAnswer looks for an answer from which a token comes out that could not
// stand in a header, or that another reader would read differently.
func FuzzTokenAnswer(f *testing.F) {
	s, err := New(Config{Name: "n", Issuer: fuzzIssuer, Client: Client{ID: "c", Secret: "s"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(200, "application/json", `{"access_token":"a","token_type":"Bearer","id_token":"x","expires_in":300,"refresh_token":"r"}`)
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		answer, err := readAnswer(&http.Response{StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body))})
		if err != nil || answer == nil {
			return
		}
		got, err := s.readTokens(context.Background(), answer)
		if err != nil {
			if reason := identity.Reason(err); !strings.HasPrefix(reason, "token.") && reason != "idtoken.malformed" || got != (tokens{}) {
				t.Fatalf("%v with %+v", err, got)
			}
			return
		}
		var lax map[string]any
		if err := json.Unmarshal([]byte(body), &lax); err != nil || lax["access_token"] != got.access {
			t.Fatalf("read %q, another reader %v", got.access, lax["access_token"])
		}
		for _, text := range []string{got.access, got.refresh} {
			if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) {
				t.Fatalf("accepted %q", text)
			}
		}
		if got.access == "" || !strings.EqualFold(lax["token_type"].(string), "Bearer") {
			t.Fatalf("accepted %s", body)
		}
	})
}
