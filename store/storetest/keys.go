package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

func getPut(f *fixture) {
	f.absent("a")
	f.put("a", "1", time.Time{})
	f.want("a", "1")
	f.put("a", "2", time.Time{})
	f.want("a", "2")
	f.put("empty", "", time.Time{})
	f.want("empty", "")
	if err := f.Put(f.Context(), "nil", nil, time.Time{}); err != nil {
		f.Fatal(err)
	}
	f.want("nil", "")
}

// copies: neither side may reach into the other's memory afterwards.
func copies(f *fixture) {
	mine := []byte("value")
	if err := f.Put(f.Context(), "a", mine, time.Time{}); err != nil {
		f.Fatal(err)
	}
	mine[0] = 'X'
	f.want("a", "value")
	got, err := f.Get(f.Context(), "a")
	if err != nil {
		f.Fatal(err)
	}
	got[0] = 'Y'
	f.want("a", "value")
	items, err := f.List(f.Context(), "")
	if err != nil || len(items) != 1 {
		f.Fatal(items, err)
	}
	items[0].Value[0] = 'Z'
	f.want("a", "value")
}

func remove(f *fixture) {
	if err := f.Delete(f.Context(), "never there"); err != nil {
		f.Fatal(err)
	}
	f.put("a", "1", time.Time{})
	f.put("b", "2", time.Time{})
	if err := f.Delete(f.Context(), "a"); err != nil {
		f.Fatal(err)
	}
	f.absent("a")
	f.want("b", "2")
}

func take(f *fixture) {
	_, err := f.Take(f.Context(), "a")
	f.is(err, store.ErrNotFound, "Take of an absent key")
	f.put("a", "1", f.in(time.Minute))
	got, err := f.Take(f.Context(), "a")
	if err != nil || string(got) != "1" {
		f.Fatalf("Take = %q, %v", got, err)
	}
	_, err = f.Take(f.Context(), "a")
	f.is(err, store.ErrNotFound, "second Take")
	f.absent("a")
	f.put("a", "2", f.in(time.Minute))
	f.clock.advance(time.Minute)
	_, err = f.Take(f.Context(), "a")
	f.is(err, store.ErrNotFound, "Take of an expired key")
	f.put("e", "", time.Time{})
	if got, err := f.Take(f.Context(), "e"); err != nil || got == nil || len(got) != 0 {
		f.Fatalf("Take of an empty value = %q, %v", got, err)
	}
}

// takeRace: 200 identical requests at one moment, one success (attack row 163). With
// two, a one-time code would open two sessions.
func takeRace(f *fixture) {
	for round := range 5 {
		key := fmt.Sprintf("code %d", round)
		f.put(key, "secret", f.in(time.Minute))
		var mu sync.Mutex
		winners := 0
		parallel(200, func(int) {
			got, err := f.Take(f.Context(), key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && string(got) == "secret":
				winners++
			case !errors.Is(err, store.ErrNotFound) || got != nil:
				f.Errorf("Take = %q, %v", got, err)
			}
		})
		if winners != 1 {
			f.Fatalf("round %d: %d callers got the value; want 1", round, winners)
		}
	}
}

func swap(f *fixture) {
	ctx := f.Context()
	f.is(f.CompareAndSwap(ctx, "a", []byte("1"), []byte("2"), time.Time{}), store.ErrConflict, "swap of an absent key")
	f.is(f.CompareAndSwap(ctx, "a", []byte{}, []byte("2"), time.Time{}), store.ErrConflict, "swap of an absent key with an empty old value")
	f.absent("a")
	if err := f.CompareAndSwap(ctx, "a", nil, []byte("1"), f.in(time.Minute)); err != nil {
		f.Fatal(err)
	}
	f.want("a", "1")
	f.is(f.CompareAndSwap(ctx, "a", nil, []byte("2"), time.Time{}), store.ErrConflict, "creating a key that is there")
	f.is(f.CompareAndSwap(ctx, "a", []byte("0"), []byte("2"), time.Time{}), store.ErrConflict, "swap with a wrong old value")
	f.want("a", "1")
	if err := f.CompareAndSwap(ctx, "a", []byte("1"), []byte{}, f.in(time.Minute)); err != nil {
		f.Fatal(err)
	}
	f.want("a", "")
	f.is(f.CompareAndSwap(ctx, "a", nil, []byte("2"), time.Time{}), store.ErrConflict, "creating over an empty value")
	if err := f.CompareAndSwap(ctx, "a", []byte{}, []byte("3"), f.in(time.Minute)); err != nil {
		f.Fatal(err)
	}
	f.clock.advance(time.Minute)
	f.is(f.CompareAndSwap(ctx, "a", []byte("3"), []byte("4"), time.Time{}), store.ErrConflict, "swap of an expired value")
	if err := f.CompareAndSwap(ctx, "a", nil, []byte("5"), time.Time{}); err != nil {
		f.Fatalf("creating over an expired value: %v", err)
	}
	f.want("a", "5")
}

// swapRace: two nodes that start at once must end with one signing key.
func swapRace(f *fixture) {
	var mu sync.Mutex
	var winner string
	parallel(50, func(i int) {
		value := fmt.Sprint("node ", i)
		err := f.CompareAndSwap(f.Context(), "key", nil, []byte(value), time.Time{})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil && winner != "":
			f.Errorf("%s and %s both created the key", winner, value)
		case err == nil:
			winner = value
		case !errors.Is(err, store.ErrConflict):
			f.Error(err)
		}
	})
	f.want("key", winner)
}

// swapCount: a counter raised by swaps loses nothing.
func swapCount(f *fixture) {
	f.put("n", "0", time.Time{})
	const workers, each = 8, 10
	parallel(workers, func(int) {
		for done := 0; done < each; {
			old, err := f.Get(f.Context(), "n")
			if err != nil {
				f.Error(err)
				return
			}
			var n int
			_, _ = fmt.Sscan(string(old), &n)
			err = f.CompareAndSwap(f.Context(), "n", old, fmt.Append(nil, n+1), time.Time{})
			switch {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrConflict):
				f.Error(err)
				return
			}
		}
	})
	f.want("n", fmt.Sprint(workers*each))
}

func expiry(f *fixture) {
	f.put("short", "1", f.in(time.Second))
	f.put("long", "2", f.in(time.Hour))
	f.put("never", "3", time.Time{})
	f.put("past", "4", f.in(-time.Second))
	f.put("ancient", "5", time.Unix(-1000, 0))
	f.put("now", "6", f.in(0))
	f.absent("past")
	f.absent("ancient")
	f.absent("now")
	f.clock.advance(time.Second - time.Millisecond)
	f.want("short", "1")
	f.clock.advance(time.Millisecond)
	f.absent("short")
	f.want("long", "2")
	f.clock.advance(time.Hour)
	f.absent("long")
	f.clock.advance(20 * 365 * 24 * time.Hour)
	f.want("never", "3")
	items, err := f.List(f.Context(), "")
	if err != nil || len(items) != 1 || items[0].Key != "never" {
		f.Fatalf("List = %v, %v; want the one that never expires", items, err)
	}
}

// extended: the last write decides, also when it takes the expiry away.
func extended(f *fixture) {
	f.put("a", "1", f.in(time.Second))
	f.put("a", "2", f.in(time.Hour))
	f.put("b", "1", f.in(time.Second))
	f.put("b", "2", time.Time{})
	f.put("c", "1", f.in(time.Hour))
	f.put("c", "2", f.in(time.Second))
	f.clock.advance(time.Minute)
	f.want("a", "2")
	f.want("b", "2")
	f.absent("c")
}

func list(f *fixture) {
	if items, err := f.List(f.Context(), "p/"); err != nil || len(items) != 0 {
		f.Fatalf("List of nothing = %v, %v", items, err)
	}
	f.put("p/b", "2", time.Time{})
	f.put("p/a", "1", f.in(time.Hour))
	f.put("p/gone", "x", f.in(time.Second))
	f.put("p", "no", time.Time{})
	f.put("p0", "no", time.Time{})
	f.put("o/z", "no", time.Time{})
	f.clock.advance(time.Minute)
	items, err := f.List(f.Context(), "p/")
	if err != nil {
		f.Fatal(err)
	}
	var got []string
	for _, i := range items {
		got = append(got, i.Key+"="+string(i.Value))
	}
	if s := strings.Join(got, " "); s != "p/a=1 p/b=2" {
		f.Fatalf("List = %s", s)
	}
	if items, err := f.List(f.Context(), "P/"); err != nil || len(items) != 0 {
		f.Fatalf("a prefix is case-sensitive; List = %v, %v", items, err)
	}
}
