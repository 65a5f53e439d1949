package gate

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

const site = "app.example"

// rules is the policy of the bypass tables.
var rules = []string{"allow public / /public/**", "allow role admin /admin/**", "allow role doctor /members/** /own/{user}/**", "deny any /members/Closed/**"}

func compile(t testing.TB, texts ...string) *policy.Policy {
	t.Helper()
	var lines []policy.Line
	for i, text := range texts {
		lines = append(lines, policy.Line{Words: strings.Fields(text), At: fmt.Sprintf("Caddyfile:%d", i+1)})
	}
	p, err := policy.Compile(lines)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// clock is a time that tests set.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// silence is a store that can stop answering.
type silence struct {
	store.Store
	sealer session.Sealer
	mu     sync.Mutex
	mute   bool
}

func (s *silence) set(mute bool) { s.mu.Lock(); s.mute = mute; s.mu.Unlock() }

func (s *silence) After(ctx context.Context, cursor string, limit int) ([]store.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return nil, store.ErrUnavailable
	}
	return s.Store.After(ctx, cursor, limit)
}

// newSessions makes a running session manager.
func newSessions(t testing.TB, now func() time.Time) (*session.Manager, *silence) {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "db", "store.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	master, err := envelope.OpenLocal(filepath.Join(dir, "key", "master"))
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := envelope.Start(t.Context(), envelope.Config{Name: "own", Master: master, Store: db})
	if err != nil {
		t.Fatal(err)
	}
	quiet := &silence{Store: db, sealer: sealer}
	return running(t, session.Config{Store: quiet, Sealer: sealer, Now: now}), quiet
}

func running(t testing.TB, c session.Config) *session.Manager {
	t.Helper()
	m, err := session.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// recorder is an audit log in memory.
type recorder struct {
	mu     sync.Mutex
	events []audit.Event
	fail   bool
}

func (r *recorder) Record(_ context.Context, e audit.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail {
		return audit.ErrUnavailable
	}
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) take() []audit.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.events
	r.events = nil
	return list
}

// ends takes the records of requests that were cut, as soon as there are that many, and fails when there are more.
func (r *recorder) ends(t testing.TB, want int) (ends []audit.Event) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d records of cut requests", want), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		ends = slices.Clone(r.events)
		ends = slices.DeleteFunc(ends, func(e audit.Event) bool { return e.Kind != "stream" })
		return len(ends) >= want
	})
	if len(ends) > want {
		t.Fatalf("%d records of cut requests, want %d", len(ends), want)
	}
	return ends
}

// eventually waits for what another goroutine does, for at most ten seconds.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	tick, end := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for !happened() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func (r *recorder) setFail(fail bool) { r.mu.Lock(); r.fail = fail; r.mu.Unlock() }

// received is one request as the app got it.
type received struct {
	Method, Target, Host, Body string
	Header, Trailer            http.Header
}

// rig is a gate behind a real TLS server and before a real proxy and app.
type rig struct {
	t        testing.TB
	clock    *clock
	sessions *session.Manager
	store    *silence
	audit    *recorder
	server   *httptest.Server
	gate     *Gate
	rows     int
	verify   bool         // a renewal asks the source of who signs in
	app      http.Handler // what the app does after writing down the request; nil: 200 and "app"

	mu   sync.Mutex
	seen []received
}

func (r *rig) take() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.seen
	r.seen = nil
	return list
}

// serve puts a gate with another way on before a TLS server of its own.
func (r *rig) serve(next http.Handler) *rig {
	other := &rig{t: r.t, clock: r.clock, sessions: r.sessions, store: r.store, audit: r.audit, gate: r.gate}
	other.server = listen(r.t, func(w http.ResponseWriter, req *http.Request) { r.gate.Handle(w, req, next) })
	return other
}

func listen(t testing.TB, f http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(f)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (r *rig) upstream(w http.ResponseWriter, req *http.Request) {
	got := received{Method: req.Method, Target: req.RequestURI, Host: req.Host, Header: req.Header.Clone()}
	if req.Header.Get("Upgrade") == "" {
		body, err := io.ReadAll(req.Body)
		got.Body, got.Trailer = string(body), req.Trailer.Clone()
		if err != nil {
			got.Body = "aborted"
		}
	}
	r.mu.Lock()
	r.seen = append(r.seen, got)
	r.mu.Unlock()
	if r.app != nil {
		r.app.ServeHTTP(w, req)
		return
	}
	io.WriteString(w, "app")
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, clock: &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}, audit: &recorder{}}
	r.sessions, r.store = newSessions(t, r.clock.now)
	app := httptest.NewServer(http.HandlerFunc(r.upstream))
	t.Cleanup(app.Close)
	target, _ := url.Parse(app.URL)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		// As Caddy does it: only scheme and host change, Host stays.
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = target.Scheme, target.Host, p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery // httputil drops parameters that it cannot parse
		},
		Transport: transport, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	c := Config{
		Policy: compile(t, rules...), Sessions: r.sessions, Audit: r.audit, Now: r.clock.now,
		Portal: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "portal "+req.URL.Path) }),
	}
	for _, f := range change {
		f(&c)
	}
	var err error
	if r.gate, err = New(c); err != nil {
		t.Fatal(err)
	}
	r.server = listen(t, func(w http.ResponseWriter, req *http.Request) { r.gate.Handle(w, req, proxy) })
	return r
}

// person is somebody who signed in.
type person struct {
	session *session.Session
	cookie  string // a Cookie line's value
}

func (r *rig) signIn(g session.Grant) *person {
	r.t.Helper()
	g.Source = "test"
	if g.Subject == "" {
		g.Subject = "sub-" + g.Username
	}
	s, cookies, err := r.sessions.Issue(context.Background(), g, site, session.Admission{Verify: r.verify})
	if err != nil {
		r.t.Fatal(err)
	}
	return &person{session: s, cookie: cookies[0].Name + "=" + cookies[0].Value + "; " + cookies[1].Name + "=" + cookies[1].Value}
}

func (r *rig) admin() *person {
	return r.signIn(session.Grant{Username: "root", Name: "Root Admin", Email: "root@example.org", Roles: []string{"admin"}})
}

// dana has neither a name nor an e-mail address.
func (r *rig) dana() *person {
	return r.signIn(session.Grant{Username: "dana", Roles: []string{"doctor", "staff"}})
}

// dial opens a TLS connection for raw HTTP/1.1.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.server.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: site, NextProtos: []string{"http/1.1"}})
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// reply is one answer to a raw request.
type reply struct {
	*http.Response
	body string
}

// send writes raw bytes and reads all answers until the connection ends; the last request has to ask for that.
func (r *rig) send(raw string) []reply {
	r.t.Helper()
	conn := r.dial()
	defer conn.Close()
	go io.WriteString(conn, raw)
	in := bufio.NewReader(conn)
	var list []reply
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return list
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		list = append(list, reply{resp, string(body)})
		if resp.Close || resp.StatusCode == http.StatusSwitchingProtocols {
			return list
		}
	}
}

// request builds a raw request that ends its connection.
func request(method, target string, who *person, lines ...string) string {
	raw := method + " " + target + " HTTP/1.1\r\nHost: " + site + "\r\n"
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.ToLower(l), "connection:") }) {
		raw += "Connection: close\r\n"
	}
	if who != nil {
		raw += "Cookie: " + who.cookie + "\r\n"
	}
	for _, line := range lines {
		raw += line + "\r\n"
	}
	return raw + "\r\n"
}

// row is one line of an attack table: what is sent, who sends it, which status may come back.
type row struct {
	raw    string
	target string // of a request that may be forwarded; empty: nothing may be
	who    *person
	want   []int
}

// attack sends a row and checks the four invariants of the tables.
func (r *rig) attack(t *testing.T, a row) ([]reply, []received) {
	t.Helper()
	r.take()
	// A request that the proxy gave up can reach the app after its answer; the mark tells whose it is.
	r.rows++
	mark := fmt.Sprint(r.rows)
	replies := r.send(strings.Replace(a.raw, "\r\n\r\n", "\r\nX-Row: "+mark+"\r\n\r\n", 1))
	got := slices.DeleteFunc(r.take(), func(g received) bool { m := g.Header.Get("X-Row"); return m != "" && m != mark })
	if len(replies) == 0 {
		t.Fatal("no answer")
	}
	for _, reply := range replies {
		if !slices.Contains(a.want, reply.StatusCode) {
			t.Errorf("status %d, want %v", reply.StatusCode, a.want)
		}
		if byGate := !slices.Contains([]int{400, 417, 501}, reply.StatusCode); byGate && reply.Header.Get("Strict-Transport-Security") != hsts {
			t.Errorf("no HSTS in %d: %q", reply.StatusCode, reply.Header["Strict-Transport-Security"])
		}
	}
	sent := strings.Count(a.raw, " HTTP/1.1\r\n") + strings.Count(a.raw, " HTTP/1.0\r\n")
	if len(got) > sent { // invariant 4
		t.Errorf("%d requests sent, %d received by the app", sent, len(got))
	}
	for _, g := range got {
		if g.Target != a.target { // invariant 1
			t.Errorf("the app received %q, judged was %q", g.Target, a.target)
		}
		public := g.Target == "/" || strings.HasPrefix(g.Target, "/?") || strings.HasPrefix(g.Target, "/public")
		if a.who == nil && !public { // invariant 3
			t.Errorf("the app received %s %q without a session", g.Method, g.Target)
		}
		checkIdentity(t, g, a.who) // invariant 2
		if strings.Contains(fmt.Sprint(g.Header, g.Trailer), "__Host-anteroom") {
			t.Errorf("a half of a session reached the app: %v", g.Header)
		}
	}
	return replies, got
}

// claims is the part of an assertion that the gate answers for.
type claims struct {
	Audience string `json:"aud"`
	Username string `json:"preferred_username"`
}

// assertionOf reads an assertion without verifying it.
func assertionOf(h http.Header) (c claims) {
	parts := strings.Split(h.Get("Anteroom-Assertion"), ".")
	if len(parts) != 3 {
		return c
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &c) != nil {
		return claims{}
	}
	return c
}

// checkIdentity is invariant 2, over every name that could be read as an identity header.
func checkIdentity(t *testing.T, g received, who *person) {
	t.Helper()
	want := map[string]string{}
	if who != nil {
		s := who.session
		for name, value := range map[string]string{"Remote-User": s.Username, "Remote-Groups": strings.Join(s.Roles, ","), "Remote-Name": s.Name, "Remote-Email": s.Email} {
			if value != "" {
				want[name] = value
			}
		}
	}
	if who != nil { // signed each time, and for this site
		if claims := assertionOf(g.Header); claims.Audience != site || claims.Username != who.session.Username {
			t.Errorf("Anteroom-Assertion says %+v: %q", claims, g.Header["Anteroom-Assertion"])
		}
		want["Anteroom-Assertion"] = g.Header.Get("Anteroom-Assertion")
	}
	for name, value := range want {
		if !slices.Equal(g.Header[name], []string{value}) {
			t.Errorf("%s is %q, want %q once", name, g.Header[name], value)
		}
	}
	for _, h := range []http.Header{g.Header, g.Trailer} {
		for name, values := range h {
			if _, ours := want[name]; !ours && isSpoofable(name) {
				t.Errorf("the app received %s: %q", name, values)
			}
		}
	}
	if len(g.Trailer) > 0 {
		t.Errorf("the app received trailers: %v", g.Trailer)
	}
}
