package portal

import (
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// agree presses "Move here" at the portal, then "Continue", and returns where
// the person lands.
func (u *person) agree(page hop) hop {
	u.w.t.Helper()
	if page.answer == nil || page.host != homeHost || page.target != "/.anteroom/move" {
		u.w.t.Fatalf("landed at %s", page.url())
	}
	answer := u.at(homeHost).form("/.anteroom/move", "id="+ticketOf(u.w.t, page.answer))
	expect(u.w.t, answer, http.StatusOK, "Continue</a>")
	link := regexp.MustCompile(`href="([^"]*)">Continue</a>`).FindStringSubmatch(answer.Body.String())
	if link == nil {
		u.w.t.Fatalf("no link: %s", answer.Body)
	}
	last, _ := u.open(homeHost, html.UnescapeString(link[1]))
	return last
}

// TestMoveOverSites: with one portal for many sites, the limit counts sign-ons,
// the portal asks, and every site of the first workstation is locked.
func TestMoveOverSites(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	w.limits(1, session.Move)
	w.portal = w.fleetPortal(w.sessions)

	first, second := w.person(), w.person()
	first.mustOpen(site, "/patients/1")
	sid := first.mustOpen(clinic, "/rooms").ID // the same sign-on: it counts once

	page, _ := second.open(fincare, "/.anteroom/login?return_to=%2Fbills%2F7")
	if at := second.agree(page); at.answer != nil || at.host != fincare || at.target != "/bills/7" {
		t.Fatalf("landed at %s", at.url())
	}
	if s := second.at(fincare).mustSession(); s.ID == sid {
		t.Error("the moved session goes on")
	}
	for _, host := range []string{site, clinic, homeHost} {
		first.at(host).mustNoSession()
	}

	// The first workstation: locked at each site, without a way to the portal.
	for _, host := range []string{site, clinic} {
		locked, way := first.open(host, "/.anteroom/login?return_to=%2Fpatients%2F1")
		if len(way) != 1 || locked.answer == nil || !strings.Contains(locked.answer.Body.String(), "moved to another workstation") {
			t.Fatalf("%s: landed at %s", host, locked.url())
		}
	}
	// And back: with a prompt, to the page that was open.
	page, _ = first.open(site, "/.anteroom/login?here=1&return_to=%2Fpatients%2F1")
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("whoever stands there goes on without a prompt")
	}
	if at := first.agree(page); at.answer != nil || at.host != site || at.target != "/patients/1" {
		t.Fatalf("landed at %s", at.url())
	}
	back := first.at(site).mustSession().ID
	second.at(fincare).mustNoSession()
	// The other site of this workstation opens again with the same sign-on.
	if last, _ := first.open(clinic, "/.anteroom/login?here=1&return_to=%2Frooms"); last.answer != nil || first.at(clinic).mustSession().ID != back {
		t.Errorf("landed at %s", last.url())
	}
}

// TestSessionsOverSites: "not me" at one site ends the sign-ons everywhere; the
// page names the sites.
func TestSessionsOverSites(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u, other := w.person(), w.person()
	u.mustOpen(site, "/")
	u.mustOpen(fincare, "/")
	other.mustOpen(clinic, "/")
	page := u.at(site).get("/.anteroom/sessions")
	expect(t, page, http.StatusOK, "on 2 devices", site, fincare, siteName(clinic))
	expect(t, u.at(site).form("/.anteroom/sessions/end-all", ""), http.StatusOK, "signed out everywhere", "on 2 devices")
	for _, b := range []*browser{u.at(site), u.at(fincare), u.at(homeHost), other.at(clinic), other.at(homeHost)} {
		b.mustNoSession()
	}
}

// TestMoveStayByMistake: whoever meant the other button comes to what was to be
// opened by the link on the page, a site behind the portal included.
func TestMoveStayByMistake(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	w.limits(1, session.Move)
	w.portal = w.fleetPortal(w.sessions)
	w.person().mustOpen(site, "/")
	u := w.person()
	u.open(site, "/.anteroom/login?return_to=%2Fward")
	page := u.at(homeHost).get("/.anteroom/move?stay=1")
	expect(t, page, http.StatusOK, "Nothing was moved")
	last, _ := u.open(homeHost, linkTo(t, page.Body.String(), "/.anteroom/login?ask="))
	expect(t, last.answer, http.StatusOK, "Move here")
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("without a prompt")
	}
	answer := u.at(homeHost).form("/.anteroom/move", "id="+ticketOf(t, last.answer))
	if last, _ = u.open(homeHost, linkTo(t, answer.Body.String(), "/.anteroom/login?ask=")); last.url() != "https://"+site+"/ward" {
		t.Errorf("landed at %s", last.url())
	}
}
