package hardening

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Limits bounds what a caller may guess. Without them the endpoint is a cracking oracle of millions of guesses a second for
// whoever gets local access. One Limits belongs to one ring and outlives reloads of the configuration.
type Limits struct {
	now    func() time.Time
	counts counters

	mu          sync.Mutex // guards what follows
	rate, burst float64
	callers     bucket // of those with the credential
	original    bucket // of the original form, which any program of this host may empty
	failures    map[uidKey]*failures
	recent      [burstFailures]time.Time // of the last wrong secrets, as a ring
	next        int
	alarmed     time.Time
}

// bucket holds units. Each key has one: the original form's is pinned and no record's.
type bucket struct {
	tokens float64
	filled time.Time
}

// uidKey is a keyed hash, of a uid or of a record of one: the table does not say whose failures it counts.
type uidKey [16]byte

// failures is what this process knows of one record of a uid. With a store it is a copy of what stands there, and the place where tries
// of one node wait for each other; it bounds alone while the store is away.
type failures struct {
	account
	running int           // tries being evaluated now
	done    chan struct{} // closed when a running try ends, and replaced
}

// maxUIDs bounds the table: some 15 MB. Beyond it, entries whose delay is over go first.
const maxUIDs = 1 << 16

// NewLimits allows rate HMAC units a second, and burst at once: to the callers with the credential, and as much to the
// original form. A nil now means time.Now.
func NewLimits(rate, burst int, now func() time.Time) (*Limits, error) {
	if now == nil {
		now = time.Now
	}
	l := &Limits{now: now, failures: map[uidKey]*failures{}}
	if err := l.Set(rate, burst); err != nil {
		return nil, err
	}
	full := bucket{l.burst, now()}
	l.callers, l.original = full, full
	return l, nil
}

// Set changes the numbers of a running service; what was spent stays spent. Both are 1 to 100,000,000.
func (l *Limits) Set(rate, burst int) error {
	if rate < 1 || burst < 1 || rate > 1e8 || burst > 1e8 {
		return fmt.Errorf("setting limits: rate %d and burst %d are not in 1..100000000", rate, burst)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rate, l.burst = float64(rate), float64(burst)
	for _, b := range []*bucket{&l.callers, &l.original} {
		b.tokens = min(b.tokens, l.burst)
	}
	return nil
}

// numbers are the configured ones.
func (l *Limits) numbers() (rate, burst int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.rate), int(l.burst)
}

// spend takes units of the callers with the credential, or says when there will be enough.
func (l *Limits) spend(units int) error { return l.take(&l.callers, units) }

// spendOriginal takes units of the original form. It needs no credential, so that its debts must not be theirs.
func (l *Limits) spendOriginal(units int) error { return l.take(&l.original, units) }

// take takes units. A request above the burst needs a full bucket and leaves a debt: the rate holds over time, and no
// configured number of rounds is out of reach.
func (l *Limits) take(b *bucket, units int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if passed := now.Sub(b.filled).Seconds(); passed > 0 {
		b.tokens = min(l.burst, b.tokens+passed*l.rate)
	}
	b.filled = now
	if short := min(float64(units), l.burst) - b.tokens; short > 0 {
		after := time.Duration(min(short/l.rate, math.MaxInt32) * float64(time.Second))
		return delayError{fmt.Errorf("spending units: %w", ErrLimited), after}
	}
	b.tokens -= float64(units)
	l.counts.units.Add(uint64(units))
	return nil
}

// try is one secret on its way to be compared.
type try struct {
	uid     uidKey
	src     sourceKey
	was     account // before it was counted in the store
	counted bool    // in the store
}

// begin asks whether a secret may be tried for this uid. The try counts while it runs: of a hundred parallel guesses no
// more are evaluated than of a hundred in a row; those above the free ones wait for the result before them. A store that
// does not answer leaves each node to count by itself: n nodes then allow n times as much.
func (l *Limits) begin(ctx context.Context, t *try, shared *ledger, key string) error {
	if err := l.enter(ctx, t, shared == nil); err != nil {
		return err
	}
	if shared == nil {
		return nil
	}
	was, err := shared.begin(ctx, key, t.src)
	l.mu.Lock()
	f := l.failures[t.uid]
	switch {
	case err == nil:
		t.was, t.counted = was, true
		f.account = was
		f.fail(t.src, l.now())
	case errors.Is(err, ErrLimited):
		f.account = was
	case ctx.Err() == nil && !errors.Is(err, ErrBusy):
		l.counts.storeAway.Add(1)
		if wait := f.wait(t.src, l.now()); wait > 0 {
			err = delayError{fmt.Errorf("checking failures: %w", ErrLimited), wait}
			break
		}
		err = nil
	default:
		err = fmt.Errorf("checking failures: %w", ErrBusy)
	}
	l.mu.Unlock()
	if err != nil {
		l.leave(t, notTried)
	}
	return err
}

// enter takes a place among the running tries of a uid. judge: what this process knows decides; otherwise the store will.
func (l *Limits) enter(ctx context.Context, t *try, judge bool) error {
	for {
		l.mu.Lock()
		f := l.failures[t.uid]
		if f == nil {
			l.makeRoomLocked()
			f = &failures{done: make(chan struct{})}
			l.failures[t.uid] = f
		}
		if wait := f.wait(t.src, l.now()); judge && wait > 0 {
			l.mu.Unlock()
			return delayError{fmt.Errorf("checking failures: %w", ErrLimited), wait}
		}
		if f.running == 0 || f.of(t.src).Failed+f.running < freeFailures && f.Failed+f.running < hardStop {
			f.running++
			l.mu.Unlock()
			return nil
		}
		done := f.done
		l.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return fmt.Errorf("waiting for another try of this uid: %w", ErrBusy)
		}
	}
}

// outcome of a try.
type outcome int

const (
	notTried outcome = iota // no secret was compared: nothing is learned, nothing counts
	wrong
	right
)

// end counts the try, in the store first: whoever waits in this process then sees it.
func (l *Limits) end(ctx context.Context, t *try, o outcome, shared *ledger, key string) {
	if t.counted {
		if err := shared.end(ctx, key, t.src, t.was, o); err != nil {
			l.counts.storeAway.Add(1) // a try too many stands there: the next success forgets it
		}
	}
	l.leave(t, o)
}

func (l *Limits) leave(t *try, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.failures[t.uid]
	f.running--
	switch {
	case o == right:
		f.succeed(t.src, l.now())
	case o == wrong && !t.counted:
		f.fail(t.src, l.now())
	case o == notTried && t.counted:
		f.takeBack(t.src, t.was, l.now())
	}
	close(f.done)
	f.done = make(chan struct{})
	if f.Failed == 0 && f.running == 0 {
		delete(l.failures, t.uid)
	}
}

// makeRoomLocked keeps the table bounded. What is dropped is the entry that will be free soonest: whoever fills the table
// with uids of his own loses the delays of those first.
func (l *Limits) makeRoomLocked() {
	if len(l.failures) < maxUIDs {
		return
	}
	now := l.now()
	var soonest time.Time
	var key uidKey
	for k, f := range l.failures {
		until := f.Until
		for _, s := range f.Sources {
			until = later(until, s.Until)
		}
		switch {
		case f.running > 0:
		case f.Failed < freeFailures, !until.After(now):
			delete(l.failures, k)
		case soonest.IsZero() || until.Before(soonest):
			soonest, key = until, k
		}
	}
	if !soonest.IsZero() && len(l.failures) >= maxUIDs {
		delete(l.failures, key)
	}
}

// Burst says that secrets are being guessed, here and now: what this service is for makes it visible.
type Burst struct {
	// Ring is the ring's name in its store.
	Ring string
	// Failures were wrong secrets, all uids together, since Since.
	Failures int
	Since    time.Time
}

// burstFailures within burstTime are an alarm, once in burstTime at most.
const (
	burstFailures = 51
	burstTime     = time.Minute
)

// failed notes a wrong secret and reports whether they have become a burst.
func (l *Limits) failed() (Burst, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.recent[l.next] = now
	l.next = (l.next + 1) % burstFailures
	first := l.recent[l.next]
	if first.IsZero() || now.Sub(first) > burstTime || !l.alarmed.IsZero() && now.Sub(l.alarmed) < burstTime {
		return Burst{}, false
	}
	l.alarmed = now
	return Burst{Failures: burstFailures, Since: first}, true
}
