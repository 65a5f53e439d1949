package oidc

import (
	"slices"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// Requirement 31: without a new ID token, what the last one said of an old address
// says nothing of the one that userinfo has now.
func TestR31NewEmailFromUserinfo(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Claims.Username = "email" })
	first, err := r.attempt(t, claim("email", "a@h.example"), claim("email_verified", true))
	if err != nil {
		t.Fatal(err)
	}
	thin := idptest.TokenAnswer(func(a map[string]any) { delete(a, "id_token") })
	who, err := r.again(t, first, thin, idptest.UserInfo(func(u map[string]any) {
		u["email"] = "chief@h.example"
		delete(u, "email_verified")
	}))
	wantFailure(t, who, err, identity.ErrRefused, "username.unverified")
}

// A role that is not given again is gone, also where roles come from a claim that
// names the person besides.
func TestRememberedNamesAreNoRoles(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.UserInfo = userinfoOff
		c.Claims.Org, c.Claims.Roles = "ward", "ward"
		c.Claims.RoleNames = map[string][]string{"icu": {"doctor"}}
	})
	first := r.accepts(t, claim("ward", "icu"))
	if !slices.Equal(first.Roles, []string{"doctor"}) || first.Org != "icu" {
		t.Fatalf("got %+v", first)
	}
	if next := r.stillGood(t, first); len(next.Roles) != 0 {
		t.Errorf("still %v", next.Roles)
	}
}

// What a provider may give is looked at again where an older answer has to do.
func TestMayGiveOfWhatIsHeld(t *testing.T) {
	r := newRig(t, nil)
	first := r.accepts(t)
	r.source = r.another(t, func(c *Config) { c.Claims.MayGive = []string{"patient"} })
	next := r.stillGood(t, first, lean, idptest.Status(idptest.AtUserInfo, 503))
	if len(next.Roles) != 0 {
		t.Errorf("still %v", next.Roles)
	}
}
