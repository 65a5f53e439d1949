package envelope

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Limits bounds what the callers of a service may have sealed and opened, in bytes of request bodies a second, and counts what
// they did. Several services may share one; it outlives reloads of the configuration.
//
// Values and streams have the rate each: one long upload does not keep documents of a few bytes from being opened. Of values
// what is above the limit is refused; a stream is slowed down, and a new one is refused while those under way wait for long.
type Limits struct {
	now    func() time.Time
	sleep  func(ctx context.Context, d time.Duration) error
	counts counters

	mu              sync.Mutex // guards the fields below
	rate, burst     float64    // rate 0: no limit
	values, streams bucket
}

// bucket holds bytes that may be spent; below zero it is in debt.
type bucket struct {
	tokens float64
	filled time.Time
}

const (
	// MinRate is the least rate: a chunk of a stream a second.
	MinRate = 64 << 10
	// MaxRate is the largest rate and burst.
	MaxRate = 1 << 40
	// smallest is what the smallest request costs: the work of one is not measured in its bytes alone.
	smallest = 4 << 10
	// longQueue is how far streams may be behind before a new one is refused.
	longQueue = 5 * time.Second
)

// errLimited says that the bytes of this second are used up.
var errLimited = errors.New("too many bytes; the limit of the service is reached")

// delayError carries when to try again.
type delayError struct {
	error
	after time.Duration
}

func (e delayError) Unwrap() error { return e.error }

// NewLimits allows rate bytes a second and burst at once, 0: as much as a second brings. Rate 0 limits nothing.
func NewLimits(rate, burst int64, now func() time.Time) (*Limits, error) {
	if now == nil {
		now = time.Now
	}
	l := &Limits{now: now, sleep: sleepFor}
	if err := l.Set(rate, burst); err != nil {
		return nil, err
	}
	return l, nil
}

func sleepFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Set changes the numbers of a running service; what was spent stays spent.
func (l *Limits) Set(rate, burst int64) error {
	if rate != 0 && (rate < MinRate || rate > MaxRate) || burst < 0 || burst > MaxRate || rate == 0 && burst != 0 {
		return fmt.Errorf("setting limits: a rate of %d bytes and a burst of %d are not in %d..%d", rate, burst, MinRate, MaxRate)
	}
	if burst == 0 {
		burst = rate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	was, now := l.rate, l.now()
	l.rate, l.burst = float64(rate), float64(burst)
	for _, b := range []*bucket{&l.values, &l.streams} {
		if was == 0 {
			*b = bucket{l.burst, now}
		}
		b.tokens = min(b.tokens, l.burst)
	}
	return nil
}

// fill adds what time has brought.
func (l *Limits) fill(b *bucket) {
	now := l.now()
	if passed := now.Sub(b.filled).Seconds(); passed > 0 {
		b.tokens = min(l.burst, b.tokens+passed*l.rate)
	}
	b.filled = now
}

func (l *Limits) until(bytes float64) time.Duration {
	return time.Duration(min(bytes/l.rate, math.MaxInt32) * float64(time.Second))
}

// spend takes the bytes of a batch, or says when there will be enough. A batch above the burst needs a full bucket and leaves a
// debt: no batch that the service takes is out of reach, and the rate holds over time.
func (l *Limits) spend(n int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return nil
	}
	l.fill(&l.values)
	cost := float64(max(n, smallest))
	if short := min(cost, l.burst) - l.values.tokens; short > 0 {
		return delayError{errLimited, l.until(short)}
	}
	l.values.tokens -= cost
	return nil
}

// enter asks whether a stream may begin.
func (l *Limits) enter() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return nil
	}
	l.fill(&l.streams)
	if wait := l.until(-l.streams.tokens); wait > longQueue {
		return delayError{errLimited, wait}
	}
	l.streams.tokens -= smallest
	return nil
}

// slow takes bytes that a stream has read, and says how long it must wait before it reads on.
func (l *Limits) slow(n int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return 0
	}
	l.fill(&l.streams)
	l.streams.tokens -= float64(n)
	return max(0, l.until(-l.streams.tokens))
}
