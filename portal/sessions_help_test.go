package portal

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

const (
	firefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:127.0) Gecko/20100101 Firefox/127.0"
	iphone  = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1"
	chrome  = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)

// limits makes the world one in which doctors have a limit. Its sessions begin
// at the world's time and never grow old.
func (w *world) limits(n int, then session.OnLimit) *world {
	w.t.Helper()
	m, err := session.New(session.Config{
		Store: w.store, Sealer: w.sealer, Now: func() time.Time { return w.start },
		Lifetimes: session.Lifetimes{Roles: map[string]session.Lifetime{"doctor": {Sessions: n, OnLimit: then}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := m.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(m.Close)
	w.use(m)
	return w
}

// use gives the world a portal with another session manager.
func (w *world) use(m *session.Manager) {
	w.t.Helper()
	var list []identity.Source
	for _, s := range w.sources {
		list = append(list, s.whole())
	}
	p, err := New(Config{
		Sources: list, Sessions: m, Store: w.store, Sealer: w.sealer, Audit: w.audit,
		Now: w.clock, Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.sessions, w.portal = m, p
}

// arrive comes back from the provider with this browser, and returns the answer.
func (b *browser) arrive(agent, to string) *httptest.ResponseRecorder {
	b.w.t.Helper()
	return b.get(callback("hospital", b.begin("hospital", to)), fromProvider, header("User-Agent", agent))
}

// device is a browser of that name in which somebody has signed in.
func (w *world) device(agent string) *browser {
	w.t.Helper()
	b := w.browser()
	expect(w.t, b.arrive(agent, "/"), http.StatusSeeOther)
	b.mustSession()
	return b
}

// form sends a form as a page of ours does.
func (b *browser) form(path, body string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	b.w.t.Helper()
	return b.do(http.MethodPost, path, append([]func(*http.Request){func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}}, edit...)...)
}

func (b *browser) label() string {
	b.w.t.Helper()
	return audit.SessionLabel(b.mustSession().ID)
}

// waits signs in with a browser that is one too many, goes to the page that
// asks, and returns it with the ticket of its form.
func (b *browser) waits(agent, to string) (*httptest.ResponseRecorder, string) {
	b.w.t.Helper()
	answer := b.arrive(agent, to)
	expect(b.w.t, answer, http.StatusSeeOther)
	if at := answer.Header().Get("Location"); at != "/.anteroom/move" {
		b.w.t.Fatalf("sent to %q", at)
	}
	b.mustNoSession()
	page := b.get("/.anteroom/move")
	expect(b.w.t, page, http.StatusOK, "<h1>You are signed in at another workstation</h1>")
	return page, ticketOf(b.w.t, page)
}

func ticketOf(t testing.TB, page *httptest.ResponseRecorder) string {
	t.Helper()
	m := regexp.MustCompile(`<form method="post" action="/.anteroom/move"><input type="hidden" name="id" value="([A-Za-z0-9_-]{22})">`).FindStringSubmatch(page.Body.String())
	if m == nil {
		t.Fatalf("no form: %s", page.Body)
	}
	return m[1]
}

// count tells how many events of this kind, decision and reason there were.
func (r *recorder) count(event string) (n int) {
	for _, k := range r.kinds() {
		if k == event {
			n++
		}
	}
	return n
}

// foreignForms are the ways in which another page, or none, may send a form (row 50,
// S2, S3, L7).
func foreignForms() map[string]func(*http.Request) {
	set := func(origin, fetchSite string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Del("Origin")
			r.Header.Del("Sec-Fetch-Site")
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
			if fetchSite != "" {
				r.Header.Set("Sec-Fetch-Site", fetchSite)
			}
		}
	}
	return map[string]func(*http.Request){
		"foreign origin":              set("https://evil.example", ""),
		"foreign origin, forged site": set("https://evil.example", "same-origin"),
		"null origin":                 set("null", "same-origin"),
		"sibling host":                set("https://fincare.hospital.example", "same-site"),
		"other scheme":                set("http://"+site, ""),
		"other port":                  set("https://"+site+":8443", ""),
		"longer host":                 set("https://"+site+".evil.example", ""),
		"empty origin":                func(r *http.Request) { r.Header["Origin"] = []string{""} },
		"two origins":                 func(r *http.Request) { r.Header.Add("Origin", "https://"+site) },
		"no origin, cross-site":       set("", "cross-site"),
		"no origin, same-site":        set("", "same-site"),
		"no origin, typed":            set("", "none"),
		"nothing at all":              set("", ""),
		"no origin, two fetch sites":  func(r *http.Request) { set("", "same-origin")(r); r.Header.Add("Sec-Fetch-Site", "same-origin") },
	}
}
