package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// callback finishes an attempt: the query has one meaning, the attempt is this
// browser's and not used yet, the source vouches for a person. Only then is
// there a session.
func (p *Portal) callback(s identity.Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if embedded(r) {
			p.showError(w, r, pageCrossOrigin, "", errorLinks{})
			return
		}
		if !p.limit.allow(p.client(r)) {
			p.tooMany(w, r)
			return
		}
		q, ok := callbackQuery(r.URL.RawQuery)
		if !ok {
			p.fail(w, r, s, failure{page: pageAttempt, reason: reasonQuery}, "/")
			return
		}
		// Known before the attempt is used up, so that the person can try again
		// when the answer is "not now".
		old, err := p.sessions.Find(r.Header["Cookie"], r.Host)
		if err != nil && !errors.Is(err, session.ErrNone) {
			page, reason := classify(err)
			p.fail(w, r, s, failure{page: page, reason: reason, err: err}, "/")
			return
		}
		tidyAnswers(w, r, q.Get("state"))
		a, f := p.take(w, r, s.Name(), q.Get("state"))
		if f == nil {
			q, f = p.answered(r, a, q)
		}
		if f != nil {
			f.session, f.ask, f.need = old, a.Ask, a.Need
			p.fail(w, r, s, *f, a.ReturnTo)
			return
		}
		id, err := p.finish(r, s, a, q)
		if err == nil && old == nil {
			old, err = p.former(r)
		}
		if err != nil {
			page, reason := classify(err)
			f := failure{page: page, reason: reason, err: err, ask: a.Ask, need: a.Need}
			if !a.Need.IsZero() {
				f.session = old // goes on as it was
			}
			p.fail(w, r, s, f, a.ReturnTo)
			return
		}
		p.admit(w, r, s, a, id, old)
	}
}

// callbackQuery parses the query of a callback: each parameter stands once (RFC
// 6749, section 3.1), state among them, and never an answer next to an error or a
// token, which the code flow does not have there.
func callbackQuery(raw string) (url.Values, bool) {
	q, err := parseQuery(raw)
	if err != nil {
		return nil, false
	}
	return q, plainAnswer(q)
}

// plainAnswer reports whether an answer has one meaning.
func plainAnswer(q url.Values) bool {
	for _, values := range q {
		if len(values) != 1 {
			return false
		}
	}
	if q.Has("id_token") || q.Has("access_token") || q.Has("code") && q.Has("error") {
		return false
	}
	return isToken(q.Get("state"))
}

// take finds the attempt with this state in the browser's cookies and uses it
// up. The cookie is deleted however it ends (RFC 9700, section 4.7.1). The
// attempt that comes with a failure is good for its ReturnTo only.
func (p *Portal) take(w http.ResponseWriter, r *http.Request, name, state string) (attempt, *failure) {
	none := attempt{ReturnTo: "/"}
	cookie := attemptName(state)
	var found held
	for _, h := range heldAttempts(r, p.now()) {
		if h.name == cookie {
			found = h
		}
	}
	if found.count == 0 {
		return none, &failure{page: pageAttempt, reason: reasonMissing}
	}
	dropCookie(w, cookie)
	if found.count > 1 {
		return none, &failure{page: pageAttempt, reason: reasonUnreadable}
	}
	a, err := p.openAttempt(r.Context(), found.value, state)
	if err != nil {
		return none, &failure{page: pageAttempt, reason: reasonUnreadable, err: err}
	}
	a.ReturnTo = returnTo(a.ReturnTo, p.prefix) // was checked before it was sealed; the rule may have changed since
	reason := a.fits(name, r.Host, p.now())
	if reason == reasonExpired {
		return a, &failure{page: pageAttempt, reason: reason}
	}
	// The state is out in the open now, whoever delivered it and wherever:
	// from here on it is worth nothing any more.
	if err := p.consume(context.WithoutCancel(r.Context()), a); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return a, &failure{page: pageAttempt, reason: reasonUsed, err: err}
		}
		return a, &failure{page: pageUnavailable, reason: reasonStore, err: err}
	}
	if reason == "" && !a.Reauthenticate && (hasCookie(r, promptCookie) || name != handOffName && p.mustPrompt(r)) {
		// Begun before somebody signed out of this browser: without a prompt the
		// next one at the workstation would finish it for them. signOut deletes
		// such attempts on its own host; a sign-out at another site cannot, but
		// has ended the session in these cookies.
		reason = reasonBefore
	}
	if reason != "" {
		return a, &failure{page: pageAttempt, reason: reason}
	}
	return a, nil
}

// finish asks the source who this is, and checks what every source must keep
// to. A source never speaks for another one.
func (p *Portal) finish(r *http.Request, s identity.Source, a attempt, q url.Values) (identity.Identity, error) {
	id, err := s.Finish(r.Context(), identity.Callback{
		Query: q, CallbackURL: p.callbackURL(r.Host, a.Source), Keep: a.Keep, Posted: a.Posted,
	})
	if err != nil {
		return identity.Identity{}, err
	}
	if err := id.Check(); err != nil {
		return identity.Identity{}, err
	}
	if id.Source != a.Source {
		return identity.Identity{}, &identity.Failure{Kind: identity.ErrRefused, Reason: reasonSourceName}
	}
	if !p.ownsUsername(s, id.Username) {
		return identity.Identity{}, &identity.Failure{Kind: identity.ErrRefused, Reason: reasonPrefix}
	}
	return id, nil
}

// ownsUsername reports whether a username of s is none of another source's. It
// belongs to the source with the longest prefix that it begins with: people may
// choose their name at many providers, "lab:ada" too where another source puts
// "lab:" before its names. Case does not count, as some apps ignore it.
func (p *Portal) ownsUsername(s identity.Source, username string) bool {
	own := len(usernamePrefix(s))
	prefixes := slices.Clone(p.reserved)
	for _, other := range p.sources {
		prefixes = append(prefixes, usernamePrefix(other))
	}
	for _, prefix := range prefixes {
		if len(prefix) > own && len(username) >= len(prefix) && strings.EqualFold(username[:len(prefix)], prefix) {
			return false
		}
	}
	return true
}

// usernamePrefix is what a source puts before its usernames; not every kind does.
func usernamePrefix(s identity.Source) string {
	if p, ok := s.(identity.Prefixed); ok {
		return p.UsernamePrefix()
	}
	return ""
}

// admit makes the session for somebody whom a source vouches for, unless they
// are signed in at as many places as their role allows.
func (p *Portal) admit(w http.ResponseWriter, r *http.Request, s identity.Source, a attempt, id identity.Identity, old *session.Session) {
	if !a.Need.Met(id, p.now()) {
		// The page would ask again at once, and the provider say the same.
		p.fail(w, r, s, failure{page: pageStepUp, reason: reasonNotReached, session: old, ask: a.Ask, need: a.Need}, a.ReturnTo)
		return
	}
	e := entry{name: s.Name(), attempt: a, old: old, who: id}
	g := grant(id)
	g.Device = p.knowsDevice(r, id)
	ad := session.Admission{Device: deviceOf(r), Move: a.move, Proved: a.proved, Keep: keptOf(id), Verify: id.Renews && id.Keep != nil}
	if old != nil {
		ad.Replaces = old.ID
	}
	var err error
	if sameSignOn(a, id, old, p.now()) {
		e.session = old
	} else {
		e.session, e.cookies, err = p.sessions.Issue(r.Context(), g, r.Host, ad)
	}
	if limit := (*session.LimitError)(nil); errors.As(err, &limit) {
		p.limited(w, r, s, a, id, limit)
		return
	}
	if err == nil {
		err = p.stillVouched(r, s, id)
	}
	if err == nil {
		e.location, err = p.landing(r, a, e.session)
	}
	if err != nil {
		page, reason := classify(err)
		if reason == reasonUnknown {
			reason = reasonIssue
		}
		p.undo(r, e)
		p.fail(w, r, s, failure{page: page, reason: reason, err: err, ask: a.Ask, need: a.Need}, a.ReturnTo)
		return
	}
	p.enter(w, r, e)
}

func grant(id identity.Identity) session.Grant {
	return session.Grant{
		Source: id.Source, Subject: id.Subject, Username: id.Username, Name: id.Name, Email: id.Email,
		Roles: id.Roles, Groups: id.Groups, Claims: id.Claims, Org: id.Org, ACR: id.ACR, AMR: id.AMR, AuthTime: id.AuthTime, ProviderSession: id.Session,
	}
}
