package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// localService is a service for programs on this host, and one request that it answers 200.
type localService struct {
	name, lines string // the directive, and what its block needs besides callers
	path, body  string
}

var hmacLocal = localService{
	name: "hmac_service", lines: "no_recovery",
	path: "/hmac-service/v1/protect", body: mustJSON(map[string]any{"items": []any{map[string]string{"uid": "u", "secret": "a-secret-of-nobody"}}}),
}

var envelopeLocal = localService{
	name: "envelope_service", lines: "tenant tests",
	path: "/envelope-service/v1/seal", body: mustJSON(map[string]any{"items": []any{map[string]string{"purpose": "p", "id": "1", "plaintext": "YS1zZWNyZXQ="}}}),
}

// sites has a site for each way in. All belong to one service; what differs is the listener, what stands before it, and
// the callers.
func (s localService) sites(dual bool) string {
	block := func(callers ...string) string {
		return "\t" + s.name + " {\n\t\t" + strings.Join(callers, "\n\t\t") + "\n\t\t" + s.lines + "\n\t}\n"
	}
	const token = "token_file $DIR/hmac.token"
	both := ""
	if dual {
		both = "\tbind 127.0.0.1 ::1\n"
	}
	site := func(port, more, block string) string {
		return "localhost:$" + port + " {\n\ttls $CERT $KEY\n" + more + block + "}\n"
	}
	proxy := func(host, more string) string {
		return host + ":$FRONT {\n\ttls $CERT $KEY\n\treverse_proxy https://localhost:$PORT {\n\t\theader_up Host localhost:$PORT\n" + more +
			"\t\ttransport http {\n\t\t\ttls_server_name localhost\n\t\t\ttls_trust_pool file $DIR/ca.pem\n\t\t}\n\t}\n}\n"
	}
	certificate := func(mode string) string {
		return "localhost:$" + mode + " {\n\ttls $CERT $KEY {\n\t\tclient_auth {\n\t\t\tmode " + strings.ToLower(mode) + "\n\t\t}\n\t}\n" +
			block("client_certificate $DIR/right.pem", "client_certificate $DIR/expired.pem") + "}\n"
	}
	return "{" + globals + `	servers 127.0.0.1:$PROXIED {
		listener_wrappers {
			proxy_protocol {
				allow 127.0.0.0/8
			}
			tls
		}
	}
	servers unix/$SOCKETS/proxied|0600 {
		listener_wrappers {
			proxy_protocol
			tls
		}
	}
	servers unix/$SOCKETS/trusted|0600 {
		trusted_proxies_unix
		client_ip_headers Client-Address
	}
	servers 127.0.0.1:$TRUSTED {
		trusted_proxies static 127.0.0.0/8
		client_ip_headers Client-Address
	}
}
` + site("PORT", both+"\trespond app 299\n", block(token)) +
		site("PROXIED", "", block(token)) +
		site("TRUSTED", "", block(token)) +
		proxy("app.test", "") +
		proxy("wide.test", "\t\theader_up -Via\n\t\theader_up -X-Forwarded-For\n\t\theader_up -X-Forwarded-Proto\n\t\theader_up -X-Forwarded-Host\n") +
		certificate("REQUEST") + certificate("REQUIRE") +
		site("SOCKET_RIGHT", "\tbind unix/$SOCKETS/right|0666\n", block("peer uid $UID", token)) +
		site("SOCKET_WRONG", "\tbind unix/$SOCKETS/wrong|0666\n", block("peer uid $OTHER_UID", token)) +
		site("SOCKET_GROUP", "\tbind unix/$SOCKETS/group|0666\n", block("peer uid $OTHER_UID", "peer gid $GID")) +
		site("SOCKET_OTHER", "\tbind unix/$SOCKETS/other|0666\n", block("peer gid $OTHER_GID")) +
		site("SOCKET_PROXIED", "\tbind unix/$SOCKETS/proxied|0600\n", block("peer uid $UID")) +
		site("SOCKET_TRUSTED", "\tbind unix/$SOCKETS/trusted|0600\n", block("peer uid $UID")) +
		site("SOCKET_TOKEN", "\tbind unix/$SOCKETS/token|0600\n", block(token))
}

// local is the process with all of the sites.
type local struct {
	*rig
	localService
	sockets string
	certs   map[string]*tls.Certificate
	dual    bool // ::1 exists
}

func newLocal(t *testing.T, s localService) *local {
	t.Helper()
	r := prepare(t, "")
	sockets, err := os.MkdirTemp("", "anteroom") // a socket's path has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	if err := os.Chmod(sockets, 0o755); err != nil { // other users come, too
		t.Fatal(err)
	}
	l := &local{rig: r, localService: s, sockets: sockets, certs: map[string]*tls.Certificate{}}
	ports := []string{"PROXIED", "TRUSTED", "FRONT", "REQUEST", "REQUIRE", "SOCKET_RIGHT", "SOCKET_WRONG", "SOCKET_GROUP", "SOCKET_OTHER", "SOCKET_TOKEN", "SOCKET_PROXIED", "SOCKET_TRUSTED"}
	for _, name := range ports {
		r.names["$"+name] = strconv.Itoa(freePort(t))
	}
	for name, n := range map[string]int{"UID": os.Geteuid(), "OTHER_UID": os.Geteuid() + 1, "GID": os.Getegid(), "OTHER_GID": os.Getegid() + 1} {
		r.names["$"+name] = strconv.Itoa(n)
	}
	r.names["$SOCKETS"] = sockets
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken+"\n")
	write(t, filepath.Join(r.dir, "ca.pem"), string(ca().pem))
	now := time.Now()
	for name, until := range map[string]time.Time{"right": now.Add(time.Hour), "wrong": now.Add(time.Hour), "expired": now.Add(-time.Minute)} {
		l.caller(t, name, nil, now.Add(-time.Hour), until)
	}
	l.caller(t, "renewed", l.certs["right"].PrivateKey.(*ecdsa.PrivateKey), now.Add(-time.Minute), now.Add(time.Hour))
	l.caller(t, "early", l.certs["right"].PrivateKey.(*ecdsa.PrivateKey), now.Add(time.Hour), now.Add(2*time.Hour))
	if probe, err := net.Listen("tcp", net.JoinHostPort("::1", strconv.Itoa(r.port))); err == nil {
		probe.Close()
		l.dual = true
	}
	r.configure(t, s.sites(l.dual))
	r.gated = false
	r.run(t)
	r.proc.waitFor(t, patience, func() error { // Caddy opens one listener after the other
		for _, name := range ports {
			w := way{port: name}
			if kind, socket, _ := strings.Cut(name, "_"); kind == "SOCKET" {
				w.socket = strings.ToLower(socket)
			}
			conn, err := l.dial(w)
			if err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	})
	return l
}

// caller makes a client certificate that nobody signed; what counts is its key.
func (l *local) caller(t *testing.T, name string, key *ecdsa.PrivateKey, from, until time.Time) {
	t.Helper()
	var err error
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(l.dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	l.certs[name] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// way is one request; the zero value comes as a local program should, without a credential.
type way struct {
	port     string   // name of the site's port; "": PORT
	from, to string   // addresses; "": 127.0.0.1
	socket   string   // Unix socket in place of an address
	line     string   // before TLS
	sni      string   // "": localhost; "-": none
	host     string   // "": localhost and the port
	method   string   // "": POST
	path     string   // "": that of the service
	cert     string   // client certificate
	headers  []string // besides those that a POST needs
	token    bool     // with the credential
	tls12    bool
	plain    bool // no TLS
	http10   bool
}

func (l *local) portOf(name string) string {
	if name == "" {
		name = "PORT"
	}
	return l.names["$"+name]
}

// call sends one HTTP/1.1 request and returns the status, "none" when there is no answer to read.
func (l *local) call(t *testing.T, w way) string {
	t.Helper()
	or := func(s, fallback string) string {
		if s == "" {
			return fallback
		}
		return s
	}
	conn, err := l.dial(w)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, w.line)
	if !w.plain {
		config := clientTLS(or(w.sni, "localhost"), "http/1.1")
		config.InsecureSkipVerify = w.sni != "" // the client is the attacker
		if w.sni == "-" {
			config.ServerName = ""
		}
		if w.tls12 {
			config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		}
		if w.cert != "" {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return l.certs[w.cert], nil }
		}
		conn = tls.Client(conn, config)
	}
	headers := append([]string{"Connection: close"}, w.headers...)
	if w.token {
		headers = append(headers, "Authorization: Bearer "+hmacToken)
	}
	body := ""
	if or(w.method, "POST") == "POST" {
		body = l.body
		headers = append(headers, "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(body)))
	}
	payload := request(or(w.method, "POST"), or(w.path, l.path), or(w.host, "localhost:"+l.portOf(w.port)), body, headers...)
	if w.http10 {
		payload = strings.Replace(payload, "HTTP/1.1", "HTTP/1.0", 1)
	}
	if _, err := io.WriteString(conn, payload); err != nil {
		return "none"
	}
	b, _ := io.ReadAll(conn)
	if strings.Contains(string(b), hmacToken) {
		t.Errorf("the answer repeats the token: %s", b)
	}
	if len(b) < len("HTTP/1.1 200") || !strings.HasPrefix(string(b), "HTTP/1.") {
		return "none"
	}
	return string(b[len("HTTP/1.1 "):len("HTTP/1.1 200")])
}

func (l *local) dial(w way) (net.Conn, error) {
	if w.socket != "" {
		return net.DialTimeout("unix", filepath.Join(l.sockets, w.socket), patience)
	}
	from, to := w.from, w.to
	if to == "" {
		to = "127.0.0.1"
	}
	if from == "" {
		from = to
	}
	dialer := &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return dialer.Dial("tcp", net.JoinHostPort(to, l.portOf(w.port)))
}

// outside is an address of this host that is not loopback; a connection from it is one from elsewhere.
func outside() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	return ""
}
