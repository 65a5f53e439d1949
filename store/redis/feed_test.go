package redis_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

func add(t *testing.T, s *redis.Store, value string, expires time.Time) string {
	t.Helper()
	cursor, err := s.Append(t.Context(), []byte(value), expires)
	if err != nil {
		t.Fatal(err)
	}
	return cursor
}

func after(t *testing.T, s *redis.Store, cursor string) string {
	t.Helper()
	entries, err := s.After(t.Context(), cursor, 0)
	if err != nil {
		t.Fatalf("After(%q): %v", cursor, err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, string(e.Value))
	}
	return strings.Join(all, " ")
}

// TestRow165SetBack: somebody restores yesterday's files of Redis. Each follower is told
// so, also when others have appended since and the feed is as long as it was.
func TestRow165SetBack(t *testing.T) {
	server := redistest.Standalone(t)
	c := config(t, server)
	s := patient(t, c)
	seen := add(t, s, "before the copy", time.Time{})
	server.Stop()
	yesterday := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(yesterday, os.DirFS(server.Dir)); err != nil {
		t.Fatal(err)
	}
	server.Start()
	lost := add(t, s, "revoked since", time.Now().Add(time.Hour))
	if got := after(t, s, seen); got != "revoked since" {
		t.Fatalf("before it is set back: %q", got)
	}
	server.Stop()
	if err := filepath.WalkDir(server.Dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(path, "appendonly") {
			err = os.Remove(path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	restore(t, yesterday, server.Dir)
	server.Start()
	for _, more := range []string{"", "one", "two", "three"} {
		if more != "" {
			add(t, s, more, time.Time{})
		}
		_, err := s.After(t.Context(), lost, 0)
		is(t, err, store.ErrNotFound, "the cursor of a lost entry, after "+more)
	}
	if got := after(t, s, ""); got != "before the copy one two three" {
		t.Errorf("from the beginning: %q", got)
	}
	if got := after(t, s, seen); got != "one two three" {
		t.Errorf("a cursor that is in the copy too: %q", got)
	}
}

// restore copies the append-only files back.
func restore(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.Contains(path, "appendonly") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, strings.TrimPrefix(path, from)), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRow165FeedDeleted: the feed is gone as a whole. Also a cursor whose entry has
// expired notices it: the newest entry is never swept.
func TestRow165FeedDeleted(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, now := config(t, server), newClock()
		c.Now = now.now
		s := patient(t, c)
		cursor := add(t, s, "short", now.in(time.Second))
		now.advance(48 * time.Hour)
		if got := after(t, s, cursor); got != "" {
			t.Fatalf("before: %q", got)
		}
		server.Do("DEL", c.Prefix+":{feed}:s")
		_, err := s.After(t.Context(), cursor, 0)
		is(t, err, store.ErrNotFound, "After with the feed gone")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := s.Wait(ctx, cursor); err != nil {
			t.Errorf("Wait with the feed gone: %v", err)
		}
	})
}

// TestSweep: what expired an hour ago and more is removed, the rest stays, and so does
// the newest entry. A cursor whose entry was swept goes on; one whose entry should still
// be there does not.
func TestSweep(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, now := config(t, server), newClock()
		c.Now = now.now
		s := patient(t, c)
		forever := add(t, s, "forever", time.Time{})
		var swept string
		for i := range 700 {
			swept = add(t, s, fmt.Sprint(i), now.in(time.Minute))
		}
		long := add(t, s, "long", now.in(24*time.Hour))
		now.advance(2 * time.Hour)
		for i := range 32 { // one of them begins a sweep
			add(t, s, fmt.Sprint("late", i), now.in(time.Minute))
		}
		if err := s.Close(); err != nil { // waits for it
			t.Fatal(err)
		}
		if n := server.Do("XLEN", c.Prefix+":{feed}:s"); n != "34" {
			t.Errorf("%s entries are left; want 34", n)
		}
		s = patient(t, c)
		for _, cursor := range []string{forever, swept} {
			if got := after(t, s, cursor); !strings.HasPrefix(got, "long late0 ") || !strings.HasSuffix(got, " late31") {
				t.Errorf("after a cursor: %.60q", got)
			}
		}
		server.Do("XDEL", c.Prefix+":{feed}:s", id(long))
		_, err := s.After(t.Context(), long, 0)
		is(t, err, store.ErrNotFound, "the cursor of an entry that is gone before its time")
		now.advance(48 * time.Hour)
		for range 64 {
			add(t, s, "x", now.in(time.Second))
		}
		now.advance(48 * time.Hour)
		last := ""
		for range 32 {
			last = add(t, s, "y", now.in(-time.Hour))
		}
		now.advance(48 * time.Hour)
		if got := after(t, s, last); got != "" {
			t.Errorf("after the newest: %q", got)
		}
		if got := after(t, s, ""); got != "forever" {
			t.Errorf("from the beginning: %q", got)
		}
	})
}

// id is the id in the stream of a cursor's entry.
func id(cursor string) string {
	before, _, _ := strings.Cut(cursor, ".")
	return before
}

// TestTime: the store's clock is the server's, not ours.
func TestTime(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, now := config(t, server), newClock()
		c.Now = now.now
		s := patient(t, c)
		at, err := s.Time(t.Context())
		if d := time.Since(at); err != nil || d < -time.Minute || d > time.Minute {
			t.Errorf("the server's time is %v, %v", at, err)
		}
	})
}
