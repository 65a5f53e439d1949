package integration

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2conn speaks HTTP/2 frame by frame, so that a test can send what no client would.
type h2conn struct {
	conn   *tls.Conn
	framer *http2.Framer
}

func newH2(t testing.TB, addr, serverName string) *h2conn {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, clientTLS(serverName, "h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("negotiated %q, want h2", got)
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.AllowIllegalWrites = true
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return &h2conn{conn, framer}
}

// h2answer is what came back on stream 1: a status, or how the stream or the connection was ended.
type h2answer struct {
	status string
	body   string
	reset  bool // RST_STREAM, GOAWAY or a closed connection
	header map[string][]string
}

func (a h2answer) String() string {
	return fmt.Sprintf("status %q reset %v body %.200q", a.status, a.reset, a.body)
}

// ask sends one request on stream 1 with exactly these header fields and body frames.
func (c *h2conn) ask(fields [][2]string, data ...string) h2answer {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(data) == 0})
	for i, part := range data {
		c.framer.WriteData(1, i == len(data)-1, []byte(part))
	}
	answer := h2answer{header: map[string][]string{}}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			var stream http2.StreamError
			if !errors.As(err, &stream) {
				answer.reset = answer.reset || answer.status == ""
			}
			return answer
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				c.framer.WriteSettingsAck()
			}
		case *http2.RSTStreamFrame:
			answer.reset = answer.status == ""
			return answer
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				answer.reset = answer.status == ""
				return answer
			}
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				answer.header[field.Name] = append(answer.header[field.Name], field.Value)
			}
			if status := frame.PseudoValue("status"); status != "" && !strings.HasPrefix(status, "1") {
				answer.status = status
			}
			if frame.StreamEnded() {
				return answer
			}
		case *http2.DataFrame:
			answer.body += string(frame.Data())
			if frame.StreamEnded() {
				return answer
			}
		}
	}
}

// Table 4.2 in HTTP/2: what a gateway translates to HTTP/1.1 must not become another request.
func TestH2Attacks(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	base := func(path string, extra ...[2]string) [][2]string {
		return append([][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", own}, {":path", path}}, extra...)
	}
	cookie := [2]string{"cookie", strings.TrimPrefix(dana.line(), "Cookie: ")}
	rows := []struct {
		id     string
		fields [][2]string
		data   []string
	}{
		{"H6 host differs from authority", base("/members/x", [2]string{"host", "evil.example"}, cookie), nil},
		{"H6 no path", [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", own}, cookie}, nil},
		{"H6 empty path", base("", cookie), nil},
		{"H6 path without slash", base("members/x", cookie), nil},
		{"H6 path //evil", base("//evil.example/x", cookie), nil},
		{"H6 path with blank", base("/members/x HTTP/1.1\r\nX: y", cookie), nil},
		{"H6 path with CR LF", base("/members/x\r\nRemote-User: eve", cookie), nil},
		{"H6 path with NUL", base("/members/\x00x", cookie), nil},
		{"H6 path twice", base("/members/x", [2]string{":path", "/admin/x"}, cookie), nil},
		{"H6 method twice", base("/members/x", [2]string{":method", "POST"}, cookie), nil},
		{"H6 pseudo header after a header", append(base("/members/x", cookie), [2]string{":authority", "evil.example"}), nil},
		{"H6 unknown pseudo header", base("/members/x", [2]string{":x", "y"}, cookie), nil},
		{"H6 upper-case name", base("/members/x", [2]string{"Remote-User", "eve"}, cookie), nil},
		{"H6 another authority", [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "evil.example"}, {":path", "/members/x"}, cookie}, nil},
		{"H6 another site of ours", [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", r.authority(wideHost)}, {":path", "/members/x"}, cookie}, nil},
		{"H6 no authority", [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/members/x"}, cookie}, nil},
		{"H6 absolute path", base("https://evil.example/members/x", cookie), nil},
		{"H7 connection", base("/members/x", [2]string{"connection", "remote-user"}, cookie), nil},
		{"H7 transfer-encoding", base("/members/x", [2]string{"transfer-encoding", "chunked"}, cookie), nil},
		{"H7 upgrade", base("/members/x", [2]string{"upgrade", "h2c"}, cookie), nil},
		{"H7 keep-alive", base("/members/x", [2]string{"keep-alive", "x"}, cookie), nil},
		{"H7 proxy-connection", base("/members/x", [2]string{"proxy-connection", "x"}, cookie), nil},
		{"H7 te", base("/members/x", [2]string{"te", "x"}, cookie), nil},
		{"H8 value with CR LF", base("/members/x", [2]string{"x", "a\r\nremote-user: eve"}, cookie), nil},
		{"H8 value with LF", base("/members/x", [2]string{"x", "a\nremote-user: eve"}, cookie), nil},
		{"H8 value with NUL", base("/members/x", [2]string{"x", "a\x00b"}, cookie), nil},
		{"H8 name with colon", base("/members/x", [2]string{"remote-user: eve", "y"}, cookie), nil},
		{"H8 name with blank", base("/members/x", [2]string{"remote-user ", "eve"}, cookie), nil},
		{"H8 empty name", base("/members/x", [2]string{"", "eve"}, cookie), nil},
		{"H9 body shorter than said", base("/members/x", [2]string{"content-length", "10"}, cookie), []string{"abc"}},
		{"H9 body longer than said", base("/members/x", [2]string{"content-length", "2"}, cookie), []string{"abcdef"}},
		{"H9 two lengths", base("/members/x", [2]string{"content-length", "3"}, [2]string{"content-length", "4"}, cookie), []string{"abc"}},
		{"H13 extended CONNECT", [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":authority", own}, {":path", "/members/ws"}, cookie}, nil},
		{"P16 CONNECT", [][2]string{{":method", "CONNECT"}, {":authority", own}, cookie}, nil},
		{"M1 TRACE", [][2]string{{":method", "TRACE"}, {":scheme", "https"}, {":authority", own}, {":path", "/members/x"}, cookie}, nil},
		{"M3 lower-case method", [][2]string{{":method", "get"}, {":scheme", "https"}, {":authority", own}, {":path", "/members/x"}, cookie}, nil},
		{"P2 dot segments", base("/public/../admin", cookie), nil},
		{"P4 encoded slash", base("/public/..%2fadmin", cookie), nil},
	}
	tolerated := map[string]bool{ // HTTP/2 itself allows a server to ignore these; what counts is that nothing of them arrives
		"H6 host differs from authority": true, "H7 te": true, "H7 keep-alive": true, "H7 proxy-connection": true, "H7 connection": true,
		"H7 transfer-encoding": true, "H7 upgrade": true, "H9 body shorter than said": true,
		"H9 two lengths": true, // the first one is kept, and it is the body's
	}
	for i, test := range rows {
		t.Run(test.id, func(t *testing.T) {
			r.dump.take()
			field, mark := marked(i)
			answer := newH2(t, r.addr(), appHost).ask(append(slices.Clone(test.fields), field), test.data...)
			if strings.HasPrefix(test.id, "H9") {
				time.Sleep(60 * time.Millisecond) // a head may arrive after the stream was ended
			}
			got := row{mark: mark}.arrived(r.dump)
			refused := answer.reset || strings.HasPrefix(answer.status, "4") || strings.HasPrefix(answer.status, "5")
			if !refused && !tolerated[test.id] {
				t.Errorf("not refused: %s", answer)
			}
			arrived := got
			if strings.HasPrefix(test.id, "H9") {
				arrived = complete(got) // of these the head may be on its way before the body shows what is wrong; it is broken off then
			}
			if len(arrived) > 0 && !tolerated[test.id] {
				t.Errorf("forwarded:\n%s%q", arrived[0].Head, arrived[0].Body)
			}
			for _, problem := range broken(row{targets: []string{"/members/x"}, who: dana}, &exchange{}, complete(got)) {
				t.Error(problem)
			}
			for _, received := range got {
				if len(received.values("Host")) != 1 || received.values("Host")[0] != own {
					t.Errorf("the backend saw the host %q", received.values("Host"))
				}
				if strings.HasPrefix(test.id, "H9") && received.Err == nil && string(received.Body) != "abc" || len(received.values("Content-Length")) > 1 {
					t.Errorf("a body that is not as long as said arrived whole: %q", received.Body)
				}
			}
		})
	}
	t.Run("a good request", func(t *testing.T) {
		r.dump.take()
		field, mark := marked(len(rows))
		answer := newH2(t, r.addr(), appHost).ask(base("/members/x", cookie, [2]string{"remote-user", "eve"}, field))
		got := row{mark: mark}.arrived(r.dump)
		if answer.status != "200" || len(got) != 1 {
			t.Errorf("answered %s, %d arrived", answer, len(got))
		}
		for _, problem := range broken(row{targets: []string{"/members/x"}, who: dana}, &exchange{}, got) {
			t.Error(problem)
		}
	})
	t.Run("cookies in several fields", func(t *testing.T) { // RFC 9113 8.2.3: the same as one line
		r.dump.take()
		answer := newH2(t, r.addr(), appHost).ask(base("/members/x", [2]string{"cookie", cookieToken + "=" + dana.token}, [2]string{"cookie", "app=1"},
			[2]string{"cookie", cookieContext + "=" + dana.context}))
		if answer.status != "200" {
			t.Errorf("answered %s", answer)
		}
		for _, problem := range broken(row{targets: []string{"/members/x"}, who: dana}, &exchange{}, r.dump.take()) {
			t.Error(problem)
		}
	})
	t.Run("I7 trailers", func(t *testing.T) {
		r.dump.take()
		c := newH2(t, r.addr(), appHost)
		c.trailer(base("/public/x", [2]string{"trailer", "remote-user"}, cookie), "abc", [2]string{"remote-user", "eve"})
		time.Sleep(100 * time.Millisecond)
		for _, received := range r.dump.take() {
			if len(received.Trailers) > 0 {
				t.Errorf("trailers reached the backend: %v", received.Trailers)
			}
			for _, problem := range identityProblems(dana, received) {
				t.Error(problem)
			}
		}
	})
}

// marked is a field that tells the i-th row from the others, and how it arrives.
func marked(i int) (field [2]string, line string) {
	return [2]string{"x-row", strconv.Itoa(i)}, fmt.Sprintf("X-Row: %d\r\n", i)
}

// trailer sends a POST with a body and one trailer field.
func (c *h2conn) trailer(fields [][2]string, data string, trailer [2]string) {
	fields[0][1] = "POST"
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: bytes.Clone(block.Bytes()), EndHeaders: true})
	c.framer.WriteData(1, false, []byte(data))
	block.Reset()
	encoder.WriteField(hpack.HeaderField{Name: trailer[0], Value: trailer[1]})
	c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}

// complete keeps the requests whose body arrived whole: a backend acts on those.
func complete(all []*received) []*received {
	var whole []*received
	for _, r := range all {
		if r.Err == nil {
			whole = append(whole, r)
		}
	}
	return whole
}
