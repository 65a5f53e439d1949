package portal

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzEndpoints sends any method, path, query and cookies, to a site that signs
// in by itself, to one that hands over, and to the portal: no panic, no 5xx, no
// redirect away from our own pages other than to the provider, or to the portal.
func FuzzEndpoints(f *testing.F) {
	for _, s := range []string{"", "login", "login/hospital", "callback/hospital", "logout", "switch", "session", "jwks.json", "static/x", "%zz", "../x"} {
		f.Add("GET", s, "return_to=/x&state=a&code=b", "__Host-anteroom=a; __Host-anteroom-ctx=b")
		f.Add("POST", s, "return_to=//x", attemptCookie+strings.Repeat("A", 22)+"=1.AAAA; "+promptCookie+"=1; "+roundCookie+"=9")
	}
	w := newWorld(f, newSource("hospital", "Hospital"))
	w.portal.log = slog.New(slog.DiscardHandler)
	f.Add("GET", "login", "ask=a", "__Host-anteroom=a; __Host-anteroom-ctx=b")
	f.Add("GET", "callback/portal", "state=a&code=b", attemptCookie+strings.Repeat("A", 22)+"=1.AAAA")
	fleet := newFleet(f, newSource("hospital", "Hospital"))
	fleet.portal.log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, method, path, query, cookie string) {
		u, err := url.ParseRequestURI(DefaultPrefix + path)
		if err != nil {
			return // no server would hand it to us
		}
		u.RawQuery = query
		for _, c := range []struct {
			portal *Portal
			host   string
		}{{w.portal, site}, {fleet.portal, site}, {fleet.portal, homeHost}} {
			r := &http.Request{Method: method, URL: u, Host: c.host, RemoteAddr: "", Header: http.Header{
				"Accept": {"text/html"}, "Cookie": {cookie}, "Origin": {"https://" + c.host},
			}}
			answer := httptest.NewRecorder()
			c.portal.limit, c.portal.handLimit = newLimiter(w.clock), newLimiter(w.clock)
			c.portal.ServeHTTP(answer, r)
			if answer.Code >= 500 {
				t.Errorf("%s %s %q: %d", method, c.host, u, answer.Code)
			}
			to := answer.Header().Get("Location")
			known := strings.HasPrefix(to, "https://hospital.example/") || strings.HasPrefix(to, DefaultPrefix+"login?") ||
				c.portal == fleet.portal && c.host == site && strings.HasPrefix(to, "https://"+homeHost+DefaultPrefix+"login?ask=")
			if to != "" && !known {
				t.Errorf("%s %s %q: sent to %q", method, c.host, u, to)
			}
		}
	})
}
