package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func TestSignIn(t *testing.T) {
	r := newRig(t, nil)
	before := r.server.Now().Add(-time.Second)
	who := r.accepts(t)
	if who.AuthTime.Before(before.Truncate(time.Second)) {
		t.Errorf("auth_time %v is before the attempt", who.AuthTime)
	}
	if who.Issued.Before(before.Truncate(time.Second)) || who.Session == "" || len(who.Keep) == 0 {
		t.Errorf("issued %v, session %q, %d bytes kept", who.Issued, who.Session, len(who.Keep))
	}
	who.AuthTime, who.Issued, who.Session, who.Keep = time.Time{}, time.Time{}, "", nil
	want := identity.Identity{
		Source: "hospital", Issuer: r.server.URL, Subject: who.Subject, Username: "doctor", Name: "Dominik Doctor",
		Email: "doctor@hospital.example", Roles: []string{"doctor"}, ACR: "urn:example:acr:password", AMR: []string{"pwd"},
		Renews: true,
	}
	if !reflect.DeepEqual(who, want) || who.Subject == "" || who.Subject == "doctor" {
		t.Errorf("got  %+v\nwant %+v", who, want)
	}
	if n := r.server.Count(idptest.AtUserInfo); n != 0 {
		t.Errorf("%d userinfo requests although the ID token says everything", n)
	}
	if out := r.log.String(); out != "" {
		t.Errorf("a good sign-in logs %q", out)
	}
}

// Requirements 1, 2, 4, 7, 21: what the provider is asked for.
func TestAuthorizationRequest(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Request.Scopes = []string{"profile", "groups", "openid", "profile"} })
	step := r.begin(t)
	to, err := url.Parse(step.RedirectURL)
	if err != nil {
		t.Fatal(err)
	}
	if got := to.Scheme + "://" + to.Host + to.Path; got != r.server.URL+"/authorize" {
		t.Errorf("sent to %s", got)
	}
	var k kept
	if err := json.Unmarshal(step.Keep, &k); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(k.Verifier))
	want := url.Values{
		"response_type": {"code"}, "client_id": {"anteroom"}, "redirect_uri": {idptest.Callback}, "scope": {"openid profile groups"},
		"state": {started.State}, "nonce": {k.Nonce}, "code_challenge_method": {"S256"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])},
	}
	if got := to.Query(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// CVE-2026-34511: the verifier is never in a URL.
	if strings.Contains(step.RedirectURL, k.Verifier) || k.Verifier == k.Nonce || k.Nonce == k.State {
		t.Error("verifier, nonce and state are not kept apart")
	}
	if len(k.Verifier) != 43 || len(k.Nonce) != 43 {
		t.Errorf("verifier of %d and nonce of %d characters, want 43 each", len(k.Verifier), len(k.Nonce))
	}
}

func TestVerifiersDiffer(t *testing.T) {
	r := newRig(t, nil)
	seen := map[string]bool{}
	for range 10_000 {
		step := r.begin(t)
		var k kept
		if err := json.Unmarshal(step.Keep, &k); err != nil {
			t.Fatal(err)
		}
		if seen[k.Verifier] || seen[k.Nonce] {
			t.Fatal("a verifier or nonce came twice")
		}
		seen[k.Verifier], seen[k.Nonce] = true, true
	}
}

// Requirements 2, 12, 13: what the token endpoint gets.
func TestTokenRequest(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t)
	requests := r.server.Requests(idptest.AtToken)
	if len(requests) != 1 {
		t.Fatalf("%d token requests", len(requests))
	}
	got := requests[0]
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(got.Header.Get("Authorization"), "Basic "))
	if err != nil || string(raw) != "anteroom:a+secret%3A+100%25%2B%2F" {
		t.Errorf("client_secret_basic is %q, %v", raw, err)
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range got.Form {
			if !yield(name) {
				return
			}
		}
	})
	if want := []string{"code", "code_verifier", "grant_type", "redirect_uri"}; !slices.Equal(names, want) {
		t.Errorf("parameters %v, want %v", names, want)
	}
	if got.URL.RawQuery != "" || got.Header.Get("Cookie") != "" {
		t.Error("something travels in the query or a cookie")
	}
}

func TestReauthenticate(t *testing.T) {
	again := started
	again.Reauthenticate = true
	sign := func(t *testing.T, r *rig, faults ...idptest.Fault) (identity.Identity, error) {
		t.Helper()
		r.server.Use(faults...)
		step, err := r.source.Begin(context.Background(), again)
		if err != nil {
			t.Fatal(err)
		}
		if to, _ := url.Parse(step.RedirectURL); to.Query().Get("prompt") != "login" {
			t.Fatalf("prompt is %q", to.Query().Get("prompt"))
		}
		return r.source.Finish(context.Background(), back(step, r.browser.SignIn(t, step.RedirectURL, "patient", "patient")))
	}
	t.Run("asks the person again", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t)
		who, err := sign(t, r)
		if err != nil || who.Username != "patient" {
			t.Fatalf("got %q, %v", who.Username, err)
		}
	})
	t.Run("N39 provider ignores prompt and shows it", func(t *testing.T) {
		r := newRig(t, nil)
		old := r.server.Now().Add(-5 * time.Minute).Unix()
		who, err := sign(t, r, idptest.SetClaim("auth_time", old))
		wantFailure(t, who, err, identity.ErrRefused, "idtoken.auth_time_old")
	})
	t.Run("an old sign-in is fine when nobody asked again", func(t *testing.T) {
		r := newRig(t, nil)
		r.accepts(t, idptest.SetClaim("auth_time", r.server.Now().Add(-5*time.Hour).Unix()))
	})
	t.Run("auth_time missing: max_age is never asked", func(t *testing.T) {
		r := newRig(t, nil)
		if who, err := sign(t, r, idptest.DropClaims("auth_time")); err != nil || !who.AuthTime.IsZero() {
			t.Fatalf("got %v, %v", who.AuthTime, err)
		}
	})
}

func TestUserInfoFillsGaps(t *testing.T) {
	for _, missing := range [][]string{{"preferred_username"}, {"name"}, {"email"}, {"roles"}, {"preferred_username", "name", "email", "roles"}} {
		t.Run(strings.Join(missing, "+"), func(t *testing.T) {
			r := newRig(t, nil)
			who := r.accepts(t, idptest.DropClaims(missing...))
			if who.Name != "Dominik Doctor" || who.Email != "doctor@hospital.example" || !slices.Equal(who.Roles, []string{"doctor"}) {
				t.Errorf("got %+v", who)
			}
			requests := r.server.Requests(idptest.AtUserInfo)
			if len(requests) != 1 {
				t.Fatalf("%d userinfo requests, want 1", len(requests))
			}
			// C1, C19, requirement 38: in the header and nowhere else.
			if !strings.HasPrefix(requests[0].Header.Get("Authorization"), "Bearer ") || requests[0].URL.RawQuery != "" || requests[0].Method != "GET" {
				t.Error("the access token is not in the header only")
			}
		})
	}
	t.Run("ID token goes first", func(t *testing.T) {
		r := newRig(t, nil)
		who := r.accepts(t, idptest.DropClaims("name"), idptest.UserInfo(func(u map[string]any) {
			u["preferred_username"], u["roles"] = "patient", []string{"patient"}
		}))
		if !slices.Equal(who.Roles, []string{"doctor"}) {
			t.Errorf("roles %v", who.Roles)
		}
	})
	t.Run("no endpoint", func(t *testing.T) {
		r := newRig(t, nil)
		who := r.accepts(t, idptest.DropClaims("name", "roles"), idptest.Metadata(func(m map[string]any) { delete(m, "userinfo_endpoint") }))
		if who.Name != "" || len(who.Roles) != 0 {
			t.Errorf("got %+v", who)
		}
	})
}

func TestCancelledCaller(t *testing.T) {
	r := newRig(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := r.source.Begin(ctx, started)
	if err != nil && !errors.Is(err, identity.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	r.begin(t) // the fetch went on for the others, or a new one works
}

func TestConfigRefused(t *testing.T) {
	good := Config{Name: "hospital", Issuer: "https://login.hospital.example", Client: Client{ID: "anteroom", Secret: "s"}}
	for _, c := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"no name", func(c *Config) { c.Name = "" }, "part of a URL"},
		{"name with a slash", func(c *Config) { c.Name = "a/b" }, "part of a URL"},
		{"no issuer", func(c *Config) { c.Issuer = "" }, "issuer is missing"},
		{"http", func(c *Config) { c.Issuer = "http://login.hospital.example" }, "without TLS"},
		{"http at 127.0.0.2", func(c *Config) { c.Issuer = "http://127.0.0.2" }, "without TLS"},
		{"http at a localhost of somebody", func(c *Config) { c.Issuer = "http://localhost.evil.example" }, "without TLS"},
		{"http at localhost with a dot", func(c *Config) { c.Issuer = "http://localhost." }, "without TLS"},
		{"http in upper case", func(c *Config) { c.Issuer = "http://LOCALHOST" }, "without TLS"},
		{"http at mapped loopback", func(c *Config) { c.Issuer = "http://[::ffff:127.0.0.1]" }, "without TLS"},
		{"other scheme", func(c *Config) { c.Issuer = "ldap://login.hospital.example" }, "https://"},
		{"bare host", func(c *Config) { c.Issuer = "login.hospital.example" }, "not an address"},
		{"user in the issuer", func(c *Config) { c.Issuer = "https://a@login.hospital.example" }, "user, a query"},
		{"query in the issuer", func(c *Config) { c.Issuer += "?x" }, "user, a query"},
		{"fragment in the issuer", func(c *Config) { c.Issuer += "#" }, "user, a query"},
		{"no client", func(c *Config) { c.Client.ID = "" }, "client_id is missing"},
		{"no secret", func(c *Config) { c.Client.Secret = "" }, "client_secret is missing"},
		{"secret with an end of line", func(c *Config) { c.Client.Secret = "s3cr3t\n" }, "line break"},
		{"two scopes in one", func(c *Config) { c.Request.Scopes = []string{"openid profile"} }, "not a scope"},
		{"broken path", func(c *Config) { c.Claims.Roles = "a..b" }, "roles_claim"},
		{"prefix with a line break", func(c *Config) { c.Claims.UsernamePrefix = "a\n" }, "username_prefix"},
		{"prefix that begins with a blank", func(c *Config) { c.Claims.UsernamePrefix = " a" }, "username_prefix"},
		{"bad role", func(c *Config) { c.Claims.RoleNames = map[string][]string{"g": {"a,b"}} }, "a role is"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := good
			c.change(&config)
			_, err := New(config)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want something about %q", err, c.says)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Fatalf("the secret is in %q", err)
			}
		})
	}
	for _, issuer := range []string{"https://login.hospital.example", "https://x.example/realms/a/", "http://127.0.0.1:8080", "http://[::1]:1", "http://localhost"} {
		config := good
		config.Issuer = issuer
		if _, err := New(config); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

func TestSecretIsRedacted(t *testing.T) {
	r := newRig(t, nil)
	c := Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "top-s3cr3t"}}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{string(text)}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		printed = append(printed, fmt.Sprintf(format, c), fmt.Sprintf(format, &c), fmt.Sprintf(format, s), fmt.Sprintf(format, struct{ a secret }{s.secret}))
	}
	r.source.log.Info("x", "config", c, "source", s)
	printed = append(printed, r.log.String())
	for _, p := range printed {
		if strings.Contains(p, "s3cr3t") {
			t.Errorf("printed: %s", p)
		}
	}
}

// A hundred people arrive at once: one look at the provider (run with -race).
func TestDiscoveryOnce(t *testing.T) {
	r := newRig(t, nil)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			if _, err := r.source.Begin(context.Background(), started); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := r.server.Count(idptest.AtMetadata); n != 1 {
		t.Errorf("%d requests for the metadata, want 1", n)
	}
}

func TestManySignInsAtOnce(t *testing.T) {
	r := newRig(t, nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			step, err := r.source.Begin(context.Background(), started)
			if err != nil {
				t.Error(err)
				return
			}
			to := r.server.SignIn(t, step.RedirectURL, "doctor", "doctor")
			if _, err := r.source.Finish(context.Background(), back(step, to)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := r.server.Count(idptest.AtKeys); n != 1 {
		t.Errorf("%d requests for the keys, want 1", n)
	}
}
