package portal

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// TestMove is the way of a doctor from one workstation to another and back.
func TestMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	first := w.device(firefox)
	firstLabel := first.label()
	second := w.browser()

	page, ticket := second.waits(chrome, "/patients/7?tab=2")
	expect(t, page, http.StatusOK, "at one place at a time", "Firefox on Windows", "Last seen", "Move here</button>", `href="/.anteroom/move?stay=1">Stay there</a>`)
	if e := w.audit.last(t); e.Kind != "sign-in" || e.Decision != "denied" || e.Reason != reasonAsked || e.Subject != "sub-1" || e.Session != "" {
		t.Errorf("recorded %+v", e)
	}
	first.mustSession() // closing the tab now changes nothing

	moved := second.form("/.anteroom/move", "id="+ticket, header("User-Agent", chrome))
	expect(t, moved, http.StatusSeeOther)
	if at := moved.Header().Get("Location"); at != "/patients/7?tab=2" {
		t.Errorf("sent to %q", at)
	}
	s := second.mustSession()
	events := w.audit.all()
	if e := events[len(events)-2]; e.Kind != "sign-in" || e.Decision != "allowed" || e.Session != audit.SessionLabel(s.ID) || e.Reason != reasonMoved {
		t.Errorf("recorded %+v", e)
	}
	if e := w.audit.last(t); e.Kind != "sign-out" || e.Session != firstLabel || e.Reason != reasonMoved || e.Subject != "sub-1" {
		t.Errorf("recorded %+v", e)
	}
	if audit.SessionLabel(s.ID) == firstLabel || second.jar[moveCookie] != "" {
		t.Errorf("the old session goes on, or the sign-in still waits: %v", second.jar)
	}
	first.mustNoSession()
	list, err := w.sessions.Sessions(t.Context(), "hospital", "sub-1")
	if err != nil || len(list) != 1 || list[0].ID != s.ID || list[0].Device != (session.Device{Browser: "Chrome", System: "Linux"}) {
		t.Errorf("listed %+v, %v", list, err)
	}

	t.Run("the first workstation is locked, and nothing there is lost", func(t *testing.T) {
		before := first.clone()
		locked := first.get("/.anteroom/login?return_to=" + url.QueryEscape("/patients/1#notes"))
		expect(t, locked, http.StatusOK, "<h1>Your session was moved to another workstation</h1>",
			`href="/.anteroom/login?here=1&amp;return_to=%2Fpatients%2F1%23notes">Continue here</a>`)
		for _, who := range []string{"adoe", "Ada", "sub-1", "doctor", "Chrome", "Linux"} {
			if strings.Contains(locked.Body.String(), who) {
				t.Errorf("anybody who comes by reads %q", who)
			}
		}
		if h := locked.Header(); h.Get("Clear-Site-Data") != `"cache"` || len(h["Set-Cookie"]) != 0 || len(first.jar) != len(before.jar) {
			t.Errorf("something in the browser was touched: %s", h)
		}
		// For programs it is no session like any other.
		for _, b := range []*browser{first, w.browser()} {
			expect(t, b.get("/.anteroom/session", program), http.StatusUnauthorized)
		}
		if a, b := first.get("/.anteroom/session", program).Body.String(), w.browser().get("/.anteroom/session", program).Body.String(); a != b {
			t.Errorf("no session is one answer: %s, %s", a, b)
		}
	})
	t.Run("and back", func(t *testing.T) {
		w.advance(roundTTL) // the browser has forgotten the count of its rounds
		answer := first.get("/.anteroom/login?here=1&return_to=%2Fpatients%2F1")
		expect(t, answer, http.StatusFound)
		b := w.sources[0].lastBegin(t)
		if !b.Reauthenticate {
			t.Error("whoever stands there goes on without a prompt")
		}
		expect(t, first.get(callback("hospital", b.State), fromProvider, header("User-Agent", firefox)), http.StatusSeeOther)
		page := first.get("/.anteroom/move")
		expect(t, page, http.StatusOK, "Chrome on Linux")
		if at := first.form("/.anteroom/move", "id="+ticketOf(t, page)).Header().Get("Location"); at != "/patients/1" {
			t.Errorf("sent to %q", at)
		}
		first.mustSession()
		second.mustNoSession()
		expect(t, second.get("/.anteroom/login"), http.StatusOK, "moved to another workstation")
	})
}

// TestMoveOften: three changes within half a minute are no browser that loses
// its cookies.
func TestMoveOften(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	here, there := w.device(firefox), w.browser()
	for range 4 {
		there.get("/.anteroom/login")
		_, ticket := there.waits(chrome, "/")
		expect(t, there.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
		here.mustNoSession()
		here, there = there, here
	}
}

func TestMoveLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(2, session.Move)
	one, two := w.device(firefox), w.device(iphone)
	three := w.browser()
	page, ticket := three.waits(chrome, "/")
	expect(t, page, http.StatusOK, "at 2 places at a time")
	if n := strings.Count(page.Body.String(), "<h2"); n != 1 {
		t.Errorf("%d sessions are to be locked", n)
	}
	expect(t, three.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
	three.mustSession()
	left := 0
	for _, b := range []*browser{one, two} {
		if _, err := b.session(); err == nil {
			left++
		}
	}
	if left != 1 {
		t.Errorf("%d of the two older sessions are left", left)
	}
}

// TestMoveAfterRevocation: whoever ended all sessions of a person did not mean to leave one in the making.
func TestMoveAfterRevocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	here, there := w.device(firefox), w.browser()
	_, ticket := there.waits(chrome, "/")
	s := here.mustSession()
	if _, err := w.sessions.RevokeUser(t.Context(), session.User{Source: s.Source, Subject: s.Subject}); err != nil {
		t.Fatal(err)
	}
	there.form("/.anteroom/move", "id="+ticket)
	there.mustNoSession()
	there.signIn("hospital", "/") // proves who it is once more
	there.mustSession()
}

// TestMoveReplaces: signing in again in the same browser is no move.
func TestMoveReplaces(t *testing.T) {
	t.Parallel()
	for _, then := range []session.OnLimit{session.Move, session.Refuse} {
		w := newWorld(t, newSource("hospital", "Hospital")).limits(1, then)
		b := w.device(firefox)
		before := b.label()
		w.advance(time.Second) // an attempt that is younger than the session
		expect(t, b.arrive(firefox, "/x"), http.StatusSeeOther)
		if b.label() == before {
			t.Errorf("%s: no new session", then)
		}
		// Somebody without a limit is not asked anything.
		w.sources[0].set(func() { w.sources[0].id.Subject, w.sources[0].id.Roles = "sub-2", []string{"patient"} })
		for range 3 {
			w.device(iphone)
		}
	}
}

func TestRefuseLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(2, session.Refuse)
	one, two := w.device(firefox), w.device(iphone)
	three := w.browser()
	answer := three.arrive(chrome, "/patients/7")
	expect(t, answer, http.StatusForbidden, "<h1>You are signed in elsewhere</h1>", "at 2 places at a time", "Firefox on Windows", "Safari on iPhone or iPad",
		"Last seen", w.audit.last(t).Ref, `href="/.anteroom/login?return_to=%2Fpatients%2F7">Sign in again</a>`)
	three.mustNoSession()
	if three.jar[moveCookie] != "" {
		t.Error("a sign-in waits")
	}
	if e := w.audit.last(t); e.Kind != "sign-in" || e.Decision != "denied" || e.Reason != reasonLimit || e.Subject != "sub-1" {
		t.Errorf("recorded %+v", e)
	}
	one.mustSession()
	two.mustSession()
	one.form("/.anteroom/logout", "")
	expect(t, three.arrive(chrome, "/patients/7"), http.StatusSeeOther)
	three.mustSession()
}

// TestMoveStay: "no" leaves nothing behind, and the next person here is asked
// who they are.
func TestMoveStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	first := w.device(firefox)
	second := w.browser()
	_, ticket := second.waits(chrome, "/")
	kept := second.clone()
	expect(t, second.get("/.anteroom/move?stay=1"), http.StatusOK, "<h1>Nothing was moved</h1>")
	if second.jar[moveCookie] != "" || second.jar[promptCookie] == "" {
		t.Errorf("the browser keeps %v", second.jar)
	}
	expect(t, second.form("/.anteroom/move", "id="+ticket), http.StatusOK, "nothing to move")
	// A browser that keeps the cookie all the same gets nowhere.
	second.jar[moveCookie] = kept.jar[moveCookie]
	second.expectNotMoved(second.form("/.anteroom/move", "id="+ticket), reasonBefore)
	first.mustSession()
	second.begin("hospital", "/")
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("the next sign-in here does not ask who it is")
	}
	// Nothing waits in a browser that never signed in: no prompt, no change.
	other := w.browser()
	expect(t, other.get("/.anteroom/move?stay=1"), http.StatusOK)
	expect(t, other.get("/.anteroom/move"), http.StatusOK, "There is nothing to move")
	if len(other.jar) != 0 {
		t.Errorf("a link has left %v", other.jar)
	}
}

// TestMoveOvertaken: the other session has ended while the question was open.
func TestMoveOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	first := w.device(firefox)
	second := w.browser()
	second.waits(chrome, "/")
	first.form("/.anteroom/logout", "")
	page := second.get("/.anteroom/move")
	expect(t, page, http.StatusOK, "not signed in there any more", "Sign in here</button>")
	expect(t, second.form("/.anteroom/move", "id="+ticketOf(t, page)), http.StatusSeeOther)
	second.mustSession()
}

// TestEndedElsewhere: a session that somebody ended, not moved, leads on
// without a page, to a prompt.
func TestEndedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here, there := w.device(firefox), w.device(iphone)
	here.form("/.anteroom/sessions/end", "id="+there.label())
	expect(t, there.get("/.anteroom/login"), http.StatusFound)
	if !w.sources[0].lastBegin(t).Reauthenticate {
		t.Error("the next sign-in does not ask who it is")
	}
}

// expectNotMoved fails when an answer of the form is not the page of a sign-in
// that is not honoured, with this reason in the audit log.
func (b *browser) expectNotMoved(answer interface{ Result() *http.Response }, reason string) {
	b.w.t.Helper()
	e := b.w.audit.last(b.w.t)
	if code := answer.Result().StatusCode; code != pageMove.status || e.Kind != "sign-in" || e.Decision != "failed" || e.Reason != reason {
		b.w.t.Errorf("status %d, recorded %+v, want reason %q", code, e, reason)
	}
	b.mustNoSession()
}

// TestMoveTimes: five minutes, by the clock of any node.
func TestMoveTimes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		after  time.Duration
		reason string
	}{
		{moveTTL - time.Second, ""},
		{moveTTL, reasonMoveExpired},
		{24 * time.Hour, reasonMoveExpired},
		{-attemptSkew, ""},
		{-attemptSkew - time.Second, reasonMoveExpired},
	} {
		w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
		w.device(firefox)
		b := w.browser()
		_, ticket := b.waits(chrome, "/")
		w.advance(c.after)
		answer := b.form("/.anteroom/move", "id="+ticket)
		if c.reason == "" {
			expect(t, answer, http.StatusSeeOther)
			continue
		}
		b.expectNotMoved(answer, c.reason)
		if b.jar[moveCookie] != "" {
			t.Errorf("%s: the cookie is kept", c.after)
		}
	}
}
