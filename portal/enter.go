package portal

import (
	"context"
	"net/http"
	"strconv"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// entry is a session that is about to reach the browser.
type entry struct {
	name     string // of the source, or handOffName
	attempt  attempt
	session  *session.Session
	who      identity.Identity // as the source vouched; the zero one of a hand-off
	cookies  []*http.Cookie
	old      *session.Session // what this browser had until now, or nil
	location string
}

// enter lets the session reach the browser. The order matters: the old session
// of this browser ends first (a shared workstation, a fixed session), the record
// comes next, and the cookies leave only when both are durable.
func (p *Portal) enter(w http.ResponseWriter, r *http.Request, e entry) {
	s, old, a := e.session, e.old, e.attempt
	if old != nil && old.ID != s.ID {
		if err := p.replace(r, old); err != nil {
			p.undo(r, e)
			p.failAt(w, r, e.name, failure{page: pageUnavailable, reason: reasonStore, err: err, ask: a.Ask, need: a.Need}, a.ReturnTo)
			return
		}
	}
	event := audit.Event{
		Kind: kindOf(e.name), Source: s.Source, Subject: s.Subject, Name: s.Username, Roles: s.Roles,
		Session: audit.SessionLabel(s.ID), Decision: "allowed",
	}
	if a.move {
		event.Reason = reasonMoved
	}
	if _, err := p.record(r, event); err != nil {
		p.undo(r, e)
		p.showError(w, r, pageUnavailable, "", errorLinks{again: p.beginURL("", a.goal())})
		return
	}
	round := 1
	switch {
	case !a.Need.IsZero():
		round = min(rounds(r)+1, stepMax)
	case old == nil:
		round = min(rounds(r)+1, roundMax)
	}
	for _, c := range e.cookies {
		http.SetCookie(w, c)
	}
	http.SetCookie(w, ownCookie(roundCookie, strconv.Itoa(round), roundTTL))
	if e.name != handOffName {
		p.remember(w, r, s)
		p.rememberChoice(w, s.Source)
		p.rememberDevice(w, r, e.who)
	}
	for _, name := range []string{promptCookie, moveCookie} { // a sign-in that waits may be another person's
		if hasCookie(r, name) {
			dropCookie(w, name)
		}
	}
	if old == nil || old.Source != s.Source || old.Subject != s.Subject {
		// The cache may hold what the application showed to somebody else, whose
		// session ended by time and not by signing out.
		clearCache(w)
	}
	if a.Ask != "" && r.Method == http.MethodPost {
		p.onward(w, r, a)
		return
	}
	// 303: whatever method led here, the next request is a GET (RFC 9700, section 4.12).
	redirect(w, http.StatusSeeOther, e.location)
}

// undo ends a session that never reached the browser: it would count as a place
// where the person is signed in. One that was joined or went on stays.
func (p *Portal) undo(r *http.Request, e entry) {
	if e.session == nil || e.name == handOffName || len(e.cookies) == 0 {
		return
	}
	if err := p.sessions.Revoke(context.WithoutCancel(r.Context()), e.session.ID); err != nil {
		p.log.Warn("a session that nobody got is still listed", "error", err)
	}
}

// replace ends the session that this browser had until now.
func (p *Portal) replace(r *http.Request, old *session.Session) error {
	if err := p.sessions.Revoke(context.WithoutCancel(r.Context()), old.ID); err != nil {
		return err
	}
	_, err := p.record(r, signOutEvent(old, reasonReplaced))
	return err
}
