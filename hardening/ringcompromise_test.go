package hardening

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKMS wraps under a key of its own and checks the context, or fails.
type fakeKMS struct {
	mu      sync.Mutex
	id      string
	key     []byte
	err     error
	wraps   int
	unwraps int
	other   bool // gives another key back
}

func newFakeKMS(id string) *fakeKMS { return &fakeKMS{id: id, key: newPepper()} }

func (f *fakeKMS) ID() string { return f.id }

func (f *fakeKMS) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func about(m map[string]string) []byte {
	return lp(lp(lp(nil, m["service"]), m["purpose"]), m["ring"])
}

func (f *fakeKMS) Wrap(_ context.Context, plain []byte, m map[string]string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.wraps++; f.err != nil {
		return nil, f.err
	}
	return sealGCM(f.key, plain, about(m))
}

func (f *fakeKMS) Unwrap(_ context.Context, ct []byte, m map[string]string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unwraps++; f.err != nil {
		return nil, f.err
	}
	if f.other {
		return newPepper(), nil
	}
	return openGCM(f.key, ct, about(m))
}

func withKMS(k Wrapper) func(*RingConfig) {
	return func(r *RingConfig) { r.KMS, r.NoRecovery = k, false }
}

func stanzaTypes(o *openRing) map[string]int {
	types := map[string]int{}
	for _, s := range o.file.Stanzas {
		types[s.Type]++
	}
	return types
}

func recoveryPair(t testing.TB) (*RecoveryKey, *RecoveryRecipient) {
	t.Helper()
	secret, err := GenerateRecoveryKey(false)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := secret.Recipient()
	if err != nil {
		t.Fatal(err)
	}
	return secret, pub
}

var errKMSDown = errors.New("the KMS does not answer")

// TestKMSDown: whichever of the TLS key and the KMS is there at a start opens the ring; with neither it waits and nothing
// is made over it.
func TestKMSDown(t *testing.T) {
	c, st, kms := newClock(), new(memory), newFakeKMS("arn:one")
	k := testKey(t, c)
	first := newNode(t, st, c, withKMS(kms), k).mustSync(t)
	if got := stanzaTypes(first); !maps.Equal(got, map[string]int{stanzaTLS: 1, stanzaKMS: 1}) {
		t.Fatal(got)
	}
	before := kms.unwraps
	kms.fail(errKMSDown)
	if o := newNode(t, st, c, withKMS(kms), k).mustSync(t); !bytes.Equal(o.key("p1"), first.key("p1")) || kms.unwraps != before {
		t.Error("with the TLS key there is nothing to ask the KMS")
	}
	swapped := testKey(t, c)
	n := newNode(t, st, c, withKMS(kms), swapped)
	raw := st.raw()
	if err := n.Sync(t.Context()); !errors.Is(err, ErrWaiting) || !errors.Is(err, errKMSDown) || !bytes.Equal(st.raw(), raw) {
		t.Errorf("neither key nor KMS: %v", err)
	}
	kms.fail(nil)
	if o := n.mustSync(t); !bytes.Equal(o.key("p1"), first.key("p1")) {
		t.Error("the KMS opens another ring")
	}
	newNode(t, &memory{value: st.raw()}, c, nil, swapped).mustSync(t) // it was wrapped for the swapped key as well
	other := newFakeKMS("arn:one")                                    // of the same name, and another key
	if err := newNode(t, st, c, withKMS(other), testKey(t, c)).Sync(t.Context()); !errors.Is(err, ErrWaiting) {
		t.Error(err)
	}
}

// TestKMSIsAddedLater: a KMS that is away at first must not cost the ring, nor be asked all the time.
func TestKMSIsAddedLater(t *testing.T) {
	c, st, kms := newClock(), new(memory), newFakeKMS("arn:one")
	k := testKey(t, c)
	kms.fail(errKMSDown)
	n := newNode(t, st, c, withKMS(kms), k)
	if o := n.mustSync(t); stanzaTypes(o)[stanzaKMS] != 0 {
		t.Fatal("wrapped by a KMS that is away")
	}
	for range 10 {
		n.mustSync(t)
		c.add(time.Second)
	}
	if kms.wraps != 1 {
		t.Errorf("asked %d times in ten seconds", kms.wraps)
	}
	kms.fail(nil)
	c.add(kmsPause)
	if o := n.mustSync(t); stanzaTypes(o)[stanzaKMS] != 1 {
		t.Error("not added")
	}
	kms.other = true
	second := newFakeKMS("arn:two")
	second.other = true
	n.cfg.KMS = second
	if o := n.mustSync(t); o.file.Stanzas[len(o.file.Stanzas)-1].KID != kmsID(kms) {
		t.Error("a KMS that gives another key back became the recipient")
	}
	second.other = false
	c.add(kmsPause)
	if o := n.mustSync(t); stanzaTypes(o)[stanzaKMS] != 1 || o.file.Stanzas[len(o.file.Stanzas)-1].KID != kmsID(second) {
		t.Error("the KMS of the configuration, and no other, is the recipient")
	}
	n.cfg.KMS = nil
	if o := n.mustSync(t); stanzaTypes(o)[stanzaKMS] != 0 {
		t.Error("a KMS that left the configuration still opens the ring")
	}
}

// TestKeyInHardware: a TLS key that cannot be exported leaves the KMS as the ring's recipient, and without one no ring.
func TestKeyInHardware(t *testing.T) {
	c := newClock()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := HardwareKey(struct{ crypto.Signer }{priv}, c.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if soft, _ := NewTLSKey(priv, time.Time{}); soft.ID() != k.ID() {
		t.Error("the name depends on where the key is")
	}
	st := new(memory)
	if err := newNode(t, st, c, nil, k).Sync(t.Context()); !errors.Is(err, ErrWaiting) || !strings.Contains(err.Error(), "master awskms") || st.raw() != nil {
		t.Errorf("without a KMS: %v", err)
	}
	kms := newFakeKMS("arn:one")
	kms.fail(errKMSDown)
	n := newNode(t, st, c, func(r *RingConfig) { withKMS(kms)(r); r.Compat = true }, k)
	if err := n.Sync(t.Context()); !errors.Is(err, ErrWaiting) || st.raw() != nil {
		t.Errorf("the KMS is away: %v", err)
	}
	kms.fail(nil)
	o := n.mustSync(t)
	if got := stanzaTypes(o); !maps.Equal(got, map[string]int{stanzaKMS: 1}) || o.body.Compat != "" {
		t.Errorf("%v, pinned %q", got, o.body.Compat)
	}
	if again := newNode(t, st, c, withKMS(kms)).mustSync(t); !bytes.Equal(again.key("p1"), o.key("p1")) {
		t.Error("without any key visible the KMS opens it all the same")
	}
	kms.fail(errKMSDown)
	if _, err := n.Rewrap(t.Context()); !errors.Is(err, ErrWaiting) || n.mustSync(t).file.Epoch != o.file.Epoch {
		t.Errorf("rewrapped for nobody: %v", err)
	}
}

// TestRow141CompromisedPepper: one write gives new keys for everything and marks what has to be upgraded.
func TestRow141CompromisedPepper(t *testing.T) {
	c, st := newClock(), new(memory)
	k := testKey(t, c)
	on := func(r *RingConfig) { r.Compat = true }
	n := newNode(t, st, c, on, k)
	before := n.mustSync(t)
	old := st.raw()
	peer := newNode(t, st, c, on, k)
	peer.mustSync(t)
	writes := st.writes
	s, err := n.Compromise(t.Context(), "p1")
	if err != nil || st.writes != writes+1 {
		t.Fatal(err, st.writes-writes)
	}
	if s.Primary != "p2" || !s.UpgradeDue || stateOf(t, s, "p1") != StateVerify {
		t.Errorf("%+v", s)
	}
	after := n.held()
	for _, v := range after.body.Versions {
		if v.Compromised != (v.ID != "p2") {
			t.Errorf("%s is compromised: %v", v.ID, v.Compromised)
		}
	}
	if bytes.Equal(after.fileKey, before.fileKey) || bytes.Equal(after.body.UIDKey, before.body.UIDKey) || bytes.Equal(after.key("p2"), before.key("p1")) {
		t.Error("a key is still the old one")
	}
	if f, _ := readRingFile(st.raw()); unwrap(f, []TLSKey{k}, nil) == nil {
		t.Error("the live key does not open it")
	} else if _, err := openBody(f, before.fileKey); err == nil {
		t.Error("the old file key opens the new ring")
	}
	if o := peer.mustSync(t); o.newest(c.Now()) != "p2" || !o.upgradeDue() {
		t.Error("the peer does not follow")
	}
	// Nothing more the second time; and the upgrade is done when a census says so.
	if s, err := n.Compromise(t.Context(), "p1"); err != nil || s.Primary != "p2" {
		t.Error(s.Primary, err)
	}
	c.add(time.Second)
	if err := n.KeepCensus(t.Context(), census(c, "half", map[string]int{"p1": 3})); err != nil || !n.Status().UpgradeDue {
		t.Error("three records are left", err)
	}
	left := census(c, "all", map[string]int{"p1": 100, "p2": 100})
	left.Outermost = map[string]int{"p2": 100}
	if err := n.KeepCensus(t.Context(), left); err != nil || n.Status().UpgradeDue {
		t.Error("no record stands under p1 alone", err)
	}
	if bytes.Equal(old, st.raw()) {
		t.Error("nothing was written")
	}
}

// TestCompromisedTLSKeyIsBanned: while the certificate is still served the ring is not wrapped for its key, on any node,
// after any look; with another recipient it stays usable, and without one the order is refused.
func TestCompromisedTLSKeyIsBanned(t *testing.T) {
	c, st := newClock(), new(memory)
	bad := testKey(t, c)
	secret, pub := recoveryPair(t)
	alone := newNode(t, st, c, nil, bad)
	alone.mustSync(t)
	raw := st.raw()
	if s, err := alone.Compromise(t.Context(), bad.kid[:16]); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "new certificate") || s.Primary != "p1" || !bytes.Equal(raw, st.raw()) {
		t.Fatalf("nothing would open it: %v", err)
	}
	with := func(r *RingConfig) { r.Recovery, r.NoRecovery = pub, false }
	n, peer := newNode(t, st, c, with, bad), newNode(t, st, c, with, bad)
	n.mustSync(t)
	peer.mustSync(t)
	s, err := n.Compromise(t.Context(), strings.Clone(bad.kid))
	if err != nil || len(s.Banned) != 1 || s.Banned[0] != bad.kid || !strings.Contains(s.Detail, "new certificate") {
		t.Fatalf("%+v, %v", s, err)
	}
	for range 3 {
		o := n.mustSync(t, bad)
		if got := stanzaTypes(o); !maps.Equal(got, map[string]int{stanzaRecovery: 1}) {
			t.Fatal("wrapped for a compromised key again: ", got)
		}
	}
	// The peer has nothing that opens the new ring; it goes on with what it holds and says what is wrong.
	if err := peer.Sync(t.Context()); !errors.Is(err, ErrLocked) || peer.held() == nil {
		t.Error(err)
	}
	if err := newNode(t, st, c, with, bad).Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("a restart with the compromised key: %v", err)
	}
	cfg := n.cfg
	cfg.Keys = func(context.Context) ([]TLSKey, error) { return []TLSKey{bad}, nil }
	if err := Recover(t.Context(), cfg, secret); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "compromised") {
		t.Errorf("recovered for a compromised key: %v", err)
	}
	good := testKey(t, c)
	n.serve(good, bad)
	o := n.mustSync(t)
	if got := stanzaTypes(o); !maps.Equal(got, map[string]int{stanzaRecovery: 1, stanzaTLS: 1}) || o.file.Stanzas[1].KID != good.kid {
		t.Error(o.file.Stanzas)
	}
	peer.serve(good)
	if o := peer.mustSync(t); o.newest(c.Now()) != "p2" || !o.banned(bad.kid) {
		t.Error("the peer does not follow with the new key")
	}
	if s, err := n.Compromise(t.Context(), bad.kid); err != nil || s.Primary != "p2" {
		t.Errorf("a second time: %v", err)
	}
}

// TestCompromisedRecoveryKey: it stays in the configuration for a while, and is no recipient.
func TestCompromisedRecoveryKey(t *testing.T) {
	c, st := newClock(), new(memory)
	_, pub := recoveryPair(t)
	n := newNode(t, st, c, func(r *RingConfig) { r.Recovery, r.NoRecovery = pub, false }, testKey(t, c))
	n.mustSync(t)
	for _, id := range []string{"", "p9", pub.id[:15], "0123456789abcdef"} {
		if _, err := n.Compromise(t.Context(), id); !errors.Is(err, ErrInput) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := n.Compromise(t.Context(), pub.id[:16]); err != nil {
		t.Fatal(err)
	}
	n.mustSync(t)
	if got := stanzaTypes(n.mustSync(t)); !maps.Equal(got, map[string]int{stanzaTLS: 1}) {
		t.Error(got)
	}
	if _, err := n.Export(t.Context(), pub); !errors.Is(err, ErrInput) {
		t.Errorf("exported to a compromised key: %v", err)
	}
	kms := newFakeKMS("arn:one")
	n.cfg.KMS = kms
	n.mustSync(t)
	if _, err := n.Compromise(t.Context(), kmsID(kms)[:16]); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "KMS") {
		t.Errorf("a KMS key: %v", err)
	}
}

// TestRewrap: what an old copy of the ring and an old key give away ends with the next write.
func TestRewrap(t *testing.T) {
	c, st := newClock(), new(memory)
	old := testKey(t, c)
	n := newNode(t, st, c, nil, old)
	n.mustSync(t)
	next := testKey(t, c)
	n.mustSync(t, next)
	n.serve(next)
	before := n.mustSync(t)
	if _, err := n.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := newNode(t, st, c, nil, old).Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("the old key opens it: %v", err)
	}
	after := newNode(t, st, c, nil, next).mustSync(t)
	if !bytes.Equal(after.key("p1"), before.key("p1")) || bytes.Equal(after.fileKey, before.fileKey) {
		t.Error("the pepper changed, or the file key did not")
	}
	n.serve()
	if _, err := n.Rewrap(t.Context()); !errors.Is(err, ErrInput) {
		t.Errorf("rewrapped for nobody: %v", err)
	}
}

// TestMayRenew: the one case in which a renewal waits, and its end.
func TestMayRenew(t *testing.T) {
	const day = 24 * time.Hour
	c, st := newClock(), openBolt(t)
	n := newNode(t, st, c, nil, testKey(t, c))
	veto := func(want bool, remaining, lifetime time.Duration, what string) {
		t.Helper()
		if err := n.MayRenew(remaining, lifetime); (err != nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	st.get = errors.New("pulled")
	_ = n.Sync(t.Context())
	veto(true, 30*day, 90*day, "never opened, the store is away: the ring may be wrapped for this key alone")
	st.get = nil
	n.mustSync(t)
	veto(false, 30*day, 90*day, "all is well")
	st.get = errors.New("pulled")
	_ = n.Sync(t.Context())
	veto(true, 30*day, 90*day, "the store is away")
	veto(true, 9*day+1, 90*day, "a tenth and a bit is left")
	veto(false, 9*day, 90*day, "a tenth is left")
	veto(false, day, 5*day, "a day is left")
	veto(false, 0, 0, "nothing is known of the certificate")
	veto(false, -day, 90*day, "it has ended")
	veto(false, 4*time.Hour, 12*time.Hour, "a certificate of half a day")
	st.get = nil
	n.cfg.KMS = newFakeKMS("arn:one")
	n.mustSync(t)
	st.get = errors.New("pulled")
	_ = n.Sync(t.Context())
	veto(false, 30*day, 90*day, "the KMS opens it")
	st.get = nil
	n = newNode(t, st, c, nil, testKey(t, c))
	if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	veto(false, 30*day, 90*day, "locked: this key opens nothing")
	n = newNode(t, openBolt(t), c, nil)
	_ = n.Sync(t.Context())
	veto(false, 30*day, 90*day, "no key is visible")
}

// TestAnotherLineIsRefused: somebody puts an old copy back and a restarted node writes on it until its epoch is the higher
// one. Who holds the newer peppers must not take it over: their records would be lost.
func TestAnotherLineIsRefused(t *testing.T) {
	c, st := newClock(), new(memory)
	k := testKey(t, c)
	n := newNode(t, st, c, nil, k)
	n.mustSync(t)
	old := st.raw()
	if _, err := n.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	held := n.held()
	for _, writes := range []int{1, 2, 5} { // the same epoch, and later ones
		st.value = bytes.Clone(old)
		other := newNode(t, st, c, nil, k)
		other.mustSync(t)
		for range writes {
			if _, err := other.Rotate(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
		}
		raw := st.raw()
		if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) || n.held() != held || !bytes.Equal(st.raw(), raw) {
			t.Errorf("after %d writes: %v", writes, err)
		}
		if _, err := n.Rewrap(t.Context()); !errors.Is(err, ErrLocked) || !bytes.Equal(st.raw(), raw) {
			t.Errorf("written over: %v", err)
		}
	}
}

// TestSameEpochOfAnotherLine: nothing is missing in it, and still it is not what was written here.
func TestSameEpochOfAnotherLine(t *testing.T) {
	c, st := newClock(), new(memory)
	k := testKey(t, c)
	n := newNode(t, st, c, nil, k)
	n.mustSync(t)
	old := st.raw()
	if _, err := n.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	held := n.held()
	st.value = old
	other := newNode(t, st, c, nil, k)
	other.mustSync(t)
	other.mustSync(t, testKey(t, c))
	if other.held().file.Epoch != held.file.Epoch {
		t.Fatal("the test is not about the same epoch")
	}
	if err := n.Sync(t.Context()); !errors.Is(err, ErrLocked) || n.held() != held {
		t.Error(err)
	}
}

// TestPeerWritesRightAfter: the write was acknowledged, and what is read back is a peer's, made on top of it. The order is
// done then, and not carried out twice.
func TestPeerWritesRightAfter(t *testing.T) {
	for name, op := range map[string]func(*node) (RingStatus, error){
		"rotate":     func(n *node) (RingStatus, error) { return n.Rotate(t.Context(), 0) },
		"later":      func(n *node) (RingStatus, error) { return n.Rotate(t.Context(), time.Hour) },
		"compromise": func(n *node) (RingStatus, error) { return n.Compromise(t.Context(), "p1") },
		"rewrap":     func(n *node) (RingStatus, error) { return n.Rewrap(t.Context()) },
	} {
		c, st := newClock(), new(memory)
		k := testKey(t, c)
		n, peer := newNode(t, st, c, nil, k), newNode(t, st, c, nil, k)
		n.mustSync(t)
		st.after = func() { peer.mustSync(t, testKey(t, c)) }
		s, err := op(n)
		want := 2
		if name == "rewrap" {
			want = 1
		}
		if err != nil || len(s.Versions) != want || s.Epoch != 3 {
			t.Errorf("%s: %d versions at epoch %d, %v", name, len(s.Versions), s.Epoch, err)
		}
	}
}
