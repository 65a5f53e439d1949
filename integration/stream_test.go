package integration

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// M6, M8: what runs when a person signs out stops: a viewer left open on a ward's screen must not go on showing data.
func TestStreamsEndWithTheSession(t *testing.T) {
	r := newRig(t, standard)
	r.dump.respond(t, streams)
	handshake := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
		"Origin: " + r.url(appHost, "")}
	for id, test := range map[string]struct {
		target string
		extra  []string
		first  string
	}{
		"M6 websocket":          {"/members/ws", handshake, "101 Switching Protocols"},
		"M8 server-sent events": {"/members/sse", []string{"Accept: text/event-stream"}, "200 OK"},
	} {
		t.Run(id, func(t *testing.T) {
			dana, other := r.person(t, appHost, "dana"), r.person(t, appHost, "dana")
			mine := r.open(t, test.target, dana, test.extra, test.first)
			theirs := r.open(t, test.target, other, test.extra, test.first)
			r.signOut(t, appHost, dana)
			signedOut := startWatch()
			mine.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, mine); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("the stream is still open %v after sign-out", patience)
			}
			if took := signedOut.elapsed(); signedOut.over(took, time.Second) {
				t.Errorf("the stream ended %v after sign-out, want at once", took)
			}
			theirs.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(theirs, make([]byte, 30)); err != nil {
				t.Errorf("the stream of another session of the same person was cut: %v", err)
			}
		})
	}
}

// A session's end cuts streams as a sign-out does, and no use of a session carries it past its absolute end.
func TestSessionEndsWithTheTime(t *testing.T) {
	t.Parallel() // a minute of waiting, beside the other tests that wait
	r := newRig(t, strings.Replace(standard, "anteroom {", "anteroom {\n\t\tsession {\n\t\t\tidle 1m\n\t\t\tabsolute 1m\n\t\t}", 1))
	r.dump.respond(t, streams)
	r.op.ready(t)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "dana", "dana-pw")
	began := time.Now()
	_, cookies := b.cookies(t, r.url(appHost, "/"))
	dana := &session{"dana", cookies[cookieToken], cookies[cookieContext]}
	conn := r.open(t, "/members/sse", dana, []string{"Accept: text/event-stream"}, "200 OK")
	for time.Since(began) < 45*time.Second {
		if p := b.do(t, call(t, "GET", r.url(appHost, "/members/x"), "")); p.Status != 200 {
			t.Fatalf("after %v the session is answered %d", time.Since(began), p.Status)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 100_000)); err != nil {
			t.Fatalf("after %v the stream broke: %v", time.Since(began), err)
		}
		time.Sleep(5 * time.Second)
	}
	last := startWatch() // the session ends a minute after the sign-in, which was a moment before began
	left := time.Until(began.Add(time.Minute))
	conn.SetReadDeadline(time.Now().Add(left + patience))
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("the stream is open %v after sign-in, the session's end was at 1 minute", time.Since(began))
	}
	if took := time.Since(began); took < 45*time.Second || last.over(last.elapsed()-left, 3*time.Second) {
		t.Errorf("the stream ended after %v, want 1 minute", took)
	}
	time.Sleep(time.Until(began.Add(61 * time.Second)))
	if p := b.do(t, call(t, "GET", r.url(appHost, "/members/x"), "")); p.Status != 401 {
		t.Errorf("past the absolute end the renewed session is answered %d", p.Status)
	}
	if status := r.status(t, appHost, "/members/x", dana); status != 401 {
		t.Errorf("past the absolute end the first token is answered %d", status)
	}
}

// open starts a stream and reads its head.
func (r *rig) open(t *testing.T, target string, who *session, extra []string, want string) *tls.Conn {
	t.Helper()
	conn := rawTLS(t, r.addr(), appHost)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, get(target, r.authority(appHost), append(extra, who.line())...))
	head := make([]byte, 12+len(want))
	if n, err := io.ReadFull(conn, head[:9+len(want)]); err != nil || !strings.Contains(string(head[:n]), want) {
		rest := make([]byte, 2000)
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		m, _ := conn.Read(rest)
		t.Fatalf("opening %s: %q %q, %v", target, head[:n], rest[:m], err)
	}
	return conn
}

// signOut posts the sign-out form with copied cookies.
func (r *rig) signOut(t testing.TB, host string, who *session) page {
	t.Helper()
	b := newBrowser(t)
	req := navigation(t, http.MethodPost, r.url(host, "/.anteroom/logout"), "")
	req.Header.Set("Cookie", strings.TrimPrefix(who.line(), "Cookie: "))
	p := b.do(t, req)
	if p.Status >= 400 {
		t.Fatalf("signing out: %d\n%s", p.Status, p.Body)
	}
	return p
}

// status sends one API request with copied cookies and returns its status.
func (r *rig) status(t testing.TB, host, target string, who *session) int {
	t.Helper()
	b := newBrowser(t)
	req := call(t, http.MethodGet, r.url(host, target), "")
	if line := who.line(); line != "" {
		req.Header.Set("Cookie", strings.TrimPrefix(line, "Cookie: "))
	}
	return b.do(t, req).Status
}
