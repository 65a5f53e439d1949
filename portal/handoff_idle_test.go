package portal

import (
	"net/http"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// later puts the world at another time after its start, with a session manager
// of that time.
func (w *world) later(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.start.Add(d)
	w.mu.Unlock()
	w.sessions = w.manager(w.clock())
	w.portal = w.fleetPortal(w.sessions)
}

// work is a request of the application at a site, which renews the session.
func (u *person) work(host string) {
	u.w.t.Helper()
	b := u.at(host)
	lines := b.request("GET", "/").Header["Cookie"]
	c, _, err := u.w.sessions.StartRenewal(b.mustSession(), lines, host).Wait(u.w.t.Context())
	if err != nil || c == nil {
		u.w.t.Fatalf("not renewed: %v", err)
	}
	b.jar[c.Name] = c.Value
}

// TestHandOffIdle: nobody works at the portal. Its own session is idle long
// before the ones of the sites, and other sites open all the same as long as one
// of them is in use; not any longer.
func TestHandOffIdle(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	first := u.mustOpen(site, "/")
	w.later(10 * time.Minute)
	u.work(site)
	w.later(20 * time.Minute)
	u.at(homeHost).mustNoSession()
	if s := u.mustOpen(fincare, "/"); s.ID != first.ID || !s.Started.Equal(first.Started) || !s.Ends.Equal(first.Ends) {
		t.Errorf("another sign-on, or one that a hand-off made longer: %+v", s)
	}
	if n := len(w.sources[0].begins); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	u.at(homeHost).mustSession()

	w.later(time.Hour)
	if s := u.mustOpen(fincare, "/"); s.ID == first.ID || len(w.sources[0].begins) != 2 {
		t.Errorf("an idle sign-on opened a site; the provider was asked %d times", len(w.sources[0].begins))
	}
}

// TestHandOffIdleSignOut: Sent: a sign-out from a site that has been idle, while
// another one is in use. What would happen: "your session had already ended", and
// the other one stays open. What must hold: it ends all, and asks before.
func TestHandOffIdleSignOut(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	u.mustOpen(site, "/")
	u.mustOpen(clinic, "/")
	w.later(10 * time.Minute)
	u.work(site)
	w.later(20 * time.Minute)
	u.at(clinic).mustNoSession()
	u.at(site).mustSession()
	answer := u.at(clinic).get("/.anteroom/logout")
	expect(t, answer, http.StatusOK, "You are signed in as", "signs you out of every site")
	for _, c := range answer.Result().Cookies() {
		if c.Name == session.CookieToken {
			t.Error("asking about signing out is a use of the session")
		}
	}
	expect(t, u.at(clinic).do("POST", "/.anteroom/logout"), http.StatusOK, "and of every other site")
	u.at(site).mustNoSession()
}

// TestHandOffIdleRevoked: what was signed out is not revived.
func TestHandOffIdleRevoked(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	u.mustOpen(site, "/")
	w.later(10 * time.Minute)
	u.work(site)
	w.later(20 * time.Minute)
	expect(t, u.at(site).do("POST", "/.anteroom/logout"), http.StatusOK)
	before := len(w.sources[0].begins)
	u.mustOpen(fincare, "/")
	if len(w.sources[0].begins) == before || !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("the sign-on was revived")
	}
}
