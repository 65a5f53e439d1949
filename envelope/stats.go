package envelope

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Stats are the counters of a service. Their words are fixed codes: no tenant, purpose, record or caller is among them.
type Stats struct {
	// Operations counts requests by operation ("seal", "stream-open") and outcome ("allowed", "denied", "failed").
	Operations []Count
	// Declines counts what was not answered with a success, by reason ("limit", "sealed"): requests, and items of batches.
	Declines []Count
	// Bytes counts what request bodies brought, by operation.
	Bytes []Count
}

// Count is one counter.
type Count struct {
	Name, Outcome string // Outcome is empty for declines and bytes
	N             uint64
}

// counters are those of one Limits. The zero value is ready.
type counters struct {
	mu                          sync.Mutex // guards the maps
	operations, declines, bytes map[Count]uint64
}

// count notes one request's end, or with an empty outcome n items that were declined.
func (c *counters) count(op, outcome, reason string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if outcome != "" {
		add(&c.operations, Count{Name: op, Outcome: outcome}, 1)
	}
	if reason != "" {
		add(&c.declines, Count{Name: reason}, uint64(n))
	}
}

func (c *counters) read(op string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	add(&c.bytes, Count{Name: op}, uint64(n))
}

func add(m *map[Count]uint64, c Count, n uint64) {
	if *m == nil {
		*m = map[Count]uint64{}
	}
	(*m)[c] += n
}

func sorted(m map[Count]uint64) []Count {
	list := make([]Count, 0, len(m))
	for c, n := range m {
		c.N = n
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Count) int { return strings.Compare(a.Name+" "+a.Outcome, b.Name+" "+b.Outcome) })
	return list
}

// Stats returns the counters of all services that share these limits.
func (l *Limits) Stats() Stats {
	c := &l.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Operations: sorted(c.operations), Declines: sorted(c.declines), Bytes: sorted(c.bytes)}
}

// CacheCounts counts what became of the need for a data key. The zero value is ready; several envelopes may share one.
type CacheCounts struct {
	Hits   atomic.Uint64 // it was in memory
	Asked  atomic.Uint64 // the master was asked
	Failed atomic.Uint64 // and did not give it
}
