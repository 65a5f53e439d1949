package integration

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Table 4.2, the framing: where two programs disagree about the end of a request, what one reads as a body is to the other a
// request of somebody else. The canary is /members/smuggled: it must never arrive for somebody who did not ask for it.
func TestFramingAttacks(t *testing.T) {
	r := newRig(t, standard)
	own := r.authority(appHost)
	smuggled := "GET /members/smuggled HTTP/1.1\r\nHost: " + own + "\r\n\r\n"
	post := func(body string, extra ...string) string { return request("POST", "/public/a", own, body, extra...) }
	refused := []row{
		{id: "H16 two lengths that differ", payload: post("abcdef", "Content-Length: 6", "Content-Length: 5")},
		{id: "H16 plus", payload: post("abcd", "Content-Length: +4")},
		{id: "H16 list", payload: post("abcd", "Content-Length: 4, 5")},
		{id: "H16 negative", payload: post("", "Content-Length: -1")},
		{id: "H16 hexadecimal", payload: post("abcd", "Content-Length: 0x4")},
		{id: "H16 huge", payload: post("abcd", "Content-Length: 99999999999999999999")},
		{id: "H16 empty", payload: post("abcd", "Content-Length:")},
		{id: "H14 unknown coding", payload: post("0\r\n\r\n", "Transfer-Encoding: xchunked")},
		{id: "H14 coding twice", payload: post("0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: identity")},
		{id: "H14 chunked twice", payload: post("0\r\n\r\n", "Transfer-Encoding: chunked, chunked")},
		{id: "H14 blank before the colon", payload: post("0\r\n\r\n"+smuggled, "Transfer-Encoding : chunked", "Content-Length: 5")},
		{id: "H18 bare CR in the head", payload: get("/public/a", own, "X: a\rRemote-User: eve")},
		{id: "H18 NUL in the head", payload: get("/public/a", own, "X: a\x00b")},
		{id: "H18 blank before the colon", payload: get("/public/a", own, "Remote-User : eve")},
		{id: "H18 first header with a blank", payload: "GET /public/a HTTP/1.1\r\n Remote-User: eve\r\nHost: " + own + "\r\n\r\n"},
		{id: "H19 unknown expectation", payload: get("/public/a", own, "Expect: x")},
	}
	for _, a := range refused {
		t.Run(a.id, func(t *testing.T) {
			if _, got := r.attack(t, a); len(got) > 0 {
				t.Errorf("forwarded: %v", heads(got))
			}
		})
	}

	// net/http settles these before any handler runs: at most one clean request at the backend, or a refusal.
	settled := []row{
		{id: "H14 CL.TE", payload: post("0\r\n\r\nX", "Content-Length: 6", "Transfer-Encoding: chunked")},
		{id: "H14 CL.TE with a request behind", payload: post("0\r\n\r\n"+smuggled, fmt.Sprintf("Content-Length: %d", 5+len(smuggled)), "Transfer-Encoding: chunked")},
		{id: "H14 TE.CL", payload: post(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), "Content-Length: 4", "Transfer-Encoding: chunked")},
		{id: "H16 two equal lengths", payload: post("abcd", "Content-Length: 4", "Content-Length: 4")},
		{id: "H17 extension", payload: post("1;ext=x\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked")},
		{id: "H18 bare LF", payload: strings.ReplaceAll(get("/public/a", own), "\r\n", "\n")},
		{id: "H18 folded line", payload: get("/public/a", own, "X: a", " Remote-User: eve", "\tX-Auth-User: eve")},
		{id: "H19 GET with a body", payload: request("GET", "/public/a", own, smuggled, fmt.Sprintf("Content-Length: %d", len(smuggled)))},
		{id: "H19 DELETE with a body", payload: request("DELETE", "/public/a", own, smuggled, fmt.Sprintf("Content-Length: %d", len(smuggled)))},
		{id: "H19 HEAD with a body", payload: request("HEAD", "/public/a", own, smuggled, fmt.Sprintf("Content-Length: %d", len(smuggled)))},
		{id: "H19 expectation", payload: post("abcd", "Content-Length: 4", "Expect: 100-continue")},
	}
	for _, a := range settled {
		t.Run(a.id, func(t *testing.T) {
			a.targets = []string{"/public/a"}
			a.want = []int{200, 400, 403, 411, 413, 417, 501}
			_, got := r.attack(t, a)
			for _, received := range got {
				if len(received.values("Transfer-Encoding")) > 0 && len(received.values("Content-Length")) > 0 {
					t.Errorf("two framings reached the backend:\n%s", received.Head)
				}
				if strings.Contains(received.Head, "eve") && len(received.Headers) > 0 && len(received.values("Remote-User"))+len(received.values("X-Auth-User")) > 0 {
					t.Errorf("a folded header became a header:\n%s", received.Head)
				}
			}
		})
	}

	// H17: a body that breaks off or lies about its chunks is never taken as complete.
	chunks := map[string]string{
		"0x size": "0x1\r\na\r\n0\r\n\r\n", "bare LF": "1\na\n0\n\n", "negative": "-1\r\na\r\n0\r\n\r\n", "17 digits": "00000000000000001\r\na\r\n0\r\n\r\n",
		"junk after the size": "1 x\r\na\r\n0\r\n\r\n", "size too large": "ffffffffffffffff\r\na\r\n0\r\n\r\n", "no CRLF after the data": "1\r\na0\r\n\r\n",
		"no size": "\r\na\r\n0\r\n\r\n", "wrong size": "2\r\nabc\r\n0\r\n\r\n",
	}
	for id, body := range chunks {
		t.Run("H17 "+id, func(t *testing.T) {
			mark := "X-Row: " + strconv.Quote(id)
			a := row{payload: post(body, "Transfer-Encoding: chunked", mark), mark: mark, targets: []string{"/public/a"}, want: []int{0, 400, 502, 200}, pending: id == "size too large"}
			e, got := r.attack(t, a)
			time.Sleep(50 * time.Millisecond) // a head may arrive after the client has its refusal
			got = append(got, a.arrived(r.dump)...)
			if len(got) > 1 {
				t.Errorf("one request became %d: %v", len(got), heads(got))
			}
			for _, received := range got {
				if received.Err == nil && !(id == "bare LF" && string(received.Body) == "a") {
					t.Errorf("a broken body was taken as complete: %q (answered %d)", received.Body, e.status())
				}
			}
		})
	}
}

// H19, H23: whatever happens to a body that nobody wanted, the next request on the connection is answered as itself.
func TestFramingKeepsStep(t *testing.T) {
	r := newRig(t, standard)
	own := r.authority(appHost)
	for _, size := range []int{10, 100_000, 300_000, 2_000_000} {
		t.Run(fmt.Sprintf("H23 refused body of %d bytes", size), func(t *testing.T) {
			filler := strings.Repeat("GET /members/smuggled HTTP/1.1\r\nHost: "+own+"\r\n\r\n", 1+size/40)[:size]
			payload := request("POST", "/members/x", own, filler, fmt.Sprintf("Content-Length: %d", size)) + get("/public/second", own)
			e, got := r.attack(t, row{payload: payload, targets: []string{"/public/second"}, want: []int{401, 403, 413, 0}})
			for _, received := range got {
				if received.Target != "/public/second" {
					t.Errorf("out of a body came %s", received.Target)
				}
			}
			if len(e.Answers) == 2 && !strings.Contains(e.Answers[1].Body, "dump of GET /public/second") {
				t.Errorf("the second request was answered with %q", e.Answers[1].Body)
			}
		})
	}
	for _, method := range []string{"GET", "DELETE", "POST"} {
		t.Run("H19 "+method+" twice", func(t *testing.T) {
			payload := request(method, "/public/first", own, "abcd", "Content-Length: 4") + get("/public/second", own)
			e, _ := r.attack(t, row{payload: payload, targets: []string{"/public/first", "/public/second"}, want: []int{200}})
			if len(e.Answers) != 2 || !strings.Contains(e.Answers[0].Body, "/public/first") || !strings.Contains(e.Answers[1].Body, "/public/second") {
				t.Errorf("answers out of step: %+v", e.Answers)
			}
		})
	}
}

// H11, M7: an upgrade to anything but WebSocket is not passed on, and a tunnel opens only after the application's 101.
func TestUpgradeAttacks(t *testing.T) {
	r := newRig(t, standard)
	own := r.authority(appHost)
	dana := r.person(t, appHost, "dana")
	r.dump.respond(t, func(received *received, conn net.Conn) {
		if len(received.values("Upgrade")) > 0 {
			reply(conn, "426 Upgrade Required", "", "no tunnel here\n")
			return
		}
		plainAnswer(received, conn)
	})
	key := "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
	for id, extra := range map[string][]string{
		"H11 h2c":                        {"Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"},
		"H11 foo":                        {"Upgrade: foo", "Connection: Upgrade"},
		"M7 two protocols":               {"Upgrade: WebSocket, h2c", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13"},
		"M7 two lines":                   {"Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13"},
		"M7 no Connection":               {"Upgrade: websocket", key, "Sec-WebSocket-Version: 13"},
		"M7 wrong version":               {"Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 99"},
		"M7 websocket, backend says 426": {"Upgrade: websocket", "Connection: Upgrade", key, "Sec-WebSocket-Version: 13", "Origin: https://" + own},
	} {
		t.Run(id, func(t *testing.T) {
			payload := get("/members/x", own, append(extra, dana.line())...) + get("/members/second", own, dana.line())
			e, got := r.attack(t, row{payload: payload, targets: []string{"/members/x", "/members/second"}, who: dana,
				want: []int{200, 400, 403, 426, 501}})
			for _, received := range got {
				for _, v := range received.values("Upgrade") {
					if !strings.EqualFold(v, "websocket") {
						t.Errorf("Upgrade %q reached the backend", v)
					}
				}
			}
			for _, answer := range e.Answers {
				if answer.Status == 101 {
					t.Errorf("a tunnel was opened")
				}
			}
		})
	}
}

// H24: an application that answers out of turn must not be able to answer somebody else's request.
func TestBackendAnswersOutOfTurn(t *testing.T) {
	r := newRig(t, standard)
	own := r.authority(appHost)
	r.dump.respond(t, func(received *received, conn net.Conn) {
		switch received.path() {
		case "/public/unasked":
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw bytes")
		case "/public/two":
			reply(conn, "200 OK", "", "first answer")
			reply(conn, "200 OK", "", "stale answer")
		default:
			plainAnswer(received, conn)
		}
	})
	t.Run("H24 101 without being asked", func(t *testing.T) {
		e, _ := r.attack(t, row{payload: get("/public/unasked", own), targets: []string{"/public/unasked"}, want: []int{502, 500, 200}})
		if strings.Contains(e.Raw, "raw bytes") || strings.Contains(e.Raw, "101 Switching") {
			t.Errorf("bytes of the tunnel came through: %q", e.Raw)
		}
	})
	t.Run("H24 two answers", func(t *testing.T) {
		r.attack(t, row{payload: get("/public/two", own), targets: []string{"/public/two"}, want: []int{200}})
		time.Sleep(50 * time.Millisecond) // the stale answer reaches the proxy's idle connection
		for range 3 {
			e, _ := r.attack(t, row{payload: get("/public/next", own), targets: []string{"/public/next"}, want: []int{200, 502}})
			if strings.Contains(e.Raw, "stale answer") {
				t.Errorf("the next person got: %q", e.Raw)
			}
		}
	})
}
