package gate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
)

// echo is an app that answers an upgrade with 101 and sends back what it gets, and that streams otherwise until its client goes.
var echo = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
	if q.Header.Get("Upgrade") == "" {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-q.Context().Done()
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
	io.Copy(conn, rw)
})

const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="

// M6, M8: a WebSocket and an event stream end with the session: by sign-out, by its idle end, by silence of the store.
func TestM6StreamsEnd(t *testing.T) {
	for name, end := range map[string]func(*rig, *person){
		"sign-out":  func(r *rig, p *person) { r.sessions.Revoke(context.Background(), p.session.ID) },
		"idle end":  func(r *rig, _ *person) { r.clock.add(16 * time.Minute) },
		"no store":  func(r *rig, _ *person) { r.store.set(true); r.clock.add(31 * time.Second) },
		"shut down": func(r *rig, _ *person) { r.sessions.Close() },
	} {
		for kind, line := range map[string]string{"WebSocket": upgrade, "event stream": "Accept: text/event-stream", "long answer": "X-Any: 1"} {
			t.Run("M6 "+kind+" "+name, func(t *testing.T) {
				r := newRig(t)
				r.app = echo
				who := r.dana()
				conn := r.dial()
				defer conn.Close()
				io.WriteString(conn, request("GET", "/members/live", who, line, "Connection: keep-alive"))
				in := bufio.NewReader(conn)
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				var body io.Reader = resp.Body
				if kind == "WebSocket" {
					if resp.StatusCode != http.StatusSwitchingProtocols {
						t.Fatalf("status %d", resp.StatusCode)
					}
					io.WriteString(conn, "hello")
					hello := make([]byte, 5)
					if _, err := io.ReadFull(in, hello); err != nil || string(hello) != "hello" {
						t.Fatalf("echo %q %v", hello, err)
					}
					body = in
				} else if first, err := bufio.NewReader(body).ReadString('\n'); err != nil || first != "data: 1\n" {
					t.Fatalf("stream %q %v", first, err)
				}
				start := time.Now()
				end(r, who)
				if _, err := io.ReadAll(body); err == nil && kind != "WebSocket" {
					t.Error("the stream looks complete")
				}
				if took := time.Since(start); took > within {
					t.Errorf("it took %s", took)
				}
			})
		}
	}
}

// The reason why a request was cut stands in its context; what nobody watches is not cut.
func TestCutHasACause(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	var cause error
	direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		r.sessions.Revoke(context.Background(), dana.session.ID)
		<-q.Context().Done()
		cause = context.Cause(q.Context())
	}))
	if !errors.Is(cause, session.ErrNone) {
		t.Errorf("cause %v", cause)
	}
	direct(r.gate, "GET", "/public/x", nil, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		if q.Context().Done() != nil {
			t.Error("a public request without a session is watched")
		}
	}))
}

// An aborted stream is not recovered, and the watcher is taken off all the same.
func TestAbortIsNotRecovered(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	var ctx context.Context
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("recovered %v", got)
			}
		}()
		direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
			ctx = q.Context()
			panic(http.ErrAbortHandler)
		}))
	}()
	if ctx.Err() == nil {
		t.Error("the context of an aborted request lives on")
	}
}

// M7: an app that declines the upgrade makes an ordinary answer, and what the client sends next is a request to the gate.
func TestM7UpgradeSmuggling(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for _, status := range []int{200, 426, 404} {
		t.Run(fmt.Sprint("M7 ", status), func(t *testing.T) {
			r.app = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
			first := request("GET", "/members/ws", dana, strings.Replace(upgrade, ": 13", ": 777", 1))
			r.take()
			replies := r.send(first + request("GET", "/admin/x", dana))
			if len(replies) != 2 || replies[0].StatusCode != status || replies[1].StatusCode != 403 {
				t.Errorf("answers %+v", replies)
			}
			if got := r.take(); len(got) != 1 || got[0].Target != "/members/ws" {
				t.Errorf("the app received %+v", got)
			}
		})
	}
	t.Run("H24 101 that nobody asked for", func(t *testing.T) {
		r.app = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
			conn.Close()
		})
		replies := r.send(request("GET", "/members/x", dana, "Connection: close"))
		if len(replies) != 1 || replies[0].StatusCode != 502 {
			t.Errorf("answers %+v", replies)
		}
	})
	t.Run("WebSocket without a session", func(t *testing.T) {
		replies := r.send(strings.Replace(request("GET", "/members/ws", nil, upgrade), "Connection: Upgrade", "Connection: Upgrade, close", 1))
		if len(replies) != 1 || replies[0].StatusCode != 401 || replies[0].Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("answers %+v", replies)
		}
	})
}
