package oidc

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// report is what the findings say, the bad ones with a mark.
func report(all []Finding) string {
	var lines []string
	for _, f := range all {
		line := f.What
		if !f.OK {
			line = "BAD " + line + " -> " + f.Remedy
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestDiagnose(t *testing.T) {
	set := func(name string, value any) idptest.Fault {
		return idptest.Metadata(func(m map[string]any) {
			if m[name] = value; value == nil {
				delete(m, name)
			}
		})
	}
	for _, c := range []struct {
		name   string
		faults []idptest.Fault
		want   []string
		bad    int
	}{
		{"all is well", nil, []string{"metadata can be used", "127.0.0.1", "usable keys", "client_secret_basic", "S256", "sign out there", "logout tokens", "clock"}, 0},
		{"provider down", all(idptest.Status(idptest.AtMetadata, 503)), []string{"status 503", "firewall"}, 1},
		{"issuer spelled otherwise", all(set("issuer", "http://x")), []string{"-> write `issuer` exactly"}, 1},
		{"another host", all(set("token_endpoint", "https://tokens.example/t")), []string{"`hosts tokens.example`", "-> if the provider really uses"}, 1},
		{"no PKCE", all(set("code_challenge_methods_supported", []string{"plain"})), []string{"switch PKCE with S256 on"}, 1},
		{"other client authentication", all(set("token_endpoint_auth_methods_supported", []string{"private_key_jwt"})), []string{"lacks client_secret_basic"}, 1},
		{"keys down", all(idptest.Status(idptest.AtKeys, 500)), []string{"keys cannot be had", "jwks_uri"}, 1},
		{"no usable key", all(idptest.Text(idptest.AtKeys, "application/json", `{"keys":[]}`)), []string{"none of its keys", "P-256"}, 1},
		{"L5 no sign-out", all(idptest.Metadata(noEndSession)), []string{"may outlive"}, 0},
		{"no logout tokens", all(set("backchannel_logout_supported", false)), []string{"lives here until"}, 0},
		{"nothing is said", all(set("token_endpoint_auth_methods_supported", nil), set("authorization_response_iss_parameter_supported", false)), []string{"does not say which client", "RFC 9207"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.server.Use(c.faults...)
			found := r.source.Diagnose(t.Context())
			text := report(found)
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if n := strings.Count(text, "BAD "); n != c.bad {
				t.Errorf("%d bad findings, want %d:\n%s", n, c.bad, text)
			}
			if n := r.server.Count(idptest.AtToken) + r.server.Count(idptest.AtUserInfo); n != 0 || strings.Contains(text, r.server.ClientSecret) {
				t.Error("a secret was sent or shown")
			}
		})
	}
}

func TestDiagnoseClock(t *testing.T) {
	for off, want := range map[time.Duration]string{5 * time.Second: "agree", 5 * time.Minute: "ahead of", -5 * time.Minute: "behind"} {
		r := newRig(t, nil)
		r.source.now = func() time.Time { return time.Now().Add(off) }
		if text := report(r.source.Diagnose(t.Context())); !strings.Contains(text, want) {
			t.Errorf("%v: no %q in\n%s", off, want, text)
		}
	}
	// An answer out of a cache says nothing of the clock.
	r := newRig(t, nil)
	r.server.Use(idptest.Replace(idptest.AtMetadata, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Age", "3600") }))
	if text := report(r.source.Diagnose(t.Context())); strings.Contains(text, "clock") {
		t.Errorf("got\n%s", text)
	}
}

// Nobody listens, or somebody whom we do not trust: a finding, no wait and no panic.
func TestDiagnoseUnreachable(t *testing.T) {
	s, err := New(Config{Name: "n", Issuer: "http://127.0.0.1:1", Client: Client{ID: "c", Secret: "top-s3cr3t"}})
	if err != nil {
		t.Fatal(err)
	}
	found := s.Diagnose(t.Context())
	if text := report(found); len(found) != 1 || !strings.Contains(text, "connection refused") || strings.Contains(text, "top-s3cr3t") || strings.Contains(text, identity.ErrUnavailable.Error()) {
		t.Errorf("got\n%s", text)
	}
}
