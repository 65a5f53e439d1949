package oidc

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// What was kept is of use to the source, issuer and client that kept it.
func TestRefreshKeep(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t)
	for name, change := range map[string]func(*held){
		"another source": func(h *held) { h.Source = "lab" }, "another issuer": func(h *held) { h.Issuer += "/" },
		"another client": func(h *held) { h.Client = "x" }, "nobody": func(h *held) { h.Person.Subject = "" },
		"no refresh token": func(h *held) { h.Refresh = "" },
	} {
		t.Run(name, func(t *testing.T) {
			var h held
			if err := json.Unmarshal(who.Keep, &h); err != nil {
				t.Fatal(err)
			}
			change(&h)
			keep, err := json.Marshal(h)
			if err != nil {
				t.Fatal(err)
			}
			r.server.Forget()
			next, err := r.source.Refresh(t.Context(), keep)
			if name == "another source" || name == "another issuer" || name == "another client" {
				wantFailure(t, next, err, identity.ErrRefused, "refresh.other_client")
			} else {
				wantFailure(t, next, err, identity.ErrRefused, "refresh.keep")
			}
			if r.server.Count(idptest.AtToken) != 0 {
				t.Error("a token was sent")
			}
		})
	}
	for _, keep := range []string{"", "null", "[]", "{}", "x", strings.Repeat("x", maxHeld+1)} {
		next, err := r.source.Refresh(t.Context(), []byte(keep))
		wantFailure(t, next, err, identity.ErrRefused, "refresh.keep")
	}
}

func TestNoRefresh(t *testing.T) {
	r := newRig(t, nil)
	before := r.accepts(t)
	r.source = r.another(t, func(c *Config) { c.NoRefresh = true })
	if who := r.accepts(t); who.Renews || refreshTokenOf(t, who.Keep) != "" {
		t.Error("a refresh token is kept")
	}
	// Sessions from before the operator wrote the line go on, unasked.
	r.server.Forget()
	next, err := r.source.Refresh(t.Context(), before.Keep)
	if err != nil || next.Username != "doctor" || r.server.Count(idptest.AtToken) != 0 {
		t.Errorf("got %v, %v", next.Username, err)
	}
	// When the line is removed again they are asked about again, with what is still good.
	r.source = r.another(t, nil)
	if next, err = r.source.Refresh(t.Context(), next.Keep); err != nil || !next.Renews {
		t.Errorf("asked again later: renews %v, %v", next.Renews, err)
	}
	// So does one without a refresh token.
	r.source = r.another(t, nil)
	who := r.accepts(t, idptest.TokenAnswer(func(a map[string]any) { delete(a, "refresh_token") }))
	if who.Renews || len(who.Keep) == 0 {
		t.Errorf("kept %d bytes, renews %v", len(who.Keep), who.Renews)
	}
	who = r.accepts(t, idptest.TokenAnswer(func(a map[string]any) { a["refresh_token"] = strings.Repeat("x", maxRefresh+1) }))
	if who.Renews {
		t.Error("a token of any size is kept")
	}
}

// A provider that does not replace its refresh token: the old one stays.
func TestRefreshTokenStays(t *testing.T) {
	r := newRig(t, nil)
	first := r.accepts(t)
	next := r.stillGood(t, first, idptest.TokenAnswer(func(a map[string]any) { delete(a, "refresh_token") }))
	if refreshTokenOf(t, next.Keep) != refreshTokenOf(t, first.Keep) {
		t.Error("the token is lost")
	}
}

// Access tokens are kept nowhere, and nothing of what is kept is in a log.
func TestKeepHoldsNoAccessToken(t *testing.T) {
	r := newRig(t, nil)
	var access []string
	note := idptest.TokenAnswer(func(a map[string]any) { access = append(access, a["access_token"].(string)) })
	who := r.accepts(t, note)
	next := r.stillGood(t, who, note)
	for _, token := range access {
		if strings.Contains(string(who.Keep)+string(next.Keep)+r.log.String(), token) {
			t.Error("an access token is kept")
		}
	}
	if len(access) != 2 || strings.Contains(r.log.String(), refreshTokenOf(t, who.Keep)) {
		t.Error("a refresh token is logged")
	}
	if got := r.source.Patience(); got != time.Hour {
		t.Errorf("patience is %v", got)
	}
}
