package redis_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// reseal walks to the end and returns the sums.
func reseal(t testing.TB, s store.Sealed, stale func([]byte) bool, dry bool) (seen, changed int) {
	t.Helper()
	cursor := ""
	for range 100_000 {
		next, a, b, err := s.Reseal(t.Context(), cursor, stale, dry)
		if err != nil {
			t.Fatalf("Reseal(%q): %v", cursor, err)
		}
		seen, changed = seen+a, changed+b
		if cursor = next; cursor == "" {
			return seen, changed
		}
	}
	t.Fatal("Reseal does not come to an end")
	return 0, 0
}

// filled is a store with something of everything in it, and what it is.
type filled struct {
	*redis.Store
	ring    *ring
	now     *clock
	cursors []string
}

const (
	someValues  = 230
	someEntries = 530
	someFiles   = 12
	someSealed  = someValues + someEntries + 2*someFiles + 1 // the probe
)

func fill(t *testing.T, c redis.Config) *filled {
	t.Helper()
	f := &filled{ring: newRing(), now: newClock()}
	c.Now, c.Sealer = f.now.now, f.ring
	f.Store = patient(t, c)
	for i := range someValues {
		expires := time.Time{}
		if i%2 == 0 {
			expires = f.now.in(time.Minute)
		}
		if err := f.Put(t.Context(), fmt.Sprint("value/", i), fmt.Append(nil, i), expires); err != nil {
			t.Fatal(err)
		}
	}
	for i := range someEntries {
		f.cursors = append(f.cursors, add(t, f.Store, fmt.Sprint(i), f.now.in(time.Hour)))
	}
	for i := range someFiles {
		if err := f.Files().Store(t.Context(), fmt.Sprintf("certificates/%d.key", i), fmt.Append(nil, "content ", i)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// whole checks that everything is there, as a node that opens the store now sees it.
func (f *filled) whole(t *testing.T, s *redis.Store, what string) {
	t.Helper()
	ctx := t.Context()
	items, err := s.List(ctx, "value/")
	if err != nil || len(items) != someValues {
		t.Fatalf("%s: List has %d values, %v", what, len(items), err)
	}
	for _, item := range items {
		if "value/"+string(item.Value) != item.Key {
			t.Fatalf("%s: %s is %q", what, item.Key, item.Value)
		}
	}
	for i := 0; i < someValues; i += 17 {
		if v, err := s.Get(ctx, fmt.Sprint("value/", i)); err != nil || string(v) != fmt.Sprint(i) {
			t.Errorf("%s: value %d is %q, %v", what, i, v, err)
		}
	}
	for i := 0; i < someEntries; i += 41 {
		got := strings.Fields(after(t, s, f.cursors[i]))
		if len(got) != someEntries-1-i || len(got) > 0 && got[0] != fmt.Sprint(i+1) {
			t.Fatalf("%s: after entry %d follow %d", what, i, len(got))
		}
	}
	if got := strings.Fields(after(t, s, "")); len(got) != someEntries {
		t.Fatalf("%s: the feed has %d entries", what, len(got))
	}
	if names, err := s.Files().List(ctx, "certificates", true); err != nil || len(names) != someFiles {
		t.Fatalf("%s: %d files, %v", what, len(names), err)
	}
	for i := range someFiles {
		if b, err := s.Files().Load(ctx, fmt.Sprintf("certificates/%d.key", i)); err != nil || string(b) != fmt.Sprint("content ", i) {
			t.Fatalf("%s: file %d is %q, %v", what, i, b, err)
		}
	}
}

// TestReseal: a key is condemned, everything is sealed anew, the key is destroyed. At no
// moment is anything away, a node that starts in the midst starts, and nothing lives longer.
func TestReseal(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c := config(t, server)
		f := fill(t, c)
		node := func() *redis.Store {
			c.Now, c.Sealer = f.now.now, f.ring
			return open(t, c)
		}
		if seen, changed := reseal(t, f, f.ring.stale, false); seen != someSealed || changed != 0 {
			t.Errorf("with one key: %d seen, %d changed; want %d, 0", seen, changed, someSealed)
		}
		f.ring.condemn()
		f.whole(t, f.Store, "while the key is condemned")
		if err := f.CompareAndSwap(t.Context(), "value/3", []byte("3"), []byte("3"), time.Time{}); err != nil {
			t.Errorf("a swap while the key is condemned: %v", err)
		}
		if err := f.Rewrite(t.Context(), "value/4", []byte("4"), []byte("4")); err != nil {
			t.Errorf("a rewrite while the key is condemned: %v", err)
		}
		f.whole(t, node(), "at a node that starts while the key is condemned") // it writes the probe anew
		const want = someSealed - 3
		for _, again := range []string{"once", "twice"} {
			if seen, changed := reseal(t, f, f.ring.stale, true); seen != someSealed || changed != want {
				t.Errorf("dry, %s: %d seen, %d changed; want %d, %d", again, seen, changed, someSealed, want)
			}
		}
		if seen, changed := reseal(t, f, f.ring.stale, false); seen != someSealed || changed != want {
			t.Errorf("%d seen, %d changed; want %d, %d", seen, changed, someSealed, want)
		}
		f.whole(t, f.Store, "sealed anew")
		if seen, changed := reseal(t, f, f.ring.stale, false); seen != someSealed || changed != 0 {
			t.Errorf("again: %d seen, %d changed; want %d, 0", seen, changed, someSealed)
		}
		f.ring.destroy()
		f.whole(t, f.Store, "the key destroyed")
		f.whole(t, node(), "at a node that starts without the key")
		last := f.cursors[len(f.cursors)-1]
		f.cursors = append(f.cursors, add(t, f.Store, "new", f.now.in(time.Hour)))
		if got := after(t, f.Store, last); got != "new" {
			t.Errorf("after the last entry: %q", got)
		}
		f.now.advance(time.Minute)
		if items, err := f.List(t.Context(), "value/"); err != nil || len(items) != someValues/2+1-1 {
			t.Errorf("after a minute %d values live, %v; want %d", len(items), err, someValues/2)
		}
		for _, name := range names(t, c) {
			if strings.HasSuffix(name, ":n") {
				t.Errorf("it left %s", name)
			}
		}
	})
}

// TestResealTimes: what Redis itself keeps of a value's end stays, or a value that expired
// would lie there for ever.
func TestResealTimes(t *testing.T) {
	server := redistest.Standalone(t)
	c := config(t, server)
	f := fill(t, c)
	ends := func() (all []string) {
		for _, name := range names(t, c) {
			if strings.Contains(name, ":k:") {
				all = append(all, name+" "+server.Do("PEXPIRETIME", name))
			}
		}
		return all
	}
	before := ends()
	f.ring.condemn()
	reseal(t, f, f.ring.stale, false)
	if after := ends(); !slices.Equal(before, after) {
		t.Errorf("the times to live changed:\n%v\n%v", before, after)
	}
}

// TestResealNewestRemoved: an administrator removed the newest entry. The greatest id that
// the feed ever gave moves along, or a later entry could get one that a cursor has passed.
func TestResealNewestRemoved(t *testing.T) {
	server := redistest.Standalone(t)
	c := config(t, server)
	f := fill(t, c)
	stream := c.Prefix + ":{feed}:s"
	server.Do("XDEL", stream, id(f.cursors[len(f.cursors)-1]))
	about := func() string {
		fields := strings.Fields(server.Do("XINFO", "STREAM", stream))
		return fmt.Sprint(fields[slices.Index(fields, "last-generated-id"):][:6])
	}
	before := about()
	f.ring.condemn()
	reseal(t, f, f.ring.stale, false)
	if after := about(); after != before {
		t.Errorf("the feed says %s; before %s", after, before)
	}
}

// TestResealSealerOfTwo: a sealer with Seal and Open alone serves too.
func TestResealSealerOfTwo(t *testing.T) {
	c := config(t, forms[0].shared(t))
	s := open(t, c)
	ctx := t.Context()
	if err := s.Put(ctx, "k", []byte("v"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	add(t, s, "entry", time.Time{})
	old := map[string]bool{}
	reseal(t, s, func(b []byte) bool { old[string(b)] = true; return true }, true)
	if seen, changed := reseal(t, s, func(b []byte) bool { return old[string(b)] }, false); seen != 3 || changed != 3 {
		t.Errorf("%d seen, %d changed; want 3, 3", seen, changed)
	}
	if v, err := s.Get(ctx, "k"); err != nil || string(v) != "v" {
		t.Errorf("the value is %q, %v", v, err)
	}
	if got := after(t, s, ""); got != "entry" {
		t.Errorf("the feed is %q", got)
	}
}

// TestResealForged: a value that names the condemned key and does not open stops it, with
// its name; what is not stale does not matter.
func TestResealForged(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		for what, forge := range map[string]func(c redis.Config, with string) (name string){
			"value": func(c redis.Config, with string) string {
				name := c.Prefix + ":k:" + strings.Repeat("ab", 32)
				raw(t, c).Set(t.Context(), name, with, 0)
				return name
			},
			"probe": func(c redis.Config, with string) string {
				raw(t, c).Set(t.Context(), c.Prefix+":probe", with, 0)
				return c.Prefix + ":probe"
			},
			"file": func(c redis.Config, with string) string {
				raw(t, c).HSet(t.Context(), c.Prefix+":{files}:i", strings.Repeat("ab", 32), with)
				return c.Prefix + ":{files}:f:" + strings.Repeat("ab", 32)
			},
			"entry": func(c redis.Config, with string) string {
				client := raw(t, c)
				return client.Do(t.Context(), "XADD", c.Prefix+":{feed}:s", "*", "v", with).Val().(string)
			},
		} {
			for _, with := range []string{"", "a", "aforged", "zforged"} {
				c, r := config(t, server), newRing()
				c.Sealer = r
				s := open(t, c)
				if err := s.Put(t.Context(), "k", []byte("v"), time.Time{}); err != nil {
					t.Fatal(err)
				}
				add(t, s, "entry", time.Time{})
				r.condemn()
				name := forge(c, with)
				stale := func(b []byte) bool { return len(b) > 0 && b[0] == 'a' }
				failed := error(nil)
				for cursor := ""; ; {
					next, _, _, err := s.Reseal(t.Context(), cursor, stale, false)
					if failed = err; err != nil || next == "" {
						break
					}
					cursor = next
				}
				if bad := strings.HasPrefix(with, "a"); bad && (failed == nil || !strings.Contains(failed.Error(), name)) || !bad && failed != nil {
					t.Errorf("%s %q: %v", what, with, failed)
				}
			}
		}
	})
}

func TestResealCursors(t *testing.T) {
	s := open(t, config(t, forms[0].shared(t)))
	for _, cursor := range []string{"x", ":", ":w1.-.-.-.1", "v:x", "p:1", "f:x", "s:1", "v:w1.-.-.-", "w1.-.-.-.1", " ", "\x00"} {
		_, _, _, err := s.Reseal(t.Context(), cursor, func([]byte) bool { return false }, false)
		is(t, err, store.ErrInvalid, fmt.Sprintf("Reseal(%q)", cursor))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, cursor := range []string{"", "p", "f", "s"} {
		_, _, _, err := s.Reseal(ctx, cursor, func([]byte) bool { return true }, false)
		is(t, err, store.ErrUnavailable, "with a context that is done")
	}
}
