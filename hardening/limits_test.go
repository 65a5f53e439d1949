package hardening

import (
	"context"
	"errors"
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
