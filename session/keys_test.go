package session

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

func putKeys(t *testing.T, s store.Store, sealer Sealer, plain string) {
	t.Helper()
	sealed, err := sealer.Seal(context.Background(), labelSealKeys, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(context.Background(), labelStoreKeys, sealed, time.Time{}); err != nil {
		t.Fatal(err)
	}
}

func seed() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

// Both rings are published, keys that are yet to sign among them.
func TestRow158JWKS(t *testing.T) {
	m, c := manager(t)
	published := func() (kids []string) {
		t.Helper()
		var set struct {
			Keys []map[string]string `json:"keys"`
		}
		if err := json.Unmarshal(m.JWKS(), &set); err != nil {
			t.Fatalf("%s", m.JWKS())
		}
		for i, k := range append(slices.Clone(m.ring.Load().keys), m.keys.assertions.Load().keys...) {
			want := map[string]string{
				"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(k.public), "kid": k.kid, "use": "sig", "alg": "EdDSA",
			}
			if i >= len(set.Keys) || fmt.Sprint(set.Keys[i]) != fmt.Sprint(want) {
				t.Fatalf("%d: %s", i, m.JWKS())
			}
			kids = append(kids, k.kid)
		}
		if len(kids) != len(set.Keys) {
			t.Errorf("%s", m.JWKS())
		}
		return kids
	}
	if kids := published(); len(kids) != 2 || kids[0] == kids[1] {
		t.Errorf("%v", kids)
	}
	m.JWKS()[0] = 'x' // a copy
	if m.JWKS()[0] != '{' {
		t.Error("JWKS hands out its own bytes")
	}
	if err := m.RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	if kids := published(); len(kids) != 4 {
		t.Errorf("without the ones to come: %v", kids)
	}
	pass(m, c, 3*time.Minute)
	if kids := published(); len(kids) != 4 {
		t.Errorf("without the retired ones: %v", kids)
	}
	fresh, err := New(Config{Store: m.store, Sealer: m.sealer})
	if err != nil || string(fresh.JWKS()) != `{"keys":[]}` || len(fresh.Keys()) != 0 {
		t.Errorf("before Start: %v", err)
	}
}

// RFC 8037, appendix A.3.
func TestThumbprint(t *testing.T) {
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got := thumbprint(ed25519.PublicKey(x)); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("%s", got)
	}
}

// Managers that start at once on one empty store end up with one key set.
func TestStartRace(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	managers := make([]*Manager, 8)
	var all sync.WaitGroup
	for i := range managers {
		m, err := New(Config{Store: s, Sealer: sealer, Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		managers[i] = m
		all.Go(func() {
			if err := m.Start(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	_, cookies := issue(t, managers[0])
	for _, m := range managers {
		if !bytes.Equal(m.JWKS(), managers[0].JWKS()) {
			t.Error("two key sets")
		}
		wantFound(t, m, lines(cookies))
	}
}

// J74: a key that somebody takes out of the record verifies nothing from the next second on, cached or
// not, and cuts what is open; a retired one still verifies.
func TestJ74KeyRemoved(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	first, second := seed(), seed()
	putKeys(t, s, sealer, `{"keys":[{"seed":"`+first+`"}]}`)
	m := start(t, s, sealer, c.now)
	session, cookies := issue(t, m)
	wantFound(t, m, lines(cookies))
	told := make(chan error, 1)
	defer m.Watch(session.ID, 0, func(err error) { told <- err })()

	putKeys(t, s, sealer, `{"keys":[{"seed":"`+second+`"},{"seed":"`+first+`","retired":true}]}`)
	m.follow()
	wantFound(t, m, lines(cookies))
	if !strings.Contains(string(m.JWKS()), m.ring.Load().keys[1].kid) || m.ring.Load().keys[1].retires == 0 || len(told) != 0 {
		t.Error("the retired key is not published or ended something")
	}
	c.add(2 * time.Minute)
	m.follow()
	renewed, _, err := renew(m, session, lines(cookies), host) // goes over to the new key
	if err != nil {
		t.Fatal(err)
	}

	putKeys(t, s, sealer, `{"keys":[{"seed":"`+second+`"}]}`)
	m.follow()
	if n := m.cache.size(); n != 0 {
		t.Errorf("%d verified tokens of the removed key are left", n)
	}
	wantNone(t, m, lines(cookies))
	wantFound(t, m, line(renewed.Value, cookies[1].Value))
	wantCut(t, told, "key-killed")

	// A removed record means new keys for all, at once.
	if err := s.Delete(context.Background(), labelStoreKeys); err != nil {
		t.Fatal(err)
	}
	m.follow()
	wantNone(t, m, line(renewed.Value, cookies[1].Value))
	issue(t, m)
}

// A key set that does not open is refused and left alone.
func TestKeysThatDoNotOpen(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	sealer := openSealer(t, dir)
	for name, plain := range map[string]string{
		"no keys": `{"keys":[]}`, "empty": `{}`, "not JSON": `x`, "only retired": `{"keys":[{"seed":"` + seed() + `","retired":true}]}`,
		"short seed": `{"keys":[{"seed":"AAAA"}]}`, "unknown member": `{"keys":[{"seed":"` + seed() + `","x":1}]}`, "trailing": `{"keys":[{"seed":"` + seed() + `"}]}{}`,
		"negative time": `{"keys":[{"seed":"` + seed() + `","created":-1,"signs":1}]}`, "end without retirement": `{"keys":[{"seed":"` + seed() + `","signs":1,"until":9}]}`,
		"old and new":  `{"keys":[{"seed":"` + seed() + `"},{"seed":"` + seed() + `","signs":1,"retired":true}]}`,
		"no tombstone": `{"keys":[{"seed":"` + seed() + `","signs":1}],"killed":[{"kid":"x","at":1}]}`,
		"same twice":   `{"keys":[{"seed":"` + strings.Repeat("A", 43) + `="},{"seed":"` + strings.Repeat("A", 43) + `="}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, t.TempDir(), c.now)
			putKeys(t, s, sealer, plain)
			refuseStart(t, s, sealer)
		})
	}
	s := openStore(t, t.TempDir(), c.now)
	m := start(t, s, sealer, c.now)
	_, cookies := issue(t, m)
	refuseStart(t, s, openSealer(t, t.TempDir())) // another master key
	before, err := s.Get(context.Background(), labelStoreKeys)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(context.Background(), labelStoreKeys, []byte("damaged"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	refuseStart(t, s, sealer)
	c.add(31 * time.Second)
	m.follow() // one that runs closes its doors and makes no new keys
	if _, err := m.Find(lines(cookies), host); !errors.Is(err, ErrStale) {
		t.Errorf("%v", err)
	}
	if err := s.Put(context.Background(), labelStoreKeys, before, time.Time{}); err != nil {
		t.Fatal(err)
	}
	m.follow()
	wantFound(t, m, lines(cookies))
}

func refuseStart(t *testing.T, s store.Store, sealer Sealer) {
	t.Helper()
	before, err := s.Get(context.Background(), labelStoreKeys)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{Store: s, Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Start(context.Background()); err == nil {
		t.Error("started")
	}
	after, err := s.Get(context.Background(), labelStoreKeys)
	if err != nil || !bytes.Equal(before, after) {
		t.Error("the stored keys were changed")
	}
	wantError(t, m, line("x", strings.Repeat("A", 43)), host, ErrClosed)
}

// A record in the place of the other one does not open: no key signs sessions and
// assertions, whoever writes to the store.
func TestRecordsDoNotSwap(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	m := start(t, s, sealer, c.now)
	record := func(key string) []byte {
		sealed, err := s.Get(context.Background(), key)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	sessions, assertions := record(labelStoreKeys), record(labelStoreAssertionKeys)
	for key, sealed := range map[string][]byte{labelStoreKeys: assertions, labelStoreAssertionKeys: sessions} {
		good := record(key)
		if err := s.Put(context.Background(), key, sealed, neverExpires); err != nil {
			t.Fatal(err)
		}
		if err := m.loadKeys(context.Background()); err == nil {
			t.Error("opened")
		}
		refuseStart(t, s, sealer)
		if err := s.Put(context.Background(), key, good, neverExpires); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range m.ring.Load().keys {
		if m.keys.assertions.Load().find(k.kid) != nil {
			t.Error("one key for both")
		}
	}
}

// Invariant 9: nothing that is stored or printed shows a private key or a session.
func TestNoSecretsShow(t *testing.T) {
	var logged bytes.Buffer
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	m := start(t, s, sealer, c.now, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	session, cookies := issue(t, m)
	_, err := m.Find(line(cookies[0].Value+"x", cookies[1].Value), host)
	k, r := m.ring.Load().signer(m.now()), m.ring.Load()
	sk := storedKey{Seed: k.private.Seed()}
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "key", k, "value", *k, "seed", sk.Seed, "infos", m.Keys())
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", k, "value", *k, "seed", sk.Seed, "stored", sk, "ring", r)
	encoded, jsonErr := json.Marshal([]any{k, *k, r, m.Keys()})
	stored, getErr := s.Get(context.Background(), labelStoreKeys)
	if jsonErr != nil || getErr != nil {
		t.Fatal(jsonErr, getErr)
	}
	if err := m.RotateKeys(context.Background()); err != nil {
		t.Fatal(err)
	}
	killed := m.KillKey(context.Background(), k.kid)
	unknown := m.KillKey(context.Background(), strings.Repeat("A", 43))
	text := fmt.Sprintf("%v %+v %#v %s %v %v %v", k, k, k, k, err, killed, unknown) + fmt.Sprintf("%v %+v %#v %s %x", *k, *k, *k, *k, *k) +
		fmt.Sprintf("%v %+v %#v %v", r, r, r, *r) + fmt.Sprintf("%v %+v %#v %x %s", sk, sk, sk, sk.Seed, sk.Seed) +
		logged.String() + string(encoded) + string(stored) + string(m.JWKS())
	for name, secret := range map[string]string{
		"seed": string(k.private.Seed()), "seed in base64": base64.StdEncoding.EncodeToString(k.private.Seed())[:40],
		"seed in base64url": base64.RawURLEncoding.EncodeToString(k.private.Seed())[:40], "seed in decimals": strings.Trim(fmt.Sprint(k.private.Seed()), "[]"),
		"seed in hex": hex.EncodeToString(k.private.Seed()), "seed as Go": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", k.private.Seed()), "[]byte{"), "}"),
		"token": cookies[0].Value[:60], "context": cookies[1].Value, "sid": session.ID,
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the %s shows", name)
		}
	}
}

func TestLabelsDiffer(t *testing.T) {
	types := []string{tokenType, assertionType}
	labels := []string{
		labelSealKeys, labelStoreKeys, labelSealAssertionKeys, labelStoreAssertionKeys, labelRevoked, labelKilledKey,
		labelAssertionID, labelProvider, labelAccount, labelUsername,
	}
	for _, label := range labels {
		if !strings.HasPrefix(label, labelFamily) || !strings.HasSuffix(label, "/v1") {
			t.Errorf("%q", label)
		}
	}
	labels = append(labels, types...)
	for i, a := range labels {
		for _, b := range labels[:i] {
			if a == b {
				t.Errorf("%q twice", a)
			}
		}
	}
}
