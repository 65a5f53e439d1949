// Package idptest is an OpenID Provider that misbehaves on demand. Only tests
// import it.
//
// Call [New]: it serves the well-behaved provider of upstreams/idp on a loopback
// port and stands between it and the client under test. Without faults nobody
// can tell the two apart. [Server.Use] switches faults on for everything that
// follows: they change the metadata, the key set, the redirect to the client, ID
// tokens (which are signed again, so that a changed claim has a good signature
// unless the fault is the signature), token and userinfo answers, or replace an
// endpoint whole. [Rows] is the table of the OpenID conformance suite's modules
// for relying parties, ready to run.
//
// [Server.Count] and [Server.Requests] tell what the client sent, because many
// of these tests are about requests that must not happen. [Server.SignIn] is a
// browser without scripts that goes through the form.
//
// It trusts its caller, keeps no promise of the package that it wraps, and signs
// with keys that are shared by all servers of a test binary.
package idptest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/idp"
)

// Endpoint names a place of the provider that requests are counted for.
type Endpoint string

// The endpoints.
const (
	AtMetadata  Endpoint = "/.well-known/openid-configuration"
	AtKeys      Endpoint = "/jwks"
	AtAuthorize Endpoint = "/authorize"
	AtLogin     Endpoint = "/login"
	AtToken     Endpoint = "/token"
	AtUserInfo  Endpoint = "/userinfo"
	AtElsewhere Endpoint = "" // whatever is none of the others
)

// Request is what the provider received.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Form   url.Values // of the body
}

// Server is one provider. Its methods are safe for concurrent use.
type Server struct {
	URL          string // the issuer
	ClientID     string
	ClientSecret string

	inner *idp.Provider
	done  chan struct{}

	mu       sync.Mutex
	ahead    time.Duration
	requests map[Endpoint][]Request
	faults   faults
	keys     []key
	made     int // keys made by Rotate
}

// New starts a provider with the users of idp.DemoUsers and one client, which
// may be sent back to the given addresses, and stops it when the test ends.
func New(t testing.TB, redirectURIs ...string) *Server {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	s := &Server{
		URL: "http://" + web.Listener.Addr().String(), ClientID: "anteroom", ClientSecret: "a secret: 100%+/",
		done: make(chan struct{}), requests: map[Endpoint][]Request{}, keys: []key{sharedKey("RS256"), sharedKey("ES256")},
	}
	if len(redirectURIs) == 0 {
		redirectURIs = []string{Callback}
	}
	inner, err := idp.New(idp.Config{
		Issuer: s.URL, Users: idp.DemoUsers(), Key: sharedKey("ES256").signer, Now: s.Now,
		Clients: []idp.Client{{ID: s.ClientID, Secret: s.ClientSecret, RedirectURIs: redirectURIs}},
	})
	if err != nil {
		t.Fatalf("starting a provider: %v", err)
	}
	s.inner = inner
	web.Config.Handler = s
	web.Start()
	t.Cleanup(func() {
		close(s.done)
		web.CloseClientConnections()
		web.Close()
	})
	return s
}

// Callback is the client's address when New is given none.
const Callback = "https://app.localhost:8443/.anteroom/callback/hospital"

// Use replaces the faults; without arguments the server behaves again.
func (s *Server) Use(all ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults{}
	for _, f := range all {
		f(&s.faults)
	}
}

// Now is the server's clock, for the client under test as well.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.ahead)
}

// Pass moves the server's clock.
func (s *Server) Pass(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead += d
}

// Count says how many requests an endpoint had since the start or [Server.Forget].
func (s *Server) Count(e Endpoint) int { return len(s.Requests(e)) }

// Requests gives them, oldest first.
func (s *Server) Requests(e Endpoint) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests[e])
}

// Forget begins counting anew.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.requests)
}

// ServeHTTP notes the request, lets the good provider answer and spoils the
// answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	e := s.note(r, body)
	s.mu.Lock()
	f := s.faults
	s.mu.Unlock()
	if replacement := f.replace[e]; replacement != nil {
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		replacement(s, w, r)
		return
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	answer := httptest.NewRecorder()
	s.inner.ServeHTTP(answer, r)
	s.spoil(e, f, answer)
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes())
}

func (s *Server) note(r *http.Request, body []byte) Endpoint {
	e := Endpoint(r.URL.Path)
	switch e {
	case AtMetadata, AtKeys, AtAuthorize, AtLogin, AtToken, AtUserInfo:
	default:
		e = AtElsewhere
	}
	form, _ := url.ParseQuery(string(body)) // what cannot be read is not noted
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[e] = append(s.requests[e], Request{r.Method, r.URL, r.Header.Clone(), form})
	return e
}

// spoil changes a good answer.
func (s *Server) spoil(e Endpoint, f faults, answer *httptest.ResponseRecorder) {
	switch {
	case e == AtAuthorize || e == AtLogin:
		s.spoilRedirect(f, answer)
	case answer.Code != http.StatusOK:
	case e == AtMetadata:
		s.spoilObject(answer, func(o map[string]any) {
			o["id_token_signing_alg_values_supported"] = []string{"RS256", "ES256", "ES384", "EdDSA", "PS256"}
		}, f.metadata)
	case e == AtKeys:
		s.spoilObject(answer, func(o map[string]any) { o["keys"] = s.published() }, f.keys)
	case e == AtUserInfo:
		s.spoilObject(answer, nil, f.userinfo)
	case e == AtToken:
		s.spoilObject(answer, func(o map[string]any) { s.resign(f, o) }, f.token)
	}
}

func (s *Server) spoilObject(answer *httptest.ResponseRecorder, always func(map[string]any), changes []func(map[string]any)) {
	var object map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &object); err != nil {
		panic(fmt.Sprintf("idptest: the provider's own answer: %v", err))
	}
	if always != nil {
		always(object)
	}
	for _, change := range changes {
		change(object)
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("idptest: a fault made an answer that is no JSON: %v", err))
	}
	answer.Body.Reset()
	answer.Body.Write(text)
}

func (s *Server) spoilRedirect(f faults, answer *httptest.ResponseRecorder) {
	to, err := url.Parse(answer.Header().Get("Location"))
	if err != nil || to.Host == "" {
		return
	}
	query := to.Query()
	for _, change := range f.response {
		change(query)
	}
	to.RawQuery = query.Encode()
	answer.Header().Set("Location", to.String())
}
