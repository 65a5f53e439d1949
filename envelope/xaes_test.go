package envelope

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

func mustXAES(t testing.TB, key []byte) *xaes {
	t.Helper()
	x, err := newXAES(key)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestXAESVectors: the vectors of c2sp.org/XAES-256-GCM. In the second one the top bit of L
// is set, so that K1 takes the polynomial.
func TestXAESVectors(t *testing.T) {
	for _, v := range []struct {
		key                   byte
		about, k1, ciphertext string
	}{
		{1, "", "e531954aca063d5b8d9c47a47d4cc6f0", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "23810ec50edb99f374409466ed1f4b7b", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, nonce := mustXAES(t, bytes.Repeat([]byte{v.key}, 32)), []byte("ABCDEFGHIJKLMNOPQRSTUVWX")
		if got := hex.EncodeToString(x.k1[:]); got != v.k1 {
			t.Errorf("K1 is %s; want %s", got, v.k1)
		}
		sealed, err := x.seal(nil, nonce, []byte("XAES-256-GCM"), []byte(v.about))
		if err != nil || hex.EncodeToString(sealed) != v.ciphertext {
			t.Errorf("%x, %v; want %s", sealed, err, v.ciphertext)
		}
		if plain, err := x.open(nonce, sealed, []byte(v.about)); err != nil || string(plain) != "XAES-256-GCM" {
			t.Errorf("%q, %v", plain, err)
		}
	}
}

// TestXAESAccumulated: the randomized test of the same page.
func TestXAESAccumulated(t *testing.T) {
	random, sum := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		_, _ = random.Read(b)
		return b
	}
	for range 10_000 {
		key, nonce := read(32), read(24)
		plain := read(int(read(1)[0]))
		about := read(int(read(1)[0]))
		x := mustXAES(t, key)
		sealed, err := x.seal(nil, nonce, plain, about)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := x.open(nonce, sealed, about); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("does not open: %v", err)
		}
		_, _ = sum.Write(sealed)
	}
	got := make([]byte, 32)
	_, _ = sum.Read(got)
	if hex.EncodeToString(got) != "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939" {
		t.Errorf("%x", got)
	}
}

func TestXAESRefuses(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := newXAES(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes", n)
		}
	}
	x := mustXAES(t, make([]byte, 32))
	for _, n := range []int{0, 12, 23, 25} {
		if _, err := x.seal(nil, make([]byte, n), nil, nil); err == nil {
			t.Errorf("sealed with a nonce of %d bytes", n)
		}
		if _, err := x.open(make([]byte, n), make([]byte, 16), nil); err == nil {
			t.Errorf("opened with a nonce of %d bytes", n)
		}
	}
	if _, err := x.open(make([]byte, 24), make([]byte, 15), nil); err == nil {
		t.Error("opened less than a tag")
	}
}
