package portal

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestAttackCodeReplay: of 200 redemptions of one code at three nodes one is a
// session. Sent: the same callback with the same cookies, all at once; then, with
// the attempt's own lock out of the way, the code alone. What would happen: the
// copy of a log line or of a browser's history signs in once more.
func TestAttackCodeReplay(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	nodes := []*world{w, w.node(), w.node()}
	u := w.signedOn()
	host, target := u.handed(u.leave(site, "/"))
	all := func(f func(n *world) bool) (won int) {
		var mu sync.Mutex
		var wait sync.WaitGroup
		start := make(chan struct{})
		for i := range 200 {
			wait.Go(func() {
				<-start
				if f(nodes[i%len(nodes)]) {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		close(start)
		wait.Wait()
		return won
	}
	r := u.at(host)
	if won := all(func(n *world) bool {
		answer := httptest.NewRecorder()
		n.portal.ServeHTTP(answer, r.request("GET", target, fromProvider))
		return answer.Code == http.StatusSeeOther
	}); won != 1 {
		t.Errorf("%d of 200 callbacks got a session", won)
	}

	_, target = u.handed(u.leave(site, "/"))
	code := codeOf(t, target)
	if won := all(func(n *world) bool {
		c, err := n.portal.takeCode(t.Context(), code)
		return err == nil && c.Session != ""
	}); won != 1 {
		t.Errorf("%d of 200 got what the code stands for", won)
	}
}

func codeOf(t testing.TB, target string) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil || u.Query().Get("code") == "" {
		t.Fatalf("no code in %q", target)
	}
	return u.Query().Get("code")
}

// withCode puts another code into a callback.
func withCode(t testing.TB, target, code string) string {
	t.Helper()
	return strings.Replace(target, codeOf(t, target), code, 1)
}

// TestAttackCodeElsewhere: a code is for one site, one attempt, one browser, 30
// seconds. What would happen: whoever reads it (a log, a shoulder, an app's own
// script) signs in with it. What must hold: refused, recorded, and the code is
// worth nothing afterwards to anybody, the right browser included.
func TestAttackCodeElsewhere(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	for name, attack := range map[string]func(u *person, code, state string) (*person, string, string, string){
		"for another site": func(u *person, code, _ string) (*person, string, string, string) {
			_, other := u.handed(u.leave(fincare, "/"))
			return u, fincare, withCode(t, other, code), reasonCodeSite
		},
		"with another attempt of the same browser": func(u *person, code, _ string) (*person, string, string, string) {
			_, other := u.handed(u.leave(site, "/"))
			return u, site, withCode(t, other, code), reasonCodeAttempt
		},
		"with the attempt of another browser, login CSRF": func(u *person, code, _ string) (*person, string, string, string) {
			victim := w.signedOn()
			_, other := victim.handed(victim.leave(site, "/"))
			return victim, site, withCode(t, other, code), reasonCodeAttempt
		},
		"in a browser without an attempt, login CSRF (S2)": func(u *person, code, state string) (*person, string, string, string) {
			return w.person(), site, "/.anteroom/callback/portal?code=" + code + "&state=" + state, reasonMissing
		},
		"with a session but without an attempt": func(u *person, code, state string) (*person, string, string, string) {
			return w.signedOn(), site, "/.anteroom/callback/portal?code=" + code + "&state=" + state, reasonMissing
		},
		"at the same host on another port": func(u *person, code, state string) (*person, string, string, string) {
			u.jars[site+":8443"] = &browser{w: w, host: site + ":8443", jar: u.at(site).jar} // cookies do not tell ports apart
			return u, site + ":8443", "/.anteroom/callback/portal?code=" + code + "&state=" + state, reasonHost
		},
		"after 30 s": func(u *person, code, state string) (*person, string, string, string) {
			w.advance(codeTTL)
			return u, site, "/.anteroom/callback/portal?code=" + code + "&state=" + state, reasonCodeUnknown
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := w.signedOn()
			_, target := u.handed(u.leave(site, "/"))
			v, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			code := v.Query().Get("code")
			who, host, sent, reason := attack(u, code, v.Query().Get("state"))
			h, _ := who.step(host, sent, fromProvider)
			who.expectHandOffFailure(host, h.answer, pageAttempt, reason)
			who.at(host).mustNoSession()
			if got := h.answer.Header().Get("Referrer-Policy"); got != "no-referrer" {
				t.Errorf("the page with a code in its address: Referrer-Policy %q", got)
			}
			if strings.Contains(h.answer.Body.String(), code) {
				t.Error("the code stands on the page")
			}
			if reason == reasonHost {
				return // the attempt is used up, its cookie gone from both
			}
			h, _ = u.step(site, target, fromProvider)
			if h.answer.Code == http.StatusSeeOther {
				t.Error("the code works still")
			}
			u.at(site).mustNoSession()
		})
	}
}

// TestAttackCodeAge: the 30 seconds are in the code's own content, too. Sent: a
// code whose store keeps it for longer (a store without a clock, or set back).
func TestAttackCodeAge(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	for _, c := range []struct {
		age  time.Duration
		want string
	}{
		{0, ""}, {codeTTL - time.Second, ""}, {codeTTL, reasonCodeExpired}, {-codeTTL - time.Second, reasonCodeExpired},
	} {
		a := attempt{State: newState(), Keep: newVerifier()}
		pass := pass{Site: site, State: a.State, Challenge: challenge(a.Keep), Session: u.at(homeHost).mustSession().ID, Created: w.clock().Add(-c.age).Unix()}
		if got := pass.fits(a, site, w.clock()); got != c.want {
			t.Errorf("age %s: %q, want %q", c.age, got, c.want)
		}
		for name, wrong := range map[string]attempt{
			"no attempt":       {},
			"another state":    {State: newState(), Keep: a.Keep},
			"another verifier": {State: a.State, Keep: newVerifier()},
			"no verifier":      {State: a.State},
		} {
			if c.want == "" && pass.fits(wrong, site, w.clock()) != reasonCodeAttempt {
				t.Errorf("%s fits", name)
			}
		}
	}
	empty := pass{Site: site, Created: w.clock().Unix()}
	if empty.fits(attempt{}, site, w.clock()) != reasonCodeAttempt {
		t.Error("nothing on either side is a match")
	}
}

// TestAttackCodeForged: Sent: codes that nobody made, in all sizes, and what
// lies in the store under another key or label.
func TestAttackCodeForged(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	sealed := func(label string) []byte {
		text, err := w.portal.sealJSON(t.Context(), label, pass{Site: site})
		if err != nil {
			t.Fatal(err)
		}
		return []byte(text)
	}
	planted := map[string][]byte{newState(): sealed(labelAttempt), newState(): sealed(labelAsk), newState(): []byte("{}"), newState(): nil}
	codes := []string{newState(), "", "x", strings.Repeat("A", 4000), newState() + "=", "../x", "%00"}
	for code, value := range planted {
		if err := w.store.Put(t.Context(), codeKey(code), value, w.clock().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		codes = append(codes, code)
	}
	for _, code := range codes {
		_, target := u.handed(u.leave(site, "/"))
		h, _ := u.step(site, withCode(t, target, url.QueryEscape(code)), fromProvider)
		if h.answer.Code < 400 {
			t.Errorf("code %q: %d", code, h.answer.Code)
		}
		u.at(site).mustNoSession()
	}
	items, err := w.store.List(t.Context(), labelCodeID)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		if strings.Contains(string(i.Value), u.at(homeHost).mustSession().ID) || strings.Contains(string(i.Value), "adoe") {
			t.Errorf("the store shows %s", i.Value)
		}
	}
}

// TestAttackCodeQuery: Sent: callbacks whose parameters stand twice, or come
// with those of other flows.
func TestAttackCodeQuery(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	_, target := u.handed(u.leave(site, "/"))
	for _, more := range []string{"&code=x", "&state=x", "&id_token=x", "&access_token=x", "&error=x", "&%zz", "&x=1&x=2"} {
		h, _ := u.step(site, target+more, fromProvider)
		u.expectHandOffFailure(site, h.answer, pageAttempt, reasonQuery)
	}
	if h, _ := u.step(site, target, fromProvider); h.answer.Code != http.StatusSeeOther {
		t.Errorf("the honest one: %d", h.answer.Code)
	}
}

// TestAttackAskForged: Sent: asks that no site of ours made. What would happen:
// a code for whoever is signed in goes to a host of the attacker's choice. What
// must hold: no code, no redirect, not one to the site either.
func TestAttackAskForged(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	good := ask{Site: site, State: newState(), Challenge: challenge(newVerifier()), Created: w.clock().Unix()}
	seal := func(label string, edit func(*ask)) string {
		k := good
		edit(&k)
		text, err := w.portal.sealJSON(t.Context(), label, k)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	honest := seal(labelAsk, func(*ask) {})
	u.handed(honest)
	flipped := []byte(honest)
	flipped[len(flipped)/2] ^= 1
	foreign := &Portal{sealer: newSealer(t)}
	stranger, err := foreign.sealJSON(t.Context(), labelAsk, good)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ ask, reason string }{
		"empty":                   {"", reasonAskUnreadable},
		"text":                    {"https://evil.example/", reasonAskUnreadable},
		"changed":                 {string(flipped), reasonAskUnreadable},
		"cut":                     {honest[:len(honest)-1], reasonAskUnreadable},
		"longer":                  {honest + "A", reasonAskUnreadable},
		"huge":                    {strings.Repeat("A", maxAsk+1), reasonAskUnreadable},
		"of another installation": {stranger, reasonAskUnreadable},
		"an attempt's seal":       {seal(labelAttempt, func(*ask) {}), reasonAskUnreadable},
		"a code's seal":           {seal(labelCode, func(*ask) {}), reasonAskUnreadable},
		"without a state":         {seal(labelAsk, func(k *ask) { k.State = "" }), reasonAskUnreadable},
		"with a header's end":     {seal(labelAsk, func(k *ask) { k.State = "a\r\nSet-Cookie: b" }), reasonAskUnreadable},
		"without a challenge":     {seal(labelAsk, func(k *ask) { k.Challenge = nil }), reasonAskUnreadable},
		"expired":                 {seal(labelAsk, func(k *ask) { k.Created -= int64(attemptTTL / time.Second) }), reasonAskExpired},
		"from the future":         {seal(labelAsk, func(k *ask) { k.Created += 61 }), reasonAskExpired},
		"for no site":             {seal(labelAsk, func(k *ask) { k.Site = "evil.example" }), reasonAskSite},
		"for a site's other port": {seal(labelAsk, func(k *ask) { k.Site = site + ":8443" }), reasonAskSite},
		"for the portal itself":   {seal(labelAsk, func(k *ask) { k.Site = homeHost }), reasonAskSite},
		"for a host with a user":  {seal(labelAsk, func(k *ask) { k.Site = site + "@evil.example" }), reasonAskSite},
		"for a host with a path":  {seal(labelAsk, func(k *ask) { k.Site = "evil.example/" + site }), reasonAskSite},
		"for nothing":             {seal(labelAsk, func(k *ask) { k.Site = "" }), reasonAskSite},
	} {
		for _, path := range []string{"login", "login/hospital"} {
			h, next := u.step(homeHost, "/.anteroom/"+path+"?ask="+url.QueryEscape(c.ask), fromProvider)
			if next != "" {
				t.Errorf("%s: sent to %q", name, next)
				continue
			}
			u.expectHandOffFailure(homeHost, h.answer, pageAttempt, c.reason)
			if strings.Contains(h.answer.Body.String(), "evil.example") {
				t.Errorf("%s: the page names the host: %s", name, h.answer.Body)
			}
		}
	}
	h, next := u.step(homeHost, "/.anteroom/login?ask="+honest+"&ask="+honest)
	if next != "" || h.answer.Code != http.StatusBadRequest {
		t.Errorf("two asks: %d %q", h.answer.Code, next)
	}
}

// TestAttackAskOfStrangerHost: a site that answers for every name. Sent, with a
// Host of the attacker's, a request for the sign-in there, to get an ask that we
// sealed. What would happen: a victim who follows it to the portal brings a code
// to the attacker's server, whose attempt cookie redeems it. What must hold: no
// ask is made for a host that is no site of ours.
func TestAttackAskOfStrangerHost(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	for _, host := range []string{"evil.example", site + ".evil.example", site + ":444", site + ".", "x." + site} {
		h, next := w.person().step(host, "/.anteroom/login")
		if next != "" || h.answer.Code != http.StatusMisdirectedRequest || len(h.answer.Result().Cookies()) != 0 {
			t.Errorf("%s: %d, sent to %q", host, h.answer.Code, next)
		}
	}
	for _, host := range []string{strings.ToUpper(site), site + ":443"} { // other spellings of a site
		if _, next := w.person().step(host, "/.anteroom/login"); !strings.HasPrefix(next, "https://"+homeHost+"/") {
			t.Errorf("%s: sent to %q", host, next)
		}
	}
}

// TestAttackAskOfAnotherBrowser: row 10, N26. Sent: the attacker begins at a
// site and gives the ask to a signed-in victim. What would happen: the code of
// the victim ends in the attacker's browser, or the victim goes on as the
// attacker. What must hold: it fails at the site in the victim's browser, which
// did not ask, and the code that came there is worth nothing in the attacker's.
func TestAttackAskOfAnotherBrowser(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	attacker, victim := w.person(), w.signedOn()
	ask := attacker.leave(site, "/")
	host, target := victim.handed(ask)
	h, _ := victim.step(host, target, fromProvider)
	victim.expectHandOffFailure(site, h.answer, pageAttempt, reasonMissing)
	victim.at(site).mustNoSession()
	h, _ = attacker.step(host, target, fromProvider)
	attacker.expectHandOffFailure(site, h.answer, pageAttempt, reasonCodeUnknown)
	attacker.at(site).mustNoSession()

	// The same ask once more in the browser that it belongs to: its attempt works once.
	u := w.signedOn()
	ask = u.leave(site, "/")
	_, first := u.handed(ask)
	_, second := u.handed(ask)
	cookies := u.at(site).clone()
	if h, _ := u.step(site, first, fromProvider); h.answer.Code != http.StatusSeeOther {
		t.Fatalf("the first: %d", h.answer.Code)
	}
	u.jars[site] = cookies
	h, _ = u.step(site, second, fromProvider)
	u.expectHandOffFailure(site, h.answer, pageAttempt, reasonUsed)
}

// TestAttackLoginFixation: T:sess "session fixation at login", S1, row 85. Sent:
// cookies of the attacker's own session, attempt and context, planted in the
// victim's browser at the site before the victim signs in, and ids in the
// address. What must hold: everything is new, and the planted session ends.
func TestAttackLoginFixation(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	attacker := w.signedOn()
	planted := attacker.mustOpen(site, "/")
	w.sources[0].set(func() { w.sources[0].id.Subject = "sub-2" })
	victim := w.person()
	for name, value := range attacker.at(site).jar {
		victim.at(site).jar[name] = value
	}
	last, _ := victim.open(site, "/.anteroom/login;jsessionid=x?sid="+planted.ID)
	if last.answer == nil || last.answer.Code != http.StatusNotFound {
		t.Errorf("a session id in the path: %s", last.url())
	}
	s := victim.mustOpen(site, "/")
	if s.ID == planted.ID || s.TokenID == planted.TokenID || s.Subject != "sub-2" {
		t.Errorf("the planted session was adopted: %+v", s)
	}
	for _, name := range []string{session.CookieToken, session.CookieContext} {
		if victim.at(site).jar[name] == attacker.at(site).jar[name] {
			t.Errorf("%s stays", name)
		}
	}
	attacker.at(site).mustNoSession()
}

// TestAttackRevokedOnTheWay: Sent: a sign-out between code and redemption, on
// the same node and on another one. What must hold: no session.
func TestAttackRevokedOnTheWay(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	_, target := u.handed(u.leave(site, "/"))
	expect(t, u.at(homeHost).do("POST", "/.anteroom/logout"), http.StatusOK)
	h, _ := u.step(site, target, fromProvider)
	u.expectHandOffFailure(site, h.answer, pageAttempt, reasonCodeEnded)
	u.at(site).mustNoSession()
}

// TestAttackAttemptOfBefore: a shared workstation. Sent: a sign-in under way at
// the portal in one tab; the person signs out at a site in another one; the next
// person finishes the first tab. What would happen: the provider remembers the
// first, and nobody is asked. What must hold: it is refused.
func TestAttackAttemptOfBefore(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	u.mustOpen(site, "/")
	_, next := u.step(homeHost, "/.anteroom/login")
	_, state, _ := atProvider(next)
	expect(t, u.at(site).do("POST", "/.anteroom/logout"), http.StatusOK)
	h, _ := u.step(homeHost, callback("hospital", state), fromProvider)
	u.at(homeHost).expectFailure(h.answer, pageAttempt, reasonBefore)
}

// TestAttackEndedElsewhere: Sent: a session that was ended elsewhere, whose
// cookies are still in this browser at the portal. What must hold: the next
// sign-in prompts, also where the site itself knows nothing.
func TestAttackEndedElsewhere(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	if err := w.sessions.Revoke(t.Context(), u.at(homeHost).mustSession().ID); err != nil {
		t.Fatal(err)
	}
	u.mustOpen(clinic, "/")
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("no prompt after the portal's session was ended")
	}
	u = w.signedOn()
	s := u.mustOpen(site, "/")
	if err := w.sessions.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	u.jars[homeHost].jar = make(map[string]string) // the portal's cookies are gone
	u.mustOpen(site, "/")
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("no prompt although the site's session was ended")
	}
}
