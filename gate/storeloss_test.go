package gate

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// loss is a gate that bears five minutes without its store, in the time of a synctest bubble.
type loss struct {
	*rig
	strict *Gate // the same without OnStoreLoss
}

func newLoss(t *testing.T) *loss {
	r := &rig{t: t, audit: &recorder{}}
	r.sessions, r.store = newSessions(t, time.Now)
	c := Config{Policy: compile(t, rules...), Sessions: r.sessions, Audit: r.audit, OnStoreLoss: 5 * time.Minute}
	r.gate = mustNew(t, c)
	c.OnStoreLoss = 0
	return &loss{r, mustNew(t, c)}
}

func (l *loss) ask(g *Gate, target, cookie string, next http.Handler) *httptest.ResponseRecorder {
	return direct(g, "GET", target, func(q *http.Request) { q.Header.Set("Cookie", cookie) }, next)
}

// The store falls silent: where the operator said so, sessions that this node knew go on for that long, and each use of them stands
// in the log as what it is.
func TestOnStoreLoss(t *testing.T) { synctest.Test(t, testOnStoreLoss) }

func testOnStoreLoss(t *testing.T) {
	l := newLoss(t)
	elsewhere := &rig{t: t, sessions: running(t, session.Config{Store: l.store.Store, Sealer: l.store.sealer})}
	dana, gone := l.dana(), l.dana()
	time.Sleep(2 * time.Second)
	l.store.set(true)
	stranger := elsewhere.dana() // signed in on a node that still has the store
	time.Sleep(29 * time.Second)
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 200 || l.audit.take()[0].Degraded != "" || l.gate.Degraded() != 0 {
		t.Errorf("no loss yet: %d", w.Code)
	}
	time.Sleep(4 * time.Second)
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 200 {
		t.Errorf("a running session: %d", w.Code)
	}
	if w := l.ask(l.gate, "/admin/x", dana.cookie, nil); w.Code != 403 {
		t.Errorf("the rules hold: %d", w.Code)
	}
	for _, e := range l.audit.take() {
		if e.Degraded != "store-loss" || e.Name != "dana" {
			t.Errorf("event %+v", e)
		}
	}
	if n := l.gate.Degraded(); n != 2 {
		t.Errorf("%d requests counted, want 2", n)
	}
	for name, c := range map[string]struct {
		gate   *Gate
		cookie string
		want   int
	}{
		"a site that says nothing":       {l.strict, dana.cookie, 503},
		"a session that nobody saw here": {l.gate, stranger.cookie, 503},
		"half a session":                 {l.gate, strings.Split(dana.cookie, "; ")[0], 401},
		"nobody":                         {l.gate, "theme=dark", 401},
	} {
		if w := l.ask(c.gate, "/members/x", c.cookie, nil); w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
	for _, e := range l.audit.take() {
		if e.Degraded != "" || e.Decision == "allowed" {
			t.Errorf("event %+v", e)
		}
	}
	l.sessions.Revoke(t.Context(), gone.session.ID)
	if w := l.ask(l.gate, "/members/x", gone.cookie, nil); w.Code != 401 {
		t.Errorf("signed out here: %d", w.Code)
	}
	time.Sleep(4 * time.Minute)
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 200 || !strings.Contains(w.Header().Get("Set-Cookie"), session.CookieToken+"=") {
		t.Errorf("nearly over: %d %v", w.Code, w.Header())
	}
	time.Sleep(40 * time.Second)
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("over: %d", w.Code)
	}
	l.store.set(false)
	time.Sleep(5 * time.Second)
	l.audit.take()
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 200 || l.audit.take()[0].Degraded != "" {
		t.Errorf("the store is back: %d", w.Code)
	}
	if n := l.gate.Degraded(); n != 3 {
		t.Errorf("%d requests counted, want 3", n)
	}
}

// No store makes a session live longer than it would have.
func TestStoreLossProlongsNothing(t *testing.T) { synctest.Test(t, testStoreLossProlongsNothing) }

func testStoreLossProlongsNothing(t *testing.T) {
	l := newLoss(t)
	dana := l.dana()
	time.Sleep(14 * time.Minute)
	l.store.set(true)
	time.Sleep(59 * time.Second)
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 200 {
		t.Errorf("alive: %d", w.Code)
	}
	time.Sleep(2 * time.Second)
	if w := l.ask(l.gate, "/members/x", dana.cookie, nil); w.Code != 401 {
		t.Errorf("past its idle end: %d", w.Code)
	}
}

// A stream goes on for as long as a request would, and then ends.
func TestStreamOnStoreLoss(t *testing.T) { synctest.Test(t, testStreamOnStoreLoss) }

func testStreamOnStoreLoss(t *testing.T) {
	l := newLoss(t)
	for name, c := range map[string]struct {
		gate *Gate
		want time.Duration
	}{"said": {l.gate, 5 * time.Minute}, "not said": {l.strict, 30 * time.Second}} {
		dana := l.dana()
		time.Sleep(2 * time.Second)
		l.store.set(true)
		start := time.Now()
		w := l.ask(c.gate, "/members/x", dana.cookie, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			select {
			case <-q.Context().Done():
			case <-time.After(time.Hour):
			}
			w.Write([]byte("x"))
		}))
		took := time.Since(start)
		if w.Code != 503 || took < c.want-2*time.Second || took > c.want+7*time.Second {
			t.Errorf("%s: %d after %s", name, w.Code, took)
		}
		synctest.Wait()
		if e := l.audit.ends(t, 1)[0]; e.Reason != "silent" {
			t.Errorf("%s: record %+v", name, e)
		}
		l.audit.take()
		l.store.set(false)
		time.Sleep(10 * time.Second)
	}
}

// Sessions that are refused while the store is heard, for whatever other reason, are not let in by this.
func TestNoSilenceIsNoLoss(t *testing.T) {
	l := &storeLoss{tolerate: time.Hour}
	for _, silence := range []time.Duration{0, -time.Second, time.Hour + 1} {
		if l.tolerated(silence) {
			t.Errorf("%s: tolerated", silence)
		}
	}
	if !l.tolerated(time.Hour) || l.requests.Load() != 1 {
		t.Error("an hour is not tolerated")
	}
	if (&storeLoss{}).tolerated(31 * time.Second) {
		t.Error("the zero value tolerates")
	}
}
