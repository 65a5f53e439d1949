package envelope

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealV1 seals as the first version did.
func sealV1(t testing.TB, l *Local, label, plain string) []byte {
	t.Helper()
	aead, err := l.aeadV1(label)
	if err != nil {
		t.Fatal(err)
	}
	header := append([]byte{version1}, l.id[:]...)
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	return aead.Seal(append(header[:headerLen:headerLen], nonce...), nonce, []byte(plain), associated(header, label))
}

// TestVersion1Fixture: what the first version sealed opens, under the master and under the
// former one. The file was written by that version.
func TestVersion1Fixture(t *testing.T) {
	old, err := os.ReadFile("testdata/sealed-v1.bin")
	if err != nil {
		t.Fatal(err)
	}
	l := local(t, 1)
	if id, ok := KeyOf(old); !ok || id != "v1:"+strings.TrimPrefix(l.ID(), "local:") {
		t.Errorf("KeyOf is %q", id)
	}
	former := func(c *Config) { c.Former = []Master{local(t, 1)} }
	for name, e := range map[string]*Envelope{
		"master": fixed(t, 1),
		"former": open(t, new(memory), "own", newFar(t, 9), former),
	} {
		opens(t, e, old, "sealed by the first version")
		out, changed, err := e.Reseal(t.Context(), testLabel, old)
		if err != nil || !changed || out[0] != version2 {
			t.Fatalf("%s: resealed to %x, %v, %v", name, out[:headerLen], changed, err)
		}
		opens(t, e, out, "sealed by the first version")
		if _, err := e.Open(t.Context(), "another/label", old); err == nil {
			t.Errorf("%s: opened under another label", name)
		}
	}
	_, err = fixed(t, 2).Open(t.Context(), testLabel, old)
	refused(t, "another master", err, ErrSealed)
	if !strings.Contains(err.Error(), "master key file") {
		t.Errorf("the message does not say what to do: %v", err)
	}
	apps := open(t, new(memory), "apps", local(t, 1))
	_, err = apps.Open(t.Context(), testLabel, old)
	refused(t, "the ring of applications, which never had version 1", err, ErrSealed)
}

// TestRow153Version1Changed: each bit of a value of version 1 still matters.
func TestRow153Version1Changed(t *testing.T) {
	e := fixed(t, 1)
	sealed := sealV1(t, local(t, 1), testLabel, "content")
	opens(t, e, sealed, "content")
	for i := range sealed {
		for bit := range 8 {
			sealed[i] ^= 1 << bit
			_, err := e.Open(t.Context(), testLabel, sealed)
			refused(t, "a changed bit", err, ErrSealed)
			sealed[i] ^= 1 << bit
		}
	}
}

// TestRow156Version1: whoever copied the master key file can make values of version 1 for
// ever. After the master was changed they can be condemned, resealed and ended.
func TestRow156Version1(t *testing.T) {
	l := local(t, 1)
	id := "v1:" + strings.TrimPrefix(l.ID(), "local:")
	keys := new(memory)
	e := open(t, keys, "own", newFar(t, 2), func(c *Config) { c.Former = []Master{l} })
	sealed := sealV1(t, l, testLabel, "x")
	if state(e, id) != StateOpen {
		t.Errorf("before: %v", e.Keys())
	}
	if info, err := e.Condemn(t.Context(), id); err != nil || info.State != StatePrimary {
		t.Fatal(info, err)
	}
	_, err := e.Open(t.Context(), testLabel, sealed)
	refused(t, "condemned", err, ErrCondemned)
	out, changed, err := e.Reseal(t.Context(), testLabel, sealed)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	opens(t, e, out, "x")
	if err := e.Destroy(t.Context(), id); err != nil || state(e, id) != StateDestroyed {
		t.Fatal(err, e.Keys())
	}
	again := open(t, keys, "own", newFar(t, 2), func(c *Config) { c.Former = []Master{l} })
	for _, e := range []*Envelope{e, again} {
		_, err = e.Open(t.Context(), testLabel, sealed)
		refused(t, "destroyed", err, ErrSealed)
		_, _, err = e.Reseal(t.Context(), testLabel, sealed)
		refused(t, "destroyed", err, ErrSealed)
		opens(t, e, out, "x")
	}
	_, err = e.Condemn(t.Context(), "v1:0000000000000000")
	refused(t, "a master that is not here", err, ErrRefused)
}
