package gate

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// within is far more than the end of a session takes to end what it had open, on a busy machine too, and far less than whoever
// waits without being ended: until the client gives up after 20 s. How long an end takes to the millisecond, the tests of the
// tunnel show in a time of their own.
const within = 10 * time.Second

var sessionEnded = closeFrame(closePolicy, closeText)

// sending is an app that accepts a WebSocket, sends bytes, and then takes what comes until its client goes.
func sending(writes ...[]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, switchingHead)
		for _, b := range writes {
			conn.Write(b)
		}
		io.Copy(io.Discard, rw)
	})
}

// webSocket opens a WebSocket through the gate.
func (r *rig) webSocket(who *person) (net.Conn, *bufio.Reader) {
	r.t.Helper()
	conn := r.dial()
	r.t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, request("GET", "/members/live", who, upgrade))
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		r.t.Fatalf("upgrade: %v %v", resp, err)
	}
	return conn, in
}

func (r *rig) revoke(who *person) time.Time {
	r.t.Helper()
	start := time.Now()
	if err := r.sessions.Revoke(context.Background(), who.session.ID); err != nil {
		r.t.Fatal(err)
	}
	return start
}

// A revoked session's WebSocket gets a close frame where a frame of the app has ended, and nothing where one has not: the client's
// parser would take our frame for the app's text.
func TestWebSocketCloseFrame(t *testing.T) {
	big := frame(binaryFrame, make([]byte, 70_000))
	var drip [][]byte
	for _, c := range frame(text, []byte("one by one")) {
		drip = append(drip, []byte{c})
	}
	for name, c := range map[string]struct {
		writes [][]byte
		want   []byte // of ours
	}{
		"nothing sent yet":      {nil, sessionEnded},
		"whole frame":           {[][]byte{frame(text, []byte("hello"))}, sessionEnded},
		"whole frames, 64 bits": {[][]byte{big, frame(ping, nil), big}, sessionEnded},
		"byte by byte":          {drip, sessionEnded},
		"between two fragments": {[][]byte{frame(textBegins, []byte("a")), frame(ping, []byte("b")), frame(goesOn, []byte("c"))}, sessionEnded},
		"in a payload":          {[][]byte{big[:69_000]}, nil},
		"in a header":           {[][]byte{frame(text, []byte("x")), big[:5]}, nil},
		"before a payload":      {[][]byte{big[:10]}, nil},
		"in a control frame":    {[][]byte{frame(textBegins, []byte("a")), frame(ping, []byte("bc"))[:3]}, nil},
		"after the app's close": {[][]byte{frame(closes, []byte{3, 0xe8})}, nil},
		"in the app's close":    {[][]byte{frame(closes, []byte{3, 0xe8})[:3]}, nil},
		"no frames at all":      {[][]byte{[]byte("hello")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.app = sending(c.writes...)
			dana := r.dana()
			_, in := r.webSocket(dana)
			sent := bytes.Join(c.writes, nil)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("received %d of %d bytes: %v", len(got), len(sent), err)
			}
			start := r.revoke(dana)
			rest, err := io.ReadAll(in)
			if took := time.Since(start); took > within {
				t.Errorf("it took %s", took)
			}
			if err != nil || !bytes.Equal(rest, c.want) {
				t.Errorf("at the end: %q %v, want %q", rest, err, c.want)
			}
			end := r.audit.ends(t, 1)[0]
			if end.Decision != "ended" || end.Reason == "" || end.Session != audit.SessionLabel(dana.session.ID) || end.Route != "/members/**" || end.Name != "dana" || end.Site != site || end.Client != "127.0.0.1" || len(end.Ref) != 10 {
				t.Errorf("record %+v", end)
			}
		})
	}
}

// A server that goes says so: the client may come back.
func TestWebSocketGoingAway(t *testing.T) {
	r := newRig(t)
	r.app = sending(frame(text, []byte("hello")))
	_, in := r.webSocket(r.dana())
	io.ReadFull(in, make([]byte, 7))
	r.sessions.Close()
	if rest, err := io.ReadAll(in); err != nil || !bytes.Equal(rest, closeFrame(closeGoingAway, closeText)) {
		t.Errorf("%q %v", rest, err)
	}
	if end := r.audit.ends(t, 1)[0]; end.Reason != "closed" {
		t.Errorf("record %+v", end)
	}
}

// A client that goes on sending receives our last words all the same, and what it sends does not reach the app any more.
func TestWebSocketClientTalksOn(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	var heard []byte
	closed := make(chan struct{})
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer close(closed)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, switchingHead)
		for {
			var b [512]byte
			n, err := rw.Read(b[:])
			mu.Lock()
			heard = append(heard, b[:n]...)
			mu.Unlock()
			if err != nil {
				return // and the connection is left to us
			}
		}
	}))
	dana := r.dana()
	conn, in := app.webSocket(dana)
	io.WriteString(conn, "before")
	eventually(t, "the app hears", func() bool { mu.Lock(); defer mu.Unlock(); return string(heard) == "before" })
	r.revoke(dana)
	first, err := in.Peek(1)
	if err != nil || first[0] != closes {
		t.Fatalf("%q %v", first, err)
	}
	io.WriteString(conn, "after") // the end is on its way already
	if rest, err := io.ReadAll(in); err != nil || !bytes.Equal(rest, sessionEnded) {
		t.Errorf("%q %v", rest, err)
	}
	<-closed
	if string(heard) != "before" {
		t.Errorf("the app heard %q", heard)
	}
}

// A writer that waits for a client which does not read holds up nothing, and none of its bytes come after the end.
func TestWebSocketBlockedWriter(t *testing.T) {
	r := newRig(t)
	progress, failed := make(chan struct{}, 1), make(chan error, 1)
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, switchingHead)
		block := frame(binaryFrame, make([]byte, 1<<16))
		for err == nil {
			_, err = conn.Write(block)
			select {
			case progress <- struct{}{}:
			default:
			}
		}
		failed <- err
	}))
	dana := r.dana()
	_, in := app.webSocket(dana)
	stalled(progress)
	start := r.revoke(dana)
	<-failed
	if took := time.Since(start); took > within {
		t.Errorf("the writer was held for %s", took)
	}
	r.audit.ends(t, 1)
	if took := time.Since(start); took > within {
		t.Errorf("the end took %s", took)
	}
	// What was on its way may arrive, and no close frame in the middle of it.
	rest, _ := io.ReadAll(in)
	if bytes.Contains(rest, sessionEnded) {
		t.Errorf("a close frame in the middle of a frame, %d bytes", len(rest))
	}
}

// stalled returns when nothing has come for a while: a writer is blocked.
func stalled(progress <-chan struct{}) {
	for quiet := time.NewTimer(300 * time.Millisecond); ; {
		select {
		case <-progress:
			quiet.Reset(300 * time.Millisecond)
		case <-quiet.C:
			return
		}
	}
}

// Writers of whole frames, many at once: whatever moment the session ends at, what arrives are whole frames, and then one close
// frame at most, whose bytes nobody else's stand between.
func TestWebSocketConcurrentWriters(t *testing.T) {
	r := newRig(t)
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		rw.WriteString(switchingHead) // this way bytes are seen too
		rw.Flush()
		var writers sync.WaitGroup
		for i := range 4 {
			writers.Go(func() {
				var err error
				for f := frame(text, bytes.Repeat([]byte{'a'}, 50+i*100)); err == nil; {
					_, err = conn.Write(f)
				}
			})
		}
		writers.Wait()
	}))
	for range 8 {
		dana := r.dana()
		_, in := app.webSocket(dana)
		io.ReadFull(in, make([]byte, 1000))
		r.revoke(dana)
		rest, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(rest, sessionEnded) || bytes.Count(rest, []byte("session")) != 1 {
			t.Fatalf("the last bytes: %q", rest[max(0, len(rest)-40):])
		}
	}
}

// A thousand open connections of a person end at once, not one after the other, each is told and recorded, and nothing of them
// is left.
func TestThousandStreamsEndAtOnce(t *testing.T) {
	const streams = 1000
	r := newRig(t)
	var handlers sync.WaitGroup
	app := r.serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		defer handlers.Done()
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.Write(append([]byte(switchingHead), frame(text, []byte("hello"))...))
		io.Copy(io.Discard, rw)
	}))
	dana := r.dana()
	before := runtime.NumGoroutine()
	handlers.Add(streams)
	var clients []*bufio.Reader
	var conns []net.Conn
	for range streams {
		conn, in := app.webSocket(dana)
		conn.SetDeadline(time.Time{}) // a slow machine needs long to open so many
		clients, conns = append(clients, in), append(conns, conn)
		io.ReadFull(in, make([]byte, 7))
	}
	for _, conn := range conns {
		conn.SetDeadline(time.Now().Add(time.Minute))
	}
	start := r.revoke(dana)
	var all sync.WaitGroup
	for _, in := range clients {
		all.Go(func() {
			if rest, err := io.ReadAll(in); err != nil || !bytes.Equal(rest, sessionEnded) {
				t.Errorf("%q %v", rest, err)
			}
		})
	}
	all.Wait()
	handlers.Wait()
	took := time.Since(start)
	t.Logf("%d streams ended in %s", streams, took)
	if took > within {
		t.Errorf("it took %s", took)
	}
	r.audit.ends(t, streams)
	for _, conn := range conns {
		conn.Close()
	}
	eventually(t, fmt.Sprintf("the goroutines of %d streams are gone", streams), func() bool { return runtime.NumGoroutine() <= before+5 })
	if h := r.sessions.Health(); h.Watchers != 0 {
		t.Errorf("%d connections are still watched", h.Watchers)
	}
}

// Two cuts of one request are one, and a cut that comes when the app has returned is none.
func TestCutOnce(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	as := func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }
	var x *exchange
	w := direct(r.gate, "GET", "/members/x", as, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		x = w.(*answer).x
		x.cut(session.ErrNone)
		x.cut(session.ErrClosed)
		w.Write([]byte("x"))
	}))
	if w.Code != 401 {
		t.Errorf("status %d", w.Code)
	}
	x.cut(session.ErrNone)
	r.audit.ends(t, 1)
	r.audit.take()
	direct(r.gate, "GET", "/members/x", as, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { x = w.(*answer).x; w.Write([]byte("x")) }))
	x.answer.ResponseWriter = nil // whoever touches it panics
	x.cut(session.ErrNone)
	r.audit.ends(t, 0)
}
