package portal

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

func TestSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "General Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	b.begin("hospital", "/other-tab")
	sid := b.mustSession().ID

	expect(t, b.get("/.anteroom/logout"), http.StatusOK, "<h1>Sign out?</h1>", "Dr. Ada Doe", `<form method="post" action="/.anteroom/logout">`)
	b.mustSession() // asking changes nothing

	copied := b.clone()
	answer := b.do(http.MethodPost, "/.anteroom/logout")
	expect(t, answer, http.StatusOK, "<h1>You are signed out</h1>", "General Hospital", "may still remember you", `href="/.anteroom/login"`)
	if got := answer.Header().Get("Clear-Site-Data"); got != `"cache"` {
		t.Errorf("Clear-Site-Data %q", got)
	}
	if len(b.jar) != 2 || b.jar[promptCookie] == "" || b.jar[deviceCookie] == "" {
		t.Errorf("the browser keeps %v", b.jar)
	}
	copied.mustNoSession()
	if e := w.audit.last(t); e.Kind != "sign-out" || e.Decision != "allowed" || e.Reason != reasonSignedOut || e.Session != audit.SessionLabel(sid) || e.Name != "adoe" {
		t.Errorf("recorded %+v", e)
	}

	// After a restart the copied cookies are refused too.
	again := w.manager(w.start)
	if _, err := again.Find(copied.request("GET", "/").Header["Cookie"], site); err == nil {
		t.Error("the session lives again after a restart")
	}
}

// TestNextSignInPrompts: whoever sits down after a sign-out does not become
// the person who left.
func TestNextSignInPrompts(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"logout", "switch"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newSource("hospital", "Hospital"))
			b := w.browser()
			b.signIn("hospital", "/x")
			b.do(http.MethodPost, "/.anteroom/"+path)
			b.get("/.anteroom/login")
			if !w.sources[0].lastBegin(t).Reauthenticate {
				t.Error("the next sign-in does not ask for a prompt")
			}
			b.get("/.anteroom/login") // the first one was left unfinished
			if !w.sources[0].lastBegin(t).Reauthenticate {
				t.Error("the second one does not ask for a prompt")
			}
			b.signIn("hospital", "/x")
			b.begin("hospital", "/x")
			if w.sources[0].lastBegin(t).Reauthenticate {
				t.Error("the prompt is asked for ever")
			}
		})
	}
}

// TestTabLeftOpen: an attempt of before the sign-out is worth nothing after
// it, even when the browser kept its cookie.
func TestTabLeftOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	state := b.begin("hospital", "/y")
	kept := b.clone()
	b.do(http.MethodPost, "/.anteroom/logout")
	b.expectSignOutKept(t)
	stubborn := b.clone()
	stubborn.jar[attemptName(state)] = kept.jar[attemptName(state)]
	b.expectFailure(b.get(callback("hospital", state), fromProvider), pageAttempt, reasonMissing)
	stubborn.expectFailure(stubborn.get(callback("hospital", state), fromProvider), pageAttempt, reasonBefore)
}

func (b *browser) expectSignOutKept(t *testing.T) {
	t.Helper()
	if left := b.attempts(); len(left) != 0 {
		t.Errorf("attempts survive the sign-out: %v", left)
	}
	b.mustNoSession()
}

func TestSwitchUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	copied := b.clone()
	answer := b.do(http.MethodPost, "/.anteroom/switch?return_to=%2Fpatients%2F1")
	expect(t, answer, http.StatusSeeOther)
	to := answer.Header().Get("Location")
	if to != "/.anteroom/login?switch=1&return_to=%2Fpatients%2F1" {
		t.Fatalf("sent to %q", to)
	}
	copied.mustNoSession()
	// One source only, and still a page: a form must not end at the provider.
	expect(t, b.get(to), http.StatusOK, "previous person is signed out", `href="/.anteroom/login/hospital?return_to=%2Fpatients%2F1"`)
	if e := w.audit.last(t); e.Kind != "sign-out" || e.Reason != reasonSwitch {
		t.Errorf("recorded %+v", e)
	}
	for _, bad := range []string{"https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2Fa&return_to=%2Fb"} {
		if got := b.do(http.MethodPost, "/.anteroom/switch?return_to="+bad).Header().Get("Location"); got != "/.anteroom/login?switch=1" {
			t.Errorf("return_to=%s sends to %q", bad, got)
		}
	}
}

func TestSignOutStoreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	before := len(b.jar)
	w.store.set(func(string) (bool, error) { return false, store.ErrUnavailable })
	for _, path := range []string{"logout", "switch"} {
		answer := b.do(http.MethodPost, "/.anteroom/"+path)
		expect(t, answer, http.StatusServiceUnavailable, "You are NOT signed out", w.audit.last(t).Ref, `href="/.anteroom/logout"`)
		if answer.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if len(b.jar) != before {
			t.Errorf("cookies changed: %v", b.jar)
		}
		b.mustSession()
		if e := w.audit.last(t); e.Kind != "sign-out" || e.Decision != "failed" || e.Reason != reasonStore {
			t.Errorf("recorded %+v", e)
		}
	}
	w.store.set(nil)
	expect(t, b.do(http.MethodPost, "/.anteroom/logout"), http.StatusOK)
	b.mustNoSession()
}

// TestSignOutAuditDown: the session is gone, and the page may not say
// otherwise because the record failed.
func TestSignOutAuditDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	copied := b.clone()
	w.audit.set(func(audit.Event) bool { return true })
	expect(t, b.do(http.MethodPost, "/.anteroom/logout"), http.StatusOK, "You are signed out")
	copied.mustNoSession()
}

// TestSessionsDown: when nobody can say who is signed in, nothing is let
// through and nothing is promised.
func TestSessionsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	state := b.begin("hospital", "/y")
	w.sessions.Close()
	for _, path := range []string{"", "session", "logout"} {
		expect(t, b.get("/.anteroom/"+path), http.StatusServiceUnavailable, pageUnavailable.title)
	}
	expect(t, b.get("/.anteroom/session", program), http.StatusServiceUnavailable, "urn:anteroom:problem:unavailable")
	expect(t, b.do(http.MethodPost, "/.anteroom/logout"), http.StatusServiceUnavailable, pageNotSignedOut.title)
	expect(t, b.get(callback("hospital", state)), http.StatusServiceUnavailable, pageUnavailable.title)
	if len(b.attempts()) != 1 || w.sources[0].finished() != 1 {
		t.Error("the attempt was used up although it could not be finished")
	}
}

// expired gives the browser the cookies of a session that ended by itself.
func (b *browser) expired() {
	b.w.t.Helper()
	m := b.w.manager(b.w.start.Add(-time.Hour))
	_, list, err := m.Issue(b.w.t.Context(), session.Grant{Source: "hospital", Subject: "s", Username: "u"}, b.host, session.Admission{})
	if err != nil {
		b.w.t.Fatal(err)
	}
	for _, c := range list {
		b.jar[c.Name] = c.Value
	}
}

func TestL8SignOutOfExpiredSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	for name, prepare := range map[string]func(*browser){
		"none":    func(*browser) {},
		"expired": (*browser).expired,
		"half":    func(b *browser) { b.jar[session.CookieContext] = strings.Repeat("A", 43) },
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			b := w.browser()
			prepare(b)
			expect(t, b.do(method, "/.anteroom/logout"), http.StatusOK, "You are signed out", "had already ended")
			if method == http.MethodPost && (len(b.jar) != 1 || b.jar[promptCookie] == "") {
				t.Errorf("%s: the browser keeps %v", name, b.jar)
			}
		}
	}
	if got := w.audit.kinds(); len(got) != 0 {
		t.Errorf("recorded %q", got)
	}
}

// TestClearedAfterTheEnd: row 98, when nobody signed out in this browser. The
// way to the sign-in is the first that it hears of the end.
func TestClearedAfterTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	login := func() string { return b.get("/.anteroom/login?return_to=/x").Header().Get("Clear-Site-Data") }
	if got := login(); got != "" {
		t.Errorf("a browser that never had a session is told %q", got)
	}
	b.signIn("hospital", "/x")
	if got := login(); got != "" {
		t.Errorf("with a session that lives the browser is told %q: a link to this page would empty its cache", got)
	}
	if err := w.sessions.Revoke(t.Context(), b.mustSession().ID); err != nil {
		t.Fatal(err)
	}
	if got := login(); got != `"cache"` {
		t.Errorf("after the end the browser is told %q, and shows patients to whoever goes back", got)
	}
}
