// Package oidc signs people in through an OpenID Connect provider: the
// authorization code flow with PKCE (OpenID Connect Core 1.0, section 3.1; RFC
// 6749, RFC 7636, RFC 9700), and what a strict provider wants besides: pushed
// requests (RFC 9126), form posts, client authentication with a signed JWT or a
// certificate (RFC 7523, RFC 8705), DPoP (RFC 9449), the FAPI 2.0 Security Profile.
//
// Call [New] with a [Config], [Source.Use] with the place for keys that are made
// here, and use the [Source] as an identity.Source: Begin gives the address of the
// provider's sign-in page, Finish turns the callback into an identity. New makes no
// connection: the provider is looked up at the first sign-in, so that a dead
// provider is a page for one person and never a failed start.
//
// It promises that an identity comes out only when all of this held: the response
// belongs to this provider (iss, RFC 9207) and this attempt (state, way, nonce, PKCE
// verifier); the ID token has the shape that package jws accepts and a signature by
// a key from the issuer's own key set; iss, aud, azp, exp, iat, nbf, sub, nonce,
// at_hash and auth_time hold (section 3.1.3.7 and stricter); the access token was
// not used before that; a userinfo answer names the same subject. The code is sent
// once, to one place; only with DPoP does a provider that asks for a nonce get it
// once more. Only claim values that the configuration maps become roles. A session
// that is checked again keeps its person and its level.
//
// It trusts the provider to vouch for people, and TLS to reach it. It does not trust
// it further: what may be fetched is package issuer's to say, claims by reference
// are never fetched, text from the provider reaches neither a page nor an error.
// After a sign-out the provider is asked to prompt, with prompt=login and not with
// max_age, which large providers ignore; an auth_time that shows an old sign-in is
// refused then. Where max_age is asked, by the configuration or by a request that
// needs a recent proof, an answer without auth_time is refused. Whether an answer
// shows the acr and amr that a request needs is for the caller to see
// (identity.Need.Met): the parameters only ask.
//
// It leaves to the caller: state, one use and ten minutes of an attempt, the sealing
// of Keep, rate limits, and everything after the identity.
package oidc

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
)

// secret hides the client secret behind a pointer, so that a value that holds
// one can be printed with %#v by accident without printing it.
type secret struct{ text *string }

func (s secret) reveal() string { return *s.text }

// credentials are what we show the provider. Everything in it prints as nothing.
type credentials struct {
	secret secret
	given  *signerBox // the configured key for private_key_jwt
	signs  *madeKey   // or the one that was made for it
	proves *madeKey   // the key of our DPoP proofs
	nonces nonces
}

// Source is one provider. It is safe for concurrent use. It implements
// identity.Source.
type Source struct {
	name, title string
	issuer      string
	clientID    string
	credentials
	scopes   []string
	claims   mapping
	config   *Config // checked and our own; its Client holds neither secret nor key
	client   *issuer.Client
	now      func() time.Time
	log      *slog.Logger
	warned   atomic.Int64 // Unix seconds: when a claim was left out last
	provider *issuer.Cache[*provider]
}

var (
	_ identity.Source    = (*Source)(nil)
	_ identity.Prefixed  = (*Source)(nil)
	_ identity.Published = (*Source)(nil)
	_ identity.Answering = (*Source)(nil)
	_ identity.HomeRealm = (*Source)(nil)
	_ identity.Vouched   = (*Source)(nil)
)

// New checks the configuration and connects to nothing. Its errors say what to
// write instead.
func New(c Config) (*Source, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	s := &Source{
		name: c.Name, title: c.Title, issuer: c.Issuer, clientID: c.Client.ID,
		scopes: c.Request.scopes(), claims: c.mapping(),
		config: c.own(), now: c.Now, log: c.Logger,
	}
	owner := keyOwner{Issuer: c.Issuer, Client: c.Client.ID}
	s.secret, s.given = secret{&c.Client.Secret}, &signerBox{c.Client.Key}
	if s.title == "" {
		s.title = c.Name
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.signs, s.proves = newMadeKey(labelClientKey, owner, s.now), newMadeKey(labelDPoPKey, owner, s.now)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With("source", c.Name)
	s.claims.leftOut = s.warnOfClaim
	var err error
	if s.client, err = issuer.NewClient(s.config.Fetch); err != nil {
		return nil, err
	}
	s.provider = issuer.NewCache(issuer.CacheConfig[*provider]{
		Now: s.now, Fresh: issuer.MetadataFresh, Keep: issuer.MetadataKeep, Fetch: s.discover,
		Failed: func(err error) { s.log.Error("looking up the provider", "error", err) },
	})
	return s, nil
}

// Name is the source's name.
func (s *Source) Name() string { return s.name }

// Title is what people see on the sign-in page.
func (s *Source) Title() string { return s.title }

// Issuer is the provider as it spells itself; see identity.Vouched.
func (s *Source) Issuer() string { return s.issuer }

// Domains are the e-mail domains whose people belong here, in lower case; see
// identity.HomeRealm.
func (s *Source) Domains() []string { return slices.Clone(s.config.Domains) }

// UsernamePrefix is what every username of this source begins with; see
// identity.Prefixed.
func (s *Source) UsernamePrefix() string { return s.claims.prefix }

// String and LogValue name the source; its fields stay out of logs.
func (s *Source) String() string       { return "oidc.Source(" + s.name + ")" }
func (s *Source) GoString() string     { return s.String() }
func (s *Source) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Answers fetches the provider's metadata, past what is remembered; see
// identity.Answering. Nothing of it is used.
func (s *Source) Answers(ctx context.Context) error {
	_, err := s.client.Discover(ctx)
	return err
}

// ready gives the provider's checked metadata, from the cache or the network.
func (s *Source) ready(ctx context.Context) (*provider, error) {
	p, _, err := s.provider.Get(ctx)
	return p, err
}

// fail builds the package's errors: kind, fixed reason, cause.
func fail(kind error, reason string, err error) error {
	return &identity.Failure{Kind: kind, Reason: reason, Err: err}
}

func refused(reason string) error { return fail(identity.ErrRefused, reason, nil) }
