package gate

import (
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// direct calls a gate without a network, over TLS 1.3 as far as it can see.
func direct(g *Gate, method, target string, change func(*http.Request), next http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Host, r.TLS = site, &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: site}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	if next == nil {
		next = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("app")) })
	}
	g.Handle(w, r, next)
	return w
}

func mustNew(t testing.TB, c Config) *Gate {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNewErrors(t *testing.T) {
	for name, c := range map[string]Config{
		"prefix without slash":        {Prefix: "anteroom/"},
		"prefix without end":          {Prefix: "/.anteroom"},
		"prefix is everything":        {Prefix: "/"},
		"prefix with an escape":       {Prefix: "/%41nteroom/"},
		"prefix with a dot segment":   {Prefix: "/../"},
		"origin with a path":          {AllowOrigins: []string{"https://portal.example/x"}},
		"origin without scheme":       {AllowOrigins: []string{"portal.example"}},
		"origin in upper case":        {AllowOrigins: []string{"https://Portal.example"}},
		"origin with its own port":    {AllowOrigins: []string{"https://portal.example:443"}},
		"plain origin with its port":  {AllowOrigins: []string{"http://portal.example:80"}},
		"negative time":               {OnStoreLoss: -time.Second},
		"second origin of two faulty": {AllowOrigins: []string{"https://ok.example", "*"}},
	} {
		if g, err := New(c); g != nil || err == nil || !strings.Contains(err.Error(), "write ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(Config{Prefix: "x", AllowOrigins: []string{"y", "z"}}); strings.Count(err.Error(), "creating gate: ") != 3 {
		t.Errorf("not every problem is named: %v", err)
	}
}

// Whatever is missing, nobody gets through.
func TestFailsClosed(t *testing.T) {
	sessions, _ := newSessions(t, time.Now)
	open := compile(t, "allow public")
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the app was reached") })
	for name, c := range map[string]Config{
		"nothing":     {},
		"no sessions": {Policy: open, Audit: audit.Off()},
		"no audit":    {Policy: open, Sessions: sessions},
		"not ready":   {Policy: open, Sessions: sessions, Audit: audit.Off(), Ready: func() bool { return false }},
	} {
		if w := direct(mustNew(t, c), "GET", "/", nil, never); w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	if w := direct(mustNew(t, Config{Sessions: sessions, Audit: audit.Off()}), "GET", "/", nil, never); w.Code != 401 {
		t.Errorf("no policy: %d", w.Code)
	}
	closed, _ := newSessions(t, time.Now)
	_, cookies, err := closed.Issue(t.Context(), session.Grant{Source: "s", Subject: "1"}, site, session.Admission{})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	w := direct(mustNew(t, Config{Policy: open, Sessions: closed, Audit: audit.Off()}), "GET", "/", func(r *http.Request) {
		r.Header["Cookie"] = []string{cookies[0].Name + "=" + cookies[0].Value + "; " + cookies[1].Name + "=" + cookies[1].Value}
	}, never)
	if w.Code != 503 {
		t.Errorf("closed session manager: %d", w.Code)
	}
}

func TestConnectionAddr(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.1:1": "192.0.2.1", "[::1]:1": "::1", "@": "@"} {
		if got := connectionAddr(&http.Request{RemoteAddr: addr}); got != want {
			t.Errorf("%q: %q", addr, got)
		}
	}
}

// The warning about a wrong transport comes at once, and then at most once a minute.
func TestMisdirectionIsLogged(t *testing.T) {
	var out strings.Builder
	c := &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	g := mustNew(t, Config{Now: c.now, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	for range 3 {
		g.misdirection.warn(nil)
	}
	c.add(time.Minute)
	g.misdirection.warn(&tls.ConnectionState{Version: tls.VersionTLS12})
	if got := out.String(); strings.Count(got, "level=WARN") != 2 || !strings.Contains(got, "tls=none") || !strings.Contains(got, `tls="TLS 1.2" not_logged_before=2`) {
		t.Errorf("logged:\n%s", got)
	}
}

func TestTransport(t *testing.T) {
	sessions, _ := newSessions(t, time.Now)
	rec := &recorder{}
	g := mustNew(t, Config{Policy: compile(t, "allow public"), Sessions: sessions, Audit: rec})
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the app was reached") })
	for name, c := range map[string]struct {
		state *tls.ConnectionState
		want  int
	}{
		"plain HTTP":    {nil, 421},
		"TLS 1.2":       {&tls.ConnectionState{Version: tls.VersionTLS12, HandshakeComplete: true}, 421},
		"no version":    {&tls.ConnectionState{HandshakeComplete: true}, 421},
		"H21 early":     {&tls.ConnectionState{Version: tls.VersionTLS13}, 425},
		"other SNI":     {&tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: "other.example"}, 421},
		"SNI of a part": {&tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: "app.exampl"}, 421},
	} {
		w := direct(g, "GET", "/", func(r *http.Request) { r.TLS = c.state }, never)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
		if got := w.Header().Get("Strict-Transport-Security"); (got != "") != (c.state != nil) {
			t.Errorf("%s: HSTS %q", name, got)
		}
		if events := rec.take(); len(events) != 1 || events[0].Decision == "allowed" {
			t.Errorf("%s: events %+v", name, events)
		}
	}
	if w := direct(g, "GET", "/", func(r *http.Request) { r.TLS.ServerName = "APP.example" }, nil); w.Code != 200 {
		t.Errorf("SNI in another case: %d", w.Code)
	}
	if w := direct(g, "GET", "/", func(r *http.Request) { r.TLS.ServerName = "" }, nil); w.Code != 200 {
		t.Errorf("no SNI: %d", w.Code)
	}
}

// Without a session every path that is not public answers alike (S11, S16).
func TestNoSessionIsOneAnswer(t *testing.T) {
	r := newRig(t)
	page := func(h http.Header) { h.Set("Accept", "text/html,*/*;q=0.8"); h.Set("Sec-Fetch-Mode", "navigate") }
	for _, target := range []string{"/members/x", "/members/Closed/x", "/nothing", "/admin/x", "/own/dana/x", "/%61dmin"} {
		w := direct(r.gate, "GET", target, nil, nil)
		if w.Code != 401 || w.Header().Get("WWW-Authenticate") != `Anteroom uri="/.anteroom/login"` || w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", target, w.Code, w.Header())
		}
		var problem struct {
			Type, Title, Detail, Ref string
			Status                   int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Type != "urn:anteroom:problem:no-session" || problem.Status != 401 || len(problem.Ref) != 10 {
			t.Errorf("%s: %s %v", target, w.Body, err)
		}
		w = direct(r.gate, "GET", target+"?a=b&c", func(q *http.Request) { page(q.Header) }, nil)
		if want := "/.anteroom/login?return_to=" + url.QueryEscape(target+"?a=b&c"); w.Code != 302 || w.Header().Get("Location") != want || w.Body.Len() != 0 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", target, w.Code, w.Header())
		}
	}
	w := direct(r.gate, "GET", "/members/"+strings.Repeat("a", 1020), func(q *http.Request) { page(q.Header) }, nil)
	if w.Code != 302 || w.Header().Get("Location") != "/.anteroom/login?return_to=%2F" {
		t.Errorf("long path: %d %v", w.Code, w.Header())
	}
	// S12: a form that comes too late is not sent again.
	w = direct(r.gate, "POST", "/members/x", func(q *http.Request) { page(q.Header) }, nil)
	if w.Code != 303 || w.Header().Get("Location") != "/.anteroom/login?return_to=%2F" {
		t.Errorf("S12: %d %v", w.Code, w.Header())
	}
	for _, e := range r.audit.take() {
		if e.Decision != "denied" || e.Reason != "no-session" || e.Rule != "" || e.Route != "" || e.Name != "" || e.Ref == "" || e.Site != site || e.Client != "192.0.2.1" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestIsAPIClient(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  bool
	}{
		"browser":            {[]string{"Sec-Fetch-Mode: navigate", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"}, false},
		"old browser":        {[]string{"Accept: application/xml, Text/HTML"}, false},
		"two Accept lines":   {[]string{"Accept: image/png", "Accept: text/html"}, false},
		"nothing":            {nil, true},
		"curl":               {[]string{"Accept: */*"}, true},
		"fetch":              {[]string{"Sec-Fetch-Mode: cors", "Accept: text/html"}, true},
		"XHR":                {[]string{"X-Requested-With: XMLHttpRequest", "Accept: text/html"}, true},
		"WebSocket":          {[]string{"Upgrade: websocket", "Accept: text/html"}, true},
		"navigate, no HTML":  {[]string{"Sec-Fetch-Mode: navigate", "Accept: */*"}, true},
		"image":              {[]string{"Sec-Fetch-Mode: no-cors", "Accept: image/*"}, true},
		"JSON":               {[]string{"Accept: application/json"}, true},
		"empty fetch header": {[]string{"Sec-Fetch-Mode: ", "Accept: text/html"}, true},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		for _, line := range c.lines {
			k, v, _ := strings.Cut(line, ": ")
			r.Header.Add(k, v)
		}
		if IsAPIClient(r) != c.want {
			t.Errorf("%s: not %t", name, c.want)
		}
	}
}

// Each kind of refusal to a program and to a person.
func TestRefusals(t *testing.T) {
	var shown []Outcome
	r := newRig(t, func(c *Config) {
		c.Deny = func(w http.ResponseWriter, _ *http.Request, o Outcome) {
			shown = append(shown, o)
			w.WriteHeader(o.Status)
		}
	})
	dana := r.dana()
	for _, c := range []struct {
		method, target string
		header         string
		kind           Kind
		want           int
		extra          string
	}{
		{"GET", "/admin/x", "", KindForbidden, 403, ""},
		{"GET", "/members/closed/x", "", KindForbidden, 403, ""},
		{"GET", "/members/%2e%2e/x", "", KindAmbiguousPath, 400, ""},
		{"TRACE", "/members/x", "", KindMethod, 405, "Allow"},
		{"POST", "/members/x", "Sec-Fetch-Site: cross-site", KindCrossOrigin, 403, ""},
	} {
		ask := func(html bool) *httptest.ResponseRecorder {
			return direct(r.gate, c.method, c.target, func(q *http.Request) {
				q.Header.Set("Cookie", dana.cookie)
				if html {
					q.Header.Set("Accept", "text/html")
				}
				if k, v, ok := strings.Cut(c.header, ": "); ok {
					q.Header.Set(k, v)
				}
			}, nil)
		}
		shown = nil
		w := ask(false)
		if w.Code != c.want || len(shown) != 0 || !strings.Contains(w.Body.String(), `"urn:anteroom:problem:`+string(c.kind)+`"`) {
			t.Errorf("%s for a program: %d %s", c.kind, w.Code, w.Body)
		}
		if c.extra != "" && w.Header().Get(c.extra) == "" || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Strict-Transport-Security") != hsts {
			t.Errorf("%s: %v", c.kind, w.Header())
		}
		events := r.audit.take()
		if len(events) != 1 || events[0].Decision != "denied" || !strings.Contains(w.Body.String(), events[0].Ref) {
			t.Errorf("%s: events %+v", c.kind, events)
		}
		w = ask(true)
		events = r.audit.take()
		if w.Code != c.want || len(shown) != 1 || shown[0].Kind != c.kind || shown[0].Status != c.want || len(events) != 1 || shown[0].Ref != events[0].Ref {
			t.Errorf("%s for a person: %d %+v", c.kind, w.Code, shown)
		}
		if (c.kind == KindForbidden) != (shown[0].Session != nil) {
			t.Errorf("%s: session %v", c.kind, shown[0].Session)
		}
		// No record, no answer but an outage.
		r.audit.setFail(true)
		if w := ask(false); w.Code != 503 {
			t.Errorf("%s without a record: %d", c.kind, w.Code)
		}
		r.audit.setFail(false)
	}
	g := mustNew(t, Config{Policy: compile(t, rules...), Sessions: r.sessions, Audit: audit.Off()})
	w := direct(g, "GET", "/x%00", func(q *http.Request) { q.Header.Set("Accept", "text/html") }, nil)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "Reference: ") {
		t.Errorf("without a Deny: %d %s", w.Code, w.Body)
	}
}

func TestAuditedBeforeTheApp(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	cookie := func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }
	reached := false
	app := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		reached = true
		if len(r.audit.events) != 1 {
			t.Error("the app was reached before the record was taken")
		}
	})
	if direct(r.gate, "GET", "/own/dana/secret?q=1", cookie, app); !reached {
		t.Fatal("not reached")
	}
	want := audit.Event{Kind: "request", Source: "test", Subject: "sub-dana", Name: "dana", Session: audit.SessionLabel(dana.session.ID), Site: site, Method: "GET",
		Route: "/own/{user}/**", Path: "/own/{user}/*", Decision: "allowed", Rule: "allow role doctor /members/** /own/{user}/** (Caddyfile:3)", Reason: "allowed", Client: "192.0.2.1"}
	got := r.audit.take()[0]
	if len(got.Ref) != 10 || strings.Join(got.Roles, " ") != "doctor staff" {
		t.Errorf("event %+v", got)
	}
	got.Ref, got.Roles = "", nil
	if a, b := mustJSON(t, got), mustJSON(t, want); a != b {
		t.Errorf("event %s\nwant  %s", a, b)
	}
	r.audit.setFail(true)
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the app was reached") })
	if w := direct(r.gate, "GET", "/members/x", cookie, never); w.Code != 503 {
		t.Errorf("no record: %d", w.Code)
	}
	if w := direct(r.gate, "GET", "/public/x", cookie, never); w.Code != 503 {
		t.Errorf("no record on a public path with a session: %d", w.Code)
	}
	if w := direct(r.gate, "GET", "/public/x", nil, nil); w.Code != 200 {
		t.Errorf("a public path needs no record: %d", w.Code)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The store falls silent: sessions cannot be checked, so that they are not accepted, on public paths either.
func TestStaleStore(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	r.store.set(true)
	r.clock.add(31 * time.Second)
	for _, target := range []string{"/members/x", "/public/x"} {
		if w := direct(r.gate, "GET", target, func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, nil); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	if w := direct(r.gate, "GET", "/public/x", nil, nil); w.Code != 200 {
		t.Errorf("public without a session: %d", w.Code)
	}
}

func TestPortal(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	var cookie string
	g := mustNew(t, Config{Policy: compile(t, "allow role admin"), Sessions: r.sessions, Audit: audit.Off(), Portal: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		cookie = q.Header.Get("Cookie")
		w.Write([]byte("portal " + q.RequestURI))
	})})
	for _, target := range []string{"/.anteroom/", "/.anteroom", "/.anteroom/login?return_to=/x", "/.anteroom/nothing"} {
		w := direct(g, "GET", target, func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, nil)
		if w.Code != 200 || w.Body.String() != "portal "+target || w.Header().Get("Strict-Transport-Security") != hsts || cookie != dana.cookie {
			t.Errorf("%s: %d %s, cookie %q", target, w.Code, w.Body, cookie)
		}
	}
	for _, target := range []string{"/.ANTEROOM/login", "/%2eanteroom/login", "/.anteroom%2flogin", "/.Anteroom", "/.%61nteroom/x"} {
		if w := direct(g, "GET", target, nil, nil); w.Code != 400 {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	if w := direct(g, "GET", "/.anteroomx", nil, nil); w.Code != 401 {
		t.Errorf("a neighbour: %d", w.Code)
	}
	if w := direct(g, "POST", "/.anteroom/logout", func(q *http.Request) { q.Header.Set("Origin", "https://evil.example") }, nil); w.Code != 403 {
		t.Errorf("S3 sign-out from another origin: %d", w.Code)
	}
	bare := mustNew(t, Config{Policy: compile(t, "allow public"), Sessions: r.sessions, Audit: audit.Off(), Prefix: "/door/"})
	if w := direct(bare, "GET", "/door/x", nil, nil); w.Code != 404 {
		t.Errorf("no portal: %d", w.Code)
	}
	if w := direct(bare, "GET", "/.anteroom/x", nil, nil); w.Code != 200 {
		t.Errorf("another prefix: %d", w.Code)
	}
}
