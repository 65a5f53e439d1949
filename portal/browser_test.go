package portal

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
)

func TestS11WhoIsAProgram(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		header  http.Header
		program bool
	}{
		{"browser", http.Header{"Accept": {"text/html,*/*"}, "Sec-Fetch-Mode": {"navigate"}}, false},
		{"old browser", http.Header{"Accept": {"TEXT/HTML"}}, false},
		{"accept in two lines", http.Header{"Accept": {"image/png", "text/html"}}, false},
		{"fetch", http.Header{"Accept": {"text/html"}, "Sec-Fetch-Mode": {"cors"}}, true},
		{"fetch that also navigates", http.Header{"Accept": {"text/html"}, "Sec-Fetch-Mode": {"navigate", "cors"}}, true},
		{"XMLHttpRequest", http.Header{"Accept": {"text/html"}, "X-Requested-With": {"XMLHttpRequest"}}, true},
		{"websocket", http.Header{"Accept": {"text/html"}, "Upgrade": {"WebSocket"}}, true},
		{"anything", http.Header{"Accept": {"*/*"}}, true},
		{"json", http.Header{"Accept": {"application/json"}}, true},
		{"no accept", http.Header{}, true},
	} {
		if got := isAPIClient(&http.Request{Header: tt.header}); got != tt.program {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	w := newWorld(t, newSource("hospital", "Hospital"))
	for _, path := range []string{"", "session"} {
		answer := w.browser().get("/.anteroom/"+path, program)
		expect(t, answer, http.StatusUnauthorized, `"title":"Unauthorized"`, `"status":401`)
		if answer.Header().Get("Location") != "" || answer.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%q: %v", path, answer.Header())
		}
	}
}

func TestSpan(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "less than a minute", 0: "less than a minute", 29 * time.Second: "less than a minute", 31 * time.Second: "1 minute",
		15 * time.Minute: "15 minutes", time.Hour: "1 hour", 61 * time.Minute: "1 hour 1 minute", 12 * time.Hour: "12 hours",
		11*time.Hour + 48*time.Minute: "11 hours 48 minutes",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %q, want %q", d, got, want)
		}
	}
}

// TestAnyNodeFinishes: a second node with the same store and sealer finishes
// what the first began, and knows what was used there.
func TestAnyNodeFinishes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	other, err := New(Config{
		Sources: []identity.Source{w.sources[0]}, Sessions: w.sessions, Store: w.store, Sealer: w.sealer, Audit: w.audit, Now: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	b := w.browser()
	one, two := b.begin("hospital", "/one"), b.begin("hospital", "/two")
	copied := b.clone()
	expect(t, b.get(callback("hospital", one)), http.StatusSeeOther)
	w.portal = other
	expect(t, b.get(callback("hospital", two)), http.StatusSeeOther)
	copied.expectFailure(copied.get(callback("hospital", one)), pageAttempt, reasonUsed)
}

// TestNothingOffTheRecord: when the audit log is down, every end of a sign-in
// or a refused sign-out is the same outage, whatever else went wrong.
func TestNothingOffTheRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	signedIn := w.browser()
	signedIn.signIn("hospital", "/")
	w.audit.set(func(audit.Event) bool { return true })
	w.sources[0].set(func() { w.sources[0].beginErr = errStep })
	for _, answer := range []*httptest.ResponseRecorder{
		b.get(callback("hospital", newState())),
		b.get("/.anteroom/callback/hospital"),
		b.get("/.anteroom/login"),
		signedIn.do("POST", "/.anteroom/logout", header("Origin", "https://evil.example")),
	} {
		expect(t, answer, http.StatusServiceUnavailable, pageUnavailable.title)
		if len(answer.Result().Cookies()) != 0 {
			t.Errorf("cookies %v", answer.Result().Cookies())
		}
	}
}
