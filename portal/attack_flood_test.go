package portal

import (
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestAttackFlood: tabs, and starts without end (N42, N43, K16, S13).
func TestAttackFlood(t *testing.T) {
	t.Parallel()
	t.Run("N42 two tabs", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"), newSource("city", "City"))
		b := w.browser()
		one, two := b.begin("hospital", "/one"), b.begin("city", "/two")
		if got := b.get(callback("city", two), fromProvider).Header().Get("Location"); got != "/two" {
			t.Errorf("the second tab landed at %q", got)
		}
		if got := b.get(callback("hospital", one), fromProvider).Header().Get("Location"); got != "/one" {
			t.Errorf("the first tab landed at %q", got)
		}
		if s := b.mustSession(); s.Source != "hospital" {
			t.Errorf("the session is of %s", s.Source)
		}
		for _, again := range []string{callback("city", two), callback("hospital", one)} {
			expect(t, b.get(again), http.StatusBadRequest)
		}
	})
	t.Run("K16 fifty starts", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		var states []string
		for range 50 {
			states = append(states, b.begin("hospital", "/"+strings.Repeat("a", 300)))
			w.advance(1e9)
			size := 0
			for _, name := range b.attempts() {
				size += len(name) + len(b.jar[name])
			}
			if n := len(b.attempts()); n > attemptMax || size > attemptBytes {
				t.Fatalf("the browser keeps %d attempts, %d bytes", n, size)
			}
		}
		if n := len(b.attempts()); n != attemptMax {
			t.Errorf("the browser keeps %d attempts", n)
		}
		expect(t, b.get(callback("hospital", states[44])), http.StatusBadRequest)
		for _, s := range states[45:] {
			expect(t, b.get(callback("hospital", s)), http.StatusSeeOther)
		}
	})
	t.Run("K16 large ones make room sooner", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		for range 6 {
			b.begin("hospital", "/"+strings.Repeat("a", maxReturnTo-1))
			w.advance(1e9)
		}
		if n := len(b.attempts()); n < 2 || n >= attemptMax {
			t.Errorf("the browser keeps %d attempts", n)
		}
	})
	t.Run("K16 old and foreign ones go first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		old := b.begin("hospital", "/")
		w.advance(attemptTTL)
		b.jar[attemptCookie+strings.Repeat("A", 22)] = "nonsense"
		b.jar[attemptCookie+"odd name"] = "left alone"
		b.begin("hospital", "/")
		if _, ok := b.jar[attemptName(old)]; ok || len(b.attempts()) != 2 || b.jar[attemptCookie+"odd name"] == "" {
			t.Errorf("the browser keeps %v", b.attempts())
		}
	})
	t.Run("N43 ten thousand starts", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		items, err := w.store.List(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		good := 0
		for range 10_000 {
			answer := w.browser().get("/.anteroom/login")
			switch answer.Code {
			case http.StatusFound:
				good++
			case http.StatusTooManyRequests:
				if answer.Header().Get("Retry-After") != "60" || len(answer.Result().Cookies()) != 0 {
					t.Fatalf("429 with %v", answer.Header())
				}
			default:
				t.Fatalf("status %d", answer.Code)
			}
		}
		if good != limitBurst {
			t.Errorf("%d starts went through, want %d", good, limitBurst)
		}
		after, err := w.store.List(t.Context(), "")
		if err != nil || len(after) != len(items) {
			t.Errorf("the store grew from %d to %d items (%v)", len(items), len(after), err)
		}
		if len(w.portal.limit.buckets) != 1 || len(w.audit.kinds()) != 0 {
			t.Error("a flood leaves more than one counter behind")
		}
		// Everybody else signs in as before, and so does this address later.
		other := w.browser().get("/.anteroom/login", func(r *http.Request) { r.RemoteAddr = "192.0.2.8:1" })
		expect(t, other, http.StatusFound)
		w.advance(60e9)
		w.browser().signIn("hospital", "/")
	})
	t.Run("S13 a browser that drops the session's cookies", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		for range roundMax {
			b.signIn("hospital", "/x")
			delete(b.jar, session.CookieToken)
		}
		b.expectFailure(b.get("/.anteroom/login?return_to=%2Fx"), pageLoop, reasonLoop)
		b.signIn("hospital", "/x") // the link on the page works
	})
	t.Run("S13 a browser that keeps nothing", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		state := b.begin("hospital", "/x")
		b.jar = map[string]string{}
		answer := b.get(callback("hospital", state), fromProvider)
		b.expectFailure(answer, pageAttempt, reasonMissing)
		expect(t, answer, 400, "blocking cookies")
	})
	t.Run("S13 signing in often is no loop", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		for range 5 {
			b.signIn("hospital", "/")
		}
		for range 5 {
			b.signIn("hospital", "/")
			b.do("POST", "/.anteroom/logout")
		}
	})
}
