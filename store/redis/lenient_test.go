package redis_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// Row 156: junk that names a condemned key, in every place where sealed bytes lie, holds up nobody who may pass over it: all that
// opens is sealed anew and read, and each piece is told by its name.
func TestRow156Lenient(t *testing.T) {
	c, r := config(t, redistest.Standalone(t)), newRing()
	c.Sealer = r
	s := open(t, c)
	for _, key := range []string{"one", "two"} {
		if err := s.Put(t.Context(), key, []byte("v"), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	add(t, s, "entry", time.Time{})
	if err := s.Files().Store(t.Context(), "a/b", []byte("content")); err != nil {
		t.Fatal(err)
	}
	r.condemn()
	client := raw(t, c)
	want := map[string]bool{}
	for _, letter := range []string{"a", "b", "z"} { // condemned, the present one, nobody's
		name := c.Prefix + ":k:" + strings.Repeat(letter+"0", 32)
		if letter == "z" {
			name = c.Prefix + ":k:" + strings.Repeat("c0", 32)
		}
		client.Set(t.Context(), name, letter+"junk", 0)
		want[name] = true
	}
	file := strings.Repeat("ab", 32)
	client.HSet(t.Context(), c.Prefix+":{files}:i", file, "ajunk")
	want[c.Prefix+":{files}:f:"+file] = true
	entry := client.Do(t.Context(), "XADD", c.Prefix+":{feed}:s", "*", "v", "ajunk").Val().(string)
	want[c.Prefix+":{feed}:s "+entry] = true

	told := map[string]bool{}
	pass := true
	ctx := s.Lenient(t.Context(), func(name string, sealed []byte, err error) bool {
		if (err == nil) != strings.HasPrefix(string(sealed), "b") || !strings.HasSuffix(string(sealed), "junk") {
			t.Errorf("%s: %q %v", name, sealed, err)
		}
		told[name] = true
		return pass
	})
	walk := func(ctx context.Context) error {
		for cursor := ""; ; {
			next, _, _, err := s.Reseal(ctx, cursor, func(b []byte) bool { return len(b) > 0 && b[0] == 'a' }, false)
			if err != nil || next == "" {
				return err
			}
			cursor = next
		}
	}
	scan := func(ctx context.Context) (keys int, err error) {
		for cursor := ""; ; {
			items, next, err := s.Scan(ctx, "", cursor, 100)
			if keys += len(items); err != nil || next == "" {
				return keys, err
			}
			cursor = next
		}
	}
	for range 2 {
		if err := walk(ctx); err != nil {
			t.Fatal(err)
		}
	}
	r.destroy()
	if n, err := scan(ctx); err != nil || n != 2 {
		t.Errorf("%d keys, %v", n, err)
	}
	for name := range want {
		if !told[name] {
			t.Errorf("nothing is said of %s", name)
		}
		delete(told, name)
	}
	if len(told) != 0 {
		t.Errorf("%v", told)
	}
	if b, err := s.Files().Load(t.Context(), "a/b"); err != nil || string(b) != "content" {
		t.Errorf("%q %v", b, err)
	}
	pass = false
	if _, err := scan(ctx); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("it was told not to pass: %v", err)
	}
	if _, err := scan(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("nobody may pass over anything otherwise: %v", err)
	}
	if _, err := s.List(ctx, ""); err == nil {
		t.Error("List passes over something")
	}
}
