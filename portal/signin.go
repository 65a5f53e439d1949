package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// errStep says that a source named no place to send a browser to.
var errStep = errors.New("source gave an unusable address")

// login is the way in. With one source it goes straight on; with several, or
// after switching user, the person chooses from links. A form that ends at a
// provider would be stopped by our own form-action, hence links.
func (p *Portal) login(w http.ResponseWriter, r *http.Request) {
	q, _ := parseQuery(r.URL.RawQuery)
	if p.home == "" || p.away(r) || !q.Has("ask") {
		p.clearEnded(w, r)
		if p.movedAway(w, r, p.askedReturnTo(r)) {
			return
		}
		if q.Has("iss") {
			p.invited(w, r, q)
			return
		}
	}
	if p.away(r) {
		p.loginAway(w, r)
		return
	}
	g, ok := p.goal(w, r)
	if !ok {
		return
	}
	switching := q.Has("switch")
	if switching {
		g.need = identity.Need{} // somebody else comes
	}
	if g.ask == "" && !switching && p.reopen(w, r, g) {
		return
	}
	if s := p.onlyWay(r, g); s != nil && !switching {
		p.begin(w, r, s, g)
		return
	}
	if len(p.sources) == 0 {
		p.showError(w, r, pageNoSources, "", errorLinks{})
		return
	}
	p.showChoice(w, r, g, switching, false)
}

// onlyWay is the way to sign in that needs no choice: the only one, or, where a page
// asks for more than a session has shown, that session's own.
func (p *Portal) onlyWay(r *http.Request, g goal) identity.Source {
	if len(p.sources) == 1 {
		return p.sources[0]
	}
	if g.need.IsZero() {
		return nil
	}
	if s, _, err := p.signedOn(r); err == nil {
		return p.source(s.Source)
	}
	return nil
}

// showChoice is the sign-in page. Unknown says that the person has asked which way
// is theirs, and nobody knows.
func (p *Portal) showChoice(w http.ResponseWriter, r *http.Request, g goal, switching, unknown bool) {
	v := p.newView(r, "Sign in")
	if switching {
		// A link to this address must not tell that a session ended which did not.
		_, err := p.sessions.Find(r.Header["Cookie"], r.Host)
		v.Switching = errors.Is(err, session.ErrNone)
	}
	if g.ask != "" {
		v.Host = siteName(g.k.Site) // what the person wants to open
	}
	var sources []identity.Source
	sources, v.Chosen = p.chosenFirst(r)
	for i, s := range sources {
		v.Links = append(v.Links, link{Href: p.beginURL(s.Name(), g), Text: s.Title(), Main: true, Last: v.Chosen && i == 0})
	}
	if p.findsRealms(r) {
		v.Realm = &realmView{Action: p.beginURL("find", g), Unknown: unknown}
	}
	p.show(w, r, "login", http.StatusOK, v)
}

func (p *Portal) loginSource(s identity.Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if g, ok := p.goal(w, r); ok {
			p.begin(w, r, s, g)
		}
	}
}

// begin starts one attempt and sends the browser to the provider.
func (p *Portal) begin(w http.ResponseWriter, r *http.Request, s identity.Source, g goal) {
	if embedded(r) {
		p.showError(w, r, pageCrossOrigin, "", errorLinks{})
		return
	}
	if !p.limit.allow(p.client(r)) {
		p.tooMany(w, r)
		return
	}
	if p.looping(w, r, s.Name(), g) {
		return
	}
	a := p.newAttempt(r, s.Name(), g, p.mustPrompt(r) || g.k.Prompt > 0)
	step, err := s.Begin(r.Context(), identity.Start{
		State: a.State, CallbackURL: p.callbackURL(r.Host, a.Source), Reauthenticate: a.Reauthenticate,
		Need: a.Need, LoginHint: g.hint,
	})
	if err == nil && !usableStep(step.RedirectURL) {
		err = &identity.Failure{Kind: identity.ErrUnavailable, Reason: reasonStep, Err: errStep}
	}
	if err != nil {
		page, reason := classify(err)
		p.fail(w, r, s, failure{page: page, reason: reason, err: err, ask: g.ask, need: g.need}, g.to)
		return
	}
	a.Keep, a.Posted = step.Keep, step.Posted
	p.sendOff(w, r, a, step.RedirectURL)
}

// looping stops a browser that does not keep the cookies of sessions and would
// go round for ever (S13), and a page that asks for more and more. It reports
// whether it has answered.
func (p *Portal) looping(w http.ResponseWriter, r *http.Request, name string, g goal) bool {
	n := rounds(r)
	if n < roundMax {
		return false
	}
	if !g.need.IsZero() && n >= stepMax {
		dropCookie(w, roundCookie)
		p.failAt(w, r, name, failure{page: pageStepUp, reason: reasonStepLoop, ask: g.ask, need: g.need}, g.to)
		return true
	}
	if _, err := p.sessions.Find(r.Header["Cookie"], r.Host); err == nil || p.ended(r) {
		return false // it does keep them: its session was ended, or moved, by somebody
	}
	dropCookie(w, roundCookie) // so that the link on the page tries afresh
	p.failAt(w, r, name, failure{page: pageLoop, reason: reasonLoop, ask: g.ask, need: g.need}, g.to)
	return true
}

func (p *Portal) newAttempt(r *http.Request, name string, g goal, reauthenticate bool) attempt {
	return attempt{
		Source: name, State: newState(), Host: strings.ToLower(r.Host), ReturnTo: g.to, Ask: g.ask,
		Created: p.now().Unix(), Reauthenticate: reauthenticate, Need: g.need,
	}
}

// goal is where the attempt leads, to begin it once more.
func (a attempt) goal() goal { return goal{to: a.ReturnTo, ask: a.Ask, need: a.Need} }

// sendOff leaves the attempt with the browser and sends it on its way.
func (p *Portal) sendOff(w http.ResponseWriter, r *http.Request, a attempt, location string) {
	cookie, err := p.sealAttempt(r.Context(), a)
	if errors.Is(err, errAttemptSize) && a.ReturnTo != "/" {
		a.ReturnTo = "/" // the only part that a link chooses
		cookie, err = p.sealAttempt(r.Context(), a)
	}
	if err != nil {
		p.failAt(w, r, a.Source, failure{page: pageUnavailable, reason: reasonSeal, err: err, ask: a.Ask, need: a.Need}, a.ReturnTo)
		return
	}
	for _, name := range surplus(heldAttempts(r, p.now()), len(cookie.Name)+len(cookie.Value), p.now()) {
		dropCookie(w, name)
	}
	http.SetCookie(w, cookie)
	redirect(w, http.StatusFound, location)
}

// usableStep is a last look at an address that the source vouches for: it
// must be one that leaves this page, and nothing that a header would mangle.
func usableStep(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x21 || s[i] > 0x7e {
			return false
		}
	}
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

// maxQuery is the longest query that is looked at, in bytes: longer than a
// provider's answer or a return address can be. Decoding a megabyte costs more
// than sending it, and anybody may ask for these pages.
const maxQuery = 16 << 10

func parseQuery(raw string) (url.Values, error) {
	if len(raw) > maxQuery {
		return nil, errors.New("query too long")
	}
	return url.ParseQuery(raw)
}

// askedReturnTo reads return_to. Whatever is unclear becomes "/": a query
// that does not parse, a parameter that is repeated.
func (p *Portal) askedReturnTo(r *http.Request) string {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil || len(q["return_to"]) != 1 {
		return "/"
	}
	return returnTo(q["return_to"][0], p.prefix)
}

// loginURL is the address that begins a sign-in: of one source, or of the
// choice when source is empty.
func (p *Portal) loginURL(source, to string) string {
	s := p.prefix + "login"
	if source != "" {
		s += "/" + source
	}
	if to != "/" {
		s += "?return_to=" + url.QueryEscape(to)
	}
	return s
}

func (p *Portal) callbackURL(host, source string) string {
	return "https://" + host + p.prefix + "callback/" + source
}

// redirect writes a Location as it is: http.Redirect would clean the path
// after it was checked.
func redirect(w http.ResponseWriter, status int, location string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Location", location)
	w.WriteHeader(status)
}
