package portal

import (
	"cmp"
	"context"
	"net/http"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// failure is how a sign-in ended badly.
type failure struct {
	page   *errorPage
	reason string // fixed code for the audit log
	err    error  // for the operator, may be nil

	session *session.Session // of a person who is signed in all the same
	ask     string           // of the site that waits, sealed; empty without one
	need    identity.Need    // what the page that is to be opened asks for
	again   string           // address that begins anew, when it is not the usual one
}

// fail records a failed sign-in and shows its page. When it cannot be
// recorded the person sees an outage instead: nothing happens off the record.
func (p *Portal) fail(w http.ResponseWriter, r *http.Request, s identity.Source, f failure, to string) {
	p.failAt(w, r, s.Name(), f, to)
}

// failAt is fail for a source by its name, or for a hand-off.
func (p *Portal) failAt(w http.ResponseWriter, r *http.Request, name string, f failure, to string) {
	if f.page == pageAttempt && f.session != nil {
		f.page = pageDone // the back button, mostly
	}
	decision := "failed"
	if f.page == pageDeclined {
		decision = "denied"
	}
	ref, err := p.record(r, audit.Event{Kind: kindOf(name), Source: name, Decision: decision, Reason: f.reason})
	if err != nil {
		p.showError(w, r, pageUnavailable, "", errorLinks{})
		return
	}
	p.log.Warn("sign-in failed", "ref", ref, "source", name, "reason", f.reason, "error", f.err)
	g := goal{to: to, ask: f.ask, need: f.need}
	links := errorLinks{again: cmp.Or(f.again, p.beginURL("", g)), who: f.session}
	if f.page == pageNoAnswer {
		links.again = p.beginURL(name, g)
		for _, o := range p.sources {
			if o.Name() != name {
				links.others = append(links.others, link{Href: p.beginURL(o.Name(), g), Text: o.Title()})
			}
		}
	}
	p.showError(w, r, f.page, ref, links)
}

// tooMany answers beyond the rate limit. It leaves no audit record: a flood
// must not fill the disk.
func (p *Portal) tooMany(w http.ResponseWriter, r *http.Request) {
	p.showError(w, r, pageTooMany, "", errorLinks{})
}

// record writes an audit event and returns its reference number. It goes on
// when the browser has left: what happened did happen.
func (p *Portal) record(r *http.Request, e audit.Event) (string, error) {
	e.Ref = audit.NewRef()
	e.Site = siteName(r.Host)
	e.Method = r.Method
	e.Client = p.client(r)
	if err := p.audit.Record(context.WithoutCancel(r.Context()), e); err != nil {
		p.log.Error("audit event not taken", "ref", e.Ref, "kind", e.Kind, "error", err)
		return "", err
	}
	return e.Ref, nil
}
