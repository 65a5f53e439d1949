package gate

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// M9: gRPC and gRPC-Web are judged as anything else, and are told in their own words.
func TestM9GRPC(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AllowOrigins = []string{"https://portal.example"} })
	dana := r.dana()
	call := func(contentType string, version int, who *person, target string, lines ...string) *httptest.ResponseRecorder {
		return direct(r.gate, "POST", target, func(q *http.Request) {
			q.Header.Set("Content-Type", contentType)
			q.ProtoMajor = version
			if who != nil {
				q.Header.Set("Cookie", who.cookie)
			}
			for _, line := range lines {
				name, value, _ := strings.Cut(line, ": ")
				q.Header.Add(name, value)
			}
		}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Errorf("%s reached the app", target) }))
	}
	for name, c := range map[string]struct {
		contentType, answer string
		version             int
		who                 *person
		target, status      string
		lines               []string
	}{
		"gRPC, no session":        {"application/grpc", "application/grpc", 2, nil, "/members/x", "16", nil},
		"gRPC over HTTP/3":        {"application/grpc+proto", "application/grpc", 3, nil, "/nothing", "16", nil},
		"gRPC, parameters":        {"Application/gRPC+json; charset=utf-8", "application/grpc", 2, nil, "/members/x", "16", nil},
		"gRPC, forbidden":         {"application/grpc", "application/grpc", 2, dana, "/admin/x", "7", nil},
		"gRPC, other origin":      {"application/grpc", "application/grpc", 2, dana, "/members/x", "7", []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}},
		"gRPC, ambiguous":         {"application/grpc", "application/grpc", 2, dana, "/members%2fx", "3", nil},
		"gRPC-Web, no session":    {"application/grpc-web", "application/grpc-web+proto", 1, nil, "/members/x", "16", nil},
		"gRPC-Web, forbidden":     {"application/grpc-web+proto", "application/grpc-web+proto", 2, dana, "/admin/x", "7", []string{"Sec-Fetch-Mode: cors"}},
		"gRPC-Web in text":        {"application/grpc-web-text", "application/grpc-web-text+proto", 1, dana, "/admin/x", "7", nil},
		"gRPC-Web, listed origin": {"application/grpc-web+proto", "application/grpc-web+proto", 2, nil, "/members/x", "16", []string{"Origin: https://portal.example"}},
	} {
		w := call(c.contentType, c.version, c.who, c.target, c.lines...)
		h, message := w.Header(), w.Header().Get("Grpc-Message")
		if w.Code != 200 || h.Get("Content-Type") != c.answer || !slices.Equal(h["Grpc-Status"], []string{c.status}) || w.Body.Len() != 0 {
			t.Errorf("%s: %d %v %s", name, w.Code, h, w.Body)
		}
		if message == "" || strings.ContainsFunc(message, func(c rune) bool { return c < ' ' || c > '~' || c == '%' }) || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", name, h)
		}
		if listed := strings.Contains(name, "listed"); listed != (h.Get("Access-Control-Allow-Origin") == "https://portal.example") || listed != strings.Contains(h.Get("Access-Control-Expose-Headers"), "Grpc-Status") {
			t.Errorf("%s: %v", name, h)
		}
		if events := r.audit.take(); len(events) != 1 || events[0].Decision != "denied" || !strings.Contains(message, events[0].Ref) {
			t.Errorf("%s: %+v", name, events)
		}
	}
	// What is no call of gRPC gets what everybody gets: a page that somebody wants to pass for one, another protocol or method.
	for name, c := range map[string]struct {
		contentType, mode, accept string
		version, want             int
	}{
		"a browser's form":     {"application/grpc", "navigate", "text/html", 2, 303},
		"HTTP/1.1":             {"application/grpc", "", "*/*", 1, 401},
		"a longer type":        {"application/grpcx", "", "*/*", 2, 401},
		"a type that is close": {"application/grpc-webby", "", "*/*", 2, 401},
		"none":                 {"", "", "*/*", 2, 401},
	} {
		w := call(c.contentType, c.version, nil, "/members/x", "Accept: "+c.accept, "Sec-Fetch-Mode: "+c.mode)
		if c.mode == "" {
			w = call(c.contentType, c.version, nil, "/members/x", "Accept: "+c.accept)
		}
		if w.Code != c.want || w.Header()["Grpc-Status"] != nil {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	for _, method := range []string{"GET", "TRACE", "PUT"} {
		w := direct(r.gate, method, "/members/x", func(q *http.Request) { q.Header.Set("Content-Type", "application/grpc"); q.ProtoMajor = 2 }, nil)
		if w.Code/100 != 4 || w.Header()["Grpc-Status"] != nil {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
	// A connection that is wrong is refused by its status, whatever is said over it.
	w := direct(r.gate, "POST", "/members/x", func(q *http.Request) {
		q.Header.Set("Content-Type", "application/grpc")
		q.ProtoMajor, q.TLS = 2, nil
	}, nil)
	if w.Code != 421 {
		t.Errorf("without TLS: %d", w.Code)
	}
	r.audit.setFail(true)
	if w := call("application/grpc", 2, dana, "/members/x"); w.Header().Get("Grpc-Status") != "14" {
		t.Errorf("no record: %v", w.Header())
	}
}

// ownSocket are the lines of a WebSocket of a page of the site, as Firefox sends them.
var ownSocket = []string{
	"Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	"Origin: https://" + site, "Sec-Fetch-Mode: websocket", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Dest: empty",
}

// chromiumSocket is the same of a browser that sends no Fetch metadata with it.
var chromiumSocket = append(slices.Clone(ownSocket[:5]), "Pragma: no-cache", "Cache-Control: no-cache", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0.0.0")

// without drops the lines of a header and adds others.
func without(lines []string, name string, more ...string) []string {
	return append(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, name+":") }), more...)
}

// socket sends a handshake and returns the answer's head and what follows until the connection ends.
func (r *rig) socket(target string, who *person, lines []string) (head, rest string) {
	r.t.Helper()
	conn := r.dial()
	defer conn.Close()
	io.WriteString(conn, request("GET", target, who, lines...))
	all, err := io.ReadAll(conn)
	if err != nil {
		r.t.Errorf("the connection broke: %v", err)
	}
	head, rest, _ = strings.Cut(string(all), "\r\n\r\n")
	return head, rest
}

// A page's own WebSocket is told by a close code, since a script sees no status.
func TestWebSocketRefused(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for name, c := range map[string]struct {
		who    *person
		target string
		lines  []string
		code   uint16
		kind   Kind
	}{
		"no session":           {nil, "/members/live", ownSocket, 3000, KindNoSession},
		"no session, Chromium": {nil, "/members/live", chromiumSocket, 3000, KindNoSession},
		"no such path":         {nil, "/nothing", ownSocket, 3000, KindNoSession},
		"forbidden":            {dana, "/admin/live", ownSocket, 3003, KindForbidden},
		"with protocols":       {dana, "/admin/live", append(slices.Clone(ownSocket), "Sec-WebSocket-Protocol: chat.v2, chat.v1"), 3003, KindForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			r.take()
			head, rest := r.socket(c.target, c.who, c.lines)
			if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") { // RFC 6455 section 1.3
				t.Fatalf("head %q", head)
			}
			if chosen := strings.Contains(head, "\r\nSec-WebSocket-Protocol: chat.v2\r\n"); chosen != (name == "with protocols") || !strings.Contains(head, "\r\nStrict-Transport-Security: ") {
				t.Errorf("head %q", head)
			}
			if want := string(closeFrame(c.code, string(c.kind))); rest != want {
				t.Errorf("%q, want %q", rest, want)
			}
			if got := r.take(); len(got) > 0 {
				t.Errorf("the app received %+v", got)
			}
			if events := r.audit.take(); len(events) != 1 || events[0].Decision != "denied" {
				t.Errorf("events %+v", events)
			}
		})
	}
	t.Run("no record", func(t *testing.T) {
		r.audit.setFail(true)
		defer r.audit.setFail(false)
		if head, rest := r.socket("/members/live", dana, ownSocket); !strings.HasPrefix(head, "HTTP/1.1 101 ") || rest != string(closeFrame(1013, string(KindUnavailable))) {
			t.Errorf("%q %q", head, rest)
		}
	})
	t.Run("let in", func(t *testing.T) {
		r.app = sending(frame(text, []byte("hello")))
		defer func() { r.app = nil }()
		conn := r.dial()
		defer conn.Close()
		io.WriteString(conn, request("GET", "/members/live", dana, ownSocket...))
		want := append([]byte(switchingHead), frame(text, []byte("hello"))...)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || !bytes.Contains(got, []byte("101 Switching")) {
			t.Errorf("%q %v", got, err)
		}
	})
}

// Nobody else gets a 101: not another origin's page, not a program, not a handshake with something odd in it.
func TestWebSocketRefusedByStatus(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AllowOrigins = []string{"https://portal.example"} })
	dana := r.dana()
	for name, c := range map[string]struct {
		lines []string
		want  int
	}{
		"no Origin":                  {without(ownSocket, "Origin"), 401},
		"listed origin":              {without(without(ownSocket, "Origin"), "Sec-Fetch-Site", "Origin: https://portal.example", "Sec-Fetch-Site: cross-site"), 401},
		"other origin":               {without(without(ownSocket, "Origin"), "Sec-Fetch-Site", "Origin: https://evil.example", "Sec-Fetch-Site: cross-site"), 403},
		"other origin, Chromium":     {without(chromiumSocket, "Origin", "Origin: https://evil.example"), 403},
		"null origin, Chromium":      {without(chromiumSocket, "Origin", "Origin: null"), 403},
		"plain origin, Chromium":     {without(chromiumSocket, "Origin", "Origin: http://"+site), 403},
		"no Origin, Chromium":        {without(chromiumSocket, "Origin"), 401},
		"sibling":                    {without(ownSocket, "Sec-Fetch-Site", "Sec-Fetch-Site: same-site"), 403},
		"no Sec-Fetch-Site":          {without(ownSocket, "Sec-Fetch-Site"), 401},
		"no Sec-Fetch-Mode":          {without(ownSocket, "Sec-Fetch-Mode"), 401},
		"other Sec-Fetch-Mode":       {without(ownSocket, "Sec-Fetch-Mode", "Sec-Fetch-Mode: cors"), 401},
		"two Sec-Fetch-Mode":         {append(slices.Clone(ownSocket), "Sec-Fetch-Mode: websocket"), 401},
		"a program":                  {ownSocket[:4], 401},
		"a program with our origin":  {ownSocket[:5], 401},
		"a program named so":         {without(chromiumSocket, "User-Agent", "User-Agent: python-websocket/1"), 401},
		"no key":                     {without(ownSocket, "Sec-WebSocket-Key"), 401},
		"two keys":                   {append(slices.Clone(ownSocket), "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 401},
		"short key":                  {without(ownSocket, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="), 401},
		"long key":                   {without(ownSocket, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXg="), 401},
		"key that is no base64":      {without(ownSocket, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), 401},
		"key with stray bits":        {without(ownSocket, "Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR=="), 401},
		"M7 old version":             {without(ownSocket, "Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 401},
		"M7 no version":              {without(ownSocket, "Sec-WebSocket-Version"), 401},
		"M7 two protocols":           {without(ownSocket, "Upgrade", "Upgrade: websocket, h2c"), 401},
		"M7 upper case":              {without(ownSocket, "Upgrade", "Upgrade: WebSocket"), 401},
		"M7 no Connection":           {without(ownSocket, "Connection", "Connection: close"), 401},
		"protocol that is no token":  {append(slices.Clone(ownSocket), "Sec-WebSocket-Protocol: a b"), 401},
		"protocol that is empty":     {append(slices.Clone(ownSocket), "Sec-WebSocket-Protocol: ,a"), 401},
		"protocol of 256 characters": {append(slices.Clone(ownSocket), "Sec-WebSocket-Protocol: "+strings.Repeat("a", 256)), 401},
	} {
		t.Run(name, func(t *testing.T) {
			lines := c.lines
			if !strings.Contains(name, "Connection") {
				lines = without(lines, "Connection", "Connection: Upgrade, close")
			}
			r.attack(t, row{raw: request("GET", "/members/live", nil, lines...), want: []int{c.want}})
		})
	}
	t.Run("HTTP/2", func(t *testing.T) { // there is no such upgrade
		w := direct(r.gate, "GET", "/members/live", func(q *http.Request) {
			q.ProtoMajor, q.ProtoMinor = 2, 0
			for _, line := range ownSocket {
				name, value, _ := strings.Cut(line, ": ")
				q.Header.Set(name, value)
			}
		}, nil)
		if w.Code != 401 {
			t.Errorf("%d", w.Code)
		}
	})
	t.Run("ambiguous path", func(t *testing.T) {
		lines := without(ownSocket, "Connection", "Connection: Upgrade, close")
		r.attack(t, row{raw: request("GET", "/members%2flive", dana, lines...), who: dana, want: []int{400}})
	})
	t.Run("before transport and host were looked at", func(t *testing.T) {
		r.gate.ready = func() bool { return false }
		defer func() { r.gate.ready = nil }()
		lines := without(ownSocket, "Connection", "Connection: Upgrade, close")
		r.attack(t, row{raw: request("GET", "/members/live", dana, lines...), who: dana, want: []int{503}})
	})
	t.Run("a connection that cannot be had", func(t *testing.T) {
		w := direct(r.gate, "GET", "/members/live", func(q *http.Request) {
			for _, line := range ownSocket {
				name, value, _ := strings.Cut(line, ": ")
				q.Header.Set(name, value)
			}
		}, nil)
		if w.Code != 401 || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
	})
}

// preflight sends one and returns the answer; the app was reached or not.
func (r *rig) preflight(target, origin, method, headers string, more ...string) (w *httptest.ResponseRecorder, reached bool) {
	w = direct(r.gate, "OPTIONS", target, func(q *http.Request) {
		for name, value := range map[string]string{"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers} {
			if value != "" {
				q.Header.Set(name, value)
			}
		}
		for _, line := range more {
			name, value, _ := strings.Cut(line, ": ")
			q.Header.Add(name, value)
		}
	}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { reached = true; w.WriteHeader(200) }))
	return w, reached
}

const listed = "https://portal.example"

// M4: a preflight of a listed origin is answered here, for every path alike, and opens nothing; any other is refused as a request is.
func TestM4Preflight(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.AllowOrigins = []string{listed}
		c.Policy = compile(t, append(slices.Clone(rules), "allow public OPTIONS /open/**", "allow role doctor PROPFIND /dav/**")...)
	})
	dana := r.dana()
	var first http.Header
	for _, target := range []string{"/members/x", "/nothing", "/admin/x", "/own/dana/x", "/members/Closed/x", "/"} {
		w, reached := r.preflight(target, listed, "PUT", "content-type, X-Csrf-Token")
		h := w.Header()
		if w.Code != 204 || reached || w.Body.Len() != 0 {
			if target == "/" && reached { // public, OPTIONS included: the app's own
				continue
			}
			t.Fatalf("%s: %d %t", target, w.Code, reached)
		}
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": listed, "Access-Control-Allow-Credentials": "true", "Access-Control-Allow-Methods": allowedMethods,
			"Access-Control-Allow-Headers": "content-type, x-csrf-token", "Access-Control-Max-Age": "60", "Cache-Control": "no-store",
			"Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers", "Strict-Transport-Security": hsts,
		} {
			if !slices.Equal(h[name], []string{want}) {
				t.Errorf("%s: %s: %q", target, name, h[name])
			}
		}
		if first == nil {
			first = h
		}
		if fmt.Sprint(h) != fmt.Sprint(first) {
			t.Errorf("%s can be told from others: %v", target, h)
		}
	}
	if events := r.audit.take(); len(events) != 0 {
		t.Errorf("events %+v", events)
	}
	if w, reached := r.preflight("/open/x", listed, "PUT", ""); !reached || w.Header()["Access-Control-Allow-Origin"] != nil {
		t.Errorf("a preflight that a rule passes to the app: %t %v", reached, w.Header())
	}
	if w, _ := r.preflight("/dav/x", listed, "PROPFIND", ""); w.Header().Get("Access-Control-Allow-Methods") != allowedMethods+", PROPFIND" {
		t.Errorf("a method of the rules: %v", w.Header())
	}
	for _, method := range []string{"put", "TRACE", "*", "GET, X", "PUT\r\nX: y", "PRO"} {
		if w, _ := r.preflight("/members/x", listed, method, ""); w.Code != 204 || w.Header().Get("Access-Control-Allow-Methods") != allowedMethods {
			t.Errorf("%q: %d %v", method, w.Code, w.Header())
		}
	}
	for name, origin := range map[string]string{
		"null": "null", "stranger": "https://evil.example", "suffix": listed + ".evil.example", "prefix": "https://evil-portal.example", "port": listed + ":444", "slash": listed + "/",
		"other scheme": "http://portal.example", "upper case": "https://PORTAL.example", "ourselves": "https://" + site, "star": "*", "none": "",
	} {
		w, reached := r.preflight("/members/x", origin, "PUT", "x")
		if w.Code != 401 || reached || hasCORS(w.Header()) {
			t.Errorf("%s: %d %t %v", name, w.Code, reached, w.Header())
		}
	}
	for name, more := range map[string]string{"two origins": "Origin: " + listed, "two methods": "Access-Control-Request-Method: GET"} {
		if w, reached := r.preflight("/members/x", listed, "PUT", "", more); w.Code == 204 || reached {
			t.Errorf("%s: %d %t", name, w.Code, reached)
		}
	}
	if w, reached := r.preflight("/members/x", listed, "", ""); w.Code != 401 || reached {
		t.Errorf("no preflight: %d %t", w.Code, reached)
	}
	if w, reached := r.preflight("/members%2fx", listed, "PUT", ""); w.Code != 400 || reached {
		t.Errorf("ambiguous path: %d %t", w.Code, reached)
	}
	// The request that follows is judged as ever.
	if w := direct(r.gate, "PUT", "/admin/x", func(q *http.Request) { q.Header.Set("Origin", listed); q.Header.Set("Cookie", dana.cookie) }, nil); w.Code != 403 {
		t.Errorf("after a preflight: %d", w.Code)
	}
}

func hasCORS(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			return true
		}
	}
	return false
}

// Access-Control-Request-Headers with junk in it: nothing of it comes back, and no name that would be deleted anyway.
func TestPreflightHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"plain":       {[]string{"X-A,content-type"}, "x-a, content-type"},
		"blanks":      {[]string{" x-a ,\tx-b "}, "x-a, x-b"},
		"identity":    {[]string{"x-a, Remote-User, x_auth_user, anteroom-emergency, x-b"}, "x-a, x-b"},
		"star":        {[]string{"*"}, ""},
		"two lines":   {[]string{"x-a", "x-b"}, ""},
		"empty":       {[]string{""}, ""},
		"empty name":  {[]string{"x-a,,x-b"}, ""},
		"line end":    {[]string{"x-a\r\nSet-Cookie: x"}, ""},
		"blank in it": {[]string{"x a"}, ""},
		"colon":       {[]string{"x-a: 1"}, ""},
		"not ASCII":   {[]string{"x-é"}, ""},
		"control":     {[]string{"x-\x00"}, ""},
		"long name":   {[]string{strings.Repeat("a", 65)}, ""},
		"long list":   {[]string{strings.Repeat("abc,", 300) + "a"}, ""},
	} {
		if got := askedHeaders(c.lines); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A script of a listed origin reads our refusals; nobody else's does, and no script is redirected.
func TestScriptsReadRefusals(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AllowOrigins = []string{listed} })
	dana := r.dana()
	ask := func(method, target, origin string, who *person, lines ...string) *httptest.ResponseRecorder {
		return direct(r.gate, method, target, func(q *http.Request) {
			if origin != "" {
				q.Header.Set("Origin", origin)
			}
			if who != nil {
				q.Header.Set("Cookie", who.cookie)
			}
			for _, line := range lines {
				name, value, _ := strings.Cut(line, ": ")
				q.Header.Set(name, value)
			}
		}, nil)
	}
	for name, c := range map[string]struct {
		method, target string
		who            *person
		want           int
	}{"no session": {"GET", "/members/x", nil, 401}, "forbidden": {"POST", "/admin/x", dana, 403}, "ambiguous": {"GET", "/a%2fb", nil, 400}, "method": {"TRACE", "/members/x", nil, 405}} {
		w := ask(c.method, c.target, listed, c.who, "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: cross-site")
		h := w.Header()
		if w.Code != c.want || h.Get("Access-Control-Allow-Origin") != listed || h.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "WWW-Authenticate") || h.Get("Vary") != "Origin" {
			t.Errorf("%s: %d %v", name, w.Code, h)
		}
		for _, origin := range []string{"", "null", "https://evil.example", "https://" + site} {
			if w := ask(c.method, c.target, origin, c.who); hasCORS(w.Header()) {
				t.Errorf("%s, origin %q: %v", name, origin, w.Header())
			}
		}
	}
	// Also what the app answers gets no header of ours.
	if w := ask("GET", "/members/x", listed, dana); w.Code != 200 || hasCORS(w.Header()) {
		t.Errorf("the app's answer: %d %v", w.Code, w.Header())
	}
	for name, lines := range map[string][]string{
		"fetch":                {"Sec-Fetch-Mode: cors", "Accept: text/html"},
		"fetch, no-cors":       {"Sec-Fetch-Mode: no-cors", "Accept: text/html"},
		"fetch, same-origin":   {"Sec-Fetch-Mode: same-origin", "Accept: text/html"},
		"XHR":                  {"X-Requested-With: XMLHttpRequest", "Accept: text/html"},
		"old browser's script": {"Origin: " + listed, "Accept: text/html"},
		"EventSource":          {"Accept: text/event-stream"},
	} {
		if w := ask("GET", "/members/x", "", nil, lines...); w.Code != 401 || w.Header().Get("Location") != "" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	if w := ask("GET", "/members/x", "", nil, "Sec-Fetch-Mode: navigate", "Accept: text/html"); w.Code != 302 {
		t.Errorf("a page: %d", w.Code)
	}
}
