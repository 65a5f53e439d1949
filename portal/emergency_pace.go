package portal

import (
	"sync"
	"time"
)

// The limits of attempts to begin emergency access, for each account. Nobody fills in
// the form more often by hand; a script with somebody's session would raise an alarm
// with each one and bury the one that matters.
const (
	paceBurst  = 20
	paceRefill = 30 * time.Second // regains one
	paceMax    = 16 << 10         // accounts remembered, about 2 MiB
)

// pace counts attempts per account, in bounded memory. When more accounts are busy than
// it remembers, newcomers share one bucket, as limiter does.
type pace struct {
	now func() time.Time

	mu      sync.Mutex // guards the fields below
	buckets map[string]*bucket
	shared  bucket
	swept   time.Time // a flood does not make each attempt walk the whole table
}

func newPace(now func() time.Time) *pace {
	return &pace{now: now, buckets: make(map[string]*bucket)}
}

// allow takes one attempt of the account and reports whether there was one.
func (l *pace) allow(account string) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketLocked(account, now)
	if b.at.IsZero() {
		b.units, b.at = paceBurst, now
	}
	if d := now.Sub(b.at); d > 0 {
		b.units, b.at = min(paceBurst, b.units+d.Seconds()/paceRefill.Seconds()), now
	}
	if b.units < 1 {
		return false
	}
	b.units--
	return true
}

func (l *pace) bucketLocked(account string, now time.Time) *bucket {
	if b := l.buckets[account]; b != nil {
		return b
	}
	if len(l.buckets) >= paceMax && now.Sub(l.swept) >= paceRefill {
		l.swept = now
		for key, b := range l.buckets {
			if now.Sub(b.at) >= paceBurst*paceRefill { // full again: a new one would say the same
				delete(l.buckets, key)
			}
		}
	}
	if len(l.buckets) >= paceMax {
		return &l.shared
	}
	b := new(bucket)
	l.buckets[account] = b
	return b
}
