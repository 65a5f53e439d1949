package gate

import (
	"bufio"
	"crypto/sha1" // RFC 6455 section 4.2.2 names it; nothing is kept secret by it
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// closeCodes are what a script is told in CloseEvent.code (IANA WebSocket Close Code Number Registry). The kinds that the door
// decides have none: whoever sends such a request is not a page of this site.
var closeCodes = map[Kind]uint16{
	KindNoSession: closeUnauthorized, KindStepUp: closeUnauthorized,
	KindForbidden: closeForbidden, KindBudget: closeForbidden,
	KindUnavailable: closeTryLater,
}

// isOwnPageSocket reports whether a page of this very origin opens a WebSocket, with everything that a browser says of it. A
// browser hides the status of a handshake that failed from the script (WHATWG WebSockets, section 2.2), so that a page cannot
// tell a session that ended from a broken network; any other client reads the status, and gets it.
func (x *exchange) isOwnPageSocket() bool {
	h := x.r.Header
	is := func(name, value string) bool { return len(h[name]) == 1 && h[name][0] == value }
	if !x.upgrade || !is("Sec-Websocket-Version", "13") || !is("Origin", "https://"+x.origin()) {
		return false
	}
	switch {
	case len(h["Sec-Fetch-Mode"]) > 0 || len(h["Sec-Fetch-Site"]) > 0:
		if !is("Sec-Fetch-Mode", "websocket") || !is("Sec-Fetch-Site", "same-origin") {
			return false
		}
	// Chromium sends no Fetch metadata here, and all else that the Fetch standard has for a WebSocket.
	case !is("Pragma", "no-cache") || !is("Cache-Control", "no-cache") || len(h["User-Agent"]) != 1 || !strings.HasPrefix(h["User-Agent"][0], "Mozilla/"):
		return false
	}
	if keys := h["Sec-Websocket-Key"]; len(keys) != 1 || !isSocketKey(keys[0]) {
		return false
	}
	_, ok := subprotocol(h["Sec-Websocket-Protocol"])
	return ok
}

// isSocketKey reports whether a key is 16 bytes in base64 (RFC 6455 section 4.1).
func isSocketKey(key string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(key)
	return err == nil && len(b) == 16 && len(key) == 24
}

// subprotocol chooses the first of those that were asked for: a browser takes no answer without one then.
func subprotocol(lines []string) (string, bool) {
	if len(lines) == 0 {
		return "", true
	}
	first, _, _ := strings.Cut(lines[0], ",")
	first = strings.Trim(first, " \t")
	return first, isToken(first) && len(first) <= 255
}

// closeSocket accepts the WebSocket and ends it at once: the code says why, and nothing of it reaches the app. It is false when
// the connection cannot be had, and nothing was answered.
func (x *exchange) closeSocket(no refusal) bool {
	conn, rw, err := http.NewResponseController(x.answer.ResponseWriter).Hijack()
	if err != nil {
		return false
	}
	bury(conn, rw, x.socketHead(), closeFrame(closeCodes[no.kind], string(no.kind)))
	return true
}

// bury sends the head of an answer, and a close frame as the last of a connection.
func bury(conn net.Conn, rw *bufio.ReadWriter, head string, last []byte) {
	_ = conn.SetDeadline(time.Now().Add(farewell))
	t, _, err := newTunnel(conn, rw, true, true, func() {})
	if err == nil {
		_, err = io.WriteString(conn, head)
	}
	if err != nil {
		_ = conn.Close()
		return
	}
	t.condemn()
	t.bury(last)
}

// socketHead is the answer to the handshake (RFC 6455 section 4.2.2). Its parts are our own, a hash, or a token.
func (x *exchange) socketHead() string {
	h := x.r.Header
	sum := sha1.Sum([]byte(h["Sec-Websocket-Key"][0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	head := switching + "Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\nCache-Control: no-store\r\n"
	if chosen, _ := subprotocol(h["Sec-Websocket-Protocol"]); chosen != "" {
		head += "Sec-WebSocket-Protocol: " + chosen + "\r\n"
	}
	if x.answer.hsts {
		head += "Strict-Transport-Security: " + hsts + "\r\n"
	}
	return head + "\r\n"
}
