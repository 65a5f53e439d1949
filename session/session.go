// Package session issues, finds, renews and revokes sessions that live in two cookies: a signed token
// (JWT, RFC 7519) and 32 random bytes, the context, of which the token holds only the SHA-256 (a
// confirmation, RFC 7800). Neither cookie is worth anything without the other.
//
// Call [New], then [Manager.Start] once; [Manager.Issue] when somebody signed in, [Manager.Join] to
// take that sign-on to another site; [Manager.Find] and then [Manager.StartRenewal] for each request;
// [Manager.Revoke] and its kin to end it; [Manager.Watch] for a connection that outlives its request.
//
// Promised: Find asks nobody. It verifies a token once and remembers that under the SHA-256 of the
// token's exact bytes; expiry, context, revocation, signing key and audience are checked at every
// request all the same. Whatever is not a session is [ErrNone], without a difference to the outside. A
// revocation, of one session, of a user, of a provider's session, is durable before the call returns
// nil and reaches every other node within milliseconds. A node that has not heard from the store for
// 30 s, or whose clock differs from the store's by as much, answers [ErrStale]. Of parallel renewals,
// on whatever nodes, one happens. There are never more sign-ins of an account than its roles' limit.
//
// Any number of nodes share one store and nothing else. Beside the feed of revocations it holds,
// sealed, the keys, a record of each sign-on and a list of them for each account. What a feed that was
// set back or failed over has lost, a running node adds again; [Config.Mark] finds it out where none
// ran.
//
// A key signs for a month; whichever node finds it due replaces it, which signs nobody out.
// [Manager.KillKey] ends a key and what it signed. [Manager.Assertion] tells an application who a
// session is, signed by keys for that alone.
//
// A source that can be asked again is asked at a renewal ([Config.Refresh]): whoever it does not vouch
// for is out within one idle period, and roles follow it, on all sites.
//
// Token claims beside the registered ones: idp, preferred_username, name, email, roles, groups, org, acr,
// amr, auth_time, claims (an object of texts), device (the browser was known at the sign-in), sid, cnf, idp_sid (a hash), start, the second in which the session began, and verify,
// where the source is asked again. The cookies have no Max-Age: on a shared workstation a session
// should not outlive the browser. Renewal leaves the older token valid until its own exp, at most the
// idle time later.
//
// Trusted: the store (whoever writes to it can add keys only with the sealer's key, but can forget
// revocations), the sealer, the clock. Left to the caller: TLS, the policy, when to set the renewed
// cookie, how long a silent store is tolerated, and that host is the one that the gate has accepted.
// The copy of both cookies is a copy of the session.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// Names of the two cookies. Browsers accept a __Host- name only with Secure,
// Path=/ and without Domain, so that no sibling host can plant one.
const (
	CookieToken   = "__Host-anteroom"
	CookieContext = "__Host-anteroom-ctx"
)

// What a caller has to tell apart; compare with errors.Is.
var (
	// ErrNone: there is no session in this request, for whatever reason.
	ErrNone = errors.New("no session")
	// ErrStale: the store was not heard for 30 s; answer 503.
	ErrStale = errors.New("revocations are not known: the store does not answer")
	// ErrTooLarge: the session does not fit into a cookie of 4096 bytes.
	ErrTooLarge = errors.New("session does not fit into a 4096-byte cookie")
	// ErrGrant: the grant or the host holds something that a session must not.
	ErrGrant = errors.New("grant not acceptable for a session")
	// ErrLimit: the person has as many sign-ins as the role allows; the error is
	// a [LimitError].
	ErrLimit = errors.New("as many sign-ins as the role allows")
	// ErrClosed: the manager was not started or has been closed; answer 503.
	ErrClosed = errors.New("session manager is not running")
)

// Sealer encrypts what this package stores. envelope's Envelope is one.
type Sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Grant says who signed in and as what. Source and Subject are required; roles and
// groups are of the form [A-Za-z0-9._-]{1,64}; no field holds control characters.
type Grant struct {
	Source   string // name of the identity source
	Subject  string // the source's own, stable name; 1 to 255 bytes
	Username string
	Name     string
	Email    string
	Roles    []string
	Org      string
	ACR      string
	AMR      []string
	AuthTime time.Time // zero: not known

	// Groups are names as roles are; at most 64. Claims is what rules may ask for
	// besides: at most 8, names [a-z][a-z0-9_]{0,31}, values 1 to 255 bytes of text.
	// They are personal: no application is told and no log holds them. Device says
	// that the browser had signed in as this account before this sign-on.
	Groups []string          `json:",omitempty"`
	Claims map[string]string `json:",omitempty"`
	Device bool              `json:",omitempty"`

	// ProviderSession is the provider's own id of its session, or "". In a Session
	// it is a hash of that, which is all that the token holds.
	ProviderSession string
}

// Session is one verified session. It is shared between requests: read it, never
// change it or what its slices hold.
type Session struct {
	Grant
	ID       string    // sid: stays over renewals
	TokenID  string    // jti: new with each renewal
	Issuer   string    // "https://" and the host as the browser sent it
	Audience string    // the site's host, lower case, without port
	IssuedAt time.Time // of this token
	Expires  time.Time // of this token: the idle end
	Started  time.Time
	Ends     time.Time // the absolute end

	idle    time.Duration // of these roles
	verify  bool          // [Config.Refresh] is asked about the sign-on
	context [32]byte      // SHA-256 of the context cookie's bytes
}

// Config says what a Manager works with. Store and Sealer are required.
type Config struct {
	Store     store.Store
	Sealer    Sealer
	Lifetimes Lifetimes
	Mark      Mark // nil: a store that was set back while nobody looked is not noticed
	// Refresh asks the identity source again about a sign-on that was admitted with
	// Verify, before its context ends. An error means "not now": the sign-on goes on as
	// it was and the source has a rest of half a minute. The end of its patience is
	// Refresh's own to judge, by Kept.Verified: it says Gone then. A verdict about another
	// account, or one that no session may hold, is Gone as well. nil: grants stay as
	// they are.
	Refresh func(ctx context.Context, s *Session, k Kept) (Verdict, error)
	Journal Journal // nil: a revocation that the store could not take is not done
	Now     func() time.Time
	Logger  *slog.Logger
}

// New checks the configuration. It touches neither store nor clock.
func New(c Config) (*Manager, error) {
	if c.Store == nil || c.Sealer == nil {
		return nil, errors.New("creating session manager: a store and a sealer are required")
	}
	if err := c.Lifetimes.Check(); err != nil {
		return nil, fmt.Errorf("creating session manager: %w", err)
	}
	c.Lifetimes.Roles = maps.Clone(c.Lifetimes.Roles)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{settings: settings{
		store:    c.Store,
		sealer:   c.Sealer,
		lifetime: c.Lifetimes,
		longest:  c.Lifetimes.longest(),
		mark:     c.Mark,
		regrant:  c.Refresh,
		journal:  c.Journal,
		now:      c.Now,
		log:      c.Logger,
	}}
	m.life, m.stop = context.WithCancel(context.Background())
	m.cache.init(cacheEntries)
	m.live.init()
	m.keys.init()
	return m, nil
}
