package integration

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// received is one request as its bytes came to the backend.
type received struct {
	Head     string      // request line and header lines as sent, without the empty line
	Method   string      //
	Target   string      // the request target, byte for byte
	Headers  [][2]string // name as spelled, value
	Body     []byte
	Trailers [][2]string
	Err      error // the body did not arrive whole: an aborted request
}

// values returns all values of headers whose name equals name when case, "_" and "." are folded, as CGI and WSGI do it.
func (r *received) values(name string) []string {
	var all []string
	for _, h := range append(append([][2]string(nil), r.Headers...), r.Trailers...) {
		if foldName(h[0]) == foldName(name) {
			all = append(all, h[1])
		}
	}
	return all
}

func foldName(name string) string {
	return strings.NewReplacer("_", "-", ".", "-").Replace(strings.ToLower(strings.TrimSpace(name)))
}

// path is the request target without its query.
func (r *received) path() string {
	path, _, _ := strings.Cut(r.Target, "?")
	return path
}

// dump is an application that keeps what it receives. It reads the socket itself.
type dump struct {
	addr     string
	listener net.Listener

	mu       sync.Mutex // guards what follows
	requests []*received
	answer   func(r *received, conn net.Conn) // nil: 200 and a line of text
}

// startDump listens until the test ends.
func startDump(t testing.TB) *dump {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	d := &dump{addr: listener.Addr().String(), listener: listener}
	go func() { // ends when the listener is closed
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go d.serve(conn) // ends when the peer or the answer closes the connection
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return d
}

// take returns what was received since the last call.
func (d *dump) take() []*received {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.requests
	d.requests = nil
	return all
}

// respond sets how requests are answered until the test ends; the function may write anything and must not close.
func (d *dump) respond(t testing.TB, answer func(r *received, conn net.Conn)) {
	set := func(f func(*received, net.Conn)) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.answer = f
	}
	set(answer)
	t.Cleanup(func() { set(nil) })
}

func (d *dump) serve(conn net.Conn) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		r, err := readRequest(reader)
		if r == nil {
			return
		}
		d.mu.Lock()
		d.requests = append(d.requests, r)
		answer := d.answer
		d.mu.Unlock()
		if err != nil {
			return
		}
		if answer == nil {
			answer = plainAnswer
		}
		answer(r, conn)
	}
}

func plainAnswer(r *received, conn net.Conn) {
	text := "dump of " + r.Method + " " + r.Target + "\n"
	reply(conn, "200 OK", "Content-Type: text/plain", text)
}

// reply writes one response with a body of known length.
func reply(w io.Writer, status, headers, body string) {
	if headers != "" {
		headers += "\r\n"
	}
	fmt.Fprintf(w, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, headers, len(body), body)
}

// readRequest reads one request. It returns nil when the connection ended between requests, and an error beside the request
// when the body is broken.
func readRequest(reader *bufio.Reader) (*received, error) {
	var head bytes.Buffer
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		head.Write(line)
	}
	r := &received{Head: head.String()}
	lines := strings.Split(strings.TrimRight(r.Head, "\r\n"), "\r\n")
	first := strings.SplitN(lines[0], " ", 3)
	r.Method = first[0]
	if len(first) > 1 {
		r.Target = first[1]
	}
	r.Headers = fields(lines[1:])
	var err error
	switch {
	case len(r.values("Transfer-Encoding")) > 0:
		r.Body, r.Trailers, err = readChunks(reader)
	case len(r.values("Content-Length")) > 0:
		var n int
		if n, err = strconv.Atoi(strings.TrimSpace(r.values("Content-Length")[0])); err == nil {
			r.Body = make([]byte, n)
			_, err = io.ReadFull(reader, r.Body)
		}
	}
	r.Err = err
	return r, err
}

func fields(lines []string) [][2]string {
	var all [][2]string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		all = append(all, [2]string{name, strings.TrimSpace(value)})
	}
	return all
}

func readChunks(reader *bufio.Reader) (body []byte, trailers [][2]string, err error) {
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return body, nil, err
		}
		size, err := strconv.ParseUint(strings.TrimRight(line, "\r\n"), 16, 32)
		if err != nil {
			return body, nil, err
		}
		if size == 0 {
			break
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(reader, chunk); err != nil {
			return body, nil, err
		}
		body = append(body, chunk[:size]...)
	}
	var lines []string
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return body, fields(lines), err
		}
		if line = strings.TrimRight(line, "\r\n"); line == "" {
			return body, fields(lines), nil
		}
		lines = append(lines, line)
	}
}

// streams answers /ws with a WebSocket, /sse with an endless stream of events and the rest plainly.
func streams(r *received, conn net.Conn) {
	switch {
	case strings.HasSuffix(r.path(), "/ws") && len(r.values("Sec-WebSocket-Key")) == 1:
		accept := sha1.Sum([]byte(r.values("Sec-WebSocket-Key")[0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 4.2.2
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(accept[:]))
		ticks(conn, "\x81\x04tick") // one unmasked text frame (RFC 6455 5.2)
	case strings.HasSuffix(r.path(), "/sse"):
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		ticks(conn, "c\r\ndata: tick\n\n\r\n")
	default:
		plainAnswer(r, conn)
	}
}

// ticks writes text every 50 ms until the peer is gone, for longer than any test lasts.
func ticks(conn net.Conn, text string) {
	for range 20 * 60 * 20 {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
