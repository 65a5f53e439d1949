package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// scripted is a provider whose answers a test writes. It has one key for all that it signs, as most have.
type scripted struct {
	issuer string
	key    *ecdsa.PrivateKey

	mu       sync.Mutex
	idToken  string
	userinfo string
}

func startScripted(t testing.TB) *scripted {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{issuer: "http://" + listener.Addr().String(), key: key}
	public, err := jws.JWK(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public["kid"], public["use"], public["alg"] = "one", "sig", "ES256"
	document := map[string]any{
		"issuer": s.issuer, "authorization_endpoint": s.issuer + "/auth", "token_endpoint": s.issuer + "/token",
		"userinfo_endpoint": s.issuer + "/userinfo", "jwks_uri": s.issuer + "/jwks",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256"}, "userinfo_signing_alg_values_supported": []string{"ES256"},
		"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
		"authorization_response_iss_parameter_supported": true, "backchannel_logout_supported": true, "backchannel_logout_session_supported": true,
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, document) })
	mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, map[string]any{"keys": []any{public}}) })
	mux.HandleFunc("/token", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		writeJSON(w, map[string]any{"access_token": "opaque-to-us", "token_type": "Bearer", "expires_in": 300, "id_token": s.idToken})
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/jwt")
		fmt.Fprint(w, s.userinfo)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener) // ends when the server is closed
	t.Cleanup(func() { server.Close() })
	return s
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // the reader's connection is the reader's affair
}

// sign makes a token of the provider's.
func (s *scripted) sign(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	header := map[string]any{"kid": "one"}
	if typ != "" {
		header["typ"] = typ
	}
	token, err := jws.SignWith(s.key, "ES256", header, claims)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// answer sets what the next sign-in gets.
func (s *scripted) answer(idToken, userinfo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idToken, s.userinfo = idToken, userinfo
}
