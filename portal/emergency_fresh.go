package portal

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// A rule may ask for a sign-in before the form (`max_age`, `acr`) or for a fresh one as
// long as the provider answers (`fresh`). Whoever sits down at somebody's unlocked screen
// then has no emergency access to give themselves.
//
// That the provider is silent must not be for the browser to say: this node asks it, over
// its own connection, at the moment of the form and once more when it is sent. Who cuts
// the node off from the provider gets in without a fresh sign-in, which the record, the
// alarm and the audit log then say.

const (
	answersFor  = 3 * time.Second // how long a provider may take
	answersKept = 5 * time.Second // how long what it said is believed: a form is no way to flood it
)

// answering remembers which providers answered lately.
type answering struct {
	mu   sync.Mutex // guards the field below, and is not held while a provider is asked
	last map[string]*answered
}

// of is what is known of a provider.
func (a *answering) of(name string) *answered {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = make(map[string]*answered)
	}
	if a.last[name] == nil {
		a.last[name] = new(answered)
	}
	return a.last[name]
}

type answered struct {
	mu  sync.Mutex // one asks, the others wait for what it hears
	at  time.Time  // zero: never asked
	yes bool
}

// answers reports whether the provider of a source answers now. One that cannot be asked
// counts as one that does: nobody is spared a sign-in for that.
func (p *Portal) answers(ctx context.Context, name string) bool {
	source, ok := p.source(name).(identity.Answering)
	if !ok {
		return true
	}
	a := p.asked.of(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := p.now()
	if !a.at.IsZero() && now.Sub(a.at) >= 0 && now.Sub(a.at) < answersKept {
		return a.yes
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answersFor)
	defer cancel()
	err := source.Answers(ctx)
	if err != nil {
		p.log.Warn("the provider does not answer; until it does, emergency access can begin without a fresh sign-in", "source", name, "error", err)
	}
	a.at, a.yes = p.now(), err == nil
	return a.yes
}

// freshness is what a form does about the age of a sign-in.
type freshness struct {
	need  identity.Need // what to sign in for first; zero: nothing
	stale bool          // without the fresh sign-in that the rule asks for
}

// freshness says what the sign-in of a session lacks. within is how old it may be where the
// rule asks for a fresh one: less when the form is shown than when it is sent, so that
// filling it in does not make it too old.
func (p *Portal) freshness(r *http.Request, s *session.Session, e policy.Emergency, within time.Duration) (f freshness) {
	if e.Need != nil {
		f.need = identity.Need{ACR: e.Need.ACR, AMR: e.Need.AMR, MaxAge: e.Need.MaxAge}
	}
	if e.Fresh <= 0 || meets(s.Grant, identity.Need{MaxAge: within}, p.now()) {
		return f
	}
	if f.stale = !p.answers(r.Context(), s.Source); f.stale {
		return f
	}
	if f.need.MaxAge == 0 || within < f.need.MaxAge {
		f.need.MaxAge = within
	}
	return f
}

// signInFirst sends a browser through the sign-in that comes before the form, and back to
// the form. It reports whether it has answered.
func (p *Portal) signInFirst(w http.ResponseWriter, r *http.Request, f freshness, target string) bool {
	if f.need.IsZero() {
		return false
	}
	if isAPIClient(r) {
		p.writeProblem(w, pageNeedsMore, "")
		return true
	}
	to := returnTo(p.emergencyURL(target), p.prefix)
	if to == "/" { // too long: the page itself offers the form again
		to = returnTo(target, p.prefix)
	}
	redirect(w, http.StatusSeeOther, p.beginURL("", goal{to: to, need: f.need}))
	return true
}
