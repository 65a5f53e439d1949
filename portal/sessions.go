package portal

import (
	"context"
	"net/http"
	"slices"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// placesShown bounds the list on a page. Somebody with more sign-ins than this
// looks for none of them by name.
const placesShown = 50

// place is one sign-in of a person, in the words of a page. It holds nothing
// that opens anything: no id of a session, no token, no address of a network.
type place struct {
	ID          string // audit.SessionLabel: what stands in the audit log
	Name        string // "Firefox on Windows"
	Here        bool
	Source      string // title of the way to sign in
	Sites       []string
	First, Seen moment
}

// places are the sign-ins of one account.
type places struct {
	List   []place
	Count  string // "3 devices", those that are not shown too
	More   int    // how many are not shown
	Done   string // what was just done, empty for nothing
	Limit  int    // how many the role allows; for the pages of a limit only
	Ticket string // names the sign-in that waits; for the page that asks to move
}

// newPlaces puts sign-ins into words: the one of this browser first, then those
// used last.
func (p *Portal) newPlaces(list []session.Info, here string) *places {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b session.Info) int {
		switch {
		case a.ID == here:
			return -1
		case b.ID == here:
			return 1
		}
		return b.Seen.Compare(a.Seen)
	})
	v := &places{Count: count(int64(len(list)), "device"), More: max(0, len(list)-placesShown)}
	now := p.now()
	for _, i := range list[:len(list)-v.More] {
		v.List = append(v.List, place{
			ID: audit.SessionLabel(i.ID), Name: deviceName(i.Device), Here: i.ID == here, Source: p.sourceTitle(i.Source), Sites: i.Sites,
			First: newMoment(i.Started, now.Sub(i.Started)), Seen: newMoment(i.Seen, now.Sub(i.Seen)),
		})
	}
	return v
}

// ownSessions is the page about the devices that one is signed in on.
func (p *Portal) ownSessions(w http.ResponseWriter, r *http.Request) {
	if s := p.current(w, r, "sessions"); s != nil {
		p.showSessions(w, r, s, "")
	}
}

// showSessions fills the page afresh, after something was done as well: it
// shows what is, not what was meant.
func (p *Portal) showSessions(w http.ResponseWriter, r *http.Request, s *session.Session, done string) {
	list, err := p.sessions.Sessions(r.Context(), s.Source, s.Subject)
	if err != nil {
		p.log.Error("listing sessions", "error", err)
		p.showError(w, r, pageUnavailable, "", errorLinks{retry: p.prefix + "sessions"})
		return
	}
	v := p.newView(r, "Your devices")
	v.Places = p.newPlaces(list, s.ID)
	v.Places.Done = done
	p.show(w, r, "sessions", http.StatusOK, v)
}

// endOne ends one sign-in of one's own account. The label that names it is
// looked up among those: another account's is as unknown as one that was made
// up, and neither differs from one that is over already.
func (p *Portal) endOne(w http.ResponseWriter, r *http.Request) {
	form, s := p.ownForm(w, r, "sessions", "id")
	if s == nil {
		return
	}
	if form["id"] == audit.SessionLabel(s.ID) {
		if had, ok := p.signOut(w, r, reasonOwner); ok {
			p.signedOut(w, r, had)
		}
		return
	}
	list, err := p.sessions.Sessions(r.Context(), s.Source, s.Subject)
	if err != nil {
		p.notEnded(w, r, s, form["id"], err)
		return
	}
	for _, i := range list {
		if audit.SessionLabel(i.ID) != form["id"] {
			continue
		}
		if err := p.sessions.Revoke(context.WithoutCancel(r.Context()), i.ID); err != nil {
			p.notEnded(w, r, s, form["id"], err)
			return
		}
		e := signOutEvent(s, reasonOwner)
		e.Session = form["id"]
		_, _ = p.record(r, e) // logged by record; it is over all the same
		p.showSessions(w, r, s, deviceName(i.Device)+" is signed out.")
		return
	}
	p.showSessions(w, r, s, "That device was signed out already.")
}

// endAll is "This was not me": every sign-in of the account ends, this one too,
// as nobody can say which of them are the person's.
func (p *Portal) endAll(w http.ResponseWriter, r *http.Request) {
	_, s := p.ownForm(w, r, "sessions")
	if s == nil {
		return
	}
	// For the audit log only: an account whose sign-ins cannot be listed just
	// now is signed out all the same.
	list, err := p.sessions.Sessions(r.Context(), s.Source, s.Subject)
	if err != nil {
		p.log.Warn("listing sessions before ending them", "error", err)
	}
	had := departed{session: s, keep: p.keptFor(r.Context(), s)}
	n, err := p.sessions.RevokeUser(context.WithoutCancel(r.Context()), session.User{Source: s.Source, Subject: s.Subject})
	if err != nil {
		p.notEnded(w, r, s, audit.SessionLabel(s.ID), err)
		return
	}
	ref, _ := p.record(r, signOutEvent(s, reasonNotMe))
	for _, i := range list {
		if i.ID == s.ID {
			continue
		}
		e := signOutEvent(s, reasonNotMe)
		e.Session = audit.SessionLabel(i.ID)
		_, _ = p.record(r, e)
	}
	p.endEmergencies(r, s)
	p.forget(w, r)
	p.showEndedAll(w, r, max(n, 1), ref, p.leaveLink(r, had.session, had.keep))
}

// showEndedAll says what to do next: who ends what was not theirs may have
// somebody else in their account.
func (p *Portal) showEndedAll(w http.ResponseWriter, r *http.Request, n int, ref string, leave *link) {
	v := p.newView(r, "You are signed out everywhere")
	v.Ref = ref
	v.Text = []string{
		"Your account was signed in on " + count(int64(n), "device") + ", this one included. All of them are signed out.",
		"Tell your IT help desk now that somebody else may have used your account, and give them the reference number below. Whoever it was may know your password: change it at the sign-in service, then sign in again.",
	}
	v.Note = "The sign-in service may still remember you on this device, and whoever used your account on another one."
	v.Links = []link{{Href: p.prefix + "login", Text: "Sign in again", Main: true}}
	if leave != nil {
		v.Links = append(v.Links, *leave)
	}
	p.show(w, r, "notice", http.StatusOK, v)
}

// notEnded says that nothing is certain. Label is that of the session that was
// to end.
func (p *Portal) notEnded(w http.ResponseWriter, r *http.Request, s *session.Session, label string, cause error) {
	e := signOutEvent(s, reasonStore)
	e.Decision, e.Session = "failed", label
	ref, err := p.record(r, e)
	if err != nil {
		ref = ""
	}
	p.log.Error("session not ended", "ref", ref, "error", cause)
	p.showError(w, r, pageNotEnded, ref, errorLinks{retry: p.prefix + "sessions"})
}
