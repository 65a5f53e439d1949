package integration

import (
	"strings"
	"testing"
)

// S3: nobody signs somebody else out by a picture or a form; and the sign-out that a person asks for is one.
func TestSignOut(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	post := func(extra ...string) string {
		return request("POST", "/.anteroom/logout", own, "", append([]string{dana.line(), "Content-Length: 0"}, extra...)...)
	}
	refused := map[string]string{
		"GET":                   get("/.anteroom/logout", own, dana.line(), "Accept: text/html"),
		"no origin":             post(),
		"foreign origin":        post("Origin: https://evil.example", "Sec-Fetch-Site: cross-site"),
		"sibling":               post("Origin: "+r.url(wideHost, ""), "Sec-Fetch-Site: same-site"),
		"null":                  post("Origin: null"),
		"cross-site":            post("Sec-Fetch-Site: cross-site"),
		"same-site":             post("Sec-Fetch-Site: same-site"),
		"none":                  post("Sec-Fetch-Site: none"),
		"foreign, lying header": post("Origin: https://evil.example", "Sec-Fetch-Site: same-origin"),
	}
	for id, payload := range refused {
		t.Run("S3 "+id, func(t *testing.T) {
			want := []int{403}
			if id == "GET" {
				want = []int{200}
			}
			e, _ := r.attack(t, row{payload: payload, want: want})
			if strings.Contains(strings.ToLower(e.Raw), "max-age=0") {
				t.Errorf("cookies were cleared: %s", e.Raw)
			}
			if status := r.status(t, appHost, "/members/x", dana); status != 200 {
				t.Fatalf("the session ended (%d)", status)
			}
		})
	}
	t.Run("by the person", func(t *testing.T) {
		p := r.signOut(t, appHost, dana)
		cleared := strings.Join(p.Header.Values("Set-Cookie"), "\n")
		for _, cookie := range []string{cookieToken + "=", cookieContext + "="} {
			if !strings.Contains(cleared, cookie) {
				t.Errorf("%s is not cleared: %s", cookie, cleared)
			}
		}
		if status := r.status(t, appHost, "/members/x", dana); status != 401 {
			t.Errorf("both copied cookies are answered %d after sign-out", status)
		}
	})
	t.Run("the next sign-in asks for the password again", func(t *testing.T) {
		b := newBrowser(t)
		b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "dana", "dana-pw")
		b.follow(t, b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/logout"), "")))
		p := b.visit(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"))
		if !strings.Contains(strings.Join(b.trace, "\n"), "prompt=login") || !strings.Contains(p.Body, "password") {
			t.Errorf("after sign-out the person is let in without a word:\n%s", strings.Join(b.trace, "\n"))
		}
	})
}
