package gate

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
)

// flight is a request of a session while the app has it. It ends when the app has returned and closed what it hijacked, or when
// the session ends: then nothing of the app's goes out any more.
type flight struct {
	cancel context.CancelCauseFunc
	stop   func()                 // takes the watcher off the session; may be called again
	end    atomic.Pointer[ending] // set once, under mu; nil: the session lives

	mu        sync.Mutex // guards the fields below
	returned  bool       // the app has: the ResponseWriter is not ours to touch any more
	committed bool       // the headers are on their way
	tunnel    *tunnel    // the connection, when the app took it
}

// ending is how a session ended under a request.
type ending struct {
	cause error
	ref   string // of the record that says so
}

func (f *flight) ended() bool { return f.end.Load() != nil }

// pass calls next with a copy of the request whose context ends with the session, or with the token. It is a copy in any case:
// net/http writes trailers into the request that it made when the body ends, and no proxy may find them there. own: see Gate.Handle.
func (x *exchange) pass(next http.Handler) (own bool) {
	ctx := x.r.Context()
	if x.grant() == nil {
		next.ServeHTTP(&x.answer, x.r.WithContext(ctx))
		x.answer.finish()
		return false
	}
	f := &x.flight
	ctx, f.cancel = context.WithCancelCause(ctx)
	defer x.land() // after a panic too
	if x.caller != nil {
		f.stop = x.watchToken()
	} else {
		f.stop = x.gate.sessions.Watch(x.session.ID, x.gate.storeLoss.tolerate, x.cut)
		x.renewal = x.gate.sessions.StartRenewal(x.session, x.cookies, x.r.Host)
	}
	if x.glass() != nil {
		f.stop = x.watchGlass(f.stop)
	}
	x.serve(next, x.r.WithContext(ctx))
	x.answer.finish()
	if end := f.end.Load(); end != nil {
		return x.tellEnd(end)
	}
	return false
}

// serve lets the app answer. Where the session ended before anything of an answer went out, a proxy that could write none may give
// up as net/http has it: the answer is ours then, and the browser need not see a broken connection.
func (x *exchange) serve(next http.Handler, r *http.Request) {
	defer func() {
		if !x.flight.unanswered() {
			return
		}
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	next.ServeHTTP(&x.answer, r)
}

// unanswered reports whether the session has ended before the app could begin to answer.
func (f *flight) unanswered() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended() && !f.committed && f.tunnel == nil
}

// land ends the flight when the app has returned. A connection that it hijacked and still has open flies on.
func (x *exchange) land() {
	f := &x.flight
	f.mu.Lock()
	f.returned = true
	t := f.tunnel
	f.mu.Unlock()
	f.cancel(nil)
	if t == nil || !t.open() {
		f.stop()
	}
}

// cut ends the request because its session has ended. It runs beside the app. It is recorded, unless there was nothing left to
// end: the app had finished, or the client had gone.
func (x *exchange) cut(cause error) {
	f := &x.flight
	f.mu.Lock()
	t := f.tunnel
	switch {
	case t != nil:
		if !t.condemn() {
			f.mu.Unlock()
			return
		}
	case f.ended() || f.returned || x.r.Context().Err() != nil:
		f.mu.Unlock()
		return
	}
	end := &ending{cause, audit.NewRef()}
	f.end.Store(end)
	if t == nil {
		x.breakOff()
	}
	f.mu.Unlock()
	f.cancel(cause)
	if t != nil {
		go t.bury(farewellTo(cause)) // the sign-out that waits for us need not wait for the client
	}
	x.recordEnd(end)
}

// farewellTo is the close frame that says how it ended.
func farewellTo(cause error) []byte {
	switch {
	case errors.Is(cause, session.ErrClosed): // it is we who go; the client may come back
		return closeFrame(closeGoingAway, closeText)
	case errors.Is(cause, errGlassEnd): // the session goes on
		return closeFrame(closePolicy, closeGlass)
	}
	return closeFrame(closePolicy, closeText)
}

// breakOff ends what waits for the client, under the flight's lock. A writer without deadlines ends with its next write.
func (x *exchange) breakOff() {
	c, past := http.NewResponseController(x.answer.ResponseWriter), time.Unix(1, 0)
	if x.flight.committed {
		// A write that waits for a slow client ends at once. On HTTP/2 the stream is reset; where the whole connection stands still,
		// that has to wait as well, and nothing but the frame that was on its way arrives.
		_ = c.SetWriteDeadline(past)
	}
	if x.hasBody() {
		// So does a read of a body that pauses: closing it, as proxies do, waits for the client on HTTP/1.1.
		_ = c.SetReadDeadline(past)
	}
}

// hasBody is about ContentLength, too: HTTP/2 makes a body for every request.
func (x *exchange) hasBody() bool {
	return x.r.Body != nil && x.r.Body != http.NoBody && x.r.ContentLength != 0
}

// recordEnd writes down that a request was cut. There is nobody to refuse when that fails; the log itself says that it does.
func (x *exchange) recordEnd(end *ending) {
	if x.gate.unaudited {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), 10*time.Second)
	defer cancel()
	reason := session.Reason(end.cause)
	switch {
	case errors.Is(end.cause, errTokenEnd):
		reason = reasonTokenEnd
	case errors.Is(end.cause, errGlassEnd):
		reason = reasonGlassEnd
	}
	e := x.event(end.ref, "ended", reason)
	e.Kind = "stream"
	if err := x.gate.audit.Record(ctx, e); err != nil {
		x.gate.misdirection.log.Error("the end of a request by the end of its session could not be recorded", "ref", end.ref, "error", err)
	}
}

// commit asks whether the headers may go out, once; afterwards the end of the session finds a write to break off.
func (f *flight) commit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed = !f.ended()
	return f.committed
}

// adopt takes a connection that the app hijacked into the flight.
func (x *exchange) adopt(conn net.Conn, rw *bufio.ReadWriter) (net.Conn, *bufio.ReadWriter, error) {
	f := &x.flight
	t, rw, err := newTunnel(conn, rw, x.upgrade, x.answer.switched, f.stop)
	if err != nil {
		_ = conn.Close() // net/http is not its owner any more
		return nil, nil, err
	}
	f.mu.Lock()
	ended := f.ended()
	if !ended {
		f.tunnel = t
	}
	f.mu.Unlock()
	if ended {
		_ = conn.Close()
		return nil, nil, errEnded
	}
	return t, rw, nil
}

// tellEnd answers a request that was cut, when the app has returned. Half an answer must not look like a whole one. Where none had
// begun, it is ours: the one that the next request would get. The app's side failed because its request was cancelled, and is not
// to be blamed for that.
func (x *exchange) tellEnd(end *ending) (own bool) {
	f := &x.flight
	f.mu.Lock()
	committed, hijacked := f.committed, f.tunnel != nil
	f.mu.Unlock()
	switch {
	case hijacked:
	case committed:
		panic(http.ErrAbortHandler)
	default:
		clear(x.answer.Header()) // the app's
		x.answer.setHSTS(x.answer.Header())
		if x.r.ProtoMajor == 1 && x.hasBody() { // nothing can be read from it any more
			x.answer.Header().Set("Connection", "close")
		}
		no := refusal{KindUnavailable, http.StatusServiceUnavailable, ""}
		switch {
		case errors.Is(end.cause, errTokenEnd):
			no = x.refuseExpired(x.caller)
		case errors.Is(end.cause, errGlassEnd):
			no = refusal{KindForbidden, http.StatusForbidden, reasonGlassEnd}
		case errors.Is(end.cause, session.ErrNone):
			no = refusal{KindNoSession, http.StatusUnauthorized, ""}
		}
		x.say(no, end.ref)
	}
	return true
}

// unlessEnded lets the app do what would undo the end.
func (f *flight) unlessEnded(do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended() {
		return errEnded
	}
	return do()
}
