package caddymodule

import (
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// get sends one request to the first server over TLS of the given range, with that SNI and Host.
func (b bench) get(t *testing.T, app *caddyhttp.App, min, max uint16, sni, host, path string) (int, string, error) {
	t.Helper()
	var addr string
	for _, s := range app.Servers {
		addr = s.Listeners()[0].Addr().String()
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.pool, ServerName: sni, MinVersion: min, MaxVersion: max}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body), nil
}

// TestTLS13OnlyInBothOrders loads one config many times, because Caddy provisions our app and
// the http app in random order: TLS 1.2 must be refused and TLS 1.3 accepted each time, also with
// the SNI of an open neighbour on the same address, whose policy would allow TLS 1.2; and a
// request that names the neighbour in its SNI and us in its Host is misdirected (421).
func TestTLS13OnlyInBothOrders(t *testing.T) {
	b := newBench(t)
	config, err := adapt(t, b.file("", "other.test:8443 {\n\tTLS\n\trespond \"open\"\n}\napp.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow public GET /hello\n\t}\n\trespond \"hello\"\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range 40 {
		app := run(t, config)
		for _, sni := range []string{"app.test", "other.test"} {
			if _, _, err := b.get(t, app, tls.VersionTLS12, tls.VersionTLS12, sni, "app.test", "/hello"); err == nil || !strings.Contains(err.Error(), "protocol version") {
				t.Fatalf("TLS 1.2 with SNI %s: %v", sni, err)
			}
		}
		if status, body, err := b.get(t, app, tls.VersionTLS13, tls.VersionTLS13, "app.test", "app.test", "/hello"); err != nil || status != 200 || body != "hello" {
			t.Fatalf("TLS 1.3: %d %q %v", status, body, err)
		}
		if status, _, err := b.get(t, app, tls.VersionTLS13, tls.VersionTLS13, "other.test", "app.test", "/hello"); err != nil || status != http.StatusMisdirectedRequest {
			t.Fatalf("H149 fronting: %d %v", status, err)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLS13OnEveryPortOfTheHost: cookies do not know ports. A harmless page of the same host on another port gets the session
// from every browser, so that it must not get it over less than TLS 1.3, in whatever order the two servers are provisioned.
func TestTLS13OnEveryPortOfTheHost(t *testing.T) {
	b := newBench(t)
	config, err := adapt(t, b.file("", "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow any\n\t}\n}\napp.test:9443 {\n\tTLS\n\trespond \"status\"\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for range rounds {
		app := run(t, config)
		for name, srv := range app.Servers {
			addr := srv.Listeners()[0].Addr().String()
			for version, ok := range map[uint16]bool{tls.VersionTLS12: false, tls.VersionTLS13: true} {
				conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: b.pool, ServerName: "app.test", MinVersion: version, MaxVersion: version})
				if (err == nil) != ok {
					t.Errorf("%s with %s: %v", name, tls.VersionName(version), err)
				}
				if err == nil {
					_ = conn.Close()
				}
			}
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}
