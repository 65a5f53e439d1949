package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/store"
)

// Row 157: only a master that is away is waited for.
func TestRow157Away(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false,
		fmt.Errorf("opening: %w", envelope.ErrUnavailable): true,
		envelope.ErrRefused: false,
		envelope.ErrSealed:  false,
		errors.New("x"):     false,
		fmt.Errorf("%w: %w", envelope.ErrUnavailable, store.ErrUnavailable):         false,
		errors.Join(envelope.ErrUnavailable, fmt.Errorf("%w", envelope.ErrRefused)): false,
	} {
		if away(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// Row 157: it is tried again with growing pauses, also after a refusal, until it works, and then no more.
func TestRow157Waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waiting
		if w.reason() != nil {
			t.Error("it waits before it began")
		}
		var mu sync.Mutex // guards the next two
		began, tried := time.Now(), []time.Duration{}
		answer := error(envelope.ErrUnavailable)
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			answer = err
		}
		w.begin("this", answer, slog.New(slog.DiscardHandler), func() error {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, time.Since(began).Round(time.Second))
			return answer
		})
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(tried); got != "[1s 3s 7s 15s 30s 45s]" {
			t.Errorf("it was tried after %s", got)
		}
		set(envelope.ErrRefused)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if !errors.Is(w.reason(), envelope.ErrRefused) {
			t.Errorf("the reason is %v", w.reason())
		}
		set(nil)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		n := len(tried)
		time.Sleep(time.Hour)
		if w.reason() != nil || len(tried) != n {
			t.Errorf("it goes on trying: %v", w.reason())
		}
		ended := false
		w.end(func() { ended = true })
		if !ended {
			t.Error("what waits no more does not end")
		}
	})
}

// A config that ends is not held up by a KMS that hangs, and gives its things back when nobody uses them any more.
func TestRow157WaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w waiting
		var trying, ended atomic.Bool
		w.begin("this", envelope.ErrUnavailable, slog.New(slog.DiscardHandler), func() error {
			trying.Store(true)
			time.Sleep(5 * time.Second)
			trying.Store(false)
			return envelope.ErrUnavailable
		})
		time.Sleep(firstWait + time.Second)
		began := time.Now()
		w.end(func() { ended.Store(true) })
		if time.Since(began) > letGo || ended.Load() || !trying.Load() {
			t.Errorf("it took %s; ended: %v, while it is tried: %v", time.Since(began), ended.Load(), trying.Load())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !ended.Load() || trying.Load() {
			t.Error("it never ended")
		}
		var none waiting
		ended.Store(false)
		none.end(func() { ended.Store(true) })
		if !ended.Load() {
			t.Error("what never waited does not end")
		}
	})
}
