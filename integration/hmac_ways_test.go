package integration

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHMACOtherWays: the ways in that are not a local application's. From loopback all of them end in 404, with the credential.
func TestHMACOtherWays(t *testing.T) {
	const sites = `
front.test:$PORT, app.test:$PORT {
	tls $CERT $KEY
	reverse_proxy https://localhost:$PORT {
		header_up Host localhost:$PORT
		transport http {
			tls_server_name localhost
			tls_trust_pool file $DIR/ca.pem
		}
	}
}
`
	proxied := strings.Replace(hmacConfig, "\tadmin off", "\tadmin off\n\tservers {\n\t\tlistener_wrappers {\n\t\t\tproxy_protocol {\n\t\t\t\tallow 127.0.0.0/8\n\t\t\t}\n\t\t\ttls\n\t\t}\n\t}", 1)
	body := mustJSON(map[string]any{"items": []any{map[string]string{"uid": "u", "secret": "s"}}})
	call := func(host string) string {
		return request("POST", "/hmac-service/v1/protect", host, body, "Authorization: Bearer "+hmacToken, "Content-Type: application/json",
			fmt.Sprintf("Content-Length: %d", len(body)), "Connection: close")
	}
	t.Run("PROXY protocol", func(t *testing.T) {
		r := newHMAC(t, proxied)
		own := fmt.Sprintf("localhost:%d", r.port)
		for id, test := range map[string]struct {
			from, line string
			want       string
		}{
			"a local load balancer forwards a remote client": {"127.0.0.1", "PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n", "404"},
			"a remote attacker claims to be local":           {"127.0.0.6", "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n", "404"},
			"a local load balancer forwards a local client":  {"127.0.0.1", "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n", "any"},
			"no line at all, from this host":                 {"127.0.0.1", "", "200"},
		} {
			t.Run(id, func(t *testing.T) {
				dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(test.from)}}
				conn, err := dialer.Dial("tcp", r.addr())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				io.WriteString(conn, test.line)
				secure := tls.Client(conn, clientTLS("localhost", "http/1.1"))
				io.WriteString(secure, call(own))
				b, err := io.ReadAll(secure)
				if err != nil && len(b) == 0 {
					t.Fatal(err)
				}
				if status, _, _ := strings.Cut(strings.TrimPrefix(string(b), "HTTP/1.1 "), " "); status != test.want && test.want != "any" {
					t.Errorf("answered %s, want %s", status, test.want)
				}
			})
		}
	})
	r := prepare(t, "")
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken)
	write(t, filepath.Join(r.dir, "ca.pem"), string(ca().pem))
	r.configure(t, strings.Replace(hmacConfig, "recovery $RECOVERY", "no_recovery", 1)+strings.Replace(sites, "front.test:$PORT, ", "", 1))
	r.gated = false
	r.run(t)
	t.Run("another site of ours as a proxy", func(t *testing.T) {
		e := send(t, r.addr(), appHost, call(r.authority(appHost)), 1)
		if e.status() != http.StatusNotFound {
			t.Errorf("answered %d, want 404: %s", e.status(), e.Raw)
		}
	})
	t.Run("the name of another site", func(t *testing.T) {
		e := send(t, r.addr(), appHost, call(fmt.Sprintf("localhost:%d", r.port)), 1)
		if e.status() != http.StatusMisdirectedRequest && e.status() != http.StatusNotFound {
			t.Errorf("answered %d, want 421", e.status())
		}
	})
	t.Run("HTTP/3", func(t *testing.T) {
		status, answer := h3Call(t, r.addr(), "localhost", http.MethodPost, r.hmacURL("/hmac-service/v1/protect"), body,
			"Authorization", "Bearer "+hmacToken, "Content-Type", "application/json")
		if status != http.StatusNotFound {
			t.Errorf("answered %d, want 404: %s", status, answer)
		}
	})
	t.Run("a locked ring says so and is not made anew", func(t *testing.T) {
		r := newHMAC(t, hmacConfig)
		record := r.protect(t, "u", "s")
		r.proc.stop(t)
		cert, key := ca().issue(t, r.dir, "other", nil, "localhost")
		r.names["$CERT"], r.names["$KEY"] = cert, key
		r.configure(t, hmacConfig)
		r.run(t)
		status, answer := r.curl(t, "-H", "Authorization: Bearer "+hmacToken, "-H", "Content-Type: application/json", "-d", body, r.hmacURL("/hmac-service/v1/protect"))
		if status != "503" {
			t.Errorf("with a foreign TLS key: %s %s, want 503", status, answer)
		}
		if !strings.Contains(r.proc.log(), "keys ring recover") {
			t.Errorf("the log does not say what to do:\n%s", r.proc.tail())
		}
		r.proc.stop(t)
		recovered := output(t, r.env(), binary(t, "anteroom"), "keys", "ring", "recover", "--key", filepath.Join(r.dir, "recovery.key"), "--cert-key", key)
		if recovered.code != 0 {
			t.Fatalf("recovering: %+v", recovered)
		}
		r.run(t)
		if !r.verify(t, "u", "s", record) {
			t.Error("after recovery a record of before does not verify")
		}
	})
}
