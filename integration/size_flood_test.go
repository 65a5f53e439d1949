package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// flood sends many requests over eight connections (HTTP/2), up to 24 at a time on each. It does without tables of headers and
// decodes nothing of an answer but the status, so that the time goes to the server.
type flood struct {
	total   int
	longer  atomic.Bool // it goes on beyond the total
	request func(i int) (path string, extra [][2]string)
	begun   atomic.Int64
	conns   sync.WaitGroup

	mu      sync.Mutex     // guards the fields below
	answers map[string]int // by status, or "reset"
	errs    []error
}

const (
	floodConns = 8
	floodAhead = 24
)

// newFlood begins to send n requests to a site. The path and further fields of each come from request.
func newFlood(t testing.TB, r *rig, host string, n int, request func(i int) (string, [][2]string)) *flood {
	t.Helper()
	f := &flood{total: n, request: request, answers: map[string]int{}}
	for range floodConns {
		conn, err := tls.Dial("tcp", r.addr(), clientTLS(host, "h2"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		f.conns.Go(func() {
			c := newFloodConn(conn, r.authority(host))
			err := c.run(f)
			f.mu.Lock()
			defer f.mu.Unlock()
			for status, n := range c.answers {
				f.answers[status] += n
			}
			if err != nil {
				f.errs = append(f.errs, fmt.Errorf("%d requests unanswered: %w", c.ahead, err))
			}
		})
	}
	return f
}

// next is the number of a request that is to be sent, false when all are.
func (f *flood) next() (int, bool) {
	for {
		i := f.begun.Load()
		if i >= int64(f.total) && !f.longer.Load() {
			return 0, false
		}
		if f.begun.CompareAndSwap(i, i+1) {
			return int(i), true
		}
	}
}

// reach waits until n requests have begun.
func (f *flood) reach(t testing.TB, n int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); f.begun.Load() < int64(n); time.Sleep(time.Millisecond) {
		f.mu.Lock()
		err := errors.Join(f.errs...)
		f.mu.Unlock()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d of %d requests have begun: %v", f.begun.Load(), f.total, err)
		}
	}
}

// wait returns the answers by status. All requests are answered then, and the connections closed.
func (f *flood) wait(t testing.TB) map[string]int {
	t.Helper()
	f.conns.Wait()
	if err := errors.Join(f.errs...); err != nil {
		t.Fatal(err)
	}
	return f.answers
}

// floodConn is one connection of a flood.
type floodConn struct {
	conn    *tls.Conn
	out     *bufio.Writer
	framer  *http2.Framer
	decoder *hpack.Decoder
	common  []byte // header fields of all requests, encoded
	stream  uint32 // the next one; odd (RFC 9113 5.1.1)
	ahead   int    // requests without an answer
	status  string // of the answer that is being decoded
	answers map[string]int
}

func newFloodConn(conn *tls.Conn, authority string) *floodConn {
	c := &floodConn{conn: conn, out: bufio.NewWriter(conn), stream: 1, answers: map[string]int{}}
	c.framer = http2.NewFramer(c.out, bufio.NewReader(conn))
	c.framer.SetReuseFrames()
	c.decoder = hpack.NewDecoder(0, func(field hpack.HeaderField) { // the status comes first (RFC 9113 8.3)
		c.status = field.Value
		c.decoder.SetEmitEnabled(false)
	})
	c.common = headerBlock(nil, [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", authority}})
	return c
}

// headerBlock appends header fields in a form that leaves nothing in a table (RFC 7541 6.2.3).
func headerBlock(block []byte, fields [][2]string) []byte {
	buf := bytes.NewBuffer(block)
	encoder := hpack.NewEncoder(buf)
	for _, field := range fields {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true})
	}
	return buf.Bytes()
}

// run sends and reads until all requests of the flood have begun and those of this connection are answered.
func (c *floodConn) run(f *flood) error {
	defer c.conn.Close()
	io.WriteString(c.out, http2.ClientPreface)
	c.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	c.framer.WriteWindowUpdate(0, 1<<30)
	for more := true; more || c.ahead > 0; {
		for more && c.ahead < floodAhead {
			var i int
			if i, more = f.next(); more {
				c.send(f.request(i))
			}
		}
		c.conn.SetDeadline(time.Now().Add(patience))
		if err := c.out.Flush(); err != nil {
			return err
		}
		for low := c.ahead / 2; c.ahead > low; {
			if err := c.read(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *floodConn) send(path string, extra [][2]string) {
	id := c.stream
	c.stream += 2
	c.ahead++
	block := headerBlock(bytes.Clone(c.common), append([][2]string{{":path", path}, {"accept", "text/html"}, {"sec-fetch-mode", "navigate"}}, extra...))
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true})
}

// read takes one frame.
func (c *floodConn) read() error {
	frame, err := c.framer.ReadFrame()
	if err != nil {
		return err
	}
	ended := false
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			c.framer.WriteSettingsAck()
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server ends the connection: %v", frame.ErrCode)
	case *http2.RSTStreamFrame:
		c.answers["reset"]++
		ended = true
	case *http2.HeadersFrame:
		c.decoder.SetEmitEnabled(true)
		if _, err := c.decoder.Write(frame.HeaderBlockFragment()); err != nil {
			return err
		}
		c.answers[c.status]++
		ended = frame.StreamEnded()
	case *http2.DataFrame:
		ended = frame.StreamEnded()
	}
	if ended {
		c.ahead--
	}
	return nil
}
