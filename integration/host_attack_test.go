package integration

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Table 4.2, the names: whoever confuses the proxy about the host gets another site's rules, or lets it send people, codes and
// cookies to a host of his choice.
func TestHostAttacks(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	own := r.authority(appHost)
	members := func(host string) string { return get("/members/x", host, dana.line(), "Connection: close") }
	rows := []row{
		{id: "H1 trailing dot", payload: members("app.test."), want: []int{400, 421}},
		{id: "H1 trailing dot and port", payload: members("app.test.:" + strings.Split(own, ":")[1]), want: []int{400, 421}},
		{id: "H1 dots", payload: members("..."), want: []int{400, 421}},
		{id: "H1 unknown host", payload: members("evil.example"), want: []int{400, 421}},
		{id: "H1 site by address", payload: members("127.0.0.1"), want: []int{400, 421}},
		{id: "H2 port with letters", payload: members("app.test:x80"), want: []int{400, 421}},
		{id: "H2 list", payload: members("app.test,evil.example"), want: []int{400, 421}},
		{id: "H2 userinfo", payload: members("app.test@evil.example"), want: []int{400, 421}},
		{id: "H2 blank", payload: members("app.test evil.example"), want: []int{400, 421}},
		{id: "H2 empty", payload: members(""), want: []int{400, 421}},
		{id: "H3 two hosts", payload: get("/members/x", own, "Host: wide.test", dana.line()), want: []int{400}},
		{id: "H3 two equal hosts", payload: get("/members/x", own, "Host: "+own, dana.line()), want: []int{400}},
		{id: "H3 no host", payload: "GET /members/x HTTP/1.1\r\n" + dana.line() + "\r\n\r\n", want: []int{400}},
		{id: "H3 HTTP/1.0 without host", payload: "GET /members/x HTTP/1.0\r\n" + dana.line() + "\r\n\r\n", want: []int{400, 421}},
		{id: "H3 HTTP/0.9", payload: "GET /members/x\r\n\r\n", want: []int{400, 0}},
		// Another site's name under this site's handshake: the rules of one site must not meet the certificate of the other.
		{id: "SNI is not Host", payload: members(r.authority(wideHost)), want: []int{421}},
	}
	for _, a := range rows {
		t.Run(a.id, func(t *testing.T) {
			a.who = dana
			if _, got := r.attack(t, a); len(got) > 0 {
				t.Errorf("forwarded: %q", got[0].Head)
			}
		})
	}
	// The name is compared without regard to case; the port is not the site's name.
	for _, host := range []string{own, strings.ToUpper(own)} {
		t.Run("H2 "+host, func(t *testing.T) {
			r.attack(t, row{payload: get("/public/x", host, "Connection: close"), targets: []string{"/public/x"}, want: []int{200}})
		})
	}
}

// H4: headers that claim another host, scheme or client change nothing that we build or write down.
func TestForwardedHeadersAttack(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	spoofed := []string{"X-Forwarded-Host: evil.example", "X-Host: evil.example", "Forwarded: host=evil.example;proto=http;for=203.0.113.9",
		"X-Forwarded-Proto: http/javascript", "X-Forwarded-For: 203.0.113.9", "X-Real-IP: 203.0.113.9", "True-Client-IP: 203.0.113.9",
		"X-Forwarded-Port: 1", "X-Forwarded-Server: evil.example", "X-Forwarded-Prefix: /evil", "X-Forwarded-Uri: /admin",
		"X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X-Override-URL: /admin"}
	e, _ := r.attack(t, row{payload: r.ask("/.anteroom/login/hospital", nil, append(spoofed, "Accept: text/html")...), want: []int{302, 303}})
	if len(e.Answers) == 0 {
		t.Fatal("no answer")
	}
	location, err := url.Parse(e.Answers[0].Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := location.Query().Get("redirect_uri"), r.url(appHost, "/.anteroom/callback/hospital"); got != want {
		t.Errorf("the provider is told to send the person to %s, want %s", got, want)
	}
	if strings.Contains(e.Raw, "evil.example") {
		t.Errorf("a spoofed host is in the answer:\n%s", e.Raw)
	}

	dana := r.person(t, appHost, "dana")
	_, got := r.attack(t, row{payload: r.ask("/members/x", dana, spoofed...), targets: []string{"/members/x"}, who: dana, want: []int{200}})
	for _, received := range got {
		for _, header := range []string{"X-Forwarded-Host", "X-Forwarded-For", "X-Forwarded-Proto"} {
			if v := strings.Join(received.values(header), ","); strings.Contains(v, "evil") || strings.Contains(v, "203.0.113.9") || strings.Contains(v, "javascript") {
				t.Errorf("%s reached the application as %q", header, v)
			}
		}
	}
	for _, rec := range r.audit(t) {
		if strings.Contains(fmt.Sprint(rec), "203.0.113.9") || strings.Contains(fmt.Sprint(rec), "evil.example") {
			t.Errorf("the audit log believes a spoofed header: %v", rec)
		}
	}
}

// Other protocols on the TLS port, and plain text.
func TestPlaintextAndOldTLS(t *testing.T) {
	r := newRig(t, standard)
	t.Run("H12 h2c preface", func(t *testing.T) { r.plain(t, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") })
	t.Run("plain HTTP", func(t *testing.T) { r.plain(t, get("/members/x", r.authority(appHost))) })
	t.Run("h2c upgrade in plain text", func(t *testing.T) {
		r.plain(t, get("/public/x", r.authority(appHost), "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"))
	})
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12} {
		for _, host := range []string{appHost, wideHost, "unknown.test", ""} {
			t.Run(tls.VersionName(version)+" "+host, func(t *testing.T) {
				config := clientTLS(host)
				config.MinVersion, config.MaxVersion, config.InsecureSkipVerify = version, version, true
				conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.addr(), config)
				if err == nil {
					conn.Close()
					t.Fatalf("a handshake with %s succeeded", tls.VersionName(version))
				}
				if !strings.Contains(err.Error(), "protocol version") && !strings.Contains(err.Error(), "handshake failure") {
					t.Errorf("refused with %v, want the alert protocol_version", err)
				}
			})
		}
	}
	t.Run("X25519MLKEM768 is offered first", func(t *testing.T) {
		conn, err := tls.Dial("tcp", r.addr(), clientTLS(appHost))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if state := conn.ConnectionState(); state.CurveID != tls.X25519MLKEM768 || state.Version != tls.VersionTLS13 {
			t.Errorf("negotiated %s, %s", tls.VersionName(state.Version), state.CurveID)
		}
	})
	if got := r.dump.take(); len(got) > 0 {
		t.Errorf("the backend received %v", heads(got))
	}
}

// plain writes to the TLS port without a handshake: nothing but a refusal comes back.
func (r *rig) plain(t *testing.T, payload string) {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, payload)
	b, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Fatalf("the connection was not ended: %v, read %q", err, b)
	}
	if len(b) > 0 && !strings.HasPrefix(string(b), "HTTP/1.0 400") && !strings.HasPrefix(string(b), "HTTP/1.1 400") && b[0] != 0x15 {
		t.Errorf("answered in plain text: %q", b)
	}
}
