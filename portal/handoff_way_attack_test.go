package portal

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestAttackHandOffLoop: S13. Sent: a browser that keeps the attempt of a site
// and not its session; one that keeps none of our cookies; one that keeps none
// at the portal. What would happen: site and portal send it to one another for
// ever. What must hold: a page that explains.
func TestAttackHandOffLoop(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	rounds := 0
	for ; rounds < 5; rounds++ {
		last, _ := u.open(site, "/.anteroom/login")
		delete(u.at(site).jar, session.CookieToken)
		delete(u.at(site).jar, session.CookieContext)
		if last.answer != nil {
			u.expectHandOffFailure(site, last.answer, pageLoop, reasonLoop)
			break
		}
	}
	if rounds != roundMax {
		t.Errorf("the explanation came after %d rounds", rounds)
	}
	for _, host := range []string{site, homeHost} {
		u := w.signedOn()
		if host == homeHost {
			u = w.person()
		}
		forgetful := u.at(host)
		at, from := "https://"+site+"/.anteroom/login", fromProvider
		for hops := 0; ; hops++ {
			if hops == 10 {
				t.Fatalf("no cookies at %s: no end, now at %s", host, at)
			}
			v, err := url.Parse(at)
			if err != nil {
				t.Fatal(err)
			}
			h, next := u.step(v.Host, v.RequestURI(), from)
			clear(forgetful.jar)
			if next == "" {
				expect(t, h.answer, http.StatusBadRequest, pageAttempt.title, "blocking cookies")
				break
			}
			if name, state, ok := atProvider(next); ok {
				next = "https://" + v.Host + callback(name, state)
			}
			at = next
		}
	}
}

// TestAttackHandOffFlood: what anybody can cause to be recorded or stored is
// limited by address, and does not use up what sign-ins may do.
func TestAttackHandOffFlood(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	u.at(site).jar[roundCookie] = fmt.Sprint(roundMax)
	paths := []func() *httptest.ResponseRecorder{
		func() *httptest.ResponseRecorder { return u.at(homeHost).get("/.anteroom/login?ask=x") },
		func() *httptest.ResponseRecorder {
			return u.at(site).get("/.anteroom/callback/portal?code=x&state=y", fromProvider)
		},
		func() *httptest.ResponseRecorder {
			b := &browser{w: w, host: site, jar: map[string]string{roundCookie: fmt.Sprint(roundMax)}}
			return b.get("/.anteroom/login")
		},
	}
	for range limitBurst {
		paths[0]()
	}
	before := len(w.audit.kinds())
	for i, path := range paths {
		if answer := path(); answer.Code != http.StatusTooManyRequests {
			t.Errorf("path %d: %d", i, answer.Code)
		}
	}
	if n := len(w.audit.kinds()) - before; n != 0 {
		t.Errorf("%d records beyond the limit", n)
	}
	if h, _ := u.step(homeHost, "/.anteroom/login"); h.answer.Code != http.StatusFound {
		t.Errorf("a sign-in at the portal: %d", h.answer.Code)
	}
}

// TestAttackHandOffEmbedded: S2, L7. Sent: the three steps from within a foreign
// page. What must hold: refused, without cookies, records or a code.
func TestAttackHandOffEmbedded(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	ask := u.leave(site, "/")
	_, target := u.handed(ask)
	before := len(w.audit.kinds())
	for name, dest := range map[string][3]string{
		"image": {"cross-site", "no-cors", "image"}, "frame": {"cross-site", "navigate", "iframe"}, "sibling's fetch": {"same-site", "cors", "empty"},
	} {
		edit := func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", dest[0])
			r.Header.Set("Sec-Fetch-Mode", dest[1])
			r.Header.Set("Sec-Fetch-Dest", dest[2])
		}
		for _, at := range [][2]string{{site, "/.anteroom/login"}, {homeHost, "/.anteroom/login?ask=" + ask}, {site, target}} {
			h, next := u.step(at[0], at[1], edit)
			if h.answer.Code != http.StatusForbidden || next != "" || len(h.answer.Result().Cookies()) != 0 {
				t.Errorf("%s of %s%s: %d", name, at[0], at[1], h.answer.Code)
			}
		}
	}
	if n := len(w.audit.kinds()) - before; n != 0 {
		t.Errorf("%d records", n)
	}
	if h, _ := u.step(site, target, fromProvider); h.answer.Code != http.StatusSeeOther {
		t.Errorf("the code was used up: %d", h.answer.Code)
	}
}

// TestAttackHandOffReturnTo: table 4.7 through the hand-off. Sent: foreign and
// mangled addresses to return to. What must hold: "/" of the site, nowhere else.
func TestAttackHandOffReturnTo(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	for _, to := range []string{
		"//evil.example", "///evil.example", `/\evil.example`, "https://evil.example", "/%2fevil.example", "/%5cevil.example", "/\t/evil.example",
		"/..//evil.example", "javascript:alert(1)", "/ok\r\nSet-Cookie: a=b", "https://" + fincare + "/", "/.anteroom/logout", "/.anteroom/callback/portal?code=x",
		"//" + homeHost + "/.anteroom/login", strings.Repeat("/x", 600),
	} {
		last, way := u.open(site, "/.anteroom/login?return_to="+url.QueryEscape(to))
		if last.answer != nil || last.url() != "https://"+site+"/" {
			t.Errorf("%q: landed at %s", to, last.url())
		}
		for _, h := range way {
			if h.host != site && h.host != homeHost {
				t.Errorf("%q: went by %s", to, h.url())
			}
		}
	}
	for _, query := range []string{"return_to=/x&return_to=/y", "ask=https://evil.example/&return_to=//evil.example"} {
		last, _ := u.open(site, "/.anteroom/login?"+query)
		if last.url() != "https://"+site+"/" {
			t.Errorf("%s: landed at %s", query, last.url())
		}
	}
}

// TestAttackHandOffSecrets: row 97. No address on the way holds a session's
// value, the person's name or the verifier; no answer may be stored; no redirect
// sends a Referer; every step is a GET.
func TestAttackHandOffSecrets(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.person()
	_, way := u.open(site, "/.anteroom/login?return_to=%2Fsecret-page")
	s := u.at(site).mustSession()
	secrets := []string{s.ID, s.TokenID, s.Username, s.Subject, "secret-page"}
	for _, b := range u.jars {
		secrets = append(secrets, b.jar[session.CookieToken], b.jar[session.CookieContext])
	}
	for i, h := range way {
		to := h.answer.Header().Get("Location")
		for _, secret := range secrets {
			if secret == "" || i > 0 && i < len(way)-1 && strings.Contains(to, secret) {
				t.Errorf("%q stands in %s", secret, to)
			}
		}
		if got := h.answer.Header().Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("%s: Referrer-Policy %q", h.target, got)
		}
		if got := h.answer.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", h.target, got)
		}
		if h.answer.Body.Len() != 0 {
			t.Errorf("%s has a body", h.target)
		}
	}
	for host, b := range u.jars {
		for _, path := range []string{"login?ask=x", "callback/portal?code=a&state=b"} {
			if answer := b.do("POST", "/.anteroom/"+path); answer.Code < 400 {
				t.Errorf("POST to %s of %s: %d", path, host, answer.Code)
			}
		}
	}
	// Row 6: nothing of the person's way stands readable in the ask.
	ask := u.leave(site, "/secret-page")
	raw, err := base64.RawURLEncoding.DecodeString(ask)
	if err != nil || strings.Contains(string(raw), "secret-page") || strings.Contains(string(raw), "medrecords") {
		t.Errorf("ask %q: %v", raw, err)
	}
	if len(raw) < sha256.Size {
		t.Error("an ask of no size")
	}
}

// TestAttackClearBeforeHeader: CVE-2026-34454. The answer that brings a session
// drops the attempt and the mark, all before its header is written.
func TestAttackClearBeforeHeader(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	u.at(site).jar[promptCookie] = fmt.Sprint(w.clock().Unix())
	_, target := u.handed(u.leave(site, "/"))
	h, _ := u.step(site, target, fromProvider)
	dropped := map[string]bool{}
	for _, c := range h.answer.Result().Cookies() { // Result: as the header was written
		if c.MaxAge < 0 {
			dropped[c.Name] = true
		}
	}
	if h.answer.Code != http.StatusSeeOther || !dropped[promptCookie] || len(dropped) != 2 {
		t.Errorf("%d, dropped %v", h.answer.Code, dropped)
	}
	if n := len(u.at(site).attempts()); n != 0 {
		t.Errorf("%d attempts stay", n)
	}
}

// TestAttackHandOffStale: Sent: sign-ins while the store is silent. What must
// hold: nobody gets in, nothing is used up, and it says "not now".
func TestAttackHandOffStale(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("hospital", "Hospital"))
	u := w.signedOn()
	ask := u.leave(site, "/")
	_, target := u.handed(ask)
	other := w.signedOn()
	_, late := other.handed(other.leave(site, "/"))
	w.store.set(func(op string) (bool, error) { return false, context.DeadlineExceeded })
	h, _ := u.step(site, target, fromProvider)
	if h.answer.Code != http.StatusServiceUnavailable {
		t.Errorf("callback: %d", h.answer.Code)
	}
	u.at(site).mustNoSession()
	w.sessions.Close()
	for _, at := range [][2]string{{homeHost, "/.anteroom/login?ask=" + ask}, {site, late}} {
		if h, next := other.step(at[0], at[1], fromProvider); h.answer.Code != http.StatusServiceUnavailable || next != "" {
			t.Errorf("%s%s: %d", at[0], at[1], h.answer.Code)
		}
	}
}
