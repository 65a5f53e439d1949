package hardening

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// The operations that are counted and audited.
const (
	opProtect  = "protect"
	opVerify   = "verify"
	opUpgrade  = "upgrade"
	opCensus   = "census"
	opStatus   = "status"
	opOriginal = "original"
	opOther    = "other"
)

// Stats are counters since the ring's [Limits] were made, and what is so at this moment. Their words are fixed codes: no
// name of a person, a site, a ring or a caller is among them.
type Stats struct {
	// Operations counts requests by operation ("protect") and outcome ("allowed", "denied" or "failed").
	Operations []Count
	// Declines counts requests that were not answered with a success, by reason ("limit", "guard.trace").
	Declines []Count
	// Mismatches counts wrong secrets, Units the HMAC units that were spent, StoreAway the failures that the store did not
	// take down.
	Mismatches, Units, StoreAway uint64
	// Running and Queued are slow hashes of the whole process, AtOnce how many may run.
	Running, Queued, AtOnce int
}

// Count is one counter.
type Count struct {
	Name, Outcome string // Outcome is empty for declines
	N             uint64
}

// counters are those of one ring. The zero value is ready.
type counters struct {
	mismatches, units, storeAway atomic.Uint64

	mu                   sync.Mutex // guards the maps
	operations, declines map[Count]uint64
}

// count notes the end of one request.
func (c *counters) count(op, outcome, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.operations == nil {
		c.operations, c.declines = map[Count]uint64{}, map[Count]uint64{}
	}
	c.operations[Count{Name: op, Outcome: outcome}]++
	if reason != "" {
		c.declines[Count{Name: reason}]++
	}
}

func sorted(m map[Count]uint64) []Count {
	list := make([]Count, 0, len(m))
	for c, n := range m {
		c.N = n
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Count) int {
		return strings.Compare(a.Name+" "+a.Outcome, b.Name+" "+b.Outcome)
	})
	return list
}

// Stats returns the counters of the ring that these limits belong to.
func (l *Limits) Stats() Stats {
	c := &l.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{
		Operations: sorted(c.operations), Declines: sorted(c.declines),
		Mismatches: c.mismatches.Load(), Units: c.units.Load(), StoreAway: c.storeAway.Load(),
		Running: len(slowSlots.free), Queued: len(slowSlots.queue), AtOnce: cap(slowSlots.free),
	}
}

// Stats returns the counters of the service's ring, which it shares with other services of the same ring.
func (s *Service) Stats() Stats { return s.cfg.Limits.Stats() }
