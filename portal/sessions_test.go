package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

func TestSessionsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "General Hospital"))
	here, there := w.device(firefox), w.device(iphone)
	expect(t, here.get("/.anteroom/"), http.StatusOK, `href="/.anteroom/sessions"`, "after 15 minutes without use", "Longest session</dt><dd>12 hours</dd>")

	page := here.get("/.anteroom/sessions")
	expect(t, page, http.StatusOK, "<h1>Your devices</h1>", "You are signed in on 2 devices.",
		`Firefox on Windows <strong class="tag">This device</strong></h2>`, "Safari on iPhone or iPad</h2>", "Sign out this device</button>",
		`End Safari on iPhone or iPad <span class="aside">(last seen less than a minute ago)</span></button>`,
		"General Hospital", "<dd>"+site+"</dd>", `name="id" value="`+there.label()+`"`, `action="/.anteroom/sessions/end"`,
		`<form method="post" action="/.anteroom/sessions/end-all"><button type="submit" class="alarm">This was not me: end all</button>`)
	if n := strings.Count(page.Body.String(), "This device"); n != 1 {
		t.Errorf("%d devices are this one", n)
	}
	if head := here.do(http.MethodHead, "/.anteroom/sessions"); head.Code != http.StatusOK || head.Body.Len() != 0 {
		t.Errorf("HEAD: %d %s", head.Code, head.Body)
	}

	// The other device sees the same two the other way round.
	body := there.get("/.anteroom/sessions").Body.String()
	if strings.Index(body, "Safari") > strings.Index(body, "Firefox") || !strings.Contains(body, `iPad <strong class="tag">This device`) {
		t.Errorf("the own device is not the first: %s", body)
	}

	t.Run("CVE-2024-39315 97 no token, no sid, no address", func(t *testing.T) {
		for _, b := range []*browser{here, there} {
			s := b.mustSession()
			for _, secret := range []string{s.ID, s.TokenID, b.jar[session.CookieToken], b.jar[session.CookieContext], "192.0.2.7", "Mozilla"} {
				if strings.Contains(page.Body.String(), secret) || strings.Contains(page.Header().Get("Location"), secret) {
					t.Errorf("the page holds %q", secret)
				}
			}
		}
	})
	t.Run("without a session", func(t *testing.T) {
		stranger := w.browser()
		answer := stranger.get("/.anteroom/sessions")
		expect(t, answer, http.StatusFound)
		if at := answer.Header().Get("Location"); at != "/.anteroom/login?return_to="+url.QueryEscape("/.anteroom/sessions") {
			t.Errorf("sent to %q", at)
		}
		// And the way back leads there.
		if at := stranger.signIn("hospital", "/.anteroom/sessions").Header().Get("Location"); at != "/.anteroom/sessions" {
			t.Errorf("after signing in: %q", at)
		}
		expect(t, w.browser().get("/.anteroom/sessions", program), http.StatusUnauthorized, "no-session")
	})
}

func TestSessionsOfOthers(t *testing.T) {
	t.Parallel()
	hospital, city := newSource("hospital", "General Hospital"), newSource("city", "City")
	w := newWorld(t, hospital, city)
	here := w.device(firefox)
	hospital.set(func() { hospital.id.Subject, hospital.id.Username = "sub-2", "bob" })
	other := w.device(iphone)
	city.set(func() { city.id.Subject = "sub-1" }) // the same subject at another provider is another account
	third := w.browser()
	third.signIn("city", "/")

	page := here.get("/.anteroom/sessions")
	expect(t, page, http.StatusOK, "signed in on this device only")
	for _, b := range []*browser{other, third} {
		if strings.Contains(page.Body.String(), b.label()) {
			t.Error("another account's session is on the page")
		}
	}
	unknown := here.form("/.anteroom/sessions/end", "id=AAAAAAAAAAAAAAAA").Body.String()
	for name, id := range map[string]string{
		"another account":                    other.label(),
		"another provider":                   third.label(),
		"its sid":                            other.mustSession().ID,
		"nothing":                            "",
		"a wildcard":                         "*",
		"the beginning of a label":           here.label()[:8],
		"another case":                       strings.ToLower(other.label()),
		"long":                               strings.Repeat("A", 900),
		"a script <script>alert(1)</script>": "<script>alert(1)</script>",
		"%s%n":                               "%s%n",
	} {
		t.Run("label guessing: "+name, func(t *testing.T) {
			before := len(w.audit.kinds())
			answer := here.form("/.anteroom/sessions/end", url.Values{"id": {id}}.Encode())
			expect(t, answer, http.StatusOK, "signed out already")
			if answer.Body.String() != unknown {
				t.Errorf("the answer differs from the one for an unknown label: %s", answer.Body)
			}
			here.mustSession()
			other.mustSession()
			third.mustSession()
			if n := len(w.audit.kinds()); n != before {
				t.Errorf("%d events were recorded", n-before)
			}
		})
	}
	here.form("/.anteroom/sessions/end-all", "")
	here.mustNoSession()
	other.mustSession()
	third.mustSession()
}

func TestEndOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here, there := w.device(firefox), w.device(iphone)
	label := there.label()
	expect(t, here.form("/.anteroom/sessions/end", "id="+label), http.StatusOK, `role="status">Safari on iPhone or iPad is signed out.</p>`, "on this device only")
	there.mustNoSession()
	here.mustSession()
	if e := w.audit.last(t); e.Kind != "sign-out" || e.Decision != "allowed" || e.Reason != "ended-by-owner" || e.Session != label || e.Subject != "sub-1" {
		t.Errorf("recorded %+v", e)
	}
	// Once more, as with the back button: no error, nothing happens.
	before := len(w.audit.kinds())
	expect(t, here.form("/.anteroom/sessions/end", "id="+label), http.StatusOK, "That device was signed out already.")
	if n := len(w.audit.kinds()); n != before {
		t.Errorf("%d events for nothing", n-before)
	}

	// The own row is a sign-out like any other.
	label = here.label()
	copied := here.clone()
	answer := here.form("/.anteroom/sessions/end", "id="+label)
	expect(t, answer, http.StatusOK, "<h1>You are signed out</h1>")
	if answer.Header().Get("Clear-Site-Data") != `"cache"` || here.jar[promptCookie] == "" || here.jar[session.CookieToken] != "" {
		t.Errorf("the browser keeps %v, %s", here.jar, answer.Header())
	}
	copied.mustNoSession()
	if e := w.audit.last(t); e.Reason != "ended-by-owner" || e.Session != label {
		t.Errorf("recorded %+v", e)
	}
}

func TestEndAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here, there, third := w.device(firefox), w.device(iphone), w.device(chrome)
	labels := []string{here.label(), there.label(), third.label()}
	copied := here.clone()
	answer := here.form("/.anteroom/sessions/end-all", "")
	expect(t, answer, http.StatusOK, "<h1>You are signed out everywhere</h1>", "on 3 devices, this one included", "Tell your IT help desk", "Sign in again", "Reference number")
	for _, b := range []*browser{copied, there, third, here} {
		b.mustNoSession()
	}
	if answer.Header().Get("Clear-Site-Data") != `"cache"` || len(here.jar) != 2 || here.jar[promptCookie] == "" || here.jar[deviceCookie] == "" {
		t.Errorf("the browser keeps %v", here.jar)
	}
	for _, label := range labels {
		n := 0
		for _, e := range w.audit.all() {
			if e.Kind == "sign-out" && e.Reason == "not-me" && e.Session == label && e.Decision == "allowed" {
				n++
			}
		}
		if n != 1 {
			t.Errorf("session %s has %d records", label, n)
		}
	}
	// Signing in again works, also from another device.
	w.device(firefox)
}

// TestSessionsManyDevices: the page is bounded, the own device is always on it.
func TestSessionsManyDevices(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here := w.device(firefox)
	s := here.mustSession()
	for range placesShown + 4 {
		if _, _, err := w.sessions.Issue(t.Context(), s.Grant, site, session.Admission{}); err != nil {
			t.Fatal(err)
		}
	}
	page := here.get("/.anteroom/sessions")
	expect(t, page, http.StatusOK, "on 55 devices", "There are 5 more", "This device", "another browser on another system")
	if n := strings.Count(page.Body.String(), "<h2 id=\"place-"); n != placesShown {
		t.Errorf("%d devices on the page", n)
	}
}

// TestSessionsStoreDown: nothing is claimed that is not certain.
func TestSessionsStoreDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here, there := w.device(firefox), w.device(iphone)
	id := "id=" + there.label()
	w.store.set(func(op string) (bool, error) { return op != "append", store.ErrUnavailable })
	for path, body := range map[string]string{"end": id, "end-all": ""} {
		before := len(here.jar)
		answer := here.form("/.anteroom/sessions/"+path, body)
		expect(t, answer, http.StatusServiceUnavailable, pageNotEnded.title, w.audit.last(t).Ref, `href="/.anteroom/sessions"`)
		if e := w.audit.last(t); e.Kind != "sign-out" || e.Decision != "failed" || e.Reason != reasonStore {
			t.Errorf("%s: recorded %+v", path, e)
		}
		if len(here.jar) != before {
			t.Errorf("%s: cookies are gone: %v", path, here.jar)
		}
	}
	w.store.set(nil)
	there.mustSession()
	expect(t, here.form("/.anteroom/sessions/end", id), http.StatusOK, "is signed out.")
	there.mustNoSession()
}

// TestSessionsRecordDown: a session that is over is over, whatever the record says.
func TestSessionsRecordDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here, there := w.device(firefox), w.device(iphone)
	id := "id=" + there.label()
	w.audit.set(func(audit.Event) bool { return true })
	expect(t, here.form("/.anteroom/sessions/end", id), http.StatusOK, "is signed out.")
	there.mustNoSession()
	expect(t, here.form("/.anteroom/sessions/end-all", ""), http.StatusOK, "signed out everywhere")
	here.mustNoSession()
}

func TestSessionsSilentStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	here := w.device(firefox)
	w.sessions.Close()
	for _, answer := range []int{
		here.get("/.anteroom/sessions").Code, here.get("/.anteroom/sessions", program).Code,
		here.form("/.anteroom/sessions/end", "id=x").Code, here.form("/.anteroom/sessions/end-all", "").Code,
	} {
		if answer != http.StatusServiceUnavailable {
			t.Errorf("status %d", answer)
		}
	}
	if _, err := w.sessions.Sessions(context.Background(), "hospital", "sub-1"); !errors.Is(err, session.ErrClosed) {
		t.Errorf("the manager runs: %v", err)
	}
}

func (r *recorder) all() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]audit.Event(nil), r.events...)
}

func TestSpanOfPlaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	at := func(d time.Duration) time.Time { return w.start.Add(-d) }
	v := w.portal.newPlaces([]session.Info{
		{ID: "a", Source: "gone", Started: at(time.Hour), Seen: at(10 * time.Minute)},
		{ID: "b", Source: "hospital", Started: at(2 * time.Hour), Seen: at(time.Minute)},
		{ID: "c", Source: "hospital", Started: at(3 * time.Hour), Seen: at(3 * time.Hour)},
	}, "c")
	var got []string
	for _, l := range v.List {
		got = append(got, l.Source+" "+l.First.Span+" "+l.Seen.Span)
	}
	if s := strings.Join(got, "; "); s != "Hospital 3 hours 3 hours; Hospital 2 hours 1 minute; gone 1 hour 10 minutes" || !v.List[0].Here || v.List[1].Here {
		t.Errorf("%s, %+v", s, v.List)
	}
}
