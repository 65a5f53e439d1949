package envelope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testLabel = "anteroom/envelope/test/v1"

func seal(t testing.TB, e *Envelope, label string, plaintext []byte) []byte {
	t.Helper()
	sealed, err := e.Seal(context.Background(), label, plaintext)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestSealOpen(t *testing.T) {
	e := fixed(t, 1)
	for _, plaintext := range [][]byte{nil, {}, {0}, []byte("signing key"), make([]byte, 1<<20)} {
		sealed := seal(t, e, testLabel, plaintext)
		if len(sealed) != len(plaintext)+49 {
			t.Errorf("%d bytes became %d", len(plaintext), len(sealed))
		}
		got, err := e.Open(t.Context(), testLabel, sealed)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes: %d came back, %v", len(plaintext), len(got), err)
		}
	}
	a, b := seal(t, e, testLabel, []byte("same")), seal(t, e, testLabel, []byte("same"))
	if bytes.Equal(a, b) {
		t.Error("one plaintext was sealed to the same bytes twice")
	}
}

// TestFormat holds the format of version 2.
func TestFormat(t *testing.T) {
	e := fixed(t, 1)
	sealed, keys := seal(t, e, testLabel, []byte("x")), e.Keys()
	primary := keys[len(keys)-1]
	if id, ok := KeyOf(sealed); sealed[0] != 2 || !ok || id != primary.ID || id != fmt.Sprintf("%x", sealed[1:9]) {
		t.Fatalf("header is %x, the primary is %v", sealed[:9], primary)
	}
	for _, b := range [][]byte{nil, {2}, sealed[:48], append([]byte{0}, sealed[1:]...), append([]byte{3}, sealed[1:]...)} {
		if id, ok := KeyOf(b); ok || id != "" {
			t.Errorf("KeyOf of %x is %q", b, id)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	e := fixed(t, 1)
	if _, err := e.Seal(t.Context(), "", []byte("x")); !errors.Is(err, ErrLabel) {
		t.Errorf("no label: %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Seal(done, testLabel, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Seal with a done context: %v", err)
	}
	if _, err := e.Open(done, testLabel, seal(t, e, testLabel, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("Open with a done context: %v", err)
	}
	for name, zero := range map[string]*Envelope{"zero": {}, "nil": nil} {
		if _, err := zero.Seal(t.Context(), testLabel, nil); err == nil {
			t.Errorf("%s envelope seals", name)
		}
		if _, err := zero.Open(t.Context(), testLabel, seal(t, e, testLabel, nil)); !errors.Is(err, ErrSealed) {
			t.Errorf("%s envelope: %v", name, err)
		}
	}
}

// TestRedacted: no way of printing shows the key, in whatever type it stands.
func TestRedacted(t *testing.T) {
	e, l := fixed(t, 'K'), local(t, 'K')
	_ = seal(t, e, testLabel, nil)
	type holder struct {
		Envelope *Envelope
		inner    *Envelope
		value    Envelope
		Local    *Local
		local    *Local
		master   Local
		config   Config
		Key      secret
		data     *dataKey
	}
	key := secret{'K', 1, 2, 3}
	data := newDataKey("own", [keyIDLen]byte{}, &key, "", false, time.Time{})
	h := holder{e, e, *e, l, l, *l, Config{Master: l}, key, data}
	var printed strings.Builder
	for _, v := range []any{e, *e, l, *l, &key, key, h, &h, []any{e, key, l}, map[string]any{"k": *e}, data, e.core().cfg} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%08b"} {
			fmt.Fprintf(&printed, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err == nil { // a Config has a function, which JSON does not take
			printed.Write(b)
		}
		for _, handler := range []slog.Handler{slog.NewTextHandler(&printed, nil), slog.NewJSONHandler(&printed, nil)} {
			slog.New(handler).Info("x", "v", v)
		}
	}
	for _, key := range []string{"K\\x01", "4b010203", "4B010203", "75 1 2 3", "75, 1, 2", "0x4b, 0x1", "SwEC", "1001011 1 10 11", "01001011 00000001", "113 1 2 3"} {
		if strings.Contains(printed.String(), key) {
			t.Errorf("the key is printed, as %q", key)
		}
	}
	if !strings.Contains(printed.String(), redacted) {
		t.Error("nothing was redacted")
	}
}

func TestLabelsDiffer(t *testing.T) {
	all := []string{labelSeal, labelKeyID, labelWrap, labelData, labelCheck, labelRing, storeKeyRing, labelItem, labelDocument, labelChunks}
	for i, a := range all {
		for j, b := range all {
			if i != j && strings.HasPrefix(a+"\x00", b) {
				t.Errorf("%s and %s share a beginning", a, b)
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	e, plaintext := fixed(b, 1), make([]byte, 500)
	for b.Loop() {
		_ = seal(b, e, testLabel, plaintext)
	}
}

func BenchmarkOpen(b *testing.B) {
	e := fixed(b, 1)
	sealed := seal(b, e, testLabel, make([]byte, 500))
	for b.Loop() {
		if _, err := e.Open(context.Background(), testLabel, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzOpen: whatever a browser sends back or a store contains, Open answers without a
// panic, and only bytes that Seal made open.
func FuzzOpen(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzOpen/*")
	if err != nil || len(seeds) == 0 {
		f.Fatal("the seeds of FuzzOpen are missing: ", err)
	}
	ring, err := os.ReadFile("testdata/ring-v1") // the seeds are sealed under its keys
	if err != nil {
		f.Fatal(err)
	}
	e := open(f, &memory{values: map[string][]byte{ringAt: ring}}, "own", local(f, 1))
	f.Fuzz(func(t *testing.T, label string, data []byte, at uint) {
		if got, err := e.Open(t.Context(), label, data); err != nil && (got != nil || !errors.Is(err, ErrSealed)) {
			t.Fatalf("Open = %x, %v", got, err)
		} else if err == nil && len(got) != len(data)-overhead {
			t.Fatalf("%d bytes opened to %d", len(data), len(got))
		}
		if label == "" {
			return
		}
		sealed := seal(t, e, label, data)
		if got, err := e.Open(t.Context(), label, sealed); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("what was sealed does not open: %v", err)
		}
		sealed[at%uint(len(sealed))] ^= 1 + byte(at>>8)&0x7f
		if got, err := e.Open(t.Context(), label, sealed); !errors.Is(err, ErrSealed) {
			t.Fatalf("changed bytes open to %x, %v", got, err)
		}
	})
}
