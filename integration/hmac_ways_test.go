package integration

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestHMACWays: rows 136 to 138, every way to the service that is not a local application's own.
func TestHMACWays(t *testing.T) {
	l := newLocal(t, hmacLocal)
	l.ways(t)
	t.Run("row 138 the original GET form is off", func(t *testing.T) {
		for id, w := range map[string]way{
			"without the token": {method: "GET", path: "/hmac-service?planted-secret&3"},
			"with the token":    {method: "GET", path: "/hmac-service?planted-secret&3", token: true},
			"an endpoint":       {method: "GET", path: l.path + "?secret=planted-secret", token: true},
		} {
			if got := l.call(t, w); got != "401" && got != "404" && got != "405" {
				t.Errorf("%s: answered %s", id, got)
			}
		}
		if where := l.grep(t, "planted-secret"); where != "" {
			t.Errorf("the secret stands in %s", where)
		}
	})
}

// TestEnvelopeWays: the same ways to the other service for local programs.
func TestEnvelopeWays(t *testing.T) {
	l := newLocal(t, envelopeLocal)
	l.ways(t)
	t.Run("row 138 nothing by GET", func(t *testing.T) {
		for id, w := range map[string]way{
			"without the token": {method: "GET", path: l.path + "?plaintext=cGxhbnRlZC1zZWNyZXQ="},
			"with the token":    {method: "GET", path: l.path + "?plaintext=cGxhbnRlZC1zZWNyZXQ=", token: true},
		} {
			if got := l.call(t, w); got != "401" && got != "405" {
				t.Errorf("%s: answered %s", id, got)
			}
		}
		if where := l.grep(t, "cGxhbnRlZC1zZWNyZXQ"); where != "" {
			t.Errorf("the secret stands in %s", where)
		}
	})
}

// ways is the table of a service for programs on this host, whatever it does for them.
func (l *local) ways(t *testing.T) {
	type row struct {
		id     string
		way    way
		want   string // statuses, separated by a bar
		reason string // in the log, when it matters which check refused
	}
	own := "localhost:" + l.portOf("")
	rows := []row{
		{"a local program", way{token: true}, "200", ""},
		{"row 137 no token", way{}, "401", "credential"},
		{"row 137 another token", way{headers: []string{"Authorization: Bearer " + hmacToken + "x"}}, "401", "credential"},
		{"row 137 the beginning of the token", way{headers: []string{"Authorization: Bearer " + hmacToken[:32]}}, "401", "credential"},
		{"row 137 two tokens", way{token: true, headers: []string{"Authorization: Bearer " + hmacToken}}, "401|400", ""},
		{"row 137 the token in a header of another name", way{headers: []string{"X-Authorization: Bearer " + hmacToken}}, "401", "credential"},
		{"row 137 the token in the address", way{path: l.path + "?access_token=" + hmacToken}, "401", "credential"},

		{"row 136 ::ffff:127.0.0.1", way{from: "::ffff:127.0.0.1", to: "::ffff:127.0.0.1", token: true}, "200", ""},
		{"row 136 from 127.0.0.6, a service mesh", way{from: "127.0.0.6", token: true}, "404", "guard.kernel-remote"},
		{"row 136 from 127.255.255.254", way{from: "127.255.255.254", token: true}, "404", "guard.kernel-remote"},
		{"row 136 TLS 1.2", way{tls12: true, token: true}, "none", ""},
		{"row 136 plain HTTP", way{plain: true, token: true}, "400", ""},
		{"row 136 Host of another site", way{host: "app.test:" + l.portOf(""), token: true}, "404|421", ""},
		{"row 136 Host without a site", way{host: "127.0.0.1:" + l.portOf(""), token: true}, "404|421", ""},
		{"row 136 DNS rebinding: SNI and Host of a stranger", way{sni: "evil.test", host: "evil.test:" + l.portOf(""), token: true}, "none|404|421", ""},
		{"row 136 DNS rebinding: the stranger's SNI, our Host", way{sni: "evil.test", token: true}, "none|404|421", ""},
		{"row 136 DNS rebinding: our SNI, the stranger's Host", way{host: "evil.test", token: true}, "404|421", ""},
		{"row 136 no SNI", way{sni: "-", token: true}, "none|404|421", ""},
		{"row 136 HTTP/1.0", way{http10: true, token: true}, "404", "guard.protocol"},

		{"row 136 trusted proxy says the client is a stranger", way{port: "TRUSTED", headers: []string{"Client-Address: 203.0.113.9"}, token: true}, "404", "guard.client"},
		{"row 136 trusted proxy says nothing", way{port: "TRUSTED", token: true}, "200", ""},
		{"row 136 trusted proxy elsewhere in 127/8 says the client is local", way{port: "TRUSTED", from: "127.0.0.6", headers: []string{"Client-Address: 127.0.0.1"}, token: true}, "404", "guard.kernel-remote"},
		{"row 136 trusted proxy, X-Forwarded-For", way{port: "TRUSTED", headers: []string{"X-Forwarded-For: 127.0.0.1"}, token: true}, "404", ""},

		{"row 136 PROXY protocol: a local balancer forwards a stranger", way{port: "PROXIED", line: "PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n", token: true}, "404", "guard.remote"},
		{"row 136 PROXY protocol: a stranger claims to be local", way{port: "PROXIED", from: "127.0.0.6", line: "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n", token: true}, "404", "guard.kernel-remote"},
		{"row 136 PROXY protocol: a stranger claims to be ::1", way{port: "PROXIED", from: "127.0.0.6", line: "PROXY TCP6 ::1 ::1 4711 443\r\n", token: true}, "404", "guard.kernel-remote"},
		{"row 136 PROXY protocol: a local balancer forwards a local client", way{port: "PROXIED", line: "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n", token: true}, "200", ""},
		{"row 136 PROXY protocol: no line, from this host", way{port: "PROXIED", token: true}, "200", ""},

		{"row 136 Caddy in front", way{port: "FRONT", sni: "app.test", host: "app.test:" + l.portOf("FRONT"), token: true}, "404", "guard.trace"},
		{"row 137 Caddy in front that hides itself, no token", way{port: "FRONT", sni: "wide.test", host: "wide.test:" + l.portOf("FRONT")}, "401", "credential"},
		{"row 137 Caddy in front that hides itself, another token", way{port: "FRONT", sni: "wide.test", host: "wide.test:" + l.portOf("FRONT"), headers: []string{"Authorization: Bearer x"}}, "401", "credential"},

		{"row 137 certificate", way{port: "REQUEST", cert: "right"}, "200", ""},
		{"row 137 certificate, renewed with its key", way{port: "REQUEST", cert: "renewed"}, "200", ""},
		{"row 137 certificate of another key", way{port: "REQUEST", cert: "wrong"}, "401", "credential"},
		{"row 137 certificate that expired", way{port: "REQUEST", cert: "expired"}, "401", "credential"},
		{"row 137 certificate that is not valid yet", way{port: "REQUEST", cert: "early"}, "401", "credential"},
		{"row 137 no certificate", way{port: "REQUEST"}, "401", "credential"},
		{"row 137 no certificate, a token where none is configured", way{port: "REQUEST", token: true}, "401", "credential"},
		{"row 137 certificate, required", way{port: "REQUIRE", cert: "right"}, "200", ""},
		{"row 137 certificate of another key, required", way{port: "REQUIRE", cert: "wrong"}, "401", "credential"},
		{"row 137 no certificate, required", way{port: "REQUIRE"}, "none", ""},
		{"row 137 certificate, where nobody asks for it", way{cert: "right"}, "401", "credential"},

		{"row 137 Unix socket, the right user", way{port: "SOCKET_RIGHT", socket: "right"}, "200", ""},
		{"row 137 Unix socket, another user", way{port: "SOCKET_WRONG", socket: "wrong"}, "401", "credential"},
		{"row 137 Unix socket, another user with the token", way{port: "SOCKET_WRONG", socket: "wrong", token: true}, "401", "credential"},
		{"row 137 Unix socket, the right group", way{port: "SOCKET_GROUP", socket: "group"}, "200", ""},
		{"row 137 Unix socket, another group", way{port: "SOCKET_OTHER", socket: "other"}, "401", "credential"},
		{"row 137 Unix socket, token", way{port: "SOCKET_TOKEN", socket: "token", token: true}, "200", ""},
		{"row 137 Unix socket, no token", way{port: "SOCKET_TOKEN", socket: "token"}, "401", "credential"},
		{"row 136 Unix socket, PROXY protocol: a balancer forwards a stranger", way{port: "SOCKET_PROXIED", socket: "proxied", line: "PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n"}, "404", "guard.remote"},
		{"row 136 Unix socket, PROXY protocol: a balancer forwards a local client", way{port: "SOCKET_PROXIED", socket: "proxied", line: "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n"}, "200", ""},
		{"row 136 Unix socket, trusted proxy says the client is a stranger", way{port: "SOCKET_TRUSTED", socket: "trusted", headers: []string{"Client-Address: 203.0.113.9"}}, "404", "guard.client"},
		{"row 136 Unix socket, trusted proxy says nothing", way{port: "SOCKET_TRUSTED", socket: "trusted"}, "200", ""},
		{"row 136 Unix socket, TLS 1.2", way{port: "SOCKET_RIGHT", socket: "right", tls12: true}, "none", ""},
		{"row 136 Unix socket, plain HTTP", way{port: "SOCKET_RIGHT", socket: "right", plain: true}, "400", ""},
		{"row 136 Unix socket, Host of a stranger", way{port: "SOCKET_RIGHT", socket: "right", host: "evil.test"}, "404|421", ""},
		{"row 136 Unix socket, a proxy's trace", way{port: "SOCKET_RIGHT", socket: "right", headers: []string{"Via: 1.1 x"}}, "404", "guard.trace"},
		{"row 136 Unix socket, a browser's trace", way{port: "SOCKET_RIGHT", socket: "right", headers: []string{"Sec-Fetch-Site: cross-site"}}, "404", "guard.trace"},
	}
	for _, header := range []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Host: localhost", "X-Forwarded-Proto: https", "Forwarded: for=127.0.0.1", "Via: 1.1 proxy", "X-Real-IP: 127.0.0.1",
		"True-Client-IP: 127.0.0.1", "X-Envoy-External-Address: 127.0.0.1", "Origin: https://localhost", "Origin: null", "Referer: https://localhost/", "Cookie: a=b",
		"Sec-Fetch-Site: none", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Sec-Ch-Ua: x", "Access-Control-Request-Method: POST", "X-Requested-With: x"} {
		rows = append(rows, row{"row 136 trace " + header, way{headers: []string{header}, token: true}, "404", "guard.trace"})
	}
	if l.dual {
		rows = append(rows, row{"row 136 ::1", way{to: "::1", token: true}, "200", ""})
	}
	if address := outside(); address != "" {
		rows = append(rows,
			row{"row 136 from another address of this host", way{from: address, to: "127.0.0.1", token: true}, "299", ""},
			row{"row 136 from another address, X-Forwarded-For", way{from: address, to: "127.0.0.1", headers: []string{"X-Forwarded-For: 127.0.0.1"}, token: true}, "299", ""},
			row{"row 136 from another address, PROXY protocol says local", way{port: "PROXIED", from: address, to: "127.0.0.1", line: "PROXY TCP4 127.0.0.1 127.0.0.1 4711 443\r\n", token: true}, "none|400|404", ""})
	}
	for _, r := range rows {
		t.Run(r.id, func(t *testing.T) {
			before := len(l.proc.log())
			if got := l.call(t, r.way); !strings.Contains("|"+r.want+"|", "|"+got+"|") {
				t.Errorf("answered %s, want %s", got, r.want)
			}
			if r.reason != "" {
				eventually(t, patience, func() error {
					if !strings.Contains(l.proc.log()[before:], fmt.Sprintf(`"reason":%q`, r.reason)) {
						return fmt.Errorf("the log does not say %s", r.reason)
					}
					return nil
				})
			}
		})
	}
	t.Run("row 136 HTTP/3", func(t *testing.T) {
		status, answer := h3Call(t, l.addr(), "localhost", http.MethodPost, "https://"+own+l.path, l.body, "Authorization", "Bearer "+hmacToken, "Content-Type", "application/json")
		if status != http.StatusNotFound {
			t.Errorf("answered %d, want 404: %s", status, answer)
		}
	})
	t.Run("row 136 HTTP/2", l.http2)
	t.Run("row 137 Unix socket, a process of another user", l.otherUser)
	t.Run("row 136 the operator hears of a proxy in front", func(t *testing.T) {
		if !strings.Contains(l.proc.log(), "seems to come from a local program") || !strings.Contains(l.proc.log(), "Caddyfile:") {
			t.Error("no warning in the log")
		}
	})
}

// request by curl; args come before the URL.
func (l *local) curlTo(t *testing.T, port string, args ...string) string {
	t.Helper()
	root := filepath.Join(l.sockets, "ca.pem")
	if err := os.WriteFile(root, ca().pem, 0o644); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"-sS", "-o", "/dev/null", "--cacert", root, "-w", "%{http_version} %{http_code}", "-m", "60", "-H", "Content-Type: application/json", "-d", l.body}, args...)
	res := output(t, nil, append(append([]string{"curl"}, argv...), "https://localhost:"+l.portOf(port)+l.path)...)
	return res.stdout
}

// http2: the same answers over HTTP/2, over TCP and a Unix socket, and none in clear.
func (l *local) http2(t *testing.T) {
	bearer := "Authorization: Bearer " + hmacToken
	socket := func(name string) string { return filepath.Join(l.sockets, name) }
	for id, c := range map[string]struct {
		port string
		args []string
		want string
	}{
		"a local program":            {"", []string{"--http2", "-H", bearer}, "2 200"},
		"no token":                   {"", []string{"--http2"}, "2 401"},
		"a trace":                    {"", []string{"--http2", "-H", bearer, "-H", "Via: 2.0 x"}, "2 404"},
		"Unix socket":                {"SOCKET_RIGHT", []string{"--http2", "--unix-socket", socket("right")}, "2 200"},
		"Unix socket, another user":  {"SOCKET_WRONG", []string{"--http2", "--unix-socket", socket("wrong"), "-H", bearer}, "2 401"},
		"Unix socket by HTTP/1.1":    {"SOCKET_RIGHT", []string{"--http1.1", "--unix-socket", socket("right")}, "1.1 200"},
		"certificate":                {"REQUEST", []string{"--http2", "--cert", filepath.Join(l.dir, "right.pem"), "--key", l.keyFile(t, "right")}, "2 200"},
		"certificate of another key": {"REQUEST", []string{"--http2", "--cert", filepath.Join(l.dir, "wrong.pem"), "--key", l.keyFile(t, "wrong")}, "2 401"},
	} {
		if got := l.curlTo(t, c.port, c.args...); got != c.want {
			t.Errorf("%s: answered %q, want %q", id, got, c.want)
		}
	}
	res := output(t, nil, "curl", "-sS", "-o", "/dev/null", "--http2-prior-knowledge", "-w", "%{http_code}", "-m", "60", "-H", bearer, "-d", l.body, fmt.Sprintf("http://localhost:%s%s", l.portOf(""), l.path))
	if strings.HasPrefix(res.stdout, "2") {
		t.Errorf("HTTP/2 in clear is answered %s", res.stdout)
	}
}

// otherUser is a process with another uid. Only root can make one; the table's rows with OTHER_UID hold for everybody.
func (l *local) otherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // the rows with OTHER_UID have shown it
	}
	ask := func(socket, port string, id *syscall.Credential) string {
		cmd := exec.Command("curl", "-sS", "-o", "/dev/null", "--cacert", filepath.Join(l.sockets, "ca.pem"), "-w", "%{http_code}", "-m", "60", "-H", "Content-Type: application/json", "-d", l.body,
			"--unix-socket", filepath.Join(l.sockets, socket), "https://localhost:"+l.portOf(port)+l.path)
		cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH"), "HOME=/"}, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: id}
		out, err := cmd.Output()
		if err != nil {
			t.Log(err)
		}
		return string(out)
	}
	l.curlTo(t, "") // writes the authority's certificate
	uid, _ := strconv.Atoi(l.names["$OTHER_UID"])
	gid, _ := strconv.Atoi(l.names["$OTHER_GID"])
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for id, c := range map[string]struct {
		socket, port string
		who          *syscall.Credential
		want         string
	}{
		"nobody, where another may":                     {"right", "SOCKET_RIGHT", nobody, "401"},
		"nobody, where groups may":                      {"group", "SOCKET_GROUP", nobody, "401"},
		"the user of the list":                          {"wrong", "SOCKET_WRONG", &syscall.Credential{Uid: uint32(uid), Gid: 65534}, "200"},
		"the group of the list":                         {"other", "SOCKET_OTHER", &syscall.Credential{Uid: 65534, Gid: uint32(gid)}, "200"},
		"the group of the list, but not as first group": {"other", "SOCKET_OTHER", &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{uint32(gid)}}, "401"},
		"a socket that is not theirs":                   {"token", "SOCKET_TOKEN", nobody, "000"},
	} {
		if got := ask(c.socket, c.port, c.who); got != c.want {
			t.Errorf("%s: answered %s, want %s", id, got, c.want)
		}
	}
}

// keyFile is the key of a caller's certificate, for curl.
func (l *local) keyFile(t *testing.T, name string) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(l.certs[name].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.dir, name+".key")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return path
}

// TestHMACLockedRing: a ring that no TLS key opens says so and is not made anew; the recovery key opens it.
func TestHMACLockedRing(t *testing.T) {
	body := hmacLocal.body
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
}
