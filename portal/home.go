package portal

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// goal reads where a sign-in is to lead. When there is an ask that cannot be
// honoured, or somebody is signed in already and has been handed over, it has
// answered and says false.
func (p *Portal) goal(w http.ResponseWriter, r *http.Request) (goal, bool) {
	g, ok := p.goalOf(w, r)
	if !ok || g.ask == "" {
		return g, ok
	}
	return g, !p.handOver(w, r, g)
}

// goalOf is goal without handing anybody over. An ask goes before a return address,
// and says what is needed itself.
func (p *Portal) goalOf(w http.ResponseWriter, r *http.Request) (goal, bool) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return goal{to: "/"}, true
	}
	if p.home == "" || !q.Has("ask") {
		return goal{to: p.askedReturnTo(r), need: needOf(q), hint: hintOf(q)}, true
	}
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return goal{}, false
	}
	if !p.handLimit.allow(p.client(r)) {
		p.tooMany(w, r)
		return goal{}, false
	}
	if len(q["ask"]) != 1 {
		p.failAt(w, r, handOffName, failure{page: pageAttempt, reason: reasonAskUnreadable}, "/")
		return goal{}, false
	}
	g := goal{to: "/", ask: q.Get("ask"), hint: hintOf(q)}
	k, reason, err := p.openAsk(r.Context(), g.ask)
	if reason != "" {
		f := failure{page: pageAttempt, reason: reason, err: err}
		if reason == reasonAskExpired {
			f.again = siteURL(k) // begins anew
		}
		p.failAt(w, r, handOffName, f, "/")
		return goal{}, false
	}
	g.k, g.need = k, k.Need
	return g, true
}

// siteURL is the first page of the site that asked. What was to be opened there
// is known to the browser's cookie at the site only.
func siteURL(k ask) string { return "https://" + k.Site + "/" }

// handOver sends a browser that is signed in here back to the site that asked,
// with a one-time code. It reports whether it has answered.
func (p *Portal) handOver(w http.ResponseWriter, r *http.Request, g goal) bool {
	s, renewed, err := p.signedOn(r)
	switch {
	case errors.Is(err, session.ErrNone):
		return false
	case err == nil && (hasCookie(r, promptCookie) || s.Started.Unix() < g.k.Prompt):
		return false // somebody signed out of this browser since
	case err == nil && !meets(s.Grant, g.need, p.now()):
		return false // the page asks for more than this sign-on has shown
	}
	location := ""
	if err == nil {
		location, err = p.newCode(r.Context(), g.k, s)
	}
	if err != nil {
		page, reason := classify(err)
		if reason == reasonUnknown {
			reason = reasonSeal
		}
		p.failAt(w, r, handOffName, failure{page: page, reason: reason, err: err, ask: g.ask}, "/")
		return true
	}
	if renewed != nil {
		http.SetCookie(w, renewed)
	}
	redirect(w, http.StatusFound, location)
	return true
}

// signedOn finds the sign-on of this browser. Nobody works at the portal, so
// its own session has long been idle while another site is in use: the idle
// time is the sign-on's, over all sites. The cookie, when there is one, is the
// session's new token.
func (p *Portal) signedOn(r *http.Request) (*session.Session, *http.Cookie, error) {
	s, err := p.sessions.Find(r.Header["Cookie"], r.Host)
	if p.home == "" || !errors.Is(err, session.ErrNone) {
		return s, nil, err
	}
	s, renewed, err := p.sessions.Revive(r.Context(), r.Header["Cookie"], r.Host)
	return s, renewed, err
}

// reopen gives the portal's own page back to somebody whose sign-on is in use at
// another site, where a new sign-in would end that one in the middle of their
// work. It reports whether it has answered.
func (p *Portal) reopen(w http.ResponseWriter, r *http.Request, g goal) bool {
	if hasCookie(r, promptCookie) {
		return false // somebody signed out of this browser since
	}
	s, renewed, err := p.signedOn(r)
	if err != nil || renewed == nil || !meets(s.Grant, g.need, p.now()) {
		return false
	}
	http.SetCookie(w, renewed)
	redirect(w, http.StatusFound, g.to)
	return true
}

// former is what a sign-in of this browser replaces: its sign-on, although idle
// here. At the other sites of the same browser it would go on, and whoever has
// just signed in would be the person of before there.
func (p *Portal) former(r *http.Request) (*session.Session, error) {
	s, _, err := p.signedOn(r)
	if errors.Is(err, session.ErrNone) {
		return nil, nil
	}
	return s, err
}

// landing is where a finished sign-in leads.
func (p *Portal) landing(r *http.Request, a attempt, s *session.Session) (string, error) {
	switch {
	case a.Ask == "":
		return a.ReturnTo, nil
	case r.Method == http.MethodPost:
		return p.prefix, nil // see onward
	}
	k, reason, err := p.openAsk(r.Context(), a.Ask)
	switch reason {
	case "":
		return p.newCode(r.Context(), k, s)
	case reasonAskExpired:
		return siteURL(k), nil // it asks once more, and is answered at once
	}
	p.log.Warn("the site that asked for this sign-in is not known any more", "reason", reason, "error", err)
	return p.prefix, nil
}

// sameSignOn reports whether a sign-in that ends now may go on with the session
// that this browser got while it was under way: two tabs went to the provider at
// once, for one site or for two. Ending the first one would cut the streams of
// the page that the person already sees, or sign them out of its site. It is the
// same person with the same rights, and the sign-on is younger than the attempt:
// a session that was there before is never adopted by a sign-in. It also shows what
// this attempt was begun for: a page that asks for more must not get less.
func sameSignOn(a attempt, id identity.Identity, old *session.Session, now time.Time) bool {
	return old != nil &&
		old.Source == id.Source && old.Subject == id.Subject && old.Started.Unix() >= a.Created &&
		sameRights(old.Grant, grant(id)) && meets(old.Grant, a.Need, now)
}

// sameRights reports whether rules see the same in both.
func sameRights(a, b session.Grant) bool {
	return slices.Equal(a.Roles, b.Roles) && slices.Equal(a.Groups, b.Groups) && maps.Equal(a.Claims, b.Claims) && a.Org == b.Org
}

// onward is the last page of a sign-in that a form of ours finished. A redirect
// to the site that waits would be stopped by our form-action; a link is not.
func (p *Portal) onward(w http.ResponseWriter, r *http.Request, a attempt) {
	v := p.newView(r, "You are signed in")
	v.Links = []link{{Href: p.prefix, Text: "Show my sign-in", Main: true}}
	if k, reason, _ := p.openAsk(r.Context(), a.Ask); reason == "" || reason == reasonAskExpired {
		v.Text = []string{"Go on to " + siteName(k.Site) + "."}
		v.Links = []link{{Href: p.beginURL("", goal{ask: a.Ask}), Text: "Continue", Main: true}}
		if reason != "" {
			v.Links[0].Href = siteURL(k)
		}
	}
	p.show(w, r, "notice", http.StatusOK, v)
}
