package envelope

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRow153WrongPlace: a sealed value is carried to where it does not belong. With a
// sign-in attempt that passes for a signing key, a browser would choose the key that
// sessions are signed with.
func TestRow153WrongPlace(t *testing.T) {
	e := fixed(t, 1)
	sealed := seal(t, e, "anteroom/portal/attempt/v1", []byte("x"))
	for _, label := range []string{
		"", "anteroom/session/signing-key/v1", "anteroom/portal/attempt/v2", "anteroom/portal/attempt/v1 ",
		"anteroom/portal/attempt/v1\x00", "anteroom/portal/attempt/v", "Anteroom/portal/attempt/v1", labelSeal, labelKeyID,
	} {
		if _, err := e.Open(t.Context(), label, sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("label %q: %v", label, err)
		}
	}
}

// TestRow153Changed: each bit of a sealed value matters, and so does its length.
func TestRow153Changed(t *testing.T) {
	e := fixed(t, 1)
	sealed := seal(t, e, testLabel, []byte("content"))
	for i := range sealed {
		for bit := range 8 {
			sealed[i] ^= 1 << bit
			if _, err := e.Open(t.Context(), testLabel, sealed); !errors.Is(err, ErrSealed) {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
			sealed[i] ^= 1 << bit
		}
	}
	for n := range sealed {
		if _, err := e.Open(t.Context(), testLabel, sealed[:n]); !errors.Is(err, ErrSealed) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
		if _, err := e.Open(t.Context(), testLabel, sealed[len(sealed)-n:]); !errors.Is(err, ErrSealed) {
			t.Errorf("the last %d bytes: %v", n, err)
		}
	}
	for _, more := range []string{"\x00", "more", string(sealed)} {
		if _, err := e.Open(t.Context(), testLabel, append(sealed[:len(sealed):len(sealed)], more...)); !errors.Is(err, ErrSealed) {
			t.Errorf("with %d more bytes: %v", len(more), err)
		}
	}
	if _, err := e.Open(t.Context(), testLabel, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("nil: %v", err)
	}
}

// TestRow153Swapped: the parts of two sealed values do not fit each other.
func TestRow153Swapped(t *testing.T) {
	e := fixed(t, 1)
	a, b := seal(t, e, testLabel, []byte("aaaa")), seal(t, e, testLabel, []byte("bbbb"))
	for _, cut := range []int{1, headerLen, headerLen + 12, headerLen + 24, len(a) - 16} {
		mixed := append(append([]byte{}, a[:cut]...), b[cut:]...)
		if got, err := e.Open(t.Context(), testLabel, mixed); cut > headerLen && !errors.Is(err, ErrSealed) {
			t.Errorf("cut at %d: %v", cut, err)
		} else if cut <= headerLen && (err != nil || string(got) != "bbbb") {
			t.Errorf("the headers of one key are alike: %q, %v", got, err)
		}
	}
}

// TestRow153NonceRepeats: a repeated nonce under one key gives the difference of two
// plaintexts away.
func TestRow153NonceRepeats(t *testing.T) {
	e := fixed(t, 1)
	const each, workers = 1 << 18, 4 // 2^20 in all
	nonces := make([][24]byte, each*workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				nonces[w*each+i] = [24]byte(seal(t, e, testLabel, nil)[headerLen:])
			}
		})
	}
	wg.Wait()
	slices.SortFunc(nonces, func(a, b [24]byte) int { return bytes.Compare(a[:], b[:]) })
	if n := len(slices.Compact(nonces)); n != each*workers {
		t.Errorf("%d nonces in %d values", n, each*workers)
	}
}

// TestRow153OtherRing: what was sealed under another key or in another ring does not
// open, and its header does not make it open.
func TestRow153OtherRing(t *testing.T) {
	keys := new(memory)
	own, apps := open(t, keys, "own", local(t, 1)), open(t, keys, "apps", local(t, 1))
	a, b := seal(t, own, testLabel, []byte("aaaa")), seal(t, apps, testLabel, []byte("bbbb"))
	if _, err := apps.Open(t.Context(), testLabel, a); !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "does not have") {
		t.Errorf("another ring's value: %v", err)
	}
	if _, err := apps.Open(t.Context(), testLabel, append(b[:headerLen:headerLen], a[headerLen:]...)); !errors.Is(err, ErrSealed) {
		t.Errorf("another ring's value with our header: %v", err)
	}
	if _, err := own.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := seal(t, own, testLabel, []byte("cccc"))
	if bytes.Equal(a[:headerLen], c[:headerLen]) {
		t.Fatal("the key did not change")
	}
	for _, mixed := range [][]byte{append(a[:headerLen:headerLen], c[headerLen:]...), append(c[:headerLen:headerLen], a[headerLen:]...)} {
		if _, err := own.Open(t.Context(), testLabel, mixed); !errors.Is(err, ErrSealed) {
			t.Errorf("a value with another key's header: %v", err)
		}
	}
}

// TestRow153SameDataKey: even if a master gave two rings the same data key, a value of one
// would not open in the other, nor would one of version 2 pass for a check value.
func TestRow153SameDataKey(t *testing.T) {
	key := secret{1, 2, 3}
	in := func(ring string) *dataKey { return newDataKey(ring, [keyIDLen]byte{1}, &key, "", false, time.Time{}) }
	sealed, err := in("own").seal(testLabel, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := in("own").open(testLabel, sealed); err != nil || string(got) != "x" {
		t.Fatalf("%q, %v", got, err)
	}
	for ring, label := range map[string]string{"apps": testLabel, "own": testLabel + "2", "own\x00" + testLabel: ""} {
		if _, err := in(ring).open(label, sealed); !errors.Is(err, ErrSealed) {
			t.Errorf("ring %q, label %q: %v", ring, label, err)
		}
	}
}
