package portal

import (
	"net/http"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// idleAtHome is a person whose sign-on is in use at a site and idle at the
// portal, where nobody works.
func (w *world) idleAtHome() *person {
	w.t.Helper()
	u := w.person()
	u.mustOpen(site, "/")
	w.later(10 * time.Minute)
	u.work(site)
	w.later(20 * time.Minute)
	u.at(homeHost).mustNoSession()
	u.at(site).mustSession()
	return u
}

// TestHandOffIdlePortalPage: somebody works at a site and opens the portal's own
// page, where their session is idle. It is the same sign-on: the provider is not
// asked, and the site's session, its streams included, goes on. After a sign-out
// there is none to go on with.
func TestHandOffIdlePortalPage(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.idleAtHome()
	at := u.at(site).mustSession()
	last, _ := u.open(homeHost, "/.anteroom/login?return_to=%2F.anteroom%2Fsessions")
	expect(t, last.answer, http.StatusOK, "Your devices")
	if s := u.at(homeHost).mustSession(); s.ID != at.ID || len(w.sources[0].begins) != 1 {
		t.Errorf("another sign-on %v, the provider was asked %d times", s.ID != at.ID, len(w.sources[0].begins))
	}
	u.at(site).mustSession()

	expect(t, u.at(site).do("POST", "/.anteroom/logout"), http.StatusOK)
	w.later(time.Hour)
	before := len(w.sources[0].begins)
	u.open(homeHost, "/.anteroom/login")
	if n := len(w.sources[0].begins) - before; n != 1 || !w.sources[0].lastBegin(t).Reauthenticate {
		t.Errorf("after the sign-out the provider was asked %d times", n)
	}
}

// TestHandOffIdlePortalPageMark: as above, after somebody signed out at the portal.
func TestHandOffIdlePortalPageMark(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.idleAtHome()
	u.at(homeHost).jar[promptCookie] = "1"
	u.open(homeHost, "/.anteroom/login")
	if n := len(w.sources[0].begins); n != 2 || !w.sources[0].lastBegin(t).Reauthenticate {
		t.Errorf("the provider was asked %d times", n)
	}
}

// TestAttackIdlePredecessor: a shared workstation. One person works at a site
// and leaves; their session at the portal is idle. Another one signs in at the
// portal, directly or by moving a session here. What would happen: the portal
// finds nothing to replace, and the site takes the second for the first. What
// must hold: the first person's sign-on ends, and the site opens for the second.
func TestAttackIdlePredecessor(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]bool{"signs in": false, "moves here": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFleet(t, newSource("hospital", "Hospital"))
			u := w.idleAtHome()
			w.sources[0].set(func() { w.sources[0].id.Subject, w.sources[0].id.Username = "sub-2", "bob" })
			if move {
				w.start = w.clock()
				w.limits(1, session.Move)
				w.portal = w.fleetPortal(w.sessions)
				w.person().mustOpen(fincare, "/") // bob, elsewhere
			}
			last, _ := u.open(homeHost, "/.anteroom/login/hospital")
			if move {
				expect(t, last.answer, http.StatusOK, "Move here")
				expect(t, u.at(homeHost).form("/.anteroom/move", "id="+ticketOf(t, last.answer)), http.StatusSeeOther)
			}
			if s := u.at(homeHost).mustSession(); s.Username != "bob" {
				t.Fatalf("signed in as %s", s.Username)
			}
			if s, err := u.at(site).session(); err == nil {
				t.Errorf("the site takes bob for %s", s.Username)
			}
			if s := u.mustOpen(site, "/"); s.Username != "bob" {
				t.Errorf("the site opens for %s", s.Username)
			}
			if n := w.audit.count("sign-out allowed " + reasonReplaced); n != 1 {
				t.Errorf("%d sessions are recorded as replaced: %v", n, w.audit.kinds())
			}
		})
	}
}
