package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// lockLease is how long a lock outlives a holder that has died.
	lockLease = 30 * time.Second
	// lockPoll is the longest pause between two attempts to take a lock that another holds.
	lockPoll = 500 * time.Millisecond
	// lockAnswer bounds a release, which happens when the caller's context may be over.
	lockAnswer = 5 * time.Second
)

// The scripts compare and act in one step, and may be repeated when an answer got lost: a holder is known by its token.
const (
	takeLock = `local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`
	renewLock = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`
	releaseLock = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`
)

// lock is one that this Files holds or is about to take.
type lock struct {
	doing, token string
	name         string        // in Redis
	stop, done   chan struct{} // closed to end the renewal; closed when it has ended

	// Guarded by Files.mu. until is when the lease ends by our clock, counted from before Redis was asked: Redis' own count
	// began later, so nobody else can have the lock before it.
	taken bool
	until time.Time
	lost  bool
}

var (
	// errLost says that a lock ran out or was taken while its holder still worked.
	errLost    = errors.New("lock was lost: its lease could not be renewed in time, and another may hold it")
	errNotHeld = errors.New("lock is not held")
)

// Lock takes the lock of that name, waiting until it is free or ctx ends. It is held until Unlock: a goroutine renews its lease of
// 30 seconds every ten. When this process dies the lock falls free after the lease. When Redis cannot be reached for that long the
// lock is lost: Renew and Unlock say so, and an error is logged. Within one Files a lock has one holder in any case.
func (f *Files) Lock(ctx context.Context, name string) error {
	for {
		ok, err := f.TryLock(ctx, name)
		if ok || err != nil {
			return err
		}
		pause := time.NewTimer(lockPoll/2 + mathrand.N(lockPoll/2)) // apart from each other, or all waiting nodes ask at once
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return fmt.Errorf("waiting for the lock %q: %w", name, ctx.Err())
		}
	}
}

// TryLock takes the lock of that name if it is free, and reports whether it did.
func (f *Files) TryLock(ctx context.Context, name string) (bool, error) {
	if err := store.CheckKey(name); err != nil {
		return false, fmt.Errorf("taking a lock: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("taking the lock %q: %w", name, err)
	}
	l := &lock{
		doing: fmt.Sprintf("the lock %q", name), name: f.store.prefix + nameLock + hashName(labelLock, name), token: rand.Text(),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	if !f.reserve(name, l) {
		return false, nil
	}
	start := time.Now()
	got, err := f.run(ctx, "taking ", takeLock, l)
	if err == nil && got {
		f.mu.Lock()
		l.taken, l.until = true, start.Add(f.lease)
		f.mu.Unlock()
		go f.keep(l) // ends with Unlock, with the store, or when the lock is lost
		return true, nil
	}
	if err != nil {
		// It may have happened all the same: nobody renews it, and this gives it back before its lease ends.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockAnswer)
		_, _ = f.run(after, "giving back ", releaseLock, l)
		cancel()
	}
	f.mu.Lock()
	delete(f.held, name)
	f.mu.Unlock()
	return false, err
}

// reserve keeps other callers of this Files away from the name. Also one whose lock was lost still keeps them away: it may not
// have noticed yet.
func (f *Files) reserve(name string, l *lock) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held[name] != nil {
		return false
	}
	f.held[name] = l
	return true
}

// find returns the lock of that name if it was taken; with remove it is no longer known after that.
func (f *Files) find(name string, remove bool) *lock {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.held[name]
	if l == nil || !l.taken {
		return nil
	}
	if remove {
		delete(f.held, name)
	}
	return l
}

// Renew renews the lease now, and says whether the lock is still held.
func (f *Files) Renew(ctx context.Context, name string) error {
	l := f.find(name, false)
	if l == nil {
		return fmt.Errorf("renewing the lock %q: %w", name, errNotHeld)
	}
	return f.renew(ctx, l)
}

// Resume renews the lease, and when the lock was lost takes it again if it is free. It is for a holder that begins its work anew
// after it: another may have held the lock in between and done the same work.
func (f *Files) Resume(ctx context.Context, name string) error {
	err := f.Renew(ctx, name)
	if !errors.Is(err, errLost) {
		return err
	}
	l, start := f.find(name, false), time.Now()
	if l == nil {
		return err
	}
	if got, err2 := f.run(ctx, "taking again ", takeLock, l); err2 != nil || !got {
		return errors.Join(err, err2)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l.until, l.lost = start.Add(f.lease), false
	return nil
}

// Unlock gives the lock back. It works after the caller's context has ended. An error says that the lock was lost before, or that
// Redis did not answer: then it falls free with its lease.
func (f *Files) Unlock(ctx context.Context, name string) error {
	l := f.find(name, true)
	if l == nil {
		return fmt.Errorf("giving back the lock %q: %w", name, errNotHeld)
	}
	close(l.stop)
	<-l.done
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockAnswer)
	defer cancel()
	gone, err := f.run(ctx, "giving back ", releaseLock, l) // also a lost one: its token may be there still
	f.mu.Lock()
	lost := l.lost || err == nil && !gone
	f.mu.Unlock()
	if lost {
		return fmt.Errorf("giving back %s: %w", l.doing, errLost)
	}
	return err
}

// keep renews the lease until the lock is given back. A lost lock is not renewed, see Resume.
func (f *Files) keep(l *lock) {
	defer close(l.done)
	pause := time.NewTimer(f.lease / 3)
	defer pause.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-f.store.closing: // nobody renews it from now on
			f.mu.Lock()
			f.lose(l)
			f.mu.Unlock()
			return
		case <-pause.C:
		}
		err := f.renew(context.Background(), l)
		if err == nil || errors.Is(err, errLost) {
			pause.Reset(f.lease / 3)
			continue
		}
		f.store.log.Warn("renewing a lock failed, trying again", "error", err)
		pause.Reset(f.lease / 30)
	}
}

// renew prolongs the lease. Once the lease has ended by our clock it is not prolonged any more, because another may have held the
// lock in between.
func (f *Files) renew(ctx context.Context, l *lock) error {
	start := time.Now()
	if f.over(l, start) {
		return fmt.Errorf("renewing %s: %w", l.doing, errLost)
	}
	held, err := f.run(ctx, "renewing ", renewLock, l)
	if err == nil && held { // the token was there: nobody else had the lock in between
		f.mu.Lock()
		defer f.mu.Unlock()
		l.until = start.Add(f.lease)
		return nil
	}
	if err == nil {
		f.mu.Lock()
		f.lose(l)
		f.mu.Unlock()
	}
	if f.over(l, time.Now()) {
		return fmt.Errorf("renewing %s: %w", l.doing, errLost)
	}
	return err
}

// over reports whether the lock is lost, as it is when its lease has ended.
func (f *Files) over(l *lock, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !now.Before(l.until) {
		f.lose(l)
	}
	return l.lost
}

// lose marks a lock as lost; the caller holds mu.
func (f *Files) lose(l *lock) {
	if !l.lost {
		f.store.log.Error("a lock was lost while its holder still worked: if another node takes it, both may do the same work", "what", l.doing)
	}
	l.lost = true
}

// run runs a script on a lock.
func (f *Files) run(ctx context.Context, doing, script string, l *lock) (bool, error) {
	broke := false // an attempt's outcome is unknown; the attempts come one after the other
	return run(ctx, f.store, doing+l.doing, l.name, change, func(ctx context.Context, c link) (bool, error) {
		cmd := goredis.NewIntCmd(ctx, "EVAL", script, 1, l.name, l.token, f.lease.Milliseconds())
		err := f.store.durable(ctx, c, cmd)
		if err != nil {
			var said goredis.Error
			broke = broke || !errors.As(err, &said)
			return false, err
		}
		// A release whose answer was lost finds nothing any more.
		return cmd.Val() == 1 || broke && script == releaseLock, nil
	})
}
