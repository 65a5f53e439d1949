package hardening

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"
)

// Limits bounds what a caller may guess. Without them the endpoint is a cracking oracle of millions of guesses a second for
// whoever gets local access. One Limits belongs to one ring and outlives reloads of the configuration.
type Limits struct {
	now func() time.Time

	mu          sync.Mutex // guards what follows
	rate, burst float64
	callers     bucket // of those with the credential
	original    bucket // of the original form, which any program of this host may empty
	failures    map[uidKey]*failures
}

// bucket holds units. Each key has one: the original form's is pinned and no record's.
type bucket struct {
	tokens float64
	filled time.Time
}

// uidKey is a keyed hash: the table does not say whose failures it counts.
type uidKey [16]byte

// failures is what is known of one uid.
type failures struct {
	count   int // consecutive wrong secrets
	running int // tries being evaluated now
	until   time.Time
	done    chan struct{} // closed when a running try ends, and replaced
}

const (
	// freeFailures may follow each other without delay; a person with caps lock on must not wait.
	freeFailures = 10
	// firstDelay doubles with each further failure up to longDelay.
	firstDelay = time.Second
	longDelay  = 15 * time.Minute
	// hardStop failures in a row (SP 800-63B-4 section 3.2.2) leave one try a day, until one succeeds: slow enough to be no
	// guessing, and no lock-out for good, which would hand every account to a prankster (ASVS 6.1.1).
	hardStop  = 100
	stopDelay = 24 * time.Hour
	// maxUIDs bounds the table: some 10 MB. Beyond it, entries whose delay is over go first.
	maxUIDs = 1 << 16
)

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
	return nil
}

// begin asks whether a secret may be tried for this uid. The try counts while it runs: of a hundred parallel guesses no
// more are evaluated than of a hundred in a row; those above the free ones wait for the result before them.
func (l *Limits) begin(ctx context.Context, uid uidKey) error {
	for {
		l.mu.Lock()
		f := l.failures[uid]
		if f == nil {
			l.makeRoomLocked()
			f = &failures{done: make(chan struct{})}
			l.failures[uid] = f
		}
		wait := f.until.Sub(l.now())
		if wait > 0 {
			l.mu.Unlock()
			return delayError{fmt.Errorf("checking failures: %w", ErrLimited), wait}
		}
		if f.running == 0 || f.count+f.running < freeFailures {
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

// end counts the try.
func (l *Limits) end(uid uidKey, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.failures[uid]
	f.running--
	switch o {
	case right:
		f.count, f.until = 0, time.Time{}
	case wrong:
		f.count++
		f.until = l.now().Add(delayAfter(f.count))
	}
	close(f.done)
	f.done = make(chan struct{})
	if f.count == 0 && f.running == 0 {
		delete(l.failures, uid)
	}
}

// delayAfter is the pause that n failures in a row earn.
func delayAfter(n int) time.Duration {
	switch {
	case n < freeFailures:
		return 0
	case n >= hardStop:
		return stopDelay
	}
	return min(longDelay, firstDelay<<min(n-freeFailures, 20))
}

// makeRoomLocked keeps the table bounded. What is dropped is the entry that will be free soonest: whoever fills the table
// with uids of his own loses the delays of those first.
func (l *Limits) makeRoomLocked() {
	if len(l.failures) < maxUIDs {
		return
	}
	now := l.now()
	var soonest *failures
	var key uidKey
	for k, f := range l.failures {
		switch {
		case f.running > 0:
		case f.count < freeFailures, !f.until.After(now):
			delete(l.failures, k)
		case soonest == nil || f.until.Before(soonest.until):
			soonest, key = f, k
		}
	}
	if soonest != nil && len(l.failures) >= maxUIDs {
		delete(l.failures, key)
	}
}

// slots bounds the slow hashes of the whole process: each takes 19 MiB, and an unbounded number of callers would be an
// out-of-memory kill of the proxy.
type slots struct {
	free  chan struct{}
	queue chan struct{}
}

// slowSlots is shared by all services of the process, as memory is.
var slowSlots = newSlots(runtime.GOMAXPROCS(0), 64)

func newSlots(atOnce, waiting int) *slots {
	return &slots{make(chan struct{}, max(1, atOnce)), make(chan struct{}, waiting)}
}

// take waits for a slot; a full queue or the end of ctx is ErrBusy.
func (s *slots) take(ctx context.Context) error {
	if ctx.Err() != nil { // nobody waits for the answer any more
		return fmt.Errorf("starting a slow hash: %w", ErrBusy)
	}
	select {
	case s.free <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.queue <- struct{}{}:
		defer func() { <-s.queue }()
	default:
		return fmt.Errorf("queueing for a slow hash: %w", ErrBusy)
	}
	select {
	case s.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a slow hash: %w", ErrBusy)
	}
}

func (s *slots) give() { <-s.free }
