package portal

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// ownForms are all forms of ours that carry fields or end more than the own
// session, each with a body that works.
func ownForms(t testing.TB) (w *world, forms map[string]func() (b, witness *browser, body string)) {
	w = newWorld(t, newSource("hospital", "Hospital"))
	limited := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
	return w, map[string]func() (*browser, *browser, string){
		"sessions/end": func() (*browser, *browser, string) {
			b, other := w.device(firefox), w.device(iphone)
			return b, other, "id=" + other.label()
		},
		"sessions/end-all": func() (*browser, *browser, string) {
			b, other := w.device(firefox), w.device(iphone)
			return b, other, ""
		},
		"move": func() (*browser, *browser, string) {
			limited.sources[0].set(func() { limited.sources[0].id.Subject = newState() })
			first, second := limited.device(firefox), limited.browser()
			_, ticket := second.waits(chrome, "/")
			return second, first, "id=" + ticket
		},
	}
}

// TestAttackForms: no other page sends our forms (rows 50, S2, S3, S14), in no
// other shape (S6).
func TestAttackForms(t *testing.T) {
	t.Parallel()
	_, forms := ownForms(t)
	for path, prepare := range forms {
		path := "/.anteroom/" + path
		for name, edit := range foreignForms() {
			t.Run("S2 S3 S14 "+path+" "+name, func(t *testing.T) {
				b, witness, body := prepare()
				before := fmt.Sprint(b.jar)
				answer := b.form(path, body, edit)
				expect(t, answer, http.StatusForbidden, pageCrossOrigin.title)
				if fmt.Sprint(b.jar) != before {
					t.Errorf("cookies changed: %v", b.jar)
				}
				for key := range answer.Header() {
					if strings.HasPrefix(key, "Access-Control-") {
						t.Errorf("S14: header %s", key)
					}
				}
				witness.mustSession()
			})
		}
		t.Run("S3 by a link, an image, a prefetch: "+path, func(t *testing.T) {
			b, witness, body := prepare()
			for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
				b.do(method, path+"?"+body, fromProvider, header("Sec-Fetch-Dest", "image"))
			}
			witness.mustSession()
		})
		for _, kind := range []string{
			"", "text/plain", "application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded-2",
			"text/plain; application/x-www-form-urlencoded", "application/x-www-form-urlencoded, text/plain", "application/x-www-form-urlencoded; charset",
		} {
			t.Run("S6 "+path+" "+kind, func(t *testing.T) {
				b, witness, body := prepare()
				expect(t, b.form(path, body, func(r *http.Request) {
					r.Header.Del("Content-Type")
					if kind != "" {
						r.Header.Set("Content-Type", kind)
					}
				}), http.StatusUnsupportedMediaType)
				witness.mustSession()
			})
		}
		t.Run("S6 "+path+" two kinds, an encoding", func(t *testing.T) {
			b, witness, body := prepare()
			expect(t, b.form(path, body, func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }), http.StatusUnsupportedMediaType)
			expect(t, b.form(path, body, header("Content-Encoding", "gzip")), http.StatusUnsupportedMediaType)
			witness.mustSession()
		})
		t.Run("bodies "+path, func(t *testing.T) {
			b, witness, body := prepare()
			for _, odd := range []string{body + "&id=x", body + "&more=1", "ID=x", "id=%zz", "id=1;id=2", "more=1"} {
				if odd != "" {
					expect(t, b.form(path, odd), http.StatusBadRequest, "The form was not filled in", "Nothing was changed")
				}
			}
			expect(t, b.form(path, "id="+strings.Repeat("x", maxForm)), http.StatusRequestEntityTooLarge)
			expect(t, b.form(path, "id="+strings.Repeat("x", maxForm), func(r *http.Request) { r.ContentLength = -1 }), http.StatusRequestEntityTooLarge)
			// A query is no form.
			answer := b.form(path+"?"+body, "")
			if body != "" && answer.Code != http.StatusBadRequest {
				t.Errorf("the query is read: %d", answer.Code)
			}
			if body != "" {
				witness.mustSession()
			}
		})
		t.Run("accepted "+path, func(t *testing.T) {
			b, witness, body := prepare()
			answer := b.form(path, body, header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"))
			if answer.Code >= 400 {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			witness.mustNoSession()
		})
	}
}

// TestAttackExpiredForm: a form that comes after the end of the session is not
// kept (S12).
func TestAttackExpiredForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	there := w.device(iphone)
	for _, path := range []string{"sessions/end", "sessions/end-all"} {
		b := w.browser()
		b.expired()
		body := ""
		if path == "sessions/end" {
			body = "id=" + there.label()
		}
		answer := b.form("/.anteroom/"+path, body)
		// A link and no redirect: form-action would stop one that ends at a provider.
		expect(t, answer, http.StatusUnauthorized, `href="/.anteroom/login?return_to=%2F.anteroom%2Fsessions"`)
		if at := answer.Header().Get("Location"); at != "" {
			t.Errorf("sent to %q", at)
		}
		b.signIn("hospital", "/.anteroom/sessions")
		there.mustSession()
		expect(t, w.browser().form("/.anteroom/"+path, body, program), http.StatusUnauthorized)
	}
}

// TestAttackNewPages: the headers of these pages (rows 98, S4), and no input on
// them.
func TestAttackNewPages(t *testing.T) {
	t.Parallel()
	evil := `<script>alert(1)</script>`
	w := newWorld(t, newSource("hospital", "Hospital"))
	w.sources[0].set(func() { w.sources[0].id.Name, w.sources[0].id.Username = evil, "user"+evil })
	b := w.browser()
	expect(t, b.arrive(evil+"Firefox/1", "/"), http.StatusSeeOther)
	limited := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Refuse)
	limited.device(firefox)
	mover, first, second, ticket := waiting(t)
	answers := map[string]*httptest.ResponseRecorder{
		"sessions":     b.get("/.anteroom/sessions?"+evil, header("User-Agent", evil)),
		"ended":        b.form("/.anteroom/sessions/end", "id="+evil),
		"ended all":    b.form("/.anteroom/sessions/end-all", ""),
		"refused":      limited.browser().arrive(evil, "/"),
		"move":         second.get("/.anteroom/move?" + evil),
		"ticket":       second.form("/.anteroom/move", "id="+evil),
		"no form":      second.form("/.anteroom/move", evil),
		"nothing":      mover.browser().get("/.anteroom/move"),
		"stay":         second.get("/.anteroom/move?stay=" + evil),
		"content type": second.form("/.anteroom/move", "id="+ticket, header("Content-Type", "text/plain")),
	}
	third := mover.browser()
	_, ticket = third.waits(iphone, "/")
	third.form("/.anteroom/move", "id="+ticket)
	answers["moved away"] = first.get("/.anteroom/login?return_to=/" + evil)
	for name, answer := range answers {
		t.Run("98 S4 "+name, func(t *testing.T) {
			h := answer.Header()
			for key, want := range map[string]string{
				"Content-Security-Policy": pageCSP, "X-Frame-Options": "DENY", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			} {
				if h.Get(key) != want {
					t.Errorf("%s: %q", key, h[key])
				}
			}
			body := answer.Body.String()
			if strings.Contains(body, "<script") || strings.Contains(body, "alert(1)") && !strings.Contains(body, "&lt;script") || !strings.Contains(body, "<h1>") {
				t.Errorf("%s", body)
			}
		})
	}
	if !strings.Contains(answers["moved away"].Body.String(), "moved to another workstation") {
		t.Error("the last page is another one")
	}
}
