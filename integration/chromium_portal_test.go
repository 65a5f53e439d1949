package integration

import (
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// One portal for three sites, as a person meets it: one form, three sites, one sign-out.
func TestChromiumPortal(t *testing.T) {
	h := newHall(t, 1, redistest.Standalone(t), portalConfig)
	r := h.nodes[0]
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/one?a=b"))
	c.asked(t, r)
	c.signIn(t, "dana", "dana-pw")
	c.at(t, r.url(appHost, "/members/one?a=b"))
	c.waitText(t, patient)
	forms := r.op.counts(t)["/auth"]
	c.navigate(t, r.url(wideHost, "/two"))
	c.at(t, r.url(wideHost, "/two"))
	c.waitText(t, patient)
	c.navigate(t, r.url(authHost, "/"))
	c.own(t, "1-portal", "You are signed in as Dana Doctor", "button Sign out", "link Show my devices")
	if now := r.op.counts(t)["/auth"]; now != forms {
		t.Errorf("the provider was asked %d times more for the other two sites", now-forms)
	}
	c.navigate(t, r.url(authHost, "/.anteroom/sessions"))
	c.own(t, "2-devices", "Your devices", "heading Chrome on Linux This device")
	for _, site := range []string{appHost, wideHost, authHost} {
		if text := c.text(t); !strings.Contains(text, site) {
			t.Errorf("the list of devices does not name %s:\n%s", site, text)
		}
	}

	apart := c.tab(t) // a page of another site that stays open
	apart.navigate(t, r.url(appHost, "/members/one"))
	apart.openStreams(t)
	c.navigate(t, r.url(wideHost, "/.anteroom/logout"))
	c.own(t, "3-sign-out", "Sign out?", "button Sign out", "link Stay signed in")
	if text := c.text(t); !strings.Contains(text, "every site") {
		t.Errorf("the question does not say that all sites are meant:\n%s", text)
	}
	c.click(t, `form[action="/.anteroom/logout"] button`)
	c.own(t, "4-signed-out", "You are signed out", "link Sign in again")
	apart.until(t, "the end of the other site's streams", `ws.code === 1008`)
	if got := apart.fetch(t, "/members/x"); got != "401" {
		t.Errorf("after the sign-out at one site, another one is answered %s", got)
	}
	for _, page := range []string{r.url(authHost, "/.anteroom/"), r.url(appHost, "/members/one"), r.url(wideHost, "/two")} {
		c.navigate(t, page)
		c.askedAgain(t, r)
	}
	c.signIn(t, "dana", "dana-pw") // once, and all are open again
	c.at(t, r.url(wideHost, "/two"))
	c.navigate(t, r.url(appHost, "/members/one"))
	c.at(t, r.url(appHost, "/members/one"))
}

// Switching user at a site behind the portal: the next person signs in, with a form, at the same page.
func TestChromiumPortalSwitch(t *testing.T) {
	h := newHall(t, 1, redistest.Standalone(t), portalConfig)
	r := h.nodes[0]
	r.op.ready(t)
	c := newChromium(t)
	c.navigate(t, r.url(wideHost, "/two"))
	c.signIn(t, "dana", "dana-pw")
	c.at(t, r.url(wideHost, "/two"))
	c.navigate(t, r.url(wideHost, "/.anteroom/"))
	c.click(t, `form[action^="/.anteroom/switch"] button`)
	c.own(t, "1-switch", "Sign in", "link Sign in with hospital")
	c.click(t, `a[href*="/.anteroom/login"]`)
	c.askedAgain(t, r)
	c.signIn(t, "pat", "pat-pw")
	c.at(t, r.url(wideHost, "/"))
	c.navigate(t, r.url(wideHost, "/.anteroom/"))
	c.own(t, "2-next-person", "You are signed in as Pat Patient")
}

// One place at a time, with one portal: the question is asked there, and the answer leads to the site that was to be opened.
func TestChromiumPortalMove(t *testing.T) {
	h := newHall(t, 1, redistest.Standalone(t), limited(portalConfig, "1 move"))
	r := h.nodes[0]
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	first, second := newChromium(t), newChromium(t)
	first.navigate(t, r.url(appHost, "/members/one"))
	first.signIn(t, "dana", "dana-pw")
	first.at(t, r.url(appHost, "/members/one"))
	first.waitText(t, patient)
	first.eval(t, `localStorage.setItem("draft", "half a letter"), ""`)
	first.navigate(t, r.url(wideHost, "/two")) // a second site is no second place
	first.at(t, r.url(wideHost, "/two"))
	first.navigate(t, r.url(appHost, "/members/one"))

	second.navigate(t, r.url(wideHost, "/three?a=b"))
	second.signIn(t, "dana", "dana-pw")
	second.own(t, "1-second-asked", "You are signed in at another workstation", "button Move here", "link Stay there")
	if got := second.location(t); !strings.HasPrefix(got, r.url(authHost, "/.anteroom/move")) {
		t.Errorf("the question is asked at %s", got)
	}
	second.press(t, "Move here")
	second.own(t, "2-second-goes-on", "You are signed in", "link Continue")
	if text := second.text(t); !strings.Contains(text, wideHost) {
		t.Errorf("the page does not say where it leads:\n%s", text)
	}
	second.press(t, "Continue")
	second.at(t, r.url(wideHost, "/three?a=b"))
	second.waitText(t, patient)

	first.click(t, "#next")
	first.own(t, "3-first-locked", "Your session was moved to another workstation", "link Continue here")
	first.holds(t)
	first.press(t, "Continue here")
	first.askedAgain(t, r)
	first.signIn(t, "dana", "dana-pw")
	first.own(t, "4-first-asked", "You are signed in at another workstation", "button Move here")
	first.press(t, "Move here")
	first.own(t, "5-first-goes-on", "You are signed in", "link Continue")
	first.press(t, "Continue")
	first.at(t, r.url(appHost, "/members/next?bed=2"))
	first.holds(t)
	first.navigate(t, r.url(wideHost, "/two")) // where the person was signed in before the move, too
	first.own(t, "6-other-site", "Your session was moved to another workstation")
	first.press(t, "Continue here") // no form this time: the person has just said who they are
	first.at(t, r.url(wideHost, "/two"))
	second.click(t, "#next")
	second.own(t, "7-second-locked", "Your session was moved to another workstation")
}
