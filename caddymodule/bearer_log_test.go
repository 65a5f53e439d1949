package caddymodule

import (
	"crypto/tls"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenStaysOutOfTheAccessLog: a token in an address is refused, and is as good as before; whoever reads the log must not have
// it (RFC 6750 section 5.3). Where the app itself takes such tokens, the log is the operator's.
func TestTokenStaysOutOfTheAccessLog(t *testing.T) {
	b := newBench(t)
	site := "app.test:8443 {\n\tTLS\n\tlog {\n\t\toutput file DIR/access.log\n\t}\n\tanteroom {\n\t\tallow public GET /open\n\t\tallow scope notes GET /notes\n\t\tbearer from apps\n\t}\n\trespond app\n}\n"
	issuer := "\t\tbearer apps {\n\t\t\tissuer https://as.hospital.example\n\t\t\tusername_prefix app:\n\t\t}\n\t\tsession {"
	config, err := adapt(t, strings.Replace(b.file("", site), "\t\tsession {", issuer, 1))
	if err != nil {
		t.Fatal(err)
	}
	app := run(t, config)
	for _, target := range []string{"/open?access_token=quiet", "/notes?Access%5FToken=quiet", "/.well-known/oauth-protected-resource?access_token=quiet", "/open?loud"} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "https://app.test"+target, nil)
		r.RequestURI = target
		r.URL.Scheme, r.URL.Host = "", ""
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: "app.test"}
		w := httptest.NewRecorder()
		for _, srv := range app.Servers {
			srv.ServeHTTP(w, r)
		}
		if strings.Contains(target, "notes") && w.Code != 400 || target == "/open?loud" && w.Code != 200 {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "quiet") || !strings.Contains(string(log), "loud") {
		t.Errorf("the access log reads\n%s", log)
	}
}
