package caddymodule

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Around a reload with other lifetimes two managers save the mark of one store. No reader ever sees a torn one, which would
// sign everybody out at the next start.
func TestMarkOfTwoManagers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "feed.mark")
	mark := markFile{path: path, store: "0123456789abcdef"}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 100 {
				if err := mark.Save(strings.Repeat(fmt.Sprint(i), 20+j)); err != nil {
					t.Error(err)
					return
				}
				got, err := mark.Load()
				if err != nil || len(got) < 20 || strings.Trim(got, got[:1]) != "" {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("a file is left over")
	}
}

// Each store has its mark: the sessions of the old config save theirs last, when its requests have left.
func TestMarkOfTwoStores(t *testing.T) {
	path := filepath.Join(t.TempDir(), "feed.mark")
	before, after := markFile{path: path, store: "1111111111111111"}, markFile{path: path, store: "2222222222222222"}
	if err := os.WriteFile(path, []byte("1111111111111111 000000000000000a\n"), 0o600); err != nil { // the form of one store
		t.Fatal(err)
	}
	want := func(m markFile, want string) {
		t.Helper()
		if got, err := m.Load(); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	want(before, "000000000000000a")
	want(after, "")
	for _, step := range []struct {
		m      markFile
		cursor string
	}{{after, "170-0.5"}, {before, "000000000000000b"}, {after, "171-0.5"}} {
		if err := step.m.Save(step.cursor); err != nil {
			t.Fatal(err)
		}
		want(step.m, step.cursor)
	}
	want(before, "000000000000000b")
	for i := range 20 {
		if err := (markFile{path: path, store: fmt.Sprintf("%016d", i)}).Save("1-1.0"); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || strings.Count(string(text), "\n") != maxMarks {
		t.Errorf("%q, %v", text, err)
	}
	want(before, "")
}
