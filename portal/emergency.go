package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// Emergency access: somebody whom the rules deny a page, and whom a break_glass line
// names, says why they need it now and gets in, for that scope and that time only.
//
// What must hold: the site's policy is asked again by each request here, so that neither
// an old page nor a made-up address opens anything; the patient that the person saw is
// the one that opens; nothing begins before the ledger has it on record and has raised
// the alarm; no identity provider is asked for its leave (one that answers is asked for a
// fresh sign-in where the rule says so, see emergency_fresh.go). A form that is sent twice begins two
// accesses, each with its own number, record and review: a first answer that got lost on
// the way must not keep a person out, and neither may it go unreviewed.

// BreakGlass reports whether this person may break the glass for an address on the
// request's host, and for what.
type BreakGlass func(r *http.Request, s *session.Session, target string) (policy.Emergency, bool)

// Reasons of what is not begun, as they stand in the audit log. A field that was left
// empty is none: nobody asked for anything yet.
const (
	reasonGlassTarget  = "emergency.target"  // no address that anything could be begun for
	reasonGlassClosed  = "emergency.closed"  // no rule opens it to this person, or not any more
	reasonGlassPatient = "emergency.patient" // the form names another patient than its address
)

var (
	pageGlassClosed = &errorPage{http.StatusForbidden, "forbidden", "There is no emergency access here", []string{
		"Emergency access is not offered to you for this page. The page may be open to you already, or the rules may have changed since you opened the form.",
		"Nothing was begun, and no alarm was raised."}}
	pageGlassOver = &errorPage{http.StatusForbidden, "forbidden", "This emergency access is over", []string{
		"It has ended, or it belongs to another sign-in. If the patient still needs care now, open the record again: you can begin a new one from there."}}
	pageGlassDown = &errorPage{http.StatusServiceUnavailable, "unavailable", "Emergency access has NOT begun", []string{
		"It could not be recorded just now, and without a record nothing opens. Please try again in a minute.",
		"If the patient cannot wait, use the way that your organisation has for a failure of the computers."}}
	pageGlassMany = &errorPage{http.StatusTooManyRequests, "too-many-requests", "Too many attempts", []string{
		"You have tried to begin emergency access very many times. Nothing was begun this time. Please wait a minute and try again."}}
	pageGlassNotEnded = &errorPage{http.StatusServiceUnavailable, "unavailable", "It is NOT certain that this worked", []string{
		"The end of your emergency access could not be recorded just now. Please try again in a minute. It ends by itself when its time is over."}}
)

// offersEmergency reports whether this installation has emergency access at all.
func (p *Portal) offersEmergency() bool { return p.emergency != nil && p.breakGlass != nil }

// emergencyFor is the address of the form for a refused page, or empty. A request that
// would change something has no page to come back to.
func (p *Portal) emergencyFor(r *http.Request, ref Refusal) string {
	if ref.Emergency == nil || ref.Session == nil || !p.offersEmergency() || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return ""
	}
	for _, to := range []string{r.URL.RequestURI(), r.URL.EscapedPath()} { // a long query is not worth a life
		if p.glassTarget(to) {
			return p.emergencyURL(to)
		}
	}
	return ""
}

func (p *Portal) emergencyURL(to string) string {
	return p.prefix + "emergency?return_to=" + url.QueryEscape(to)
}

// glassTarget reports whether s can be the address that emergency access is for: a path
// on our own site, with its query. Unlike returnTo it lets every escape through, as
// patients are called in all languages; which of them have one meaning the policy of
// the site says. Nothing that passes can lead a browser to another site: it begins with
// one slash, and browsers decode no other (WHATWG URL, section 4.4).
func (p *Portal) glassTarget(s string) bool {
	if len(s) < 2 || len(s) > maxReturnTo || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == '\\' || s[i] == '#' {
			return false
		}
	}
	path, _, _ := strings.Cut(s, "?")
	if strings.Contains(path, "//") || ownPath(path, p.prefix) || path == p.prefix || path == p.prefix+"sessions" || path == p.prefix+"emergency" {
		return false
	}
	u, err := url.ParseRequestURI(s)
	return err == nil && u.Host == "" && u.Scheme == "" && u.EscapedPath() == path
}

// glass asks the policy of the site, afresh, what this person may open by breaking the
// glass. Otherwise it answers.
func (p *Portal) glass(w http.ResponseWriter, r *http.Request, s *session.Session, target string) (policy.Emergency, bool) {
	reason := reasonGlassTarget
	if p.glassTarget(target) {
		e, ok := p.breakGlass(r, s, target)
		if ok && e.For > 0 && strings.HasPrefix(e.Scope, "/") {
			return e, true
		}
		reason = reasonGlassClosed
	}
	ref, err := p.record(r, glassEvent(s, reason))
	if err != nil {
		p.showError(w, r, pageUnavailable, "", errorLinks{})
		return policy.Emergency{}, false
	}
	l := errorLinks{home: true, why: &whyView{Contact: p.contactOf(r), Ref: ref}}
	if reason == reasonGlassClosed {
		l.open = target
	}
	p.showError(w, r, pageGlassClosed, ref, l)
	return policy.Emergency{}, false
}

func glassEvent(s *session.Session, reason string) audit.Event {
	e := signOutEvent(s, reason)
	e.Kind, e.Decision = "emergency", "denied"
	return e
}

// glassSession finds the session of a request for emergency access to target. Without
// one it answers: a page leads through the sign-in to the target itself, where the form
// is offered afresh.
func (p *Portal) glassSession(w http.ResponseWriter, r *http.Request, target string) *session.Session {
	s, err := p.sessions.Find(r.Header["Cookie"], r.Host)
	switch {
	case err == nil:
		return s
	case !errors.Is(err, session.ErrNone):
		p.showError(w, r, pageUnavailable, "", errorLinks{})
	case isAPIClient(r):
		p.challenge(w)
		p.writeProblem(w, pageNoSession, "")
	case r.Method == http.MethodPost:
		p.showError(w, r, pageNoSession, "", errorLinks{again: p.loginURL("", returnTo(target, p.prefix))})
	default:
		redirect(w, http.StatusFound, p.loginURL("", returnTo(target, p.prefix)))
	}
	return nil
}

// askEmergency shows the form.
func (p *Portal) askEmergency(w http.ResponseWriter, r *http.Request) {
	target := ""
	if to := r.URL.Query()["return_to"]; len(to) == 1 {
		target = to[0]
	}
	s := p.glassSession(w, r, target)
	if s == nil {
		return
	}
	if e, ok := p.glass(w, r, s, target); ok {
		f := p.freshness(r, s, e, e.Fresh/2)
		if p.signInFirst(w, r, f, target) {
			return
		}
		v := newEmergencyView(e, emergencyForm{target: target})
		v.Stale = f.stale
		v.Running = p.runningFor(r, s, e.Scope, target)
		p.showEmergency(w, r, v)
	}
}

// beginEmergency is what the form is sent to.
func (p *Portal) beginEmergency(w http.ResponseWriter, r *http.Request) {
	if !fromOurPage(r) {
		p.foreignEmergency(w, r)
		return
	}
	form, bad := readEmergency(w, r)
	if bad != nil {
		p.showError(w, r, bad, "", errorLinks{})
		return
	}
	s := p.glassSession(w, r, form.target)
	if s == nil {
		return
	}
	if !p.glassPace.allow(s.Source + "\x00" + s.Subject) {
		p.showError(w, r, pageGlassMany, "", errorLinks{why: &whyView{Contact: p.contactOf(r)}})
		return
	}
	e, ok := p.glass(w, r, s, form.target)
	if !ok {
		return
	}
	if form.patient != e.Subject {
		if _, err := p.record(r, glassEvent(s, reasonGlassPatient)); err != nil {
			p.showError(w, r, pageUnavailable, "", errorLinks{})
			return
		}
	}
	f := p.freshness(r, s, e, e.Fresh)
	if p.signInFirst(w, r, f, form.target) {
		return
	}
	if problems := form.problems(e); len(problems) > 0 {
		v := newEmergencyView(e, form)
		v.Stale = f.stale
		v.Errors = problems
		p.showEmergency(w, r, v)
		return
	}
	p.beginAccess(w, r, s, e, form, f.stale)
}

// beginAccess asks the ledger for the access. Only what it has on record reaches the browser.
func (p *Portal) beginAccess(w http.ResponseWriter, r *http.Request, s *session.Session, e policy.Emergency, form emergencyForm, stale bool) {
	now := p.now()
	// What was begun is begun, also when the browser has left.
	set, id, err := p.emergency.Begin(context.WithoutCancel(r.Context()), emergency.Grant{
		Site: s.Audience, Source: s.Source, Subject: s.Subject, Username: s.Username, Roles: s.Roles, Session: s.ID,
		Rule: e.Rule, Route: e.Route, Scope: e.Scope, Patient: e.Subject, ReasonCode: form.reason, ReasonText: form.text, Drill: e.Drill, Stale: stale,
		Begun: now, Until: now.Add(e.For), Client: p.client(r), Cookies: r.Header["Cookie"],
	})
	if err != nil {
		p.log.Error("emergency access not begun", "error", err)
		p.showError(w, r, pageGlassDown, "", errorLinks{retry: p.emergencyURL(form.target), why: &whyView{Contact: p.contactOf(r)}})
		return
	}
	http.SetCookie(w, set)
	redirect(w, http.StatusSeeOther, p.begunURL(id, form.target))
}

// foreignEmergency refuses a form of another site's page; see foreignSignOut.
func (p *Portal) foreignEmergency(w http.ResponseWriter, r *http.Request) {
	ref := ""
	if s, err := p.sessions.Find(r.Header["Cookie"], r.Host); err == nil {
		if ref, err = p.record(r, glassEvent(s, reasonOrigin)); err != nil {
			p.showError(w, r, pageUnavailable, "", errorLinks{})
			return
		}
	}
	p.showError(w, r, pageCrossOrigin, ref, errorLinks{})
}
