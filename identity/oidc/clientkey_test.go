package oidc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/store"
)

func keyed(t *testing.T, r Resources, change func(*Config)) *Source {
	t.Helper()
	c := Config{Name: "hospital", Issuer: "https://login.hospital.example", Client: Client{ID: "anteroom", Auth: privateKeyJWT}}
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.Use(r)
	return s
}

func published(t *testing.T, s *Source) string {
	t.Helper()
	set, err := s.JWKS(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return string(onlyKey(t, set))
}

// All nodes that start at the same moment, and all later ones, have one key.
func TestNodesShareTheKey(t *testing.T) {
	r := resources(t)
	const nodes = 8
	keys := make([]string, nodes)
	var all sync.WaitGroup
	for i := range nodes {
		s := keyed(t, r, nil)
		all.Go(func() {
			set, err := s.JWKS(context.Background())
			if err != nil {
				t.Error(err)
			}
			keys[i] = string(set)
		})
	}
	all.Wait()
	for _, key := range keys {
		if key != keys[0] || key == "" {
			t.Fatalf("two keys:\n%s\n%s", keys[0], key)
		}
	}
	if again := published(t, keyed(t, r, nil)); !strings.Contains(keys[0], again) {
		t.Error("a restart made another key")
	}
	// One key, one purpose; one client, one key.
	s := keyed(t, r, nil)
	proof, err := s.proves.get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	signing, err := s.clientKey(context.Background())
	if err != nil || proof == signing {
		t.Errorf("proofs are made with the client's key: %v", err)
	}
	for name, change := range map[string]func(*Config){
		"client": func(c *Config) { c.Client.ID = "another" },
		"issuer": func(c *Config) { c.Issuer = "https://login.clinic.example" },
	} {
		if published(t, keyed(t, r, change)) == published(t, s) {
			t.Errorf("another %s has the same key", name)
		}
	}
}

func TestKeyInTheStore(t *testing.T) {
	r := resources(t)
	s := keyed(t, r, nil)
	published(t, s)
	items, err := r.Store.List(context.Background(), labelClientKey)
	if err != nil || len(items) != 1 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	if !bytes.HasPrefix(items[0].Value, []byte("sealed "+labelClientKey+"\n")) {
		t.Fatal("the key is not sealed under its own label")
	}
	if strings.Contains(items[0].Key, "hospital") || strings.Contains(items[0].Key, "anteroom/oidc/client-key/v1/anteroom") {
		t.Errorf("the key's name is text of others: %s", items[0].Key)
	}
	for name, spoil := range map[string]func() []byte{
		"unreadable":    func() []byte { return []byte("something") },
		"another label": func() []byte { return bytes.Replace(items[0].Value, []byte("client-key"), []byte("dpop-key"), 1) },
		"another client": func() []byte {
			return bytes.Replace(items[0].Value, []byte(`"client":"anteroom"`), []byte(`"client":"other"`), 1)
		},
		"no key": func() []byte {
			return []byte("sealed " + labelClientKey + "\n" + `{"iss":"https://login.hospital.example","client":"anteroom","key":"AAAA"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			spoilt := spoil()
			if err := r.Store.Put(context.Background(), items[0].Key, spoilt, time.Time{}); err != nil {
				t.Fatal(err)
			}
			_, err := keyed(t, r, nil).JWKS(context.Background())
			wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "client.key")
			now, err := r.Store.Get(context.Background(), items[0].Key)
			if err != nil || !bytes.Equal(now, spoilt) {
				t.Error("a key that does not open was replaced")
			}
		})
	}
}

// A store that lost the key gets the one back that the provider knows, and not another one.
func TestKeyGoneFromTheStore(t *testing.T) {
	r := resources(t)
	s := keyed(t, r, nil)
	before := published(t, s)
	items, err := r.Store.List(t.Context(), labelClientKey)
	if err != nil || len(items) != 1 {
		t.Fatalf("%d items, %v", len(items), err)
	}
	if err := r.Store.Delete(t.Context(), items[0].Key); err != nil {
		t.Fatal(err)
	}
	s.signs.looked = time.Time{}
	if now := published(t, s); now != before {
		t.Errorf("another key signs:\n%s\n%s", before, now)
	}
	if other := published(t, keyed(t, r, nil)); other != before {
		t.Errorf("another node has another key:\n%s\n%s", before, other)
	}
}

type deadStore struct{ store.Store }

func (deadStore) Get(context.Context, string) ([]byte, error) {
	return nil, fmt.Errorf("reading: %w", store.ErrUnavailable)
}

func TestNoKeyWithoutAStore(t *testing.T) {
	for name, r := range map[string]Resources{"none": {}, "down": {Store: deadStore{}, Sealer: plainSealer{}}} {
		t.Run(name, func(t *testing.T) {
			s := keyed(t, r, nil)
			_, err := s.JWKS(context.Background())
			wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "client.key")
			// And it works as soon as there is one.
			s.Use(resources(t))
			published(t, s)
		})
	}
	if !errors.Is(fail(identity.ErrUnavailable, "x", store.ErrUnavailable), store.ErrUnavailable) {
		t.Error("the cause is lost")
	}
}

type hangingStore struct {
	store.Store
	asked chan struct{}
}

func (h hangingStore) Get(ctx context.Context, _ string) ([]byte, error) {
	h.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A store that hangs holds up whoever asked, for as long as they wait.
func TestKeyBehindAHangingStore(t *testing.T) {
	hanging := hangingStore{asked: make(chan struct{}, 1)}
	s := keyed(t, Resources{Store: hanging, Sealer: plainSealer{}}, nil)
	patient, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := s.JWKS(patient)
		done <- err
	}()
	<-hanging.asked
	hasty, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := s.JWKS(hasty)
	wantFailure(t, identity.Identity{}, err, identity.ErrUnavailable, "cancelled")
	stop()
	wantFailure(t, identity.Identity{}, <-done, identity.ErrUnavailable, "client.key")
}

func TestNothingToPublish(t *testing.T) {
	for _, c := range []Client{{ID: "c", Secret: longSecret}, {ID: "c", Secret: longSecret, Auth: secretPost}, {ID: "c", Secret: longSecret, Auth: secretJWT}} {
		s := keyed(t, resources(t), func(config *Config) { config.Client = c })
		if set, err := s.JWKS(context.Background()); set != nil || err != nil {
			t.Errorf("%s: %s, %v", c.Auth, set, err)
		}
	}
}

// Keys print as nothing, wherever they are.
func TestKeysAreRedacted(t *testing.T) {
	s := keyed(t, resources(t), nil)
	key, err := s.clientKey(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Name: "n", Issuer: "https://i.example", Client: Client{ID: "c", Secret: "top-s3cr3t", Auth: privateKeyJWT, Key: key}}
	text, err := json.Marshal([]any{c, &c, c.Client, s})
	if err != nil {
		t.Fatal(err)
	}
	bySecret, byKey := c, c
	bySecret.Client.Auth, bySecret.Client.Key, byKey.Client.Secret = secretBasic, nil, ""
	for _, one := range []Config{bySecret, byKey} {
		own, err := New(one)
		if err != nil || own.config.Client.Secret != "" || own.config.Client.Key != nil {
			t.Errorf("the source keeps secret or key in the open: %v", err)
		}
	}
	all := string(text)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, value := range []any{c, &c, c.Client, &c.Client, s, s.signs, s.given, struct{ a credentials }{credentials{secret: s.secret, signs: s.signs, given: s.given}}} {
			all += fmt.Sprintf(format, value)
		}
	}
	if strings.Contains(all, "s3cr3t") || strings.Contains(all, "PrivateKey") || strings.Contains(all, "Curve") {
		t.Errorf("printed: %s", all)
	}
	for _, label := range []string{labelClientKey, labelDPoPKey, labelKeyID} {
		if !strings.HasPrefix(label, "anteroom/oidc/") || !strings.HasSuffix(label, "/v1") {
			t.Errorf("label %q", label)
		}
	}
}
