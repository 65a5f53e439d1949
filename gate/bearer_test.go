package gate

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// withToken makes a request with a token.
func withToken(token string) func(*http.Request) {
	return func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+token) }
}

// What cannot be known is no access, and what an issuer must not say is not believed.
func TestTokenFailsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*Caller)
		err     error
		status  int
		reason  string
		refused string
	}{
		"issuer down":     {nil, errors.New("t-read: dial tcp: refused"), 503, "bearer", ""},
		"odd status":      {nil, &BearerError{Status: 200, Scheme: "x", Code: "c", Reason: "r"}, 401, "r", `Bearer error="c"`},
		"expired":         {func(c *Caller) { c.Expires = c.Expires.Add(-10 * time.Minute) }, nil, 401, "token.exp", `Bearer error="invalid_token"`},
		"no expiry":       {func(c *Caller) { c.Expires = time.Time{} }, nil, 401, "token.exp", `Bearer error="invalid_token"`},
		"no subject":      {func(c *Caller) { c.Grant.Subject = "" }, nil, 503, "identity", ""},
		"no source":       {func(c *Caller) { c.Grant.Source = "" }, nil, 503, "identity", ""},
		"role with comma": {func(c *Caller) { c.Grant.Roles = []string{"lab,admin"} }, nil, 503, "identity", ""},
		"name with CR":    {func(c *Caller) { c.Grant.Name = "a\rb" }, nil, 503, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, d := newDesk(t)
			d.set(c.err)
			if c.change != nil {
				c.change(d.tokens["t-read"])
			}
			never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the app was reached") })
			w := direct(r.gate, "GET", "/notes/1", withToken("t-read"), never)
			challenge := strings.Join(w.Header()["Www-Authenticate"], "\n")
			if w.Code != c.status || !strings.Contains(challenge, c.refused) || (challenge != "") != (c.status == 401) {
				t.Errorf("%d %q", w.Code, challenge)
			}
			events := r.audit.take()
			if last := events[len(events)-1]; c.reason != "" && last.Reason != c.reason || last.Decision == "allowed" {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// The app gets the same names as for a session, and the same signed, for this client and its scopes.
func TestCallerIsTold(t *testing.T) {
	r, d := newDesk(t)
	d.tokens["t-patient"].Grant.Name, d.tokens["t-patient"].Grant.Email = "Carl", "carl@example.org"
	r.send(request("GET", "/fhir/Patient/A-1", nil, "Authorization: Bearer t-patient"))
	got := r.take()
	if len(got) != 1 {
		t.Fatal("nothing received")
	}
	h := got[0].Header
	if h.Get("Remote-User") != "app:carl" || h.Get("Remote-Groups") != "lab" || h.Get("Remote-Name") != "Carl" || h.Get("Remote-Email") != "carl@example.org" {
		t.Errorf("%v", h)
	}
	claims := verified(t, r.sessions, h.Get("Anteroom-Assertion"))
	if claims["sub"] != "carl" || claims["aud"] != site || claims["iss"] != "https://"+site || claims["client_id"] != "heart-app" || claims["scope"] != "patient/*.rs" || claims["patient"] != "A-1" || claims["sid"] != nil {
		t.Errorf("%v", claims)
	}
	w := direct(r.gate, "GET", "/notes/1", withToken("t-read"), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Write([]byte(q.Header.Get("Anteroom-Assertion")))
	}))
	if claims := verified(t, r.sessions, w.Body.String()); claims["sub"] != "ann" || w.Header().Get("Cache-Control") != "public, max-age=60" {
		t.Errorf("%v %v", claims, w.Header())
	}
}

// A request in flight ends with its token: a stream, an answer that has not begun, and a WebSocket (M6, M8, row 59).
func TestFlightEndsWithToken(t *testing.T) { synctest.Test(t, testFlightEndsWithToken) }

func testFlightEndsWithToken(t *testing.T) {
	d := &desk{}
	r := &rig{t: t, audit: &recorder{}}
	r.sessions, r.store = newSessions(t, time.Now)
	r.gate = mustNew(t, Config{Policy: compile(t, fhir...), Sessions: r.sessions, Audit: r.audit, Bearer: d})
	d.fill(time.Now())
	start := time.Now()
	waiting := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		select {
		case <-q.Context().Done():
		case <-time.After(time.Hour):
		}
		w.Write([]byte("too late"))
	})
	w := direct(r.gate, "GET", "/notes/1", withToken("t-read"), waiting)
	if took := time.Since(start); took < 10*time.Minute || took > 10*time.Minute+time.Second || w.Code != 401 || strings.Contains(w.Body.String(), "too late") ||
		!slices.Equal(w.Header()["Www-Authenticate"], asBearer(`error="invalid_token"`)) {
		t.Errorf("after %s: %d %v %s", took, w.Code, w.Header(), w.Body)
	}
	synctest.Wait()
	if e := r.audit.ends(t, 1)[0]; e.Reason != "token.exp" || e.Decision != "ended" || e.ClientID != "heart-app" || e.Name != "app:ann" {
		t.Errorf("record %+v", e)
	}
	d.fill(time.Now())
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("half an answer looks like a whole one")
			}
		}()
		direct(r.gate, "GET", "/notes/1", withToken("t-read"), http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			io.WriteString(w, "data: 1\n\n")
			<-q.Context().Done()
			if _, err := io.WriteString(w, "data: 2\n\n"); err == nil {
				t.Error("written after the end")
			}
		}))
	}()
	d.fill(time.Now())
	if w := direct(r.gate, "GET", "/notes/1", withToken("t-read"), nil); w.Code != 200 {
		t.Errorf("in time: %d", w.Code)
	}
	time.Sleep(time.Hour) // nothing is left that could fire
	synctest.Wait()
	if n := len(r.audit.take()); n > 6 {
		t.Errorf("%d records", n)
	}
}

func TestWebSocketEndsWithToken(t *testing.T) {
	r, d := newDesk(t)
	r.app = sending(frame(text, []byte("hello")))
	d.tokens["t-read"].Expires = r.clock.now().Add(time.Second)
	r.clock.add(900 * time.Millisecond)
	conn := r.dial()
	defer conn.Close()
	io.WriteString(conn, request("GET", "/notes/live", nil, upgrade, "Authorization: Bearer t-read"))
	in := bufio.NewReader(conn)
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %+v %v", resp, err)
	}
	io.ReadFull(in, make([]byte, 7))
	if rest, err := io.ReadAll(in); err != nil || !bytes.Equal(rest, closeFrame(closePolicy, closeText)) {
		t.Errorf("%q %v", rest, err)
	}
	if e := r.audit.ends(t, 1)[0]; e.Reason != "token.exp" {
		t.Errorf("record %+v", e)
	}
}

// The store falls silent: tokens are refused as sessions are, unless the operator said that the site goes on.
func TestTokensOnStoreLoss(t *testing.T) { synctest.Test(t, testTokensOnStoreLoss) }

func testTokensOnStoreLoss(t *testing.T) {
	d := &desk{}
	r := &rig{t: t, audit: &recorder{}}
	r.sessions, r.store = newSessions(t, time.Now)
	c := Config{Policy: compile(t, fhir...), Sessions: r.sessions, Audit: r.audit, Bearer: d, OnStoreLoss: 5 * time.Minute}
	lenient := mustNew(t, c)
	c.OnStoreLoss = 0
	strict := mustNew(t, c)
	ask := func(g *Gate, token string) int {
		d.fill(time.Now())
		return direct(g, "GET", "/notes/1", withToken(token), nil).Code
	}
	r.store.set(true)
	time.Sleep(20 * time.Second)
	if code := ask(strict, "t-read"); code != 200 {
		t.Errorf("no loss yet: %d", code)
	}
	time.Sleep(15 * time.Second)
	r.audit.take()
	if code := ask(strict, "t-read"); code != 503 {
		t.Errorf("a site that says nothing: %d", code)
	}
	if code := ask(lenient, "t-read"); code != 200 || lenient.Degraded() != 1 {
		t.Errorf("a site that goes on: %d", code)
	}
	events := r.audit.take()
	if events[0].Reason != "store-silent" || events[1].Degraded != "store-loss" || events[1].Decision != "allowed" {
		t.Errorf("events %+v", events)
	}
	if code := ask(lenient, "t-forged"); code != 401 {
		t.Errorf("the store's silence makes no token good: %d", code)
	}
	d.set(errors.New("the memory of proofs does not answer"))
	if code := ask(lenient, "t-read"); code != 503 {
		t.Errorf("a proof that could have been used before: %d", code)
	}
	d.set(nil)
	time.Sleep(5 * time.Minute)
	if code := ask(lenient, "t-read"); code != 503 {
		t.Errorf("over: %d", code)
	}
}

// Bad tokens are a stranger's: they are counted when there are too many. What a token's holder may not do is recorded each time.
func TestFloodOfTokens(t *testing.T) {
	r, _ := newDesk(t)
	ask := func(token string) int {
		q := httptest.NewRequest("GET", "/members/x", nil)
		q.TLS, q.Host, q.RemoteAddr = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: site}, site, "192.0.2.1:1"
		withToken(token)(q)
		w := httptest.NewRecorder()
		r.gate.Handle(w, q, nil)
		return w.Code
	}
	for i := range floodAfter + 100 {
		if code := ask(fmt.Sprint("t-forged", i)); code != 401 {
			t.Fatalf("%d", code)
		}
	}
	if n := len(r.audit.take()); n != floodAfter {
		t.Errorf("%d records of bad tokens", n)
	}
	for range 5 {
		if code := ask("t-read"); code != 403 {
			t.Fatalf("%d", code)
		}
	}
	if n := len(r.audit.take()); n != 5 {
		t.Errorf("%d records of a caller", n)
	}
}

// A public answer to a token's holder is recorded, since somebody is named; a log that fails refuses the token, too.
func TestTokensAreRecorded(t *testing.T) {
	r, _ := newDesk(t)
	r.send(request("GET", "/public/x", nil, "Authorization: Bearer t-read"))
	if e := r.audit.take(); len(e) != 1 || e[0].ClientID != "heart-app" {
		t.Errorf("events %+v", e)
	}
	r.take()
	r.audit.setFail(true)
	for _, token := range []string{"t-read", "t-forged"} {
		replies := r.send(request("GET", "/notes/1", nil, "Authorization: Bearer "+token))
		if replies[0].StatusCode != 503 || len(r.take()) > 0 || replies[0].Header["Www-Authenticate"] != nil {
			t.Errorf("%s: %d %v", token, replies[0].StatusCode, replies[0].Header)
		}
	}
}
