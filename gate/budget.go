package gate

import (
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/budget"
	"github.com/anteroom-proxy/anteroom/policy"
)

// The reasons of a view budget in the audit log.
const (
	reasonBudget      = "budget"       // a refusal
	reasonBudgetAlarm = "budget.alarm" // the alarm level is reached
	reasonBudgetLimit = "budget.limit" // the limit is
	reasonNoBudget    = "budget.store" // nobody can say how many there were
)

// budgetPatience is how long a request waits to hear how many there were.
const budgetPatience = 2 * time.Second

// counter is what is asked of budget.Budget.
type counter interface {
	Count(ctx context.Context, k budget.Key, value string, l budget.Limit, since time.Time) (budget.Result, error)
}

// countAll counts what the request is about in every budget that concerns it. The first that refuses ends it.
func (x *exchange) countAll() (no refusal) {
	if x.grant() == nil {
		return refusal{}
	}
	x.gate.policy.Counts(x.question(), func(c policy.Count) bool {
		no = x.count(&c)
		return no.kind == ""
	})
	return no
}

// count counts one value. Where that cannot be done, the request is refused; only a site that has chosen to go on without the store
// counts by itself meanwhile.
func (x *exchange) count(c *policy.Count) refusal {
	g, who := x.gate, x.grant()
	key := budget.Key{ID: c.ID, Site: g.counted(x.site), Account: g.person(who.Source, who.Subject, who.Username)}
	limit := budget.Limit{Max: c.Limit, Per: c.Per, Alarm: c.Alarm}
	var since time.Time
	if c.StepUp {
		since = who.AuthTime
	}
	result, err := g.askCounter(x.r.Context(), key, c.Value, limit, since)
	if errors.Is(err, budget.ErrUnavailable) && x.degraded {
		result, err = budget.Result{Admitted: g.local.admits(key, c.Value, limit, g.now())}, nil
	}
	if err != nil {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, reasonNoBudget}
	}
	if no := x.tellCount(c, &result); no.kind != "" || result.Admitted {
		return no
	}
	x.rule = c.Rule
	if !c.StepUp {
		return refusal{KindBudget, http.StatusForbidden, reasonBudget}
	}
	x.lacks().need = policy.Need{MaxAge: newer(g.now(), who.AuthTime)}
	return refusal{KindStepUp, http.StatusUnauthorized, reasonBudget}
}

// newer is the age that only a sign-in after the one of then has. It is not less: who has just proved who they are at a provider
// has to get back here within it.
func newer(now, then time.Time) time.Duration {
	if then.IsZero() {
		return time.Minute
	}
	age := now.Sub(then).Truncate(time.Second) - time.Second
	return min(max(age, time.Second), 24*time.Hour)
}

func (g *Gate) askCounter(ctx context.Context, k budget.Key, value string, l budget.Limit, since time.Time) (budget.Result, error) {
	if g.counter == nil {
		return budget.Result{}, errors.New("no counter for the policy's budgets")
	}
	ctx, cancel := context.WithTimeout(ctx, budgetPatience)
	defer cancel()
	return g.counter.Count(ctx, k, value, l, since)
}

// tellCount tells people and the audit log that a level was reached, once for each window. The value itself is not told: whose
// record it is adds nothing to how many there were.
func (x *exchange) tellCount(c *policy.Count, r *budget.Result) refusal {
	kind, reason, decision := alarm.KindBudget, reasonBudgetAlarm, "allowed"
	switch {
	case r.Exceeded:
		kind, reason, decision = alarm.KindLimit, reasonBudgetLimit, "denied"
	case !r.Alarm:
		return refusal{}
	}
	g, who, ref := x.gate, x.grant(), audit.NewRef()
	g.alarm.Raise(x.r.Context(), alarm.Event{
		Kind: kind, Ref: ref, Site: x.site, Source: who.Source, Who: who.Username, Roles: who.Roles, Rule: c.Rule, Reason: reason,
		Count: r.Count, Limit: c.Limit, At: g.now(),
	})
	if g.unaudited {
		return refusal{}
	}
	e := x.event(ref, decision, reason)
	e.Kind, e.Rule, e.Count = "budget", c.Rule, r.Count
	if err := g.audit.Record(x.r.Context(), e); err != nil {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, reasonAudit}
	}
	return refusal{}
}

// localCounts counts on this node alone while the store is silent. It begins at none: an outage gives everybody one more budget on
// each node, and not more.
type localCounts struct {
	mu      sync.Mutex // guards the fields below
	seed    maphash.Seed
	windows map[budget.Key]*localWindow
}

// localWindow is when each value was seen, by its hash.
type localWindow struct {
	per  time.Duration
	last time.Time
	seen map[uint64]time.Time
}

// maxLocalWindows bounds the memory. While all of them are in use, nothing that is new is admitted.
const maxLocalWindows = 1 << 16

func (l *localCounts) admits(k budget.Key, value string, limit budget.Limit, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.window(k, limit.Per, now)
	if w == nil {
		return false
	}
	id := maphash.String(l.seed, value)
	if _, known := w.seen[id]; !known && len(w.seen) >= limit.Max {
		maps.DeleteFunc(w.seen, func(_ uint64, at time.Time) bool { return now.Sub(at) >= limit.Per })
		if len(w.seen) >= limit.Max {
			return false
		}
	}
	w.seen[id], w.last = now, now
	return true
}

// window returns the one of the key, nil when there is no room.
func (l *localCounts) window(k budget.Key, per time.Duration, now time.Time) *localWindow {
	if l.windows == nil {
		l.seed, l.windows = maphash.MakeSeed(), map[budget.Key]*localWindow{}
	}
	if w := l.windows[k]; w != nil {
		return w
	}
	if len(l.windows) >= maxLocalWindows {
		maps.DeleteFunc(l.windows, func(_ budget.Key, w *localWindow) bool { return now.Sub(w.last) >= w.per })
		if len(l.windows) >= maxLocalWindows {
			return nil
		}
	}
	w := &localWindow{per: per, last: now, seen: map[uint64]time.Time{}}
	l.windows[k] = w
	return w
}
