package portal

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// limited answers a sign-in that is one too many for the role: with a question
// when it may be moved here, with a refusal otherwise. Nobody is signed in, and
// nobody is signed out.
func (p *Portal) limited(w http.ResponseWriter, r *http.Request, s identity.Source, a attempt, id identity.Identity, limit *session.LimitError) {
	e := audit.Event{
		Kind: "sign-in", Source: id.Source, Subject: id.Subject, Name: id.Username, Roles: id.Roles,
		Decision: "denied", Reason: reasonLimit,
	}
	ask := limit.OnLimit == session.Move && !a.move
	if ask {
		e.Reason = reasonAsked
	}
	ref, err := p.record(r, e)
	if err != nil {
		p.showError(w, r, pageUnavailable, "", errorLinks{again: p.beginURL("", a.goal())})
		return
	}
	if !ask {
		p.refuseLimit(w, r, a, ref, limit)
		return
	}
	c, err := p.sealPending(r.Context(), a, id, limit.Limit)
	if err != nil {
		f := failure{page: pageUnavailable, reason: reasonSeal, err: err, ask: a.Ask}
		if errors.Is(err, errAttemptSize) {
			f.page, f.reason = pageTooLarge, reasonTooLarge
		}
		p.fail(w, r, s, f, a.ReturnTo)
		return
	}
	http.SetCookie(w, c)
	// The page with the form has an address of its own: on a callback's page
	// no form works, because code and state in its address must not travel.
	redirect(w, http.StatusSeeOther, p.prefix+"move")
}

// refuseLimit shows where the person is signed in. The page is for who has just
// proved who they are.
func (p *Portal) refuseLimit(w http.ResponseWriter, r *http.Request, a attempt, ref string, limit *session.LimitError) {
	if isAPIClient(r) {
		p.writeProblem(w, pageLimit, ref)
		return
	}
	v := p.newView(r, pageLimit.title)
	v.Ref = ref
	v.Places = p.newPlaces(limit.Sessions, "")
	v.Places.Limit = limit.Limit
	v.Links = []link{{Href: p.beginURL("", a.goal()), Text: "Sign in again", Main: true}}
	p.show(w, r, "limit", pageLimit.status, v)
}

// move asks on GET and moves on POST. The link "Stay there" leads here, too.
func (p *Portal) move(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		p.moveHere(w, r)
		return
	}
	if q, err := parseQuery(r.URL.RawQuery); err == nil && q.Has("stay") {
		p.stay(w, r)
		return
	}
	d, reason := p.heldPending(r)
	if reason != "" {
		p.nothingWaits(w, r)
		return
	}
	list, err := p.sessions.Sessions(r.Context(), d.Identity.Source, d.Identity.Subject)
	if err != nil {
		p.log.Error("listing sessions", "error", err)
		p.showError(w, r, pageUnavailable, "", errorLinks{retry: p.prefix + "move"})
		return
	}
	v := p.newView(r, "You are signed in at another workstation")
	v.Places = p.newPlaces(surplusSessions(list, d.Limit), "")
	v.Places.Limit, v.Places.Ticket = d.Limit, d.ticket()
	p.show(w, r, "move", http.StatusOK, v)
}

// surplusSessions are those that make room for one more: the ones that were not
// used for longest, in the session manager's order.
func surplusSessions(list []session.Info, limit int) []session.Info {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b session.Info) int {
		return cmp.Or(a.Seen.Compare(b.Seen), a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list[:min(len(list), max(0, len(list)-limit+1))]
}

// moveHere is the answer "yes". The sign-in is used up, for all nodes, before
// anything is done with it: of two hundred copies of the cookie one is a session
// at most.
func (p *Portal) moveHere(w http.ResponseWriter, r *http.Request) {
	if !fromOurPage(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	if !p.limit.allow(p.client(r)) {
		p.tooMany(w, r)
		return
	}
	form, e := readForm(w, r, "id")
	if e != nil {
		p.showError(w, r, e, "", errorLinks{})
		return
	}
	d, reason := p.heldPending(r)
	if reason == reasonMoveMissing {
		p.nothingWaits(w, r)
		return
	}
	s := p.source(d.Attempt.Source)
	if reason == "" && form["id"] != d.ticket() {
		// A page of before somebody else signed in: whose sign-in waits now is
		// not what the person read.
		reason = reasonMoveTicket
	}
	if reason == "" && !p.ownsUsername(s, d.Identity.Username) {
		reason = reasonPrefix // the configuration has changed meanwhile
	}
	if reason != "" {
		dropCookie(w, moveCookie)
		p.notMoved(w, r, d, failure{page: pageMove, reason: reason})
		return
	}
	// Known before the sign-in is used up, so that it can be tried again.
	old, err := p.former(r)
	if err != nil {
		page, reason := classify(err)
		p.notMoved(w, r, d, failure{page: page, reason: reason, err: err})
		return
	}
	dropCookie(w, moveCookie)
	if err := p.consumePending(context.WithoutCancel(r.Context()), d); err != nil {
		f := failure{page: pageUnavailable, reason: reasonStore, err: err, session: old}
		if errors.Is(err, store.ErrConflict) {
			f.page, f.reason = pageMove, reasonMoveUsed
		}
		p.notMoved(w, r, d, f)
		return
	}
	if err := p.takeKept(context.WithoutCancel(r.Context()), &d); err != nil {
		f := failure{page: pageUnavailable, reason: reasonStore, err: err, session: old}
		if errors.Is(err, store.ErrNotFound) {
			f.page, f.reason = pageMove, reasonMoveKeep
		}
		p.notMoved(w, r, d, f)
		return
	}
	before := p.liveOf(r, d.Identity)
	p.admit(w, r, s, d.Attempt, d.Identity, old)
	p.recordMoved(r, d.Identity, before, old)
}

// liveOf lists the sessions of an account for the audit log: nil when they are
// not known.
func (p *Portal) liveOf(r *http.Request, id identity.Identity) map[string]session.Info {
	list, err := p.sessions.Sessions(context.WithoutCancel(r.Context()), id.Source, id.Subject)
	if err != nil {
		p.log.Warn("listing sessions for the audit log", "error", err)
		return nil
	}
	live := make(map[string]session.Info, len(list))
	for _, i := range list {
		live[i.ID] = i
	}
	return live
}

// recordMoved writes down which sessions have made room: those that were there
// before and are not any more. The one that this browser had is recorded as
// replaced.
func (p *Portal) recordMoved(r *http.Request, id identity.Identity, before map[string]session.Info, old *session.Session) {
	after := p.liveOf(r, id)
	if after == nil {
		return
	}
	for sid, i := range before {
		if _, lives := after[sid]; lives || old != nil && sid == old.ID {
			continue
		}
		_, _ = p.record(r, audit.Event{
			Kind: "sign-out", Source: i.Source, Subject: i.Subject, Name: i.Username, Roles: i.Roles,
			Session: audit.SessionLabel(sid), Decision: "allowed", Reason: reasonMoved,
		})
	}
}

// notMoved is fail, also where the source is not known.
func (p *Portal) notMoved(w http.ResponseWriter, r *http.Request, d pending, f failure) {
	ref, err := p.record(r, audit.Event{Kind: "sign-in", Source: d.Attempt.Source, Decision: "failed", Reason: f.reason})
	if err != nil {
		p.showError(w, r, pageUnavailable, "", errorLinks{})
		return
	}
	p.log.Warn("session not moved", "ref", ref, "reason", f.reason, "error", f.err)
	p.showError(w, r, f.page, ref, errorLinks{again: p.beginURL("", d.Attempt.goal()), who: f.session})
}

// stay is the answer "no": what waits is dropped. The provider may remember the
// person, who walks away now; the next sign-in here asks who it is.
func (p *Portal) stay(w http.ResponseWriter, r *http.Request) {
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	d, _ := p.heldPending(r)
	if hasCookie(r, moveCookie) {
		dropCookie(w, moveCookie)
		http.SetCookie(w, ownCookie(promptCookie, "1", promptTTL))
		p.dropKept(r.Context(), d)
	}
	v := p.newView(r, "Nothing was moved")
	v.Text = []string{"You stay signed in at the other workstation, and you are not signed in here. You can close this window."}
	v.Note = "The sign-in service may still remember you on this computer. On a shared computer, close all windows of this browser."
	// To what was to be opened, for who meant the other button.
	v.Links = []link{{Href: p.beginURL("", d.Attempt.goal()), Text: "Sign in here"}}
	p.show(w, r, "notice", http.StatusOK, v)
}

// nothingWaits is for somebody who comes back to the page too late, or twice.
func (p *Portal) nothingWaits(w http.ResponseWriter, r *http.Request) {
	v := p.newView(r, "There is nothing to move")
	v.Text = []string{"No sign-in of this browser is waiting. Nothing was changed.",
		"If you see this page right after signing in, your browser may be blocking cookies for this site."}
	v.Links = []link{{Href: "/", Text: "Go to the application", Main: true}}
	p.show(w, r, "notice", http.StatusOK, v)
}

// movedAway shows a workstation whose session went to another one that it did,
// and reports whether it has answered. It does not say whose: anybody may stand
// there now. It touches nothing that the application keeps in the browser, so
// that moving back goes on where it was left.
func (p *Portal) movedAway(w http.ResponseWriter, r *http.Request, to string) bool {
	q, _ := parseQuery(r.URL.RawQuery)
	if q.Has("here") || p.sessions.Ended(r.Header["Cookie"], r.Host) != "moved" {
		return false
	}
	p.showMoved(w, r, to)
	return true
}

func (p *Portal) showMoved(w http.ResponseWriter, r *http.Request, to string) {
	here := p.prefix + "login?here=1"
	if to != "/" {
		here += "&return_to=" + url.QueryEscape(to)
	}
	v := p.newView(r, "Your session was moved to another workstation")
	v.Text = []string{"This workstation is locked. What the application keeps here was not touched: sign in again to go on where it was left."}
	v.Links = []link{{Href: here, Text: "Continue here", Main: true}}
	p.show(w, r, "notice", http.StatusOK, v)
}
