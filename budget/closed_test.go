package budget

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A value that was written lately costs no call; a new one costs two.
func TestCalls(t *testing.T) {
	r := newRig(t)
	b := r.node()
	r.count(b, dana, "1", sixty, time.Time{})
	if n := r.store.calls.Swap(0); n != 2 {
		t.Errorf("a new value costs %d calls", n)
	}
	for range 100 {
		r.count(b, dana, "1", sixty, time.Time{})
	}
	if n := r.store.calls.Swap(0); n != 0 {
		t.Errorf("known values cost %d calls", n)
	}
	r.clock.add(time.Minute)
	r.count(b, dana, "1", sixty, time.Time{})
	if n := r.store.calls.Swap(0); n != 2 {
		t.Errorf("a value that is written again costs %d calls", n)
	}
	l := Limit{Max: 1, Per: time.Hour}
	k := Key{"line9", "app.test", "idp/1"}
	r.count(b, k, "1", l, time.Time{})
	r.count(b, k, "2", l, time.Time{})
	r.store.calls.Store(0)
	for i := range 100 {
		if got := r.count(b, k, fmt.Sprint("x", i), l, time.Time{}); got.Admitted {
			t.Fatal("admitted")
		}
	}
	if n := r.store.calls.Load(); n != 0 {
		t.Errorf("a flood above the limit costs %d calls within a second", n)
	}
}

// Invariant 1: a store that is silent, a record that was changed or moved to another key: refused.
func TestFailsClosed(t *testing.T) {
	r := newRig(t)
	b := r.node()
	ctx := context.Background()
	r.count(b, dana, "1", sixty, time.Time{})
	r.store.fail.Store(true)
	if got, err := b.Count(ctx, dana, "2", sixty, time.Time{}); got.Admitted || !errors.Is(err, ErrUnavailable) {
		t.Errorf("a silent store: %+v %v", got, err)
	}
	if got, err := b.Count(ctx, dana, "1", sixty, time.Time{}); !got.Admitted || err != nil {
		t.Errorf("a value known lately needs the store: %+v %v", got, err)
	}
	r.store.fail.Store(false)
	if got := r.count(b, dana, "2", sixty, time.Time{}); !got.Admitted {
		t.Errorf("after it came back: %+v", got)
	}
	sealed, err := r.store.Get(ctx, storeKey(dana))
	if err != nil {
		t.Fatal(err)
	}
	erin := Key{dana.ID, dana.Site, "idp/2"}
	if err := r.store.Put(ctx, storeKey(erin), sealed, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Count(ctx, erin, "2", sixty, time.Time{}); got.Admitted || !errors.Is(err, ErrUnavailable) {
		t.Errorf("a moved record: %+v %v", got, err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if got, err := b.Count(done, dana, "3", sixty, time.Time{}); got.Admitted || !errors.Is(err, ErrUnavailable) {
		t.Errorf("a request that is gone: %+v %v", got, err)
	}
}

// No value, account or site can be read in the store, nor in a record that somebody opened; two records name one value
// differently.
func TestValuesAreHidden(t *testing.T) {
	r := newRig(t)
	b := r.node()
	ctx := context.Background()
	r.count(b, dana, "patient-4711", sixty, time.Time{})
	items, err := r.store.List(ctx, "anteroom/budget/")
	if err != nil || len(items) != 1 {
		t.Fatal(items, err)
	}
	plain, err := r.sealer.Open(ctx, items[0].Key, items[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"4711", "idp/1", "app.test"} {
		if bytes.Contains(plain, []byte(secret)) || bytes.Contains(items[0].Value, []byte(secret)) || strings.Contains(items[0].Key, secret) {
			t.Errorf("%s can be read", secret)
		}
	}
	if one, two := newWindow(), newWindow(); one.hash("7") == two.hash("7") {
		t.Error("windows have no salt of their own")
	}
}

// Memory and records are bounded.
func TestBounds(t *testing.T) {
	r := newRig(t)
	b := r.node()
	l := Limit{Max: MaxLimit, Per: time.Hour}
	w := newWindow()
	for i := range MaxLimit + 10 {
		w.count(fmt.Sprint(i), l, r.clock.now(), time.Time{})
	}
	if n := len(w.encode()); n > 66<<10 {
		t.Errorf("a record has %d bytes", n)
	}
	again, err := decodeWindow(w.encode())
	if err != nil || len(again.seen) != MaxLimit || again.seen[7] != w.seen[7] || again.salt != w.salt {
		t.Errorf("decoding: %v", err)
	}
	for i := range 3 * maxKnown {
		b.known.put(b.name(fmt.Sprint(i)), known{})
	}
	if n := b.known.size(); n > maxKnown+shards {
		t.Errorf("%d values in memory", n)
	}
	if len(b.queue.turns) != 0 {
		t.Error("turns are left")
	}
}

// Whatever bytes lie in the store, decoding ends in an error or in a window that encodes to the same.
func FuzzWindow(f *testing.F) {
	w := newWindow()
	w.count("7", sixty, time.Unix(1, 0), time.Time{})
	f.Add(w.encode())
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, headLen+entryLen+1))
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := decodeWindow(b)
		if err == nil && !bytes.Equal(w.encode(), b) {
			t.Error("another form")
		}
	})
}

func BenchmarkKnown(b *testing.B) {
	budget := &Budget{known: newRecent[known](maxKnown), full: newRecent[full](maxFull), now: time.Now, store: &counted{}}
	now := time.Now()
	budget.known.put(budget.name(dana.ID, dana.Site, dana.Account, "7"), known{now.UnixMilli(), 1})
	budget.now = func() time.Time { return now }
	b.ReportAllocs()
	for b.Loop() {
		if r, err := budget.Count(context.Background(), dana, "7", sixty, time.Time{}); err != nil || !r.Admitted {
			b.Fatal(r, err)
		}
	}
}
