package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/session"
)

// logout asks on GET and signs out on POST. Parameters are not read: there is
// no address to be sent to afterwards that a stranger could choose.
func (p *Portal) logout(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		p.askLogout(w, r)
		return
	}
	if had, ok := p.signOut(w, r, reasonSignedOut); ok {
		p.signedOut(w, r, had)
	}
}

// askLogout shows the form, or, to somebody whose session has ended, that
// there is nothing left to do.
func (p *Portal) askLogout(w http.ResponseWriter, r *http.Request) {
	s, _, err := p.signedOn(r) // the new token stays here: to ask is no use of a session
	switch {
	case err == nil:
		v := p.newView(r, "Sign out?")
		v.Home = p.home
		v.Who = p.whoView(s)
		p.show(w, r, "logout", http.StatusOK, v)
	case errors.Is(err, session.ErrNone):
		p.signedOut(w, r, nil)
	default:
		p.showError(w, r, pageUnavailable, "", errorLinks{})
	}
}

// switchUser signs out and goes to the sign-in page, which shows links even
// for a single source: our own form-action would stop a form that ends at a
// provider.
func (p *Portal) switchUser(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.signOut(w, r, reasonSwitch); !ok {
		return
	}
	to := p.askedReturnTo(r)
	location := p.prefix + "login?switch=1"
	if to != "/" {
		location += "&return_to=" + url.QueryEscape(to)
	}
	redirect(w, http.StatusSeeOther, location)
}

// departed is a session that has just ended, and what its source needs to end its
// own.
type departed struct {
	session *session.Session
	keep    []byte
}

// signOut ends the session of the request: it says which, nil for none, and
// false when the answer has been given already. The session is dead for every
// node before the browser is told (row 49 of the requirements: nothing but a
// durable revocation counts).
func (p *Portal) signOut(w http.ResponseWriter, r *http.Request, reason string) (had *departed, ok bool) {
	if !fromOurPage(r) {
		// A foreign page could otherwise sign people out while they work.
		p.foreignSignOut(w, r)
		return nil, false
	}
	// A site that was idle still has its part in the sign-on that others use.
	s, _, err := p.signedOn(r)
	if err != nil && !errors.Is(err, session.ErrNone) {
		p.notSignedOut(w, r, nil, err)
		return nil, false
	}
	if s != nil {
		had = &departed{session: s, keep: p.keptFor(r.Context(), s)}
		if err := p.sessions.Revoke(context.WithoutCancel(r.Context()), s.ID); err != nil {
			p.notSignedOut(w, r, s, err)
			return nil, false
		}
		// The session is gone; saying that it is not, because the record
		// failed, would be wrong. record has logged the failure.
		_, _ = p.record(r, signOutEvent(s, reason))
		p.endEmergencies(r, s)
	}
	p.forget(w, r)
	return had, true
}

// foreignSignOut refuses. It is recorded when there is a session that it was aimed at: without one
// nothing could have happened, and strangers must not fill the log.
func (p *Portal) foreignSignOut(w http.ResponseWriter, r *http.Request) {
	ref := ""
	if s, err := p.sessions.Find(r.Header["Cookie"], r.Host); err == nil {
		e := signOutEvent(s, reasonOrigin)
		e.Decision = "denied"
		if ref, err = p.record(r, e); err != nil {
			p.showError(w, r, pageUnavailable, "", errorLinks{})
			return
		}
	}
	p.showError(w, r, pageCrossOrigin, ref, errorLinks{})
}

// notSignedOut says so, loudly: the person may be about to leave.
func (p *Portal) notSignedOut(w http.ResponseWriter, r *http.Request, s *session.Session, cause error) {
	e := audit.Event{Kind: "sign-out"}
	if s != nil {
		e = signOutEvent(s, "")
	}
	e.Decision, e.Reason = "failed", reasonStore
	ref, err := p.record(r, e)
	if err != nil {
		ref = ""
	}
	p.log.Error("sign-out not stored", "ref", ref, "error", cause)
	p.showError(w, r, pageNotSignedOut, ref, errorLinks{})
}

// forget removes what the browser holds of us, other tabs' attempts included:
// one that was begun before could be finished without a prompt by whoever
// sits down next. It leaves the mark that asks for a prompt, and lets the
// browser drop pages that the back button would show.
func (p *Portal) forget(w http.ResponseWriter, r *http.Request) {
	for _, c := range session.ClearCookies() {
		http.SetCookie(w, c)
	}
	for i, h := range heldAttempts(r, p.now()) {
		if i == attemptDrops {
			break
		}
		dropCookie(w, h.name)
	}
	dropCookie(w, roundCookie)
	for _, name := range []string{moveCookie, lastCookie, emergency.CookieName} { // the mark below says more
		if hasCookie(r, name) {
			dropCookie(w, name)
		}
	}
	http.SetCookie(w, ownCookie(promptCookie, strconv.FormatInt(p.now().Unix(), 10), promptTTL))
	clearCache(w)
}

// clearCache makes the browser forget the application's pages (Clear Site Data,
// W3C), which "private, max-age" would let it show to the next person.
func clearCache(w http.ResponseWriter) { w.Header().Set("Clear-Site-Data", `"cache"`) }

// clearEnded does so when the session of this browser has ended without a
// sign-out here: by time, at another workstation, by an operator. The way to
// the sign-in is the first that the browser hears of it, and whoever stands
// there now could go back to what was shown before. Cookies and storage, where
// an application keeps drafts, are not touched.
func (p *Portal) clearEnded(w http.ResponseWriter, r *http.Request) {
	if !hasCookie(r, session.CookieToken) && !hasCookie(r, session.CookieContext) {
		return
	}
	if _, err := p.sessions.Find(r.Header["Cookie"], r.Host); errors.Is(err, session.ErrNone) {
		clearCache(w)
	}
}

// signedOut is the last page. It is honest about what we cannot end.
func (p *Portal) signedOut(w http.ResponseWriter, r *http.Request, had *departed) {
	v := p.newView(r, "You are signed out")
	v.Expired, v.Home = had == nil, p.home
	if v.Expired && p.away(r) {
		// The sign-on may live without this site's part in it, which we cannot
		// name any more. The portal can.
		v.Links = []link{{Href: "https://" + p.home + p.prefix + "logout", Text: "Sign out of all sites"}}
	}
	if had != nil {
		v.Leave = p.leaveLink(r, had.session, had.keep)
		v.Titles = []string{p.sourceTitle(had.session.Source)}
	} else {
		for _, s := range p.sources {
			v.Titles = append(v.Titles, s.Title())
		}
	}
	p.show(w, r, "signedout", http.StatusOK, v)
}

func signOutEvent(s *session.Session, reason string) audit.Event {
	return audit.Event{
		Kind: "sign-out", Source: s.Source, Subject: s.Subject, Name: s.Username, Roles: s.Roles,
		Session: audit.SessionLabel(s.ID), Decision: "allowed", Reason: reason,
	}
}
