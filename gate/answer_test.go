package gate

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// I16, K12: what an app must not say does not reach the browser, in whatever way it says it.
func TestI16AppAnswers(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	evil := func(h http.Header) {
		h["Set-Cookie"] = []string{"__Host-anteroom=x; Path=/; Secure", "mine=1", "__HOST-ANTEROOM-ctx=y", " __Host-anteroom-new=1", "=__Host-anteroom=1", "other=__Host"}
		h["Remote-User"], h["X-Auth-User"], h["Remote_groups"], h["Anteroom-X"] = []string{"root"}, []string{"root"}, []string{"x"}, []string{"x"}
		h["Strict-Transport-Security"] = []string{"max-age=0"}
		h["X-Forwarded-User"], h["X-Own"] = []string{"root"}, []string{"stays"}
	}
	check := func(t *testing.T, h http.Header, who *person) {
		t.Helper()
		if got := slices.DeleteFunc(slices.Clone(h["Set-Cookie"]), func(l string) bool { return !session.IsOwnCookie(l) }); len(got) > 0 {
			t.Errorf("cookies %q", h["Set-Cookie"])
		}
		if !slices.Contains(h["Set-Cookie"], "mine=1") || h.Get("X-Own") != "stays" {
			t.Errorf("the app's own headers: %v", h)
		}
		for name := range h {
			if isIdentity(name) {
				t.Errorf("%s came back", name)
			}
		}
		if !slices.Equal(h["Strict-Transport-Security"], []string{hsts}) {
			t.Errorf("HSTS %q", h["Strict-Transport-Security"])
		}
		if (h.Get("Cache-Control") == "private") != (who != nil) {
			t.Errorf("Cache-Control %q", h["Cache-Control"])
		}
	}
	for name, say := range map[string]func(http.ResponseWriter){
		"WriteHeader":  func(w http.ResponseWriter) { w.WriteHeader(404) },
		"implicit 200": func(w http.ResponseWriter) { io.WriteString(w, "x") },
		"flush":        func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"controller":   func(w http.ResponseWriter) { http.NewResponseController(w).Flush() },
		"read from":    func(w http.ResponseWriter) { io.Copy(w, strings.NewReader("x")) },
		"nothing":      func(http.ResponseWriter) {},
	} {
		for _, who := range []*person{nil, dana} {
			t.Run(fmt.Sprintf("%s %t", name, who != nil), func(t *testing.T) {
				w := direct(r.gate, "GET", "/public/x", func(q *http.Request) {
					if who != nil {
						q.Header.Set("Cookie", who.cookie)
					}
				}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					evil(w.Header())
					say(w)
				}))
				if name == "nothing" {
					who = nil // not committed: an error answer may still follow
				}
				check(t, w.Result().Header, who)
			})
		}
	}
	t.Run("through a proxy, with hints and trailers", func(t *testing.T) {
		r.app = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "Remote-User, X-Late")
			evil(w.Header())
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "x")
			http.NewResponseController(w).Flush()
			w.Header().Set("Remote-User", "root")
			w.Header().Set("X-Late", "1")
			w.Header().Set(http.TrailerPrefix+"X-Auth-User", "root")
			w.Header().Set(http.TrailerPrefix+"Set-Cookie", "__Host-anteroom=x")
		})
		defer func() { r.app = nil }()
		conn := r.dial()
		defer conn.Close()
		io.WriteString(conn, request("GET", "/members/x", dana))
		in := bufio.NewReader(conn)
		for range 2 {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode == http.StatusEarlyHints {
				check(t, resp.Header, nil)
				continue
			}
			io.Copy(io.Discard, resp.Body)
			check(t, resp.Header, dana)
			for name, values := range resp.Trailer {
				if len(values) > 0 && (isIdentity(name) || name == "Set-Cookie") {
					t.Errorf("trailer %s: %q", name, values)
				}
			}
		}
	})
}

// NoHSTS leaves the header to the site; a local host has none, its app's neither.
func TestHSTSOfOthers(t *testing.T) {
	r := newRig(t, func(c *Config) { c.NoHSTS = true })
	app := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		w.WriteHeader(200)
	})
	if w := direct(r.gate, "GET", "/public/x", nil, app); w.Header().Get("Strict-Transport-Security") != "max-age=1" {
		t.Errorf("NoHSTS: %v", w.Header())
	}
	local := newRig(t)
	w := direct(local.gate, "GET", "/public/x", func(q *http.Request) { q.Host, q.TLS.ServerName = "app.localhost:8443", "app.localhost" }, app)
	if w.Code != 200 || w.Header()["Strict-Transport-Security"] != nil {
		t.Errorf("localhost: %d %v", w.Code, w.Header())
	}
}

// The renewed cookie comes with every answer but those that a shared cache may keep.
func TestRenewal(t *testing.T) { synctest.Test(t, testRenewal) }

func testRenewal(t *testing.T) {
	sessions, _ := newSessions(t, time.Now)
	r := &rig{t: t, sessions: sessions}
	r.gate = mustNew(t, Config{Policy: compile(t, rules...), Sessions: sessions, Audit: audit.Off()})
	for name, c := range map[string]struct {
		cache  []string
		age    time.Duration
		cookie bool
		want   string
	}{
		"young":           {nil, time.Second, false, "private"},
		"old":             {nil, 2 * time.Minute, true, "private"},
		"max-age":         {[]string{"max-age=60"}, 2 * time.Minute, true, "max-age=60|private"},
		"private":         {[]string{"Private, max-age=1"}, 2 * time.Minute, true, "Private, max-age=1"},
		"no-store":        {[]string{"no-store"}, 2 * time.Minute, true, "no-store"},
		"public":          {[]string{"public, max-age=60"}, 2 * time.Minute, false, "public, max-age=60"},
		"Public, 2 lines": {[]string{"max-age=60", " PUBLIC"}, 2 * time.Minute, false, "max-age=60| PUBLIC"},
		"immutable":       {[]string{"max-age=60,immutable"}, 2 * time.Minute, false, "max-age=60,immutable"},
		"no-cache=field":  {[]string{`no-cache="Set-Cookie"`}, 2 * time.Minute, true, `no-cache="Set-Cookie"|private`},
	} {
		func() {
			who := r.dana()
			time.Sleep(c.age) // in the test's own time
			w := direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", who.cookie) }, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if q.Header.Get("Cookie") != "" {
					t.Errorf("the app received %q", q.Header.Get("Cookie"))
				}
				if c.cache != nil {
					w.Header()["Cache-Control"] = c.cache
				}
				w.Header().Set("Set-Cookie", "mine=1")
				io.WriteString(w, "x")
			}))
			got := w.Result().Header
			own := slices.DeleteFunc(slices.Clone(got["Set-Cookie"]), func(l string) bool { return !session.IsOwnCookie(l) })
			if (len(own) == 1) != c.cookie || strings.Join(got["Cache-Control"], "|") != c.want || !slices.Contains(got["Set-Cookie"], "mine=1") {
				t.Fatalf("%s: Cache-Control %q, cookies %q", name, got["Cache-Control"], got["Set-Cookie"])
			}
			if !c.cookie {
				return
			}
			for _, attribute := range []string{"__Host-anteroom=", "; Path=/", "; Secure", "; HttpOnly", "; SameSite=Lax"} {
				if !strings.Contains(own[0], attribute) {
					t.Errorf("%s: no %q in %q", name, attribute, own[0])
				}
			}
			// The new token with the old context is the same session.
			token, _, _ := strings.Cut(own[0], ";")
			renewed := token + "; " + strings.Split(who.cookie, "; ")[1]
			s, err := r.sessions.Find([]string{renewed}, site)
			if err != nil || s.ID != who.session.ID || s.TokenID == who.session.TokenID {
				t.Errorf("%s: renewed: %v", name, err)
			}
		}()
	}
	if got := direct(r.gate, "GET", "/public/x", nil, nil).Result().Header; got["Cache-Control"] != nil || got["Set-Cookie"] != nil {
		t.Errorf("without a session: %v", got)
	}
}

// plainWriter has nothing but the three methods.
type plainWriter struct{ *httptest.ResponseRecorder }

func (plainWriter) Flush()                      {}
func (plainWriter) Unwrap() http.ResponseWriter { return nil }

// The writer's abilities go through to the connection.
func TestWriterAbilities(t *testing.T) {
	r := newRig(t)
	var controllerErrors []error
	app := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		c := http.NewResponseController(w)
		controllerErrors = append(controllerErrors, c.SetReadDeadline(time.Now().Add(time.Minute)), c.SetWriteDeadline(time.Now().Add(time.Minute)), c.EnableFullDuplex(), c.Flush())
		if n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("body")); n != 4 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.gate.Handle(w, q, app) }))
	server.StartTLS()
	defer server.Close()
	resp, err := server.Client().Get(server.URL + "/public/x")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "body" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	for i, err := range controllerErrors {
		if err != nil {
			t.Errorf("ability %d: %v", i, err)
		}
	}
	// A writer without ReadFrom and Hijack.
	w := httptest.NewRecorder()
	q := httptest.NewRequest("GET", "/public/x", nil)
	q.Host, q.TLS = site, &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}
	r.gate.Handle(plainWriter{w}, q, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, _, err := w.(http.Hijacker).Hijack(); err == nil {
			t.Error("hijacked a recorder")
		}
		w.(io.ReaderFrom).ReadFrom(strings.NewReader("body"))
	}))
	if w.Body.String() != "body" {
		t.Errorf("%q", w.Body)
	}
}

// TestFuzzSeeds fails when a fuzz target lost its committed seeds.
func TestFuzzSeeds(t *testing.T) {
	for _, target := range []string{"FuzzTarget", "FuzzHeaderName"} {
		entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", target))
		if err != nil || len(entries) == 0 {
			t.Errorf("%s has no seeds: %v", target, err)
		}
	}
}

// FuzzHeaderName: whatever a gateway interface would take for one of our headers is deleted, and no panic.
func FuzzHeaderName(f *testing.F) {
	f.Fuzz(func(t *testing.T, name string) {
		variable := strings.Map(func(r rune) rune { // as Apache's http2env makes a variable of it
			switch {
			case 'a' <= r && r <= 'z':
				return r - 32
			case 'A' <= r && r <= 'Z' || '0' <= r && r <= '9':
				return r
			}
			return '_'
		}, name)
		for _, ours := range []string{"REMOTE_USER", "REMOTE_GROUPS", "REMOTE_NAME", "REMOTE_EMAIL", "X_REMOTE_USER", "X_FORWARDED_USER", "X_AUTH_USER", "PROXY", "X_ORIGINAL_URL"} {
			if variable == ours && !isSpoofable(name) {
				t.Errorf("%q is %s to an app", name, ours)
			}
		}
		_ = isIdentity(name)
	})
}
