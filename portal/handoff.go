package portal

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// handOffName stands where a source's name stands when a site hands a browser
// to the one portal: in callback/portal, in the attempt, in the audit log.
const handOffName = "portal"

// kindHandOff is the kind of audit events of a site that hands a browser to the
// portal and gets it back. The person's sign-in itself is recorded there.
const kindHandOff = "hand-off"

// away reports whether the request is for a site that leaves signing in to the
// one portal.
func (p *Portal) away(r *http.Request) bool {
	return p.home != "" && originHost(r.Host) != p.home
}

// loginAway is the way in at such a site. It goes straight on, except after
// switching user: that address was reached by a form of ours, and form-action
// would stop it on its way to another host. A link is no form.
func (p *Portal) loginAway(w http.ResponseWriter, r *http.Request) {
	to := p.askedReturnTo(r)
	q, _ := parseQuery(r.URL.RawQuery)
	if !q.Has("switch") {
		p.depart(w, r, goal{to: to, need: needOf(q)})
		return
	}
	v := p.newView(r, "Sign in")
	v.Home = p.home
	_, err := p.sessions.Find(r.Header["Cookie"], r.Host)
	v.Switching = errors.Is(err, session.ErrNone)
	text := "your own account"
	if len(p.sources) == 1 {
		text = p.sources[0].Title()
	}
	v.Links = []link{{Href: p.loginURL("", to), Text: text, Main: true}}
	p.show(w, r, "login", http.StatusOK, v)
}

// depart starts one attempt and sends the browser to the portal with an ask.
// It costs one seal and nothing in the store, so it is not limited; its records
// are.
func (p *Portal) depart(w http.ResponseWriter, r *http.Request, g goal) {
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	if !p.handsTo(r.Host) {
		// A name that the site answers to, but nobody handed out: the portal
		// would not send anybody back to it.
		p.showError(w, r, pageMisdirected, "", errorLinks{})
		return
	}
	if rounds(r) >= roundMax && !p.handLimit.allow(p.client(r)) {
		p.tooMany(w, r)
		return
	}
	if p.looping(w, r, handOffName, g) {
		return
	}
	prompt := p.promptSince(r)
	a := p.newAttempt(r, handOffName, g, prompt > 0)
	a.Keep = newVerifier()
	sealed, err := p.sealJSON(r.Context(), labelAsk, ask{
		Site: a.Host, State: a.State, Challenge: challenge(a.Keep), Prompt: prompt, Created: a.Created, Need: g.need,
	})
	if err != nil {
		p.failAt(w, r, handOffName, failure{page: pageUnavailable, reason: reasonSeal, err: err, need: g.need}, g.to)
		return
	}
	p.sendOff(w, r, a, "https://"+p.home+p.beginURL("", goal{ask: sealed}))
}

// promptSince is the moment, in Unix seconds, since which this browser wants a
// prompt, or 0. The portal compares it with the beginning of its own sign-on:
// after one fresh sign-in the sites that were signed out of open without
// another one. A session of this site that somebody ended elsewhere has no
// moment here; the portal's own cookies tell it then, and without any of those
// it prompts.
func (p *Portal) promptSince(r *http.Request) int64 {
	since, now := int64(0), p.now().Unix()
	for name, value := range cookies(r) {
		if name != promptCookie {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n > now || now-n > int64(promptTTL.Seconds()) {
			n = now // nothing that says when, so nothing from before is good enough
		}
		since = max(since, n)
	}
	if since == 0 && p.ended(r) {
		since = 1
	}
	return since
}

// ended reports whether the session in this browser's cookies was ended by
// somebody, here or elsewhere, rather than by time.
func (p *Portal) ended(r *http.Request) bool {
	return p.sessions.Ended(r.Header["Cookie"], r.Host) != ""
}

// arrive finishes an attempt of a site: it belongs to this browser and was not
// used yet, and the code is for it. Only then is there a session.
func (p *Portal) arrive(w http.ResponseWriter, r *http.Request) {
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	if !p.handLimit.allow(p.client(r)) {
		p.tooMany(w, r)
		return
	}
	q, ok := callbackQuery(r.URL.RawQuery)
	if !ok {
		p.failAt(w, r, handOffName, failure{page: pageAttempt, reason: reasonQuery}, "/")
		return
	}
	// Known before attempt and code are used up, so that the person can try
	// again when the answer is "not now".
	old, err := p.sessions.Find(r.Header["Cookie"], r.Host)
	if err != nil && !errors.Is(err, session.ErrNone) {
		page, reason := classify(err)
		p.failAt(w, r, handOffName, failure{page: page, reason: reason, err: err}, "/")
		return
	}
	a, f := p.take(w, r, handOffName, q.Get("state"))
	if f != nil {
		// The code has come to a browser that did not ask for it: it must not
		// work for the one that did, which may be a stranger's. Of two equal
		// callbacks the second says "used", and leaves the code to the first.
		if f.reason != reasonUsed {
			_, _ = p.takeCode(context.WithoutCancel(r.Context()), q.Get("code"))
		}
		f.session, f.need = old, a.Need
		p.failAt(w, r, handOffName, *f, a.ReturnTo)
		return
	}
	s, cookies, f := p.redeem(r, a, q.Get("code"))
	if f == nil && !meets(s.Grant, a.Need, p.now()) {
		f = &failure{page: pageStepUp, reason: reasonNotReached, session: old}
	}
	if f != nil {
		f.need = a.Need
		p.failAt(w, r, handOffName, *f, a.ReturnTo)
		return
	}
	p.enter(w, r, entry{name: handOffName, attempt: a, session: s, cookies: cookies, old: old, location: a.ReturnTo})
}

// kindOf is the kind of audit events of a sign-in with the source of this name.
func kindOf(name string) string {
	if name == handOffName {
		return kindHandOff
	}
	return "sign-in"
}

// provider finds a way to sign in that this host offers: none where signing in
// is left to the portal.
func (p *Portal) provider(r *http.Request, name string) identity.Source {
	if p.away(r) {
		return nil
	}
	return p.source(name)
}
