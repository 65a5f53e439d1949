package portal

import (
	"fmt"
	"net/http"
	"testing"
)

// TestAttackSignOut: no other page signs people out (row 50, S3, L7), and
// none signs them in (S2).
func TestAttackSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
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
	for name, edit := range map[string]func(*http.Request){
		"foreign origin":                 set("https://evil.example", ""),
		"foreign origin, forged site":    set("https://evil.example", "same-origin"),
		"null origin":                    set("null", "same-origin"),
		"sibling host":                   set("https://fincare.hospital.example", "same-site"),
		"other scheme":                   set("http://"+site, ""),
		"other port":                     set("https://"+site+":8443", ""),
		"longer host":                    set("https://"+site+".evil.example", ""),
		"empty origin":                   func(r *http.Request) { r.Header["Origin"] = []string{""} },
		"two origins":                    func(r *http.Request) { r.Header.Add("Origin", "https://"+site) },
		"no origin, cross-site":          set("", "cross-site"),
		"no origin, same-site":           set("", "same-site"),
		"no origin, typed by the person": set("", "none"),
		"nothing at all":                 set("", ""),
		"no origin, two fetch sites":     func(r *http.Request) { set("", "same-origin")(r); r.Header.Add("Sec-Fetch-Site", "same-origin") },
	} {
		for _, path := range []string{"logout", "switch"} {
			t.Run("50 S3 L7 "+path+" "+name, func(t *testing.T) {
				b := w.browser()
				b.signIn("hospital", "/")
				before := fmt.Sprint(b.jar)
				expect(t, b.do("POST", "/.anteroom/"+path, edit), http.StatusForbidden, pageCrossOrigin.title, w.audit.last(t).Ref)
				if fmt.Sprint(b.jar) != before {
					t.Error("cookies changed")
				}
				b.mustSession()
				if e := w.audit.last(t); e.Kind != "sign-out" || e.Decision != "denied" || e.Reason != reasonOrigin {
					t.Errorf("recorded %+v", e)
				}
			})
		}
	}
	t.Run("50 image, frame and prefetch", func(t *testing.T) {
		b := w.browser()
		b.signIn("hospital", "/")
		for _, method := range []string{"GET", "HEAD"} {
			b.do(method, "/.anteroom/logout", fromProvider, header("Sec-Fetch-Dest", "image"))
			b.do(method, "/.anteroom/switch", fromProvider)
		}
		b.mustSession()
	})
	for name, edit := range map[string]func(*http.Request){
		"own page":                set("https://"+site, "same-origin"),
		"no fetch metadata":       set("https://"+site, ""),
		"no origin, own page":     set("", "same-origin"),
		"default port in Host":    func(r *http.Request) { r.Host = site + ":443" },
		"a body that nobody asks": func(r *http.Request) { r.Header.Set("Content-Type", "text/plain"); r.ContentLength = 3 },
	} {
		t.Run("50 accepted "+name, func(t *testing.T) {
			b := w.browser()
			b.signIn("hospital", "/")
			expect(t, b.do("POST", "/.anteroom/logout", edit), http.StatusOK)
			b.mustNoSession()
		})
	}
	t.Run("6-A.9 S2 no endpoint takes a cross-site POST", func(t *testing.T) {
		b := w.browser()
		b.signIn("hospital", "/")
		for _, path := range []string{"", "login", "login/hospital", "callback/hospital", "logout", "switch", "session", "jwks.json", "x"} {
			answer := b.do("POST", "/.anteroom/"+path, set("https://evil.example", "cross-site"))
			if answer.Code < 400 || len(answer.Result().Cookies()) != 0 {
				t.Errorf("%s: %d, cookies %v", path, answer.Code, answer.Result().Cookies())
			}
		}
		b.mustSession()
	})
}
