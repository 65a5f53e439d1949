package envelope

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
)

// What does not open is the trace of somebody who moved or changed a sealed value, or who
// tries what he has: it belongs into the audit log. Anybody with a browser can send a cookie
// that does not open, so events of one reason are at most one in refusedEvery; the next one
// has the count of all.

const refusedEvery = 10 * time.Second

// Reasons in the audit log.
const (
	reasonSealed    = "sealed"    // a value was changed, or belongs to another label, or its key is unknown or destroyed
	reasonCondemned = "condemned" // a value is sealed under a condemned key
	reasonUnwrap    = "unwrap"    // the master does not open a wrapped data key: it was changed, or its context is another one
	reasonRing      = "ring"      // the ring in the store is not taken: it was changed, set back or planted
)

// refusals adds up what did not open. The zero value is ready.
type refusals struct {
	mu   sync.Mutex // guards told
	told map[string]*denial
}

// denial is what is known of one reason.
type denial struct {
	at    time.Time // of the last event
	count int       // since then
	key   string    // of the last one, as the value or the ring names it
}

// note counts one, and returns how many an event is due for: 0 is none.
func (r *refusals) note(reason, key string, now time.Time) (count int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		r.told = map[string]*denial{}
	}
	one := r.told[reason]
	if one == nil {
		one = new(denial)
		r.told[reason] = one
	}
	one.count, one.key = one.count+1, key
	return one.take(now)
}

// rest returns what was counted and is due by now.
func (r *refusals) rest(now time.Time) map[string]denial {
	r.mu.Lock()
	defer r.mu.Unlock()
	var due map[string]denial
	for reason, one := range r.told {
		if n := one.take(now); n > 0 {
			if due == nil {
				due = map[string]denial{}
			}
			due[reason] = denial{now, n, one.key}
		}
	}
	return due
}

func (o *denial) take(now time.Time) int {
	if o.count == 0 || !o.at.IsZero() && !older(o.at, now, refusedEvery) {
		return 0
	}
	n := o.count
	o.at, o.count = now, 0
	return n
}

// refuse notes an error that says that something does not open. Others are none of it: a
// master that is away says nothing about a value.
func (c *core) refuse(ctx context.Context, reason, key string, err error) {
	if c.cfg.Audit == nil || !errors.Is(err, ErrSealed) && !errors.Is(err, ErrCondemned) && !errors.Is(err, ErrRefused) {
		return
	}
	if n := c.refusals.note(reason, key, c.cfg.Now()); n > 0 {
		c.recordRefused(ctx, reason, key, n)
	}
}

// refuseValue is refuse for a value. The service's values are its own matter: it names the
// caller.
func (c *core) refuseValue(ctx context.Context, label string, sealed []byte, err error) {
	if strings.HasPrefix(label, labelItem) || strings.HasPrefix(label, labelDocument) {
		return
	}
	reason := reasonSealed
	switch {
	case errors.Is(err, ErrCondemned):
		reason = reasonCondemned
	case !errors.Is(err, ErrSealed), errors.Is(err, errMasterSaid):
		return // not about the value; what the master says is noted where it is asked
	}
	key, _ := KeyOf(sealed)
	c.refuse(ctx, reason, key, err)
}

// flushRefused writes down what was counted since the last event.
func (c *core) flushRefused(ctx context.Context) {
	for reason, r := range c.refusals.rest(c.cfg.Now()) {
		c.recordRefused(ctx, reason, r.key, r.count)
	}
}

func (c *core) recordRefused(ctx context.Context, reason, key string, count int) {
	e := audit.Event{Kind: "envelope", Ref: audit.NewRef(), Decision: "denied", Reason: reason, Rule: ruleOf(c.cfg.Name, key), Count: count}
	if err := c.cfg.Audit.Record(context.WithoutCancel(ctx), e); err != nil {
		c.cfg.Logger.Error("what did not open could not be recorded", "ring", c.cfg.Name, "reason", reason, "count", count, "error", err)
	}
}

// ruleOf names ring and key in an event. The id of a key stands in the value itself, where
// anybody can write it: it has one of two fixed forms.
func ruleOf(ring, key string) string {
	if !keyIDs.MatchString(key) {
		return "ring " + ring
	}
	return "ring " + ring + " key " + key
}
