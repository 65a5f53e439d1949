package portal

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

func TestSignInOneSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()

	answer := b.get("/.anteroom/login?return_to=%2Fpatients%2F12%3Ftab%3Dlab")
	expect(t, answer, http.StatusFound)
	start := w.sources[0].lastBegin(t)
	if got := answer.Header().Get("Location"); got != "https://hospital.example/authorize?state="+start.State {
		t.Errorf("sent to %q", got)
	}
	if start.CallbackURL != "https://"+site+"/.anteroom/callback/hospital" || start.Reauthenticate {
		t.Errorf("began with %+v", start)
	}

	answer = b.get(callback("hospital", start.State), fromProvider)
	expect(t, answer, http.StatusSeeOther)
	if got := answer.Header().Get("Location"); got != "/patients/12?tab=lab" {
		t.Errorf("landed at %q", got)
	}
	s := b.mustSession()
	if s.Source != "hospital" || s.Subject != "sub-1" || s.Username != "adoe" || s.Email != "ada@hospital.example" || len(s.Roles) != 1 {
		t.Errorf("session of %+v", s.Grant)
	}
	e := w.audit.last(t)
	if e.Kind != "sign-in" || e.Decision != "allowed" || e.Subject != "sub-1" || e.Name != "adoe" || e.Source != "hospital" ||
		e.Session != audit.SessionLabel(s.ID) || e.Site != site || e.Client != "192.0.2.7" || e.Method != "GET" || e.Ref == "" {
		t.Errorf("recorded %+v", e)
	}
	if left := b.attempts(); len(left) != 0 {
		t.Errorf("attempt cookies left: %v", left)
	}
	if cb := w.sources[0].finishes[0]; cb.CallbackURL != start.CallbackURL || cb.Query.Get("code") != "c0de" {
		t.Errorf("finished with %+v", cb)
	}
}

func TestSignInSeveralSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital <staff>"), newSource("city", "City"))
	b := w.browser()
	answer := b.get("/.anteroom/login?return_to=%2Fa%3Fb%3Dc")
	expect(t, answer, http.StatusOK, "<h1>Sign in</h1>", "Sign in with Hospital &lt;staff&gt;",
		`href="/.anteroom/login/hospital?return_to=%2Fa%3Fb%3Dc"`, `href="/.anteroom/login/city?return_to=%2Fa%3Fb%3Dc"`)
	if len(b.jar) != 0 {
		t.Errorf("the choice already set cookies: %v", b.jar)
	}
	b.signIn("city", "/a?b=c")
	if s := b.mustSession(); s.Source != "city" {
		t.Errorf("session from %s", s.Source)
	}
}

func TestNoSourceAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	expect(t, w.browser().get("/.anteroom/login"), http.StatusServiceUnavailable, pageNoSources.title)
}

func TestBeginFails(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		spoil  func(*world)
		page   *errorPage
		reason string
	}{
		{"unavailable", func(w *world) {
			w.sources[0].beginErr = &identity.Failure{Kind: identity.ErrUnavailable, Reason: "discovery", Err: errors.New("secret detail")}
		}, pageNoAnswer, "discovery"},
		{"unknown error", func(w *world) { w.sources[0].beginErr = errors.New("secret detail") }, pageUnavailable, reasonUnknown},
		{"no address", func(w *world) { w.sources[0].redirect = "/local" }, pageNoAnswer, reasonStep},
		{"script address", func(w *world) { w.sources[0].redirect = "javascript:alert(1)" }, pageNoAnswer, reasonStep},
		{"address with line end", func(w *world) { w.sources[0].redirect = "https://x.example/\r\nSet-Cookie: a=b" }, pageNoAnswer, reasonStep},
		{"sealer down", func(w *world) { w.sealer.err = errSealer }, pageUnavailable, reasonSeal},
		{"too much to keep", func(w *world) { w.sources[0].keep = make([]byte, 4000) }, pageUnavailable, reasonSeal},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newSource("hospital", "Hospital"), newSource("city", "City"))
			tt.spoil(w)
			b := w.browser()
			answer := b.get("/.anteroom/login/hospital?return_to=%2Fx")
			b.expectFailure(answer, tt.page, tt.reason)
			if strings.Contains(answer.Body.String(), "secret") {
				t.Error("the page shows the error")
			}
			if len(b.jar) != 0 {
				t.Errorf("cookies were set: %v", b.jar)
			}
			if tt.page == pageNoAnswer {
				expect(t, answer, 503, "Try again", `href="/.anteroom/login/hospital?return_to=%2Fx"`, "Sign in with City", `href="/.anteroom/login/city?return_to=%2Fx"`)
			}
		})
	}
}

func TestFinishFails(t *testing.T) {
	t.Parallel()
	failure := func(kind error, reason string) func(*source) {
		return func(s *source) {
			s.finishErr = &identity.Failure{Kind: kind, Reason: reason, Err: errors.New("secret detail")}
		}
	}
	tests := []struct {
		name   string
		spoil  func(*source)
		page   *errorPage
		reason string
	}{
		{"unavailable", failure(identity.ErrUnavailable, "token.network"), pageNoAnswer, "token.network"},
		{"refused", failure(identity.ErrRefused, "idtoken.iss"), pageRefused, "idtoken.iss"},
		{"declined", failure(identity.ErrDeclined, "access_denied"), pageDeclined, "access_denied"},
		{"unknown error", func(s *source) { s.finishErr = io.ErrUnexpectedEOF }, pageUnavailable, reasonUnknown},
		{"no subject", func(s *source) { s.id.Subject = "" }, pageRefused, "identity.subject"},
		{"control character in a name", func(s *source) { s.id.Name = "Ada\r\nRemote-User: root" }, pageRefused, "identity.name"},
		{"role outside the grammar", func(s *source) { s.id.Roles = []string{"doctor,admin"} }, pageRefused, "identity.roles"},
		{"zero identity", func(s *source) { s.id = identity.Identity{} }, pageRefused, "identity.source"},
		{"another source's identity", func(s *source) { s.id.Source = "city" }, pageRefused, reasonSourceName},
		{"too large for a cookie", func(s *source) {
			for i := range 200 {
				s.id.Roles = append(s.id.Roles, strings.Repeat("r", 40)+string(rune('a'+i%26)))
			}
		}, pageTooLarge, reasonTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newSource("hospital", "Hospital"))
			b := w.browser()
			state := b.begin("hospital", "/x")
			w.sources[0].set(func() { tt.spoil(w.sources[0]) })
			answer := b.get(callback("hospital", state), fromProvider)
			b.expectFailure(answer, tt.page, tt.reason)
			if strings.Contains(answer.Body.String(), "secret") {
				t.Error("the page shows the error")
			}
			// Used up, also though it failed (row 5).
			again := b.clone()
			b.expectFailure(b.get(callback("hospital", state)), pageAttempt, reasonMissing)
			again.jar = map[string]string{}
			if n := w.sources[0].finished(); n != 1 {
				t.Errorf("the source was asked %d times", n)
			}
		})
	}
}

// TestClassify names every error that can end a sign-in, and its page.
func TestClassify(t *testing.T) {
	t.Parallel()
	fail := func(kind error) error { return &identity.Failure{Kind: kind, Reason: "code"} }
	for _, tt := range []struct {
		err    error
		page   *errorPage
		reason string
	}{
		{session.ErrTooLarge, pageTooLarge, reasonTooLarge},
		{session.ErrStale, pageUnavailable, reasonStale},
		{session.ErrGrant, pageRefused, reasonGrant},
		{session.ErrClosed, pageUnavailable, reasonUnknown},
		{session.ErrNone, pageRefused, reasonEnded},
		{store.ErrConflict, pageAttempt, reasonUsed},
		{store.ErrUnavailable, pageUnavailable, reasonStore},
		{store.ErrNotFound, pageUnavailable, reasonUnknown},
		{fail(identity.ErrDeclined), pageDeclined, "code"},
		{fail(identity.ErrRefused), pageRefused, "code"},
		{fail(identity.ErrUnavailable), pageNoAnswer, "code"},
		{errors.New("anything else"), pageUnavailable, reasonUnknown},
		{nil, pageUnavailable, reasonUnknown},
	} {
		page, reason := classify(tt.err)
		if page != tt.page || reason != tt.reason {
			t.Errorf("classify(%v) = %q %q, want %q %q", tt.err, page.title, reason, tt.page.title, tt.reason)
		}
	}
}

func TestAttemptExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	for _, tt := range []struct {
		name string
		wait time.Duration
		ok   bool
	}{{"just in time", attemptTTL - time.Second, true}, {"ten minutes", attemptTTL, false}, {"clock set back", -2 * attemptSkew, false}} {
		b := w.browser()
		state := b.begin("hospital", "/x")
		w.advance(tt.wait)
		answer := b.get(callback("hospital", state), fromProvider)
		w.advance(-tt.wait)
		if tt.ok {
			expect(t, answer, http.StatusSeeOther)
			continue
		}
		b.expectFailure(answer, pageAttempt, reasonExpired)
		expect(t, answer, 400, `href="/.anteroom/login?return_to=%2Fx"`)
	}
	if n := w.sources[0].finished(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
}

// TestAuditDown: no record, no session, and no cookie that would be one.
func TestAuditDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	state := b.begin("hospital", "/x")
	w.audit.set(func(audit.Event) bool { return true })
	answer := b.get(callback("hospital", state), fromProvider)
	expect(t, answer, http.StatusServiceUnavailable, pageUnavailable.title)
	b.mustNoSession()
	for name := range b.jar {
		if !strings.HasPrefix(name, attemptCookie) {
			t.Errorf("cookie %s was set", name)
		}
	}
	w.audit.set(nil)
	b.signIn("hospital", "/x")
}

// TestStoreFaults: a use that was not recorded for certain never reaches the
// source, whether it was lost or only reported as lost.
func TestStoreFaults(t *testing.T) {
	t.Parallel()
	for name, apply := range map[string]bool{"lost": false, "done but reported lost": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newSource("hospital", "Hospital"))
			b := w.browser()
			state := b.begin("hospital", "/x")
			w.store.set(func(string) (bool, error) { return apply, store.ErrUnavailable })
			b.expectFailure(b.get(callback("hospital", state), fromProvider), pageUnavailable, reasonStore)
			if n := w.sources[0].finished(); n != 0 {
				t.Errorf("the source was asked %d times", n)
			}
			w.store.set(nil)
			b.signIn("hospital", "/x")
		})
	}
}

// TestOldSessionMustEnd: when the session that the browser had cannot be
// revoked, there is no new one either.
func TestOldSessionMustEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/x")
	old := b.mustSession()
	w.advance(time.Second) // an attempt that is younger than the session
	state := b.begin("hospital", "/x")
	w.store.set(func(op string) (bool, error) {
		if op == "append" {
			return false, store.ErrUnavailable
		}
		return true, nil
	})
	expect(t, b.get(callback("hospital", state), fromProvider), http.StatusServiceUnavailable)
	if s := b.mustSession(); s.ID != old.ID {
		t.Error("there is a new session besides the old one")
	}
	w.store.set(nil)
	copied := b.clone()
	b.signIn("hospital", "/x")
	if s := b.mustSession(); s.ID == old.ID {
		t.Error("the session id stayed")
	}
	copied.mustNoSession()
	want := []string{"sign-in allowed ", "sign-in failed " + reasonStore, "sign-out allowed " + reasonReplaced, "sign-in allowed "}
	if got := w.audit.kinds(); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

func TestWhoAmI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "General Hospital"))
	b := w.browser()
	answer := b.get("/.anteroom/")
	expect(t, answer, http.StatusFound)
	if got := answer.Header().Get("Location"); got != "/.anteroom/login?return_to=%2F.anteroom%2F" {
		t.Errorf("sent to %q", got)
	}
	answer = b.get("/.anteroom/", program)
	expect(t, answer, http.StatusUnauthorized, "urn:anteroom:problem:no-session")

	if got := b.signIn("hospital", "/.anteroom/").Header().Get("Location"); got != "/.anteroom/" {
		t.Errorf("landed at %q", got)
	}
	w.advance(5 * time.Minute)
	expect(t, b.get("/.anteroom/"), http.StatusOK, "<h1>You are signed in as Dr. Ada Doe</h1>", "adoe", "doctor", "General Hospital", "5 minutes ago",
		"in 11 hours 55 minutes, or after 15 minutes without use", `action="/.anteroom/logout"`, `action="/.anteroom/switch"`)
	head := b.do(http.MethodHead, "/.anteroom/")
	if expect(t, head, http.StatusOK); head.Body.Len() != 0 || head.Header().Get("Content-Length") == "" {
		t.Error("HEAD answered with a body or without a length")
	}
}

func TestSessionEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	for _, edit := range []func(*http.Request){program, func(*http.Request) {}} {
		answer := b.get("/.anteroom/session", edit)
		expect(t, answer, http.StatusUnauthorized, `"type":"urn:anteroom:problem:no-session"`)
		if got := answer.Header().Get("WWW-Authenticate"); got != `Anteroom uri="/.anteroom/login"` {
			t.Errorf("challenge %q", got)
		}
		if got := answer.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("content type %q", got)
		}
	}
	w.sources[0].id.AuthTime = w.start.Add(-time.Minute)
	w.sources[0].id.Roles = nil
	b.signIn("hospital", "/")
	w.advance(time.Minute)
	answer := b.get("/.anteroom/session", program)
	expect(t, answer, http.StatusOK)
	if len(answer.Result().Cookies()) != 0 {
		t.Error("asking about the session renewed it")
	}
	var got map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"sub": "sub-1", "preferred_username": "adoe", "name": "Dr. Ada Doe", "idp": "hospital",
		"auth_time": float64(w.start.Add(-time.Minute).Unix()), "idle_seconds": 840.0, "absolute_seconds": 43140.0,
	}
	if roles, ok := got["roles"].([]any); !ok || len(roles) != 0 {
		t.Errorf("roles are %v, want an empty list", got["roles"])
	}
	delete(got, "roles")
	if groups, ok := got["groups"].([]any); !ok || len(groups) != 0 {
		t.Errorf("groups are %v, want an empty list", got["groups"])
	}
	delete(got, "groups")
	if len(got) != len(want) {
		t.Errorf("members %v", got)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %v, want %v", k, got[k], v)
		}
	}
}

func TestJWKS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	answer := w.browser().get("/.anteroom/jwks.json", program)
	expect(t, answer, http.StatusOK, `"keys"`)
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(answer.Body.Bytes(), &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("key set %s: %v", answer.Body, err)
	}
	for _, k := range set.Keys {
		if k["d"] != nil {
			t.Error("the private key is published")
		}
	}
}

func TestStaticFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	for _, a := range []*asset{styleCSS, logoSVG} {
		answer := b.get("/.anteroom/static/"+a.name, program)
		expect(t, answer, http.StatusOK)
		h := answer.Header()
		if h.Get("Content-Type") != a.kind || h.Get("Cache-Control") != "public, max-age=31536000, immutable" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", a.name, h)
		}
	}
	for _, path := range []string{"static/", "static/style.css", "static/../portal.go", "static/layout.html", "static/" + styleCSS.name + "/x"} {
		expect(t, b.get("/.anteroom/"+path), http.StatusNotFound)
	}
}

func TestOtherPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	for _, path := range []string{
		"/.anteroom/x", "/.anteroom/login/", "/.anteroom/login/nobody", "/.anteroom/login/hospital/x", "/.anteroom/callback", "/.anteroom/callback/",
		"/.anteroom/callback/nobody?state=a", "/.anteroom/callback/Hospital", "/.anteroom/LOGIN", "/.anteroom/lo%67in", "/.anteroom/session/",
		"/.anteroom/login%2fhospital", "/.anteroom/%2e", "/.anteroom/logout/x", "/other", "/.anteroom/jwks.json.bak",
	} {
		expect(t, b.get(path), http.StatusNotFound, pageNotFound.title)
		expect(t, b.get(path, program), http.StatusNotFound, "urn:anteroom:problem:not-found")
	}
	for path, allow := range map[string]string{
		"/.anteroom/": "GET, HEAD", "/.anteroom/login": "GET", "/.anteroom/login/hospital": "GET", "/.anteroom/callback/hospital": "GET",
		"/.anteroom/session": "GET, HEAD", "/.anteroom/jwks.json": "GET, HEAD", "/.anteroom/logout": "GET, HEAD, POST",
		"/.anteroom/static/" + logoSVG.name: "GET, HEAD",
	} {
		for _, method := range []string{"PUT", "DELETE", "OPTIONS", "get", "TRACE", "POST"} {
			if strings.Contains(allow, method) {
				continue
			}
			answer := b.do(method, path)
			expect(t, answer, http.StatusMethodNotAllowed, pageMethod.title)
			if got := answer.Header().Get("Allow"); got != allow {
				t.Errorf("%s %s allows %q, want %q", method, path, got, allow)
			}
		}
	}
	expect(t, b.get("/.anteroom/switch"), http.StatusMethodNotAllowed)
	if len(w.audit.kinds()) != 0 || len(b.jar) != 0 {
		t.Errorf("something happened: %v %v", w.audit.kinds(), b.jar)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := Config{Sessions: w.sessions, Store: w.store, Sealer: w.sealer, Audit: w.audit, Logger: slog.Default()}
	if _, err := New(good); err != nil {
		t.Fatalf("the least config: %v", err)
	}
	for name, spoil := range map[string]func(*Config){
		"zero":               func(c *Config) { *c = Config{} },
		"no sessions":        func(c *Config) { c.Sessions = nil },
		"no store":           func(c *Config) { c.Store = nil },
		"no sealer":          func(c *Config) { c.Sealer = nil },
		"no audit":           func(c *Config) { c.Audit = nil },
		"prefix of all":      func(c *Config) { c.Prefix = "/" },
		"prefix open":        func(c *Config) { c.Prefix = "/auth" },
		"prefix dots":        func(c *Config) { c.Prefix = "/../" },
		"prefix empty part":  func(c *Config) { c.Prefix = "/a//" },
		"prefix query":       func(c *Config) { c.Prefix = "/a?/" },
		"prefix escape":      func(c *Config) { c.Prefix = "/%61/" },
		"source name slash":  func(c *Config) { c.Sources = []identity.Source{newSource("a/b", "")} },
		"source name dots":   func(c *Config) { c.Sources = []identity.Source{newSource("..", "")} },
		"source name dotted": func(c *Config) { c.Sources = []identity.Source{newSource("a.", "")} },
		"source name empty":  func(c *Config) { c.Sources = []identity.Source{newSource("", "")} },
		"same source twice":  func(c *Config) { c.Sources = []identity.Source{newSource("a", ""), newSource("a", "")} },
	} {
		c := good
		spoil(&c)
		if p, err := New(c); err == nil || p != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHostMustBeOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	for _, host := range []string{"", "a b", "evil.example/x", "a@b", "a\"b", "é.example", strings.Repeat("a", 256)} {
		r := w.browser().request("GET", "/.anteroom/login")
		r.Host = host
		answer := httptest.NewRecorder()
		w.portal.ServeHTTP(answer, r)
		expect(t, answer, http.StatusMisdirectedRequest, pageMisdirected.title)
	}
	if len(w.sources[0].begins) != 0 {
		t.Error("a sign-in began for a host that cannot be one")
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, l := range []string{labelAttempt, labelAttemptID, labelConsumed} {
		if seen[l] || !strings.HasPrefix(l, "anteroom/portal/") || !strings.HasSuffix(l, "/v1") {
			t.Errorf("label %q is used twice or out of form", l)
		}
		seen[l] = true
	}
}
