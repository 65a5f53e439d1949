// Package storetest is the suite that every store.Store passes. An implementation
// calls Run from a test of its own with a Suite that says how to make an empty store;
// the store must judge expiry by the clock it is given, because the suite moves it, and
// lives in another year than the machine.
//
// What the suite cannot see from outside, durability across a killed process or a
// restarted server, is tested by each implementation.
package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// Suite says how to make stores. What it makes registers its own clean-up with t; the
// suite closes some stores itself.
type Suite struct {
	// Open makes an empty store.
	Open func(t *testing.T, now func() time.Time) store.Store
	// Join makes one more store on the data of the last one that Open made, as another
	// node would. Nil: the data belong to one process.
	Join func(t *testing.T, now func() time.Time) store.Store
	// Trim loses all entries of the feed behind the store's back, as a restored backup or
	// an administrator does, and returns the store to go on with, s or one in its place.
	// Nil: not tested.
	Trim func(t *testing.T, s store.Store) store.Store
}

// Run tests the suite's stores, each in a subtest with a fresh one.
func Run(t *testing.T, suite Suite) {
	type test struct {
		name string
		test func(*fixture)
	}
	tests := []test{
		{"get and put", getPut},
		{"values are copies", copies},
		{"delete", remove},
		{"take", take},
		{"row 163 take has one winner", takeRace},
		{"compare and swap", swap},
		{"compare and swap has one winner", swapRace},
		{"compare and swap counts", swapCount},
		{"expiry", expiry},
		{"expiry extended", extended},
		{"list", list},
		{"row 166 odd keys", oddKeys},
		{"scan", scan},
		{"scan misses nothing", scanRace},
		{"scan cursors", scanCursors},
		{"rewrite", rewrite},
		{"rewrite keeps the expiry", rewriteExpiry},
		{"rewrite has one winner", rewriteRace},
		{"rewrite and take", rewriteTake},
		{"limits", limits},
		{"feed order", feedOrder},
		{"feed resume", feedResume},
		{"feed expiry", feedExpiry},
		{"feed cursors", feedCursors},
		{"feed many writers", feedRace},
		{"wait at once", waitAtOnce},
		{"wait wakes", waitWakes},
		{"wait ends", waitEnds},
		{"wait and close", waitClosed},
		{"feed trimmed", feedTrimmed},
		{"done context", doneContext},
		{"cancelled in the midst", cancelled},
		{"closed", closed},
	}
	if suite.Join != nil {
		tests = append(tests, test{"row 163 take on three nodes", takeOnNodes},
			test{"compare and swap on three nodes", swapOnNodes}, test{"feed on three nodes", feedOnNodes},
			test{"scan from node to node", scanOnNodes})
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			clock := &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			c.test(&fixture{T: t, Store: suite.Open(t, clock.now), clock: clock, suite: suite})
		})
	}
}

// fixture is a test with its store and its clock.
type fixture struct {
	*testing.T
	store.Store
	clock *clock
	suite Suite
}

// nodes are the fixture's store and two more on the same data.
func (f *fixture) nodes() []store.Store {
	return []store.Store{f.Store, f.suite.Join(f.T, f.clock.now), f.suite.Join(f.T, f.clock.now)}
}

type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// in returns the moment d from the suite's present.
func (f *fixture) in(d time.Duration) time.Time { return f.clock.now().Add(d) }

func (f *fixture) put(key, value string, expires time.Time) {
	f.Helper()
	if err := f.Put(f.Context(), key, []byte(value), expires); err != nil {
		f.Fatalf("Put(%.40q): %v", key, err)
	}
}

// want checks that the key has the value.
func (f *fixture) want(key, value string) {
	f.Helper()
	got, err := f.Get(f.Context(), key)
	if err != nil || string(got) != value {
		f.Fatalf("Get(%.40q) = %.40q, %v; want %.40q", key, got, err, value)
	}
	if got == nil {
		f.Fatalf("Get(%.40q) returned nil for a key that is there", key)
	}
}

// absent checks that the key is absent.
func (f *fixture) absent(key string) {
	f.Helper()
	if got, err := f.Get(f.Context(), key); !errors.Is(err, store.ErrNotFound) || got != nil {
		f.Fatalf("Get(%.40q) = %.40q, %v; want ErrNotFound", key, got, err)
	}
}

// is checks the class of an error.
func (f *fixture) is(err, class error, doing string) {
	f.Helper()
	if !errors.Is(err, class) {
		f.Fatalf("%s: error is %v; want %v", doing, err, class)
	}
	for _, other := range []error{store.ErrNotFound, store.ErrConflict, store.ErrUnavailable, store.ErrInvalid} {
		if other != class && errors.Is(err, other) && class != context.Canceled {
			f.Fatalf("%s: error %v is %v and %v at once", doing, err, class, other)
		}
	}
}

// parallel runs fn n times at once and waits for all.
func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-begin
			fn(i)
		})
	}
	close(begin)
	wg.Wait()
}
