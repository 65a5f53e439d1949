package portal

import (
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestPolling: an application may ask every ten seconds how long the session
// lasts, and warn before it ends; asking does not make it last.
func TestPolling(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		life session.Lifetime
		ends time.Duration
	}{
		"the idle end comes first":     {session.Lifetime{Idle: 15 * time.Minute, Absolute: 12 * time.Hour}, 15 * time.Minute},
		"the absolute end comes first": {session.Lifetime{Idle: 10 * time.Minute, Absolute: 10 * time.Minute}, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { pollUntil(t, c.life, c.ends) })
		})
	}
}

func pollUntil(t *testing.T, life session.Lifetime, ends time.Duration) {
	w := newWorld(t, newSource("hospital", "Hospital"))
	m, err := session.New(session.Config{
		Store: w.store, Sealer: w.sealer, Now: time.Now,
		Lifetimes: session.Lifetimes{Roles: map[string]session.Lifetime{"doctor": life}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	w.use(m)
	b := w.device(firefox)
	warned := false
	for passed := time.Duration(0); passed < ends; passed += 10 * time.Second {
		answer := b.get("/.anteroom/session", program)
		expect(t, answer, http.StatusOK)
		if len(answer.Result().Cookies()) != 0 {
			t.Fatalf("after %s asking renews: %s", passed, answer.Header())
		}
		var s struct {
			Idle     int64 `json:"idle_seconds"`
			Absolute int64 `json:"absolute_seconds"`
		}
		if err := json.Unmarshal(answer.Body.Bytes(), &s); err != nil {
			t.Fatal(err)
		}
		if want := int64((ends - passed) / time.Second); min(s.Idle, s.Absolute) != want || s.Idle > s.Absolute {
			t.Fatalf("after %s: %+v, want %d", passed, s, want)
		}
		warned = warned || s.Idle < 120
		time.Sleep(10 * time.Second)
		w.advance(10 * time.Second)
	}
	expect(t, b.get("/.anteroom/session", program), http.StatusUnauthorized)
	if !warned {
		t.Error("there was no time to warn")
	}
	if m.Ended(b.request("GET", "/").Header["Cookie"], site) != "" {
		t.Error("a session that ended by itself counts as one that somebody ended")
	}
}
