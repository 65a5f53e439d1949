package oidc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// rig is a source, the provider it talks to and a browser.
type rig struct {
	server  *idptest.Server
	source  *Source
	browser *idptest.Browser
	log     *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	r := &rig{server: idptest.New(t), browser: idptest.NewBrowser(), log: &logBuffer{}}
	r.source = r.another(t, change)
	return r
}

// another makes a source for the same provider, as a second node or a restart
// would.
func (r *rig) another(t *testing.T, change func(*Config)) *Source {
	t.Helper()
	c := Config{
		Name: "hospital", Title: "Hospital", Issuer: r.server.URL,
		Client: Client{ID: r.server.ClientID, Secret: r.server.ClientSecret},
		Claims: Claims{RoleNames: map[string][]string{"doctor": {"doctor"}, "patient": {"patient"}}},
		Now:    r.server.Now, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	if change != nil {
		change(&c)
	}
	switch c.Client.Auth {
	case privateKeyJWT, mutualTLS, selfSignedTLS:
		c.Client.Secret = ""
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var started = identity.Start{State: "state-of-this-attempt-0123456789", CallbackURL: idptest.Callback}

func (r *rig) begin(t *testing.T) identity.Step {
	t.Helper()
	step, err := r.source.Begin(context.Background(), started)
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return step
}

// back is the callback that the provider's redirect makes.
func back(step identity.Step, to *url.URL) identity.Callback {
	return identity.Callback{Query: to.Query(), CallbackURL: idptest.Callback, Keep: step.Keep}
}

// attempt signs the doctor in while the faults are on.
func (r *rig) attempt(t *testing.T, faults ...idptest.Fault) (identity.Identity, error) {
	t.Helper()
	r.server.Use(faults...)
	r.server.Forget()
	step, err := r.source.Begin(context.Background(), started)
	if err != nil {
		return identity.Identity{}, err
	}
	to := r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor")
	return r.source.Finish(context.Background(), back(step, to))
}

// lean makes the ID token leave something open, so that userinfo is asked by
// everybody who accepts it.
var lean = idptest.DropClaims("name", "email", "roles")

// refuses checks outcome, reason, and that the access token was not used.
func (r *rig) refuses(t *testing.T, reason string, faults ...idptest.Fault) {
	t.Helper()
	who, err := r.attempt(t, append([]idptest.Fault{lean}, faults...)...)
	wantFailure(t, who, err, identity.ErrRefused, reason)
	if n := r.server.Count(idptest.AtToken); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
	if n := r.server.Count(idptest.AtUserInfo); n != 0 {
		t.Errorf("%d userinfo requests, want none", n)
	}
}

func (r *rig) accepts(t *testing.T, faults ...idptest.Fault) identity.Identity {
	t.Helper()
	who, err := r.attempt(t, faults...)
	if err != nil {
		t.Fatalf("sign-in failed: %v", err)
	}
	if who.Username != "doctor" {
		t.Fatalf("signed in as %q", who.Username)
	}
	return who
}

func wantFailure(t *testing.T, who identity.Identity, err, kind error, reason string) {
	t.Helper()
	if !errors.Is(err, kind) || identity.Reason(err) != reason {
		t.Fatalf("got %v, want %v (%s)", err, kind, reason)
	}
	if !reflect.DeepEqual(who, identity.Identity{}) {
		t.Fatalf("a failure came with an identity: %+v", who)
	}
}

// noText fails when an error or the log repeats what the provider wrote.
func (r *rig) noText(t *testing.T, err error, text string) {
	t.Helper()
	if strings.Contains(err.Error(), text) || strings.Contains(r.log.String(), text) {
		t.Fatalf("%q got into the error %q or the log %q", text, err, r.log)
	}
}

// hasty is a client that does not wait long, and long enough for a busy machine to answer.
func hasty(c *Config) { c.Fetch.HTTPClient = &http.Client{Timeout: 2 * time.Second} }
