package portal

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/store"
)

// leaves signs out and gives the page and the address of the link to the provider.
func (b *browser) leaves() (*httptest.ResponseRecorder, string) {
	b.w.t.Helper()
	page := b.do(http.MethodPost, "/.anteroom/logout")
	expect(b.w.t, page, http.StatusOK, "<h1>You are signed out</h1>", "Sign out at Hospital too")
	b.mustNoSession()
	return page, hrefOn(b.w.t, page, "/.anteroom/logout/hospital?")
}

func TestLeave(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*world, *browser) {
		t.Helper()
		w := newWorld(t, newRich("hospital", "Hospital"), newSource("plain", "Plain"))
		b := w.browser()
		b.signIn("hospital", "/x")
		return w, b
	}
	t.Run("L1 row 51 local first, then the provider's, with all parameters", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		_, href := b.leaves()
		answer := b.get(href)
		expect(t, answer, http.StatusFound)
		to, err := url.Parse(answer.Header().Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		q := to.Query()
		if to.Host != "hospital.example" || q.Get("id_token_hint") != "id-token-of-hospital" || q.Get("post_logout_redirect_uri") != "https://"+site+"/.anteroom/signed-out" || len(q.Get("state")) != 43 {
			t.Errorf("sent to %s", to)
		}
		if h := answer.Header(); h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers %v", h)
		}
		back := b.get("/.anteroom/signed-out?state="+q.Get("state"), fromProvider)
		expect(t, back, http.StatusOK, "You are not signed in at", "says that you are signed out there, too")
		if b.jar[leaveCookie] != "" || back.Header().Get("Location") != "" {
			t.Errorf("the browser keeps %v", b.jar)
		}
		b.mustNoSession()
		// A second time it says no more than it knows.
		expect(t, b.get("/.anteroom/signed-out?state="+q.Get("state"), fromProvider), http.StatusOK, "may still remember you")
		_ = w
	})
	t.Run("L2 L3 row 52 another state, or none", func(t *testing.T) {
		t.Parallel()
		_, b := start(t)
		_, href := b.leaves()
		b.get(href)
		for _, query := range []string{"", "?state=", "?state=" + newState(), "?state=a&state=b", "?state=%zz", "?error=x&return_to=//evil.example&post_logout_redirect_uri=https://evil.example"} {
			answer := b.get("/.anteroom/signed-out"+query, fromProvider)
			expect(t, answer, http.StatusOK, "<h1>You are signed out</h1>", "may still remember you")
			if answer.Header().Get("Location") != "" || strings.Contains(answer.Body.String(), "evil") || strings.Contains(answer.Body.String(), "says that") {
				t.Errorf("%q: %v %s", query, answer.Header(), answer.Body)
			}
			b.mustNoSession()
		}
		// Without the cookie of our own state, an empty one is not the right one.
		fresh := b.w.browser()
		fresh.jar[leaveCookie] = ""
		if body := fresh.get("/.anteroom/signed-out?state=").Body.String(); strings.Contains(body, "says that") {
			t.Error("empty equals empty")
		}
	})
	t.Run("row 52 a link to that page signs nobody out, and does not say so", func(t *testing.T) {
		t.Parallel()
		_, b := start(t)
		answer := b.get("/.anteroom/signed-out?state=x", fromProvider)
		expect(t, answer, http.StatusOK, "<h1>You are signed in</h1>", `href="/.anteroom/logout"`)
		if len(answer.Header()["Set-Cookie"]) != 0 {
			t.Errorf("set %v", answer.Header())
		}
		b.mustSession()
	})
	t.Run("a ticket works once, for ten minutes, for its source", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		_, href := b.leaves()
		lost := func(name, href string) {
			t.Helper()
			answer := b.get(href)
			if to := answer.Header().Get("Location"); answer.Code != http.StatusFound || to != "/.anteroom/signed-out" || strings.Contains(answer.Header().Get("Set-Cookie"), leaveCookie) {
				t.Errorf("%s: %d %v", name, answer.Code, answer.Header())
			}
		}
		for name, query := range map[string]string{
			"none": "", "empty": "?ticket=", "made up": "?ticket=" + newState(), "twice": "?" + strings.Split(href, "?")[1] + "&ticket=x", "long": "?ticket=" + strings.Repeat("A", 5000),
			"a state": "?ticket=" + strings.Repeat("a", 43), "somewhere": "?post_logout_redirect_uri=https://evil.example&rd=//evil.example",
		} {
			lost(name, "/.anteroom/logout/hospital"+query)
		}
		if len(w.sources[0].more.departs) != 1 { // the question whether there is such a page
			t.Errorf("asked %d times", len(w.sources[0].more.departs))
		}
		expect(t, b.get(href, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "no-cors")
		}), http.StatusForbidden)
		if to := b.get(href).Header().Get("Location"); !strings.HasPrefix(to, "https://hospital.example/end?") {
			t.Errorf("sent to %q", to)
		}
		lost("used", href)
		b.signIn("hospital", "/")
		_, href = b.leaves()
		w.advance(ticketTTL)
		lost("too late", href)
		if code := b.do("HEAD", href).Code; code != http.StatusMethodNotAllowed {
			t.Errorf("HEAD: %d", code)
		}
		if code := b.get("/.anteroom/logout/plain").Code; code != http.StatusNotFound {
			t.Errorf("a source without: %d", code)
		}
	})
	t.Run("the ticket of one source at another", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newRich("hospital", "Hospital"), newRich("lab", "Lab"))
		b := w.browser()
		b.signIn("hospital", "/x")
		_, href := b.leaves()
		if to := b.get(strings.Replace(href, "/hospital", "/lab", 1)).Header().Get("Location"); to != "/.anteroom/signed-out" {
			t.Errorf("sent to %q", to)
		}
	})
	t.Run("22 the store holds it sealed, under a hash", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		page, href := b.leaves()
		items, err := w.store.List(t.Context(), labelTicketID)
		if err != nil || len(items) != 1 {
			t.Fatalf("%d, %v", len(items), err)
		}
		word := strings.Split(href, "ticket=")[1]
		if strings.Contains(items[0].Key+string(items[0].Value), word) || strings.Contains(string(items[0].Value), "id-token") || strings.Contains(page.Body.String(), "id-token") {
			t.Error("who reads the store, or the page, has the token")
		}
	})
	for name, depart := range map[string]func(identity.Departure) (string, error){
		"L5 no such page at the provider": func(identity.Departure) (string, error) { return "", nil },
		"L6 the provider is down":         func(identity.Departure) (string, error) { return "", context.DeadlineExceeded },
		"an address that is none":         func(identity.Departure) (string, error) { return "javascript:alert(1)", nil },
		"an address with a line end":      func(identity.Departure) (string, error) { return "https://a.example/\r\nX: y", nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, b := start(t)
			w.sources[0].more.depart = depart
			page := b.do(http.MethodPost, "/.anteroom/logout")
			expect(t, page, http.StatusOK, "<h1>You are signed out</h1>", "(Hospital) may still remember you")
			b.mustNoSession()
			if to, err := depart(identity.Departure{}); to == "" && err == nil {
				if strings.Contains(page.Body.String(), "logout/hospital") {
					t.Error("a link that leads nowhere")
				}
				return
			}
			answer := b.get(hrefOn(t, page, "/.anteroom/logout/hospital?"))
			if got := answer.Header().Get("Location"); answer.Code != http.StatusFound || got != "/.anteroom/signed-out" {
				t.Errorf("%d to %q", answer.Code, got)
			}
			expect(t, b.get("/.anteroom/signed-out"), http.StatusOK, "may still remember you")
		})
	}
	t.Run("L8 a session that has ended", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		if err := w.sessions.Revoke(t.Context(), b.mustSession().ID); err != nil {
			t.Fatal(err)
		}
		expect(t, b.do(http.MethodPost, "/.anteroom/logout"), http.StatusOK, "had already ended", "may still remember you")
	})
	t.Run("the store takes no ticket", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		w.store.failPut(store.ErrUnavailable)
		page := b.do(http.MethodPost, "/.anteroom/logout")
		expect(t, page, http.StatusOK, "<h1>You are signed out</h1>", "may still remember you")
		b.mustNoSession()
	})
	t.Run("row 49 nothing at the provider before it has worked here", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		w.store.set(func(op string) (bool, error) {
			return op != "append", map[bool]error{true: store.ErrUnavailable}[op == "append"]
		})
		page := b.do(http.MethodPost, "/.anteroom/logout")
		expect(t, page, http.StatusServiceUnavailable, "You are NOT signed out")
		if strings.Contains(page.Body.String(), "logout/hospital") {
			t.Error("the person is led away from a sign-out that did not work")
		}
	})
	t.Run("L7 row 50 from another site", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		expect(t, b.do(http.MethodPost, "/.anteroom/logout", header("Origin", "https://evil.example")), http.StatusForbidden)
		b.mustSession()
		if n := len(w.sources[0].more.departs); n != 0 {
			t.Errorf("asked %d times", n)
		}
	})
	t.Run("this was not me", func(t *testing.T) {
		t.Parallel()
		_, b := start(t)
		page := b.form("/.anteroom/sessions/end-all", "")
		expect(t, page, http.StatusOK, "signed out everywhere", "Sign out at Hospital too")
		if to := b.get(hrefOn(t, page, "/.anteroom/logout/hospital?")).Header().Get("Location"); !strings.Contains(to, "id_token_hint=id-token-of-hospital") {
			t.Errorf("sent to %q", to)
		}
	})
}

// TestLeaveOverPortal: behind a portal, only its host talks to the provider.
func TestLeaveOverPortal(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newRich("hospital", "Hospital"))
	u := w.person()
	u.open(site, "/.anteroom/login?return_to=%2Fx")
	page := u.at(site).do(http.MethodPost, "/.anteroom/logout")
	expect(t, page, http.StatusOK, "and of every other site", "Sign out at Hospital too")
	href := hrefOn(t, page, "https://"+homeHost+"/.anteroom/logout/hospital?")
	target := strings.TrimPrefix(href, "https://"+homeHost)
	if code := u.at(site).get(target).Code; code != http.StatusNotFound {
		t.Errorf("the site has that address itself: %d", code)
	}
	answer := u.at(homeHost).get(target, header("Sec-Fetch-Site", "same-site"))
	expect(t, answer, http.StatusFound)
	to, err := url.Parse(answer.Header().Get("Location"))
	if err != nil || to.Query().Get("post_logout_redirect_uri") != "https://"+homeHost+"/.anteroom/signed-out" || to.Query().Get("id_token_hint") == "" {
		t.Errorf("sent to %s, %v", to, err)
	}
	back := u.at(homeHost).get("/.anteroom/signed-out?state="+to.Query().Get("state"), fromProvider)
	expect(t, back, http.StatusOK, "signed out there, too")
}
