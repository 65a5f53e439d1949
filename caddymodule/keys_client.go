package caddymodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/oidc"
	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/spf13/cobra"
)

// Client keys: those with which Anteroom proves itself to identity providers. In orders they are called client/NAME, with the name
// of the way to sign in.

const clientPrefix = "client/"

// oidcSources are the ways to sign in that may have keys of their own.
func (a *App) oidcSources() []*oidc.Source {
	var all []*oidc.Source
	for _, g := range a.sources {
		if s, ok := g.Source().(*oidc.Source); ok {
			all = append(all, s)
		}
	}
	return all
}

// keyClients are the same as operations on keys see them: those that have keys made here.
func (a *App) keyClients() []rekey.Client {
	var all []rekey.Client
	for _, s := range a.oidcSources() {
		if s.MakesKeys() {
			all = append(all, s)
		}
	}
	return all
}

// clientEntry is one way to sign in in the answers of keys/status and keys/client.
type clientEntry struct {
	Name      string           `json:"name"`
	Published string           `json:"published,omitempty"` // path of the key set
	Problem   string           `json:"problem,omitempty"`   // why there are no keys here
	Keys      []oidc.ClientKey `json:"keys"`
}

func (d desk) clientEntry(ctx context.Context, s *oidc.Source) clientEntry {
	e := clientEntry{Name: s.Name(), Published: d.keys.prefix + "jwks/" + s.Name() + ".json", Keys: []oidc.ClientKey{}}
	keys, err := s.ClientKeys(ctx)
	if err != nil {
		e.Problem = err.Error()
	}
	e.Keys = append(e.Keys, keys...)
	return e
}

// clientEntries are those that have keys made here.
func (d desk) clientEntries(ctx context.Context) []clientEntry {
	var all []clientEntry
	for _, s := range d.keys.clients {
		if s.MakesKeys() {
			all = append(all, d.clientEntry(ctx, s))
		}
	}
	return all
}

// rotateClient is keys/client: the next key of a client, or its use.
func (d desk) rotateClient(ctx context.Context) (any, error) {
	var want struct {
		Name     string `json:"name"`
		Activate bool   `json:"activate"`
		Force    bool   `json:"force"`
	}
	if err := d.read(&want); err != nil {
		return nil, err
	}
	var source *oidc.Source
	var names []string
	for _, s := range d.keys.clients {
		if s.Name() == want.Name {
			source = s
		}
		if s.MakesKeys() {
			names = append(names, s.Name())
		}
	}
	switch {
	case source == nil:
		return nil, &adminProblem{http.StatusNotFound, "not-found", "No identity provider that can be used here has that name. Those with keys that are made here: " + cmp.Or(strings.Join(names, ", "), "none") + "."}
	case want.Force && !want.Activate:
		return nil, badRequest("force is about activate.")
	}
	reason, do := "client-key-published", source.PublishKey
	if want.Activate {
		reason, do = "client-key-activated", func(ctx context.Context) error { return source.ActivateKey(ctx, want.Force) }
	}
	err := d.change(ctx, audit.Event{Rule: clientPrefix + source.Name(), Reason: reason}, func() error { return do(ctx) })
	switch {
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return nil, &adminProblem{http.StatusServiceUnavailable, "unavailable", "It is not certain that this was done: look at `anteroom keys status`, and repeat the command. " + err.Error()}
	case errors.Is(err, identity.ErrUnavailable):
		return nil, &adminProblem{http.StatusServiceUnavailable, "unavailable", "Nothing was changed. " + err.Error()}
	case err != nil:
		return nil, &adminProblem{http.StatusConflict, "refused", err.Error()}
	}
	return d.clientEntry(ctx, source), nil
}

// rotateClientKey is `keys rotate client NAME`.
func rotateClientKey(c *cobra.Command, f adminFlags, name string, activate, force bool) error {
	var e clientEntry
	if err := f.call(adminPath+"keys/client", map[string]any{"name": name, "activate": activate, "force": force}, &e); err != nil {
		return fmt.Errorf("replacing the key of client %s: %w", printable(name), err)
	}
	var b strings.Builder
	for _, k := range e.Keys {
		switch {
		case k.Use != "client":
		case k.State == oidc.KeyNext:
			fmt.Fprintf(&b, "The next key, %s, is published at %s of every site, beside the one that signs.\n"+
				"- Where the provider fetches that address: wait until it has done so. A minute is the least; many read again when they see a name that they do not know.\n"+
				"- Where keys are registered by hand: register this one beside the old one:\n  %s\n"+
				"Then: anteroom keys rotate client %s --activate\n", printable(k.KID), printable(e.Published), printable(string(k.JWK)), printable(name))
		case k.State == oidc.KeySigns && activate:
			fmt.Fprintf(&b, "The key %s signs now; other nodes follow within %s.\n", printable(k.KID), 10*time.Second)
		case k.State == oidc.KeyFormer && activate:
			fmt.Fprintf(&b, "The key %s stays published until %s, and its private half is gone. Where it is registered by hand, remove it in a minute.\n", printable(k.KID), localTime(k.Until))
		}
	}
	_, err := io.WriteString(c.OutOrStdout(), b.String())
	return err
}
