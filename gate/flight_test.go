package gate

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// fetch sends a request as a client of that protocol, whose connection is its own.
func (r *rig) fetch(protocol int, who *person, lines ...string) (*http.Response, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: site}, ForceAttemptHTTP2: protocol == 2}
	if protocol == 1 {
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	r.t.Cleanup(transport.CloseIdleConnections)
	q, err := http.NewRequest("GET", r.server.URL+"/members/stream", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	q.Host = site
	q.Header.Set("Cookie", who.cookie)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		q.Header.Set(name, value)
	}
	return transport.RoundTrip(q)
}

// A download that waits for a client which does not read ends at once, over HTTP/1.1 and HTTP/2, and so does an app that only waits.
func TestBlockedWriteEnds(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", protocol), func(t *testing.T) {
			r := newRig(t)
			progress, returned := make(chan struct{}, 1), make(chan struct{})
			app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				defer close(returned)
				if q.ProtoMajor != protocol {
					t.Errorf("HTTP/%d", q.ProtoMajor)
				}
				var err error
				for block := make([]byte, 1<<16); err == nil; { // it does not look at its context
					_, err = w.Write(block)
					select {
					case progress <- struct{}{}:
					default:
					}
				}
				if http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour)) == nil {
					t.Error("the app has moved the end")
				}
				if _, err := w.Write([]byte("more")); err == nil {
					t.Error("written after the end")
				}
			}))
			dana := r.dana()
			resp, err := app.fetch(protocol, dana)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			stalled(progress)
			start := r.revoke(dana)
			<-returned
			if took := time.Since(start); took > within {
				t.Errorf("it took %s", took)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Error("half an answer looks like a whole one")
			}
			if end := r.audit.ends(t, 1)[0]; end.Decision != "ended" || end.Session != audit.SessionLabel(dana.session.ID) {
				t.Errorf("record %+v", end)
			}
		})
	}
}

// An app that returns in peace when its context ends has made half an answer, and it looks like half of one.
func TestHalfAnswerIsNoAnswer(t *testing.T) {
	for _, protocol := range []int{1, 2} {
		t.Run(fmt.Sprintf("HTTP/%d", protocol), func(t *testing.T) {
			r := newRig(t)
			app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				io.WriteString(w, "data: 1\n\n")
				http.NewResponseController(w).Flush()
				<-q.Context().Done()
				io.WriteString(w, "data: secret\n\n")
				http.NewResponseController(w).Flush()
			}))
			dana := r.dana()
			resp, err := app.fetch(protocol, dana, "Accept: text/event-stream")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			in := bufio.NewReader(resp.Body)
			if first, err := in.ReadString('\n'); err != nil || first != "data: 1\n" {
				t.Fatalf("%q %v", first, err)
			}
			start := r.revoke(dana)
			rest, err := io.ReadAll(in)
			if took := time.Since(start); err == nil || took > within || strings.Contains(string(rest), "secret") {
				t.Errorf("after %s: %q %v", took, rest, err)
			}
		})
	}
}

// Where the writer has no deadlines, or takes what was written for a whole answer, the server still hears that it is none.
func TestHalfAnswerIsAborted(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("recovered %v", got)
		}
		r.audit.ends(t, 1)
	}()
	direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		io.WriteString(w, "half")
		r.revoke(dana)
		<-q.Context().Done()
	}))
	t.Error("it looks like a whole one")
}

// An app that has not begun to answer when the session ends cannot begin any more: the client gets what its next request would get,
// and nothing of the app's headers.
func TestAnswerThatComesTooLate(t *testing.T) {
	for name, c := range map[string]struct {
		end      func(*rig, *person)
		line     string
		want     int
		location string
	}{
		"program":  {func(r *rig, p *person) { r.revoke(p) }, "Accept: application/json", 401, ""},
		"person":   {func(r *rig, p *person) { r.revoke(p) }, "Accept: text/html", 302, "/.anteroom/login?return_to=%2Fmembers%2Fstream"},
		"shutdown": {func(r *rig, _ *person) { r.sessions.Close() }, "Accept: application/json", 503, ""},
	} {
		for _, protocol := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s HTTP/%d", name, protocol), func(t *testing.T) {
				r := newRig(t)
				dana := r.dana()
				app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					c.end(r, dana)
					<-q.Context().Done()
					w.Header().Set("X-Secret", "1")
					w.Header().Set("Set-Cookie", "secret=1")
					w.Header().Set("Content-Length", "6")
					w.WriteHeader(http.StatusEarlyHints)
					w.WriteHeader(http.StatusOK)
					if _, err := io.WriteString(w, "secret"); err == nil {
						t.Error("written")
					}
					if _, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("secret")); err == nil {
						t.Error("copied")
					}
					if http.NewResponseController(w).Flush() == nil {
						t.Error("flushed")
					}
					if name == "program" {
						panic(http.ErrAbortHandler) // as a proxy that could not pass on what its upstream said
					}
				}))
				resp, err := app.fetch(protocol, dana, c.line)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != c.want || resp.Header.Get("Location") != c.location || resp.Header.Get("Strict-Transport-Security") != hsts || err != nil {
					t.Errorf("%d %v %v", resp.StatusCode, resp.Header, err)
				}
				if resp.Header.Get("X-Secret") != "" || resp.Header.Get("Set-Cookie") != "" || strings.Contains(string(body), "secret") {
					t.Errorf("of the app: %v %q", resp.Header, body)
				}
				ref := r.audit.ends(t, 1)[0].Ref
				if c.location == "" && !strings.Contains(string(body), ref) {
					t.Errorf("%s is not in %s", ref, body)
				}
			})
		}
	}
}

// An app that gave up without a word because its request was cut is not to be blamed: the answer is the gate's. One that gave up
// by itself leaves the answer to whoever called the gate.
func TestAppThatGivesUp(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	server := &rig{t: t, server: listen(t, func(w http.ResponseWriter, q *http.Request) {
		own := r.gate.Handle(w, q, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
			if q.URL.Path == "/members/cut" {
				r.revoke(dana)
				<-q.Context().Done()
			}
		}))
		if !own {
			w.WriteHeader(http.StatusBadGateway)
		}
	})}
	for _, c := range []struct {
		path string
		want int
	}{{"/members/gone", 502}, {"/members/cut", 401}, {"/members/after", 401}} {
		if replies := server.send(request("GET", c.path, dana)); len(replies) != 1 || replies[0].StatusCode != c.want {
			t.Errorf("%s: answers %+v, want %d", c.path, replies, c.want)
		}
	}
}

// leftAlone is a ResponseWriter that nobody may touch after the handler has returned, as HTTP/2's, which panics.
type leftAlone struct {
	http.ResponseWriter
	t        *testing.T
	returned atomic.Bool
	deadline atomic.Int64
}

func (l *leftAlone) SetWriteDeadline(time.Time) error {
	if l.returned.Load() {
		l.t.Error("the writer was touched after the handler had returned")
	}
	l.deadline.Add(1)
	return nil
}

// The end of a session and the end of an answer at the same moment: the writer is not touched afterwards, and the record says that
// the request was cut exactly when it was.
func TestWriterIsLeftAlone(t *testing.T) {
	r := newRig(t)
	cut := 0
	for range 300 {
		dana := r.dana()
		w := &leftAlone{ResponseWriter: httptest.NewRecorder(), t: t}
		q := httptest.NewRequest("GET", "/members/x", nil)
		q.Host, q.TLS = site, &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: site}
		q.Header.Set("Cookie", dana.cookie)
		var both sync.WaitGroup
		func() {
			defer w.returned.Store(true)
			defer func() {
				if got := recover(); got != nil && got != http.ErrAbortHandler {
					t.Errorf("recovered %v", got)
				}
			}()
			r.gate.Handle(w, q, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, "x")
				both.Go(func() { r.revoke(dana) })
			}))
		}()
		both.Wait()
		if w.deadline.Load() > 0 {
			cut++
		}
	}
	r.audit.ends(t, cut)
	if h := r.sessions.Health(); h.Watchers != 0 {
		t.Errorf("%d requests are still watched", h.Watchers)
	}
}

// Who has left is not cut: a client that hung up before the session ended, and an answer that was complete.
func TestNothingToCut(t *testing.T) {
	r := newRig(t)
	gone, end := make(chan struct{}), make(chan struct{})
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-q.Context().Done()
		close(gone)
		<-end // and the app takes its time
	}))
	dana := r.dana()
	conn := app.dial()
	io.WriteString(conn, request("GET", "/members/x", dana, "Connection: keep-alive"))
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-gone
	r.revoke(dana)
	close(end)
	eventually(t, "nothing is watched", func() bool { return r.sessions.Health().Watchers == 0 })
	who := r.dana()
	r.attack(t, row{raw: request("GET", "/members/x", who), target: "/members/x", who: who, want: []int{200}})
	r.revoke(who)
	r.audit.ends(t, 0)
}

// K: an answer that was complete and flushed when the session ended leaves its connection in order for the next person.
func TestNextRequestAfterACut(t *testing.T) {
	r := newRig(t)
	dana, root := r.dana(), r.admin()
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("Remote-User") == "dana" {
			r.revoke(dana)
			<-q.Context().Done()
		}
		io.WriteString(w, q.Header.Get("Remote-User"))
	}))
	replies := app.send(request("GET", "/members/x", dana, "Connection: keep-alive") + request("GET", "/admin/x", root))
	if len(replies) != 2 || replies[0].StatusCode != 401 || replies[1].StatusCode != 200 || replies[1].body != "root" {
		t.Errorf("answers %+v", replies)
	}
}

// Every request of the session ends, and those of nobody else; the reason stands in the record.
func TestCutReasons(t *testing.T) {
	for want, end := range map[string]func(*rig, *person){
		"revoked": func(r *rig, p *person) { r.revoke(p) },
		"silent":  func(r *rig, _ *person) { r.store.set(true); r.clock.add(31 * time.Second) },
		"closed":  func(r *rig, _ *person) { r.sessions.Close() },
		"expired": func(r *rig, _ *person) { r.clock.add(16 * time.Minute) },
	} {
		t.Run(want, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				if want == "expired" { // the clock's leap is a silence as well
					c.OnStoreLoss = time.Hour
				}
			})
			r.app = echo
			dana := r.dana()
			conn := r.dial()
			defer conn.Close()
			io.WriteString(conn, request("GET", "/members/x", dana, "Accept: text/event-stream", "Connection: keep-alive"))
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatal(err)
			}
			end(r, dana)
			if e := r.audit.ends(t, 1)[0]; e.Reason != want {
				t.Errorf("reason %q, want %q", e.Reason, want)
			}
		})
	}
}

// A log that is full does not keep a request alive; one that is switched off is not asked.
func TestCutWithoutALog(t *testing.T) {
	r := newRig(t)
	for name, log := range map[string]audit.Recorder{"off": audit.Off(), "failing": r.audit} {
		g := mustNew(t, Config{Policy: compile(t, rules...), Sessions: r.sessions, Audit: log})
		dana := r.dana()
		w := direct(g, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			r.audit.setFail(true)
			r.revoke(dana)
			<-q.Context().Done()
			if cause := context.Cause(q.Context()); !errors.Is(cause, session.ErrNone) {
				t.Errorf("%s: cause %v", name, cause)
			}
			w.Write([]byte("x"))
		}))
		r.audit.setFail(false)
		if w.Code != 401 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	r.audit.ends(t, 0)
}
