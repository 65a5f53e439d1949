package gate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// farewell is how long what is being written may take when a tunnel ends, and again our close frame. After twice the time the
// connection is gone, whatever its client does.
const farewell = 250 * time.Millisecond

// errEnded is what an app gets that goes on with a request whose session is over.
var errEnded = errors.New("the session of this request has ended")

// tunnel is a connection that the app took over from the server (http.Hijacker) in the name of a session. When that ends, cut
// ends the tunnel: with a close frame where the client speaks WebSocket and no frame is half sent, at once where not. What the
// client sends from then on does not reach the app, and what the app writes not the client.
type tunnel struct {
	net.Conn
	release func() // once, when the app closes it

	writing sync.Mutex // held while bytes go out, so that none come between those of our close frame
	frames  frames     // guarded by writing
	broken  bool       // a write failed; guarded by writing

	state  sync.Mutex // guards the fields below; nobody waits for the network under it
	closed bool       // by the app
	ended  bool       // by us
}

// newTunnel wraps what a Hijack returned: bytes through conn and through rw are seen alike. upgraded says that the 101 answer
// was sent before; otherwise it has to come first. rw's writer must not hold bytes then, or nothing is known of the frames.
func newTunnel(conn net.Conn, rw *bufio.ReadWriter, websocket, upgraded bool, release func()) (*tunnel, *bufio.ReadWriter, error) {
	t := &tunnel{Conn: conn, release: release}
	switch {
	case !websocket:
		t.frames.stage = lost
	case upgraded:
		t.frames.stage = inHeader
	}
	if rw.Writer.Buffered() > 0 {
		t.frames.stage = lost
		if err := rw.Writer.Flush(); err != nil {
			return nil, nil, err
		}
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, err
	}
	// What the client sent early stays buffered: proxies look there for it.
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(early)), t), max(len(early), rw.Reader.Size()))
	if _, err := in.Peek(len(early)); err != nil {
		return nil, nil, err
	}
	return t, bufio.NewReadWriter(in, bufio.NewWriterSize(t, rw.Writer.Size())), nil
}

// Read drops what comes after the end.
func (t *tunnel) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if t.over() {
		return 0, errEnded
	}
	return n, err
}

// Write sends bytes, and none after the end.
func (t *tunnel) Write(b []byte) (int, error) {
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.over() { // asked under the lock: who waited for it comes after our close frame
		return 0, errEnded
	}
	n, err := t.Conn.Write(b)
	t.frames.see(b[:n])
	t.broken = t.broken || err != nil
	return n, err
}

// CloseWrite ends one direction, which proxies do when theirs has ended.
func (t *tunnel) CloseWrite() error {
	half, ok := t.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	t.writing.Lock()
	defer t.writing.Unlock()
	if t.over() {
		return errEnded
	}
	t.frames.stage = lost
	return half.CloseWrite()
}

// Close is the app's. When we are ending the tunnel, we close it: a proxy that hears of the end first would take the connection
// away under our close frame.
func (t *tunnel) Close() error {
	t.state.Lock()
	first, ended := !t.closed, t.ended
	t.closed = true
	t.state.Unlock()
	if first {
		t.release()
	}
	if ended {
		return nil
	}
	return t.Conn.Close()
}

// SetDeadline and the other two do nothing once the end has its own deadline.
func (t *tunnel) SetDeadline(at time.Time) error { return t.unlessEnded(t.Conn.SetDeadline, at) }

// SetReadDeadline: see SetDeadline.
func (t *tunnel) SetReadDeadline(at time.Time) error {
	return t.unlessEnded(t.Conn.SetReadDeadline, at)
}

// SetWriteDeadline: see SetDeadline.
func (t *tunnel) SetWriteDeadline(at time.Time) error {
	return t.unlessEnded(t.Conn.SetWriteDeadline, at)
}

func (t *tunnel) unlessEnded(set func(time.Time) error, at time.Time) error {
	t.state.Lock()
	defer t.state.Unlock()
	if t.ended {
		return errEnded
	}
	return set(at)
}

func (t *tunnel) over() bool {
	t.state.Lock()
	defer t.state.Unlock()
	return t.ended
}

// open reports whether the app still has it.
func (t *tunnel) open() bool {
	t.state.Lock()
	defer t.state.Unlock()
	return !t.closed
}

// condemn stops both directions and gives what is being written a deadline, which a write that is blocked obeys too. It does not
// wait, and is false when there is nothing to end any more.
func (t *tunnel) condemn() bool {
	t.state.Lock()
	defer t.state.Unlock()
	if t.closed || t.ended {
		return false
	}
	t.ended = true
	// A connection without deadlines is closed by force.
	_ = t.Conn.SetDeadline(time.Now().Add(farewell))
	return true
}

// bury sends the close frame, where one can stand, and closes the connection of a condemned tunnel. A client that is sending gets
// a moment to read it: closing over bytes that nobody read would reset the connection and take our last words along.
func (t *tunnel) bury(last []byte) {
	force := time.AfterFunc(2*farewell, t.force)
	defer force.Stop()
	t.writing.Lock()
	defer t.writing.Unlock()
	if !t.broken && t.frames.between() {
		_ = t.Conn.SetDeadline(time.Now().Add(farewell)) // waiting for the writer has not used it up
		_, err := t.Conn.Write(last)
		t.broken = err != nil
		for rest := make([]byte, 1024); err == nil; {
			_, err = t.Conn.Read(rest)
		}
	}
	if t.broken { // what TLS would send now, its client would take for an attack
		t.force()
	}
	_ = t.Conn.Close() // nobody is left to hear of an error
}

// force closes the connection below TLS, whose own close waits up to five seconds for a client that does not read.
func (t *tunnel) force() {
	if secure, ok := t.Conn.(interface{ NetConn() net.Conn }); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = t.Conn.Close()
}
