package hardening

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
)

// TestRow141KeySeparation: row 141. No key has two purposes: what a TLS key wraps with depends on the ring, it opens in one
// ring and for one key only, no pepper comes from it, and every record says which pepper made it.
func TestRow141KeySeparation(t *testing.T) {
	c := newClock()
	k := testKey(t, c)
	one, err1 := k.wrapKey("0123456789abcdef")
	two, err2 := k.wrapKey("fedcba9876543210")
	if err1 != nil || err2 != nil || bytes.Equal(one, two) || bytes.Equal(one, k.extract) || bytes.Equal(one, k.original[:]) {
		t.Fatal("one key for two rings, or for two purposes")
	}
	a := newNode(t, new(memory), c, nil, k).mustSync(t)
	b := newNode(t, new(memory), c, nil, k).mustSync(t)
	s := a.file.Stanzas[0]
	if _, err := k.unwrap(b.file.Ring, s.CT); err == nil {
		t.Error("a stanza opens in another ring")
	}
	other := k
	other.kid = strings.Repeat("0", 64)
	if _, err := other.unwrap(a.file.Ring, s.CT); err == nil {
		t.Error("a stanza opens under another key's name")
	}
	keys := [][]byte{a.key("p1"), b.key("p1"), a.fileKey, b.fileKey, a.body.UIDKey, b.body.UIDKey, one, two, k.extract, k.original[:]}
	for i, x := range keys {
		if len(x) != sha256.Size || slices.ContainsFunc(keys[:i], func(y []byte) bool { return bytes.Equal(x, y) }) {
			t.Errorf("key %d is another one's twin", i)
		}
	}
	salt := make([]byte, saltSize)
	r := record{ring: a.file.Ring, layers: []string{"p1"}, salt: salt, tag: innerTag(a.key("p1"), "", "u", salt, slowHash("s", salt))}
	if text := r.String(); !strings.Contains(text, "ring="+a.file.Ring+",l=p1,") {
		t.Errorf("the record does not say what made it: %s", text)
	}
}

// TestRow143PepperIsAddedToTheSlowHash: row 143. Whoever has database and pepper still pays Argon2id for each guess: the tag
// is a MAC over the slow hash, and none over the secret.
func TestRow143PepperIsAddedToTheSlowHash(t *testing.T) {
	pepper, salt := newPepper(), newSalt()
	slow := slowHash("s", salt)
	tag := innerTag(pepper, "c", "u", salt, slow)
	if !strings.Contains(slowText, "argon2id:m=19456,t=2,p=1") || len(slow) != sha256.Size {
		t.Error("not the slow step that the record names")
	}
	for name, guess := range map[string][]byte{
		"the secret":          innerTag(pepper, "c", "u", salt, []byte("s")),
		"its plain hash":      innerTag(pepper, "c", "u", salt, func() []byte { x := sha256.Sum256([]byte("s")); return x[:] }()),
		"another salt":        innerTag(pepper, "c", "u", salt, slowHash("s", newSalt())),
		"without a pepper":    innerTag(nil, "c", "u", salt, slow),
		"another person":      innerTag(pepper, "c", "v", salt, slow),
		"a layer over itself": overTag(pepper, "p1", tag),
	} {
		if hmac.Equal(guess, tag) {
			t.Errorf("the tag is made of %s", name)
		}
	}
}
