package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answer is one response as it came.
type answer struct {
	Status int
	Header http.Header
	Body   string
}

// exchange is what came back for bytes that were written to a new TLS connection.
type exchange struct {
	Answers []answer // final responses, in order
	Closed  bool     // the peer ended the connection
	Raw     string
}

// status is the first answer's status, 0 when the connection was closed without an answer.
func (e *exchange) status() int {
	if len(e.Answers) == 0 {
		return 0
	}
	return e.Answers[0].Status
}

// rawTLS connects with TLS 1.3 and HTTP/1.1.
func rawTLS(t testing.TB, addr, serverName string) *tls.Conn {
	t.Helper()
	dialer := &net.Dialer{Timeout: patience}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr, clientTLS(serverName, "http/1.1"))
	if err != nil {
		t.Fatalf("connecting to %s as %s: %v", addr, serverName, err)
	}
	return conn
}

// send writes payload to a new connection and reads what comes back until the peer closes, or until want answers are there and
// nothing follows for quiet.
func send(t testing.TB, addr, serverName, payload string, want int) *exchange {
	t.Helper()
	return over(rawTLS(t, addr, serverName), payload, want, patience)
}

// over is send over a connection that is there, which it closes. Without an answer it ends when the limit is over.
func over(conn *tls.Conn, payload string, want int, limit time.Duration) *exchange {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	// The peer may answer and close before it has read all: not an error of ours.
	_, _ = io.WriteString(conn, payload)

	method, _, _ := strings.Cut(payload, " ")
	e := new(exchange)
	var raw bytes.Buffer
	buf := make([]byte, 32<<10)
	const quiet = 60 * time.Millisecond
	for {
		n, err := conn.Read(buf)
		raw.Write(buf[:n])
		e.Answers, e.Closed = answersIn(raw.Bytes(), method), false
		if err != nil {
			var timeout net.Error
			e.Closed = !(errors.As(err, &timeout) && timeout.Timeout())
			break
		}
		if len(e.Answers) >= want {
			conn.SetReadDeadline(time.Now().Add(quiet))
		}
	}
	e.Raw = raw.String()
	return e
}

// answersIn parses the complete responses at the start of b.
func answersIn(b []byte, method string) []answer {
	var all []answer
	reader := bufio.NewReader(bytes.NewReader(b))
	for {
		if _, err := reader.Peek(1); err != nil {
			return all
		}
		res, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			return all
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return all
		}
		if res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue // an interim response (RFC 9110 15.2)
		}
		all = append(all, answer{res.StatusCode, res.Header, string(body)})
		method = http.MethodGet // only the first request's method is known here
	}
}

// get builds the bytes of a simple request; extra header lines come without line ends.
func get(target, host string, extra ...string) string {
	return request("GET", target, host, "", extra...)
}

func request(method, target, host, body string, extra ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n")
	for _, line := range extra {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n" + body)
	return b.String()
}
