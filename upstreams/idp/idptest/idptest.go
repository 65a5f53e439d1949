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
	"log"
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
	AtPush      Endpoint = "/par"
	AtLeave     Endpoint = "/end_session"
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

	Provider *idp.Provider // the good one: changes people, ends sessions

	done chan struct{}

	mu       sync.Mutex
	ahead    time.Duration
	requests map[Endpoint][]Request
	faults   faults
	keys     []key
	made     int               // keys made by Rotate
	tokens   int               // logout tokens
	original map[string]string // ID tokens as the good provider made them
	last     struct{ subject, sid string }
}

// New starts a provider with the users of idp.DemoUsers and one client, which
// may be sent back to the given addresses and gets refresh tokens, and stops it
// when the test ends. The doctor has a second factor.
func New(t testing.TB, redirectURIs ...string) *Server {
	t.Helper()
	return Start(t, func(c *idp.Config) {
		if len(redirectURIs) > 0 {
			c.Clients[0].RedirectURIs = redirectURIs
		}
	})
}

// Start is New with another configuration: another registration of the client,
// which is the first, other users, a client for logout tokens.
func Start(t testing.TB, change func(*idp.Config)) *Server {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	s := &Server{
		URL: "http://" + web.Listener.Addr().String(), done: make(chan struct{}), requests: map[Endpoint][]Request{},
		keys: []key{sharedKey("RS256"), sharedKey("ES256")}, original: map[string]string{},
	}
	c := idp.Config{
		Issuer: s.URL, Users: idp.DemoUsers(), Key: sharedKey("ES256").signer, Now: s.Now, HTTPClient: &http.Client{},
		Clients: []idp.Client{{ID: "anteroom", Secret: "a secret: 100%+/", RedirectURIs: []string{Callback},
			PostLogoutRedirectURIs: []string{SignedOut}, Refresh: true}},
	}
	for i := range c.Users {
		if c.Users[i].Username == "doctor" {
			c.Users[i].Code = Code
		}
	}
	if change != nil {
		change(&c)
	}
	s.ClientID, s.ClientSecret = c.Clients[0].ID, c.Clients[0].Secret
	client := *c.HTTPClient // the caller's own stays as it is
	client.Transport = &poster{s, client.Transport}
	if client.Timeout == 0 {
		client.Timeout = 5 * time.Second
	}
	c.HTTPClient = &client
	inner, err := idp.New(c)
	if err != nil {
		t.Fatalf("starting a provider: %v", err)
	}
	s.Provider = inner
	web.Config.Handler = s
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.Start()
	t.Cleanup(func() {
		close(s.done)
		web.CloseClientConnections()
		web.Close()
	})
	return s
}

const (
	Callback  = "https://app.localhost:8443/.anteroom/callback/hospital" // the client's address when New is given none
	SignedOut = "https://app.localhost:8443/.anteroom/signed-out"        // where Start's client may have browsers sent after a sign-out
	Code      = "314159"                                                 // of the doctor's second factor
)

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
	if e == AtLeave {
		s.restoreHint(r, body)
	}
	answer := httptest.NewRecorder()
	s.Provider.ServeHTTP(answer, r)
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
	case AtMetadata, AtKeys, AtAuthorize, AtLogin, AtToken, AtUserInfo, AtPush, AtLeave:
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
		s.spoilResponse(f, answer)
	case e == AtPush && answer.Code == http.StatusCreated:
		s.spoilObject(answer, nil, f.push)
	case answer.Code != http.StatusOK:
	case e == AtMetadata:
		s.spoilObject(answer, func(o map[string]any) {
			algs := []string{"RS256", "ES256", "ES384", "EdDSA", "PS256"}
			o["id_token_signing_alg_values_supported"], o["userinfo_signing_alg_values_supported"] = algs, algs
		}, f.metadata)
	case e == AtKeys:
		s.spoilObject(answer, func(o map[string]any) { o["keys"] = s.published() }, f.keys)
	case e == AtUserInfo && answer.Header().Get("Content-Type") == "application/jwt":
		f.inUserInfo.claims = append(slices.Clone(f.userinfo), f.inUserInfo.claims...)
		signed := s.resign(f.inUserInfo, answer.Body.String(), nil)
		answer.Body.Reset()
		answer.Body.WriteString(signed)
	case e == AtUserInfo:
		s.spoilObject(answer, nil, f.userinfo)
	case e == AtToken:
		s.spoilObject(answer, func(o map[string]any) { s.respell(f, o) }, f.token)
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
