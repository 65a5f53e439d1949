package hardening

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newLimits(t *testing.T, rate, burst int) (*Limits, *clock) {
	t.Helper()
	c := newClock()
	l, err := NewLimits(rate, burst, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return l, c
}

func wantDelay(t *testing.T, err error, want time.Duration) {
	t.Helper()
	var d delayError
	if !errors.Is(err, ErrLimited) || !errors.As(err, &d) || d.after.Round(time.Millisecond) != want {
		t.Errorf("%v, again after %v; want %v", err, d.after, want)
	}
}

// TestOriginalFormHasABucketOfItsOwn: the original form needs no credential. A single request for 100,000 rounds leaves a
// debt of minutes, which must not be that of the callers who have one.
func TestOriginalFormHasABucketOfItsOwn(t *testing.T) {
	w := newWorld(t, nil)
	if rec := w.do("GET", "/hmac-service?a&100000", ""); rec.Code != 200 {
		t.Fatal(rec.Code, rec.Body)
	}
	wantProblem(t, w, w.do("GET", "/hmac-service?a", ""), 429, "too-many", "limit")
	if rec := w.post("protect", items(1)); rec.Code != 200 {
		t.Errorf("a request without credential locked the callers out: %d %s", rec.Code, rec.Body)
	}
	if err := w.cfg.Limits.spend(8191); err != nil {
		t.Error(err)
	}
	wantProblem(t, w, w.post("protect", items(1)), 429, "too-many", "limit")
}

func TestUnits(t *testing.T) {
	l, c := newLimits(t, 200, 1000)
	for range 10 {
		if err := l.spend(100); err != nil {
			t.Fatal(err)
		}
	}
	wantDelay(t, l.spend(1), 5*time.Millisecond)
	c.add(500 * time.Millisecond)
	wantDelay(t, l.spend(101), 5*time.Millisecond)
	if err := l.spend(100); err != nil {
		t.Fatal(err)
	}
	// More than the burst: a full bucket, and a debt after it.
	wantDelay(t, l.spend(5000), 5*time.Second)
	c.add(time.Hour)
	if err := l.spend(5000); err != nil {
		t.Fatal(err)
	}
	wantDelay(t, l.spend(1), 20*time.Second+5*time.Millisecond)
	c.add(-time.Hour) // a clock that goes back gives nothing
	if err := l.spend(1); err == nil {
		t.Error("a clock that went back filled the bucket")
	}
	// A reload changes the numbers; what was spent stays spent.
	if err := l.Set(1, 10); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour + 4011*time.Second)
	if err := l.spend(10); err != nil {
		t.Error(err)
	}
	for _, bad := range [][2]int{{0, 1}, {1, 0}, {-1, 1}, {1e9, 1}, {1, 1e9}} {
		if err := l.Set(bad[0], bad[1]); err == nil {
			t.Errorf("%v accepted", bad)
		}
		if _, err := NewLimits(bad[0], bad[1], nil); err == nil {
			t.Errorf("%v accepted", bad)
		}
	}
}

// TestFailures: ten free, then doubling pauses up to 15 minutes, then one try a day; a success ends it.
func TestFailures(t *testing.T) {
	l, c := newLimits(t, 1, 1)
	uid, other := uidKey{1}, uidKey{2}
	fail := func() {
		t.Helper()
		if err := l.begin(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
		l.end(uid, wrong)
	}
	for range 9 {
		fail()
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
		fail()
		want *= time.Second
		wantDelay(t, l.begin(t.Context(), uid), want)
		c.add(want - time.Second)
		wantDelay(t, l.begin(t.Context(), uid), time.Second)
		c.add(time.Second)
		if i == 3 { // an evaluation that did not happen neither counts nor forgives
			if err := l.begin(t.Context(), uid); err != nil {
				t.Fatal(err)
			}
			l.end(uid, notTried)
		}
	}
	for range hardStop - 10 - 12 {
		fail()
		c.add(longDelay)
	}
	fail()
	wantDelay(t, l.begin(t.Context(), uid), 24*time.Hour)
	if err := l.begin(t.Context(), other); err != nil {
		t.Error("another uid is stopped too")
	}
	l.end(other, right)
	c.add(24 * time.Hour)
	if err := l.begin(t.Context(), uid); err != nil {
		t.Fatal("locked out for good:", err)
	}
	l.end(uid, right)
	fail()
	if err := l.begin(t.Context(), uid); err != nil {
		t.Error("the success did not forgive")
	}
	l.end(uid, notTried)
	if len(l.failures) != 1 {
		t.Errorf("%d entries are kept", len(l.failures))
	}
}

// TestParallelGuesses: a hundred guesses at once are no more than a hundred in a row: ten are evaluated. Right secrets in
// parallel are all answered.
func TestParallelGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := NewLimits(1, 1, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		var evaluated, stopped atomic.Int32
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if l.begin(t.Context(), uidKey{1}) != nil {
					stopped.Add(1)
					return
				}
				<-time.After(time.Second)
				evaluated.Add(1)
				l.end(uidKey{1}, wrong)
			})
		}
		wg.Wait()
		if evaluated.Load() != freeFailures || stopped.Load() != 100-freeFailures {
			t.Errorf("%d evaluated, %d stopped", evaluated.Load(), stopped.Load())
		}
		evaluated.Store(0)
		for range 100 {
			wg.Go(func() {
				if err := l.begin(t.Context(), uidKey{2}); err != nil {
					t.Error(err)
					return
				}
				evaluated.Add(1)
				l.end(uidKey{2}, right)
			})
		}
		wg.Wait()
		if evaluated.Load() != 100 {
			t.Errorf("%d of 100 right secrets were answered", evaluated.Load())
		}
		for range freeFailures {
			if err := l.begin(t.Context(), uidKey{3}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.begin(ctx, uidKey{3}); !errors.Is(err, ErrBusy) {
			t.Errorf("after waiting: %v", err)
		}
	})
}

// TestFailureTableIsBounded: somebody fails with uids of his own making until the table is full.
func TestFailureTableIsBounded(t *testing.T) {
	l, c := newLimits(t, 1, 1)
	key := func(i int) uidKey { return uidKey{byte(i), byte(i >> 8), byte(i >> 16), 1} }
	victim := uidKey{0xff}
	for range 40 {
		if err := l.begin(t.Context(), victim); err == nil {
			l.end(victim, wrong)
		}
		c.add(longDelay)
	}
	l.failures[victim].until = c.Now().Add(longDelay)
	for i := range maxUIDs {
		l.failures[key(i)] = &failures{count: freeFailures, until: c.Now().Add(time.Minute), done: make(chan struct{})}
	}
	if err := l.begin(t.Context(), uidKey{0xfe}); err != nil {
		t.Fatal(err)
	}
	l.end(uidKey{0xfe}, wrong)
	if len(l.failures) > maxUIDs+1 {
		t.Errorf("%d entries", len(l.failures))
	}
	if l.begin(t.Context(), victim) == nil {
		t.Error("the longest delay was dropped first")
	}
	c.add(2 * time.Minute)
	for i := range maxUIDs {
		l.failures[key(i)] = &failures{count: freeFailures, until: c.Now(), done: make(chan struct{})}
	}
	if err := l.begin(t.Context(), uidKey{0xfd}); err != nil || len(l.failures) > 3 {
		t.Errorf("%d entries whose delay is over are kept, %v", len(l.failures), err)
	}
}

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2, 1)
		for range 2 {
			if err := s.take(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got := make(chan error)
		go func() { got <- s.take(t.Context()) }()
		synctest.Wait()
		if err := s.take(t.Context()); !errors.Is(err, ErrBusy) {
			t.Errorf("with a full queue: %v", err)
		}
		s.give()
		if err := <-got; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.take(ctx); !errors.Is(err, ErrBusy) {
			t.Errorf("after waiting: %v", err)
		}
	})
}
