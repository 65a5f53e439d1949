package hardening

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
)

// gatherTime is how long successes of the cheapest requests are added up.
const gatherTime = time.Second

// gather adds up successes of requests that cost less than a record of their own would: a record without the slow step, a
// digest of the original form. The first one of a second has its own event, which is written before its answer; those that
// follow it within that second share one, whose Count has their units. Failures are never added up, nor is anything that
// names a uid.
type gather struct {
	after func(func()) // runs something a second later; nil: by a timer

	mu   sync.Mutex // guards what follows
	open map[gatherKey]*int
}

// gatherKey is what events must have in common.
type gatherKey struct{ op, who, versions, site string }

// note adds units to a running second and reports whether there is one.
func (g *gather) note(k gatherKey, units int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum, ok := g.open[k]
	if ok {
		*sum += units
	}
	return ok
}

// begin opens a second; an event was just written.
func (g *gather) begin(k gatherKey) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.open[k]; ok {
		return false
	}
	if g.open == nil {
		g.open = map[gatherKey]*int{}
	}
	g.open[k] = new(int)
	return true
}

// end takes the sum of a second. Without one the next success has its own event again.
func (g *gather) end(k gatherKey) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.open[k]
	if !ok {
		return 0
	}
	sum := *p
	if *p = 0; sum == 0 {
		delete(g.open, k)
	}
	return sum
}

func (g *gather) wait(f func()) {
	if g.after != nil {
		g.after(f)
		return
	}
	time.AfterFunc(gatherTime, f)
}

func (g *gather) drop(k gatherKey) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.open, k)
}

// recordCheap is record for a success that may be added up.
func (c *call) recordCheap() error {
	k := gatherKey{c.op, c.who, c.spent.versions, c.site()}
	if c.service.gather.note(k, c.spent.units) {
		return nil
	}
	return c.recordFirst(k)
}

// recordFirst writes the event of the first success of a second.
func (c *call) recordFirst(k gatherKey) error {
	s, e := c.service, c.event("allowed", "", "")
	if err := s.cfg.Audit.Record(context.WithoutCancel(c.r.Context()), e); err != nil {
		return fmt.Errorf("recording event: %w: %w", errAudit, err)
	}
	if s.gather.begin(k) {
		e.Client, e.Subject = "", ""
		s.gather.wait(func() { s.flush(k, e) })
	}
	return nil
}

// flush writes the event of one second, and ends when a second had none.
func (s *Service) flush(k gatherKey, e audit.Event) {
	if e.Count = s.gather.end(k); e.Count == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitReady)
	defer cancel()
	if err := s.cfg.Audit.Record(ctx, e); err != nil {
		// From here on each success needs its own event again, and is refused without.
		s.gather.drop(k)
		s.cfg.Logger.Error("the hmac service could not record the successes of the last second", "error", err, "units", e.Count)
		return
	}
	s.gather.wait(func() { s.flush(k, e) })
}
