package oidc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/store/bolt"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// registered is a rig whose client is registered in another way at the provider.
// The key of a client that proves itself with one is made and fetched as in
// production.
func registered(t *testing.T, register func(*idp.Config), change func(*Config)) *rig {
	t.Helper()
	r := &rig{browser: idptest.NewBrowser(), log: &logBuffer{}}
	published := &publisher{}
	r.server = idptest.Start(t, func(c *idp.Config) {
		c.HTTPClient.Transport = published
		register(c)
	})
	r.source = r.another(t, change)
	r.source.Use(resources(t))
	published.source = r.source
	return r
}

func resources(t *testing.T) Resources {
	t.Helper()
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(t.TempDir(), "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return Resources{Store: s, Sealer: plainSealer{}}
}

// plainSealer keeps labels apart and is no secret: tests look inside.
type plainSealer struct{}

func (plainSealer) Seal(_ context.Context, label string, plaintext []byte) ([]byte, error) {
	return append([]byte("sealed "+label+"\n"), plaintext...), nil
}

func (plainSealer) Open(_ context.Context, label string, sealed []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, []byte("sealed "+label+"\n"))
	if !ok {
		return nil, errors.New("does not open")
	}
	return rest, nil
}

// publisher is the address where the provider fetches our keys.
type publisher struct{ source *Source }

const keysAddress = "https://app.localhost:8443/.anteroom/jwks/hospital.json"

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.String() != keysAddress {
		return nil, errors.New("no such address")
	}
	set, err := p.source.JWKS(r.Context())
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(set)), Request: r}, nil
}

// signedIn goes through the provider in the way that the step asks for.
func (r *rig) signedIn(t *testing.T, start identity.Start) (identity.Identity, error) {
	t.Helper()
	step, err := r.source.Begin(context.Background(), start)
	if err != nil {
		return identity.Identity{}, err
	}
	return r.source.Finish(context.Background(), r.through(t, step))
}

func (r *rig) through(t *testing.T, step identity.Step) identity.Callback {
	t.Helper()
	if !step.Posted {
		return back(step, r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor"))
	}
	to, form := r.browser.SignInPosted(t, step.RedirectURL, "doctor", "doctor")
	if to.String() != idptest.Callback {
		t.Fatalf("posted to %s", to)
	}
	return identity.Callback{Query: form, CallbackURL: idptest.Callback, Keep: step.Keep, Posted: true}
}
