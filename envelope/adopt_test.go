package envelope

import (
	"context"
	"path/filepath"
	"testing"
)

// Row 155: a running envelope goes over to another master; what it sealed before opens, and after Migrate a process that has
// only the new one opens everything.
func TestRow155Adopt(t *testing.T) {
	dir, keys := t.TempDir(), new(memory)
	first, err := OpenLocal(filepath.Join(dir, "a", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := OpenLocal(filepath.Join(dir, "b", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := Start(t.Context(), Config{Name: "own", Master: first, Store: keys})
	if err != nil {
		t.Fatal(err)
	}
	before, err := e.Seal(t.Context(), testLabel, []byte("before"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := e.Adopt(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := e.Migrate(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	after, err := e.Seal(t.Context(), testLabel, []byte("after"))
	if err != nil {
		t.Fatal(err)
	}
	alone, err := Start(t.Context(), Config{Name: "own", Master: second, Store: keys})
	if err != nil {
		t.Fatal(err)
	}
	for want, sealed := range map[string][]byte{"before": before, "after": after} {
		for _, x := range []*Envelope{e, alone} {
			if got, err := x.Open(context.Background(), testLabel, sealed); err != nil || string(got) != want {
				t.Errorf("%q, %v", got, err)
			}
		}
	}
	if _, err := Start(t.Context(), Config{Name: "own", Master: first, Store: keys}); err == nil {
		t.Error("the former master still opens the ring")
	}
}
