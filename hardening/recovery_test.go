package hardening

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store"
)

func TestRecoveryKeyText(t *testing.T) {
	for _, hybrid := range []bool{false, true} {
		secret, err := GenerateRecoveryKey(hybrid)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := secret.Recipient()
		if err != nil {
			t.Fatal(err)
		}
		text, err := secret.Text()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseRecoveryKey(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRecoveryRecipient(pub.String())
		if err != nil || again.id != pub.id {
			t.Fatal(err)
		}
		ct, err := again.seal("0123456789abcdef", []byte("file key"))
		if err != nil {
			t.Fatal(err)
		}
		if plain, err := back.open("0123456789abcdef", ct); err != nil || string(plain) != "file key" {
			t.Errorf("hybrid %v: %q, %v", hybrid, plain, err)
		}
		if _, err := back.open("another ring", ct); err == nil {
			t.Error("a stanza of another ring opens")
		}
		if !strings.Contains(string(text), "# public half: "+pub.String()+"\n") {
			t.Error("the file does not name its public half")
		}
		if _, err := ParseRecoveryRecipient(strings.TrimSpace(string(text[bytes.Index(text, []byte("ANTEROOM")):]))); err == nil || !strings.Contains(err.Error(), "secret half") {
			t.Errorf("the secret half in a configuration: %v", err)
		}
		if _, err := ParseRecoveryRecipient(string(text)); err == nil || !strings.Contains(err.Error(), "secret half") {
			t.Errorf("the secret half's file in a configuration, as {file.…}: %v", err)
		}
	}
}

func TestBadRecoveryKeys(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"words":        "not a key!",
		"short":        base64.RawURLEncoding.EncodeToString(make([]byte, 31)),
		"all zero":     base64.RawURLEncoding.EncodeToString(make([]byte, 32)), // RFC 7748 section 6.1: a point of small order
		"hybrid, ones": base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, hybridSize)),
	} {
		if _, err := ParseRecoveryRecipient(text); err == nil || !strings.HasPrefix(err.Error(), "reading recovery key: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty":        "# only a comment\n\n",
		"no prefix":    "AAAA",
		"prefix alone": secretX25519,
		"not base64":   secretX25519 + "***",
		"wrong size":   secretHybrid + "AAAA",
	} {
		if _, err := ParseRecoveryKey([]byte(text)); err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRecover: the key was swapped while the program was down; the offline key opens the ring for the new one.
func TestRecover(t *testing.T) {
	c, st := newClock(), openBolt(t)
	secret, err := GenerateRecoveryKey(true)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := secret.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	with := func(r *RingConfig) { r.Recovery, r.NoRecovery = pub, false }
	first := newNode(t, st, c, with, testKey(t, c)).mustSync(t)
	swapped := testKey(t, c)
	n := newNode(t, st, c, with, swapped)
	if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	locked := stored(t, st)

	wrong, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	cfg := RingConfig{Name: "passwords", Store: st, Now: c.Now, Keys: func(context.Context) ([]TLSKey, error) { return []TLSKey{swapped}, nil }}
	if err := Recover(t.Context(), cfg, wrong); !errors.Is(err, ErrLocked) || !bytes.Equal(stored(t, st), locked) {
		t.Errorf("with a wrong key: %v", err)
	}
	if err := Recover(t.Context(), cfg, nil); err == nil {
		t.Error("without a key")
	}
	noKeys := cfg
	noKeys.Keys = func(context.Context) ([]TLSKey, error) { return nil, nil }
	if err := Recover(t.Context(), noKeys, secret); err == nil {
		t.Error("without a TLS key")
	}
	other := cfg
	other.Name = "nowhere"
	if err := Recover(t.Context(), other, secret); err == nil {
		t.Error("a ring that does not exist")
	}
	other.Name = ""
	if err := Recover(t.Context(), other, secret); err == nil {
		t.Error("a ring without a name")
	}
	if err := Recover(t.Context(), cfg, secret); err != nil {
		t.Fatal(err)
	}
	if o := n.mustSync(t); o.file.Ring != first.file.Ring || !bytes.Equal(o.key("p1"), first.key("p1")) {
		t.Error("the recovered ring is another one")
	}
	if !strings.Contains(n.log.String(), "the password ring is open") {
		t.Error("the operator did not hear the end of it")
	}
}

// TestRecoverBesideTheService: two nodes of one store, whose TLS keys were swapped while both were down. One is told the recovery
// key; the ring opens there at once, and for the other at its next look when it has the same key.
func TestRecoverBesideTheService(t *testing.T) {
	c, st := newClock(), openBolt(t)
	secret, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := secret.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	with := func(r *RingConfig) { r.Recovery, r.NoRecovery = pub, false }
	first := newNode(t, st, c, with, testKey(t, c)).mustSync(t)
	swapped := testKey(t, c)
	n, peer := newNode(t, st, c, with, swapped), newNode(t, st, c, with, swapped)
	for _, key := range []*RecoveryKey{wrong, nil} {
		locked := stored(t, st)
		if err := n.Recover(t.Context(), key); err == nil || !bytes.Equal(stored(t, st), locked) {
			t.Errorf("without the right key: %v", err)
		}
	}
	if err := n.Recover(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*openRing{n.held(), peer.mustSync(t)} {
		if o == nil || o.file.Ring != first.file.Ring || !bytes.Equal(o.key("p1"), first.key("p1")) {
			t.Error("the recovered ring is another one, or not open")
		}
	}
	if !slices.ContainsFunc(n.held().file.Stanzas, func(s stanza) bool { return s.Type == stanzaRecovery }) {
		t.Error("the recovery key opens the ring no more")
	}
}

// TestRecoveryRecipients: exactly the configured key is a recipient; one that left the configuration may have leaked.
func TestRecoveryRecipients(t *testing.T) {
	c, st := newClock(), openBolt(t)
	k := testKey(t, c)
	recipient := func() *RecoveryRecipient {
		secret, err := GenerateRecoveryKey(false)
		if err != nil {
			t.Fatal(err)
		}
		pub, err := secret.Recipient()
		if err != nil {
			t.Fatal(err)
		}
		return pub
	}
	names := func(o *openRing) (ids []string) {
		for _, s := range o.file.Stanzas {
			if s.Type == stanzaRecovery {
				ids = append(ids, s.KID)
			}
		}
		return ids
	}
	a, b := recipient(), recipient()
	for i, want := range []*RecoveryRecipient{nil, a, a, b, nil} {
		o := newNode(t, st, c, func(r *RingConfig) { r.Recovery, r.NoRecovery = want, want == nil }, k).mustSync(t)
		ids := names(o)
		if want == nil && len(ids) != 0 || want != nil && (len(ids) != 1 || ids[0] != want.id) {
			t.Errorf("step %d: recipients %v", i, ids)
		}
	}
}

func TestOnlyRing(t *testing.T) {
	c, st := newClock(), openBolt(t)
	if _, err := OnlyRing(t.Context(), st); err == nil {
		t.Error("an empty store has a ring")
	}
	newNode(t, st, c, nil, testKey(t, c)).mustSync(t)
	if name, err := OnlyRing(t.Context(), st); err != nil || name != "passwords" {
		t.Error(name, err)
	}
	newNode(t, st, c, func(r *RingConfig) { r.Name = "other" }, testKey(t, c)).mustSync(t)
	if _, err := OnlyRing(t.Context(), st); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Error(err)
	}
	st.Close()
	if _, err := OnlyRing(t.Context(), st); !errors.Is(err, store.ErrUnavailable) {
		t.Error(err)
	}
}
