package portal

import (
	"net/http"
	"net/url"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// errorLinks are the ways out of an error page.
type errorLinks struct {
	again  string           // address that begins a sign-in
	others []link           // other ways to sign in
	who    *session.Session // of a person who is signed in
	retry  string           // address to try once more
	open   string           // address that may open all the same
	home   bool             // offer the application's start page
	change string           // address of the form that switches user
	why    *whyView         // nil: the plain page of an error
}

// list puts the ways out into the order of the page, the likeliest first.
func (l errorLinks) list(p *Portal, e *errorPage) (list []link) {
	add := func(href, text string) {
		list = append(list, link{Href: href, Text: text, Main: len(list) == 0 && l.change == ""})
	}
	switch {
	case e == pageNotSignedOut:
		add(p.prefix+"logout", "Try to sign out again")
	case e == pageNeedsMore && l.again != "":
		add(l.again, "Confirm who I am")
	case l.open != "":
		add(l.open, "Open the page")
	case e == pageNoAnswer && l.again != "":
		add(l.again, "Try again")
	case l.again != "" && l.who != nil:
		add("/", "Go on to the application")
		add(l.again, "Sign in again")
	case l.again != "":
		add(l.again, "Sign in again")
	case l.retry != "":
		add(l.retry, "Try again")
	}
	for _, o := range l.others {
		add(o.Href, "Sign in with "+o.Text)
	}
	if l.home {
		add("/", "Go to the start page")
	}
	if l.change != "" {
		add(p.prefix, "Show my sign-in")
	}
	return list
}

// showError answers with an error page, or with problem+json for a program.
func (p *Portal) showError(w http.ResponseWriter, r *http.Request, e *errorPage, ref string, l errorLinks) {
	if isAPIClient(r) {
		p.writeProblem(w, e, ref)
		return
	}
	p.errorPage(w, r, e, e.status, ref, l)
}

func (p *Portal) errorPage(w http.ResponseWriter, r *http.Request, e *errorPage, status int, ref string, l errorLinks) {
	v := p.newView(r, e.title)
	v.Text, v.Ref, v.SwitchTo, v.Links = e.text, ref, l.change, l.list(p, e)
	if l.who != nil {
		v.Who = p.whoView(l.who)
	}
	retryLater(w.Header(), status)
	if l.why != nil {
		v.Why, v.Ref = l.why, "" // it stands beside whom to ask
		p.show(w, r, "why", status, v)
		return
	}
	p.show(w, r, "error", status, v)
}

// Refusal is a request that the gate refused, for Refuse.
type Refusal struct {
	Kind    string // no-session, forbidden, step-up, budget, ambiguous-path, method, cross-origin, unavailable, misdirected, application
	Status  int    // zero means the status of the kind
	Ref     string // reference number in the audit log
	Session *session.Session
	Need    identity.Need // what the page asks for, with the kind step-up

	// Missing is what the nearest rule asks for besides, with the kind forbidden. Emergency
	// is set where the person may break the glass for this page.
	Missing   policy.Missing
	Emergency *policy.Emergency
	Contact   string // whom to ask, as plain text; empty means Config.Contact
}

// Refuse shows the page of a refused request to a person, or of one that the application did not answer. An unknown kind
// gets the page of an outage. Nothing of the request is on the page but the
// host; its path stands, checked, in the address that switching user returns
// to.
func (p *Portal) Refuse(w http.ResponseWriter, r *http.Request, ref Refusal) {
	e, among := refusals[ref.Kind], []string(nil)
	switch {
	case e == nil:
		e = pageUnavailable
	case e == pageForbidden && ref.Session == nil:
		e = pageStranger // who is not signed in learns nothing of the rules
	case e == pageForbidden:
		e, among = forbidden(ref.Missing)
	}
	status := ref.Status
	if status < 400 || status > 599 {
		status = e.status
	}
	to := "/"
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		to = returnTo(r.URL.RequestURI(), p.prefix)
	}
	l := errorLinks{who: ref.Session, home: r.URL.Path != "/"}
	switch {
	case e == pageNoSession:
		p.challenge(w)
		l = errorLinks{again: p.loginURL("", to)}
	case e == pageNeedsMore:
		l.again = p.beginURL("", goal{to: to, need: ref.Need})
	case e == pageUnavailable, e == pageNoApp:
		l = errorLinks{retry: to}
	case e == pageMisdirected:
		l = errorLinks{}
	case ref.Kind == "forbidden" || ref.Kind == "budget":
		l.why = p.newWhy(ref, among)
		if ref.Session == nil {
			break
		}
		l.why.Emergency = p.emergencyFor(r, ref)
		l.change = p.prefix + "switch"
		if to != "/" {
			l.change += "?return_to=" + url.QueryEscape(to)
		}
	}
	p.errorPage(w, r, e, status, ref.Ref, l)
}
