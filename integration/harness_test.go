package integration

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
)

// The rig itself: a check that sees nothing would pass for every product.

// tlsFront passes the bytes of TLS connections on to the dump backend, unread: a proxy that lets everything through.
func tlsFront(t testing.TB, d *dump) (addr string) {
	t.Helper()
	cert, key := ca().issue(t, t.TempDir(), "front", nil, siteNames...)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() { // ends when the listener is closed
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", d.addr)
			if err != nil {
				client.Close()
				return
			}
			go func() { io.Copy(backend, client); backend.Close() }()
			go func() { io.Copy(client, backend); client.Close() }()
		}
	}()
	return listener.Addr().String()
}

func TestHarnessSeesBytes(t *testing.T) {
	d := startDump(t)
	addr := tlsFront(t, d)
	payload := "POST /a%2fb/..;/x?q#f HTTP/1.1\r\nHost: app.test\r\nX_Remote.User: eve\r\nTransfer-Encoding: chunked\r\n\r\n" +
		"3\r\nabc\r\n0\r\nRemote-User: mallory\r\n\r\n"
	e := send(t, addr, appHost, payload+get("/second", "app.test"), 2)
	if len(e.Answers) != 2 || e.status() != 200 {
		t.Fatalf("answers %+v, want two of 200", e.Answers)
	}
	got := d.take()
	if len(got) != 2 {
		t.Fatalf("the backend saw %d requests, want 2", len(got))
	}
	first := got[0]
	if first.Target != "/a%2fb/..;/x?q#f" || string(first.Body) != "abc" || first.Head != strings.SplitAfter(payload, "chunked\r\n")[0] {
		t.Errorf("the backend kept %+v", first)
	}
	if v := first.values("Remote-User"); len(v) != 1 || v[0] != "mallory" {
		t.Errorf("trailer not seen as a header: %v", v)
	}
	if v := first.values("x-remote-user"); len(v) != 1 || v[0] != "eve" {
		t.Errorf("odd spelling not seen: %v", v)
	}
	if len(d.take()) != 0 {
		t.Error("take does not empty the list")
	}
}

func TestHarnessInvariantsBite(t *testing.T) {
	dana := &session{user: "dana", token: "tok", context: "ctx"}
	tests := []struct {
		name string
		r    row
		got  []*received
		e    *exchange
		want string
	}{
		{"path changed", row{targets: []string{"/members/a"}, who: dana}, []*received{dumped("GET", "/members/b")}, &exchange{}, "byte for byte"},
		{"two for one", row{targets: []string{"/public/"}}, []*received{dumped("GET", "/public/"), dumped("GET", "/public/")}, &exchange{}, "one request on the wire"},
		{"header forged", row{targets: []string{"/public/"}}, []*received{dumped("GET", "/public/", "Remote_User", "eve")}, &exchange{}, "identity header"},
		{"header twice", row{targets: []string{"/public/"}, who: dana}, []*received{dumped("GET", "/public/", "Remote-User", "dana", "remote-user", "dana")}, &exchange{}, "identity header"},
		{"header missing", row{targets: []string{"/public/"}, who: dana}, []*received{dumped("GET", "/public/")}, &exchange{}, "identity header"},
		{"half of a session", row{targets: []string{"/public/"}}, []*received{dumped("GET", "/public/", "Cookie", "x=\"__hOst-Anteroom=1\"")}, &exchange{}, "session cookie"},
		{"protected without session", row{targets: []string{"/members/"}}, nil, &exchange{Answers: []answer{{Status: 200}}}, "without a session"},
		{"protected reached", row{targets: []string{"/members/"}}, []*received{dumped("GET", "/members/")}, &exchange{}, "may not reach"},
		{"wrong role", row{targets: []string{"/admin/"}, who: dana}, []*received{dumped("GET", "/admin/", "Remote-User", "dana", "Remote-Groups", "doctor", "Remote-Name", "Dana Doctor", "Remote-Email", "dana@hospital.test")}, &exchange{}, "may not reach"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			problems := strings.Join(broken(test.r, test.e, test.got), "\n")
			if !strings.Contains(problems, test.want) {
				t.Errorf("the invariants found %q, want something about %q", problems, test.want)
			}
		})
	}
}

func dumped(method, target string, headers ...string) *received {
	r := &received{Method: method, Target: target, Head: method + " " + target + " HTTP/1.1\r\n"}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Headers = append(r.Headers, [2]string{headers[i], headers[i+1]})
		r.Head += headers[i] + ": " + headers[i+1] + "\r\n"
	}
	return r
}

func TestHarnessSeesOpenListeners(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	found, err := listeners(syscall.Getpgrp())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range found {
		if l.addr.String() == listener.Addr().String() {
			return
		}
	}
	t.Errorf("%s is not among %v", listener.Addr(), found)
}

func TestHarnessChromium(t *testing.T) {
	d := startDump(t)
	addr := tlsFront(t, d)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newChromium(t)
	if status := c.navigate(t, "https://app.test:"+port+"/hello"); status != 200 {
		t.Fatalf("status %d", status)
	}
	c.waitText(t, "dump of GET /hello")
	c.screenshot(t, "hello")

	p := startProvider(t, freePort(t))
	p.ready(t)
	assertLoopback(t, p.proc)
}
