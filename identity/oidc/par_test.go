package oidc

import (
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func pushing(c *Config) { c.Request.PAR = true }

func TestPushedRequest(t *testing.T) {
	for name, c := range map[string]struct {
		config func(*Config)
		faults []idptest.Fault
		pushed bool
	}{
		"configured":          {pushing, nil, true},
		"demanded":            {nil, []idptest.Fault{idptest.Metadata(func(m map[string]any) { m["require_pushed_authorization_requests"] = true })}, true},
		"offered only":        {nil, nil, false},
		"with a form post":    {func(c *Config) { c.Request.PAR, c.Request.FormPost = true, true }, nil, true},
		"with client in body": {func(c *Config) { c.Request.PAR, c.Client.Auth = true, secretPost }, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := registered(t, func(i *idp.Config) {
				i.Clients[0].PAR = c.pushed
				if c.config != nil {
					probe := Config{}
					c.config(&probe)
					i.Clients[0].Auth = probe.Client.Auth
				}
			}, c.config)
			r.server.Use(c.faults...)
			step := r.begin(t)
			to, err := url.Parse(step.RedirectURL)
			if err != nil {
				t.Fatal(err)
			}
			names := slices.Sorted(func(yield func(string) bool) {
				for n := range to.Query() {
					if !yield(n) {
						return
					}
				}
			})
			if c.pushed != reflect.DeepEqual(names, []string{"client_id", "request_uri"}) {
				t.Fatalf("the browser carries %v", names)
			}
			who, err := r.source.Finish(t.Context(), r.through(t, step))
			if err != nil || who.Username != "doctor" {
				t.Fatalf("got %q, %v", who.Username, err)
			}
			requests := r.server.Requests(idptest.AtPush)
			if !c.pushed {
				if len(requests) != 0 {
					t.Errorf("%d pushed requests", len(requests))
				}
				return
			}
			if len(requests) != 1 || requests[0].URL.RawQuery != "" {
				t.Fatalf("%d pushed requests", len(requests))
			}
			form := requests[0].Form
			for _, name := range []string{"response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method"} {
				if len(form[name]) != 1 {
					t.Errorf("pushed %s = %q", name, form[name])
				}
			}
			if form.Has("request_uri") || form.Has("code_verifier") {
				t.Errorf("pushed %v", form)
			}
		})
	}
}

// No answer of the endpoint but a good one sends a browser anywhere.
func TestPushAnswers(t *testing.T) {
	secret := "provider-text-that-nobody-shall-read"
	change := func(name string, value any) idptest.Fault {
		return idptest.PushAnswer(func(a map[string]any) {
			if a[name] = value; value == nil {
				delete(a, name)
			}
		})
	}
	r := newRig(t, func(c *Config) { hasty(c); pushing(c) })
	for _, c := range []struct {
		name   string
		fault  idptest.Fault
		reason string
	}{
		{"no request_uri", change("request_uri", nil), "par.malformed"},
		{"request_uri a number", change("request_uri", 5), "par.malformed"},
		{"request_uri empty", change("request_uri", ""), "par.malformed"},
		{"request_uri a script", change("request_uri", "javascript:alert(1)"), "par.malformed"},
		{"request_uri over http", change("request_uri", "http://provider.example/x"), "par.malformed"},
		{"request_uri without a scheme", change("request_uri", "//provider.example/x"), "par.malformed"},
		{"request_uri with a fragment", change("request_uri", "urn:x:y#z"), "par.malformed"},
		{"request_uri with a line break", change("request_uri", "urn:x:y\r\nz"), "par.malformed"},
		{"request_uri with a blank", change("request_uri", "urn:x:y z"), "par.malformed"},
		{"request_uri too long", change("request_uri", "urn:x:"+strings.Repeat("y", 1024)), "par.malformed"},
		{"no expires_in", change("expires_in", nil), "par.malformed"},
		{"expires_in zero", change("expires_in", 0), "par.malformed"},
		{"expires_in negative", change("expires_in", -60), "par.malformed"},
		{"expires_in a string", change("expires_in", "60"), "par.malformed"},
		{"J42 REQUEST_URI", idptest.PushAnswer(func(a map[string]any) { a["REQUEST_URI"] = a["request_uri"]; delete(a, "request_uri") }), "par.malformed"},
		{"J41 twice", answerJSON(idptest.AtPush, "201", `{"request_uri":"urn:a:b","request_uri":"urn:c:d","expires_in":60}`), "par.malformed"},
		{"200", answerJSON(idptest.AtPush, "200", `{"request_uri":"urn:a:b","expires_in":60}`), "par.refused"},
		{"invalid_client", answerJSON(idptest.AtPush, "401", `{"error":"invalid_client","error_description":"`+secret+`"}`), "par.client"},
		{"invalid_request", answerJSON(idptest.AtPush, "400", `{"error":"invalid_request","error_description":"`+secret+`"}`), "par.refused"},
		{"HTML", idptest.Status(idptest.AtPush, 200), "par.malformed"},
		{"500", idptest.Status(idptest.AtPush, 500), "par.refused"},
		{"R47 too large", idptest.Huge(idptest.AtPush, 2<<20), "par.malformed"},
		{"R47 redirect", idptest.RedirectTo(idptest.AtPush, r.server.URL+"/elsewhere"), "par.refused"},
		{"cut", idptest.Cut(idptest.AtPush), "par.unreachable"},
		{"no answer", idptest.Hang(idptest.AtPush), "par.unreachable"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.server.Use(c.fault)
			r.server.Forget()
			step, err := r.source.Begin(t.Context(), started)
			wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, c.reason)
			if step.RedirectURL != "" || step.Keep != nil {
				t.Errorf("a failure came with %+v", step)
			}
			r.noText(t, err, secret)
			if r.server.Count(idptest.AtPush) != 1 || r.server.Count(idptest.AtElsewhere) != 0 {
				t.Errorf("%d requests, %d elsewhere", r.server.Count(idptest.AtPush), r.server.Count(idptest.AtElsewhere))
			}
		})
	}
}

func TestPushNotOffered(t *testing.T) {
	r := newRig(t, pushing)
	r.server.Use(idptest.Metadata(func(m map[string]any) { delete(m, "pushed_authorization_request_endpoint") }))
	who, err := r.signedIn(t, started)
	wantFailure(t, who, err, identity.ErrUnavailable, "discovery.par")
	if !strings.Contains(err.Error(), "RFC 9126") {
		t.Errorf("no remedy in %v", err)
	}
	t.Run("at another host", func(t *testing.T) {
		r := newRig(t, pushing)
		r.server.Use(idptest.Metadata(func(m map[string]any) { m["pushed_authorization_request_endpoint"] = "https://elsewhere.example/par" }))
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrUnavailable, "discovery.pushed_authorization_request_endpoint")
	})
}
