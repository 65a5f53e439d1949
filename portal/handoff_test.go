package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// TestHandOffOpensAllSites: one sign-in at the provider, three sites; each has
// two cookies and an aud of its own; all are one sign-on, and each hand-off is
// on the record at its site before the cookies leave.
func TestHandOffOpensAllSites(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "General Hospital"))
	u := w.person()
	seen := make(map[string]bool)
	sid := ""
	for _, host := range servedHosts {
		s := u.mustOpen(host, "/patients/7?tab=2")
		if sid == "" {
			sid = s.ID
		}
		if s.ID != sid || s.Audience != siteName(host) || s.Issuer != "https://"+host || s.Username != "adoe" {
			t.Errorf("%s: session %+v", host, s)
		}
		jar := u.at(host).jar
		for _, v := range []string{jar[session.CookieToken], jar[session.CookieContext], s.TokenID} {
			if v == "" || seen[v] {
				t.Errorf("%s: %q is not its own", host, v)
			}
			seen[v] = true
		}
		e := w.audit.last(t)
		if e.Kind != kindHandOff || e.Decision != "allowed" || e.Site != siteName(host) || e.Session != audit.SessionLabel(sid) || e.Source != "hospital" {
			t.Errorf("%s: recorded %+v", host, e)
		}
	}
	if n := len(w.sources[0].begins); n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	if got := w.sources[0].lastBegin(t).CallbackURL; got != "https://"+homeHost+"/.anteroom/callback/hospital" {
		t.Errorf("callback address %q: only the portal's is registered", got)
	}
	if n := w.audit.count("sign-in allowed "); n != 1 {
		t.Errorf("%d sign-ins on record: %v", n, w.audit.kinds())
	}
}

// TestHandOffSitesAskNoProvider: login/<source> and callback/<source> exist at
// the portal only, callback/portal at sites only (rows 8 and 9: no two doors of
// one name).
func TestHandOffSitesAskNoProvider(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	for _, path := range []string{"/.anteroom/login/hospital", callback("hospital", newState()), "/.anteroom/login/portal"} {
		for _, host := range servedHosts {
			if h, _ := u.step(host, path); h.answer.Code != http.StatusNotFound {
				t.Errorf("%s%s: %d", host, path, h.answer.Code)
			}
		}
	}
	for _, path := range []string{"/.anteroom/login/portal", callback("portal", newState()), "/.anteroom/callback/portal/"} {
		if h, _ := u.step(homeHost, path); h.answer.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, h.answer.Code)
		}
	}
	if n := len(w.sources[0].begins) + w.sources[0].finished(); n != 0 {
		t.Errorf("the provider was asked %d times", n)
	}
	single := newWorld(t, newSource("hospital", "Hospital"))
	expect(t, single.browser().get(callback("portal", newState())), http.StatusNotFound)
}

// TestHandOffConfig: what does not fit together does not start.
func TestHandOffConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	all := func(string) bool { return true }
	for name, c := range map[string]struct {
		home   string
		served func(string) bool
		source string
		good   bool
	}{
		"home":                              {homeHost, all, "hospital", true},
		"home with a port":                  {homeHost + ":8443", all, "hospital", true},
		"no list of sites":                  {homeHost, nil, "hospital", false},
		"no host":                           {"https://" + homeHost, all, "hospital", false},
		"a source called portal":            {homeHost, all, "portal", false},
		"a source called Portal":            {homeHost, all, "Portal", false},
		"a source called portal, no portal": {"", nil, "portal", true},
	} {
		_, err := New(Config{
			Sources:  []identity.Source{newSource(c.source, "x")},
			Sessions: w.sessions, Store: w.store, Sealer: w.sealer, Audit: w.audit, Home: c.home, Served: c.served,
		})
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHomeAlone: where there is no application, no link promises one; the sites have theirs.
func TestHomeAlone(t *testing.T) {
	t.Parallel()
	const app = "Go to the application"
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	u.open(site, "/.anteroom/login?return_to=%2Fx")
	for _, alone := range []bool{false, true} {
		w.portal.homeAlone = alone
		if got := strings.Contains(u.at(homeHost).get("/.anteroom/").Body.String(), app); got == alone {
			t.Errorf("alone %t: the portal's page has the link: %t", alone, got)
		}
		expect(t, u.at(site).get("/.anteroom/"), http.StatusOK, app)
	}
}

// TestHandOffAtHome: a sign-in that began at the portal itself ends there, and
// with several sources the choice leads back to the site that asked.
func TestHandOffAtHome(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "General Hospital"), newSource("city", "City"))
	u := w.person()
	last, _ := u.open(homeHost, "/.anteroom/login/city?return_to=%2F.anteroom%2F")
	expect(t, last.answer, http.StatusOK, "You are signed in")
	if last.url() != "https://"+homeHost+"/.anteroom/" {
		t.Errorf("ended at %s", last.url())
	}

	u = w.person()
	last, _ = u.open(site, "/.anteroom/login?return_to=%2Fx")
	expect(t, last.answer, http.StatusOK, "Sign in with General Hospital", "Sign in with City", siteName(site))
	if last.host != homeHost {
		t.Fatalf("the choice is shown at %s", last.host)
	}
	href := linkTo(t, last.answer.Body.String(), "/.anteroom/login/city?ask=")
	last, _ = u.open(homeHost, href)
	if last.answer != nil || last.host != site || last.target != "/x" {
		t.Errorf("landed at %s", last.url())
	}
	if s := u.at(site).mustSession(); s.Source != "city" {
		t.Errorf("signed in with %s", s.Source)
	}
	// The page is still open in another tab; by now there is nothing to choose.
	u.leave(site, "/y")
	if h, next := u.step(homeHost, href); h.answer.Code != http.StatusFound || !strings.HasPrefix(next, "https://"+site+"/.anteroom/callback/portal?") {
		t.Errorf("sent to %q", next)
	}
}

// linkTo finds an address on a page by its beginning.
func linkTo(t testing.TB, body, prefix string) string {
	t.Helper()
	_, rest, ok := strings.Cut(body, `href="`+prefix)
	href, _, end := strings.Cut(rest, `"`)
	if !ok || !end {
		t.Fatalf("no link to %s: %s", prefix, body)
	}
	return prefix + href
}

// TestHandOffSignOutEndsAll: signing out anywhere signs out everywhere, also
// from a site that was idle, and the pages say so.
func TestHandOffSignOutEndsAll(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	for _, from := range []string{homeHost, site, clinic} {
		u := w.person()
		for _, host := range servedHosts {
			u.mustOpen(host, "/")
		}
		expect(t, u.at(from).get("/.anteroom/logout"), http.StatusOK, "signs you out of every site")
		expect(t, u.at(from).do("POST", "/.anteroom/logout"), http.StatusOK, "and of every other site that you opened with this sign-in")
		for _, host := range append(servedHosts, homeHost) {
			u.at(host).mustNoSession()
		}
		// Nobody gets in again without a prompt, whichever site is opened next.
		for _, host := range append(servedHosts, homeHost) {
			c := &person{w: w, jars: map[string]*browser{}}
			for h, b := range u.jars {
				c.jars[h] = b.clone()
			}
			c.open(host, "/.anteroom/login")
			if !w.sources[0].lastBegin(t).Reauthenticate {
				t.Errorf("signed out at %s: the next sign-in at %s does not prompt", from, host)
			}
			c.at(host).mustSession()
		}
	}
	u := w.person()
	page := u.at(site).do("POST", "/.anteroom/logout")
	expect(t, page, http.StatusOK, "had already ended", `href="https://`+homeHost+`/.anteroom/logout"`, "may still be open")
}

// TestHandOffPromptsOnce: after a sign-out one fresh sign-in opens all sites
// again, those too that were signed out of.
func TestHandOffPromptsOnce(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	for _, host := range servedHosts {
		u.mustOpen(host, "/")
	}
	expect(t, u.at(site).do("POST", "/.anteroom/logout"), http.StatusOK)
	before := len(w.sources[0].begins)
	for _, host := range []string{fincare, site, clinic} {
		u.mustOpen(host, "/")
	}
	if n := len(w.sources[0].begins) - before; n != 1 {
		t.Errorf("the provider was asked %d times", n)
	}
	if u.at(site).jar[promptCookie] != "" {
		t.Error("the mark stays after the sign-in that it asked for")
	}
}

// TestHandOffMarkBeatsSession: a sign-on at the portal that is older than the
// sign-out at a site does not open that site again.
func TestHandOffMarkBeatsSession(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	for _, mark := range []string{"1", "", "x", "99999999999999999999", "-1", "9999999999"} {
		u := w.signedOn()
		old := u.at(homeHost).mustSession()
		w.advance(2 * time.Second)
		u.at(site).jar[promptCookie] = mark
		before := len(w.sources[0].begins)
		s := u.mustOpen(site, "/")
		if n := len(w.sources[0].begins) - before; n != 1 || !w.sources[0].lastBegin(t).Reauthenticate {
			t.Errorf("mark %q: the provider was asked %d times", mark, n)
		}
		if s.ID == old.ID {
			t.Errorf("mark %q: the old sign-on opened the site", mark)
		}
	}
}

// TestHandOffMarkAtHome: somebody signed out at the portal, and a browser kept
// the session all the same (or put it back): it opens nothing without a prompt.
func TestHandOffMarkAtHome(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	u.at(homeHost).jar[promptCookie] = "1"
	w.advance(time.Second)
	old := u.at(homeHost).mustSession()
	if s := u.mustOpen(site, "/"); s.ID == old.ID || !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("the sign-on of before opened the site")
	}
}

// TestHandOffTwoTabsAfterSignOut: as below, when both tabs prompt.
func TestHandOffTwoTabsAfterSignOut(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	expect(t, u.at(homeHost).do("POST", "/.anteroom/logout"), http.StatusOK)
	_, next := u.step(homeHost, "/.anteroom/login?ask="+u.leave(site, "/"), fromProvider)
	_, state, _ := atProvider(next)
	s := u.mustOpen(fincare, "/")
	u.open(homeHost, callback("hospital", state))
	if u.at(site).mustSession().ID != s.ID || u.at(fincare).mustSession().ID != s.ID {
		t.Error("the tabs end in two sign-ons")
	}
}

// TestHandOffMoves: the role allows one sign-in. The page that asks stands at the
// portal; its form ends on a page with a link to the site that waits, as a
// redirect there would be stopped by form-action.
func TestHandOffMoves(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	w.limits(1, session.Move)
	w.portal = w.fleetPortal(w.sessions)
	first, second := w.person(), w.person()
	first.mustOpen(site, "/")
	last, _ := second.open(site, "/.anteroom/login?return_to=%2Fx")
	expect(t, last.answer, http.StatusOK)
	if last.url() != "https://"+homeHost+"/.anteroom/move" {
		t.Fatalf("ended at %s", last.url())
	}
	answer := second.at(homeHost).form("/.anteroom/move", "id="+ticketOf(t, last.answer))
	expect(t, answer, http.StatusOK, "You are signed in", "Go on to "+site)
	if w.audit.count("sign-in allowed "+reasonMoved) != 1 {
		t.Errorf("recorded %v", w.audit.kinds())
	}
	last, _ = second.open(homeHost, linkTo(t, answer.Body.String(), "/.anteroom/login?ask="))
	if last.answer != nil || last.url() != "https://"+site+"/x" {
		t.Errorf("landed at %s", last.url())
	}
	second.at(site).mustSession()
	for _, host := range []string{site, homeHost} {
		first.at(host).mustNoSession()
	}
	last, _ = first.open(site, "/.anteroom/login")
	expect(t, last.answer, http.StatusOK, "moved to another workstation")
	if last.host != site {
		t.Errorf("the page is shown at %s", last.host)
	}
}

// TestHandOffSwitchUser: "switch user" at a site ends the sign-on everywhere and
// leads by a link, not by a redirect of the form, to a prompt at the portal.
func TestHandOffSwitchUser(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "General Hospital"))
	u := w.person()
	u.mustOpen(site, "/")
	u.mustOpen(fincare, "/")
	answer := u.at(site).do("POST", "/.anteroom/switch?return_to=%2Fpatients")
	expect(t, answer, http.StatusSeeOther)
	to := answer.Header().Get("Location")
	if !strings.HasPrefix(to, "/.anteroom/login?switch=1") {
		t.Fatalf("the form is redirected to %q", to)
	}
	page, next := u.step(site, to)
	if next != "" {
		t.Fatalf("the form is redirected on to %q, where form-action stops it", next)
	}
	expect(t, page.answer, http.StatusOK, "signed out of "+site+" and of every other site", "Sign in with General Hospital")
	u.at(fincare).mustNoSession()
	w.sources[0].set(func() { w.sources[0].id.Subject = "sub-2" })
	last, _ := u.open(site, linkTo(t, page.answer.Body.String(), "/.anteroom/login?return_to="))
	if last.answer != nil || last.host != site || last.target != "/patients" {
		t.Errorf("landed at %s", last.url())
	}
	if s := u.at(site).mustSession(); s.Subject != "sub-2" || !w.sources[0].lastBegin(t).Reauthenticate {
		t.Errorf("session of %s, prompt %v", s.Subject, w.sources[0].lastBegin(t).Reauthenticate)
	}
}

// TestHandOffTwoTabs: two sites are opened at once, both tabs go to the
// provider. Both end well, in one sign-on, and neither ends the other's.
func TestHandOffTwoTabs(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	var states []string
	for _, host := range []string{site, fincare} {
		_, next := u.step(homeHost, "/.anteroom/login?ask="+u.leave(host, "/"), fromProvider)
		_, state, ok := atProvider(next)
		if !ok {
			t.Fatalf("sent to %q", next)
		}
		states = append(states, state)
	}
	for i, host := range []string{fincare, site} {
		last, _ := u.open(homeHost, callback("hospital", states[1-i]))
		if last.answer != nil || last.host != host {
			t.Fatalf("landed at %s", last.url())
		}
	}
	if a, b := u.at(site).mustSession(), u.at(fincare).mustSession(); a.ID != b.ID {
		t.Error("two sign-ons: signing out of one leaves the other open")
	}
	u.at(homeHost).mustSession()
}

// TestHandOffTwoTabsOfTwoPeople: as above, but the second tab ends as somebody
// else, or with other roles, or was begun after a sign-out: then the first
// sign-on ends.
func TestHandOffTwoTabsOfTwoPeople(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*source){
		"person": func(s *source) { s.id.Subject = "sub-2" },
		"roles":  func(s *source) { s.id.Roles = nil },
	} {
		w := newFleet(t, newSource("hospital", "Hospital"))
		u := w.person()
		_, next := u.step(homeHost, "/.anteroom/login?ask="+u.leave(site, "/"), fromProvider)
		_, state, _ := atProvider(next)
		first := u.mustOpen(fincare, "/")
		w.sources[0].set(func() { change(w.sources[0]) })
		u.open(homeHost, callback("hospital", state))
		if s := u.at(site).mustSession(); s.ID == first.ID {
			t.Errorf("%s: the sign-on of before goes on", name)
		}
		u.at(fincare).mustNoSession()
	}
}

// TestHandOffBackToTheSite: an ask that is too old, and one whose sign-in took
// too long, still show the way back to the site.
func TestHandOffBackToTheSite(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	ask := u.leave(site, "/")
	w.advance(attemptTTL)
	h, _ := u.step(homeHost, "/.anteroom/login?ask="+ask)
	u.expectHandOffFailure(homeHost, h.answer, pageAttempt, reasonAskExpired)
	expect(t, h.answer, http.StatusBadRequest, `href="https://`+site+`/"`)

	ask = u.leave(site, "/")
	w.advance(attemptTTL / 2)
	_, next := u.step(homeHost, "/.anteroom/login?ask="+ask)
	_, state, _ := atProvider(next)
	w.advance(attemptTTL / 2)
	_, next = u.step(homeHost, callback("hospital", state), fromProvider)
	if next != "https://"+site+"/" {
		t.Errorf("sent to %q", next)
	}
	u.at(homeHost).mustSession()
}

// TestHandOffFailsWithTheAsk: a sign-in that fails at the portal can be tried
// again and still leads to the site.
func TestHandOffFailsWithTheAsk(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	u.provider = func(state string) string {
		w.sources[0].set(func() {
			w.sources[0].finishErr = &identity.Failure{Kind: identity.ErrDeclined, Reason: "fake.declined"}
		})
		return callback("hospital", state)
	}
	last, _ := u.open(site, "/.anteroom/login?return_to=%2Fx")
	expect(t, last.answer, pageDeclined.status, pageDeclined.title)
	w.sources[0].set(func() { w.sources[0].finishErr = nil })
	u.provider = nil
	last, _ = u.open(homeHost, linkTo(t, last.answer.Body.String(), "/.anteroom/login?ask="))
	if last.host != site || last.target != "/x" {
		t.Errorf("landed at %s", last.url())
	}
	u.at(site).mustSession()
}

// TestHandOffOutage: what is not durable does not happen, and says so.
func TestHandOffOutage(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	host, target := u.handed(u.leave(site, "/"))
	w.audit.set(func(e audit.Event) bool { return e.Kind == kindHandOff })
	h, _ := u.step(host, target, fromProvider)
	expect(t, h.answer, http.StatusServiceUnavailable)
	u.at(site).mustNoSession()
	w.audit.set(nil)

	w.sealer.mu.Lock()
	w.sealer.err = errSealer
	w.sealer.mu.Unlock()
	h, _ = u.step(site, "/.anteroom/login")
	expect(t, h.answer, http.StatusServiceUnavailable)
	if e := w.audit.last(t); e.Kind != kindHandOff || e.Reason != reasonSeal {
		t.Errorf("recorded %+v", e)
	}
	w.sealer.mu.Lock()
	w.sealer.err = nil
	w.sealer.mu.Unlock()
	u.mustOpen(site, "/")
}

// TestHandOffWithoutHome: without a home nothing of this exists.
func TestHandOffWithoutHome(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	to := b.get("/.anteroom/login?ask=" + url.QueryEscape("x")).Header().Get("Location")
	if name, _, ok := atProvider(to); !ok || name != "hospital" {
		t.Errorf("sent to %q", to)
	}
}
