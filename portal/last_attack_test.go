package portal

import (
	"net/http"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// closed closes the browser: cookies without an end of their own go.
func (b *browser) closed() {
	delete(b.jar, session.CookieToken)
	delete(b.jar, session.CookieContext)
	delete(b.jar, roundCookie) // its time is up when somebody else sits down
}

// TestAttackClosedBrowser: a shared workstation. Sent: one person's sign-in is
// ended at another site, or from another device, and the browser is closed. The
// next person opens a site. What would happen: nothing at the portal says that
// somebody signed out, and a provider that remembers signs the next one in as the
// one before. What must hold: the provider is asked to prompt, once; not when the
// session only ended by time.
func TestAttackClosedBrowser(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end    func(*testing.T, *world, *person)
		prompt bool
	}{
		"signed out at a site": {func(t *testing.T, _ *world, u *person) {
			expect(t, u.at(fincare).do("POST", "/.anteroom/logout"), http.StatusOK)
		}, true},
		"ended from another device": {func(t *testing.T, w *world, u *person) {
			other := w.person()
			other.mustOpen(site, "/")
			id := audit.SessionLabel(u.at(site).mustSession().ID)
			expect(t, other.at(site).form("/.anteroom/sessions/end", "id="+id), http.StatusOK, "is signed out")
		}, true},
		"idle":     {func(_ *testing.T, w *world, _ *person) { w.later(time.Hour) }, false},
		"left":     {func(*testing.T, *world, *person) {}, false},
		"cut off":  {func(_ *testing.T, _ *world, u *person) { u.at(homeHost).jar[lastCookie] = "" }, true},
		"invented": {func(_ *testing.T, _ *world, u *person) { u.at(homeHost).jar[lastCookie] = "AAAA" }, true},
		"of another kind": {func(t *testing.T, w *world, u *person) {
			text, err := w.portal.sealJSON(t.Context(), labelAsk, "AAAAAAAAAAAAAAAAAAAAAA")
			if err != nil {
				t.Fatal(err)
			}
			u.at(homeHost).jar[lastCookie] = text
		}, true},
		"twice": {func(_ *testing.T, _ *world, u *person) {
			b := u.at(homeHost)
			b.jar[lastCookie] += "; " + lastCookie + "=" + b.jar[lastCookie]
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFleet(t, newSource("hospital", "Hospital"))
			u := w.person()
			u.mustOpen(site, "/")
			u.mustOpen(fincare, "/")
			c.end(t, w, u)
			for _, b := range u.jars {
				b.closed()
			}
			for round, want := range []bool{c.prompt, false} {
				u.mustOpen(site, "/")
				if got := w.sources[0].lastBegin(t).Reauthenticate; got != want {
					t.Errorf("sign-in %d after closing: prompt %v", round+1, got)
				}
				for _, b := range u.jars {
					b.closed()
				}
			}
		})
	}
}

// TestAttackClosedBrowserOneSite: the same without a portal. Sent: a session that
// was moved to another workstation, and a browser that is closed.
func TestAttackClosedBrowserOneSite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	b, other := w.browser(), w.browser()
	b.signIn("hospital", "/")
	other.get(callback("hospital", other.begin("hospital", "/")), fromProvider)
	page := other.get("/.anteroom/move")
	expect(t, other.form("/.anteroom/move", "id="+ticketOf(t, page)), http.StatusSeeOther)
	b.mustNoSession()
	b.closed()
	b.begin("hospital", "/")
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("whoever stands there now becomes the person who left")
	}
}
