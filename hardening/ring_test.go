package hardening

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRingIsMadeOnceAndOpensAgain(t *testing.T) {
	c, st := newClock(), openBolt(t)
	k := testKey(t, c)
	maker := newNode(t, st, c, nil, k)
	first := maker.mustSync(t)
	if first.body.Primary != "p1" || len(first.key("p1")) != 32 || first.file.Epoch != 1 || first.key("") != nil || first.key("p2") != nil {
		t.Fatalf("the first ring is %+v", first.file)
	}
	raw := stored(t, st)
	second := newNode(t, st, c, nil, k)
	again := second.mustSync(t)
	second.mustSync(t)
	if again.file.Ring != first.file.Ring || !bytes.Equal(again.key("p1"), first.key("p1")) || !bytes.Equal(raw, stored(t, st)) {
		t.Error("the second look changed the ring")
	}
	// A store that was lost while the program was down gives a new ring: the log is where an operator sees it.
	if said := "a new password ring was made"; strings.Count(maker.log.String(), said) != 1 || strings.Contains(second.log.String(), said) {
		t.Errorf("the log of the maker is %q, of the second %q", maker.log, second.log)
	}
	if bytes.Contains(raw, []byte(`"p1"`)) || fmt.Sprint(first) != "ring "+first.file.Ring {
		t.Error("the ring shows its inside")
	}
}

// TestNoKeyNoRing: that no key is visible is no reason to make anything; a managed certificate appears after the start.
func TestNoKeyNoRing(t *testing.T) {
	c, st := newClock(), openBolt(t)
	n := newNode(t, st, c, nil)
	if err := n.Sync(t.Context()); !errors.Is(err, ErrWaiting) || !errors.Is(err, errNoKey) {
		t.Fatal(err)
	}
	if stored(t, st) != nil {
		t.Fatal("a ring was made without a key")
	}
	k := testKey(t, c)
	newNode(t, st, c, nil, k).mustSync(t)
	if err := n.Sync(t.Context()); !errors.Is(err, errNoKey) {
		t.Errorf("with a ring but no key: %v", err)
	}
	n.mu.Lock()
	n.err = errors.New("in hardware")
	n.mu.Unlock()
	if err := n.Sync(t.Context()); !errors.Is(err, ErrWaiting) || errors.Is(err, errNoKey) {
		t.Errorf("with an unusable key: %v", err)
	}
}

// TestRenewals: every renewal makes a new TLS key. The pepper stays, after a restart with the newest key alone too.
func TestRenewals(t *testing.T) {
	c, st := newClock(), openBolt(t)
	n := newNode(t, st, c, func(r *RingConfig) { r.Compat = true }, testKey(t, c))
	first := n.mustSync(t)
	pinned := first.key(first.body.Compat)
	for range 15 {
		c.add(16 * time.Hour)
		next := testKey(t, c)
		n.mustSync(t, next) // cert_obtained: the new key is not served yet
		n.serve(next)
		n.mustSync(t)
		restarted := newNode(t, st, c, func(r *RingConfig) { r.Compat = true }, next).mustSync(t)
		if !bytes.Equal(restarted.key("p1"), first.key("p1")) || !bytes.Equal(restarted.key(first.body.Compat), pinned) || restarted.body.Compat != first.body.Compat {
			t.Fatal("the pepper or the pinned key changed")
		}
	}
	// 15 certificates in ten days: those that ended more than a week ago are forgotten, the others not.
	ends := n.held().file.Stanzas
	if len(ends) >= 16 || len(ends) < 10 {
		t.Errorf("the ring has %d stanzas", len(ends))
	}
	for _, s := range ends {
		if s.NotAfter.Before(c.Now().Add(-keepStanza)) {
			t.Error("an old stanza was kept")
		}
	}
}

func TestOldKeyOpensForAWeekOnly(t *testing.T) {
	c, st := newClock(), openBolt(t)
	old := testKey(t, c)
	n := newNode(t, st, c, nil, old)
	n.mustSync(t)
	next := testKey(t, c)
	n.mustSync(t, next)
	n.serve(next)
	c.add(24*time.Hour + keepStanza)
	n.mustSync(t)
	newNode(t, st, c, nil, old).mustSync(t)
	n.mustSync(t) // "old" was live just now, and its end did not move
	c.add(time.Second)
	n.mustSync(t)
	if err := newNode(t, st, c, nil, old).Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("a week and a second after its end: %v", err)
	}
	// Without any live key nothing is dropped: nothing would show that the ring still opens.
	c.add(100 * 24 * time.Hour)
	n.serve()
	n.mustSync(t)
	if len(n.held().file.Stanzas) != 1 {
		t.Error("the last stanza was dropped")
	}
	// A live key stays whatever its date: a certificate from a file that nobody renewed.
	n.serve(next)
	n.mustSync(t)
	if len(n.held().file.Stanzas) != 1 {
		t.Error("a live key was dropped")
	}
}

// TestReusedKey: with reuse_private_keys the key stays and its end moves.
func TestReusedKey(t *testing.T) {
	c, st := newClock(), openBolt(t)
	k := testKey(t, c)
	n := newNode(t, st, c, nil, k)
	n.mustSync(t)
	k.notAfter = k.notAfter.Add(time.Hour)
	n.serve(k)
	o := n.mustSync(t)
	if len(o.file.Stanzas) != 1 || !o.file.Stanzas[0].NotAfter.Equal(k.notAfter) || o.file.Epoch != 2 {
		t.Errorf("the ring is %+v", o.file)
	}
}

// TestManyShortCertificates: certificates of half a minute would fill the file within a week.
func TestManyShortCertificates(t *testing.T) {
	c, st := newClock(), openBolt(t)
	n := newNode(t, st, c, nil, testKey(t, c))
	first := n.mustSync(t)
	for range 2 * maxStanzas {
		c.add(20 * time.Second)
		k := testKey(t, c)
		n.mustSync(t, k)
		n.serve(k)
	}
	o := n.held()
	if len(o.file.Stanzas) > maxStanzas || !bytes.Equal(o.key("p1"), first.key("p1")) {
		t.Errorf("%d stanzas", len(o.file.Stanzas))
	}
	many := make([]TLSKey, maxStanzas+3)
	for i := range many {
		many[i] = testKey(t, c)
	}
	n.serve(many...)
	if n.mustSync(t); len(n.held().file.Stanzas) != len(many) {
		t.Error("a live key lost its stanza")
	}
}

// TestLockedRingStays: a key that was swapped while the program was down. Whatever happens next, the ring must stay as it is.
func TestLockedRingStays(t *testing.T) {
	c, st := newClock(), openBolt(t)
	newNode(t, st, c, nil, testKey(t, c)).mustSync(t)
	raw := stored(t, st)
	other := newNode(t, st, c, nil, testKey(t, c))
	for range 3 {
		err := other.Sync(t.Context())
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "anteroom keys ring recover --key FILE --cert-key FILE") {
			t.Fatal(err)
		}
	}
	if _, err := other.wait(t.Context()); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if !bytes.Equal(raw, stored(t, st)) {
		t.Error("a locked ring was written over")
	}
	if got := strings.Count(other.log.String(), "locked: its records"); got != 1 {
		t.Errorf("the operator was told %d times", got)
	}
}

// TestDamagedRing: each of these is a ring that exists. None may become a new ring, and none may open with what was changed.
func TestDamagedRing(t *testing.T) {
	c := newClock()
	k := testKey(t, c)
	edit := func(change func(*ringFile)) func([]byte) []byte {
		return func(raw []byte) []byte {
			var f ringFile
			if err := json.Unmarshal(raw, &f); err != nil {
				t.Fatal(err)
			}
			change(&f)
			out, _ := json.Marshal(f)
			return out
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"empty":               func([]byte) []byte { return []byte{} },
		"not JSON":            func([]byte) []byte { return []byte("garbage") },
		"cut":                 func(raw []byte) []byte { return raw[:len(raw)/2] },
		"something behind it": func(raw []byte) []byte { return append(raw, raw...) },
		"unknown member":      func(raw []byte) []byte { return append([]byte(`{"x":1,`), raw[1:]...) },
		"version 2":           edit(func(f *ringFile) { f.V = 2 }),
		"no epoch":            edit(func(f *ringFile) { f.Epoch = 0 }),
		"later epoch":         edit(func(f *ringFile) { f.Epoch++ }),
		"no body":             edit(func(f *ringFile) { f.Body = nil }),
		"short body":          edit(func(f *ringFile) { f.Body = f.Body[:5] }),
		"changed body":        edit(func(f *ringFile) { f.Body[len(f.Body)-1] ^= 1 }),
		"other ring id":       edit(func(f *ringFile) { f.Ring = "0123456789abcdef" }),
		"not a ring id":       edit(func(f *ringFile) { f.Ring = "../../etc/passwd" }),
		"no stanzas":          edit(func(f *ringFile) { f.Stanzas = nil }),
		"changed stanza":      edit(func(f *ringFile) { f.Stanzas[0].CT[20] ^= 1 }),
		"prolonged stanza":    edit(func(f *ringFile) { f.Stanzas[0].NotAfter = f.Stanzas[0].NotAfter.AddDate(9, 0, 0) }),
		"stanza added":        edit(func(f *ringFile) { f.Stanzas = append(f.Stanzas, stanza{Type: "tls", KID: "evil", CT: []byte("x")}) }),
		"stanza renamed":      edit(func(f *ringFile) { f.Stanzas[0].Type = "recovery" }),
	} {
		t.Run(name, func(t *testing.T) {
			st := openBolt(t)
			n := newNode(t, st, c, nil, k)
			held := n.mustSync(t)
			raw := stored(t, st)
			bad := change(slices.Clone(raw))
			if err := st.Put(t.Context(), labelStore+"/passwords", bad, time.Time{}); err != nil {
				t.Fatal(err)
			}
			if err := newNode(t, st, c, nil, k).Sync(t.Context()); !errors.Is(err, ErrLocked) {
				t.Errorf("after a restart: %v", err)
			}
			if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) {
				t.Errorf("under a running program: %v", err)
			}
			if n.held() != held {
				t.Error("the running program lost its ring")
			}
			if !bytes.Equal(stored(t, st), bad) {
				t.Error("the damaged ring was written over")
			}
		})
	}
}

// TestBadBodies: a body that opens and is not whole must not open the ring: a missing key would be an HMAC under nothing.
func TestBadBodies(t *testing.T) {
	good := freshRing(newClock().Now())
	good.file.Epoch = 1
	for name, change := range map[string]func(*ringBody){
		"no primary":     func(b *ringBody) { b.Primary = "p2" },
		"short pepper":   func(b *ringBody) { b.Versions = []version{{ID: "p1", Key: make([]byte, 31)}} },
		"no uid key":     func(b *ringBody) { b.UIDKey = nil },
		"missing pinned": func(b *ringBody) { b.Compat = "d:0123456789abcdef" },
	} {
		o := good.clone()
		change(&o.body)
		raw, err := o.seal()
		if err != nil {
			t.Fatal(err)
		}
		f, err := readRingFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := openBody(f, o.fileKey); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
	f := good.file
	var err error
	if f.Body, err = sealGCM(good.fileKey, []byte("no JSON"), bodyContext(f)); err != nil {
		t.Fatal(err)
	}
	if _, err := openBody(f, good.fileKey); err == nil {
		t.Error("a body that is no JSON opens")
	}
	if _, err := openBody(f, good.fileKey[:5]); err == nil {
		t.Error("a file key of five bytes opens")
	}
	if _, err := (&openRing{fileKey: []byte("short")}).seal(); err == nil {
		t.Error("a ring without a file key seals")
	}
	if _, err := good.clone().addTLS(TLSKey{}); err == nil {
		t.Error("an empty TLS key got a stanza")
	}
	if _, err := (TLSKey{}).unwrap("x", nil); err == nil {
		t.Error("an empty TLS key unwraps")
	}
	never := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) // a year that JSON cannot say
	late := good.clone()
	late.body.Versions[0].Created = never
	if _, err := late.seal(); err == nil {
		t.Error("a ring of the year 10000 seals")
	}
	late = good.clone()
	late.file.Stanzas = []stanza{{NotAfter: never}}
	if _, err := late.seal(); err == nil {
		t.Error("a stanza of the year 10000 seals")
	}
}

func TestCompatPin(t *testing.T) {
	c, st := newClock(), openBolt(t)
	on := func(r *RingConfig) { r.Compat = true }
	rsaKey, err := NewTLSKey(fileKey(t, "rfc9500-rsa2048"), c.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	k := testKey(t, c)
	n := newNode(t, st, c, nil, k)
	if o := n.mustSync(t); o.body.Compat != "" {
		t.Fatal("pinned without compat")
	}
	both := newNode(t, st, c, on, k, rsaKey)
	if o := both.mustSync(t); o.body.Compat != "" || !strings.Contains(both.log.String(), "two kinds") {
		t.Error("with certificates of two kinds one was picked")
	}
	one := newNode(t, st, c, on, rsaKey)
	o := one.mustSync(t)
	if o.body.Compat != "d:8fb6bad671cfe698" || !bytes.Equal(o.key(o.body.Compat), rsaKey.original[:]) {
		t.Errorf("pinned %q", o.body.Compat)
	}
	if again := newNode(t, st, c, on, k).mustSync(t); again.body.Compat != o.body.Compat {
		t.Error("the pin moved")
	}
}

func TestRingConfig(t *testing.T) {
	st := openBolt(t)
	keys := func(context.Context) ([]TLSKey, error) { return nil, nil }
	secret, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := secret.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]RingConfig{
		"no store":                 {Name: "x", Keys: keys, NoRecovery: true},
		"no keys":                  {Name: "x", Store: st, NoRecovery: true},
		"no name":                  {Store: st, Keys: keys, NoRecovery: true},
		"long name":                {Name: strings.Repeat("x", 129), Store: st, Keys: keys, NoRecovery: true},
		"slash":                    {Name: "a/b", Store: st, Keys: keys, NoRecovery: true},
		"neither":                  {Name: "x", Store: st, Keys: keys},
		"recovery and no recovery": {Name: "x", Store: st, Keys: keys, Recovery: pub, NoRecovery: true},
	} {
		if _, err := NewRing(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r, err := NewRing(RingConfig{Name: "*.example:8444", Store: st, Keys: keys, Recovery: pub})
	if err != nil || r.cfg.Now == nil || r.cfg.Logger == nil {
		t.Error(err)
	}
}

// TestReadBackIsStrict: what was written counts only when every live key opens what is there now.
func TestReadBackIsStrict(t *testing.T) {
	c, st := newClock(), openBolt(t)
	k := testKey(t, c)
	n := newNode(t, st, c, nil, k)
	o := n.mustSync(t)
	if err := opensWith(stored(t, st), o, []TLSKey{k}); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"another key":    opensWith(stored(t, st), o, []TLSKey{k, testKey(t, c)}),
		"not a ring":     opensWith([]byte("x"), o, nil),
		"other file key": opensWith(stored(t, st), freshRing(c.Now()), nil),
		"cannot seal":    n.write(t.Context(), nil, &openRing{}, nil),
		"does not open":  n.write(t.Context(), stored(t, st), o, []TLSKey{testKey(t, c)}),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestKeyThatCannotWrap: the ring stays open and the operator hears of it.
func TestKeyThatCannotWrap(t *testing.T) {
	c, st := newClock(), openBolt(t)
	n := newNode(t, st, c, nil, testKey(t, c))
	n.mustSync(t)
	if err := n.Sync(t.Context(), TLSKey{kid: "empty"}); err == nil || n.held() == nil {
		t.Error(err)
	}
	zero, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Recovery = &RecoveryRecipient{pub: zero, id: "zero"}
	if err := n.Sync(t.Context()); err == nil || n.held() == nil || !strings.Contains(n.log.String(), "could not be brought up to date") {
		t.Error(err)
	}
}
