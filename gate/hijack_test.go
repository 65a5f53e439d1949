package gate

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A connection that was hijacked without an upgrade, or for something that is no WebSocket, only closes.
func TestHijackWithoutWebSocket(t *testing.T) {
	for name, c := range map[string]struct{ line, head string }{
		"no upgrade":          {"X-Any: 1", "HTTP/1.1 200 OK\r\n\r\n"},
		"101 nobody wanted":   {"X-Any: 1", switchingHead},
		"upgrade, other head": {upgrade, "HTTP/1.1 200 OK\r\n\r\n"},
		"upgrade, no head":    {upgrade, ""},
		"upgrade, half head":  {upgrade, switchingHead[:30]},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			begun := make(chan struct{})
			app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
				}
				defer conn.Close()
				io.WriteString(conn, c.head)
				close(begun)
				io.Copy(io.Discard, conn)
			}))
			dana := r.dana()
			conn := app.dial()
			defer conn.Close()
			io.WriteString(conn, request("GET", "/members/x", dana, c.line))
			<-begun
			r.revoke(dana)
			if got, err := io.ReadAll(conn); err != nil || string(got) != c.head {
				t.Errorf("%q %v", got, err)
			}
			r.audit.ends(t, 1)
		})
	}
}

// A session that ends while the app decides about the upgrade: the client gets the answer that its next request would get, and no
// connection, whatever the app answers.
func TestSessionEndsDuringUpgrade(t *testing.T) {
	r := newRig(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	r.app = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		begun <- struct{}{}
		<-goOn
		sending(frame(text, []byte("secret"))).ServeHTTP(w, q)
	})
	dana := r.dana()
	go func() {
		<-begun
		r.revoke(dana)
		r.audit.ends(t, 1)
		close(goOn)
	}()
	replies := r.send(strings.Replace(request("GET", "/members/live", dana, upgrade), "Upgrade\r\nUpgrade", "Upgrade, close\r\nUpgrade", 1))
	if len(replies) != 1 || replies[0].StatusCode != 401 || !strings.Contains(replies[0].body, "no-session") {
		t.Errorf("answers %+v", replies)
	}
}

// A hijack after the end gives nothing away.
func TestHijackAfterTheEnd(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.revoke(dana)
		<-q.Context().Done()
		w.Header().Set("X-Secret", "1")
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil || conn != nil {
			t.Error("hijacked")
		}
	}))
	replies := app.send(request("GET", "/members/x", dana, strings.Replace(upgrade, "Connection: Upgrade", "Connection: Upgrade, close", 1)))
	if len(replies) != 1 || replies[0].StatusCode != 401 || replies[0].Header.Get("X-Secret") != "" {
		t.Errorf("answers %+v", replies)
	}
	r.audit.ends(t, 1)
}

// lateHijack is a server's writer whose Hijack takes as long as the session's end.
type lateHijack struct {
	http.ResponseWriter
	before func()
}

func (l lateHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	l.before()
	return http.NewResponseController(l.ResponseWriter).Hijack()
}

func (l lateHijack) Unwrap() http.ResponseWriter { return l.ResponseWriter }

// The session ends between the app's asking for the connection and getting it: the connection closes.
func TestSessionEndsInHijack(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil || conn != nil {
			t.Error("hijacked")
		}
	})
	server := &rig{t: t, server: listen(t, func(w http.ResponseWriter, q *http.Request) {
		r.gate.Handle(lateHijack{w, func() { r.revoke(dana); r.audit.ends(t, 1) }}, q, next)
	})}
	if replies := server.send(request("GET", "/members/x", dana, upgrade)); len(replies) != 0 {
		t.Errorf("answers %+v", replies)
	}
}

// An app may hand its connection to a goroutine and return; the session ends it then too, and only once it is closed is it forgotten.
func TestHijackOutlivesTheHandler(t *testing.T) {
	r := newRig(t)
	conns := make(chan net.Conn, 1)
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, switchingHead)
		conns <- conn
	}))
	dana := r.dana()
	_, in := app.webSocket(dana)
	kept := <-conns
	eventually(t, "one connection is watched", func() bool { return r.sessions.Health().Watchers == 1 })
	r.revoke(dana)
	if rest, err := io.ReadAll(in); err != nil || !bytes.Equal(rest, sessionEnded) {
		t.Errorf("%q %v", rest, err)
	}
	r.audit.ends(t, 1)
	if _, err := kept.Write([]byte("x")); err == nil || kept.SetDeadline(time.Time{}) == nil || kept.(*tunnel).CloseWrite() == nil {
		t.Error("the connection is the app's after the end")
	}
	kept.Close()
	dana = r.dana()
	app.webSocket(dana)
	kept = <-conns
	kept.Close()
	kept.Close()
	eventually(t, "nothing is watched", func() bool { return r.sessions.Health().Watchers == 0 })
	r.revoke(dana)
	r.audit.ends(t, 1) // a connection that the app had closed was not cut
}

// What the client sends together with its upgrade is the app's, however the app reads it.
func TestHijackKeepsEarlyBytes(t *testing.T) {
	for name, read := range map[string]func(net.Conn, *bufio.ReadWriter) []byte{
		"as a proxy does": func(conn net.Conn, rw *bufio.ReadWriter) []byte {
			early, _ := rw.Reader.Peek(rw.Reader.Buffered())
			rest := make([]byte, 10-len(early))
			io.ReadFull(conn, rest)
			return append(slices.Clone(early), rest...)
		},
		"by the reader": func(_ net.Conn, rw *bufio.ReadWriter) []byte {
			b := make([]byte, 10)
			io.ReadFull(rw, b)
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got := make(chan []byte, 1)
			app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, switchingHead)
				got <- read(conn, rw)
			}))
			conn := app.dial()
			defer conn.Close()
			io.WriteString(conn, request("GET", "/members/x", r.dana(), upgrade)+"early")
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatal(err)
			}
			io.WriteString(conn, "later")
			if b := <-got; string(b) != "earlylater" {
				t.Errorf("%q", b)
			}
		})
	}
}
