package portal

import (
	"net/netip"
	"sync"
	"time"
)

// The limits of sign-in traffic. A start costs us one seal, a callback one
// durable write and a call to the provider: without a limit one machine could
// make us a hammer on the hospital's sign-in service. A whole hospital often
// stands behind one address and changes shift at seven, hence the size.
const (
	limitBurst    = 600         // units an address may spend at once; a sign-in costs two
	limitRefill   = 10          // units an address regains each second
	limitMaxAddrs = 16 << 10    // addresses remembered, about 1 MiB
	limitSweep    = time.Second // between two removals of rested addresses, each a millisecond of work
)

// limiter counts sign-in traffic per client address, in bounded memory. When
// more addresses are busy than it can remember, the newcomers share one
// bucket: those who are remembered keep theirs.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex // guards the fields below
	buckets map[netip.Prefix]*bucket
	shared  bucket
	swept   time.Time
}

type bucket struct {
	units float64
	at    time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, buckets: make(map[netip.Prefix]*bucket)}
}

// allow takes one unit from the bucket of the address and reports whether
// there was one. Text that is no address falls into the shared bucket.
func (l *limiter) allow(addr string) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucketLocked(addr, now)
	if b.at.IsZero() {
		b.units, b.at = limitBurst, now
	}
	if d := now.Sub(b.at); d > 0 {
		b.units = min(limitBurst, b.units+d.Seconds()*limitRefill)
		b.at = now
	}
	if b.units < 1 {
		return false
	}
	b.units--
	return true
}

func (l *limiter) bucketLocked(addr string, now time.Time) *bucket {
	key, ok := limitKey(addr)
	if !ok {
		return &l.shared
	}
	if b := l.buckets[key]; b != nil {
		return b
	}
	if len(l.buckets) >= limitMaxAddrs {
		l.sweepLocked(now)
	}
	if len(l.buckets) >= limitMaxAddrs {
		return &l.shared
	}
	b := new(bucket)
	l.buckets[key] = b
	return b
}

// sweepLocked forgets addresses whose bucket is full again: a new bucket would
// say the same. It runs seldom, so that a flood of addresses does not make
// each request walk the whole table.
func (l *limiter) sweepLocked(now time.Time) {
	if now.Sub(l.swept) < limitSweep {
		return
	}
	l.swept = now
	for key, b := range l.buckets {
		if b.units+now.Sub(b.at).Seconds()*limitRefill >= limitBurst {
			delete(l.buckets, key)
		}
	}
}

// limitKey maps an address to what one customer of a provider holds: an IPv4
// address, or an IPv6 /64.
func limitKey(addr string) (netip.Prefix, bool) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, false
	}
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	return p, err == nil
}
