package caddymodule

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSharedOpensOnceAndClosesLast: a reload takes its reference before the old config gives its own
// back, so the resource stays open; the last release closes it; a failed Provision may release twice.
func TestSharedOpensOnceAndClosesLast(t *testing.T) {
	opens, closes := 0, 0
	open := func() (int, func() error, error) {
		opens++
		return opens, func() error { closes++; return nil }, nil
	}
	old, err := take[int](t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if v, err := old.open(open); v != 1 || err != nil {
		t.Fatal(v, err)
	}
	next, err := take[int](t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if v, err := next.open(open); v != 1 || err != nil {
		t.Fatalf("the second config opened it again: %d %v", v, err)
	}
	for range 2 { // Cleanup runs also after a failed Provision
		if err := old.release(); err != nil || closes != 0 {
			t.Fatalf("closed under the new config: %d %v", closes, err)
		}
	}
	if err := next.release(); err != nil || closes != 1 {
		t.Fatalf("not closed by the last: %d %v", closes, err)
	}
}

// TestSharedFailedOpen: what could not be opened is tried again by the next config, and nothing is
// closed that never was open.
func TestSharedFailedOpen(t *testing.T) {
	broken := errors.New("broken")
	r, err := take[int](t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.open(func() (int, func() error, error) { return 0, nil, broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if v, err := r.open(func() (int, func() error, error) { return 7, func() error { return nil }, nil }); v != 7 || err != nil {
		t.Fatal(v, err)
	}
	if err := r.release(); err != nil {
		t.Fatal(err)
	}
	validated, err := take[int](t.Name() + "2")
	if err != nil {
		t.Fatal(err)
	}
	if err := validated.release(); err != nil {
		t.Fatalf("a config that was only validated: %v", err)
	}
}

// TestTakeOtherType: two kinds of resource under one key are an error, never a wrong pointer.
func TestTakeOtherType(t *testing.T) {
	r, err := take[int](t.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.release() }()
	if _, err := take[string](t.Name()); err == nil {
		t.Fatal("no error")
	}
}

// TestTenancy: resources go when the config is closed and the last request has left, once. A request that comes after that on a
// kept-alive connection gets in when the new config holds the very same ones, and gives them back again; otherwise it does not.
func TestTenancy(t *testing.T) {
	var g tenancy
	emptied, same := 0, true
	for range 2 {
		if !g.enter() {
			t.Fatal("the door is closed")
		}
	}
	g.close(func() { emptied++ }, func() bool { return same })
	g.close(func() { emptied += 100 }, nil)
	g.leave()
	if emptied != 0 {
		t.Fatal("closed while a request was inside")
	}
	g.leave()
	if emptied != 1 {
		t.Fatalf("emptied %d times", emptied)
	}
	if !g.enter() {
		t.Fatal("a late request is refused although everything is open")
	}
	g.leave()
	if emptied != 2 {
		t.Fatalf("the late request gave nothing back: %d", emptied)
	}
	same = false
	if g.enter() {
		t.Fatal("entered after everything was closed")
	}

	var busy tenancy
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if busy.enter() {
					busy.leave()
				}
			}
		})
	}
	busy.close(func() { close(done) }, func() bool { return false })
	wg.Wait()
	<-done
}

// TestReferenceAgain: a resource that another config keeps open can be taken again; one that was closed, or opened anew, cannot.
func TestReferenceAgain(t *testing.T) {
	closes := 0
	open := func() (int, func() error, error) { return 1, func() error { closes++; return nil }, nil }
	both := make([]reference[int], 2)
	for i := range both {
		var err error
		if both[i], err = take[int](t.Name()); err != nil {
			t.Fatal(err)
		}
		if _, err := both[i].open(open); err != nil {
			t.Fatal(err)
		}
	}
	old, next := &both[0], &both[1]
	release := func(r *reference[int]) {
		t.Helper()
		if err := r.release(); err != nil {
			t.Fatal(err)
		}
	}
	release(old)
	if !old.again() {
		t.Fatal("what the new config holds was not taken again")
	}
	release(next)
	if closes != 0 {
		t.Fatal("closed under the late request")
	}
	release(old)
	if closes != 1 || old.again() || next.again() {
		t.Fatalf("taken again after it was closed (%d)", closes)
	}
	anew, err := take[int](t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anew.open(open); err != nil {
		t.Fatal(err)
	}
	if old.again() {
		t.Fatal("another resource under the same key was taken for the old one")
	}
	release(&anew)
}

// TestStartup: a request that comes before everything is open waits for it, and not for ever: not when the
// client has gone, not when the config never starts.
func TestStartup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStartup()
		began := time.Now()
		s.wait(t.Context())
		if waited := time.Since(began); waited != startupWait {
			t.Errorf("it gave up after %s", waited)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		s.wait(gone)
		answered := make(chan time.Duration)
		go func() {
			began := time.Now()
			s.wait(t.Context())
			answered <- time.Since(began)
		}()
		time.Sleep(time.Second)
		s.reached()
		s.reached()
		if waited := <-answered; waited != time.Second {
			t.Errorf("it went on after %s", waited)
		}
		s.wait(gone) // at once, also for those who are late
	})
}
