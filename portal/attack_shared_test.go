package portal

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
)

// prefixed is a source that puts a prefix before its usernames.
type prefixed struct {
	*source
	prefix string
}

func (p prefixed) UsernamePrefix() string { return p.prefix }

// TestAttackForeignPrefix: a person may choose a username at many providers.
// Sent: at the source without a prefix, the name "lab:adoe". What would happen:
// policy and apps take the person for adoe of the source whose prefix is
// "lab:". What must hold: a username belongs to the source with the longest
// prefix that it begins with, whatever its case.
func TestAttackForeignPrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"), newSource("lab", "Lab"), newSource("labour", "Labour"))
	w.portal.sources = []identity.Source{
		w.sources[0], prefixed{w.sources[1], "lab:"}, prefixed{w.sources[2], "lab:our-"},
	}
	w.portal.reserved = []string{"app:"} // of callers with access tokens
	for _, c := range []struct {
		source, username string
		good             bool
	}{
		{"hospital", "adoe", true},
		{"hospital", "lab", true},
		{"hospital", "lab:adoe", false},
		{"hospital", "LAB:adoe", false},
		{"hospital", "lab:our-adoe", false},
		{"hospital", "App:ada", false},
		{"lab", "lab:adoe", true},
		{"lab", "lab:our-adoe", false},
		{"lab", "lab:OUR-adoe", false},
		{"labour", "lab:our-adoe", true},
	} {
		for _, s := range w.sources {
			if s.name == c.source {
				s.set(func() { s.id.Username = c.username })
			}
		}
		b := w.browser()
		answer := b.get(callback(c.source, b.begin(c.source, "/")), fromProvider)
		if signedIn := answer.Code == http.StatusSeeOther; signedIn != c.good {
			t.Errorf("%s, %q: signed in %v, want %v", c.source, c.username, signedIn, c.good)
		}
		if !c.good {
			b.expectFailure(answer, pageRefused, reasonPrefix)
		}
	}
}

// TestAttackReferrer: what a callback's address holds stays with us. Sent: a
// callback that ends on a page (here: of an attempt of another browser, so that
// its code was not used). What would happen: the link to the application on
// that page carries code and state in Referer, into the application's log. What
// must hold: pages below callback/ send no Referer at all; pages with forms
// still send one to ourselves, as signing out needs an Origin.
func TestAttackReferrer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	state := w.browser().begin("hospital", "/")
	b := w.browser()
	b.signIn("hospital", "/")
	answer := b.get(callback("hospital", state), fromProvider)
	expect(t, answer, http.StatusBadRequest, `href="/"`)
	if got := answer.Header()["Referrer-Policy"]; len(got) != 1 || got[0] != "no-referrer" {
		t.Errorf("Referrer-Policy %q", got)
	}
	if strings.Contains(answer.Body.String(), "<form") {
		t.Error("a form on this page would send Origin: null")
	}
	if got := b.get("/.anteroom/logout").Header().Get("Referrer-Policy"); got != "same-origin" {
		t.Errorf("the page with the sign-out form: Referrer-Policy %q", got)
	}
}

// TestAttackReturnToThatGrows: a return address of good form and length that
// takes several times its length in JSON. Sent: 1024 bytes of "&", quotes, "<".
// What would happen: the attempt's cookie is larger than browsers keep, and the
// link ends on a page of an outage. What must hold: the start page instead, and
// an honest long query comes through.
func TestAttackReturnToThatGrows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	w.sources[0].set(func() { w.sources[0].keep = []byte(strings.Repeat("k", 500)) })
	for _, s := range []string{"&", `"`, "<", "a=b&"} {
		to := "/?" + strings.Repeat(s, 1022/len(s))
		b := w.browser()
		answer := b.get("/.anteroom/login?return_to=" + url.QueryEscape(to))
		expect(t, answer, http.StatusFound)
		if n := len(b.attempts()); n != 1 {
			t.Errorf("%q: the browser keeps %d attempts", s, n)
		}
	}
	w.sources[0].set(func() { w.sources[0].keep = nil })
	b := w.browser()
	honest := "/viewer?" + strings.Repeat("study=1.2.840&", 70)
	if got := b.signIn("hospital", honest).Header().Get("Location"); got != honest {
		t.Errorf("landed at %q", got)
	}
}

// TestAttackHugeQuery: Sent: a query of nearly a megabyte, many parameters, to
// the pages that anybody can ask for. What would happen: it is split and
// decoded, more than once, before the limit on sign-ins is asked. What must
// hold: it is not looked at; return_to is "/", a callback is refused.
func TestAttackHugeQuery(t *testing.T) {
	w := newWorld(t, newSource("hospital", "Hospital"), newSource("city", "City"))
	b := w.browser()
	query := "return_to=%2Fx&switch=1&state=" + strings.Repeat("A", 43)
	for i := range 9000 { // net/url takes 10000 at most
		query += fmt.Sprintf("&%d=%s", i, strings.Repeat("%41", 30))
	}
	for _, path := range []string{"login", "login/hospital", "callback/hospital"} {
		r := b.request("GET", "/.anteroom/"+path)
		r.URL.RawQuery = query
		answer := httptest.NewRecorder()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		w.portal.ServeHTTP(answer, r)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 512<<10 {
			t.Errorf("%s: %d bytes were allocated for a query of %d", path, used, len(query))
		}
		if strings.Contains(answer.Body.String(), "return_to") || strings.Contains(answer.Body.String(), "previous person") {
			t.Errorf("%s: the query was read: %s", path, answer.Body)
		}
	}
}

// TestAttackFalseSignOut: Sent: a link to login?switch=1 that a signed-in
// person follows. What would happen: the page says that the previous person is
// signed out, and somebody leaves the workstation. What must hold: it says so
// only when it is so.
func TestAttackFalseSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/")
	answer := b.get("/.anteroom/login?switch=1")
	expect(t, answer, http.StatusOK, "Sign in with Hospital")
	if strings.Contains(answer.Body.String(), "signed out") {
		t.Errorf("the session lives: %s", answer.Body)
	}
	b.mustSession()
}

// TestAttackCacheOfPredecessor: a shared workstation. Sent: somebody signs in
// after the session of somebody else ended without a sign-out (by time, or by
// this very sign-in). What would happen: the application's answers for the
// first person, "private, max-age=600" in the browser's cache, are shown to the
// second without a request. What must hold: the browser is told to drop its
// cache, unless the same person signs in once more.
func TestAttackCacheOfPredecessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	const clear = `"cache"`
	if got := b.signIn("hospital", "/").Header().Get("Clear-Site-Data"); got != clear {
		t.Errorf("nobody was signed in before: Clear-Site-Data %q", got)
	}
	if got := b.signIn("hospital", "/").Header().Get("Clear-Site-Data"); got != "" {
		t.Errorf("the same person: Clear-Site-Data %q", got)
	}
	w.sources[0].set(func() { w.sources[0].id.Subject = "sub-2" })
	if got := b.signIn("hospital", "/").Header().Get("Clear-Site-Data"); got != clear {
		t.Errorf("another person: Clear-Site-Data %q", got)
	}
}

// TestAttackEmbedded: a whole hospital stands behind one address and shares its
// limit. Sent: images, fetches and frames of a foreign page that point at the
// sign-in and at a callback, from one browser there. What would happen: they
// spend what the address may do, and nobody behind it can sign in. What must
// hold: they cost nothing and leave no record, since a browser would not keep
// their cookies anyway; windows, and the application's own frames, go on.
func TestAttackEmbedded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	fetch := func(site, mode, dest string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", site)
			r.Header.Set("Sec-Fetch-Mode", mode)
			r.Header.Set("Sec-Fetch-Dest", dest)
		}
	}
	paths := []string{"/.anteroom/login", "/.anteroom/login/hospital", callback("hospital", strings.Repeat("A", 43))}
	for name, edit := range map[string]func(*http.Request){
		"image":           fetch("cross-site", "no-cors", "image"),
		"sibling's image": fetch("same-site", "no-cors", "image"),
		"fetch":           fetch("cross-site", "cors", "empty"),
		"frame":           fetch("cross-site", "navigate", "iframe"),
		"object":          fetch("cross-site", "navigate", "object"),
	} {
		b := w.browser()
		for range limitBurst/len(paths) + 1 {
			for _, path := range paths {
				if answer := b.get(path, edit); answer.Code != http.StatusForbidden {
					t.Fatalf("%s of %s: %d", name, path, answer.Code)
				}
			}
		}
		if len(b.jar) != 0 {
			t.Errorf("%s: cookies %v", name, b.jar)
		}
	}
	if kinds := w.audit.kinds(); len(kinds) != 0 {
		t.Errorf("%d records, the first %q", len(kinds), kinds[0])
	}
	for name, edit := range map[string]func(*http.Request){
		"window":               fetch("cross-site", "navigate", "document"),
		"the app's own frame":  fetch("same-origin", "navigate", "iframe"),
		"a sibling's frame":    fetch("same-site", "navigate", "iframe"),
		"an old browser":       func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Del("Sec-Fetch-Mode") },
		"typed or a bookmark":  fetch("none", "navigate", "document"),
		"no word on the place": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	} {
		if answer := w.browser().get("/.anteroom/login", edit); answer.Code != http.StatusFound {
			t.Errorf("%s: %d", name, answer.Code)
		}
	}
}
