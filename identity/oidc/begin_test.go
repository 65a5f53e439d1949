package oidc

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// asked is what a sign-in asks the provider for.
func (r *rig) asked(t *testing.T, start identity.Start) url.Values {
	t.Helper()
	step, err := r.source.Begin(context.Background(), start)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(step.RedirectURL)
	if err != nil {
		t.Fatal(err)
	}
	return to.Query()
}

func TestRequestParameters(t *testing.T) {
	with := func(change func(*identity.Start)) identity.Start {
		start := started
		change(&start)
		return start
	}
	need := func(n identity.Need) identity.Start { return with(func(s *identity.Start) { s.Need = n }) }
	for _, c := range []struct {
		name   string
		config func(*Config)
		start  identity.Start
		want   map[string]string // "" : absent
	}{
		{"nothing", nil, started, map[string]string{"acr_values": "", "max_age": "", "prompt": "", "login_hint": "", "response_mode": ""}},
		{"acr_values", func(c *Config) { c.Request.ACR = []string{"gold", "silver"} }, started, map[string]string{"acr_values": "gold silver"}},
		{"max_age", func(c *Config) { c.Request.MaxAge = 8 * time.Hour }, started, map[string]string{"max_age": "28800"}},
		{"prompt", func(c *Config) { c.Request.Prompt = "select_account consent" }, started, map[string]string{"prompt": "select_account consent"}},
		{"prompt and again", func(c *Config) { c.Request.Prompt = "select_account" }, with(func(s *identity.Start) { s.Reauthenticate = true }), map[string]string{"prompt": "select_account login"}},
		{"login and again", func(c *Config) { c.Request.Prompt = "login" }, with(func(s *identity.Start) { s.Reauthenticate = true }), map[string]string{"prompt": "login"}},
		{"hint", nil, with(func(s *identity.Start) { s.LoginHint = "jo@hospital.example" }), map[string]string{"login_hint": "jo@hospital.example"}},
		{"hint too long", nil, with(func(s *identity.Start) { s.LoginHint = strings.Repeat("x", 256) }), map[string]string{"login_hint": ""}},
		{"hint with a line break", nil, with(func(s *identity.Start) { s.LoginHint = "a\r\nb" }), map[string]string{"login_hint": ""}},
		{"hint that is no text", nil, with(func(s *identity.Start) { s.LoginHint = "\xff" }), map[string]string{"login_hint": ""}},
		{"hint that tries to be more", nil, with(func(s *identity.Start) { s.LoginHint = "a&prompt=none" }), map[string]string{"login_hint": "a&prompt=none", "prompt": ""}},
		{"parameters", func(c *Config) {
			c.Request.Parameters = map[string]string{"hd": "hospital.example", "ui_locales": "de en"}
		}, started, map[string]string{"hd": "hospital.example", "ui_locales": "de en"}},
		{"row 35 needs a context", func(c *Config) { c.Request.ACR = []string{"silver"} }, need(identity.Need{ACR: []string{"gold", "platinum"}}), map[string]string{"acr_values": "gold platinum", "prompt": "", "max_age": ""}},
		{"needs a recent proof", func(c *Config) { c.Request.MaxAge = time.Hour }, need(identity.Need{MaxAge: 5 * time.Minute}), map[string]string{"max_age": "300", "prompt": ""}},
		{"needs less than usual", func(c *Config) { c.Request.MaxAge = time.Minute }, need(identity.Need{MaxAge: 5 * time.Minute}), map[string]string{"max_age": "60"}},
		{"needs one of this second", nil, need(identity.Need{MaxAge: time.Millisecond}), map[string]string{"max_age": "1"}},
		{"needs a method", nil, need(identity.Need{AMR: [][]string{{"otp", "hwk"}}}), map[string]string{"prompt": "login", "acr_values": "", "max_age": ""}},
		{"needs a method and says how", nil, need(identity.Need{AMR: [][]string{{"otp"}}, ACR: []string{"mfa"}}), map[string]string{"prompt": "", "acr_values": "mfa"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := newRig(t, c.config).asked(t, c.start)
			for name, want := range c.want {
				if got.Get(name) != want || (want == "") == got.Has(name) {
					t.Errorf("%s is %q, want %q", name, got.Get(name), want)
				}
			}
			// Row 1, whatever is configured.
			if got.Get("response_type") != "code" || got.Get("code_challenge_method") != "S256" || got.Get("nonce") == "" {
				t.Errorf("asked for %v", got)
			}
		})
	}
}

// Row 34, N39: max_age was asked, so auth_time has to show it.
func TestRow34MaxAge(t *testing.T) {
	for _, c := range []struct {
		name   string
		fault  func(now time.Time) idptest.Fault
		reason string
	}{
		{"N39 missing", func(time.Time) idptest.Fault { return idptest.DropClaims("auth_time") }, "idtoken.auth_time"},
		{"N39 an hour old", func(now time.Time) idptest.Fault { return idptest.SetClaim("auth_time", now.Add(-time.Hour).Unix()) }, "idtoken.auth_time_old"},
		{"N39 just too old", func(now time.Time) idptest.Fault {
			return idptest.SetClaim("auth_time", now.Add(-300*time.Second-skew-5*time.Second).Unix())
		}, "idtoken.auth_time_old"},
		{"N39 in the future", func(now time.Time) idptest.Fault { return idptest.SetClaim("auth_time", now.Add(time.Hour).Unix()) }, "idtoken.auth_time"},
		{"N39 a string", func(now time.Time) idptest.Fault { return idptest.SetClaim("auth_time", "1700000000") }, "idtoken.auth_time"},
		{"N39 null", func(now time.Time) idptest.Fault { return idptest.SetClaim("auth_time", nil) }, "idtoken.auth_time"},
		{"N39 zero", func(now time.Time) idptest.Fault { return idptest.SetClaim("auth_time", 0) }, "idtoken.auth_time"},
		{"row 34 old enough", func(now time.Time) idptest.Fault {
			return idptest.SetClaim("auth_time", now.Add(-290*time.Second).Unix())
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(config *Config) { config.Request.MaxAge = 5 * time.Minute })
			if c.reason == "" {
				r.accepts(t, c.fault(r.server.Now()))
				return
			}
			r.refuses(t, c.reason, c.fault(r.server.Now()))
		})
	}
	t.Run("row 34 for one request only", func(t *testing.T) {
		r := newRig(t, nil)
		old := idptest.SetClaim("auth_time", r.server.Now().Add(-time.Hour).Unix())
		r.server.Use(old)
		start := started
		start.Need.MaxAge = 5 * time.Minute
		who, err := r.signedIn(t, start)
		wantFailure(t, who, err, identity.ErrRefused, "idtoken.auth_time_old")
		if _, err = r.signedIn(t, started); err != nil {
			t.Errorf("the next attempt, which asks for nothing: %v", err)
		}
	})
}

// N38: an answer to prompt=none cannot come up, because nobody asks for it.
func TestN38NeverPromptNone(t *testing.T) {
	for _, prompt := range []string{"none", "login none", "None"} {
		if _, err := New(Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "s"}, Request: Request{Prompt: prompt}}); err == nil {
			t.Errorf("prompt %q accepted", prompt)
		}
	}
}

// N29: the answer comes by the way that was asked for.
func TestN29ResponseMode(t *testing.T) {
	posted := newRig(t, func(c *Config) { c.Request.FormPost = true })
	if got := posted.asked(t, started); got.Get("response_mode") != "form_post" {
		t.Errorf("asked for %q", got.Get("response_mode"))
	}
	step := posted.begin(t)
	if !step.Posted {
		t.Fatal("the step does not say that a post comes")
	}
	cb := posted.through(t, step)
	t.Run("N29 in the address although a post was asked for", func(t *testing.T) {
		posted.server.Forget()
		wrong := cb
		wrong.Posted = false
		who, err := posted.source.Finish(context.Background(), wrong)
		wantFailure(t, who, err, identity.ErrRefused, "callback.mode")
		if posted.server.Count(idptest.AtToken) != 0 {
			t.Error("the code was used")
		}
	})
	t.Run("N29 a post as asked for", func(t *testing.T) {
		who, err := posted.source.Finish(context.Background(), cb)
		if err != nil || who.Username != "doctor" {
			t.Errorf("got %q, %v", who.Username, err)
		}
	})
	t.Run("N29 a post although nobody asked", func(t *testing.T) {
		r := newRig(t, nil)
		step := r.begin(t)
		if step.Posted {
			t.Fatal("the step waits for a post")
		}
		cb := r.through(t, step)
		cb.Posted = true
		who, err := r.source.Finish(context.Background(), cb)
		wantFailure(t, who, err, identity.ErrRefused, "callback.mode")
		if r.server.Count(idptest.AtToken) != 0 {
			t.Error("the code was used")
		}
	})
	t.Run("the provider cannot", func(t *testing.T) {
		r := newRig(t, func(c *Config) { c.Request.FormPost = true })
		r.server.Use(idptest.Metadata(func(m map[string]any) { m["response_modes_supported"] = []string{"query"} }))
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrUnavailable, "discovery.response_mode")
	})
}

// C21: an error that comes as a form post.
func TestC21FormPostError(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Request.FormPost = true })
	for code, reason := range map[string]string{"login_required": "declined.login_required", "access_denied": "declined.access_denied", "<script>": "declined.other"} {
		r.server.Use(idptest.FailWith(code))
		r.server.Forget()
		who, err := r.signedIn(t, started)
		wantFailure(t, who, err, identity.ErrDeclined, reason)
		if r.server.Count(idptest.AtToken) != 0 {
			t.Error("a token request after an error")
		}
	}
}

func TestRequestRefused(t *testing.T) {
	for _, name := range reserved {
		for _, spelling := range []string{name, strings.ToUpper(name)} {
			config := Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "s"}, Request: Request{Parameters: map[string]string{spelling: "x"}}}
			if _, err := New(config); err == nil || !strings.Contains(err.Error(), "is set here") {
				t.Errorf("parameter %s: %v", spelling, err)
			}
		}
	}
	for name, r := range map[string]Request{
		"empty name": {Parameters: map[string]string{"": "x"}}, "name with a blank": {Parameters: map[string]string{"a b": "x"}},
		"name with an equals sign": {Parameters: map[string]string{"a=b": "x"}}, "long name": {Parameters: map[string]string{strings.Repeat("a", 65): "x"}},
		"value with a line break": {Parameters: map[string]string{"a": "x\ny"}}, "long value": {Parameters: map[string]string{"a": strings.Repeat("x", 2000)}},
		"two contexts in one": {ACR: []string{"a b"}}, "empty context": {ACR: []string{""}},
		"half a second": {MaxAge: time.Second / 2}, "negative age": {MaxAge: -time.Hour}, "unknown prompt": {Prompt: "always"},
	} {
		if _, err := New(Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "s"}, Request: r}); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	// The provider's own address must not speak for us either.
	r := newRig(t, func(c *Config) { c.Request.Parameters = map[string]string{"hd": "hospital.example"} })
	for _, query := range []string{"hd=other", "acr_values=x", "dpop_jkt=x", "login_hint=x"} {
		r.server.Use(idptest.Metadata(func(m map[string]any) {
			m["authorization_endpoint"] = m["authorization_endpoint"].(string) + "?" + query
		}))
		r.server.Pass(6 * time.Second)
		_, err := r.source.Begin(context.Background(), started)
		wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "discovery.authorization_endpoint")
	}
	r.server.Use(idptest.Metadata(func(m map[string]any) {
		m["authorization_endpoint"] = m["authorization_endpoint"].(string) + "?tenant=1"
	}))
	r.server.Pass(6 * time.Second)
	if got := r.asked(t, started); got.Get("tenant") != "1" || got.Get("client_id") != "anteroom" {
		t.Errorf("asked %v", got)
	}
}
