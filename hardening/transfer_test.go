package hardening

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func exported(t *testing.T, n *node, pub *RecoveryRecipient) []byte {
	t.Helper()
	blob, err := n.Export(t.Context(), pub)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func existing(r *RingConfig) { r.Existing = true }

// TestRingMovesToAnotherSite: both sites verify each other's records from then on, and can be brought together again.
func TestRingMovesToAnotherSite(t *testing.T) {
	c, here, there := newClock(), new(memory), new(memory)
	secret, pub := recoveryPair(t)
	a := newNode(t, here, c, nil, testKey(t, c))
	a.mustSync(t)
	if _, err := a.Compromise(t.Context(), "p1"); err != nil {
		t.Fatal(err)
	}
	if err := a.KeepCensus(t.Context(), census(c, "here", nil)); err != nil {
		t.Fatal(err)
	}
	b := newNode(t, there, c, existing, testKey(t, c))
	if err := b.Sync(t.Context()); !errors.Is(err, ErrWaiting) || !strings.Contains(err.Error(), "anteroom keys ring import") || there.raw() != nil {
		t.Fatalf("a ring that should exist already was made: %v", err)
	}
	blob := exported(t, a, pub)
	for _, v := range a.held().body.Versions {
		key, _ := json.Marshal(v.Key)
		if bytes.Contains(blob, v.Key) || bytes.Contains(blob, key) {
			t.Error("a pepper is readable in the export")
		}
	}
	if err := b.Import(t.Context(), blob, secret); err != nil {
		t.Fatal(err)
	}
	same := func() {
		t.Helper()
		x, y := a.mustSync(t), b.mustSync(t)
		if x.file.Ring != y.file.Ring || x.inherits(y) != nil || y.inherits(x) != nil || bytes.Equal(x.fileKey, y.fileKey) || !bytes.Equal(x.body.UIDKey, y.body.UIDKey) {
			t.Error("the two rings differ, or share their file key")
		}
	}
	same()
	if b.Status().LastCensus != nil {
		t.Error("what one site counted decides at another")
	}
	newNode(t, there, c, existing, b.live...).mustSync(t)
	// What one site rotates, the other takes over with the next import; an old export changes nothing.
	if _, err := a.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := b.Import(t.Context(), exported(t, a, pub), secret); err != nil || b.Status().Primary != "p3" {
		t.Fatal(err)
	}
	same()
	raw := there.raw()
	if err := b.Import(t.Context(), blob, secret); err != nil || !bytes.Equal(raw, there.raw()) {
		t.Errorf("an old export: %v", err)
	}
	// Both rotated: p4 is two peppers, and no import may choose one.
	for _, n := range []*node{a, b} {
		if _, err := n.Rotate(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
	}
	raw = there.raw()
	if err := b.Import(t.Context(), exported(t, a, pub), secret); !errors.Is(err, ErrInput) || !bytes.Equal(raw, there.raw()) {
		t.Errorf("two peppers of one name: %v", err)
	}
}

// TestImportNeverReplacesAnotherRing: whatever state the ring here is in.
func TestImportNeverReplacesAnotherRing(t *testing.T) {
	c := newClock()
	secret, pub := recoveryPair(t)
	a := newNode(t, new(memory), c, nil, testKey(t, c))
	a.mustSync(t)
	blob := exported(t, a, pub)
	k := testKey(t, c)
	st := new(memory)
	other := newNode(t, st, c, nil, k)
	other.mustSync(t)
	raw := st.raw()
	for name, n := range map[string]*node{
		"open":      other,
		"not yet":   newNode(t, st, c, nil, k),
		"locked":    newNode(t, st, c, nil, testKey(t, c)),
		"no key":    newNode(t, st, c, nil),
		"KMS alone": newNode(t, st, c, withKMS(newFakeKMS("arn:one"))),
	} {
		if err := n.Import(t.Context(), blob, secret); !errors.Is(err, ErrInput) || !bytes.Equal(raw, st.raw()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	damaged := &memory{value: []byte("garbage")}
	if err := newNode(t, damaged, c, nil, k).Import(t.Context(), blob, secret); !errors.Is(err, ErrLocked) || string(damaged.raw()) != "garbage" {
		t.Errorf("over a damaged ring: %v", err)
	}
	// The ring that is held and has vanished from the store is still another one.
	st.value = nil
	if err := other.Import(t.Context(), blob, secret); !errors.Is(err, ErrInput) || st.raw() != nil {
		t.Errorf("over a ring that is held: %v", err)
	}
}

// TestImportOpensALockedRing: the same ring, whose only TLS key is gone; never an older state of it.
func TestImportOpensALockedRing(t *testing.T) {
	c, st := newClock(), openBolt(t)
	secret, pub := recoveryPair(t)
	a := newNode(t, st, c, nil, testKey(t, c))
	a.mustSync(t)
	early := exported(t, a, pub)
	if _, err := a.Rotate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	late := exported(t, a, pub)
	swapped := newNode(t, st, c, nil, testKey(t, c))
	if err := swapped.Sync(t.Context()); !errors.Is(err, ErrLocked) {
		t.Fatal(err)
	}
	if err := swapped.Import(t.Context(), early, secret); !errors.Is(err, ErrInput) {
		t.Errorf("an older state: %v", err)
	}
	locked := stored(t, st)
	if err := swapped.Import(t.Context(), late, secret); err != nil {
		t.Fatal(err)
	}
	kept, err := st.List(t.Context(), labelReplaced+"/")
	if err != nil || len(kept) != 1 || !bytes.Equal(kept[0].Value, locked) {
		t.Errorf("the ring that was locked is not kept: %d, %v", len(kept), err)
	}
	o := newNode(t, st, c, nil, swapped.live...).mustSync(t)
	if o.file.Epoch <= a.held().file.Epoch || o.inherits(a.held()) != nil {
		t.Error("it is not the ring that it was")
	}
}

// TestExportOpensForNobodyElse, and not when a bit of it was changed.
func TestExportOpensForNobodyElse(t *testing.T) {
	c := newClock()
	secret, pub := recoveryPair(t)
	wrong, _ := recoveryPair(t)
	a := newNode(t, new(memory), c, nil, testKey(t, c))
	a.mustSync(t)
	blob := exported(t, a, pub)
	edit := func(change func(*exportFile)) []byte {
		var f exportFile
		if err := json.Unmarshal(blob, &f); err != nil {
			t.Fatal(err)
		}
		change(&f)
		out, _ := json.Marshal(f)
		return out
	}
	try := func(name string, blob []byte, with *RecoveryKey) {
		t.Helper()
		st := new(memory)
		if err := newNode(t, st, c, existing, testKey(t, c)).Import(t.Context(), blob, with); !errors.Is(err, ErrInput) || st.raw() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	try("another key", blob, wrong)
	try("no key", blob, nil)
	try("nothing", nil, secret)
	try("the ring itself", a.cfg.Store.(*memory).raw(), secret)
	try("cut", blob[:len(blob)/2], secret)
	try("twice", append(bytes.Clone(blob), blob...), secret)
	try("too large", append(bytes.Clone(blob), make([]byte, maxExport)...), secret)
	try("another epoch", edit(func(f *exportFile) { f.Epoch++ }), secret)
	try("another ring", edit(func(f *exportFile) { f.Ring = "0123456789abcdef" }), secret)
	try("another recipient's name", edit(func(f *exportFile) { f.Recipient = wrongName }), secret)
	try("a changed bit", edit(func(f *exportFile) { f.Sealed[len(f.Sealed)-1] ^= 1 }), secret)
	try("version 2", edit(func(f *exportFile) { f.V = 2 }), secret)
	// Nothing to wrap it for here: not stored, because it could not be opened again.
	st := new(memory)
	if err := newNode(t, st, c, existing).Import(t.Context(), blob, secret); !errors.Is(err, ErrInput) || st.raw() != nil {
		t.Errorf("without a recipient: %v", err)
	}
	if _, err := a.Export(t.Context(), nil); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	if _, err := newNode(t, new(memory), c, nil).Export(t.Context(), pub); !errors.Is(err, ErrWaiting) {
		t.Error(err)
	}
}

const wrongName = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestImportOriginal: digests that the original form made elsewhere verify under the key that made them.
func TestImportOriginal(t *testing.T) {
	c, st := newClock(), new(memory)
	n := newNode(t, st, c, nil, testKey(t, c))
	n.mustSync(t)
	priv := fileKey(t, "rfc9500-rsa2048")
	id, err := n.ImportOriginal(t.Context(), priv)
	if err != nil || id != "d:8fb6bad671cfe698" {
		t.Fatal(id, err)
	}
	key, err := n.held().usable(id, true)
	if err != nil || original(key, []byte("correct horse"), 1) != "E9640B5FC84CEF7F22B0E5FA2E65D12EA04290D4E27BA6DAB36D8A3BD34D9E6E" {
		t.Error("not the digest of the page of known answers", err)
	}
	epoch := n.held().file.Epoch
	if again, err := n.ImportOriginal(t.Context(), priv); err != nil || again != id || n.held().file.Epoch != epoch {
		t.Error("a second time", err)
	}
	if n.held().newest(c.Now()) != "p1" || n.held().body.Compat != "" {
		t.Error("an imported key makes records, or answers the original form")
	}
	raw := sha256.Sum256([]byte("a PEM text"))
	rawID, err := n.ImportOriginal(t.Context(), raw[:])
	if err != nil || !strings.HasPrefix(rawID, "d:") || len(rawID) != 18 {
		t.Fatal(rawID, err)
	}
	raw[0] ^= 1 // the caller's slice is not kept
	if got, _ := n.held().usable(rawID, true); bytes.Equal(got, raw[:]) {
		t.Error("the ring keeps the caller's slice")
	}
	for _, bad := range []any{nil, "text", raw[:31], struct{}{}} {
		if _, err := n.ImportOriginal(t.Context(), bad); !errors.Is(err, ErrInput) {
			t.Errorf("%T: %v", bad, err)
		}
	}
	if _, err := n.Retire(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Destroy(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ImportOriginal(t.Context(), priv); !errors.Is(err, ErrInput) {
		t.Errorf("a destroyed key came back: %v", err)
	}
	newNode(t, st, c, nil, n.live...).mustSync(t)
}

// TestPinnedKeyStays: the original form's key goes only when no service of this ring answers with it.
func TestPinnedKeyStays(t *testing.T) {
	c, st := newClock(), new(memory)
	k := testKey(t, c)
	n := newNode(t, st, c, func(r *RingConfig) { r.Compat = true }, k)
	id := n.mustSync(t).body.Compat
	if _, err := n.Retire(t.Context(), id, true); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "compat") {
		t.Error(err)
	}
	if err := n.KeepCensus(context.Background(), Census{ID: "x", Began: c.Now().Add(time.Second), Ended: c.Now().Add(time.Second), Records: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Close(t.Context(), id); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "compat") {
		t.Error(err)
	}
	off := newNode(t, st, c, nil, k)
	if _, err := off.Retire(t.Context(), id, true); err != nil {
		t.Error(err)
	}
	if _, err := n.mustSync(t).usable(id, true); !errors.Is(err, errRetired) {
		t.Error(err)
	}
}
