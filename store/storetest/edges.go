package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// oddKeys: keys are bytes (attack row 166). None of these may touch another one.
func oddKeys(f *fixture) {
	keys := []string{
		"a", "A", "a\x00", "a\x00b", "\x00", "\x00\x00", "a/b", "a//b", "a/../b", "/", " ", "a ",
		"a\r\nDEL b", "a:b", "a*", "a?", "a[b]", "{a}", "é", "e\u0301", "日本語", "\xff", "\xff\xff", "\xfe",
		"../../etc/passwd", "%00", `"`, `\`, strings.Repeat("k", store.MaxKey), strings.Repeat("k", store.MaxKey-1),
	}
	for i, k := range keys {
		f.put(k, fmt.Sprint(i), time.Time{})
	}
	for i, k := range keys {
		f.want(k, fmt.Sprint(i))
	}
	items, err := f.List(f.Context(), "")
	if err != nil || len(items) != len(keys) {
		f.Fatalf("List has %d keys, %v; want %d", len(items), err, len(keys))
	}
	for i := 1; i < len(items); i++ {
		if items[i-1].Key >= items[i].Key {
			f.Fatalf("List is not sorted: %q before %q", items[i-1].Key, items[i].Key)
		}
	}
	for _, prefix := range []string{"\xff", "a\x00", "a*", "\x00"} {
		items, err := f.List(f.Context(), prefix)
		if err != nil {
			f.Fatal(err)
		}
		want := 0
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) {
				want++
			}
		}
		if len(items) != want {
			f.Errorf("List(%q) has %d keys; want %d", prefix, len(items), want)
		}
	}
	if got := f.walk("", 7); len(got) != len(keys) {
		f.Errorf("Scan has %d keys; want %d", len(got), len(keys))
	}
	for i, k := range keys {
		if err := f.Rewrite(f.Context(), k, fmt.Append(nil, i), fmt.Append(nil, i)); err != nil {
			f.Fatalf("Rewrite(%.40q): %v", k, err)
		}
		got, err := f.Take(f.Context(), k)
		if err != nil || string(got) != fmt.Sprint(i) {
			f.Fatalf("Take(%.40q) = %q, %v", k, got, err)
		}
	}
}

func limits(f *fixture) {
	ctx := f.Context()
	big := bytes.Repeat([]byte("v"), store.MaxValue)
	if err := f.Put(ctx, "big", big, time.Time{}); err != nil {
		f.Fatalf("a value of exactly MaxValue: %v", err)
	}
	f.want("big", string(big))
	longest := strings.Repeat("k", store.MaxKey)
	f.put(longest, "at the end of its tether", time.Time{})
	f.want(longest, "at the end of its tether")
	if _, err := f.Append(ctx, big, time.Time{}); err != nil {
		f.Fatalf("an entry of exactly MaxValue: %v", err)
	}
	over := append(big, 'v')
	long := strings.Repeat("k", store.MaxKey+1)
	_, getErr := f.Get(ctx, long)
	_, takeErr := f.Take(ctx, "")
	_, appendErr := f.Append(ctx, over, time.Time{})
	for doing, err := range map[string]error{
		"Put of a value that is too long":     f.Put(ctx, "a", over, time.Time{}),
		"rewrite to a value that is too long": f.Rewrite(ctx, "a", nil, over),
		"rewrite of an empty key":             f.Rewrite(ctx, "", nil, nil),
		"swap to a value that is too long":    f.CompareAndSwap(ctx, "a", nil, over, time.Time{}),
		"Append of a value that is too long":  appendErr,
		"Put under an empty key":              f.Put(ctx, "", nil, time.Time{}),
		"Put under a key that is too long":    f.Put(ctx, long, nil, time.Time{}),
		"Get of a key that is too long":       getErr,
		"Take of an empty key":                takeErr,
		"Delete of a key that is too long":    f.Delete(ctx, long),
		"swap of an empty key":                f.CompareAndSwap(ctx, "", nil, nil, time.Time{}),
	} {
		f.is(err, store.ErrInvalid, doing)
		if strings.Contains(err.Error(), "kkkk") || strings.Contains(err.Error(), "vvvv") {
			f.Errorf("%s: the error repeats what it was given", doing)
		}
	}
	f.absent("a")
}

// doneContext: a context that is done changes nothing, and the error says so.
func doneContext(f *fixture) {
	f.put("a", "1", time.Time{})
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	_, getErr := f.Get(ctx, "a")
	_, takeErr := f.Take(ctx, "a")
	_, listErr := f.List(ctx, "")
	_, _, scanErr := f.Scan(ctx, "", "", 1)
	_, appendErr := f.Append(ctx, nil, time.Time{})
	_, afterErr := f.After(ctx, "", 1)
	for doing, err := range map[string]error{
		"Get": getErr, "Take": takeErr, "List": listErr, "Scan": scanErr, "Append": appendErr, "After": afterErr,
		"Put":            f.Put(ctx, "a", []byte("2"), time.Time{}),
		"CompareAndSwap": f.CompareAndSwap(ctx, "a", []byte("1"), []byte("2"), time.Time{}),
		"Rewrite":        f.Rewrite(ctx, "a", []byte("1"), []byte("2")),
		"Delete":         f.Delete(ctx, "a"),
	} {
		f.is(err, context.Canceled, doing)
		f.is(err, store.ErrUnavailable, doing)
	}
	f.want("a", "1")
	if got, _ := f.after("", 0); len(got) != 0 {
		f.Fatalf("the feed has %q", got)
	}
}

// cancelled: contexts end while calls are under way. Each call says so or has happened,
// what it wrote is there whole or not at all, and the store is as good as before.
func cancelled(f *fixture) {
	whole := strings.Repeat("v", 10_000)
	parallel(60, func(i int) {
		ctx, cancel := context.WithCancel(f.Context())
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			for range i * 50 { // a little later each time
				runtime.Gosched()
			}
			cancel()
		})
		key := fmt.Sprint("k", i)
		_, appendErr := f.Append(ctx, []byte(key), time.Time{})
		for doing, err := range map[string]error{
			"Put":    f.Put(ctx, key, []byte(whole), time.Time{}),
			"Append": appendErr,
			"Wait":   f.Wait(ctx, ""),
		} {
			if err != nil && (!errors.Is(err, context.Canceled) || doing != "Wait" && !errors.Is(err, store.ErrUnavailable)) {
				f.Errorf("%s with a context that ended: %v", doing, err)
			}
		}
		wg.Wait()
	})
	for i := range 60 {
		key := fmt.Sprint("k", i)
		if v, err := f.Get(f.Context(), key); err == nil && string(v) != whole || err != nil && !errors.Is(err, store.ErrNotFound) {
			f.Errorf("%s is %d bytes, %v", key, len(v), err)
		}
		f.put(key, "after", time.Time{})
	}
	seen := map[string]bool{}
	values, _ := f.after("", 0)
	for _, v := range values {
		if seen[v] {
			f.Errorf("the entry %s is there twice", v)
		}
		seen[v] = true
	}
}

// closed: after Close everything is ErrUnavailable, and calls that race with Close end.
func closed(f *fixture) {
	f.put("a", "1", time.Time{})
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := f.Put(f.Context(), fmt.Sprint("k", i), nil, time.Time{})
			if err != nil && !errors.Is(err, store.ErrUnavailable) {
				f.Errorf("Put while closing: %v", err)
			}
		})
	}
	if err := f.Close(); err != nil {
		f.Fatal(err)
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		f.Fatalf("second Close: %v", err)
	}
	ctx := f.Context()
	_, getErr := f.Get(ctx, "a")
	_, takeErr := f.Take(ctx, "a")
	_, listErr := f.List(ctx, "")
	_, _, scanErr := f.Scan(ctx, "", "", 1)
	_, appendErr := f.Append(ctx, nil, time.Time{})
	_, afterErr := f.After(ctx, "", 1)
	for doing, err := range map[string]error{
		"Get": getErr, "Take": takeErr, "List": listErr, "Scan": scanErr, "Append": appendErr, "After": afterErr,
		"Put":            f.Put(ctx, "a", nil, time.Time{}),
		"CompareAndSwap": f.CompareAndSwap(ctx, "a", nil, nil, time.Time{}),
		"Rewrite":        f.Rewrite(ctx, "a", []byte("1"), []byte("2")),
		"Delete":         f.Delete(ctx, "a"),
	} {
		f.is(err, store.ErrUnavailable, doing)
	}
}
