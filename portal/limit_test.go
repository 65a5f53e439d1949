package portal

import (
	"fmt"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	l := newLimiter(func() time.Time { return now })
	spend := func(addr string) (n int) {
		for l.allow(addr) {
			n++
		}
		return n
	}
	if n := spend("192.0.2.1"); n != limitBurst {
		t.Errorf("first burst %d", n)
	}
	now = now.Add(2 * time.Second)
	if n := spend("::ffff:192.0.2.1"); n != 2*limitRefill {
		t.Errorf("after two seconds %d; an address has one bucket in all its spellings", n)
	}
	now = now.Add(time.Hour)
	if n := spend("192.0.2.1"); n != limitBurst {
		t.Errorf("after an hour %d", n)
	}
	now = now.Add(-time.Hour)
	if l.allow("192.0.2.1") {
		t.Error("a clock that goes back gives units")
	}
	if n := spend("2001:db8::1"); n != limitBurst {
		t.Errorf("IPv6 burst %d", n)
	}
	if l.allow("2001:db8::2") || l.allow("2001:db8::ffff:1%eth0") {
		t.Error("one customer has more than one bucket")
	}
	if !l.allow("2001:db8:0:1::1") {
		t.Error("the neighbour shares the bucket")
	}
	if n := spend("no address"); n != limitBurst || l.allow("") {
		t.Errorf("the shared bucket gave %d", n)
	}
}

// TestLimiterMemory: many addresses cost bounded memory, and those who were
// there first keep their bucket.
func TestLimiterMemory(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	l := newLimiter(func() time.Time { return now })
	l.allow("198.51.100.1")
	for i := range 2 * limitMaxAddrs {
		l.allow(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	if n := len(l.buckets); n > limitMaxAddrs {
		t.Errorf("%d addresses remembered", n)
	}
	if !l.allow("198.51.100.1") {
		t.Error("a flood of addresses shut out a client that was there before")
	}
	if l.allow("203.0.113.1") {
		t.Error("a newcomer in a flood of strangers got a bucket of its own")
	}
	// Sent: one request each from as many networks as are remembered (an IPv6
	// /48 has four times as many). What would happen: newcomers share one bucket
	// until the next look at the table, so that 1700 requests a second keep a
	// hospital out. What must hold: such strangers have rested after a moment.
	now = now.Add(time.Second)
	if !l.allow("203.0.113.1") || len(l.buckets) > 1 {
		t.Errorf("%d addresses remembered after a second's rest", len(l.buckets))
	}
	now = now.Add(time.Minute)
	if !l.allow("203.0.113.1") || len(l.buckets) > 1 {
		t.Errorf("%d addresses remembered after a minute's rest", len(l.buckets))
	}
}
