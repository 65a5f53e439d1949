package portal

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzEndpoints sends any method, path, query, cookies and form, to a site that signs
// in by itself, with one source or with several that do all they may, to one that
// hands over, and to the portal: no panic, no 5xx, no redirect away from our own pages
// other than to the provider, or to the portal.
func FuzzEndpoints(f *testing.F) {
	for _, s := range []string{"", "login", "login/hospital", "callback/hospital", "logout", "switch", "session", "jwks.json", "static/x", "%zz", "../x"} {
		f.Add("GET", s, "return_to=/x&state=a&code=b", "__Host-anteroom=a; __Host-anteroom-ctx=b")
		f.Add("POST", s, "return_to=//x", attemptCookie+strings.Repeat("A", 22)+"=1.AAAA; "+promptCookie+"=1; "+roundCookie+"=9")
	}
	for _, s := range []string{"backchannel/hospital", "login/find", "callback/hospital"} {
		f.Add("POST", s, "", "logout_token=jti%3D1%26sub%3Da%26iat%3D1")
		f.Add("POST", s, "ask=a", "state=a&code=b&email=a%40hospital.example")
	}
	for _, s := range []string{"signed-out", "logout/hospital", "jwks/hospital.json", "login", "login/hospital"} {
		f.Add("GET", s, "state=a&ticket="+strings.Repeat("A", 43)+"&iss=https://hospital.example&target_link_uri=//x&login_hint=a", leaveCookie+"=a; "+choiceCookie+"=lab; "+answerCookie+"a=b")
		f.Add("GET", s, "acr_values=a%20b&amr=c,d&amr=e&max_age=300&return_to=/x", "")
	}
	own := func() []*source {
		h, lab := newRich("hospital", "Hospital"), newRich("lab", "Lab")
		h.more.domains, h.posts = []string{"hospital.example"}, true
		return []*source{h, lab}
	}
	f.Add("GET", "callback/hospital", "state=a&code=b", deviceCookie+"=AAAA; "+deviceCookie+"=AAAA")
	w := newWorld(f, newSource("hospital", "Hospital"))
	w.portal.log = slog.New(slog.DiscardHandler)
	f.Add("GET", "login", "ask=a", "__Host-anteroom=a; __Host-anteroom-ctx=b")
	f.Add("GET", "callback/portal", "state=a&code=b", attemptCookie+strings.Repeat("A", 22)+"=1.AAAA")
	fleet := newFleet(f, newSource("hospital", "Hospital"))
	fleet.portal.log = slog.New(slog.DiscardHandler)
	many := newWorld(f, own()...)
	many.portal.log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, method, path, query, cookie string) {
		u, err := url.ParseRequestURI(DefaultPrefix + path)
		if err != nil {
			return // no server would hand it to us
		}
		u.RawQuery = query
		for _, c := range []struct {
			portal *Portal
			host   string
		}{{w.portal, site}, {fleet.portal, site}, {fleet.portal, homeHost}, {many.portal, site}} {
			r := &http.Request{Method: method, URL: u, Host: c.host, RemoteAddr: "", Header: http.Header{
				"Accept": {"text/html"}, "Cookie": {cookie}, "Origin": {"https://" + c.host}, "Content-Type": {"application/x-www-form-urlencoded"},
			}}
			// What is a cookie in one request is a form in the other: both are a stranger's.
			r.Body = io.NopCloser(strings.NewReader(cookie))
			answer := httptest.NewRecorder()
			c.portal.limit, c.portal.handLimit, c.portal.notices = newLimiter(w.clock), newLimiter(w.clock), newLimiter(w.clock)
			c.portal.ServeHTTP(answer, r)
			if answer.Code >= 500 {
				t.Errorf("%s %s %q: %d", method, c.host, u, answer.Code)
			}
			to := answer.Header().Get("Location")
			known := strings.HasPrefix(to, "https://hospital.example/") || strings.HasPrefix(to, DefaultPrefix+"login?") ||
				c.portal == many.portal && (strings.HasPrefix(to, "https://lab.example/") || to == DefaultPrefix+"signed-out" ||
					strings.HasPrefix(to, DefaultPrefix+"callback/hospital?state=") && !strings.ContainsAny(to[len(DefaultPrefix):], "&#")) ||
				c.portal == fleet.portal && c.host == site && strings.HasPrefix(to, "https://"+homeHost+DefaultPrefix+"login?ask=")
			if to != "" && !known {
				t.Errorf("%s %s %q: sent to %q", method, c.host, u, to)
			}
		}
	})
}
