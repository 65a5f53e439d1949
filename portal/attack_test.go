package portal

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// TestAttackState: a state belongs to one browser, one source, one host, and
// works once (rows 5, 6, 9, 10; N21, N23, N24, N26).
func TestAttackState(t *testing.T) {
	t.Parallel()
	row := func(name string, f func(*testing.T, *world, *browser)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newSource("hospital", "Hospital"), newSource("city", "City"))
			f(t, w, w.browser())
		})
	}
	never := func(t *testing.T, w *world, times int) {
		t.Helper()
		if n := w.sources[0].finished() + w.sources[1].finished(); n != times {
			t.Errorf("sources were asked %d times, want %d", n, times)
		}
	}

	// The code of a first answer would be sent to the provider twice.
	row("5 N21 the same callback twice", func(t *testing.T, w *world, b *browser) {
		state := b.begin("hospital", "/x")
		old := b.clone()
		expect(t, b.get(callback("hospital", state), fromProvider), http.StatusSeeOther)
		sid := b.mustSession().ID
		answer := b.get(callback("hospital", state))
		expect(t, answer, http.StatusBadRequest, pageDone.title, "Go on to the application", "Dr. Ada Doe")
		if b.mustSession().ID != sid {
			t.Error("the first session did not stay")
		}
		old.expectFailure(old.get(callback("hospital", state), fromProvider), pageAttempt, reasonUsed)
		never(t, w, 1)
	})
	row("5 twenty at once", func(t *testing.T, w *world, b *browser) {
		state := b.begin("hospital", "/x")
		var wg sync.WaitGroup
		codes := make([]int, 20)
		for i := range codes {
			r := b.request("GET", callback("hospital", state))
			wg.Go(func() {
				answer := httptest.NewRecorder()
				w.portal.ServeHTTP(answer, r)
				codes[i] = answer.Code
			})
		}
		wg.Wait()
		good := 0
		for _, c := range codes {
			if c == http.StatusSeeOther {
				good++
			}
		}
		if good != 1 {
			t.Errorf("answers %v", codes)
		}
		never(t, w, 1)
	})
	// A's person would finish as B's: whoever swapped the cookies chose the account.
	row("5 cookies of two browsers swapped", func(t *testing.T, w *world, a *browser) {
		b := w.browser()
		stateA, stateB := a.begin("hospital", "/a"), b.begin("hospital", "/b")
		a.jar, b.jar = b.jar, a.jar
		a.expectFailure(a.get(callback("hospital", stateA), fromProvider), pageAttempt, reasonMissing)
		b.expectFailure(b.get(callback("hospital", stateB), fromProvider), pageAttempt, reasonMissing)
		never(t, w, 0)
	})
	row("5 sealed content under another attempt's name", func(t *testing.T, w *world, b *browser) {
		one, two := b.begin("hospital", "/a"), b.begin("hospital", "/b")
		b.jar[attemptName(one)] = b.jar[attemptName(two)]
		b.expectFailure(b.get(callback("hospital", one), fromProvider), pageAttempt, reasonUnreadable)
		never(t, w, 0)
	})
	row("5 state is 256 random bits", func(t *testing.T, w *world, b *browser) {
		seen := map[string]bool{}
		for range 10_000 {
			s := newState()
			raw, err := base64.RawURLEncoding.DecodeString(s)
			if err != nil || len(raw) != 32 || seen[s] {
				t.Fatalf("state %q: repeated, or not 32 bytes", s)
			}
			seen[s] = true
		}
	})
	// Where the person lands, and the nonce, would be the attacker's choice.
	row("6 any byte of the cookie or the state flipped", func(t *testing.T, w *world, b *browser) {
		state := b.begin("hospital", "/secret-place")
		name := attemptName(state)
		value := b.jar[name]
		for _, plain := range []string{"secret", "hospital", state} {
			if strings.Contains(value, plain) || strings.Contains(value, base64.RawURLEncoding.EncodeToString([]byte(plain))) {
				t.Errorf("the cookie shows %q", plain)
			}
		}
		// Each byte once would also need each an unused budget of the limiter.
		for i := strings.IndexByte(value, '.'); i < len(value); i += 3 {
			c := b.clone()
			flipped := []byte(value)
			flipped[i] ^= 1
			c.jar[name] = string(flipped)
			c.expectFailure(c.get(callback("hospital", state)), pageAttempt, reasonUnreadable)
		}
		for i := range state {
			flipped := []byte(state)
			flipped[i] ^= 1
			expect(t, b.get(callback("hospital", string(flipped))), http.StatusBadRequest)
		}
		b.mustNoSession()
		never(t, w, 0)
		expect(t, b.get(callback("hospital", state)), http.StatusSeeOther)
	})
	// The other provider would get a code that is not its own.
	row("8 9 N24 delivered to another provider's callback", func(t *testing.T, w *world, b *browser) {
		state := b.begin("hospital", "/x")
		kept := b.clone()
		b.expectFailure(b.get(callback("city", state), fromProvider), pageAttempt, reasonSource)
		// It is out in the open now, and used up for its own provider as well.
		kept.expectFailure(kept.get(callback("hospital", state), fromProvider), pageAttempt, reasonUsed)
		never(t, w, 0)
	})
	row("9 each provider has its own callback address", func(t *testing.T, w *world, b *browser) {
		b.begin("hospital", "/")
		b.begin("city", "/")
		if h, c := w.sources[0].lastBegin(t).CallbackURL, w.sources[1].lastBegin(t).CallbackURL; h == c || !strings.HasSuffix(h, "/hospital") {
			t.Errorf("callback addresses %q and %q", h, c)
		}
	})
	row("9 another host of the same machine", func(t *testing.T, w *world, b *browser) {
		for _, host := range []string{"fincare.hospital.example", site + ":8443"} {
			state := b.begin("hospital", "/x")
			other := b.clone()
			other.host = host
			other.expectFailure(other.get(callback("hospital", state), fromProvider), pageAttempt, reasonHost)
		}
		never(t, w, 0)
	})
	// The victim would work in the attacker's account.
	row("10 N23 N26 callback in a browser that began nothing", func(t *testing.T, w *world, attacker *browser) {
		state := attacker.begin("hospital", "/x")
		victim := w.browser()
		victim.expectFailure(victim.get(callback("hospital", state), fromProvider), pageAttempt, reasonMissing)
		for _, query := range []string{"", "?sid=x", "?state=", "?code=c", "?state=" + state + "&try=" + url.QueryEscape(attacker.jar[attemptName(state)])} {
			expect(t, victim.get("/.anteroom/callback/hospital"+query, fromProvider), http.StatusBadRequest)
		}
		if len(victim.jar) != 0 {
			t.Errorf("the victim's browser keeps %v", victim.jar)
		}
		never(t, w, 0)
	})
	row("10 empty state equals nothing", func(t *testing.T, w *world, b *browser) {
		b.jar[attemptName("")] = "x.y"
		expect(t, b.get("/.anteroom/callback/hospital?code=c&state="), http.StatusBadRequest)
		sealed, err := w.portal.sealAttempt(t.Context(), attempt{Source: "hospital", Host: site, Created: w.clock().Unix(), ReturnTo: "/"})
		if err != nil {
			t.Fatal(err)
		}
		b.jar[sealed.Name] = sealed.Value
		expect(t, b.get("/.anteroom/callback/hospital?code=c&state="), http.StatusBadRequest)
		never(t, w, 0)
	})
	row("5 the attempt's cookie sent twice", func(t *testing.T, w *world, b *browser) {
		state := b.begin("hospital", "/x")
		name := attemptName(state)
		b.expectFailure(b.get(callback("hospital", state), func(r *http.Request) {
			r.Header.Add("Cookie", name+"="+b.jar[name])
		}), pageAttempt, reasonUnreadable)
		never(t, w, 0)
	})
	// A code that the provider refused must not be sent a second time.
	row("N22 the provider refuses the code", func(t *testing.T, w *world, b *browser) {
		state := b.begin("hospital", "/x")
		w.sources[0].set(func() {
			w.sources[0].finishErr = &identity.Failure{Kind: identity.ErrRefused, Reason: "token.invalid_grant"}
		})
		answer := b.get(callback("hospital", state), fromProvider)
		b.expectFailure(answer, pageRefused, "token.invalid_grant")
		if answer.Header().Get("Location") != "" {
			t.Error("the browser is sent round again")
		}
		never(t, w, 1)
	})
	row("N27 a stolen code in the attacker's own attempt reaches only the source", func(t *testing.T, w *world, b *browser) {
		// Nonce and PKCE verifier are the source's; the portal hands over what
		// this attempt kept, never another one's.
		one, two := b.begin("hospital", "/a"), b.begin("hospital", "/b")
		expect(t, b.get(callback("hospital", two)), http.StatusSeeOther)
		if got := string(w.sources[0].finishes[0].Keep); got != "kept for "+two || strings.Contains(got, one) {
			t.Errorf("the source got %q", got)
		}
	})
}

// TestAttackCallbackQuery: a query that two parsers read differently is not
// read at all, and costs the person nothing (rows 14, 15; N4, N28, N29).
func TestAttackCallbackQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	state := b.begin("hospital", "/x")
	for name, query := range map[string]string{
		"14 N28 code twice":         "code=a&code=b&state=" + state,
		"14 N28 state twice":        "code=a&state=" + state + "&state=" + state,
		"14 N28 iss twice":          "code=a&state=" + state + "&iss=https://a&iss=https://a",
		"14 error twice":            "error=a&error=a&state=" + state,
		"14 unknown twice":          "code=a&x=1&x=2&state=" + state,
		"N28 code and error":        "code=a&error=access_denied&state=" + state,
		"N28 id_token":              "code=a&id_token=x&state=" + state,
		"N28 access_token":          "access_token=x&state=" + state,
		"N4 no state":               "code=a",
		"15 error without state":    "error=access_denied",
		"15 error with bad state":   "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E&state=zzz",
		"14 state with escapes":     "code=a&state=%00" + state,
		"14 semicolon":              "code=a;state=" + state,
		"14 bad escape":             "code=%zz&state=" + state,
		"14 a megabyte":             "code=" + strings.Repeat("a", 1<<20),
		"14 state of another shape": "code=a&state=" + state + "%0a",
	} {
		t.Run(name, func(t *testing.T) {
			answer := b.get("/.anteroom/callback/hospital?"+query, fromProvider)
			expect(t, answer, http.StatusBadRequest, pageAttempt.title)
			if body := answer.Body.String(); strings.Contains(body, "alert(1)") || strings.Contains(body, "access_denied") {
				t.Error("the page shows the provider's words")
			}
		})
	}
	for _, method := range []string{"POST", "HEAD", "PUT"} {
		t.Run("N29 "+method, func(t *testing.T) {
			expect(t, b.do(method, callback("hospital", state), fromProvider), http.StatusMethodNotAllowed)
		})
	}
	if w.sources[0].finished() != 0 {
		t.Error("the source was asked")
	}
	t.Run("the attempt is still good", func(t *testing.T) {
		expect(t, b.get(callback("hospital", state), fromProvider), http.StatusSeeOther)
	})
}

// TestAttackReturnTo: wherever a return address may be written, a foreign one
// leads to "/" (rows 16, 17, 18; section 6-A.4; L4).
func TestAttackReturnTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	w.portal.limit.now = w.clock
	land := func(t *testing.T, query string) string {
		t.Helper()
		w.advance(limitBurst / limitRefill * 1e9)
		b := w.browser()
		answer := b.get("/.anteroom/login?" + query)
		expect(t, answer, http.StatusFound)
		u, err := url.Parse(answer.Header().Get("Location"))
		if err != nil || u.Host != "hospital.example" {
			t.Fatalf("beginning sends to %q", answer.Header().Get("Location"))
		}
		answer = b.get(callback("hospital", u.Query().Get("state")), fromProvider)
		expect(t, answer, http.StatusSeeOther)
		if body := answer.Body.String(); body != "" {
			t.Errorf("the redirect has a body: %q", body)
		}
		for name := range answer.Header() {
			switch name {
			case "Location", "Set-Cookie", "Cache-Control", "Referrer-Policy", "Clear-Site-Data":
			default:
				t.Errorf("the redirect has a header %s", name)
			}
		}
		return answer.Header().Get("Location")
	}
	for _, s := range append(append([]string{}, foreign...), own...) {
		t.Run(fmt.Sprintf("16 4.7 return_to %.40q", s), func(t *testing.T) {
			if got := land(t, "return_to="+url.QueryEscape(s)); got != "/" {
				t.Errorf("landed at %q", got)
			}
		})
		t.Run(fmt.Sprintf("16 4.7 sealed %.40q", s), func(t *testing.T) {
			b := w.browser()
			state := newState()
			c, err := w.portal.sealAttempt(t.Context(), attempt{
				Source: "hospital", State: state, Host: site, ReturnTo: s, Created: w.clock().Unix(), Keep: []byte("kept for " + state),
			})
			if err != nil {
				t.Fatal(err)
			}
			b.jar[c.Name] = c.Value
			answer := b.get(callback("hospital", state), fromProvider)
			expect(t, answer, http.StatusSeeOther)
			if got := answer.Header().Get("Location"); got != "/" {
				t.Errorf("landed at %q", got)
			}
		})
	}
	for _, s := range local {
		t.Run(fmt.Sprintf("16 4.7 good %.40q", s), func(t *testing.T) {
			if got := land(t, "return_to="+url.QueryEscape(s)); got != s {
				t.Errorf("landed at %q", got)
			}
		})
	}
	for name, query := range map[string]string{
		"16 4.7 repeated":                   "return_to=/a&return_to=/b",
		"16 4.7 repeated, both the same":    "return_to=/a&return_to=/a",
		"16 other names":                    "rd=/a&redirect=//evil.example&url=https://evil.example",
		"16 semicolon":                      "return_to=/a;return_to=/b",
		"16 bad escape":                     "return_to=/a&x=%zz",
		"17 a target without an issuer":     "target_link_uri=//evil.example",
		"17 another name for the parameter": "Return_To=/a",
		"6-A.4 none":                        "",
	} {
		t.Run(name, func(t *testing.T) {
			if got := land(t, query); got != "/" {
				t.Errorf("landed at %q", got)
			}
		})
	}
	t.Run("6-A.4 L4 sign-out goes nowhere", func(t *testing.T) {
		for _, q := range []string{"post_logout_redirect_uri=https://evil.example", "rd=//evil.example", "return_to=/x"} {
			b := w.browser()
			b.signIn("hospital", "/")
			for _, method := range []string{"GET", "POST"} {
				answer := b.do(method, "/.anteroom/logout?"+q)
				expect(t, answer, http.StatusOK)
				if answer.Header().Get("Location") != "" || strings.Contains(answer.Body.String(), "evil") {
					t.Errorf("%s logout?%s: %v", method, q, answer.Header())
				}
			}
		}
	})
	t.Run("16 Referer is not read", func(t *testing.T) {
		b := w.browser()
		state := ""
		answer := b.get("/.anteroom/login", header("Referer", "https://evil.example/"))
		u, _ := url.Parse(answer.Header().Get("Location"))
		state = u.Query().Get("state")
		if got := b.get(callback("hospital", state), header("Referer", "https://evil.example/")).Header().Get("Location"); got != "/" {
			t.Errorf("landed at %q", got)
		}
	})
}

// TestAttackAnswers: what leaves at the end of a sign-in (rows 18, 19, 85, 96,
// 97; S1).
func TestAttackAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))

	t.Run("18 19 redirect", func(t *testing.T) {
		answer := w.browser().signIn("hospital", "/x?y")
		h := answer.Header()
		if answer.Code != 303 || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" || strings.Contains(h.Get("Location"), "c0de") {
			t.Errorf("%d %v", answer.Code, h)
		}
	})
	t.Run("85 S1 nothing that was there before is adopted", func(t *testing.T) {
		b := w.browser()
		b.jar[session.CookieToken] = "fixed"
		b.jar[session.CookieContext] = strings.Repeat("A", 43)
		b.jar[attemptCookie+strings.Repeat("A", 22)] = "fixed"
		before := b.clone()
		state := b.begin("hospital", "/x;jsessionid=1")
		b.get(callback("hospital", state)+"&sid=fixed", fromProvider)
		s := b.mustSession()
		for name := range before.jar {
			if name != attemptCookie+strings.Repeat("A", 22) && b.jar[name] == before.jar[name] {
				t.Errorf("cookie %s stayed", name)
			}
		}
		if s.ID == "fixed" {
			t.Error("the session id came from the query")
		}
	})
	t.Run("85 a second sign-in changes every id and ends the first", func(t *testing.T) {
		b := w.browser()
		b.signIn("hospital", "/")
		first, copied := b.mustSession(), b.clone()
		w.advance(time.Second) // the second attempt is younger than the session
		b.signIn("hospital", "/")
		second := b.mustSession()
		if first.ID == second.ID || first.TokenID == second.TokenID || copied.jar[session.CookieContext] == b.jar[session.CookieContext] {
			t.Error("an id stayed")
		}
		copied.mustNoSession()
	})
	t.Run("96 cookies come along on the way back from the provider", func(t *testing.T) {
		b := w.browser() // keep() checks SameSite=Lax of each
		b.signIn("hospital", "/")
		if len(b.jar) != 5 { // two halves, the round counter, whose sign-in this was, and who has signed in here
			t.Errorf("the browser keeps %v", b.jar)
		}
	})
	t.Run("97 nothing secret in pages or addresses", func(t *testing.T) {
		b := w.browser()
		state := b.begin("hospital", "/")
		secrets := []string{b.jar[attemptName(state)]}
		answer := b.get(callback("hospital", state))
		for _, v := range []string{session.CookieToken, session.CookieContext} {
			secrets = append(secrets, b.jar[v])
		}
		all := answer.Header().Get("Location") + answer.Body.String()
		for _, path := range []string{"", "session", "logout", "login", "jwks.json"} {
			a := b.get("/.anteroom/" + path)
			all += a.Header().Get("Location") + a.Body.String()
		}
		all += b.do("POST", "/.anteroom/logout").Body.String()
		for _, s := range secrets {
			if strings.Contains(all, s) {
				t.Errorf("a cookie's value is shown")
			}
		}
	})
}
