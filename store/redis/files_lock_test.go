package redis

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

const lockName = "issue_cert_dicom.hospital.example"

// patience is longer than a busy machine takes for what comes at once, and much shorter than the lease of 30 seconds.
const patience = 10 * time.Second

// lockKey is the name of the lock in Redis.
var lockKey = "anteroom" + nameLock + hashName(labelLock, lockName)

// twoNodes are two nodes that share one Redis and one master key.
func twoNodes(t *testing.T) (*redistest.Server, *Files, *Files) {
	t.Helper()
	server := redistest.Standalone(t)
	return server, openFiles(t, server, "a"), openFiles(t, server, "a")
}

func mustLock(t *testing.T, f *Files) *lock {
	t.Helper()
	if err := f.Lock(t.Context(), lockName); err != nil {
		t.Fatal(err)
	}
	return f.find(lockName, false)
}

// tryLock fails the test unless TryLock answers want.
func tryLock(t *testing.T, f *Files, want bool) {
	t.Helper()
	if got, err := f.TryLock(t.Context(), lockName); err != nil || got != want {
		t.Fatalf("TryLock = %v, %v; want %v", got, err, want)
	}
}

func mustUnlock(t *testing.T, f *Files) {
	t.Helper()
	if err := f.Unlock(t.Context(), lockName); err != nil {
		t.Fatal(err)
	}
}

// expectLost fails the test unless Renew and Unlock say that the lock is lost.
func expectLost(t *testing.T, f *Files) {
	t.Helper()
	if err := f.Renew(t.Context(), lockName); !errors.Is(err, errLost) {
		t.Errorf("Renew: %v", err)
	}
	if err := f.Unlock(t.Context(), lockName); !errors.Is(err, errLost) {
		t.Errorf("Unlock: %v", err)
	}
}

func TestLock(t *testing.T) {
	t.Parallel()
	server, a, b := twoNodes(t)
	if err := a.Unlock(t.Context(), lockName); !errors.Is(err, errNotHeld) {
		t.Errorf("a lock that was never taken was given back: %v", err)
	}
	mustLock(t, a)
	tryLock(t, a, false)
	tryLock(t, b, false)
	if err := b.Unlock(t.Context(), lockName); !errors.Is(err, errNotHeld) {
		t.Errorf("another's lock was given back: %v", err)
	}
	if ok, err := b.TryLock(t.Context(), "another name"); !ok || err != nil {
		t.Errorf("TryLock of another name = %v, %v", ok, err)
	}
	if err := a.Renew(t.Context(), lockName); err != nil {
		t.Error(err)
	}
	if left, _ := strconv.Atoi(server.Do("PTTL", lockKey)); left < 25_000 || left > 30_000 {
		t.Errorf("the lease has %d ms left", left)
	}
	mustUnlock(t, a)
	tryLock(t, b, true)
	tryLock(t, a, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // certmagic gives locks back when its work was cancelled
	if err := b.Unlock(ctx, lockName); err != nil {
		t.Error(err)
	}
	tryLock(t, a, true)
	for _, name := range []string{"", string(make([]byte, store.MaxKey+1))} {
		if ok, err := a.TryLock(t.Context(), name); ok || !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a name of %d bytes: %v, %v", len(name), ok, err)
		}
	}
}

// TestLockWaits: whoever waits gets the lock soon after it is free, or gives up with its context and holds nothing then.
func TestLockWaits(t *testing.T) {
	t.Parallel()
	_, a, b := twoNodes(t)
	mustLock(t, a)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := b.Lock(ctx, lockName); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > patience {
		t.Errorf("gave up after %v", took)
	}
	got := make(chan error, 1)
	go func() { got <- b.Lock(t.Context(), lockName) }()
	select {
	case err := <-got:
		t.Fatalf("two hold it: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	start = time.Now()
	mustUnlock(t, a)
	if err := <-got; err != nil || time.Since(start) > patience {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestLockExcludes: of many on two nodes one works at a time.
func TestLockExcludes(t *testing.T) {
	t.Parallel()
	_, a, b := twoNodes(t)
	inside, worked := 0, 0 // the race detector sees two at once as well
	var all sync.WaitGroup
	for _, f := range []*Files{a, b, a, b, a, b} {
		all.Go(func() {
			if err := f.Lock(t.Context(), lockName); err != nil {
				t.Error(err)
				return
			}
			if inside++; inside != 1 {
				t.Error("two at once")
			}
			put(t, f, "work")
			inside--
			worked++
			if err := f.Unlock(t.Context(), lockName); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if worked != 6 {
		t.Errorf("%d worked", worked)
	}
}

// TestLockDeadHolder: the lock of a node that died falls free with its lease, and not before.
func TestLockDeadHolder(t *testing.T) {
	t.Parallel()
	_, a, b := twoNodes(t)
	a.lease = 1500 * time.Millisecond
	start := time.Now()
	mustLock(t, a)
	if err := a.store.Close(); err != nil { // as good as dead: nobody renews the lease or gives the lock back
		t.Fatal(err)
	}
	mustLock(t, b)
	if took := time.Since(start); took < a.lease || took > a.lease+patience {
		t.Errorf("the lock of a dead node fell free after %v, its lease was %v", took, a.lease)
	}
	expectLost(t, a)
	tryLock(t, b, false)
	mustUnlock(t, b)
}

// TestLockRenewed: a living holder keeps the lock beyond its lease.
func TestLockRenewed(t *testing.T) {
	t.Parallel()
	server, a, b := twoNodes(t)
	a.lease = 3 * time.Second // a machine that stands still for two thirds of it loses the lock, as it should
	start := time.Now()
	mustLock(t, a)
	for time.Since(start) < 2*a.lease {
		tryLock(t, b, false)
	}
	if left, _ := strconv.Atoi(server.Do("PTTL", lockKey)); left <= 0 || left > 3000 {
		t.Errorf("the lease has %d ms left", left)
	}
	mustUnlock(t, a)
}

// TestLockTaken: a lock that is somebody else's now is not renewed and not given back.
func TestLockTaken(t *testing.T) {
	t.Parallel()
	server, a, _ := twoNodes(t)
	mustLock(t, a)
	server.Do("SET", lockKey, "another")
	expectLost(t, a)
	if holder := server.Do("GET", lockKey); holder != "another" {
		t.Errorf("the lock of another was given back: %q", holder)
	}
	server.Do("DEL", lockKey)
	mustLock(t, a)
	server.Do("DEL", lockKey) // as after a failover to a replica that lacks it
	if err := a.Unlock(t.Context(), lockName); !errors.Is(err, errLost) {
		t.Errorf("Unlock: %v", err)
	}
}

// TestLockSilence: whoever could not renew for a lease no longer believes that it holds the lock, whatever Redis says then.
func TestLockSilence(t *testing.T) {
	t.Parallel()
	server, a, b := twoNodes(t)
	a.lease = time.Second
	l := mustLock(t, a)
	server.Freeze()
	for start := time.Now(); !a.over(l, time.Now()); time.Sleep(10 * time.Millisecond) { // the lease ends by our clock
		if time.Since(start) > 10*time.Second {
			t.Fatal("the holder believes that it holds the lock for ever")
		}
	}
	server.Thaw()
	tryLock(t, a, false) // the old holder may still be at work
	mustLock(t, b)
	expectLost(t, a)
	tryLock(t, a, false) // b has it
	mustUnlock(t, b)
	tryLock(t, a, true)
}

// TestLockResumed: after it was lost a lock can be had again, but not from another holder.
func TestLockResumed(t *testing.T) {
	t.Parallel()
	server, a, b := twoNodes(t)
	if err := a.Resume(t.Context(), lockName); !errors.Is(err, errNotHeld) {
		t.Error(err)
	}
	a.lease = 3 * time.Second
	mustLock(t, a)
	server.Do("DEL", lockKey)
	mustLock(t, b)
	if err := a.Resume(t.Context(), lockName); !errors.Is(err, errLost) {
		t.Errorf("the lock was taken from its holder: %v", err)
	}
	if err := a.Renew(t.Context(), lockName); !errors.Is(err, errLost) {
		t.Error(err)
	}
	mustUnlock(t, b)
	if err := a.Resume(t.Context(), lockName); err != nil {
		t.Error(err)
	}
	start := time.Now()
	for time.Since(start) < 2*a.lease { // and it is renewed again
		tryLock(t, b, false)
	}
	mustUnlock(t, a)
	tryLock(t, b, true)
}

// TestLockUnknown: when nobody knows whether the lock was taken, it was not, and what was taken is not held for long.
func TestLockUnknown(t *testing.T) {
	t.Parallel()
	server, a, b := twoNodes(t)
	a.lease = time.Second
	server.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := a.Lock(ctx, lockName); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if err := a.Unlock(t.Context(), lockName); !errors.Is(err, errNotHeld) {
		t.Errorf("%v", err)
	}
	server.Thaw() // what was sent is done now, in any order
	start := time.Now()
	mustLock(t, b)
	if took := time.Since(start); took > patience {
		t.Errorf("the lock that nobody holds fell free after %v", took)
	}
	mustUnlock(t, b)
}

// TestLockFailover: a lock is known to the replica before it counts as taken.
func TestLockFailover(t *testing.T) {
	t.Parallel()
	server := redistest.Sentinel(t)
	a, b := openFiles(t, server, "a"), openFiles(t, server, "a")
	mustLock(t, a)
	server.KillMaster()
	for {
		if ok, err := b.TryLock(t.Context(), lockName); err == nil {
			if ok {
				t.Fatal("two hold it after a failover")
			}
			break
		}
	}
	if err := a.Renew(t.Context(), lockName); err != nil {
		t.Error(err)
	}
	mustUnlock(t, a)
	tryLock(t, b, true)
}
