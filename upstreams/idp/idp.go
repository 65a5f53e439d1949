// Package idp is a small OpenID Provider for the demo and for tests. It behaves:
// what it cannot do well it does not do, and it has no switch that makes it do
// something wrong (the misbehaving form is upstreams/idp/idptest).
//
// Call [New] with the issuer's address, the clients and the users, and serve the
// [Provider] at that address. It speaks the authorization code flow of OpenID
// Connect Core 1.0 (section 3.1) with PKCE S256 required (RFC 7636), the iss
// response parameter (RFC 9207), client_secret_basic, userinfo, discovery, and
// sign-out at its own pages. People see one page: an HTML form with the fields
// "username" and "password", without any script.
//
// It promises: codes work once and for a minute, at the client, address and
// verifier they were made for, and a code that comes twice takes its access
// token away; redirects go to registered addresses only; prompt=login and
// max_age ask again whatever session there is; a sign-in form works in the
// browser that asked for it. The signing key is made by New and lives in memory:
// a restart is a key rotation, and everybody is signed out of the provider.
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
	"slices"
	"time"
)

// Client is an application that may ask for sign-ins.
type Client struct {
	ID, Secret             string
	RedirectURIs           []string // compared exactly
	PostLogoutRedirectURIs []string // compared exactly
}

// User is somebody who can sign in.
type User struct {
	Username, Password string
	Subject            string // empty: derived from Username, the same at every start
	Name, Email        string
	Roles              []string
}

// Config describes a provider.
type Config struct {
	Issuer  string // scheme, host and port where it is served, without a path
	Title   string // on its pages; empty: "Demo sign-in"
	Clients []Client
	Users   []User
	Key     crypto.Signer    // RSA or P-256; nil: a new RSA key
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: none
}

const (
	requestLife = 10 * time.Minute // of a sign-in form
	codeLife    = time.Minute
	tokenLife   = 5 * time.Minute // of ID tokens and access tokens
	sessionLife = 8 * time.Hour   // of the provider's own session
)

// Provider serves everything below its issuer. It is safe for concurrent use.
type Provider struct {
	issuer   string
	host     string
	cookie   string // prefix of cookie names
	title    string
	clients  map[string]Client
	users    map[string]User
	signer   signer
	now      func() time.Time
	log      *slog.Logger
	mux      *http.ServeMux
	requests *table[request]
	codes    *table[grant]
	spent    *table[string] // used codes -> their access token
	tokens   *table[access]
	sessions *table[session]
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
		issuer: c.Issuer, host: u.Host, cookie: "idp_" + u.Port(), title: c.Title, now: c.Now, log: c.Logger,
		clients: map[string]Client{}, users: map[string]User{}, mux: http.NewServeMux(),
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
	for _, client := range c.Clients {
		if client.ID == "" || client.Secret == "" || len(client.RedirectURIs) == 0 {
			return nil, fmt.Errorf("making provider: client %q needs an id, a secret and a redirect address", client.ID)
		}
		p.clients[client.ID] = client
	}
	for _, user := range c.Users {
		if user.Username == "" || user.Password == "" {
			return nil, fmt.Errorf("making provider: user %q needs a name and a password", user.Username)
		}
		if user.Subject == "" {
			user.Subject = subjectOf(user.Username)
		}
		p.users[user.Username] = user
	}
	if p.signer, err = newSigner(c.Key); err != nil {
		return nil, err
	}
	p.requests = newTable[request](p.now, requestLife)
	p.codes = newTable[grant](p.now, codeLife)
	p.spent = newTable[string](p.now, tokenLife)
	p.tokens = newTable[access](p.now, tokenLife)
	p.sessions = newTable[session](p.now, sessionLife)
	p.routes()
	return p, nil
}

func (p *Provider) routes() {
	p.mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	p.mux.HandleFunc("GET /jwks", p.jwks)
	p.mux.HandleFunc("GET /authorize", p.authorize)
	p.mux.HandleFunc("POST /authorize", p.authorize)
	p.mux.HandleFunc("POST /login", p.login)
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

// discovery is OpenID Connect Discovery 1.0, section 4.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                         p.issuer,
		"authorization_endpoint":                         p.issuer + "/authorize",
		"token_endpoint":                                 p.issuer + "/token",
		"userinfo_endpoint":                              p.issuer + "/userinfo",
		"jwks_uri":                                       p.issuer + "/jwks",
		"end_session_endpoint":                           p.issuer + "/end_session",
		"scopes_supported":                               []string{"openid", "profile", "email", "roles"},
		"response_types_supported":                       []string{"code"},
		"response_modes_supported":                       []string{"query"},
		"grant_types_supported":                          []string{"authorization_code"},
		"subject_types_supported":                        []string{"public"},
		"id_token_signing_alg_values_supported":          []string{p.signer.alg},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic"},
		"code_challenge_methods_supported":               []string{"S256"},
		"prompt_values_supported":                        []string{"none", "login"},
		"acr_values_supported":                           []string{acrPassword},
		"claims_supported":                               claimNames,
		"claims_parameter_supported":                     false,
		"request_parameter_supported":                    false,
		"request_uri_parameter_supported":                false,
		"authorization_response_iss_parameter_supported": true,
	})
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{p.signer.jwk}})
}

func (p *Provider) home(w http.ResponseWriter, r *http.Request) {
	s, _, signedIn := p.session(r)
	p.page(w, http.StatusOK, view{Kind: "home", Name: p.users[s.username].Name, SignedIn: signedIn})
}

func (c Client) allows(redirect string) bool { return slices.Contains(c.RedirectURIs, redirect) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // an error here is a client that went away
}
