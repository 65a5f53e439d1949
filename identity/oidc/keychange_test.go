package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// register is a provider's idea of our keys: what it has read at our address, or what somebody registered there.
type register struct{ set []byte }

func (r *register) RoundTrip(q *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(r.set)), Request: q}, nil
}

// twoNodes are two nodes of one client at a provider that knows what is in the register.
func twoNodes(t *testing.T, fapi bool) (a, b *rig, at *register) {
	t.Helper()
	at = new(register)
	a = &rig{browser: idptest.NewBrowser(), log: &logBuffer{}}
	a.server = idptest.Start(t, func(c *idp.Config) {
		c.HTTPClient.Transport = at
		c.Clients[0].Auth, c.Clients[0].Secret, c.Clients[0].JWKSURI = privateKeyJWT, "", keysAddress
		c.Clients[0].PAR, c.Clients[0].DPoP = fapi, fapi
	})
	change := func(c *Config) { c.Client.Auth, c.FAPI2 = privateKeyJWT, fapi }
	if fapi {
		a.server.Use(signs)
	}
	two := *a
	b = &two
	r := resources(t)
	a.source, b.source = a.another(t, change), a.another(t, change)
	a.source.Use(r)
	b.source.Use(r)
	at.set = a.set(t)
	return a, b, at
}

func (r *rig) set(t *testing.T) []byte {
	t.Helper()
	set, err := r.source.JWKS(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// kids are the names in a set.
func kids(t *testing.T, set []byte) []string {
	t.Helper()
	var s struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal(set, &s); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, k := range s.Keys {
		if k["d"] != "" || k["kty"] != "EC" || k["use"] != "sig" || k["alg"] != "ES256" {
			t.Errorf("published: %v", k)
		}
		all = append(all, k["kid"])
	}
	return all
}

// works signs somebody in on both nodes.
func works(t *testing.T, when string, nodes ...*rig) {
	t.Helper()
	for i, n := range nodes {
		if _, err := n.signedIn(t, started); err != nil {
			t.Fatalf("%s: no sign-in on node %d: %v", when, i+1, err)
		}
	}
}

// S9: a client key is replaced, and no sign-in fails at any moment: the new one is published first, signs when the provider
// has shown that it knows it, and nodes that have not heard go on with the old one, which stays published.
func TestClientKeyChanges(t *testing.T) {
	for name, fapi := range map[string]bool{"private_key_jwt": false, "FAPI 2.0, with DPoP": true} {
		t.Run(name, func(t *testing.T) {
			a, b, at := twoNodes(t, fapi)
			ctx := context.Background()
			works(t, "before", a, b)
			old := kids(t, at.set)[0]
			if err := a.source.ActivateKey(ctx, false); err == nil || !strings.Contains(err.Error(), "no next key") {
				t.Fatalf("nothing to activate: %v", err)
			}
			for range 2 { // the second time it is there
				if err := a.source.PublishKey(ctx); err != nil {
					t.Fatal(err)
				}
			}
			set := a.set(t)
			if all := kids(t, set); len(all) != 2 || all[0] != old {
				t.Fatalf("published: %v", all)
			}
			works(t, "published", a, b)
			a.server.Forget()
			err := a.source.ActivateKey(ctx, false)
			if err == nil || !strings.Contains(err.Error(), "does not accept the new key yet") {
				t.Fatalf("the provider does not know it: %v", err)
			}
			works(t, "refused", a, b)
			if got := kids(t, a.set(t)); !slices.Equal(got, kids(t, set)) {
				t.Errorf("changed: %v", got)
			}
			at.set = set // the provider reads it, or somebody registers it beside the old one
			if err := a.source.ActivateKey(ctx, false); err != nil {
				t.Fatal(err)
			}
			if got := kids(t, a.set(t)); len(got) != 2 || got[0] == old || got[1] != old {
				t.Errorf("published after: %v, the old one is %s", got, old)
			}
			if key, err := b.source.signs.get(ctx); err != nil || sameKey(key, mustKey(t, a)) {
				t.Fatalf("node 2 has heard already, and shows nothing: %v", err)
			}
			works(t, "activated", a, b)
			a.server.Pass(keyFresh + time.Second)
			at.set = a.set(t)
			works(t, "all have heard", a, b)
			if !sameKey(mustKey(t, a), mustKey(t, b)) {
				t.Error("the nodes sign with two keys")
			}
			a.server.Pass(formerTime)
			if got := kids(t, b.set(t)); len(got) != 1 || got[0] == old {
				t.Errorf("published at the end: %v", got)
			}
			at.set = b.set(t)
			works(t, "at the end", a, b)
		})
	}
}

func mustKey(t *testing.T, r *rig) crypto.Signer {
	t.Helper()
	key, err := r.source.signs.get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What a provider answers to the question whether it knows the new key: only a refusal of the code proves it.
func TestClientKeyIsTried(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		want   string // "" when the key may sign
	}{
		"the code is refused":       {400, `{"error":"invalid_grant"}`, ""},
		"the client is refused":     {401, `{"error":"invalid_client"}`, "does not accept"},
		"the client may not":        {400, `{"error":"unauthorized_client"}`, "does not accept"},
		"another refusal":           {400, `{"error":"invalid_request"}`, "does not say"},
		"invalid_grant, status 200": {200, `{"error":"invalid_grant"}`, "does not say"},
		"tokens for a wrong code":   {200, `{"access_token":"x","token_type":"Bearer"}`, "does not say"},
		"a page":                    {200, `<html>`, "cannot be asked"},
		"down":                      {503, `{}`, "does not say"},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := twoNodes(t, false)
			ctx := context.Background()
			if err := a.source.PublishKey(ctx); err != nil {
				t.Fatal(err)
			}
			before := kids(t, a.set(t))
			a.server.Use(idptest.Replace(idptest.AtToken, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			err := a.source.ActivateKey(ctx, false)
			signs := kids(t, a.set(t))[0] == before[1]
			if (err == nil) != (c.want == "") || signs != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; the new key signs: %v", err, signs)
			}
			if c.want != "" {
				if err := a.source.ActivateKey(ctx, true); err != nil || kids(t, a.set(t))[0] != before[1] {
					t.Errorf("by force: %v", err)
				}
			}
		})
	}
}

// S9: a stolen client key is replaced at once, and what was published before is no more, a next key among it. The
// provider refuses the thief as soon as it has read the set.
func TestClientKeyStolen(t *testing.T) {
	a, b, at := twoNodes(t, true)
	ctx := context.Background()
	works(t, "before", a, b)
	if err := a.source.PublishKey(ctx); err != nil {
		t.Fatal(err)
	}
	stolen := kids(t, a.set(t))
	names, err := a.source.KeyNames(ctx)
	if err != nil || len(names) != 2 || names[0] != stolen[0] {
		t.Fatalf("%v, %v", names, err)
	}
	var fresh []string
	for range 2 { // after a crash it is done once more
		if err := a.source.ReplaceKeys(ctx, names); err != nil {
			t.Fatal(err)
		}
		now := kids(t, a.set(t))
		if len(now) != 1 || slices.Contains(stolen, now[0]) || fresh != nil && !slices.Equal(now, fresh) {
			t.Fatalf("published: %v", now)
		}
		fresh = now
	}
	if now, err := a.source.KeyNames(ctx); err != nil || slices.Contains(now, names[1]) {
		t.Errorf("the key of proofs stayed: %v %v", now, err)
	}
	at.set = a.set(t)
	if _, err := b.signedIn(t, started); err == nil {
		t.Error("the stolen key is accepted")
	}
	a.server.Pass(keyFresh + time.Second)
	works(t, "after", a, b)
	// Nobody makes keys by asking for their replacement.
	none := keyed(t, resources(t), nil)
	if err := none.ReplaceKeys(ctx, nil); err != nil {
		t.Error(err)
	}
	if all, err := none.ClientKeys(ctx); err != nil || len(all) != 0 {
		t.Errorf("%v %v", all, err)
	}
}

// A store that is away keeps no key from signing, and a record of a former version is read.
func TestClientKeyWithoutStore(t *testing.T) {
	a, _, at := twoNodes(t, false)
	key := mustKey(t, a)
	a.source.Use(Resources{Store: deadStore{}, Sealer: plainSealer{}})
	a.server.Pass(time.Hour)
	works(t, "the store is away", a)
	if err := a.source.PublishKey(context.Background()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a key that cannot be kept: %v", err)
	}
	if got := kids(t, a.set(t)); len(got) != 1 || got[0] != kids(t, at.set)[0] {
		t.Errorf("%v", got)
	}
	r := resources(t)
	s := keyed(t, r, nil)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"iss": s.issuer, "client": s.clientID, "key": der})
	if err == nil {
		err = r.Store.Put(context.Background(), s.signs.name(), append([]byte("sealed "+labelClientKey+"\n"), text...), time.Time{})
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.ClientKeys(context.Background())
	if err != nil || len(all) != 1 || all[0].KID != kids(t, at.set)[0] || !all[0].Created.IsZero() {
		t.Errorf("%+v %v", all, err)
	}
}

// A key that is not made here is not replaced here.
func TestClientKeyOfOthers(t *testing.T) {
	for _, c := range []Client{{ID: "c", Secret: longSecret}, {ID: "c", Auth: privateKeyJWT, Key: rsaKey(t)}} {
		s := keyed(t, resources(t), func(config *Config) { config.Client = c })
		for name, err := range map[string]error{"publish": s.PublishKey(context.Background()), "activate": s.ActivateKey(context.Background(), true)} {
			if !errors.Is(err, errNotOurs) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if all, err := s.ClientKeys(context.Background()); err != nil || len(all) != 0 {
			t.Errorf("%v %v", all, err)
		}
	}
}
