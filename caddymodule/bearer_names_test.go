package caddymodule

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// TestForeignUsernames: a token's username that begins with the prefix of another issuer, or of a way to sign in, would be
// another person's at the app (6-A.7: names of several sources).
func TestForeignUsernames(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		public, _ := jws.JWK(key.Public())
		public["kid"] = "k"
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": server.URL, "jwks_uri": server.URL + "/jwks", "keys": []any{public}})
	}))
	t.Cleanup(server.Close)
	b := newBench(t)
	site := "app.test:8443 {\n\tTLS\n\tanteroom {\n\t\tallow scope notes GET /notes\n\t\tbearer from apps\n\t\tbearer unbound allow\n\t}\n\trespond app\n}\n"
	more := "\t\tbearer apps {\n\t\t\tissuer " + server.URL + "\n\t\t\tusername_prefix a\n\t\t}\n\t\tbearer others {\n\t\t\tissuer https://as.clinic.example\n\t\t\tusername_prefix app:\n\t\t}\n" + second("secret")
	config, err := adapt(t, strings.Replace(b.file("", site), "\t\tsession {", strings.ReplaceAll(strings.ReplaceAll(more, "clinic:", "acl:"), "DIR", b.dir), 1))
	if err != nil {
		t.Fatal(err)
	}
	app := run(t, config)
	now := time.Now().Unix()
	for subject, want := range map[string]int{"nna": 200, "pp:dana": 401, "PP:dana": 401, "cl:dana": 401, "pp": 200, "app:dana": 200} {
		token, err := jws.SignWith(key, "ES256", map[string]any{"kid": "k", "typ": "at+jwt"}, map[string]any{
			"iss": server.URL, "sub": subject, "aud": "https://app.test", "client_id": "c", "jti": subject, "iat": now, "exp": now + 60, "scope": "notes",
		})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", "https://app.test/notes", nil)
		r.RequestURI, r.URL.Scheme, r.URL.Host = "/notes", "", ""
		r.Header.Set("Authorization", "Bearer "+token)
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: "app.test"}
		w := httptest.NewRecorder()
		for _, srv := range app.Servers {
			srv.ServeHTTP(w, r)
		}
		if w.Code != want {
			t.Errorf("the subject %q: %d %s, want %d", subject, w.Code, w.Body, want)
		}
	}
}
