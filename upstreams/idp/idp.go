// Package idp is a small OpenID Provider for the demo and for tests. It behaves:
// what it cannot do well it does not do, and it has no switch that makes it do
// something wrong (the misbehaving form is upstreams/idp/idptest).
//
// Call [New] with the issuer's address, the clients and the users, and serve the
// [Provider] at that address. It speaks the authorization code flow of OpenID
// Connect Core 1.0 (section 3.1) with PKCE S256 required (RFC 7636), the iss
// response parameter (RFC 9207), userinfo, discovery, and sign-out (RP-Initiated
// and Back-Channel Logout 1.0). What a [Client] is registered for, it gets
// besides: refresh tokens, another client authentication than
// client_secret_basic, signed userinfo; pushed requests (RFC 9126), form posts
// and DPoP (RFC 9449) are there for those who ask. People see one page: an HTML
// form with the fields "username" and "password", and "code" where a second
// factor is asked for.
//
// It promises: codes work once and for a minute, at the client, address and
// verifier they were made for, and a code or refresh token that comes twice
// takes away what the first one got; redirects go to registered addresses only;
// prompt=login and max_age ask again whatever session there is; a sign-in form
// works in the browser that asked for it. The signing key is made by New and
// lives in memory: a restart is a key rotation, and everybody is signed out of
// the provider.
//
// [Provider.Change] disables people and gives them other roles while it runs,
// [Provider.EndSession] ends their sessions and tells the clients.
//
// It trusts its configuration, passwords in clear included: it is for a demo on
// one machine, over loopback HTTP, and nothing that matters may depend on it.
//
// It leaves to the caller the listener and its time-outs.
package idp

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// Client is an application that may ask for sign-ins.
type Client struct {
	ID, Secret             string
	RedirectURIs           []string // compared exactly
	PostLogoutRedirectURIs []string // compared exactly
	BackChannelLogoutURI   string   // where logout tokens are posted; empty: nowhere
	Auth                   string   // at the token endpoint, a word of RFC 7591; empty: client_secret_basic
	JWKS                   string   // its public keys for private_key_jwt, as text
	JWKSURI                string   // or where they are fetched
	Refresh                bool     // gets refresh tokens
	PAR                    bool     // must push its requests
	DPoP                   bool     // must prove its key at the token endpoint
	SignedUserInfo         bool     // gets userinfo as a JWT
}

// User is somebody who can sign in.
type User struct {
	Username, Password string
	Code               string // of the second factor; empty: has none
	Subject            string // empty: derived from Username, the same at every start
	Name, Email        string
	Roles              []string
	Disabled           bool
}

// Config describes a provider.
type Config struct {
	Issuer     string // scheme, host and port where it is served, without a path
	Title      string // on its pages; empty: "Demo sign-in"
	Clients    []Client
	Users      []User
	Key        crypto.Signer    // RSA or P-256; nil: a new RSA key
	DPoPNonce  bool             // DPoP proofs need a nonce of ours (RFC 9449, section 8)
	HTTPClient *http.Client     // for logout tokens and clients' keys; nil: one with a time-out of 5 s
	Now        func() time.Time // nil: time.Now
	Logger     *slog.Logger     // nil: none
}

const (
	requestLife = 10 * time.Minute // of a sign-in form
	codeLife    = time.Minute
	tokenLife   = 5 * time.Minute // of ID tokens and access tokens
	sessionLife = 8 * time.Hour   // of the provider's own session and of refresh tokens
)

// Provider serves everything below its issuer. It is safe for concurrent use.
type Provider struct {
	issuer string
	host   string
	cookie string // prefix of cookie names
	title  string
	signer signer
	nonces bool
	http   *http.Client
	now    func() time.Time
	log    *slog.Logger
	mux    *http.ServeMux
	people people
	state
}

// state is what the provider remembers of sign-ins.
type state struct {
	clients  map[string]Client
	requests *table[request]
	pushed   *table[url.Values]
	codes    *table[grant]
	spent    *table[string] // used codes -> the family of what they got
	tokens   *table[access]
	renewals *table[renewal]
	sessions *table[session]
	visits   *table[visit]
	seen     *table[bool] // jti of assertions and proofs, and our own nonces
}

// New checks the configuration and makes the signing key.
func New(c Config) (*Provider, error) {
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || c.Issuer != u.Scheme+"://"+u.Host {
		return nil, fmt.Errorf("making provider: issuer %q is not scheme://host:port", c.Issuer)
	}
	if len(c.Users) == 0 || len(c.Clients) == 0 {
		return nil, errors.New("making provider: it needs a user and a client")
	}
	p := &Provider{
		issuer: c.Issuer, host: u.Host, cookie: "idp_" + u.Port(), title: c.Title, nonces: c.DPoPNonce, http: c.HTTPClient,
		now: c.Now, log: c.Logger, mux: http.NewServeMux(),
	}
	if p.title == "" {
		p.title = "Demo sign-in"
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.http == nil {
		p.http = &http.Client{Timeout: 5 * time.Second}
	}
	p.state = newState(p.now)
	for _, client := range c.Clients {
		if err := client.check(); err != nil {
			return nil, err
		}
		p.clients[client.ID] = client
	}
	if p.people.all, err = accounts(c.Users); err != nil {
		return nil, err
	}
	if p.signer, err = newSigner(c.Key); err != nil {
		return nil, err
	}
	p.routes()
	return p, nil
}

func newState(now func() time.Time) state {
	return state{
		clients:  map[string]Client{},
		requests: newTable[request](now, requestLife),
		pushed:   newTable[url.Values](now, pushedLife),
		codes:    newTable[grant](now, codeLife),
		spent:    newTable[string](now, tokenLife),
		tokens:   newTable[access](now, tokenLife),
		renewals: newTable[renewal](now, sessionLife),
		sessions: newTable[session](now, sessionLife),
		visits:   newTable[visit](now, sessionLife),
		seen:     newTable[bool](now, tokenLife),
	}
}

func (p *Provider) routes() {
	p.mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	p.mux.HandleFunc("GET /jwks", p.jwks)
	p.mux.HandleFunc("GET /authorize", p.authorize)
	p.mux.HandleFunc("POST /authorize", p.authorize)
	p.mux.HandleFunc("POST /login", p.login)
	p.mux.HandleFunc("POST /par", p.push)
	p.mux.HandleFunc("POST /token", p.token)
	p.mux.HandleFunc("GET /userinfo", p.userinfo)
	p.mux.HandleFunc("POST /userinfo", p.userinfo)
	p.mux.HandleFunc("GET /end_session", p.endSession)
	p.mux.HandleFunc("POST /end_session", p.endSession)
	p.mux.HandleFunc("GET /style.css", p.style)
	p.mux.HandleFunc("GET /{$}", p.home)
}

// ServeHTTP answers requests for the issuer's own host and no other: a web site
// whose name was pointed at 127.0.0.1 shall not read answers.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'")
	if r.Host != p.host {
		http.Error(w, "This provider is at "+p.issuer, http.StatusMisdirectedRequest)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	p.mux.ServeHTTP(w, r)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error here is a client that went away
}
