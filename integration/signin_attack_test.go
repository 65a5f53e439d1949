package integration

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// S1: values that somebody planted before the sign-in are worth nothing after it.
func TestSessionFixation(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	attacker := r.person(t, appHost, "ext")
	b := newBrowser(t)
	plant := func(url string) {
		for name, value := range map[string]string{cookieToken: attacker.token, cookieContext: attacker.context} {
			req := navigation(t, "GET", url, "")
			b.client.Jar.SetCookies(req.URL, []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
		}
	}
	plant(r.url(appHost, "/"))
	p := b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x%3Fsid%3Dplanted&sid=planted"), "dana", "dana-pw")
	_, cookies := b.cookies(t, r.url(appHost, "/"))
	if p.Status != 200 || cookies[cookieToken] == attacker.token || cookies[cookieContext] == attacker.context {
		t.Errorf("status %d; planted values live on: %v", p.Status, cookies)
	}
	got := r.dump.take()
	if len(got) != 1 || !strings.Contains(got[0].Head, "Remote-User: dana") {
		t.Errorf("the application saw %v", got)
	}
}

// S2, N23, N26: a callback that this browser did not begin.
func TestForgedCallback(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	for _, query := range []string{"", "?code=x", "?state=y", "?code=x&state=y", "?code=x&code=y&state=z", "?error=access_denied&state=z",
		"?code=x&state=" + strings.Repeat("a", 5000), "?code=%00&state=%ff", "?id_token=x&state=y", "?access_token=x"} {
		t.Run("S2 "+clip(query), func(t *testing.T) {
			e, _ := r.attack(t, row{payload: r.ask("/.anteroom/callback/hospital"+query, nil, "Accept: text/html", "Sec-Fetch-Mode: navigate")})
			if strings.Contains(e.Raw, cookieToken+"=") && !strings.Contains(e.Raw, cookieToken+"=;") {
				t.Errorf("a session came of it: %s", e.Raw)
			}
			if e.status() >= 500 || e.status() < 400 {
				t.Errorf("answered %d", e.status())
			}
		})
	}
	t.Run("N21 a callback address opened twice", func(t *testing.T) {
		b := newBrowser(t)
		b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "dana", "dana-pw")
		var callback string
		for _, step := range b.trace {
			if strings.Contains(step, "/.anteroom/callback/") {
				callback = strings.Fields(step)[1]
			}
		}
		if callback == "" {
			t.Fatalf("no callback on the way: %s", strings.Join(b.trace, "\n"))
		}
		before := r.op.counts(t)["/token"]
		if p := b.do(t, navigation(t, "GET", callback, "")); p.Status < 400 && p.Header.Get("Set-Cookie") != "" {
			t.Errorf("opened again: %d, %v", p.Status, p.Header)
		}
		if p := newBrowser(t).do(t, navigation(t, "GET", callback, "")); p.Status < 400 || p.Status > 499 {
			t.Errorf("opened in another browser: %d", p.Status)
		}
		if after := r.op.counts(t)["/token"]; after != before {
			t.Errorf("the code was sent to the provider %d times more", after-before)
		}
		if p := b.do(t, call(t, "GET", r.url(appHost, "/members/x"), "")); p.Status != 200 {
			t.Errorf("the session that the first call made is gone: %d", p.Status)
		}
	})
	t.Run("N42 two tabs, N29 by POST", func(t *testing.T) {
		b := newBrowser(t)
		one := b.visit(t, r.url(appHost, "/.anteroom/login?return_to=/members/one"))
		two := b.visit(t, r.url(appHost, "/.anteroom/login?return_to=/members/two"))
		if p := b.submit(t, one, map[string]string{"username": "dana", "password": "dana-pw"}); !strings.Contains(p.Body, "/members/one") {
			t.Errorf("the first tab ended at %s (%d)", p.URL, p.Status)
		}
		if p := b.submit(t, two, map[string]string{"username": "dana", "password": "dana-pw"}); !strings.Contains(p.Body, "/members/two") {
			t.Errorf("the second tab ended at %s (%d)\n%s", p.URL, p.Status, strings.Join(b.trace, "\n"))
		}
		if p := b.do(t, navigation(t, "POST", r.url(appHost, "/.anteroom/callback/hospital"), "code=x&state=y")); p.Status < 400 || p.Status > 499 {
			t.Errorf("a callback by POST: %d", p.Status)
		}
	})
}

// S9: many tabs renew at once; nobody is signed out, and no session outlives its end.
func TestRenewalInParallel(t *testing.T) {
	t.Parallel() // seven seconds of waiting
	r := newRig(t, strings.Replace(standard, "anteroom {", "anteroom {\n\t\tsession {\n\t\t\tidle 1m\n\t\t\tabsolute 10m\n\t\t}", 1))
	r.op.ready(t)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "dana", "dana-pw")
	_, before := b.cookies(t, r.url(appHost, "/"))
	time.Sleep(6500 * time.Millisecond) // a tenth of the idle time, when a token is renewed
	var tabs sync.WaitGroup
	statuses := make([]int, 20)
	for i := range statuses {
		tabs.Go(func() {
			res, err := b.client.Do(call(t, "GET", r.url(appHost, "/members/x"), ""))
			if err == nil {
				res.Body.Close()
				statuses[i] = res.StatusCode
			}
		})
	}
	tabs.Wait()
	for _, status := range statuses {
		if status != 200 {
			t.Fatalf("statuses of 20 tabs: %v", statuses)
		}
	}
	_, after := b.cookies(t, r.url(appHost, "/"))
	if after[cookieToken] == before[cookieToken] {
		t.Error("the token was not renewed")
	}
	if after[cookieContext] != before[cookieContext] {
		t.Error("the context cookie changed at renewal")
	}
	for _, token := range []string{before[cookieToken], after[cookieToken]} {
		if status := r.status(t, appHost, "/members/x", &session{"dana", token, before[cookieContext]}); status != 200 {
			t.Errorf("a token of the session is answered %d while it lasts", status)
		}
	}
}

// S12: a form that is sent after the session's end is not kept and not sent later.
func TestPostAfterTheEnd(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	b := newBrowser(t)
	p := b.do(t, navigation(t, "POST", r.url(appHost, "/members/order"), "dose=10"))
	if p.Status != 302 && p.Status != 303 && p.Status != 401 {
		t.Fatalf("answered %d", p.Status)
	}
	if p.Status != 401 {
		p = b.follow(t, p)
		b.submit(t, p, map[string]string{"username": "dana", "password": "dana-pw"})
	}
	for _, received := range r.dump.take() {
		if received.Method != "GET" || strings.Contains(string(received.Body), "dose") {
			t.Errorf("the form arrived after sign-in: %s %q", received.Head, received.Body)
		}
	}
}

// S13: a browser that keeps no cookies gets an explanation, not a loop.
func TestLoopWithoutCookies(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	b := newBrowser(t)
	var cookies = b.client.Jar
	step := func(p page) page { // the provider's cookies are kept, ours are not
		for range 12 {
			location := p.Header.Get("Location")
			if location == "" {
				return p
			}
			next, err := p.URL.Parse(location)
			if err != nil {
				t.Fatal(err)
			}
			if next.Hostname() == "127.0.0.1" {
				b.client.Jar = cookies
			} else {
				b.client.Jar = nil
			}
			p = b.do(t, navigation(t, "GET", next.String(), ""))
		}
		t.Fatalf("a loop: %s", strings.Join(b.trace, "\n"))
		return p
	}
	b.client.Jar = nil
	p := step(b.do(t, navigation(t, "GET", r.url(appHost, "/members/x"), "")))
	action, fields := formWith(t, p, map[string]string{"username": "dana", "password": "dana-pw"})
	target, err := p.URL.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	p = step(b.do(t, navigation(t, "POST", target.String(), fields.Encode())))
	if p.Status < 400 || !strings.Contains(strings.ToLower(p.Body), "cookie") {
		t.Errorf("the way ends with %d and without a word about cookies:\n%s", p.Status, p.Body)
	}
}

// K16: sign-ins that are begun and not finished do not fill the browser's jar, and the last one can be finished.
func TestManyStartedSignIns(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	b := newBrowser(t)
	var last page
	for range 50 {
		last = b.visit(t, r.url(appHost, "/.anteroom/login/hospital?return_to=/members/x"))
	}
	line, cookies := b.cookies(t, r.url(appHost, "/"))
	if len(cookies) > 12 || len(line) > 12_000 {
		t.Errorf("50 started sign-ins left %d cookies, %d bytes", len(cookies), len(line))
	}
	if p := b.submit(t, last, map[string]string{"username": "dana", "password": "dana-pw"}); p.Status != 200 || !strings.Contains(p.Body, "/members/x") {
		t.Errorf("the last one ends with %d at %s\n%s", p.Status, p.URL, strings.Join(b.trace, "\n"))
	}
	_, cookies = b.cookies(t, r.url(appHost, "/"))
	if cookies[cookieToken] == "" {
		t.Errorf("no session: %v", cookies)
	}
}
