package gate

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// slowSource is an identity source that a renewal asks, and that takes its time.
type slowSource struct{ takes time.Duration }

func (s *slowSource) refresh(ctx context.Context, of *session.Session, _ session.Kept) (session.Verdict, error) {
	select {
	case <-time.After(s.takes):
		return session.Verdict{Grant: of.Grant}, nil
	case <-ctx.Done():
		return session.Verdict{}, ctx.Err()
	}
}

// A renewal runs beside the app. An answer waits for it for a second at most, and not at all when it could not carry the cookie, or
// when no renewal is due.
func TestRenewalDoesNotHoldUp(t *testing.T) { synctest.Test(t, testRenewalDoesNotHoldUp) }

func testRenewalDoesNotHoldUp(t *testing.T) {
	source := &slowSource{}
	_, quiet := newSessions(t, time.Now)
	r := &rig{t: t, verify: true, audit: &recorder{}, sessions: running(t, session.Config{Store: quiet.Store, Sealer: quiet.sealer, Refresh: source.refresh})}
	r.gate = mustNew(t, Config{Policy: compile(t, rules...), Sessions: r.sessions, Audit: r.audit})
	for name, c := range map[string]struct {
		age, source, app time.Duration
		cache            string
		takes            time.Duration
		cookie           bool
	}{
		"not due":             {10 * time.Second, time.Minute, 0, "", 0, false},
		"quick":               {4 * time.Minute, 100 * time.Millisecond, 0, "", 100 * time.Millisecond, true},
		"slow":                {4 * time.Minute, 20 * time.Second, 0, "", time.Second, false},
		"slow, and public":    {4 * time.Minute, 20 * time.Second, 0, "public", 0, false},
		"slow, app is slower": {4 * time.Minute, 3 * time.Second, 4 * time.Second, "", 4 * time.Second, true},
	} {
		dana := r.dana()
		source.takes = c.source
		time.Sleep(c.age)
		start := time.Now()
		w := direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(c.app)
			if c.cache != "" {
				w.Header().Set("Cache-Control", c.cache)
			}
			w.Write([]byte("x"))
		}))
		if took := time.Since(start); w.Code != 200 || took < c.takes || took > c.takes+50*time.Millisecond {
			t.Errorf("%s: %d after %s, want %s", name, w.Code, took, c.takes)
		}
		if got := strings.Contains(strings.Join(w.Header()["Set-Cookie"], "\n"), session.CookieToken+"="); got != c.cookie {
			t.Errorf("%s: cookie %t", name, got)
		}
		time.Sleep(30 * time.Second) // a slow one ends
	}
}
