package gate

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

const (
	// reasonEmergency is the reason of a request that a broken glass let through.
	reasonEmergency = "emergency"
	// reasonGlassEnd is the reason of what ends because the time of the emergency access is over, or its holder ended it.
	reasonGlassEnd = "emergency.end"
	// emergencyHeader tells the app the number of the emergency access, for a log of its own. What a client sends under that name
	// is deleted as all that begins with anteroom- is.
	emergencyHeader = "Anteroom-Emergency"
)

// glassPoll is how often a running request looks whether its emergency access was ended: within that time other nodes hear of it.
const glassPoll = 15 * time.Second

// errGlassEnd is how a request in flight ends with its emergency access.
var errGlassEnd = errors.New("the emergency access has ended")

// ledger is what is asked of emergency.Ledger.
type ledger interface {
	Active(ctx context.Context, cookies []string, sid, site string, now time.Time) []emergency.Active
}

// canBreak reports whether a broken glass can take the place of what a decision misses: a line that allows. A deny, a level or a
// method that nobody may use stays what it is.
func canBreak(d *policy.Decision) bool {
	return !d.Allowed && (d.Reason == policy.ReasonNoRule || d.Reason == policy.ReasonCondition)
}

// tryGlass is for a request that no line allows: it goes through when a running emergency access covers it, and otherwise a page
// may offer one. A token is nobody's presence and breaks no glass. What the ledger cannot say is no access.
func (x *exchange) tryGlass(d policy.Decision) policy.Decision {
	if x.session == nil || x.caller != nil || !canBreak(&d) {
		return d
	}
	g := x.gate
	ask := x.question()
	ask.Now, ask.Addr = g.now(), parseAddr(x.clientAddr())
	active := g.ledger.Active(x.r.Context(), x.cookies, x.session.ID, x.session.Audience, ask.Now)
	for i := range active {
		a := &active[i]
		if ask.Now.Before(a.Until) && a.ID != "" && g.policy.Break(ask, grantOf(a)) {
			x.named.glass = a
			return policy.Decision{Allowed: true, Rule: a.Rule, Route: a.Route, Reason: reasonEmergency}
		}
	}
	// The form leads back by a GET; what a form sent is not kept.
	if ask.Method == http.MethodGet || ask.Method == http.MethodHead {
		if e, ok := g.policy.Emergency(ask); ok {
			x.lacks().emergency = &e
		}
	}
	return d
}

// grantOf is a running access as the policy gave it.
func grantOf(a *emergency.Active) policy.Emergency {
	return policy.Emergency{Rule: a.Rule, Route: a.Route, Scope: a.Scope, Subject: a.Patient, For: a.Until.Sub(a.Begun)}
}

// Emergency asks the policy of this site whether the person of a session may break the glass for a page, target being its path and
// query. It is false as well when no glass is in the way. The caller has found the session for this very request.
func (g *Gate) Emergency(r *http.Request, s *session.Session, target string) (policy.Emergency, bool) {
	site, ok := hostName(r.Host)
	if g == nil || !g.special.emergency || s == nil || !ok || s.Audience != site {
		return policy.Emergency{}, false
	}
	target, _, _ = strings.Cut(target, "#")
	raw, query, _ := strings.Cut(target, "?")
	path, err := g.policy.ParsePath(raw)
	if err != nil || path.Under(g.prefix) {
		return policy.Emergency{}, false
	}
	who := subjectOf(&s.Grant)
	ask := policy.Request{Method: http.MethodGet, Path: path, Query: query, Who: &who, Now: g.now(), Host: site, Addr: parseAddr(g.clientAddr(r))}
	if d := g.policy.Decide(ask); !canBreak(&d) {
		return policy.Emergency{}, false
	}
	return g.policy.Emergency(ask)
}

// tellGlass tells the app.
func (x *exchange) tellGlass() refusal {
	a := x.glass()
	if a == nil {
		return refusal{}
	}
	if !isClean(a.ID) {
		return refusal{KindUnavailable, http.StatusServiceUnavailable, "identity"}
	}
	x.r.Header[emergencyHeader] = []string{a.ID}
	return refusal{}
}

// glassWatch ends a flight when its emergency access ends: at the latest after its time, and soon after its holder or a reviewer
// ended it.
type glassWatch struct {
	x     *exchange
	id    string
	until time.Time

	mu    sync.Mutex // guards the fields below
	timer *time.Timer
	done  bool
}

// watchGlass returns what takes this watcher and the one before off.
func (x *exchange) watchGlass(stop func()) func() {
	a := x.glass()
	w := &glassWatch{x: x, id: a.ID, until: a.Until}
	w.mu.Lock()
	w.timer = time.AfterFunc(w.next(), w.look)
	w.mu.Unlock()
	return func() {
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.done = true
		w.timer.Stop()
	}
}

// next is how long nothing has to be looked at.
func (w *glassWatch) next() time.Duration {
	return min(glassPoll, max(0, w.until.Sub(w.x.gate.now())))
}

// look cuts the flight or waits on.
func (w *glassWatch) look() {
	if !w.holds() {
		w.x.cut(errGlassEnd)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.done {
		w.timer.Reset(w.next())
	}
}

// holds asks the ledger again. A tunnel outlives the request that it began as, and its context.
func (w *glassWatch) holds() bool {
	g, x := w.x.gate, w.x
	now := g.now()
	if !now.Before(w.until) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), 5*time.Second)
	defer cancel()
	for _, a := range g.ledger.Active(ctx, x.cookies, x.session.ID, x.session.Audience, now) {
		if a.ID == w.id {
			return true
		}
	}
	return false
}
