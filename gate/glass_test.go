package gate

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/session"
)

// G1, G3: a broken glass opens one patient's records, to the methods of the line, and nothing else.
func TestG3OnePatientOnly(t *testing.T) {
	h := newHospital(t, glassRules)
	dana := h.dana()
	_, glass := h.breakGlass(dana, "/patients/7/notes?x=1")
	for _, c := range []struct {
		method, target string
		want           int
	}{
		{"GET", "/patients/7", 200}, {"GET", "/patients/7/", 200}, {"GET", "/patients/7/notes", 200}, {"HEAD", "/patients/7/notes", 200}, {"PUT", "/patients/7/notes", 200},
		{"GET", "/patients/7/notes?patient=8", 200},
		{"GET", "/patients/77", 403}, {"GET", "/patients/77/notes", 403}, {"GET", "/patients/8/notes", 403}, {"GET", "/patients/7x", 403}, {"GET", "/patients/7.json", 403},
		{"GET", "/patients", 403}, {"GET", "/patients/", 403}, {"GET", "/patients/*", 403}, {"GET", "/Patients/7", 403}, {"GET", "/patients/%37/notes", 403},
		{"GET", "/x/patients/7", 403}, {"GET", "/admin/x", 403}, {"GET", "/members/closed/x", 403}, {"GET", "/nothing", 403},
		{"POST", "/patients/7/notes", 403}, {"DELETE", "/patients/7/notes", 403}, {"OPTIONS", "/patients/7/notes", 403},
		{"GET", "/patients/7/sealed/x", 403}, {"GET", "/patients/7/SEALED", 403}, {"GET", "/patients/7/sealed/", 403}, // deny wins
		{"GET", "/patients/7/../8", 400}, {"GET", "/patients/7/%2e%2e/8", 400}, {"GET", "/patients/7%2f..%2f8", 400}, {"GET", "/patients/7//x", 400}, {"GET", "/patients/7;x/notes", 400},
		{"TRACE", "/patients/7/notes", 405},
	} {
		var next http.Handler
		if c.want != 200 {
			next = never(t)
		}
		if w := h.ask(c.method, c.target, dana.cookie+"; "+glass, next); w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, w.Code, c.want)
		}
	}
	h.audit.take()
	// What was open before is no emergency.
	h.ask("GET", "/patients/own", dana.cookie+"; "+glass, nil)
	if e := h.audit.take()[0]; e.Emergency != "" || e.Purpose != "" || e.Reason != "allowed" {
		t.Errorf("an ordinary access: %+v", e)
	}
	if w := h.ask("GET", "/patients/7", dana.cookie, never(t)); w.Code != 403 {
		t.Errorf("without the cookie: %d", w.Code)
	}
	// A require line is not lifted: a new sign-in comes first, and a grant that was given without one opens nothing.
	if e, ok := h.asks(dana, "/patients/vip/notes"); !ok || e.Need == nil {
		t.Errorf("a level that is missing: %t %+v", ok, e)
	}
	_, forced := h.breakGlass(&person{session: dana.session, cookie: dana.cookie}, "/patients/vip/notes")
	if w := h.ask("GET", "/patients/vip/notes", dana.cookie+"; "+forced, never(t)); w.Code != 403 {
		t.Errorf("a level that is missing was lifted: %d", w.Code)
	}
	// Several patients at once, each with an own reason.
	_, both := h.breakGlass(&person{session: dana.session, cookie: dana.cookie + "; " + glass}, "/patients/8")
	for target, want := range map[string]int{"/patients/7/x": 200, "/patients/8/x": 200, "/patients/9/x": 403} {
		if w := h.ask("GET", target, dana.cookie+"; "+both, nil); w.Code != want {
			t.Errorf("%s with two grants: %d", target, w.Code)
		}
	}
}

// G5: each access carries the id and the purpose in the audit log, and the app is told; nobody else can tell it.
func TestG5Flagged(t *testing.T) {
	h := newHospital(t, glassRules)
	dana := h.dana()
	id, glass := h.breakGlass(dana, "/patients/7")
	start := h.audit.take()
	if len(start) != 1 || start[0].Kind != "emergency" {
		t.Errorf("the start: %+v", start)
	}
	var seen http.Header
	look := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		seen = q.Header.Clone()
		w.Header().Set("Cache-Control", "public, max-age=600")
		w.Header().Set("Anteroom-Emergency", "x")
		w.Write([]byte("x"))
	})
	w := h.ask("GET", "/patients/7/notes", dana.cookie+"; "+glass, look, "Anteroom-Emergency: forged", "X-A: b")
	e := h.audit.take()[0]
	if !slices.Equal(seen["Anteroom-Emergency"], []string{id}) || seen.Get("Remote-User") != "dana" || strings.Contains(seen.Get("Cookie"), "__Host-anteroom") {
		t.Errorf("the app received %v", seen)
	}
	if e.Emergency != id || e.Purpose != "ETREAT" || e.Reason != "emergency" || e.Decision != "allowed" || !strings.HasPrefix(e.Rule, "break_glass role doctor") ||
		e.Route != "/patients/{patient}/**" || e.Path != "/patients/*/*" || e.Name != "dana" || e.Session != audit.SessionLabel(dana.session.ID) {
		t.Errorf("event %+v", e)
	}
	if h := w.Result().Header; h.Get("Cache-Control") != "no-store" || h["Anteroom-Emergency"] != nil {
		t.Errorf("the answer could be shown again later: %v", h)
	}
	for _, spelling := range []string{"Anteroom-Emergency: x", "anteroom_emergency: x", "ANTEROOM.EMERGENCY: x"} {
		h.ask("GET", "/patients/own", dana.cookie+"; "+glass, look, spelling)
		for name := range seen {
			if strings.HasPrefix(strings.ToLower(name), "anteroom") && name != "Anteroom-Assertion" {
				t.Errorf("the app received %s", name)
			}
		}
	}
	h.audit.take()
	h.audit.setFail(true)
	if w := h.ask("GET", "/patients/7/notes", dana.cookie+"; "+glass, never(t)); w.Code != 503 {
		t.Errorf("without a record: %d", w.Code)
	}
}

// G4: the time is up for everything, to the second, and a renewed session does not renew it.
func TestG4TimeBox(t *testing.T) { synctest.Test(t, testG4TimeBox) }

func testG4TimeBox(t *testing.T) {
	h := newQuietHospital(t, append(slices.Clone(rules), "break_glass role doctor on /patients/{patient}/** for 5m"))
	dana := h.dana()
	_, glass := h.breakGlass(dana, "/patients/7")
	time.Sleep(5*time.Minute - time.Second)
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, nil); w.Code != 200 {
		t.Errorf("before the end: %d", w.Code)
	}
	time.Sleep(time.Second)
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, never(t)); w.Code != 403 {
		t.Errorf("after the end: %d", w.Code)
	}
	if _, ok := h.asks(dana, "/patients/7"); !ok {
		t.Error("it cannot be broken again, with a new reason")
	}
}

// waiting is an app that goes on until its request ends; it says why.
func waiting(why chan<- error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		<-q.Context().Done()
		why <- context.Cause(q.Context())
	})
}

// G4, M8: what runs when the time is up ends, and so does what its holder ends before; the session goes on.
func TestG4InFlight(t *testing.T) {
	for name, early := range map[string]bool{"time is up": false, "ended": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newQuietHospital(t, append(slices.Clone(rules), "break_glass role doctor on /patients/{patient}/** for 5m"))
				dana := h.dana()
				id, glass := h.breakGlass(dana, "/patients/7")
				start, why, answer := time.Now(), make(chan error, 1), make(chan *httptest.ResponseRecorder, 1)
				go func() { answer <- h.ask("GET", "/patients/7/live", dana.cookie+"; "+glass, waiting(why)) }()
				want := 5 * time.Minute
				if early {
					time.Sleep(time.Minute)
					end := emergency.End{ID: id, Session: dana.session.ID, Site: site, Cookies: []string{glass}}
					if _, err := h.ledger.End(t.Context(), end); err != nil {
						t.Fatal(err)
					}
					want = time.Minute + glassPoll
				}
				if err := <-why; !errors.Is(err, errGlassEnd) {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(start); took > want {
					t.Errorf("it took %s, want %s", took, want)
				}
				if w := <-answer; w.Code != 403 {
					t.Errorf("%d", w.Code)
				}
				end := h.audit.ends(t, 1)[0]
				if end.Reason != reasonGlassEnd || end.Emergency != id || end.Purpose != emergency.Purpose || end.Decision != "ended" {
					t.Errorf("record %+v", end)
				}
				if w := h.ask("GET", "/members/x", dana.cookie, nil); w.Code != 200 {
					t.Errorf("the session: %d", w.Code)
				}
				if n := h.sessions.Health().Watchers; n != 0 {
					t.Errorf("%d watchers are left", n)
				}
			})
		})
	}
}

// A request that is over leaves no timer, and one that nobody ends is left alone until its time.
func TestGlassWatchStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newQuietHospital(t, append(slices.Clone(rules), "break_glass role doctor on /patients/{patient}/** for 5m"))
		dana := h.dana()
		_, glass := h.breakGlass(dana, "/patients/7")
		h.audit.take()
		w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			time.Sleep(4 * time.Minute)
			if q.Context().Err() != nil {
				t.Error("ended early")
			}
			w.Write([]byte("x"))
		}))
		time.Sleep(2 * time.Minute)
		if h.audit.ends(t, 0); w.Code != 200 {
			t.Errorf("%d", w.Code)
		}
	})
}

// pipeWriter is a ResponseWriter whose connection can be taken.
type pipeWriter struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (w pipeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// G4, M6: a WebSocket ends with a close frame when the time is up.
func TestG4WebSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newQuietHospital(t, append(slices.Clone(rules), "break_glass role doctor on /patients/{patient}/** for 5m"))
		dana := h.dana()
		_, glass := h.breakGlass(dana, "/patients/7")
		server, client := net.Pipe()
		defer client.Close()
		start := time.Now()
		q := httptest.NewRequest("GET", "/patients/7/live", nil)
		q.Host, q.TLS = site, &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: site}
		q.Header.Set("Cookie", dana.cookie+"; "+glass)
		for line := range strings.SplitSeq(upgrade, "\r\n") {
			name, value, _ := strings.Cut(line, ": ")
			q.Header.Set(name, value)
		}
		ctx, gone := context.WithCancel(t.Context())
		go func() {
			h.gate.Handle(pipeWriter{httptest.NewRecorder(), server}, q.WithContext(ctx), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				go func() { // as a proxy, whose handler may be over before its tunnel
					io.WriteString(conn, switchingHead)
					io.Copy(io.Discard, rw)
					conn.Close()
				}()
			}))
			gone() // as net/http does
		}()
		all, err := io.ReadAll(client)
		if want := switchingHead + string(closeFrame(closePolicy, closeGlass)); string(all) != want || err != nil {
			t.Errorf("%q %v", all, err)
		}
		if took := time.Since(start); took < 5*time.Minute || took > 5*time.Minute+time.Second {
			t.Errorf("it took %s", took)
		}
		if end := h.audit.ends(t, 1)[0]; end.Reason != reasonGlassEnd {
			t.Errorf("record %+v", end)
		}
	})
}

// G11: a grant is one session's, on one site, under rules that are still there; it raises nothing and outlives no sign-out.
func TestG11GrantOfAnother(t *testing.T) {
	h := newHospital(t, glassRules)
	dana, other, nora, root := h.dana(), h.dana(), h.nurse(), h.admin()
	_, glass := h.breakGlass(dana, "/patients/7")
	denied := func(name, cookie string, want ...int) {
		t.Helper()
		if w := h.ask("GET", "/patients/7", cookie, never(t)); !slices.Contains(want, w.Code) {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	denied("another session of the same person", other.cookie+"; "+glass, 403)
	denied("another person", nora.cookie+"; "+glass, 403)
	denied("an administrator", root.cookie+"; "+glass, 403)
	denied("nobody", glass, 401)
	denied("half a session", strings.Split(dana.cookie, "; ")[0]+"; "+glass, 401)
	denied("two of them", dana.cookie+"; "+glass+"; "+glass, 403)
	denied("cut", dana.cookie+"; "+glass[:len(glass)-3], 403)
	changed := "A"
	if glass[60] == 'A' {
		changed = "B"
	}
	denied("a byte changed", dana.cookie+"; "+glass[:60]+changed+glass[61:], 403)
	denied("empty", dana.cookie+"; "+emergency.CookieName+"=", 403)
	denied("a session's token in its place", dana.cookie+"; "+emergency.CookieName+"="+strings.TrimPrefix(strings.Split(dana.cookie, "; ")[0], "__Host-anteroom="), 403)
	denied("lower case", dana.cookie+"; "+strings.ToLower(emergency.CookieName)+strings.TrimPrefix(glass, emergency.CookieName), 403)
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, nil); w.Code != 200 {
		t.Fatalf("the one it was given to: %d", w.Code)
	}
	for name, lines := range map[string][]string{
		"the line is gone":          rules,
		"for others now":            append(slices.Clone(rules), "break_glass role nurse GET,PUT on /patients/{patient}/** for 30m"),
		"a deny came":               append(slices.Clone(glassRules), "deny role doctor /patients/7/**"),
		"a level is required":       append(slices.Clone(glassRules), "require acr mfa /patients/**"),
		"other methods":             append(slices.Clone(rules), "break_glass role doctor PUT on /patients/{patient}/** for 30m"),
		"of another part":           append(slices.Clone(rules), "break_glass role doctor GET,PUT on /wards/{ward}/** for 30m"),
		"of a person that is known": append(slices.Clone(rules), "break_glass role doctor GET,PUT on /patients/{user}/** for 30m"),
	} {
		h.rules(lines)
		denied(name, dana.cookie+"; "+glass, 401, 403)
	}
	h.rules(glassRules, func(c *Config) { c.Emergency = nil })
	denied("nobody keeps the book", dana.cookie+"; "+glass, 403)
	h.rules(glassRules)
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, nil); w.Code != 200 {
		t.Errorf("the same rules again: %d", w.Code)
	}
	// On another site of the same ledger.
	s, cookies, err := h.sessions.Join(t.Context(), &session.Session{Grant: dana.session.Grant, ID: dana.session.ID, Started: dana.session.Started}, "other.example")
	if err != nil || s.ID != dana.session.ID {
		t.Fatal(err)
	}
	w := direct(h.gate, "GET", "/patients/7", func(q *http.Request) {
		q.Host, q.TLS.ServerName = "other.example", "other.example"
		q.Header.Set("Cookie", cookies[0].Name+"="+cookies[0].Value+"; "+cookies[1].Name+"="+cookies[1].Value+"; "+glass)
	}, never(t))
	if w.Code != 403 {
		t.Errorf("on another site: %d", w.Code)
	}
	if err := h.sessions.Revoke(t.Context(), dana.session.ID); err != nil {
		t.Fatal(err)
	}
	denied("after the sign-out", dana.cookie+"; "+glass, 401)
	fresh := h.dana()
	denied("after a new sign-in", fresh.cookie+"; "+glass, 403)
}

// Ended by its holder or rejected by a reviewer: over.
func TestG11Ended(t *testing.T) {
	h := newHospital(t, glassRules)
	dana := h.dana()
	id, glass := h.breakGlass(dana, "/patients/7")
	if _, err := h.ledger.End(t.Context(), emergency.End{ID: id, Session: dana.session.ID, Site: site, Cookies: []string{dana.cookie + "; " + glass}}); err != nil {
		t.Fatal(err)
	}
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, never(t)); w.Code != 403 {
		t.Errorf("the old cookie after the end: %d", w.Code)
	}
}

// Who is offered the form, and for what; and what the portal hears when it asks again.
func TestGlassOffered(t *testing.T) {
	h := newHospital(t, glassRules)
	dana, nora := h.dana(), h.nurse()
	for _, c := range []struct {
		name, method, target string
		who                  *person
		scope                string
	}{
		{"a doctor", "GET", "/patients/7/notes?a=b", dana, "/patients/7"},
		{"a doctor, HEAD", "HEAD", "/patients/7", dana, "/patients/7"},
		{"a form", "POST", "/patients/7/notes", dana, ""},
		{"a form that the line has", "PUT", "/patients/7/notes", dana, ""},
		{"another role", "GET", "/patients/7/notes", nora, ""},
		{"no patient", "GET", "/patients", dana, ""},
		{"no patient's name", "GET", "/patients/", dana, ""},
		{"another part", "GET", "/admin/x", dana, ""},
		{"what is denied", "GET", "/patients/7/sealed/x", dana, ""},
		{"what needs a level", "GET", "/patients/vip/x", dana, "/patients/vip"},
	} {
		h.shown = nil
		w := h.ask(c.method, c.target, c.who.cookie, never(t), "Accept: text/html", "Sec-Fetch-Mode: navigate")
		if w.Code != 403 || len(h.shown) != 1 {
			t.Fatalf("%s: %d %+v", c.name, w.Code, h.shown)
		}
		o := h.shown[0]
		if (o.Emergency != nil) != (c.scope != "") || o.Emergency != nil && (o.Emergency.Scope != c.scope || o.Emergency.Subject != strings.TrimPrefix(c.scope, "/patients/") || (o.Emergency.Need != nil) != (c.name == "what needs a level") || o.Emergency.For != 30*time.Minute) {
			t.Errorf("%s: %+v", c.name, o.Emergency)
		}
		if o.Kind != KindForbidden || o.Reason == "" || o.Session == nil {
			t.Errorf("%s: %+v", c.name, o)
		}
		if c.method == "GET" {
			if _, ok := h.asks(c.who, c.target); ok != (c.scope != "") {
				t.Errorf("%s: asked again: %t", c.name, ok)
			}
		}
	}
	// A program gets no form and no hint of one.
	h.shown = nil
	if w := h.ask("GET", "/patients/7", dana.cookie, never(t)); len(h.shown) != 0 || strings.Contains(w.Body.String(), "patient") {
		t.Errorf("a program: %s", w.Body)
	}
	for name, target := range map[string]string{
		"open already": "/patients/own", "public": "/public/x", "ours": "/.anteroom/session", "ambiguous": "/patients/7%2fx", "dots": "/patients/7/../8", "elsewhere": "https://evil.example/patients/7",
		"no path": "patients/7", "empty": "", "two slashes": "//patients/7",
	} {
		if e, ok := h.asks(dana, target); ok {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if e, ok := h.asks(dana, "/patients/7/notes?x=/patients/8#top"); !ok || e.Scope != "/patients/7" {
		t.Errorf("with a fragment: %+v", e)
	}
	q := httptest.NewRequest("POST", "/.anteroom/emergency", nil)
	q.Host = "other.example"
	if _, ok := h.gate.Emergency(q, dana.session, "/patients/7"); ok {
		t.Error("a session of another site")
	}
	if _, ok := h.gate.Emergency(q, nil, "/patients/7"); ok {
		t.Error("no session")
	}
	if _, ok := (*Gate)(nil).Emergency(q, dana.session, "/patients/7"); ok {
		t.Error("no gate")
	}
	h.rules(glassRules, func(c *Config) { c.Emergency = nil })
	if _, ok := h.asks(dana, "/patients/7"); ok {
		t.Error("nobody keeps the book")
	}
}

// Our own paths are not opened by any line, and where a new sign-in is enough, that is asked for and no glass is broken.
func TestGlassNotNeeded(t *testing.T) {
	h := newHospital(t, append(slices.Clone(rules), "allow role doctor /patients/{patient}/** acr mfa", "break_glass role doctor on /patients/{patient}/** /{part}/** for 5m"))
	dana := h.dana()
	if w := h.ask("GET", "/patients/7", dana.cookie, never(t)); w.Code != 401 || !strings.Contains(w.Body.String(), "step-up") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for _, target := range []string{"/patients/7", "/.anteroom/session", "/.anteroom"} {
		if e, ok := h.asks(dana, target); ok {
			t.Errorf("%s: %+v", target, e)
		}
	}
	if _, ok := h.asks(dana, "/wards/3"); !ok {
		t.Error("what the line is for")
	}
}

// A token is nobody's presence: it breaks no glass, and a grant beside it is not looked at.
func TestGlassAndTokens(t *testing.T) {
	d := &desk{}
	h := newHospital(t, glassRules, func(c *Config) { c.Bearer = d })
	d.fill(h.clock.now())
	d.tokens["t-read"].Grant.Roles = []string{"doctor"}
	dana := h.dana()
	_, glass := h.breakGlass(dana, "/patients/7")
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, never(t), "Authorization: Bearer t-read"); w.Code != 403 {
		t.Errorf("a token with a doctor's role: %d", w.Code)
	}
	if w := h.ask("GET", "/patients/7", dana.cookie+"; "+glass, nil); w.Code != 200 {
		t.Errorf("the session alone: %d", w.Code)
	}
}

// With nothing of it in the rules, the ledger is not asked.
func TestGlassNotAsked(t *testing.T) {
	h := newHospital(t, rules)
	h.gate.ledger = nil // whoever asks it panics
	dana := h.dana()
	if w := h.ask("GET", "/admin/x", dana.cookie+"; "+emergency.CookieName+"=x", never(t)); w.Code != 403 {
		t.Errorf("%d", w.Code)
	}
}
