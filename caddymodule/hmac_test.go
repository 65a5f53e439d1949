package caddymodule

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"
)

const hmacToken = "0123456789abcdef0123456789abcdef-of-the-tests"

// hmacOptions has no anteroom option: the directive needs none.
const hmacOptions = `{
	admin off
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	storage file_system DIR/data/caddy
	default_bind 127.0.0.1
	log {
		output file LOG
		level DEBUG
		format json
	}
MORE}
`

// hmacFile fills in a Caddyfile: TLS is a tls line, DIR the bench's folder, LOG a log file.
func (b bench) hmacFile(t *testing.T, more, sites string) string {
	t.Helper()
	b.write(t, "token", hmacToken+"\n")
	text := strings.ReplaceAll(hmacOptions, "MORE", more) + sites
	return strings.NewReplacer("DIR", b.dir, "TLS", "tls "+b.dir+"/tls.pem "+b.dir+"/tls.key", "LOG", b.dir+"/caddy.log").Replace(text)
}

const hmacSite = `https://localhost:8444 {
	TLS
	log
	hmac_service {
		token_file DIR/token
		no_recovery
		compat
	}
}
`

// caller is a local program.
type caller struct {
	t    *testing.T
	http *http.Client
}

// dialing returns a client that reaches the server of that app at its loopback port, under whatever name.
func (b bench) dialing(t *testing.T, app *caddyhttp.App, change func(*http.Transport)) caller {
	t.Helper()
	var addr string
	for _, srv := range app.Servers {
		addr = srv.Listeners()[0].Addr().String()
	}
	tr := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: b.pool},
		ForceAttemptHTTP2: false,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	if change != nil {
		change(tr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return caller{t, &http.Client{Transport: tr, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (c caller) do(method, target, body string, headers ...string) (int, string) {
	c.t.Helper()
	r, err := http.NewRequest(method, "https://localhost:8444"+target, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+hmacToken)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(out))
}

func (c caller) protect(uid, secret string) string {
	c.t.Helper()
	status, body := c.do("POST", "/hmac-service/v1/protect", fmt.Sprintf(`{"items":[{"uid":%q,"secret":%q}]}`, uid, secret))
	var answer struct{ Items []struct{ Record string } }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 || len(answer.Items) != 1 {
		c.t.Fatalf("protect: %d %s", status, body)
	}
	return answer.Items[0].Record
}

func (c caller) verify(uid, secret, record string) bool {
	c.t.Helper()
	status, body := c.do("POST", "/hmac-service/v1/verify", fmt.Sprintf(`{"uid":%q,"secret":%q,"record":%q}`, uid, secret, record))
	var answer struct{ Match bool }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		c.t.Fatalf("verify: %d %s", status, body)
	}
	return answer.Match
}

func (b bench) startHMAC(t *testing.T, more, sites string) *caddyhttp.App {
	t.Helper()
	config, err := adapt(t, b.hmacFile(t, more, sites))
	if err != nil {
		t.Fatal(err)
	}
	return run(t, config)
}

// auditText is everything in the audit log of a data folder.
func (b bench) auditText(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.dir, "data", "caddy", "anteroom", "audit", "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatal("no audit log", err)
	}
	var all strings.Builder
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}

// TestHMACEndToEnd: a file certificate, no global option, and everything a local program does.
func TestHMACEndToEnd(t *testing.T) {
	b := newBench(t)
	c := b.dialing(t, b.startHMAC(t, "", hmacSite), nil)
	record := c.protect("u1", "planted-secret")
	if !c.verify("u1", "planted-secret", record) || c.verify("u1", "planted-guess", record) || c.verify("u2", "planted-secret", record) {
		t.Error("verification is wrong")
	}
	status, digest := c.do("GET", "/hmac-service?planted-secret&3", "", "Authorization", "")
	if status != 200 || digest != openSSLDigest(t, filepath.Join(b.dir, "tls.key"), "planted-secret", 3) {
		t.Errorf("the original form: %d %s", status, digest)
	}
	for _, row := range []struct {
		method, target string
		headers        []string
		want           int
	}{
		{"GET", "/", nil, 404},
		{"GET", "/anything", nil, 404},
		{"POST", "/hmac-service/v1/protect", []string{"Authorization", "Bearer wrong-wrong-wrong-wrong-wrong-wrong"}, 401},
		{"POST", "/hmac-service/v1/protect", []string{"X-Forwarded-For", "127.0.0.1"}, 404},
		{"GET", "/hmac-service?planted-secret", []string{"Origin", "https://evil.test"}, 404},
		{"GET", "/hmac-service?planted-secret", []string{"Via", "1.1 proxy"}, 404},
		{"GET", "/hmac-service?planted-secret", []string{"Cookie", "a=b"}, 404},
		{"GET", "/hmac-service?planted-secret&x", nil, 400},
		{"GET", "/hmac-service/v1/verify?secret=planted-secret", nil, 405},
		{"POST", "/hmac-service/v1/protect", []string{"Content-Type", "text/html"}, 415},
	} {
		if status, body := c.do(row.method, row.target, "{}", row.headers...); status != row.want {
			t.Errorf("%s %s %v: %d %s", row.method, row.target, row.headers, status, body)
		}
	}
	// Caddy itself refuses this one (strict_sni_host), before any route, and its log has the address: a caller's mistake
	// that no handler can cover up.
	if status, _ := c.do("GET", "/hmac-service?x", "", "Host", "other.test"); status != 421 && status != 404 {
		t.Errorf("another Host than the SNI: %d", status)
	}
	h2 := b.dialing(t, run2(t), func(tr *http.Transport) { tr.ForceAttemptHTTP2 = true })
	if !h2.verify("u1", "planted-secret", record) {
		t.Error("over HTTP/2 it does not verify")
	}
	audit := b.auditText(t)
	for _, want := range []string{`"kind":"hmac-service"`, `"reason":"mismatch"`, `"reason":"guard.trace"`, `"reason":"credential"`, `"site":"localhost"`} {
		if !strings.Contains(audit, want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(audit, "planted") || bytes.Contains(log, []byte("planted")) || bytes.Contains(log, []byte(hmacToken)) {
		t.Error("a secret is in a log")
	}
	if !bytes.Contains(log, []byte("no_recovery")) {
		t.Error("no_recovery does not warn")
	}
}

// run2 is the app that runs already.
func run2(t *testing.T) *caddyhttp.App {
	t.Helper()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	return app.(*caddyhttp.App)
}

// TestHMACWrongWays reaches the service over real sockets in the ways that beat a check of one address alone.
func TestHMACWrongWays(t *testing.T) {
	b := newBench(t)
	proxied := "\tservers {\n\t\tlistener_wrappers {\n\t\t\tproxy_protocol {\n\t\t\t\tallow 127.0.0.0/8\n\t\t\t\tfallback_policy use\n\t\t\t}\n\t\t\ttls\n\t\t}\n\t}\n"
	app := b.startHMAC(t, proxied, hmacSite)
	from := func(local, header string) caller {
		return b.dialing(t, app, func(tr *http.Transport) {
			dial := tr.DialContext
			tr.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				if local != "" {
					for _, srv := range app.Servers {
						d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}}
						c, err := d.DialContext(ctx, "tcp", srv.Listeners()[0].Addr().String())
						return greet(c, header), err
					}
				}
				c, err := dial(ctx, network, "")
				return greet(c, header), err
			}
		})
	}
	for name, c := range map[string]struct {
		local, header string
		want          int
		reason        string
	}{
		"plain":                                  {"", "", 200, ""},
		"local balancer speaks for a stranger":   {"", "PROXY TCP4 203.0.113.9 127.0.0.1 1 1\r\n", 404, "guard.remote"},
		"stranger says 127.0.0.1":                {"127.0.0.6", "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n", 404, "guard.kernel-remote"},
		"service mesh":                           {"127.0.0.6", "", 404, "guard.kernel-remote"},
		"PROXY that tells what the kernel tells": {"", "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := from(c.local, c.header).do("POST", "/hmac-service/v1/protect", `{"items":[{"uid":"u","secret":"s"}]}`)
			if status != c.want || c.reason != "" && !strings.Contains(b.auditText(t), c.reason) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	// TLS 1.2 does not get as far as a request.
	old := b.dialing(t, app, func(tr *http.Transport) { tr.TLSClientConfig.MaxVersion = tls.VersionTLS12 })
	if resp, err := old.http.Get("https://localhost:8444/hmac-service?x"); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 is answered")
	}
	// By address there is no SNI.
	byAddress := b.dialing(t, app, nil)
	if resp, err := byAddress.http.Get("https://127.0.0.1:8444/hmac-service?x"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == 200 {
			t.Error("the service answers by address")
		}
	}
}

// greet sends a PROXY protocol header first.
func greet(c net.Conn, header string) net.Conn {
	if c != nil && header != "" {
		io.WriteString(c, header)
	}
	return c
}

// TestHMACWithOthers: in a site with other handlers the rest of the site is untouched, and what is behind never sees the
// service's paths.
func TestHMACWithOthers(t *testing.T) {
	b := newBench(t)
	site := strings.Replace(hmacSite, "\thmac_service {", "\trespond \"app {path}\"\n\theader X-Test yes\n\thmac_service {", 1)
	c := b.dialing(t, b.startHMAC(t, "", site), nil)
	if status, body := c.do("GET", "/patients", ""); status != 200 || body != "app /patients" {
		t.Errorf("%d %s", status, body)
	}
	if status, body := c.do("GET", "/hmac-service?x", "", "Via", "1.1 x"); status != 404 || strings.Contains(body, "app") {
		t.Errorf("%d %s", status, body)
	}
	if !c.verify("u", "s", c.protect("u", "s")) {
		t.Error("does not verify")
	}
}

// TestHMACUnknownWrapper: rememberSocket sees through TLS and PROXY protocol only; anything else declines.
func TestHMACUnknownWrapper(t *testing.T) {
	a, z := net.Pipe()
	defer a.Close()
	defer z.Close()
	if _, ok := socketOf(a); ok {
		t.Error("a pipe has addresses of its own")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialed, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer dialed.Close()
	if s, ok := socketOf(tls.Client(dialed, &tls.Config{})); !ok || s.local.String() != "127.0.0.1" || s.remote.String() != "127.0.0.1" {
		t.Errorf("%v %v", s, ok)
	}
	type odd struct{ net.Conn }
	if _, ok := socketOf(odd{dialed}); ok {
		t.Error("an unknown wrapper is believed")
	}
	if rememberSocket(t.Context(), odd{dialed}) != t.Context() {
		t.Error("an unknown wrapper leaves a trace")
	}
	deep := net.Conn(dialed)
	for range 20 {
		deep = tls.Client(deep, &tls.Config{})
	}
	if _, ok := socketOf(deep); ok {
		t.Error("twenty layers are believed")
	}
}

// TestHMACFindsItsSite: several sites on one server, one without the service before them: each service takes its own host.
func TestHMACFindsItsSite(t *testing.T) {
	b := newBench(t)
	app := b.startHMAC(t, "", "https://other.test:8444 {\n\tTLS\n\trespond hello\n}\n"+hmacSite+strings.Replace(hmacSite, "localhost", "app.test", 1))
	rings := map[string]string{}
	for _, host := range []string{"localhost", "app.test"} {
		c := b.dialing(t, app, func(tr *http.Transport) { tr.TLSClientConfig.ServerName = host })
		status, body := c.do("POST", "/hmac-service/v1/protect", `{"items":[{"uid":"u","secret":"s"}]}`, "Host", host+":8444")
		_, ring, ok := strings.Cut(body, "ring=")
		if status != 200 || !ok {
			t.Fatalf("%s: %d %s", host, status, body)
		}
		rings[ring[:16]] = host
		if status, _ := c.do("GET", "/", "", "Host", host); status != 404 {
			t.Errorf("%s: %d", host, status)
		}
	}
	if len(rings) != 2 {
		t.Errorf("two subjects share a ring: %v", rings)
	}
	c := b.dialing(t, app, func(tr *http.Transport) { tr.TLSClientConfig.ServerName = "other.test" })
	if status, body := c.do("GET", "/hmac-service?x", "", "Host", "other.test"); status != 200 || body != "hello" {
		t.Errorf("a neighbour's path is taken away: %d %s", status, body)
	}
}

// TestHMACBesideGate: in a gated site the service answers local programs before the gate asks for a session.
func TestHMACBesideGate(t *testing.T) {
	b := newBench(t)
	site := "https://localhost:8444 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n\thmac_service {\n\t\ttoken_file " + b.dir + "/token\n\t\tno_recovery\n\t}\n\trespond app\n}\n"
	b.write(t, "token", hmacToken)
	config, err := adapt(t, b.file("", site))
	if err != nil {
		t.Fatal(err)
	}
	c := b.dialing(t, run(t, config), nil)
	if !c.verify("u", "s", c.protect("u", "s")) {
		t.Error("does not verify")
	}
	if status, body := c.do("GET", "/", ""); status == 200 || body == "app" {
		t.Errorf("the gate is open: %d %s", status, body)
	}
}

// TestHMACOverHTTP3: QUIC has no connection whose addresses the kernel vouches for; the service declines, and what is
// behind it does not get the request either.
func TestHMACOverHTTP3(t *testing.T) {
	b := newBench(t)
	site := strings.Replace(hmacSite, "\thmac_service {", "\trespond app\n\thmac_service {", 1)
	app := b.startHMAC(t, "", site)
	first := b.dialing(t, app, nil)
	resp, err := first.http.Get("https://localhost:8444/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, rest, _ := strings.Cut(resp.Header.Get("Alt-Svc"), `h3=":`)
	port, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("no HTTP/3: %s", resp.Header)
	}
	tr := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: b.pool, ServerName: "localhost"}}
	defer tr.Close()
	for target, want := range map[string]int{"/hmac-service?x": 404, "/": 200} {
		resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get("https://localhost:" + port + target)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s over HTTP/3: %d", target, resp.StatusCode)
		}
	}
	if !strings.Contains(b.auditText(t), "guard.kernel-remote") {
		t.Error("the audit log does not say why")
	}
}
