package portal

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestAttackPages: headers of our own pages, and no input on them (rows 98,
// 173, 174; S4, S14; section 6-A.9).
func TestAttackPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"), newSource("city", "City"))
	b := w.browser()
	b.signIn("hospital", "/")
	answers := map[string]*httptest.ResponseRecorder{
		"who":       b.get("/.anteroom/"),
		"login":     b.get("/.anteroom/login"),
		"logout":    b.get("/.anteroom/logout"),
		"session":   b.get("/.anteroom/session"),
		"not found": b.get("/.anteroom/x"),
		"problem":   b.get("/.anteroom/x", program),
		"callback":  b.get("/.anteroom/callback/hospital"),
		"method":    b.do("PUT", "/.anteroom/"),
	}
	answers["signed out"] = b.do("POST", "/.anteroom/logout")
	for kind := range refusals {
		answer := httptest.NewRecorder()
		w.portal.Refuse(answer, b.request("GET", "/patients/1"), Refusal{Kind: kind, Ref: "ABCDEFGHJK"})
		answers["refused "+kind] = answer
	}
	for name, answer := range answers {
		t.Run("98 173 S4 "+name, func(t *testing.T) {
			h := answer.Header()
			referrer := "same-origin"
			if name == "callback" { // code and state stand in its address
				referrer = "no-referrer"
			}
			for key, want := range map[string]string{
				"Content-Security-Policy":    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options":     "nosniff",
				"Referrer-Policy":            referrer,
				"Cross-Origin-Opener-Policy": "same-origin",
				"X-Frame-Options":            "DENY",
				"Cache-Control":              "no-store",
			} {
				if got := h.Get(key); got != want || len(h[key]) != 1 {
					t.Errorf("%s: %q, want %q", key, h[key], want)
				}
			}
			for key := range h {
				if strings.HasPrefix(key, "Access-Control-") {
					t.Errorf("S14: header %s", key)
				}
			}
		})
	}

	evil := []string{`<script>alert(1)</script>`, `{{env "PATH"}}`, `{http.request.host}`, `"><img src=x>`, "javascript:alert(1)", `%s%n`}
	for _, s := range evil {
		t.Run("174 6-A.9 "+s, func(t *testing.T) {
			q := url.QueryEscape(s)
			b := w.browser()
			w.sources[0].set(func() { w.sources[0].id.Name, w.sources[0].id.Username = s, "user-"+s })
			b.signIn("hospital", "/")
			spoil := func(r *http.Request) {
				for _, name := range []string{"Referer", "User-Agent", "X-Forwarded-Host", "Accept-Language", "X-Forwarded-User"} {
					r.Header.Set(name, s)
				}
			}
			var all []*httptest.ResponseRecorder
			for _, path := range []string{"?", "login?return_to=", "logout?x=", "x?", "callback/hospital?state=", "callback/hospital?error_description=", "login?switch="} {
				all = append(all, b.get("/.anteroom/"+path+q, spoil), b.get("/.anteroom/"+path+q, spoil, program))
			}
			refused := httptest.NewRecorder()
			r := b.request("GET", "/patients/"+url.PathEscape(s)+"?"+q, spoil)
			w.portal.Refuse(refused, r, Refusal{Kind: "forbidden", Ref: "ABCDEFGHJK", Session: b.mustSession()})
			all = append(all, refused)
			for _, a := range all {
				body := a.Body.String()
				if strings.Contains(body, "<script>") || strings.Contains(body, "<img src=x>") || strings.Contains(body, "PATH\"") {
					t.Errorf("input on the page: %s", body)
				}
				if strings.Contains(body, `href="javascript:`) || strings.Contains(body, `action="javascript:`) {
					t.Errorf("a script in a link: %s", body)
				}
			}
			if s == `{http.request.host}` {
				expect(t, all[0], http.StatusOK, "<h1>You are signed in as {http.request.host}</h1>") // literally: nobody fills it in
			}
			b.do("POST", "/.anteroom/logout")
		})
	}
	t.Run("6-A.9 no script anywhere", func(t *testing.T) {
		for name, a := range answers {
			if body := strings.ToLower(a.Body.String()); strings.Contains(body, "<script") || strings.Contains(body, " on") && strings.Contains(body, "onclick") || strings.Contains(body, "style=") || strings.Contains(body, "http-equiv") {
				t.Errorf("%s: %s", name, body)
			}
		}
	})
	t.Run("S12 a POST that was refused is not kept", func(t *testing.T) {
		answer := httptest.NewRecorder()
		r := httptest.NewRequest("POST", "/patients/1?x=1", strings.NewReader("diagnosis=secret"))
		r.Host = site
		w.portal.Refuse(answer, r, Refusal{Kind: "no-session"})
		expect(t, answer, http.StatusUnauthorized, `href="/.anteroom/login"`)
		if strings.Contains(answer.Body.String(), "patients") || strings.Contains(answer.Body.String(), "secret") {
			t.Error("the page holds the request")
		}
	})
}
