package integration

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// What people see of sessions, in a real browser: two tabs, the back button, moving between workstations, the list of devices.

// patient is what must not be seen after the end of a session.
const patient = "Erika Example, born 1 May 1950"

// ward is an application with a page of patient data and streams. It keeps a cookie in the browser, and says cache as the
// header Cache-Control when that is not empty.
func ward(cache string) func(*received, net.Conn) {
	return func(r *received, conn net.Conn) {
		if path := r.path(); strings.HasSuffix(path, "/ws") || strings.HasSuffix(path, "/sse") {
			streams(r, conn)
			return
		}
		headers := "Content-Type: text/html; charset=utf-8\r\nSet-Cookie: draft=of-ward-7; Path=/; Secure"
		if cache != "" {
			headers += "\r\nCache-Control: " + cache
		}
		reply(conn, "200 OK", headers, fmt.Sprintf(`<!doctype html><html lang="en"><title>Ward</title><link rel="icon" href="data:,">
<h1>Ward list</h1><p>%s</p><p>%s for %s</p><p><a id="next" href="/members/next?bed=2">Next patient</a></p></html>`,
			patient, r.path(), strings.Join(r.values("Remote-User"), ",")))
	}
}

// Two tabs were sent to sign in at once. Each ends at the page that it asked for, and the second one disturbs nothing that the
// first one has begun.
func TestChromiumTwoTabs(t *testing.T) {
	r := newRig(t, standard)
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	begin := func(t *testing.T) (one, two *chromium) {
		one = newChromium(t)
		two = one.tab(t)
		for path, c := range map[string]*chromium{"/members/one": one, "/members/two": two} {
			c.navigate(t, r.url(appHost, path))
			c.asked(t, r)
		}
		return one, two
	}
	t.Run("one after the other", func(t *testing.T) {
		one, two := begin(t)
		one.signIn(t, "dana", "dana-pw")
		one.at(t, r.url(appHost, "/members/one"))
		one.waitText(t, patient)
		one.openStreams(t)
		if got := two.location(t); !strings.HasPrefix(got, r.op.issuer) {
			t.Errorf("the tab that waits at the provider is at %s", got)
		}
		two.signIn(t, "dana", "dana-pw")
		two.at(t, r.url(appHost, "/members/two"))
		for _, c := range []*chromium{one, two} {
			if got := c.fetch(t, "/members/x"); got != "200" {
				t.Errorf("the page at %s is answered %s", c.location(t), got)
			}
		}
		one.stillOpen(t) // the second sign-in goes on with the session of the first
		one.click(t, "#next")
		one.at(t, r.url(appHost, "/members/next?bed=2"))
	})
	t.Run("at once", func(t *testing.T) {
		one, two := begin(t)
		for _, c := range []*chromium{one, two} {
			c.do(t, "filling the form", chromedp.SendKeys(chromedp.CSS("input[name=username]"), "dana"),
				chromedp.SendKeys(chromedp.CSS("input[name=password]"), "dana-pw"))
		}
		for _, c := range []*chromium{one, two} {
			c.eval(t, `document.querySelector("form button").click(), ""`) // does not wait for the page
		}
		one.at(t, r.url(appHost, "/members/one"))
		two.at(t, r.url(appHost, "/members/two"))
		for _, c := range []*chromium{one, two} {
			c.waitText(t, patient)
			if got := c.fetch(t, "/members/x"); got != "200" {
				t.Errorf("the page at %s is answered %s", c.location(t), got)
			}
		}
	})
}

// Row 98: whoever comes to the workstation afterwards and goes back sees no patient, whatever the application said of caches.
func TestChromiumBackAfterSignOut(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	c := newChromium(t)
	for name, cache := range map[string]string{
		"nothing said": "", "private": "private, max-age=600", "no-store": "no-store", "public": "public, max-age=600, immutable",
	} {
		t.Run(name, func(t *testing.T) {
			r.dump.respond(t, ward(cache))
			c.readPatients(t, r)
			c.navigate(t, r.url(appHost, "/.anteroom/logout"))
			c.click(t, `form[action="/.anteroom/logout"] button`)
			c.waitText(t, "has ended")
			c.seesNothing(t, r)
		})
	}
}

// Row 98, when somebody else ended the session, at another node: the browser heard of no sign-out. As soon as it asks for
// anything and is refused, there is no way back either.
func TestChromiumBackAfterRevocation(t *testing.T) {
	h := newHall(t, 2, redistest.Standalone(t), hallConfig)
	r := h.nodes[0]
	r.op.ready(t)
	c := newChromium(t)
	for name, cache := range map[string]string{"nothing said": "", "private": "private, max-age=600"} {
		t.Run(name, func(t *testing.T) {
			r.dump.respond(t, ward(cache))
			c.readPatients(t, r)
			h.nodes[1].endAll(t, "dana")
			c.reload(t, r)
			c.seesNothing(t, r)
		})
	}
}

// Row 98, when the session was moved: a workstation that says that it is locked is locked, also for the back button. Cookies and
// storage stay, see TestChromiumMove.
func TestChromiumBackAfterMove(t *testing.T) {
	r := newRig(t, limited(standard, "1 move"))
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	c, b := newChromium(t), newBrowser(t)
	c.readPatients(t, r)
	asked := b.signIn(t, r.url(appHost, "/members/two"), "dana", "dana-pw")
	if p := b.submit(t, asked, map[string]string{}); p.Status != 200 || !strings.Contains(p.Body, patient) {
		t.Fatalf("moving ended with %d at %s:\n%s", p.Status, p.URL, p.Body)
	}
	c.navigate(t, r.url(appHost, "/members/three"))
	c.waitText(t, "This workstation is locked.")
	i, history := c.remembers(t, r)
	if i < 0 {
		t.Fatal("no page to go back to: the check saw nothing")
	}
	c.goBack(t, history[i].ID)
	eventually(t, patience, func() error {
		if text := c.text(t); strings.Contains(text, patient) {
			c.screenshot(t, "failed-back")
			t.Fatalf("at the locked workstation, going back to %s shows the patient", history[i].URL)
		} else if !strings.Contains(text, "This workstation is locked.") {
			return errText("going back shows " + text)
		}
		return nil
	})
}

// readPatients signs in and opens two pages.
func (c *chromium) readPatients(t testing.TB, r *rig) {
	t.Helper()
	c.navigate(t, r.url(appHost, "/members/one"))
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, patient)
	c.navigate(t, r.url(appHost, "/members/two"))
	c.waitText(t, patient)
	c.navigate(t, r.url(appHost, "/public/help")) // a page that shows nobody
}

// reload asks for a page as soon as the node knows that the session has ended.
func (c *chromium) reload(t testing.TB, r *rig) {
	t.Helper()
	eventually(t, patience, func() error {
		if status := r.status(t, appHost, "/members/x", c.session(t, r.url(appHost, "/"))); status != 401 {
			return errText("the ended session is answered " + strconv.Itoa(status))
		}
		return nil
	})
	c.navigate(t, r.url(appHost, "/members/three"))
	c.askedAgain(t, r)
}

// seesNothing goes back to every page of the application that the browser remembers.
func (c *chromium) seesNothing(t *testing.T, r *rig) {
	t.Helper()
	seen := 0
	for {
		i, history := c.remembers(t, r)
		if i < 0 {
			break // each that was looked at is an address of the provider by now
		}
		entry := history[i]
		c.goBack(t, entry.ID)
		eventually(t, patience, func() error {
			if text := c.text(t); strings.Contains(text, patient) {
				c.screenshot(t, "failed-back")
				t.Fatalf("going back to %s shows the patient", entry.URL)
			} else if !strings.Contains(text, "Hospital sign-in") || !strings.HasPrefix(c.location(t), r.op.issuer) {
				return errText("going back to " + entry.URL + " shows " + text)
			}
			return nil
		})
		if seen++; seen > 10 {
			t.Fatalf("going back does not lead away from %s", entry.URL)
		}
	}
	if seen < 2 {
		t.Errorf("%d pages to go back to: the check saw nothing", seen)
	}
}

// remembers is the browser's history, and where in it the first page with a patient stands: -1 for nowhere.
func (c *chromium) remembers(t *testing.T, r *rig) (int, []*cdppage.NavigationEntry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	history, err := chromedp.Run(ctx, chromedp.NavigationEntries())
	if err != nil {
		t.Fatal(err)
	}
	return slices.IndexFunc(history.Entries, func(e *cdppage.NavigationEntry) bool {
		return strings.HasPrefix(e.URL, r.url(appHost, "/members/"))
	}), history.Entries
}

// goBack goes to an entry of the history and waits until the page has changed.
func (c *chromium) goBack(t testing.TB, id int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	c.eval(t, `window.left = "yes"`)
	if _, err := chromedp.Call(ctx, cdppage.NavigateToHistoryEntry, cdppage.NavigateToHistoryEntryParams{EntryID: id}); err != nil {
		t.Fatal(err)
	}
	c.until(t, "going back", `window.left !== "yes" && document.readyState === "complete"`)
}

// endAll ends all sessions of a user with the subcommand, at this node.
func (r *rig) endAll(t testing.TB, user string) {
	t.Helper()
	res := output(t, r.env(), binary(t, "anteroom"), "sessions", "end-user", user, "--address", r.adminSocket())
	if res.code != 0 {
		t.Fatalf("ending the sessions of %s: %s%s", user, res.stdout, res.stderr)
	}
}

// limited is the configuration of the attack tables with so many sessions for the role doctor.
func limited(caddyfile, limit string) string {
	return strings.Replace(caddyfile, "\tanteroom {", "\tanteroom {\n\t\tsession role doctor sessions "+limit, 1)
}

// A doctor goes to another workstation and takes the session along; the first one is locked at its next click and keeps what
// the application holds there, until the doctor comes back.
func TestChromiumMove(t *testing.T) {
	r := newRig(t, limited(standard, "1 move"))
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	first, second := newChromium(t), newChromium(t)
	first.navigate(t, r.url(appHost, "/members/one"))
	first.signIn(t, "dana", "dana-pw")
	first.waitText(t, patient)
	first.eval(t, `localStorage.setItem("draft", "half a letter"), ""`)

	second.navigate(t, r.url(appHost, "/members/two?a=b"))
	second.signIn(t, "dana", "dana-pw")
	second.own(t, "1-second-asked", "You are signed in at another workstation", "button Move here", "link Stay there", "heading Chrome on Linux")
	if got := first.fetch(t, "/members/x"); got != "200" {
		t.Errorf("the question alone ended the session at the first workstation: %s", got)
	}
	if second.session(t, r.url(appHost, "/")) != nil {
		t.Error("the question alone makes a session at the second workstation")
	}
	second.click(t, `form[action="/.anteroom/move"] button`)
	second.at(t, r.url(appHost, "/members/two?a=b"))
	second.waitText(t, patient)

	first.click(t, "#next")
	first.own(t, "2-first-locked", "Your session was moved to another workstation", "link Continue here")
	if text := first.text(t); strings.Contains(text, "dana") || strings.Contains(text, "Dana") || strings.Contains(text, patient) {
		t.Errorf("the locked workstation tells whose it was:\n%s", text)
	}
	first.holds(t)
	first.click(t, `a[href*="here=1"]`)
	first.askedAgain(t, r)
	first.screenshot(t, "3-first-prompted")
	first.signIn(t, "dana", "dana-pw")
	first.own(t, "4-first-asked", "You are signed in at another workstation", "button Move here")
	first.click(t, `form[action="/.anteroom/move"] button`)
	first.at(t, r.url(appHost, "/members/next?bed=2"))
	first.waitText(t, patient)
	first.holds(t)
	second.click(t, "#next")
	second.own(t, "5-second-locked", "Your session was moved to another workstation", "link Continue here")
}

// holds fails when the application has lost what it keeps in the browser.
func (c *chromium) holds(t *testing.T) {
	t.Helper()
	if got := c.eval(t, `document.cookie + "; " + localStorage.getItem("draft")`); got != "draft=of-ward-7; half a letter" {
		t.Errorf("the application finds %q in the browser", got)
	}
}

// Who says no is not signed in, and the first workstation goes on.
func TestChromiumStay(t *testing.T) {
	r := newRig(t, limited(standard, "1 move"))
	first := r.person(t, appHost, "dana")
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/two"))
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, "Another browser on another system")
	c.click(t, `a[href*="stay=1"]`)
	c.own(t, "1-stay", "Nothing was moved", "link Sign in here")
	if status := r.status(t, appHost, "/members/x", first); status != 200 {
		t.Errorf("the first workstation is answered %d", status)
	}
	c.navigate(t, r.url(appHost, "/members/two"))
	c.askedAgain(t, r)
	c.navigate(t, r.url(appHost, "/.anteroom/move"))
	c.own(t, "2-nothing-waits", "There is nothing to move")
}

// A role with two places refuses the third, says where the person is signed in and lets nobody in by the back button.
func TestChromiumRefused(t *testing.T) {
	r := newRig(t, limited(standard, "2 refuse"))
	r.op.ready(t)
	first := newChromium(t)
	first.navigate(t, r.url(appHost, "/members/one"))
	first.signIn(t, "dana", "dana-pw")
	first.waitText(t, "dump of GET /members/one")
	other := r.person(t, appHost, "dana")

	third := newChromium(t)
	third.navigate(t, r.url(appHost, "/members/three"))
	if status := third.signIn(t, "dana", "dana-pw"); status != http.StatusForbidden {
		t.Errorf("the third sign-in is answered %d", status)
	}
	third.own(t, "1-refused", "You are signed in elsewhere", "heading Chrome on Linux", "heading Another browser on another system", "link Sign in again")
	if third.session(t, r.url(appHost, "/")) != nil {
		t.Error("the page that refuses comes with a session")
	}
	for _, s := range []*session{first.session(t, r.url(appHost, "/")), other} {
		if status := r.status(t, appHost, "/members/x", s); status != 200 {
			t.Errorf("a place that was there before is answered %d", status)
		}
	}
	r.signOut(t, appHost, other)
	third.click(t, `a[href*="/.anteroom/login"]`) // the provider has just asked
	third.at(t, r.url(appHost, "/members/three"))
}

// The list of one's own devices: what it says, and that it works without a mouse.
func TestChromiumOwnSessions(t *testing.T) {
	r := newRig(t, standard)
	r.dump.respond(t, ward(""))
	r.op.ready(t)
	here, there := newChromium(t), newChromium(t)
	there.disguise(t, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0")
	for _, c := range []*chromium{there, here} {
		c.navigate(t, r.url(appHost, "/members/one"))
		c.signIn(t, "dana", "dana-pw")
		c.waitText(t, patient)
	}
	here.navigate(t, r.url(appHost, "/.anteroom/"))
	here.own(t, "1-who", "You are signed in as Dana Doctor", "button Sign out", "link Show my devices")
	here.press(t, "Show my devices")
	here.own(t, "2-devices", "Your devices", "heading Chrome on Linux This device", "heading Firefox on Windows",
		"button Sign out this device", "button End Firefox on Windows (last seen less than a minute ago)",
		"button This was not me: end all", "link Back to my sign-in")
	here.press(t, "End Firefox on Windows")
	here.own(t, "3-one-ended", "Your devices", "status", "StaticText Firefox on Windows is signed out.", "button Sign out this device")
	if text := here.text(t); strings.Contains(text, "End Firefox") {
		t.Errorf("the device that was signed out is still there:\n%s", text)
	}
	there.click(t, "#next")
	there.askedAgain(t, r)
	there.signIn(t, "dana", "dana-pw")
	there.at(t, r.url(appHost, "/members/next?bed=2"))

	here.navigate(t, r.url(appHost, "/.anteroom/sessions"))
	here.press(t, "This was not me: end all")
	here.own(t, "4-all-ended", "You are signed out everywhere", "link Sign in again")
	if here.session(t, r.url(appHost, "/")) != nil {
		t.Error("the browser still holds the session that it ended")
	}
	if got := there.fetch(t, "/members/x"); got != "401" {
		t.Errorf("after ending all at another device, this one is answered %s", got)
	}
	here.press(t, "Sign in again")
	here.askedAgain(t, r)
}
