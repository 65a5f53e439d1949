package portal

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// ticketTTL is how long the page about a sign-out leads on to the provider's.
	ticketTTL = 10 * time.Minute

	// leaveCookie holds the state with which the browser was sent to sign out at the
	// provider. It opens nothing; it says that whoever comes back was sent by us.
	leaveCookie = "__Host-anteroom-leave"

	// leaveWait bounds what a page about a sign-out waits for: the sign-out itself
	// has happened.
	leaveWait = time.Second
)

// ticket is a sign-out that can go on at the provider (OpenID Connect RP-Initiated
// Logout 1.0). It lies in the store, sealed, under a hash of the word that stands on
// the page of the person who signed out: what the source keeps holds a token, which
// belongs into no page.
type ticket struct {
	Source  string
	Keep    []byte
	Created int64 // Unix seconds
}

func ticketKey(word string) string {
	return labelTicketID + "/" + hex.EncodeToString(labelled(labelTicketID, word))
}

// keptFor reads what the source of a session needs to end its own. It is asked
// before the session ends, after which nobody has it. A sign-out never fails by it.
func (p *Portal) keptFor(ctx context.Context, s *session.Session) []byte {
	if _, ok := p.source(s.Source).(identity.Departer); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaveWait)
	defer cancel()
	b, err := p.sessions.Kept(ctx, s.ID)
	if err != nil {
		p.log.Warn("a sign-out goes to the provider without saying whose", "error", err)
		return nil
	}
	_, keep, _ := splitKept(b)
	return keep
}

// leaveLink leads from the page about a sign-out to the provider's: nil where there
// is no way. It is a link, as our form-action would stop a form that ends there.
func (p *Portal) leaveLink(r *http.Request, s *session.Session, keep []byte) *link {
	d, ok := p.source(s.Source).(identity.Departer)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), leaveWait)
	defer cancel()
	if to, err := d.Depart(ctx, identity.Departure{}); err == nil && to == "" {
		return nil // a provider without such a page; one that does not answer now may do so later
	}
	word := newState()
	text, err := p.sealJSON(ctx, labelTicket, ticket{Source: s.Source, Keep: keep, Created: p.now().Unix()})
	if err == nil {
		err = p.store.Put(ctx, ticketKey(word), []byte(text), p.now().Add(ticketTTL))
	}
	if err != nil {
		p.log.Warn("no link to the provider's sign-out", "error", err)
		return nil
	}
	href := p.prefix + "logout/" + s.Source + "?ticket=" + word
	if p.away(r) {
		href = "https://" + p.home + href
	}
	return &link{Href: href, Text: "Sign out at " + p.sourceTitle(s.Source) + " too"}
}

// takeTicket gives a ticket, once; store.ErrNotFound for any that is none.
func (p *Portal) takeTicket(ctx context.Context, source, word string) (ticket, error) {
	if !isCode(word) {
		return ticket{}, store.ErrNotFound
	}
	text, err := p.store.Take(ctx, ticketKey(word))
	if err != nil {
		return ticket{}, fmt.Errorf("taking a ticket to sign out: %w", err)
	}
	var t ticket
	if err := p.openJSON(ctx, labelTicket, string(text), &t); err != nil {
		return ticket{}, fmt.Errorf("opening a ticket to sign out: %w", err)
	}
	if age := p.now().Sub(time.Unix(t.Created, 0)); t.Source != source || age >= ticketTTL || age < -attemptSkew {
		return ticket{}, store.ErrNotFound
	}
	return t, nil
}

// leave sends the browser to the provider's sign-out. Only a ticket leads there, and
// nothing of the request says where: the address is the source's, and the browser
// comes back to one page of ours. Whatever is wrong ends on that page, too.
func (p *Portal) leave(s identity.Source, d identity.Departer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if embedded(r) {
			p.showError(w, r, pageCrossOrigin, "", errorLinks{})
			return
		}
		if !p.limit.allow(p.client(r)) {
			p.tooMany(w, r)
			return
		}
		back := p.prefix + "signed-out"
		q, err := parseQuery(r.URL.RawQuery)
		if err != nil {
			q = nil
		}
		t, err := p.takeTicket(context.WithoutCancel(r.Context()), s.Name(), single(q["ticket"]))
		if err != nil {
			if !errors.Is(err, store.ErrNotFound) {
				p.log.Warn("no way to the provider's sign-out", "source", s.Name(), "error", err)
			}
			redirect(w, http.StatusFound, back)
			return
		}
		state := newState()
		to, err := d.Depart(r.Context(), identity.Departure{Keep: t.Keep, ReturnURL: "https://" + r.Host + back, State: state})
		if err != nil || !usableStep(to) {
			p.log.Warn("no way to the provider's sign-out", "source", s.Name(), "error", err)
			redirect(w, http.StatusFound, back)
			return
		}
		http.SetCookie(w, ownCookie(leaveCookie, state, ticketTTL))
		redirect(w, http.StatusFound, to)
	}
}

// returned is where the provider sends the browser after its own sign-out, or where
// that ended early. It changes nothing: with the right state, a wrong one or none it
// says what is true of this site, and of the provider only what that has said.
func (p *Portal) returned(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		q = nil
	}
	there, n := false, 0
	for name, value := range cookies(r) {
		if name == leaveCookie {
			n++
			there = value != "" && subtle.ConstantTimeCompare([]byte(value), []byte(single(q["state"]))) == 1
		}
	}
	there = there && n == 1
	if there {
		dropCookie(w, leaveCookie)
	}
	_, _, err = p.signedOn(r) // the new token stays here: to come by is no use of a session
	switch {
	case err == nil:
		// A link to this page must not make anybody believe what is not so.
		v := p.newView(r, "You are signed in")
		v.Text = []string{"You have a session here, which goes on. If you want to leave, sign out."}
		v.Links = []link{{Href: p.prefix + "logout", Text: "Sign out", Main: true}, {Href: p.prefix, Text: "Show my sign-in"}}
		p.show(w, r, "notice", http.StatusOK, v)
	case errors.Is(err, session.ErrNone):
		v := p.newView(r, "You are signed out")
		v.Back, v.There = true, there
		p.show(w, r, "signedout", http.StatusOK, v)
	default:
		p.showError(w, r, pageUnavailable, "", errorLinks{})
	}
}
