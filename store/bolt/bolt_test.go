package bolt_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
	"github.com/anteroom-proxy/anteroom/store/storetest"
)

func openStore(t *testing.T, path string, now func() time.Time) *bolt.Store {
	t.Helper()
	s, err := bolt.Open(bolt.Config{Path: path, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	clocks := map[store.Store]func() time.Time{}
	storetest.Run(t, storetest.Suite{
		Open: func(t *testing.T, now func() time.Time) store.Store {
			s := openStore(t, filepath.Join(t.TempDir(), "data", "anteroom.db"), now)
			clocks[s] = now
			return s
		},
		// The file is replaced by a new one, as somebody does who restores an old copy.
		Trim: func(t *testing.T, s store.Store) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return openStore(t, filepath.Join(t.TempDir(), "data", "anteroom.db"), clocks[s])
		},
	})
}

// TestReopen: what was there is there again, and cursors go on.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "store.db")
	ctx := t.Context()
	s := openStore(t, path, nil)
	if err := s.Put(ctx, "k", []byte("v"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	first, err := s.Append(ctx, []byte("one"), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for p, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", p, info.Mode(), err, mode)
		}
	}
	s = openStore(t, path, nil)
	if v, err := s.Get(ctx, "k"); err != nil || string(v) != "v" {
		t.Fatal(v, err)
	}
	if _, err := s.Append(ctx, []byte("two"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if e, err := s.After(ctx, first, 0); err != nil || len(e) != 1 || string(e[0].Value) != "two" {
		t.Fatal(e, err)
	}
}

// TestOpenErrors: each message names the file and says what to do.
func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole := filepath.Join(dir, "whole.db")
	s := openStore(t, whole, nil)
	for i := range 40 {
		if err := s.Put(t.Context(), fmt.Sprint(i), make([]byte, 10_000), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"garbage", write("garbage", bytes.Repeat([]byte("no store "), 10_000)), "damaged"},
		{"short garbage", write("short", []byte("x")), "damaged"},
		{"cut short", write("cut", data[:4*os.Getpagesize()]), "damaged"},
		{"a folder", dir, "not a regular file"},
		{"a file where a folder belongs", filepath.Join(whole, "store.db"), "making its folder"},
	} {
		s, err := bolt.Open(bolt.Config{Path: c.path})
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: no error", c.name)
		} else if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := bolt.Open(bolt.Config{}); err == nil {
		t.Error("no path: no error")
	}
}

// TestLooseMode: a file that others can read is narrowed, and the operator is told.
func TestLooseMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := openStore(t, path, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s, err := bolt.Open(bolt.Config{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if !strings.Contains(log.String(), path) {
		t.Errorf("the operator was told %q", log.String())
	}
}

// BenchmarkPut shows that writers share fsyncs: more of them cost less each.
func BenchmarkPut(b *testing.B) {
	s, err := bolt.Open(bolt.Config{Path: filepath.Join(b.TempDir(), "store.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for _, writers := range []int{1, 64} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			b.SetParallelism(writers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Put(b.Context(), "k", []byte("v"), time.Time{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// TestFileRemovedWhileOpen: somebody deletes or replaces the file of a running store. The open file still takes
// writes, but no restart will ever find them: what is acknowledged then is lost. So nothing is.
func TestFileRemovedWhileOpen(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(path string) error { return os.Rename(path+".other", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			if err := os.WriteFile(path+".other", []byte("another file"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, path, nil)
			if err := s.Put(t.Context(), "before", []byte("x"), time.Time{}); err != nil {
				t.Fatal(err)
			}
			if err := harm(path); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), "after", []byte("x"), time.Time{}); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a write was acknowledged: %v", err)
			}
			if _, err := s.Append(t.Context(), []byte("revoked"), time.Time{}); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("a feed entry was acknowledged: %v", err)
			}
			if _, err := s.Get(t.Context(), "before"); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("it still answers: %v", err)
			}
		})
	}
}
