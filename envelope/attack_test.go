package envelope

import (
	"errors"
	"strings"
	"sync"
	"testing"
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
	for _, cut := range []int{headerLen, headerLen + 24, len(a) - 16} {
		mixed := append(append([]byte{}, a[:cut]...), b[cut:]...)
		if got, err := e.Open(t.Context(), testLabel, mixed); cut != headerLen && !errors.Is(err, ErrSealed) {
			t.Errorf("cut at %d: %v", cut, err)
		} else if cut == headerLen && (err != nil || string(got) != "bbbb") {
			t.Errorf("the headers of one key are alike: %q, %v", got, err)
		}
	}
}

// TestRow153NonceRepeats: a repeated nonce under one key gives the difference of two
// plaintexts away.
func TestRow153NonceRepeats(t *testing.T) {
	e := fixed(t, 1)
	const each, workers = 1 << 13, 4
	var mu sync.Mutex // guards seen
	seen := make(map[[24]byte]bool, each*workers)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				nonce := [24]byte(seal(t, e, testLabel, nil)[headerLen:])
				mu.Lock()
				if seen[nonce] {
					t.Errorf("nonce %x came twice", nonce)
				}
				seen[nonce] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestRow156OtherMasterKey: the key file was replaced. To the program that is one more
// value that does not open; the operator reads which of the two it is.
func TestRow156OtherMasterKey(t *testing.T) {
	sealed := seal(t, fixed(t, 1), testLabel, []byte("x"))
	_, err := fixed(t, 2).Open(t.Context(), testLabel, sealed)
	if !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), "master key") {
		t.Errorf("another key: %v", err)
	}
	// A forged key id does not help.
	id := fixed(t, 2).id
	copy(sealed[1:], id[:])
	_, err = fixed(t, 2).Open(t.Context(), testLabel, sealed)
	if !errors.Is(err, ErrSealed) || strings.Contains(err.Error(), "master key") {
		t.Errorf("forged key id: %v", err)
	}
}
