// Package bearer is the resource server's half of OAuth 2.0: it says who sends a
// request that carries an access token, and for which client and with which
// scopes. A patient lets another application act for them; this is how that
// application is let in.
//
// Make an [Issuer] with [New] for each authorization server, give it the store
// that all nodes share ([Issuer.Use]), put those that a site trusts into a
// [Site], and ask [Site.Check] about each request. [Site.Metadata] and
// [Site.Challenge] tell a client where to get a token.
//
// It follows RFC 6750 (section 2.1 only: the header; section 3), RFC 9068
// (sections 2 and 4: JWT access tokens), RFC 7662 (section 2: introspection), RFC
// 9449 (sections 4.2, 4.3, 7 and 11.1: DPoP), RFC 8705 (section 3: tokens bound to
// a client certificate), RFC 8414 and RFC 9728 (metadata), RFC 9700 and RFC 8725.
//
// It promises: a token is believed of one issuer of the site, chosen by what the
// token says and then checked by that issuer's keys or word alone; for this site's
// audience, exactly; for a time on both sides of now. A token that names a key is
// worth nothing without that key, whatever scheme it comes with; one that names none
// passes only where the site says Unbound. A proof is good for one request on all
// nodes together, from 60 s before now to 10 s after: it is made when the request is
// sent, so a minute is for slow networks and clocks that are behind, and ten seconds
// are for clocks that are ahead; whoever has a client's key for a moment makes proofs
// for later, and more time ahead would serve him only. We issue no nonces (RFC 9449,
// section 9): they cost each client a request and outdo no memory of what was used.
// An issuer that introspects judges all its tokens, JWTs too; its answers are
// remembered at most 30 s, refusals 5 s, by the token's SHA-256. What looks like a JWT
// and is not a good one is sent to nobody. Nothing fails open: a store or an issuer
// that cannot be asked is identity.ErrUnavailable, all else a [Refusal].
//
// It trusts the issuer for who holds a token and for the roles that the configuration
// lets it name; TLS; and the caller for [Request], the certificate above all: it must
// be the one of this connection, never of a header.
//
// It leaves to the caller: what a scope allows; that one token is not a person sitting
// there; the answer's headers; keeping tokens out of logs and away from the
// application; ending streams at [Caller].Expires. A token in a form body is never
// looked for and so is no token (RFC 6750, section 2.2). A JWT of an issuer without
// introspection is good until it expires, whatever happens to the account.
package bearer

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/store"
)

// Config describes one authorization server.
type Config struct {
	Name           string              // the instance's name; Caller.Source
	Issuer         string              // exactly as it spells itself
	Fetch          issuer.ClientConfig // how it is reached; the Issuer in it is overwritten
	Introspection  *Introspection      // nil: its tokens are JWTs that are judged here
	Roles          string              // the claim of roles, or a dotted path into objects; empty: "roles"
	RoleNames      map[string][]string // value of that claim -> role names; others are dropped
	Username       string              // the claim of usernames; empty: "sub", the only one that every token has
	UsernamePrefix string              // put in front of every username
	Claims         map[string]string   // name in rules -> claim, or a dotted path into objects; at most 8
	Algs           []string            // of access tokens; nil: RS256, ES256, EdDSA, PS256, ES384
	Now            func() time.Time    // nil: time.Now
	Logger         *slog.Logger        // nil: none
}

// Introspection is how an issuer is asked about its tokens (RFC 7662).
type Introspection struct {
	URL          string // empty: as the issuer's metadata names it
	ClientID     string // who we are there
	ClientSecret string // for client_secret_basic; empty: a client certificate in Config.Fetch
}

// String, GoString, MarshalJSON and LogValue name the issuer and nothing secret.
func (c Config) String() string               { return "bearer.Config(" + c.Name + ", " + c.Issuer + ")" }
func (c Config) GoString() string             { return c.String() }
func (c Config) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }
func (c Config) LogValue() slog.Value         { return slog.StringValue(c.String()) }

func (Introspection) String() string               { return "bearer.Introspection(redacted)" }
func (Introspection) GoString() string             { return "bearer.Introspection(redacted)" }
func (Introspection) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
func (Introspection) LogValue() slog.Value         { return slog.StringValue("redacted") }

// secret hides a client secret behind a pointer, so that a value that holds one
// can be printed by accident.
type secret struct{ text *string }

func (s secret) reveal() string { return *s.text }

// Issuer is one authorization server. It is safe for concurrent use.
type Issuer struct {
	name, issuer string
	algs         []string
	mapping      mapping
	client       *issuer.Client
	server       *issuer.Cache[*server]
	answers      *answers // nil: JWTs are judged here
	proofs       atomic.Pointer[memory]
	now          func() time.Time
	log          *slog.Logger
	warned       atomic.Int64 // Unix seconds: when a claim was left out last
}

// New checks the configuration and connects to nothing. Its errors say what to
// write instead.
func New(c Config) (*Issuer, error) {
	c.Fetch.Issuer = c.Issuer
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	client, err := c.check()
	if err != nil {
		return nil, err
	}
	i := &Issuer{
		name: c.Name, issuer: c.Issuer, algs: slices.Clone(c.Algs), client: client,
		mapping: mapping{roles: c.Roles, names: maps.Clone(c.RoleNames), username: c.Username, prefix: c.UsernamePrefix, claims: maps.Clone(c.Claims)},
		now:     c.Now, log: c.Logger.With("bearer", c.Name),
	}
	if i.algs == nil {
		i.algs = []string{"RS256", "ES256", "EdDSA", "PS256", "ES384"}
	}
	i.mapping.leftOut = i.warnOfClaim
	if i.mapping.roles == "" {
		i.mapping.roles = "roles"
	}
	if i.mapping.username == "" {
		i.mapping.username = "sub"
	}
	i.server = issuer.NewCache(issuer.CacheConfig[*server]{
		Now: i.now, Fresh: issuer.MetadataFresh, Keep: issuer.MetadataKeep, Fetch: i.discover,
		Failed: func(err error) { i.log.Error("looking up the issuer", "error", err) },
	})
	if c.Introspection != nil {
		i.answers = newAnswers(i, *c.Introspection)
	}
	return i, nil
}

// Use gives the memory of proofs that were used: the store that all nodes share.
// Without it every proof is refused as unavailable. Call it before the first
// request.
func (i *Issuer) Use(s store.Store) { i.proofs.Store(&memory{s}) }

// Name is the instance's name, Issuer the issuer that it is for, UsernamePrefix
// what all its usernames begin with.
func (i *Issuer) Name() string           { return i.name }
func (i *Issuer) Issuer() string         { return i.issuer }
func (i *Issuer) UsernamePrefix() string { return i.mapping.prefix }

// String and LogValue name the issuer; its fields stay out of logs.
func (i *Issuer) String() string       { return "bearer.Issuer(" + i.name + ")" }
func (i *Issuer) GoString() string     { return i.String() }
func (i *Issuer) LogValue() slog.Value { return slog.StringValue(i.String()) }

// judge says what this issuer vouches for when it made the token. A nil parsed
// is an opaque token.
func (i *Issuer) judge(ctx context.Context, token string, parsed *jws.Token) (facts, error) {
	if i.answers != nil {
		return i.answers.ask(ctx, token)
	}
	return i.verify(ctx, parsed)
}

func unavailable(reason string, err error) error {
	return &identity.Failure{Kind: identity.ErrUnavailable, Reason: reason, Err: err}
}
