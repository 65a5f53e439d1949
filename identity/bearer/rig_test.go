package bearer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"
)

const (
	siteHost = "fhir.hospital.example"
	audience = "https://fhir.hospital.example"
	path     = "/fhir/Observation/1"
)

// authServer is an authorization server whose every answer a test may change.
type authServer struct {
	url  string
	key  *ecdsa.PrivateKey
	mu   sync.Mutex
	hits map[string]int
	// What it answers, by path; nil: as it should.
	answer map[string]http.HandlerFunc
}

// rig is an authorization server, one issuer for it, a site, a client with a key,
// and a clock.
type rig struct {
	t      testing.TB
	server *authServer
	issuer *Issuer
	site   *Site
	store  store.Store
	client *ecdsa.PrivateKey
	clock  *clock
	log    *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *logBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

var keyPair = sync.OnceValue(func() [2]*ecdsa.PrivateKey {
	var pair [2]*ecdsa.PrivateKey
	for n := range pair {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		pair[n] = key
	}
	return pair
})

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, client: keyPair()[1], clock: &clock{at: time.Now().Truncate(time.Second)}, log: &logBuffer{}}
	r.server = &authServer{key: keyPair()[0], hits: map[string]int{}, answer: map[string]http.HandlerFunc{}}
	server := httptest.NewServer(r.server)
	t.Cleanup(server.Close)
	r.server.url = server.URL
	db, err := bolt.Open(bolt.Config{Path: t.TempDir() + "/store.db", Now: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	r.store = db
	r.issuer = r.another(change...)
	r.site = &Site{Issuers: []*Issuer{r.issuer}}
	return r
}

// another makes an issuer for the same server, as a second node would.
func (r *rig) another(change ...func(*Config)) *Issuer {
	r.t.Helper()
	c := Config{
		Name: "partner", Issuer: r.server.url, Now: r.clock.now, Logger: slog.New(slog.NewTextHandler(r.log, nil)),
		RoleNames: map[string][]string{"grp-physicians": {"doctor"}, "grp-all": {"staff", "doctor"}},
	}
	for _, f := range change {
		f(&c)
	}
	i, err := New(c)
	if err != nil {
		r.t.Fatal(err)
	}
	i.Use(r.store)
	return i
}

func introspecting(c *Config) {
	c.Introspection = &Introspection{ClientID: "anteroom", ClientSecret: "s3cret/+ of ours"}
}

func (s *authServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.hits[r.URL.Path]++
	f := s.answer[r.URL.Path]
	s.mu.Unlock()
	if f != nil {
		f(w, r)
		return
	}
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		writeJSON(w, map[string]any{"issuer": s.url, "jwks_uri": s.url + "/jwks", "introspection_endpoint": s.url + "/introspect"})
	case "/jwks":
		key, _ := jws.JWK(s.key.Public())
		maps.Copy(key, map[string]any{"kid": "k1", "use": "sig", "alg": "ES256"})
		writeJSON(w, map[string]any{"keys": []any{key}})
	case "/introspect":
		writeJSON(w, map[string]any{"active": false})
	default:
		http.NotFound(w, r)
	}
}

func (s *authServer) set(path string, f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer[path] = f
}

func (s *authServer) count(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

func (s *authServer) total() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hits := range s.hits {
		n += hits
	}
	return n
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func text(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// signed makes a compact token of any header and payload, with a right signature.
func signed(key crypto.Signer, header, payload string) string {
	signing := b64(header) + "." + b64(payload)
	var signature []byte
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256([]byte(signing))
		r, s, err := ecdsa.Sign(rand.Reader, k, digest[:])
		if err != nil {
			panic(err)
		}
		signature = append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		signature = ed25519.Sign(k, []byte(signing))
	}
	return signing + "." + b64(string(signature))
}

type object = map[string]any

// claims are those of a good token that is bound to the client's key.
func (r *rig) claims() object {
	now := r.clock.now()
	return object{
		"iss": r.server.url, "sub": "f:1:dana", "aud": audience, "client_id": "growth-chart", "jti": "t-1",
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "scope": "patient/Observation.rs openid",
		"cnf": object{"jkt": thumbprint(r.client)},
	}
}

func thumbprint(key crypto.Signer) string {
	print, err := jws.Thumbprint(key.Public())
	if err != nil {
		panic(err)
	}
	return print
}

const tokenHeader = `{"alg":"ES256","kid":"k1","typ":"at+jwt"}`

// token is a good one with some claims changed; a nil value takes a claim out.
func (r *rig) token(changes ...object) string {
	return signed(r.server.key, tokenHeader, text(changed(r.claims(), changes...)))
}

// unbound is a good token that names no key.
func (r *rig) unbound(changes ...object) string {
	return r.token(append([]object{{"cnf": nil}}, changes...)...)
}

func changed(o object, changes ...object) object {
	for _, change := range changes {
		for name, value := range change {
			if o[name] = value; value == nil {
				delete(o, name)
			}
		}
	}
	return o
}

// null is a claim that is there and null.
var null = json.RawMessage("null")

var proofs struct {
	sync.Mutex
	made int
}

// proofClaims are those of a good proof.
func (r *rig) proofClaims(token string) object {
	proofs.Lock()
	defer proofs.Unlock()
	proofs.made++
	sum := sha256.Sum256([]byte(token))
	return object{
		"jti": "p-" + text(proofs.made), "htm": "GET", "htu": audience + path, "iat": r.clock.now().Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(sum[:]),
	}
}

func proofHeader(key crypto.Signer, changes ...object) string {
	jwk, err := jws.JWK(key.Public())
	if err != nil {
		panic(err)
	}
	return text(changed(object{"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk}, changes...))
}

func (r *rig) proof(token string, changes ...object) string {
	return signed(r.client, proofHeader(r.client), text(changed(r.proofClaims(token), changes...)))
}

// request carries a token under a scheme and proofs.
func request(scheme, token string, proofs ...string) Request {
	return Request{Method: "GET", Host: siteHost, Path: path, Authorization: []string{scheme + " " + token}, DPoP: proofs}
}

func (r *rig) check(q Request) (*Caller, error) { return r.site.Check(context.Background(), q) }

func (r *rig) accepts(q Request) *Caller {
	r.t.Helper()
	caller, err := r.check(q)
	if err != nil || caller == nil {
		r.t.Fatalf("Check = %v, %v; want a caller", caller, err)
	}
	return caller
}

// refuses wants this reason, no caller, and nothing of the token in the error.
func (r *rig) refuses(q Request, reason string) *Refusal {
	r.t.Helper()
	caller, err := r.check(q)
	refused, ok := errors.AsType[*Refusal](err)
	if !ok || refused.Reason != reason || caller != nil {
		r.t.Fatalf("Check = %v, %v; want a refusal with %s", caller, err, reason)
	}
	want := &Refusal{Status: 401, Scheme: refused.Scheme, Code: "invalid_token", Reason: reason}
	switch {
	case strings.HasPrefix(reason, "request."):
		want.Status, want.Code = 400, "invalid_request"
	case strings.HasPrefix(reason, "dpop."):
		want.Code = "invalid_dpop_proof"
	}
	if *refused != *want || (refused.Scheme != schemeBearer && refused.Scheme != schemeDPoP) {
		r.t.Fatalf("refusal %+v, want %+v", *refused, *want)
	}
	return refused
}

// unavailable wants a failure that is not the client's.
func (r *rig) unavailable(q Request, reason string) {
	r.t.Helper()
	caller, err := r.check(q)
	if _, refused := errors.AsType[*Refusal](err); refused || !errors.Is(err, identity.ErrUnavailable) || identity.Reason(err) != reason || caller != nil {
		r.t.Fatalf("Check = %v, %v; want unavailable with %s", caller, err, reason)
	}
}

// good is a request that is let in.
func (r *rig) good() Request {
	token := r.token()
	return request("DPoP", token, r.proof(token))
}

// TestGood: the rig's own token and proof pass, or no refusal below shows anything.
func TestGood(t *testing.T) {
	r := newRig(t)
	caller := r.accepts(r.good())
	if caller.Scheme != "DPoP" || caller.Subject != "f:1:dana" || caller.Username != "f:1:dana" || caller.Source != "partner" ||
		caller.Issuer != r.server.url || caller.ClientID != "growth-chart" || len(caller.Scopes) != 2 ||
		!caller.Expires.Equal(r.clock.now().Add(11*time.Minute)) {
		t.Errorf("%+v", caller)
	}
	r.site.Unbound = true
	if caller = r.accepts(request("Bearer", r.unbound())); caller.Scheme != "Bearer" {
		t.Errorf("%+v", caller)
	}
}
