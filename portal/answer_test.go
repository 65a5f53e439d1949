package portal

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
)

// posts is a world whose provider answers with a form.
func posts(t *testing.T) (*world, *browser) {
	t.Helper()
	h := newSource("hospital", "Hospital")
	h.posts = true
	w := newWorld(t, h, newSource("lab", "Lab"))
	return w, w.browser()
}

// arrives is the provider's form as a browser sends it: a cross-site POST, with
// none of our cookies, as all are Lax.
func (b *browser) arrives(source, body string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	b.w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/.anteroom/callback/"+source, strings.NewReader(body))
	r.Host, r.RemoteAddr = b.host, "192.0.2.7:4711"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Origin", "https://hospital.example")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	r.Header.Set("Sec-Fetch-Mode", "navigate")
	r.Header.Set("Sec-Fetch-Dest", "document")
	for _, f := range edit {
		f(r)
	}
	return b.send(r)
}

// answerCookies are the names of the answers in the jar.
func (b *browser) answerCookies() (names []string) {
	for name := range b.jar {
		if strings.HasPrefix(name, answerCookie) {
			names = append(names, name)
		}
	}
	return names
}

func TestFormPost(t *testing.T) {
	t.Parallel()
	t.Run("19 the code never stands in an address", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		state := b.begin("hospital", "/x?y=1")
		answer := b.arrives("hospital", "state="+state+"&code=c0de&iss=https%3A%2F%2Fhospital.example&session_state=zzz")
		expect(t, answer, http.StatusSeeOther) // 18: what follows has no body
		to := answer.Header().Get("Location")
		if to != "/.anteroom/callback/hospital?state="+state || answer.Header().Get("Referrer-Policy") != "no-referrer" || answer.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("sent to %q with %v", to, answer.Header())
		}
		names := b.answerCookies()
		if len(names) != 1 || strings.Contains(b.jar[names[0]], "c0de") {
			t.Fatalf("the browser holds %v", b.jar)
		}
		answer = b.get(to, fromProvider)
		expect(t, answer, http.StatusSeeOther)
		if got := answer.Header().Get("Location"); got != "/x?y=1" {
			t.Errorf("landed at %q", got)
		}
		b.mustSession()
		if len(b.answerCookies()) != 0 {
			t.Errorf("the browser still holds %v", b.answerCookies())
		}
		got := w.sources[0].finishes[0]
		if want := (url.Values{"state": {state}, "code": {"c0de"}, "iss": {"https://hospital.example"}}); got.Query.Encode() != want.Encode() || !got.Posted {
			t.Errorf("the source was given %+v", got)
		}
	})
	t.Run("the session of before is seen, and ended", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		b.signIn("lab", "/")
		old := b.mustSession().ID
		state := b.begin("hospital", "/")
		expect(t, b.get(b.arrives("hospital", "state="+state+"&code=c").Header().Get("Location"), fromProvider), http.StatusSeeOther)
		if b.mustSession().ID == old || !w.sessions.Revoked(old) {
			t.Error("it goes on")
		}
	})
	t.Run("C21 an error ends on its page, and uses the state up", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		w.sources[0].set(func() {
			w.sources[0].finishErr = &identity.Failure{Kind: identity.ErrDeclined, Reason: "login_required"}
		})
		state := b.begin("hospital", "/x")
		to := b.arrives("hospital", "state="+state+"&error=login_required&error_description=%3Cscript%3E").Header().Get("Location")
		kept := b.clone()
		answer := b.get(to, fromProvider)
		b.expectFailure(answer, pageDeclined, "login_required")
		if strings.Contains(answer.Body.String(), "script") || answer.Header().Get("Location") != "" {
			t.Errorf("%s", answer.Body)
		}
		kept.expectFailure(kept.get(to, fromProvider), pageAttempt, reasonUsed)
		if n := w.sources[0].finished(); n != 1 {
			t.Errorf("the source was asked %d times", n)
		}
	})
	t.Run("N29 the answer in the address where a form was asked for", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		b.expectFailure(b.get(callback("hospital", b.begin("hospital", "/")), fromProvider), pageAttempt, reasonMode)
		// Both at once is no better.
		state := b.begin("hospital", "/")
		b.arrives("hospital", "state="+state+"&code=c")
		b.expectFailure(b.get(callback("hospital", state), fromProvider), pageAttempt, reasonMode)
		b.expectFailure(b.get("/.anteroom/callback/hospital?error=x&state="+b.begin("hospital", "/"), fromProvider), pageAttempt, reasonMode)
		if n := w.sources[0].finished(); n != 0 {
			t.Errorf("the source was asked %d times", n)
		}
	})
	t.Run("N29 a form where the address was asked for", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		if code := b.arrives("lab", "state="+b.begin("lab", "/")+"&code=c").Code; code != http.StatusMethodNotAllowed {
			t.Errorf("a source that never asks for forms: %d", code)
		}
		w.sources[0].set(func() { w.sources[0].posts = false }) // as before a change of the configuration
		state := b.begin("hospital", "/")
		w.sources[0].set(func() { w.sources[0].posts = true })
		to := b.arrives("hospital", "state="+state+"&code=c").Header().Get("Location")
		b.expectFailure(b.get(to, fromProvider), pageAttempt, reasonMode)
		if n := w.sources[0].finished(); n != 0 {
			t.Errorf("the source was asked %d times", n)
		}
	})
	t.Run("N23 a form in a browser that did not begin", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		state := b.begin("hospital", "/")
		victim := w.browser()
		to := victim.arrives("hospital", "state="+state+"&code=attackers").Header().Get("Location")
		victim.expectFailure(victim.get(to, fromProvider), pageAttempt, reasonMissing)
	})
	t.Run("N28 more than one meaning", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		s := b.begin("hospital", "/")
		for _, body := range []string{
			"", "code=c", "state=&code=c", "state=%00&code=c", "state=" + s + "&state=" + s + "&code=c", "state=" + s + "&code=a&code=b", "state=" + s + "&code=c&error=e",
			"state=" + s + "&id_token=x", "state=" + s + "&code=c&access_token=x", "state=" + s + "&iss=a&iss=b", "state=" + s + "&%zz", "state=" + s + "&code=" + strings.Repeat("c", 20<<10),
			"state=" + s + "&code=" + strings.Repeat("c", 4000),
		} {
			answer := b.arrives("hospital", body)
			if answer.Code != http.StatusBadRequest || len(b.answerCookies()) != 0 || answer.Header().Get("Location") != "" {
				t.Errorf("%.60q: %d %v", body, answer.Code, answer.Header())
			}
		}
		good := "state=" + s + "&code=c"
		for name, edit := range map[string]func(*http.Request){
			"text/plain": header("Content-Type", "text/plain"), "multipart": header("Content-Type", "multipart/form-data; boundary=x"),
			"a query": func(r *http.Request) { r.URL.RawQuery = "code=c" },
		} {
			if answer := b.arrives("hospital", good, edit); answer.Code != http.StatusBadRequest || len(b.answerCookies()) != 0 {
				t.Errorf("%s: %d", name, answer.Code)
			}
		}
		for name, edit := range map[string]func(*http.Request){
			"a frame": header("Sec-Fetch-Dest", "iframe"), "a script": header("Sec-Fetch-Mode", "cors"),
		} {
			if answer := b.arrives("hospital", good, edit); answer.Code != http.StatusForbidden || len(b.answerCookies()) != 0 {
				t.Errorf("%s: %d", name, answer.Code)
			}
		}
		_ = w
	})
	t.Run("the cookie is for one attempt, one minute, one source and one host", func(t *testing.T) {
		t.Parallel()
		w, b := posts(t)
		w.sources[1].set(func() { w.sources[1].posts = true })
		swap := func(name string, f func(b *browser, own string, state string)) {
			t.Helper()
			b := w.browser()
			state := b.begin("hospital", "/")
			to := b.arrives("hospital", "state="+state+"&code=c").Header().Get("Location")
			f(b, b.answerCookies()[0], state)
			answer := b.get(to, fromProvider)
			if e := w.audit.last(t); answer.Code != http.StatusBadRequest || e.Reason != reasonAnswer {
				t.Errorf("%s: %d, %+v", name, answer.Code, e)
			}
			b.mustNoSession()
		}
		other := b.begin("hospital", "/")
		b.arrives("hospital", "state="+other+"&code=attackers")
		foreign := b.jar[b.answerCookies()[0]]
		swap("another attempt's", func(b *browser, own, _ string) { b.jar[own] = foreign })
		swap("none", func(b *browser, own, _ string) { delete(b.jar, own) })
		swap("empty", func(b *browser, own, _ string) { b.jar[own] = "" })
		swap("an attempt's seal", func(b *browser, own, _ string) {
			_, b.jar[own], _ = strings.Cut(b.jar[b.attempts()[0]], ".")
		})
		swap("flipped", func(b *browser, own, _ string) {
			text := []byte(b.jar[own])
			text[len(text)/2] ^= 1
			b.jar[own] = string(text)
		})
		swap("of another source", func(b *browser, own, state string) {
			x := w.browser()
			x.arrives("lab", "state="+state+"&code=c")
			b.jar[own] = x.jar[own]
		})
		swap("of another host", func(b *browser, own, state string) {
			x := w.browser()
			x.host = fincare
			x.arrives("hospital", "state="+state+"&code=c")
			b.jar[own] = x.jar[own]
		})
		swap("a minute later", func(*browser, string, string) { w.advance(answerTTL) })
	})
	t.Run("K16 a stranger's forms do not fill the browser", func(t *testing.T) {
		t.Parallel()
		_, b := posts(t)
		for range 40 {
			b.arrives("hospital", "state="+newState()+"&code=c")
		}
		state := b.begin("hospital", "/")
		to := b.arrives("hospital", "state="+state+"&code=c").Header().Get("Location")
		expect(t, b.get(to, fromProvider), http.StatusSeeOther)
		if n := len(b.answerCookies()); n > 41-attemptDrops {
			t.Errorf("%d left", n)
		}
	})
	t.Run("N42 two tabs", func(t *testing.T) {
		t.Parallel()
		_, b := posts(t)
		one, two := b.begin("hospital", "/1"), b.begin("hospital", "/2")
		first := b.arrives("hospital", "state="+one+"&code=c").Header().Get("Location")
		second := b.arrives("hospital", "state="+two+"&code=c").Header().Get("Location")
		expect(t, b.get(second, fromProvider), http.StatusSeeOther)
		expect(t, b.get(first, fromProvider), http.StatusSeeOther)
	})
	t.Run("N43 a flood", func(t *testing.T) {
		t.Parallel()
		_, b := posts(t)
		code := 0
		for range limitBurst + 1 {
			r := b.arrives("hospital", "state=a&code=c")
			b.jar = make(map[string]string)
			code = r.Code
		}
		if code != http.StatusTooManyRequests {
			t.Errorf("%d", code)
		}
	})
}
