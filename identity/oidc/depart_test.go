package oidc

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func noEndSession(m map[string]any) { delete(m, "end_session_endpoint") }

// Row L1: the parameters of a sign-out at the provider, which takes them.
func TestL1Depart(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t)
	address, err := r.source.Depart(t.Context(), identity.Departure{Keep: who.Keep, ReturnURL: idptest.SignedOut, State: "s-1"})
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var h held
	if err := json.Unmarshal(who.Keep, &h); err != nil {
		t.Fatal(err)
	}
	want := url.Values{"id_token_hint": {h.ID}, "post_logout_redirect_uri": {idptest.SignedOut}, "state": {"s-1"}, "client_id": {r.server.ClientID}}
	if u.Query().Encode() != want.Encode() || u.Path != "/end_session" {
		t.Errorf("got %s", address)
	}
	if to, _ := r.browser.Open(t, address); !strings.HasPrefix(to.String(), idptest.SignedOut) || to.Query().Get("state") != "s-1" {
		t.Errorf("the provider sends the browser to %s", to)
	}
}

// Row L8: what was kept may be old, of an earlier configuration, or gone.
func TestL8DepartWithoutHint(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t)
	other := r.another(t, func(c *Config) { c.Name = "lab" })
	long := strings.Replace(string(who.Keep), `"id_token":"`, `"id_token":"`+strings.Repeat("A", maxHintToken), 1)
	for name, d := range map[string]struct {
		source *Source
		keep   []byte
	}{
		"nothing kept": {r.source, nil}, "rubbish": {r.source, []byte("x")}, "another source's": {other, who.Keep}, "too long": {r.source, []byte(long)},
	} {
		address, err := d.source.Depart(t.Context(), identity.Departure{Keep: d.keep, ReturnURL: idptest.SignedOut, State: "s"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		u, err := url.Parse(address)
		if err != nil || u.Query().Has("id_token_hint") || u.Query().Get("client_id") == "" || u.Query().Get("state") != "s" {
			t.Errorf("%s: %s", name, address)
		}
	}
}

// Row L5: a provider without such a page, and row L6: one that is down.
func TestL5DepartNowhere(t *testing.T) {
	r := newRig(t, nil)
	r.server.Use(idptest.Metadata(noEndSession))
	if address, err := r.source.Depart(t.Context(), identity.Departure{ReturnURL: idptest.SignedOut}); err != nil || address != "" {
		t.Errorf("got %q, %v", address, err)
	}
	t.Run("L6 provider down", func(t *testing.T) {
		r := newRig(t, nil)
		r.server.Use(idptest.Status(idptest.AtMetadata, 503))
		address, err := r.source.Depart(t.Context(), identity.Departure{ReturnURL: idptest.SignedOut})
		wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "discovery.unreachable")
		if address != "" {
			t.Error(address)
		}
	})
}

// Nothing but an absolute address is a place to come back to, and without one no
// state is sent.
func TestDepartParameters(t *testing.T) {
	r := newRig(t, nil)
	for _, to := range []string{"/signed-out", "javascript:alert(1)", "//evil.example", "https:", "\x00"} {
		if address, err := r.source.Depart(t.Context(), identity.Departure{ReturnURL: to}); err == nil {
			t.Errorf("%q gives %s", to, address)
		}
	}
	address, err := r.source.Depart(t.Context(), identity.Departure{State: "s"})
	if err != nil || strings.Contains(address, "state") {
		t.Errorf("got %s, %v", address, err)
	}
	for _, state := range []string{"a b", "a\r\nb", strings.Repeat("s", maxState+1)} {
		address, err := r.source.Depart(t.Context(), identity.Departure{ReturnURL: idptest.SignedOut, State: state})
		if err != nil || strings.Contains(address, "&state=") {
			t.Errorf("%q: got %s, %v", state, address, err)
		}
	}
	// Endpoints with a query of their own keep it; one that sets a parameter of
	// ours is none.
	own := func(query string) idptest.Fault {
		return idptest.Metadata(func(m map[string]any) { m["end_session_endpoint"] = m["end_session_endpoint"].(string) + query })
	}
	r.source = r.another(t, nil)
	r.server.Use(own("?tenant=a"))
	address, err = r.source.Depart(t.Context(), identity.Departure{})
	if err != nil || !strings.Contains(address, "?tenant=a&client_id=") {
		t.Errorf("got %s, %v", address, err)
	}
	for _, query := range []string{"?state=x", "?post_logout_redirect_uri=https://evil.example", "#x"} {
		r.source = r.another(t, nil)
		r.server.Use(own(query))
		_, err := r.source.Depart(t.Context(), identity.Departure{})
		wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "discovery.end_session_endpoint")
	}
}
