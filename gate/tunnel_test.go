package gate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a tunnel of a WebSocket without a network, and its client.
func pipe(t *testing.T, wrap func(net.Conn) net.Conn) (*tunnel, *bufio.ReadWriter, net.Conn) {
	t.Helper()
	server, client := net.Pipe()
	if wrap != nil {
		server = wrap(server)
	}
	tun, rw, err := newTunnel(server, bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server)), true, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	return tun, rw, client
}

// From the moment of the end on nothing passes in either direction, before our close frame is out too; what the client sends is
// taken and thrown away until it has had the time to read why.
func TestTunnelEnds(t *testing.T) { synctest.Test(t, testTunnelEnds) }

func testTunnelEnds(t *testing.T) {
	tun, rw, client := pipe(t, nil)
	defer client.Close()
	if !tun.condemn() || tun.condemn() {
		t.Error("condemned twice, or never")
	}
	if _, err := tun.Write([]byte("late")); !errors.Is(err, errEnded) {
		t.Errorf("writing: %v", err)
	}
	rw.WriteString("late")
	if err := rw.Flush(); !errors.Is(err, errEnded) {
		t.Errorf("writing through the buffer: %v", err)
	}
	read := make(chan error, 1)
	go func() {
		n, err := rw.Read(make([]byte, 10))
		if n > 0 {
			t.Errorf("%d bytes read", n)
		}
		read <- err
	}()
	for _, set := range []func(time.Time) error{tun.SetDeadline, tun.SetReadDeadline, tun.SetWriteDeadline} {
		if err := set(time.Now().Add(time.Hour)); !errors.Is(err, errEnded) {
			t.Errorf("deadline: %v", err)
		}
	}
	if err := tun.Close(); err != nil {
		t.Error(err)
	}
	start := time.Now()
	go tun.bury(closeFrame(closePolicy, closeText))
	got := make([]byte, len(sessionEnded))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, sessionEnded) {
		t.Fatalf("%q %v", got, err)
	}
	for range 3 {
		if _, err := client.Write([]byte("talking on")); err != nil {
			t.Errorf("the connection closed over what the client was saying: %v", err)
		}
	}
	if rest, err := io.ReadAll(client); err != nil || len(rest) != 0 {
		t.Errorf("%q %v", rest, err)
	}
	if err := <-read; err == nil {
		t.Error("read after the end")
	}
	if took := time.Since(start); took != farewell {
		t.Errorf("it took %s, want %s", took, farewell)
	}
}

// torn tells whether the connection below it was asked for, to close that.
type torn struct {
	net.Conn
	forced  bool
	writing chan struct{} // closed when somebody writes
	once    sync.Once
}

func (c *torn) Write(b []byte) (int, error) {
	c.once.Do(func() { close(c.writing) })
	return c.Conn.Write(b)
}

func (c *torn) NetConn() net.Conn { c.forced = true; return c.Conn }

// A client that does not read holds up a writer, and the end, for the length of the farewell.
func TestTunnelBlocked(t *testing.T) {
	for name, wrote := range map[string]int{"nothing read": 0, "half read": 3} {
		var conn *torn
		tun, _, client := pipe(t, func(c net.Conn) net.Conn { conn = &torn{Conn: c, writing: make(chan struct{})}; return conn })
		failed := make(chan error, 1)
		go func() {
			_, err := tun.Write(frame(text, []byte("hello")))
			failed <- err
		}()
		io.ReadFull(client, make([]byte, wrote))
		<-conn.writing
		start := time.Now()
		tun.condemn()
		tun.bury(closeFrame(closePolicy, closeText))
		if err := <-failed; err == nil {
			t.Errorf("%s: written", name)
		}
		if took := time.Since(start); took < farewell || took > within {
			t.Errorf("%s: it took %s", name, took)
		}
		if rest, err := io.ReadAll(client); err != nil || len(rest) != 0 {
			t.Errorf("%s: %q %v", name, rest, err)
		}
		if !conn.forced {
			t.Errorf("%s: closed politely over half a record", name)
		}
		client.Close()
	}
	// A client that reads everything but our close frame.
	tun, _, client := pipe(t, nil)
	defer client.Close()
	start := time.Now()
	tun.condemn()
	tun.bury(closeFrame(closePolicy, closeText))
	if took := time.Since(start); took < farewell || took > within {
		t.Errorf("close frame: it took %s", took)
	}
}

// deaf is a connection without deadlines, whose polite close waits, as that of TLS does for a client that does not read.
type deaf struct {
	net.Conn
	closing chan struct{}
}

func (d *deaf) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (d *deaf) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (d *deaf) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }
func (d *deaf) NetConn() net.Conn                { return d.Conn }
func (d *deaf) Close() error                     { <-d.closing; return d.Conn.Close() }

// Whatever the connection does, it is gone after twice the farewell.
func TestTunnelIsForced(t *testing.T) {
	for _, blocked := range []bool{true, false} {
		closing := make(chan struct{})
		tun, _, client := pipe(t, func(c net.Conn) net.Conn { return &deaf{c, closing} })
		gone := make(chan error, 1)
		if blocked {
			go func() {
				_, err := tun.Write(frame(text, []byte("hello")))
				gone <- err
			}()
			io.ReadFull(client, make([]byte, 1))
		}
		start := time.Now()
		tun.condemn()
		buried := make(chan struct{})
		go func() { tun.bury(closeFrame(closePolicy, closeText)); close(buried) }()
		if blocked {
			<-gone // the client does not read
		} else if _, err := io.ReadFull(client, make([]byte, len(sessionEnded))); err != nil {
			t.Error(err)
		}
		if rest, err := io.ReadAll(client); err != nil || len(rest) != 0 {
			t.Errorf("%q %v", rest, err)
		}
		if took := time.Since(start); took < 2*farewell || took > within {
			t.Errorf("blocked %t: it took %s, want %s", blocked, took, 2*farewell)
		}
		close(closing)
		<-buried
		client.Close()
	}
}

// Bytes that a server left in its buffer were seen by nobody: they go out, and no close frame comes behind them.
func TestTunnelAfterABuffer(t *testing.T) { synctest.Test(t, testTunnelAfterABuffer) }

func testTunnelAfterABuffer(t *testing.T) {
	server, client := net.Pipe()
	defer client.Close()
	rw := bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server))
	rw.WriteString("half a fra")
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(client)
		got <- all
	}()
	tun, _, err := newTunnel(server, rw, true, true, func() {})
	if err != nil {
		t.Fatal(err)
	}
	tun.condemn()
	tun.bury(closeFrame(closePolicy, closeText))
	if all := <-got; string(all) != "half a fra" {
		t.Errorf("%q", all)
	}
	client.Close()
	server, client = net.Pipe()
	client.Close()
	rw = bufio.NewReadWriter(bufio.NewReader(server), bufio.NewWriter(server))
	rw.WriteString("x")
	if _, _, err := newTunnel(server, rw, true, true, func() {}); err == nil {
		t.Error("a connection that is gone")
	}
	if err := (&tunnel{Conn: server}).CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("half of a pipe: %v", err)
	}
}
