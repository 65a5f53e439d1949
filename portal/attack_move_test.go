package portal

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// waiting is a world in which one sign-in of somebody waits in a browser.
func waiting(t testing.TB) (w *world, first, second *browser, ticket string) {
	t.Helper()
	w = newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	first, second = w.device(firefox), w.browser()
	_, ticket = second.waits(chrome, "/patients/7")
	return w, first, second, ticket
}

// TestAttackPending: before the answer there is no session, and what waits opens
// nothing else (rows 80, 85, 89).
func TestAttackPending(t *testing.T) {
	t.Parallel()
	t.Run("80 89 the only cookie", func(t *testing.T) {
		_, _, b, _ := waiting(t)
		// The attributes are checked by the jar of the test's browser.
		if len(b.jar) != 1 || b.jar[moveCookie] == "" {
			t.Errorf("the browser holds %v", b.jar)
		}
	})
	t.Run("89 on every route", func(t *testing.T) {
		w, first, b, _ := waiting(t)
		value := b.jar[moveCookie]
		for _, jar := range []map[string]string{
			{moveCookie: value},
			{session.CookieToken: value, session.CookieContext: value},
			{session.CookieToken: value, session.CookieContext: first.jar[session.CookieContext]},
			{attemptName("x"): value, promptCookie: value},
		} {
			thief := &browser{w: w, host: site, jar: jar}
			thief.mustNoSession()
			for _, path := range []string{"", "session", "sessions"} {
				if got := thief.get("/.anteroom/"+path, program); got.Code != http.StatusUnauthorized {
					t.Errorf("%s: %d", path, got.Code)
				}
			}
			for _, path := range []string{"sessions/end", "sessions/end-all"} {
				if got := thief.form("/.anteroom/"+path, "id=x", program); got.Code == http.StatusOK {
					t.Errorf("%s: %d", path, got.Code)
				}
			}
		}
		first.mustSession()
		if _, err := w.sealer.Open(t.Context(), labelMove, []byte(value)); err == nil {
			t.Error("the test's sealer opens anything")
		}
	})
	t.Run("89 an attempt's cookie is no sign-in that waits, nor the other way round", func(t *testing.T) {
		w, _, b, ticket := waiting(t)
		state := b.begin("hospital", "/")
		try := b.jar[attemptName(state)]
		_, sealed, _ := strings.Cut(try, ".")
		waits := b.jar[moveCookie]
		b.jar[moveCookie] = sealed
		b.expectNotMoved(b.form("/.anteroom/move", "id="+ticket), reasonMoveUnreadable)
		finished := w.sources[0].finished()
		b.jar[attemptName(state)] = "zzzz." + waits
		b.expectFailure(b.get(callback("hospital", state), fromProvider), pageAttempt, reasonUnreadable)
		if w.sources[0].finished() != finished {
			t.Error("the provider was asked")
		}
	})
	t.Run("85 everything is new", func(t *testing.T) {
		_, first, b, ticket := waiting(t)
		b.jar[session.CookieToken], b.jar[session.CookieContext] = "x", first.jar[session.CookieContext]
		old := first.mustSession()
		expect(t, b.form("/.anteroom/move", "id="+ticket), http.StatusSeeOther)
		s := b.mustSession()
		if s.ID == old.ID || s.TokenID == old.TokenID || b.jar[session.CookieContext] == first.jar[session.CookieContext] {
			t.Error("something of the moved session lives on")
		}
	})
	t.Run("97 nothing secret on the page or in an address", func(t *testing.T) {
		_, first, b, _ := waiting(t)
		page := b.get("/.anteroom/move")
		for _, secret := range []string{first.mustSession().ID, first.jar[session.CookieToken], first.jar[session.CookieContext], b.jar[moveCookie], "192.0.2.7"} {
			if strings.Contains(page.Body.String(), secret) {
				t.Errorf("the page holds %q", secret)
			}
		}
	})
}

// TestAttackMoveReplay: the cookie, the ticket, all of it copied: one session.
func TestAttackMoveReplay(t *testing.T) {
	t.Parallel()
	w, _, b, ticket := waiting(t)
	var wins atomic.Int32
	var all sync.WaitGroup
	for range 200 {
		copied := b.clone()
		all.Go(func() {
			answer := httptest.NewRecorder()
			r := copied.request(http.MethodPost, "/.anteroom/move", header("Content-Type", "application/x-www-form-urlencoded"))
			r.Body = http.NoBody
			body := strings.NewReader("id=" + ticket)
			r.Body, r.ContentLength = readCloser{body}, int64(body.Len())
			w.portal.ServeHTTP(answer, r)
			for _, c := range answer.Result().Cookies() {
				if c.Name == session.CookieToken && c.Value != "" {
					wins.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := wins.Load(); n != 1 {
		t.Errorf("%d sessions of one sign-in", n)
	}
	list, err := w.sessions.Sessions(t.Context(), "hospital", "sub-1")
	if err != nil || len(list) != 1 {
		t.Errorf("%d sessions are listed, %v", len(list), err)
	}
	b.expectNotMoved(b.form("/.anteroom/move", "id="+ticket), reasonMoveUsed)
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// TestAttackMoveForeign: the cookie at another place, another time, in another
// shape.
func TestAttackMoveForeign(t *testing.T) {
	t.Parallel()
	spoil := func(name, reason string, f func(w *world, b *browser, ticket *string)) {
		t.Run(name, func(t *testing.T) {
			w, first, b, ticket := waiting(t)
			f(w, b, &ticket)
			b.expectNotMoved(b.form("/.anteroom/move", "id="+ticket), reason)
			b.host = site
			first.mustSession()
		})
	}
	spoil("another port", reasonMoveHost, func(_ *world, b *browser, _ *string) { b.host = site + ":8443" })
	spoil("another site", reasonMoveHost, func(_ *world, b *browser, _ *string) { b.host = "fincare.hospital.example" })
	spoil("one bit", reasonMoveUnreadable, func(_ *world, b *browser, _ *string) {
		raw, _ := base64.RawURLEncoding.DecodeString(b.jar[moveCookie])
		raw[len(raw)/2] ^= 1
		b.jar[moveCookie] = base64.RawURLEncoding.EncodeToString(raw)
	})
	spoil("cut", reasonMoveUnreadable, func(_ *world, b *browser, _ *string) { b.jar[moveCookie] = b.jar[moveCookie][:40] })
	spoil("empty", reasonMoveUnreadable, func(_ *world, b *browser, _ *string) { b.jar[moveCookie] = "" })
	spoil("padding", reasonMoveUnreadable, func(_ *world, b *browser, _ *string) { b.jar[moveCookie] += "=" })
	spoil("huge", reasonMoveUnreadable, func(_ *world, b *browser, _ *string) { b.jar[moveCookie] = strings.Repeat("A", 1<<20) })
	spoil("another key", reasonMoveUnreadable, func(w *world, b *browser, _ *string) {
		d := pending{Attempt: attempt{Source: "hospital", State: "x", Host: site, ReturnTo: "/"}, Identity: w.sources[0].id, Limit: 1, Created: w.start.Unix()}
		sealed, _ := newSealer(t).Seal(t.Context(), labelMove, fmt.Appendf(nil, `{"Attempt":{"State":%q}}`, d.Attempt.State))
		b.jar[moveCookie] = base64.RawURLEncoding.EncodeToString(sealed)
	})
	spoil("another page's ticket", reasonMoveTicket, func(_ *world, _ *browser, ticket *string) { *ticket = strings.Repeat("A", 22) })
	spoil("no ticket", reasonMoveTicket, func(_ *world, _ *browser, ticket *string) { *ticket = "" })
	spoil("signed out meanwhile", reasonBefore, func(_ *world, b *browser, _ *string) { b.jar[promptCookie] = "1" })
	spoil("the source is gone", reasonMoveSource, func(w *world, _ *browser, _ *string) {
		w.sources = []*source{newSource("city", "City")}
		w.use(w.sessions)
	})

	spoil("the username is another source's now", reasonPrefix, func(w *world, _ *browser, _ *string) {
		p, err := New(Config{
			Sources:  []identity.Source{w.sources[0], prefixed{newSource("lab", "Lab"), "ad"}},
			Sessions: w.sessions, Store: w.store, Sealer: w.sealer, Audit: w.audit, Now: w.clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.portal = p
	})
	for _, bad := range []string{"https://evil.example/", "//evil.example", "/.anteroom/logout", ""} {
		t.Run("an address of before the rule: "+bad, func(t *testing.T) {
			w, _, b, _ := waiting(t)
			a := attempt{Source: "hospital", State: newState(), Host: site, ReturnTo: bad}
			c, err := w.portal.sealPending(t.Context(), a, w.sources[0].id, 1)
			if err != nil {
				t.Fatal(err)
			}
			b.jar[moveCookie] = c.Value
			if at := b.form("/.anteroom/move", "id="+pending{Attempt: a}.ticket()).Header().Get("Location"); at != "/" {
				t.Errorf("sent to %q", at)
			}
		})
	}
	for name, spoil := range map[string]func(*attempt, *identity.Identity){
		"no state":             func(a *attempt, _ *identity.Identity) { a.State = "" },
		"nobody":               func(_ *attempt, id *identity.Identity) { *id = identity.Identity{Source: "hospital"} },
		"another source spoke": func(_ *attempt, id *identity.Identity) { id.Source = "city" },
	} {
		t.Run("sealed by us, but not a sign-in: "+name, func(t *testing.T) {
			w, first, b, _ := waiting(t)
			a, id := attempt{Source: "hospital", State: newState(), Host: site, ReturnTo: "/"}, w.sources[0].id
			spoil(&a, &id)
			c, err := w.portal.sealPending(t.Context(), a, id, 1)
			if err != nil {
				t.Fatal(err)
			}
			b.jar[moveCookie] = c.Value
			b.expectNotMoved(b.form("/.anteroom/move", "id="+pending{Attempt: a}.ticket()), reasonMoveUnreadable)
			first.mustSession()
		})
	}
	t.Run("the role does not allow it any more", func(t *testing.T) {
		w, first, b, ticket := waiting(t)
		first.mustSession()
		w.limits(1, session.Refuse)
		answer := b.form("/.anteroom/move", "id="+ticket)
		expect(t, answer, http.StatusForbidden, pageLimit.title)
		b.mustNoSession()
		if len(b.jar) != 0 {
			t.Errorf("the browser holds %v", b.jar)
		}
	})
	t.Run("a flood", func(t *testing.T) {
		w, _, b, _ := waiting(t)
		thief := w.browser()
		for range limitBurst + 1 {
			thief.form("/.anteroom/move", "id=x")
		}
		expect(t, thief.form("/.anteroom/move", "id=x"), http.StatusTooManyRequests)
		if b.jar[moveCookie] == "" {
			t.Error("it is gone")
		}
	})
	t.Run("a foreign page drops nothing", func(t *testing.T) {
		_, _, b, _ := waiting(t)
		answer := b.get("/.anteroom/move?stay=1", fromProvider, header("Sec-Fetch-Mode", "no-cors"), header("Sec-Fetch-Dest", "image"))
		if answer.Code != http.StatusForbidden || b.jar[moveCookie] == "" || b.jar[promptCookie] != "" {
			t.Errorf("%d, the browser holds %v", answer.Code, b.jar)
		}
	})
	t.Run("the cookie twice", func(t *testing.T) {
		_, _, b, ticket := waiting(t)
		b.expectNotMoved(b.form("/.anteroom/move", "id="+ticket, func(r *http.Request) {
			r.Header.Add("Cookie", moveCookie+"="+b.jar[moveCookie])
		}), reasonMoveUnreadable)
	})
	t.Run("another person signs in in the same browser", func(t *testing.T) {
		w, first, b, ticket := waiting(t)
		kept := b.jar[moveCookie]
		w.sources[0].set(func() { w.sources[0].id.Subject, w.sources[0].id.Username = "sub-2", "bob" })
		expect(t, b.arrive(chrome, "/"), http.StatusSeeOther)
		if b.jar[moveCookie] != "" {
			t.Error("the sign-in of the person before still waits")
		}
		expect(t, b.form("/.anteroom/move", "id="+ticket), http.StatusOK, "nothing to move")
		if s := b.mustSession(); s.Subject != "sub-2" {
			t.Errorf("session of %s", s.Subject)
		}
		_ = kept
		first.mustSession()
	})
	t.Run("another person waits in the same browser: the open page moves nobody", func(t *testing.T) {
		w, first, b, ticket := waiting(t)
		w.sources[0].set(func() { w.sources[0].id.Subject, w.sources[0].id.Username = "sub-2", "bob" })
		other := w.device(iphone)
		b.waits(chrome, "/")
		b.expectNotMoved(b.form("/.anteroom/move", "id="+ticket), reasonMoveTicket)
		first.mustSession()
		other.mustSession()
	})
	t.Run("a sign-out in the same browser", func(t *testing.T) {
		_, first, b, ticket := waiting(t)
		b.form("/.anteroom/logout", "")
		if b.jar[moveCookie] != "" {
			t.Error("the sign-in survives the sign-out")
		}
		expect(t, b.form("/.anteroom/move", "id="+ticket), http.StatusOK, "nothing to move")
		first.mustSession()
	})
}

// TestAttackMoveFaults: what cannot be made certain does not happen.
func TestAttackMoveFaults(t *testing.T) {
	t.Parallel()
	t.Run("the store is lost", func(t *testing.T) {
		w, first, b, ticket := waiting(t)
		w.store.set(func(op string) (bool, error) { return op != "cas", store.ErrUnavailable })
		expect(t, b.form("/.anteroom/move", "id="+ticket), http.StatusServiceUnavailable)
		b.mustNoSession()
		first.mustSession()
	})
	t.Run("the record is not taken", func(t *testing.T) {
		w, _, b, ticket := waiting(t)
		w.audit.set(func(e audit.Event) bool { return e.Kind == "sign-in" })
		expect(t, b.form("/.anteroom/move", "id="+ticket), http.StatusServiceUnavailable)
		b.mustNoSession()
		w.audit.set(nil)
		// The session that nobody got counts no place.
		expect(t, b.arrive(chrome, "/"), http.StatusSeeOther)
		b.mustSession()
	})
	t.Run("the question is not recorded", func(t *testing.T) {
		w, first, _, _ := waiting(t)
		w.audit.set(func(e audit.Event) bool { return e.Kind == "sign-in" })
		b := w.browser()
		expect(t, b.arrive(chrome, "/"), http.StatusServiceUnavailable)
		if b.jar[moveCookie] != "" {
			t.Error("a sign-in waits off the record")
		}
		first.mustSession()
	})
	t.Run("the seal fails", func(t *testing.T) {
		w, _, _, _ := waiting(t)
		b := w.browser()
		state := b.begin("hospital", "/")
		w.sealer.mu.Lock()
		w.sealer.err = errSealer
		w.sealer.mu.Unlock()
		expect(t, b.get(callback("hospital", state), fromProvider), http.StatusServiceUnavailable)
		b.mustNoSession()
	})
	t.Run("92 K16 a sign-in that fits no cookie", func(t *testing.T) {
		w, first, _, _ := waiting(t)
		roles := func(n int) (list []string) {
			for i := range n {
				list = append(list, fmt.Sprintf("role-%030d", i))
			}
			return append(list, "doctor")
		}
		w.sources[0].set(func() { w.sources[0].id.Roles = roles(80) })
		b := w.browser()
		expect(t, b.arrive(chrome, "/"), http.StatusForbidden, pageTooLarge.title)
		if len(b.jar) != 0 {
			t.Errorf("the browser holds %v", b.jar)
		}
		// The address in the application goes first: a link chooses it.
		w.sources[0].set(func() { w.sources[0].id.Roles = roles(45) })
		_, ticket := b.waits(chrome, "/"+strings.Repeat("x", 900))
		if n := len(moveCookie) + len(b.jar[moveCookie]); n > maxCookie {
			t.Errorf("%d bytes", n)
		}
		if at := b.form("/.anteroom/move", "id="+ticket).Header().Get("Location"); at != "/" {
			t.Errorf("sent to %q", at)
		}
		if s := b.mustSession(); len(s.Roles) != 46 {
			t.Errorf("%d roles", len(s.Roles))
		}
		first.mustNoSession()
	})
	t.Run("K16 fifty sign-ins that wait are one", func(t *testing.T) {
		_, _, b, _ := waiting(t)
		for range 50 {
			b.waits(chrome, "/")
		}
		if len(b.jar) > 1+attemptMax {
			t.Errorf("the browser holds %d cookies", len(b.jar))
		}
	})
}
