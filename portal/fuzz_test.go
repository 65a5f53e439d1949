package portal

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzEndpoints sends any method, path, query and cookies: no panic, no 5xx,
// no redirect away from our own pages other than to the provider.
func FuzzEndpoints(f *testing.F) {
	for _, s := range []string{"", "login", "login/hospital", "callback/hospital", "logout", "switch", "session", "jwks.json", "static/x", "%zz", "../x"} {
		f.Add("GET", s, "return_to=/x&state=a&code=b", "__Host-anteroom=a; __Host-anteroom-ctx=b")
		f.Add("POST", s, "return_to=//x", attemptCookie+strings.Repeat("A", 22)+"=1.AAAA; "+promptCookie+"=1; "+roundCookie+"=9")
	}
	w := newWorld(f, newSource("hospital", "Hospital"))
	w.portal.log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, method, path, query, cookie string) {
		u, err := url.ParseRequestURI(DefaultPrefix + path)
		if err != nil {
			return // no server would hand it to us
		}
		u.RawQuery = query
		r := &http.Request{Method: method, URL: u, Host: site, RemoteAddr: "", Header: http.Header{
			"Accept": {"text/html"}, "Cookie": {cookie}, "Origin": {"https://" + site},
		}}
		answer := httptest.NewRecorder()
		w.portal.limit = newLimiter(w.clock)
		w.portal.ServeHTTP(answer, r)
		if answer.Code >= 500 {
			t.Errorf("%s %q: %d", method, u, answer.Code)
		}
		to := answer.Header().Get("Location")
		if to != "" && !strings.HasPrefix(to, "https://hospital.example/") && !strings.HasPrefix(to, DefaultPrefix+"login?") {
			t.Errorf("%s %q: sent to %q", method, u, to)
		}
	})
}
