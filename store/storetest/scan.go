package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// walk scans to the end and returns what came, each key with its last value.
func (f *fixture) walk(prefix string, limit int) map[string]string {
	f.Helper()
	return f.walkOn(func(cursor string) ([]store.Item, string, error) {
		return f.Scan(f.Context(), prefix, cursor, limit)
	})
}

func (f *fixture) walkOn(page func(cursor string) ([]store.Item, string, error)) map[string]string {
	f.Helper()
	all := map[string]string{}
	cursor := ""
	for range 100_000 {
		items, next, err := page(cursor)
		if err != nil {
			f.Fatalf("Scan(%q): %v", cursor, err)
		}
		for _, i := range items {
			all[i.Key] = string(i.Value)
		}
		if cursor = next; cursor == "" {
			return all
		}
	}
	f.Fatal("Scan does not come to an end")
	return nil
}

func scan(f *fixture) {
	if got := f.walk("", 0); len(got) != 0 {
		f.Fatalf("Scan of nothing = %v", got)
	}
	const many = 150
	for i := range many {
		f.put(fmt.Sprintf("p/%03d", i), fmt.Sprint(i), f.in(time.Hour))
		f.put(fmt.Sprintf("p/%03d gone", i), "x", f.in(time.Second))
		f.put(fmt.Sprintf("o/%03d", i), "no", time.Time{})
	}
	f.put("p", "no", time.Time{})
	f.put("p0", "no", time.Time{})
	f.append("not a key", time.Time{})
	f.clock.advance(time.Minute)
	for _, limit := range []int{-1, 0, 1, 7, many, 5000} {
		got := f.walk("p/", limit)
		for i := range many {
			if key := fmt.Sprintf("p/%03d", i); got[key] != fmt.Sprint(i) {
				f.Fatalf("limit %d: %s is %q", limit, key, got[key])
			}
		}
		if len(got) != many {
			f.Fatalf("limit %d: %d keys; want %d", limit, len(got), many)
		}
	}
	if got := f.walk("", 20); len(got) != 2*many+2 {
		f.Fatalf("everything is %d keys; want %d", len(got), 2*many+2)
	}
	if items, next, err := f.Scan(f.Context(), "", "", 10); err != nil || next == "" || len(items) > 100 {
		f.Fatalf("a page of 10 has %d items and goes on with %q, %v", len(items), next, err)
	}
	// Pages are bounded by bytes too, within what is read at a time.
	big := strings.Repeat("v", store.MaxValue)
	for i := range 6 {
		f.put(fmt.Sprint("big", i), big, time.Time{})
	}
	if got := f.walk("big", 0); len(got) != 6 || got["big5"] != big {
		f.Fatalf("big values: %d", len(got))
	}
	items, _, err := f.Scan(f.Context(), "p", "", 0)
	if err != nil || len(items) == 0 {
		f.Fatal(items, err)
	}
	key, value := items[0].Key, string(items[0].Value)
	clear(items[0].Value)
	f.want(key, value)
}

// scanRace: what lives throughout is never missed, while others come, go and change size,
// and while it is itself written. A record that a walk misses stays under a lost key.
func scanRace(f *fixture) {
	const lasting, writers = 300, 4
	for i := range lasting {
		f.put(fmt.Sprint("lasting ", i), "0", time.Time{})
	}
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("passing %d %d", w, i)
				err := f.Put(ctx, key, []byte("x"), time.Time{})
				if i >= 100 && i%200 < 150 { // the table grows and shrinks
					err = errors.Join(err, f.Delete(ctx, fmt.Sprintf("passing %d %d", w, i-100)))
				}
				last := fmt.Sprint("lasting ", (i*7+w)%lasting)
				err = errors.Join(err, f.Put(ctx, last, fmt.Append(nil, i), time.Time{}))
				if err != nil && ctx.Err() == nil {
					f.Error(err)
					return
				}
			}
		})
	}
	for round := range 8 {
		got := f.walk("", 10+round*10)
		missed := 0
		for i := range lasting {
			if _, ok := got[fmt.Sprint("lasting ", i)]; !ok {
				missed++
			}
		}
		if missed > 0 {
			f.Errorf("round %d missed %d of %d keys", round, missed, lasting)
		}
	}
	cancel()
	wg.Wait()
}

// scanOnNodes: a walk goes on at another node, as it does after a crash.
func scanOnNodes(f *fixture) {
	for i := range 200 {
		f.put(fmt.Sprint("k", i), fmt.Sprint(i), time.Time{})
	}
	nodes, n := f.nodes(), 0
	got := f.walkOn(func(cursor string) ([]store.Item, string, error) {
		n++
		return nodes[n%len(nodes)].Scan(f.Context(), "k", cursor, 9)
	})
	if len(got) != 200 || n < 5 {
		f.Fatalf("%d keys in %d pages; want 200", len(got), n)
	}
}

func scanCursors(f *fixture) {
	f.put("a", "1", time.Time{})
	for _, cursor := range []string{"x", "0", "-1", " ", "../a", "k", "k=", "k YQ", "kYQ\n", "kYR", strings.Repeat("k", 3000), "\x00",
		"w1", "w1....", "w1.-.-.-.01", "w1.-.-.-.-1", "w2.-.-.-.1", "w1.-.-.-.1.1", "w1.-.x.-.1", "w1.-.-.AB.1"} {
		_, _, err := f.Scan(f.Context(), "", cursor, 1)
		f.is(err, store.ErrInvalid, fmt.Sprintf("Scan(%.20q)", cursor))
	}
}

func rewrite(f *fixture) {
	ctx := f.Context()
	f.is(f.Rewrite(ctx, "a", nil, []byte("1")), store.ErrNotFound, "rewrite of an absent key")
	f.is(f.Rewrite(ctx, "a", []byte("0"), []byte("1")), store.ErrNotFound, "rewrite of an absent key")
	f.absent("a")
	f.put("a", "1", time.Time{})
	for _, old := range [][]byte{nil, {}, []byte("0"), []byte("11")} {
		f.is(f.Rewrite(ctx, "a", old, []byte("2")), store.ErrConflict, "rewrite of another value")
	}
	f.want("a", "1")
	old, new := []byte("1"), []byte("2")
	if err := f.Rewrite(ctx, "a", old, new); err != nil {
		f.Fatal(err)
	}
	clear(new)
	f.want("a", "2")
	for _, to := range []string{"2", "", "", "3"} { // to what it is, to nothing, and from nothing
		present, err := f.Get(ctx, "a")
		if err != nil {
			f.Fatal(err)
		}
		if err := f.Rewrite(ctx, "a", present, []byte(to)); err != nil {
			f.Fatal(err)
		}
		f.want("a", to)
	}
	f.put("b", "", time.Time{})
	if err := f.Rewrite(ctx, "b", nil, nil); err != nil {
		f.Fatal(err)
	}
	f.want("b", "")
	f.put("c", "1", f.in(time.Minute))
	f.clock.advance(time.Minute)
	f.is(f.Rewrite(ctx, "c", []byte("1"), []byte("2")), store.ErrNotFound, "rewrite of an expired key")
	f.absent("c")
	if err := f.CompareAndSwap(ctx, "c", nil, []byte("3"), time.Time{}); err != nil {
		f.Fatalf("creating over it: %v", err)
	}
}

// rewriteExpiry: to the nanosecond, also when it is done again and again.
func rewriteExpiry(f *fixture) {
	ctx := f.Context()
	end := f.in(time.Second).Add(7 * time.Nanosecond)
	f.put("short", "1", end)
	f.put("never", "1", time.Time{})
	f.put("far", "1", f.in(50*365*24*time.Hour))
	for i, old := 0, []byte("1"); i < 5; i++ {
		new := fmt.Append(nil, "value ", i)
		for _, key := range []string{"short", "never", "far"} {
			if err := f.Rewrite(ctx, key, old, new); err != nil {
				f.Fatal(err)
			}
		}
		f.clock.advance(100 * time.Millisecond)
		old = new
	}
	f.clock.advance(end.Sub(f.clock.now()) - time.Nanosecond)
	f.want("short", "value 4")
	f.clock.advance(time.Nanosecond)
	f.absent("short")
	f.is(f.Rewrite(ctx, "short", []byte("value 4"), []byte("again")), store.ErrNotFound, "rewrite after the end")
	f.clock.advance(49 * 365 * 24 * time.Hour)
	f.want("far", "value 4")
	f.clock.advance(2 * 365 * 24 * time.Hour)
	f.absent("far")
	f.want("never", "value 4")
}

func rewriteRace(f *fixture) {
	f.put("key", "old", f.in(time.Hour))
	var mu sync.Mutex
	var winner string
	parallel(50, func(i int) {
		value := fmt.Sprint("node ", i)
		var err error
		if i%2 == 0 {
			err = f.Rewrite(f.Context(), "key", []byte("old"), []byte(value))
		} else {
			err = f.CompareAndSwap(f.Context(), "key", []byte("old"), []byte(value), f.in(time.Hour))
		}
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil && winner != "":
			f.Errorf("%s and %s both wrote the key", winner, value)
		case err == nil:
			winner = value
		case !errors.Is(err, store.ErrConflict):
			f.Error(err)
		}
	})
	f.want("key", winner)
}

// rewriteTake: what was taken does not come back (attack row 163), and what was rewritten
// is taken as it is then.
func rewriteTake(f *fixture) {
	for round := range 30 {
		key := fmt.Sprint("code ", round)
		f.put(key, "one", f.in(time.Minute))
		var taken []byte
		var takeErr, rewriteErr error
		parallel(2, func(i int) {
			if i == 0 {
				taken, takeErr = f.Take(f.Context(), key)
			} else {
				rewriteErr = f.Rewrite(f.Context(), key, []byte("one"), []byte("two"))
			}
		})
		switch {
		case takeErr != nil:
			f.Fatal(takeErr)
		case rewriteErr == nil && string(taken) != "two", rewriteErr != nil && string(taken) != "one":
			f.Errorf("Take = %q, Rewrite = %v", taken, rewriteErr)
		case rewriteErr != nil && !errors.Is(rewriteErr, store.ErrNotFound):
			f.Errorf("Rewrite = %v", rewriteErr)
		}
		f.absent(key)
	}
}
