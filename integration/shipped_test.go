package integration

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Whoever follows an example must not be less safe than the tests' own configuration. Each configuration that this repository ships
// is run as it is, apart from names, addresses and files, and gets the strongest of the tables' payloads: nobody who is not
// signed in reaches the application by any of them, beyond what a `public` line says.

// shipped is one configuration of the repository.
type shipped struct {
	name, text string
	hosts      []string
}

var (
	blocks    = regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```")
	siteLine  = regexp.MustCompile(`(?m)^([a-z0-9.-]+\.example) \{\n(\tanteroom)`)
	publicOf  = regexp.MustCompile(`(?m)^\s*allow public (?:[A-Z,]+ )?(/.*)$`)
	ownHMAC   = regexp.MustCompile(`(?ms)^https://localhost:8444 \{.*?^\}\n`)
	ownLog    = regexp.MustCompile(`(?ms)^\tlog default \{.*?^\t\}\n`)
	elsewhere = regexp.MustCompile(`(issuer\s+|alarm webhook )https://\S+`)
	secrets   = regexp.MustCompile(`\{file\.[^}]+\}`)
	upstream  = regexp.MustCompile(`reverse_proxy 127\.0\.0\.1:\d+`)
)

// shippedConfigs finds all: the example, and each block of the README and the docs that is a whole configuration.
func shippedConfigs(t *testing.T) []shipped {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []shipped
	for _, file := range append(docs, filepath.Join(root, "README.md"), filepath.Join(root, "Caddyfile.example")) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts := [][]string{{"", string(b)}}
		if strings.HasSuffix(file, ".md") {
			texts = blocks.FindAllStringSubmatch(string(b), -1)
		}
		for i, found := range texts {
			text := found[1]
			if !strings.Contains(text, "\n\tanteroom {") || !siteLine.MatchString(text) || !strings.Contains(text, "identity ") || strings.Contains(text, "role ROLE") {
				continue // a part of one, or a list of what could be written
			}
			s := shipped{name: fmt.Sprintf("%s %d", filepath.Base(file), i), text: text}
			for _, site := range siteLine.FindAllStringSubmatch(text, -1) {
				s.hosts = append(s.hosts, site[1])
			}
			all = append(all, s)
		}
	}
	return all
}

// local makes a shipped configuration one that runs here: it changes no line that decides anything.
func (s shipped) local() string {
	text := ownLog.ReplaceAllString(ownHMAC.ReplaceAllString(s.text, ""), "")
	text = regexp.MustCompile(`(?m)^\s*admin unix.*$`).ReplaceAllString(text, "")
	start := strings.Index(text, "{\n") // of the global block: comments stand before it
	text = text[:start] + "{" + globals + text[start+2:]
	text = siteLine.ReplaceAllString(text, "$1:$$PORT {\n\ttls $$CERT $$KEY\n$2")
	text = elsewhere.ReplaceAllString(text, "${1}https://127.0.0.1:1/nobody")
	text = secrets.ReplaceAllString(text, "{file.$$DIR/oidc.secret}")
	return upstream.ReplaceAllString(text, "reverse_proxy $$DUMP")
}

// opens is what a configuration's `public` lines open.
func (s shipped) opens(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	for _, found := range publicOf.FindAllStringSubmatch(s.text, -1) {
		if slices.Contains(strings.Fields(found[1]), path) {
			return true
		}
	}
	return false
}

func TestShippedConfigs(t *testing.T) {
	t.Parallel() // work for a processor, beside the tests that wait
	configs := shippedConfigs(t)
	if len(configs) < 7 {
		t.Fatalf("found only %d configurations", len(configs))
	}
	minimal := shipped{name: "minimal", text: "{\n\tanteroom {\n\t\tidentity oidc hospital {\n\t\t\tissuer https://x\n\t\t\tclient_id a\n\t\t\tclient_secret {file.x}\n\t\t}\n\t}\n}\n\napp.example {\n\tanteroom {\n\t\tallow any\n\t}\n\treverse_proxy 127.0.0.1:1\n}\n", hosts: []string{"app.example"}}
	for _, s := range append(configs, minimal) {
		t.Run(s.name, func(t *testing.T) {
			cert, key := ca().issue(t, t.TempDir(), "shipped", nil, s.hosts...)
			r := prepare(t, s.local(), "CERT", cert, "KEY", key)
			r.run(t)
			for _, host := range s.hosts {
				shippedAttacks(t, r.authority(host), func(payload string) *exchange { return send(t, r.addr(), host, payload, 1) }, func() []*received { return r.dump.take() }, s.opens)
			}
		})
	}
	t.Run("demo", func(t *testing.T) {
		d := startDemo(t)
		addr := fmt.Sprintf("127.0.0.1:%d", d.port)
		b := newBrowser(t, d.ca)
		if p := b.visit(t, d.url("careconnect.localhost", "/.anteroom/jwks.json")); p.Status != http.StatusOK {
			t.Fatalf("the demo answers %d", p.Status)
		}
		for _, app := range []string{"careconnect", "fincare", "medrecords", "eps", "medicloud"} {
			host := app + ".localhost"
			shippedAttacks(t, fmt.Sprintf("%s:%d", host, d.port), func(payload string) *exchange { return sendTrusting(t, addr, host, d.ca, payload) }, func() []*received { return nil }, func(string) bool { return false })
		}
	})
}

// shippedAttacks sends all payloads to one site.
func shippedAttacks(t *testing.T, authority string, ask func(string) *exchange, arrived func() []*received, opens func(string) bool) {
	t.Helper()
	host, _, _ := strings.Cut(authority, ":")
	for id, payload := range strongest(authority) {
		t.Run(fmt.Sprintf("%s %.80s", host, id), func(t *testing.T) {
			arrived()
			e := ask(payload)
			for _, got := range arrived() {
				if !opens(got.Target) || got.Method != "GET" && got.Method != "HEAD" {
					t.Errorf("it reached the application:\nsent %q\n%s", payload, got.Head)
				}
				for _, header := range append(identityHeaders, "Anteroom-Assertion", "Anteroom-Emergency") {
					if values := strings.Join(got.values(header), ""); values != "" { // a `header_up` of the example may leave it empty
						t.Errorf("nobody is %s %q to the application:\n%s", header, values, got.Head)
					}
				}
			}
			for _, a := range e.Answers {
				target := strings.Split(payload, " ")[1]
				if a.Status >= 200 && a.Status < 300 && !opens(target) {
					t.Errorf("nobody gets %d for %q\n%.300q", a.Status, payload, a.Body)
				}
				if strings.Contains(a.Header.Get("Location"), "evil.example") {
					t.Errorf("sent to %s", a.Header.Get("Location"))
				}
			}
			if e.status() >= 500 {
				t.Errorf("answered %d", e.status())
			}
		})
	}
}

// strongest are payloads from all tables, each alone enough to pass some product of this kind. CVE-2026-76835: a default
// configuration believed what the tests' own did not.
func strongest(authority string) map[string]string {
	all := map[string]string{}
	add := func(id, target string, extra ...string) {
		all[id+" "+target+" "+strings.Join(extra, " ")] = get(target, authority, append(extra, "Connection: close")...)
	}
	for id, targets := range map[string][]string{
		"plain": {"/", "/patients/7", "/api/", "/admin/x", "/favicon.ico", "/.well-known/x", "/robots.txt"},
		"P1":    {"//status", "//patients/7", "/status//../patients/7"}, "P2": {"/status/../patients/7", "/./patients/7", "/.anteroom/../patients/7"},
		"P3": {"/status/%2e%2e/patients/7", "/.anteroom/%2e%2e/admin"}, "P4": {"/status/..%2fpatients/7", "/status%2f..%2fadmin", `/status/..\admin`, "/.anteroom%2f..%2fadmin", "/status%5c..%5cadmin"},
		"P6": {"/status/..;/admin", "/status;/patients/7", "/.anteroom/..;/admin", "/.anteroom;/x", "/status;.css"}, "P7": {"/STATUS", "/%73tatus", "/.ANTEROOM/x"},
		"P8": {"/status%00", "/status%20", "/status.", "/status%0a", "/.anteroom/%00"}, "P9": {"/status/%c0%ae%c0%ae/admin", "/status%c0%af"}, "P11": {"/status#/../admin", "/admin%23/status", "/admin%3f/status", "/admin?/status", "/status%3f"},
		"P12": {"/%", "/%zz", "/status%"}, "P14": {"https://evil.example/status", "https://" + authority + "/patients/7", "http://" + authority + "/patients/7"}, "P17": {"/status../admin", "/statusx", "/status/x"}, "P19": {"/patients/7.css", "/patients/7/x.js", "/admin/.anteroom/login"},
		"double": {"/status/%252e%252e/admin", "/%2561dmin"},
	} {
		for _, target := range targets {
			add(id, target)
		}
	}
	for _, line := range []string{"X-Forwarded-Uri: /status", "X-Original-URL: /status", "X-Rewrite-URL: /.anteroom/login", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 10.1.2.3", "Forwarded: for=10.1.2.3;host=evil.example", "X-Forwarded-Host: evil.example", "X-Forwarded-Prefix: /status",
		"Remote-User: dana", "Remote_User: dana", "X-Auth-User: dana", "X-Forwarded-User: dana", "Anteroom-Assertion: eyJhbGciOiJub25lIn0.e30.", "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.", "Authorization: Basic YWRtaW46YWRtaW4=",
		"Cookie: __Host-anteroom=x; __Host-anteroom-ctx=x", "Cookie: __Host-anteroom=eyJhbGciOiJub25lIn0.eyJzdWIiOiJkYW5hIn0.; __Host-anteroom-ctx=x", "Cookie: __Host-anteroom-emergency=x; __Host-anteroom-device=x", "User-Agent: kube-probe/1.31", "User-Agent: GoogleHC/1.0",
		"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13", "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "X-HTTP-Method-Override: OPTIONS", "Connection: Remote-User", "Content-Type: application/grpc"} {
		add("CVE-2026-76835", "/patients/7", line)
		add("CVE-2026-30851", "/status", line)
	}
	for _, method := range []string{"HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "CONNECT"} {
		all["M "+method] = request(method, "/patients/7", authority, "", "Content-Length: 0", "Origin: https://"+authority, "Access-Control-Request-Method: GET", "Connection: close")
	}
	behind := "GET /patients/7 HTTP/1.1\r\nHost: " + authority + "\r\n\r\n"
	all["H14"] = request("POST", "/status", authority, "0\r\n\r\n"+behind, fmt.Sprintf("Content-Length: %d", 5+len(behind)), "Transfer-Encoding: chunked")
	all["H19"] = request("GET", "/status", authority, behind, fmt.Sprintf("Content-Length: %d", len(behind)), "Connection: close")
	all["H3"] = get("/patients/7", authority, "Host: evil.example")
	return all
}

// sendTrusting is send to a site with another authority than the tests' own.
func sendTrusting(t *testing.T, addr, serverName string, authority []byte, payload string) *exchange {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, &tls.Config{RootCAs: pool, ServerName: serverName, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	return over(conn, payload, 1, patience)
}
