package caddymodule

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// TestHMACRingOfTwoSubjects: two services share a ring by name, each with a certificate of its own. The ring is wrapped for
// both, whichever looked first, so that each opens it and verifies the other's records, also after a restart.
func TestHMACRingOfTwoSubjects(t *testing.T) {
	b := newBench(t)
	b.certificate(t, "app", "app.localhost")
	one := "https://localhost:8444 {\n\tTLS\n\thmac_service {\n\t\ttoken_file DIR/token\n\t\tno_recovery\n\t\tring shared\n\t}\n}\n"
	config, err := adapt(t, b.hmacFile(t, "", one+strings.NewReplacer("localhost", "app.localhost", "TLS", "tls DIR/app.pem DIR/app.key").Replace(one)))
	if err != nil {
		t.Fatal(err)
	}
	var records []string
	for round := range 2 {
		if round > 0 {
			load(t, config)
		} else {
			run(t, config)
		}
		app := run2(t)
		for _, host := range []string{"localhost", "app.localhost"} {
			c := b.dialing(t, app, func(tr *http.Transport) { tr.TLSClientConfig.ServerName = host })
			c.http.Transport = named{c.http.Transport, host + ":8444"}
			records = append(records, c.protect("u", host))
			for i, r := range records {
				if !c.verify("u", []string{"localhost", "app.localhost"}[i%2], r) {
					t.Errorf("round %d: %s does not verify record %d", round, host, i)
				}
			}
		}
	}
}

// named sends requests to another host than their address says.
type named struct {
	http.RoundTripper
	host string
}

func (n named) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = n.host
	return n.RoundTripper.RoundTrip(r)
}

// TestHMACLeavesStrangersInTheLog: the service's own requests stay out of the access log, for they may hold a password.
// Those that it passes on do not: "/hmac-service/../admin" would otherwise be a way past the log for everybody.
func TestHMACLeavesStrangersInTheLog(t *testing.T) {
	b := newBench(t)
	site := strings.Replace(hmacSite, "\thmac_service {", "\trespond app\n\thmac_service {", 1)
	app := b.startHMAC(t, "", site)
	ask := func(from, target string) string {
		r := httptest.NewRequestWithContext(
			context.WithValue(t.Context(), socketKey{}, socket{remote: netip.MustParseAddr(from), local: netip.MustParseAddr("127.0.0.1")}),
			"GET", "https://localhost:8444"+target, nil)
		r.RemoteAddr = from + ":5"
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: "localhost"}
		w := httptest.NewRecorder()
		for _, srv := range app.Servers {
			srv.ServeHTTP(w, r)
		}
		return w.Body.String()
	}
	for _, target := range []string{"/hmac-service/../far-1", "/x/../hmac-service/far-2", "/hmac-service?far-3"} {
		if body := ask("203.0.113.9", target); body != "app" {
			t.Errorf("%s: %s", target, body)
		}
	}
	ask("127.0.0.1", "/hmac-service?near-1")
	ask("127.0.0.6", "/hmac-service?near-2")
	log, err := os.ReadFile(filepath.Join(b.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"far-1", "far-2", "far-3"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("a stranger's request for %s is not in the access log", want)
		}
	}
	if strings.Contains(string(log), "near-") {
		t.Error("a local request is in a log")
	}
}

// TestHMACSubjectWithoutCertificate: a name for which no certificate will ever come leaves the service waiting; the log
// names it, because the callers only hear 503.
func TestHMACSubjectWithoutCertificate(t *testing.T) {
	b := newBench(t)
	b.startHMAC(t, "", strings.Replace(hmacSite, "token_file", "subject mistyped.test\n\t\ttoken_file", 1))
	log, err := os.ReadFile(filepath.Join(b.dir, "caddy.log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "no certificate of mistyped.test") {
		t.Error("the log does not name the subject")
	}
}

// TestHelpNamesTheProgram: an operator who types `anteroom keys ring` is not told about a program called caddy.
func TestHelpNamesTheProgram(t *testing.T) {
	if caddy.CustomBinaryName != "anteroom" {
		t.Errorf("the help texts name %q", caddy.CustomBinaryName)
	}
}
