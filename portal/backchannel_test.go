package portal

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// expectNotice fails when a notice was not answered with this status, without an
// audit record of this decision and reason, or so that a cache or a page could
// keep or read the answer.
func (w *world) expectNotice(answer *httptest.ResponseRecorder, status int, decision, reason string) {
	w.t.Helper()
	expect(w.t, answer, status)
	e := w.audit.last(w.t)
	if e.Kind != "sign-out" || e.Decision != decision || e.Reason != reason || e.Source != "hospital" {
		w.t.Errorf("recorded %+v, want %s %s", e, decision, reason)
	}
	h := answer.Header()
	if h.Get("Cache-Control") != "no-store" || len(h["Set-Cookie"]) != 0 || strings.Contains(strings.ToLower(strings.Join(keysOf(h), " ")), "access-control") {
		w.t.Errorf("answered with %v", h)
	}
}

func keysOf(h http.Header) (list []string) {
	for k := range h {
		list = append(list, k)
	}
	return list
}

func TestBackchannel(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*world, *browser) {
		t.Helper()
		h := newRich("hospital", "Hospital")
		h.id.Session = "op-1"
		w := newWorld(t, h, newRich("lab", "Lab"), newSource("plain", "Plain"))
		b := w.browser()
		b.signIn("hospital", "/x")
		return w, b
	}
	t.Run("B1 row 53 a good token ends the session", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		n := len(w.audit.all())
		answer := w.tell(site, "hospital", w.token("1", "sid=op-1&sub=sub-1"))
		w.expectNotice(answer, http.StatusOK, "allowed", reasonByProvider)
		b.mustNoSession()
		if got := len(w.audit.all()) - n; got != 1 || answer.Body.Len() != 0 {
			t.Errorf("%d records, body %q", got, answer.Body)
		}
	})
	t.Run("B14 row 56 the same token twice", func(t *testing.T) {
		t.Parallel()
		w, _ := start(t)
		token := w.token("1", "sub=sub-1")
		w.expectNotice(w.tell(site, "hospital", token), http.StatusOK, "allowed", reasonByProvider)
		w.expectNotice(w.tell(site, "hospital", token), http.StatusBadRequest, "denied", reasonNoticeUsed)
		again := w.browser()
		w.sources[0].set(func() { w.sources[0].id.Issued = w.clock().Add(time.Second) })
		again.signIn("hospital", "/")
		w.expectNotice(w.tell(site, "hospital", token), http.StatusBadRequest, "denied", reasonNoticeUsed)
		again.mustSession()
		// It is good for two minutes, and a little longer by a slow clock.
		w.advance(3*time.Minute + 30*time.Second)
		w.expectNotice(w.tell(site, "hospital", token), http.StatusBadRequest, "denied", reasonNoticeUsed)
		// Another provider's id of a token is another one.
		if code := w.tell(site, "lab", token).Code; code != http.StatusOK {
			t.Errorf("the other provider's: %d", code)
		}
	})
	t.Run("B16 row 57 what is unknown", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		for i, rest := range []string{"sid=never-seen", "sid=never-seen&sub=nobody", "sub=nobody"} {
			w.expectNotice(w.tell(site, "hospital", w.token(string(rune('a'+i)), rest)), http.StatusOK, "allowed", reasonByProvider)
		}
		b.mustSession()
	})
	t.Run("B17 row 57 all of an account, and no other provider's", func(t *testing.T) {
		t.Parallel()
		w, first := start(t)
		second, other := w.browser(), w.browser()
		second.signIn("hospital", "/")
		other.signIn("lab", "/") // with the same subject
		w.expectNotice(w.tell(site, "hospital", w.token("1", "sub=sub-1")), http.StatusOK, "allowed", reasonByProvider)
		first.mustNoSession()
		second.mustNoSession()
		other.mustSession()
	})
	t.Run("row 57 one sid, one session", func(t *testing.T) {
		t.Parallel()
		w, first := start(t)
		second := w.browser()
		w.sources[0].set(func() { w.sources[0].id.Session = "op-2" })
		second.signIn("hospital", "/")
		w.tell(site, "hospital", w.token("1", "sid=op-2"))
		first.mustSession()
		second.mustNoSession()
	})
	t.Run("B2 B26 what the source refuses, or cannot check", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		w.expectNotice(w.tell(site, "hospital", "bad"), http.StatusBadRequest, "denied", "logout.fake")
		w.expectNotice(w.tell(site, "hospital", "down"), http.StatusBadRequest, "failed", "jwks.unreachable")
		w.expectNotice(w.tell(site, "hospital", w.token("", "sub=sub-1")), http.StatusBadRequest, "denied", reasonNoticeToken)
		w.expectNotice(w.tell(site, "hospital", w.token("1", "")), http.StatusBadRequest, "denied", reasonNoticeToken)
		b.mustSession()
	})
	t.Run("B19 B22 form", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		const path = "/.anteroom/backchannel/hospital"
		good := url.Values{"logout_token": {w.token("1", "sub=sub-1")}}.Encode()
		kind := func(s string) func(*http.Request) { return header("Content-Type", s) }
		for name, c := range map[string]struct {
			target, body string
			edit         func(*http.Request)
			status       int
		}{
			"json":             {path, `{"logout_token":"x"}`, kind("application/json"), http.StatusUnsupportedMediaType},
			"text/plain":       {path, good, kind("text/plain"), http.StatusUnsupportedMediaType},
			"multipart":        {path, good, kind("multipart/form-data; boundary=x"), http.StatusUnsupportedMediaType},
			"no type":          {path, good, func(r *http.Request) { r.Header.Del("Content-Type") }, http.StatusUnsupportedMediaType},
			"gzip":             {path, good, header("Content-Encoding", "gzip"), http.StatusUnsupportedMediaType},
			"in the query":     {path + "?" + good, "", nil, http.StatusBadRequest},
			"any query":        {path + "?x=1", good, nil, http.StatusBadRequest},
			"two":              {path, good + "&" + good, nil, http.StatusBadRequest},
			"empty body":       {path, "", nil, http.StatusBadRequest},
			"empty field":      {path, "logout_token=", nil, http.StatusBadRequest},
			"another field":    {path, "token=x", nil, http.StatusBadRequest},
			"broken":           {path, good + "&%zz", nil, http.StatusBadRequest},
			"1 MiB":            {path, good + "&x=" + strings.Repeat("x", 1<<20), nil, http.StatusRequestEntityTooLarge},
			"a token of 9 KiB": {path, "logout_token=" + strings.Repeat("x", 9<<10), nil, http.StatusBadRequest},
		} {
			if c.edit == nil {
				c.edit = func(*http.Request) {}
			}
			before := len(w.audit.all())
			answer := w.post(site, c.target, c.body, c.edit)
			if answer.Code != c.status || len(w.audit.all()) != before+1 {
				t.Errorf("%s: %d %s, %d records", name, answer.Code, answer.Body, len(w.audit.all())-before)
			}
			w.expectNotice(answer, c.status, "denied", w.audit.last(t).Reason)
		}
		b.mustSession()
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS"} {
			answer := b.do(method, path, header("Origin", "https://evil.example"), header("Access-Control-Request-Method", "POST"))
			if answer.Code != http.StatusMethodNotAllowed || answer.Header().Get("Allow") != "POST" || answer.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("B19 B24 %s: %d %v", method, answer.Code, answer.Header())
			}
		}
		w.expectNotice(w.post(site, path, "x=1&x=2&state=s&"+good), http.StatusOK, "allowed", reasonByProvider)
		b.mustNoSession()
	})
	t.Run("B24 cookies are not looked at", func(t *testing.T) {
		t.Parallel()
		w, b := start(t)
		cookie := b.request("GET", "/").Header.Get("Cookie")
		w.expectNotice(w.tell(site, "hospital", "bad", header("Cookie", cookie)), http.StatusBadRequest, "denied", "logout.fake")
		if e := w.audit.last(t); e.Subject != "" || e.Session != "" || e.Name != "" {
			t.Errorf("recorded %+v", e)
		}
		b.mustSession()
	})
	t.Run("B22 a flood", func(t *testing.T) {
		t.Parallel()
		w, _ := start(t)
		w.portal.log = slog.New(slog.DiscardHandler)
		before, codes := len(w.audit.all()), make(map[int]int)
		for range 1000 {
			codes[w.tell(site, "hospital", "bad").Code]++
		}
		if codes[http.StatusBadRequest] != limitBurst || codes[http.StatusTooManyRequests] != 1000-limitBurst || len(w.audit.all())-before != limitBurst {
			t.Errorf("%v, %d records", codes, len(w.audit.all())-before)
		}
		// Nobody's sign-in waits for that.
		w.browser().signIn("hospital", "/")
	})
	t.Run("row 53 only a source that is told has the address", func(t *testing.T) {
		t.Parallel()
		w, _ := start(t)
		for _, name := range []string{"plain", "unknown", "", "hospital/x"} {
			if answer := w.tell(site, name, w.token("1", "sub=sub-1")); answer.Code != http.StatusNotFound {
				t.Errorf("%q: %d", name, answer.Code)
			}
		}
		fleet := newFleet(t, newRich("hospital", "Hospital"))
		if answer := fleet.tell(site, "hospital", fleet.token("1", "sub=s")); answer.Code != http.StatusNotFound {
			t.Errorf("at a site that hands over: %d", answer.Code)
		}
		if answer := fleet.tell(homeHost, "hospital", fleet.token("1", "sub=s")); answer.Code != http.StatusOK {
			t.Errorf("at the portal: %d", answer.Code)
		}
	})
}

// TestBackchannelB14Parallel: of any number of copies on three nodes one is honoured.
func TestBackchannelB14Parallel(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newRich("hospital", "Hospital"))
	nodes := []*world{w, w.node(), w.node()}
	token := w.token("1", "sub=sub-1")
	var mu sync.Mutex
	codes := make(map[int]int)
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			code := nodes[i%3].tell(homeHost, "hospital", token).Code
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
		})
	}
	all.Wait()
	if codes[http.StatusOK] != 1 || codes[http.StatusBadRequest] != 23 {
		t.Errorf("answers %v", codes)
	}
}

// TestBackchannelB26: what could not be stored is no sign-out, somebody hears of it,
// and the provider's next try works.
func TestBackchannelB26(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{"sub=sub-1", "sid=op-1&sub=sub-1"} {
		for _, op := range []string{"append", "cas", "both"} {
			t.Run(rest+" "+op, func(t *testing.T) {
				t.Parallel()
				h := newRich("hospital", "Hospital")
				h.id.Session = "op-1"
				w := newWorld(t, h)
				b := w.browser()
				b.signIn("hospital", "/")
				var log bytes.Buffer
				w.portal.log = slog.New(slog.NewTextHandler(&log, nil))
				w.store.set(func(o string) (bool, error) {
					if o == op || op == "both" {
						return false, store.ErrUnavailable
					}
					return true, nil
				})
				token := w.token("1", rest)
				w.expectNotice(w.tell(site, "hospital", token), http.StatusBadRequest, "failed", reasonStore)
				if !strings.Contains(log.String(), "level=ERROR") {
					t.Errorf("no alarm: %s", &log)
				}
				w.store.set(nil)
				w.expectNotice(w.tell(site, "hospital", token), http.StatusOK, "allowed", reasonByProvider)
				b.mustNoSession()
			})
		}
	}
}

// TestBackchannelRace: the provider ends all of an account while a sign-in of it is
// under way.
func TestBackchannelRace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		issued time.Duration // after the logout token
		zero   bool
		lives  bool
	}{
		"vouched before":          {issued: -time.Second},
		"vouched in that second":  {},
		"vouched after":           {issued: time.Second, lives: true},
		"nobody knows when":       {zero: true},
		"vouched ten minutes ago": {issued: -10 * time.Minute},
	} {
		t.Run("row 57 "+name, func(t *testing.T) {
			t.Parallel()
			h := newRich("hospital", "Hospital")
			w := newWorld(t, h)
			h.set(func() {
				if !c.zero {
					h.id.Issued = w.clock().Add(c.issued)
				}
				h.during = func() {
					if code := w.tell(site, "hospital", w.token("1", "sub=sub-1")).Code; code != http.StatusOK {
						t.Errorf("notice: %d", code)
					}
				}
			})
			b := w.browser()
			answer := b.get(callback("hospital", b.begin("hospital", "/x")), fromProvider)
			if c.lives {
				expect(t, answer, http.StatusSeeOther)
				b.mustSession()
				return
			}
			b.expectFailure(answer, pageRefused, reasonNoticeBefore)
			if list, err := w.sessions.Sessions(t.Context(), "hospital", "sub-1"); err != nil || len(list) != 0 {
				t.Errorf("listed %v, %v", list, err)
			}
		})
	}
	t.Run("row 57 the mark is there before the sessions end", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newRich("hospital", "Hospital"))
		marked := false
		w.store.set(func(op string) (bool, error) {
			if op == "append" {
				_, err := w.store.Store.Get(t.Context(), markKey("hospital", "sub-1"))
				marked = err == nil
			}
			return true, nil
		})
		w.tell(site, "hospital", w.token("1", "sub=sub-1"))
		if !marked {
			t.Error("a callback between the two would keep its session")
		}
	})
	t.Run("row 57 an older notice that comes later", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newRich("hospital", "Hospital"))
		old := w.token("old", "sub=sub-1")
		w.advance(30 * time.Second)
		w.tell(site, "hospital", w.token("new", "sub=sub-1"))
		w.tell(site, "hospital", old)
		h := w.sources[0]
		h.set(func() { h.id.Issued = w.clock().Add(-10 * time.Second) })
		b := w.browser()
		b.expectFailure(b.get(callback("hospital", b.begin("hospital", "/")), fromProvider), pageRefused, reasonNoticeBefore)
	})
	t.Run("row 57 a store that does not answer", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newRich("hospital", "Hospital"))
		b := w.browser()
		state := b.begin("hospital", "/")
		w.store.failGet(labelNoticeMark)
		answer := b.get(callback("hospital", state), fromProvider)
		b.expectFailure(answer, pageUnavailable, reasonStore)
	})
}
