// Package portal is what a person with a browser sees of Anteroom: the pages
// and endpoints below one prefix, "/.anteroom/" unless configured otherwise.
//
// Call New with a Config, hand every request below the prefix to ServeHTTP,
// and let Refuse show the page of a request that the gate refused elsewhere.
//
//	<prefix>                    who you are, sign out, switch user
//	<prefix>login?return_to=    choose a way to sign in; a single one is begun at once
//	<prefix>login/<source>      begin one way to sign in
//	<prefix>callback/<source>   where its provider sends the browser back to
//	<prefix>callback/portal     where the one portal sends the browser back to, see below
//	<prefix>logout              GET asks, POST signs out
//	<prefix>switch              POST signs out and goes to the sign-in page
//	<prefix>sessions            where the account is signed in
//	<prefix>sessions/end        POST ends one sign-in of the account, sessions/end-all all
//	<prefix>move                asks whether to move a session here, when the role allows no more; POST moves
//	<prefix>session             the session as JSON
//	<prefix>jwks.json           the keys that sign sessions
//	<prefix>static/             style sheet and logo
//
// What it promises: a sign-in attempt belongs to the browser that began it,
// works once and for ten minutes (RFC 6749 section 10.12, RFC 9700 sections
// 2.1 and 4.7); every sign-in gets new identifiers and ends the session that
// the browser had before; without an audit record there is no session; no
// address from a request leads to another site (RFC 9700 section 4.11); a page
// never shows text of a provider or of a request, except the host and the
// person's own name, escaped. No page needs a script.
//
// With a Home one host signs in for all others: a site sends the browser there
// with a sealed ask and gets it back with a code that works once, for 30 s, at
// that site, for that attempt, in that browser. One sign-out ends all sites.
//
// What it trusts: the gate before it (the host is one of the site's, the path
// is unambiguous, spoofed headers are gone), the Source to check its provider,
// and the Sealer. It keeps no state of its own: attempts are sealed cookies,
// so any node can finish what another began; what was used is in the Store.
//
// What it leaves to the caller: TLS, HSTS, and renewing sessions. Asking
// <prefix>session does not count as use of a session, so that a page which
// polls it does not keep an unattended workstation signed in.
package portal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// Sealer seals sign-in attempts. Open fails for everything that Seal did not
// make under the same label.
type Sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Config says what a Portal works with. Sessions, Store, Sealer and Audit are
// required.
type Config struct {
	// Prefix is the path that all endpoints lie under. It begins and ends
	// with a slash. Empty means DefaultPrefix.
	Prefix string

	// Sources are the ways to sign in, in the order of the sign-in page.
	Sources []identity.Source

	Sessions *session.Manager
	Store    store.Store
	Sealer   Sealer
	Audit    audit.Recorder

	// Home is the host, with its port unless that is 443, of the one portal for
	// many sites: the only place that talks to identity providers. Requests for
	// any other host are handed there to sign in, and back. Empty: each site
	// signs in by itself.
	Home string

	// HomeAlone says that there is no application at Home.
	HomeAlone bool

	// Served reports whether a host (lower case, with its port unless that is
	// 443) is a site of this installation that browsers may be handed back to.
	// Required with Home: a site that answers for every name would otherwise ask
	// for codes in a stranger's name. It must be exact, without wildcards that a
	// stranger can register a name below.
	Served func(host string) bool

	// ClientAddr tells the client's address for limits and the audit log.
	// Nil means the address of the connection.
	ClientAddr func(*http.Request) string

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means none
}

// Portal answers the requests below its prefix. Make one with New. It is safe
// for concurrent use and holds nothing that must be closed.
type Portal struct {
	prefix    string
	sources   []identity.Source
	sessions  *session.Manager
	store     store.Store
	sealer    Sealer
	audit     audit.Recorder
	home      string                 // as Origin spells it; empty without one
	homeAlone bool                   // no application is behind it
	served    func(host string) bool // never nil with a home
	client    func(*http.Request) string
	limit     *limiter // what reaches a provider, or comes from one
	now       func() time.Time
	log       *slog.Logger

	// handLimit is for hand-offs: they are many more than sign-ins and no
	// provider sees them. A hand-off costs two units, and a few writes.
	handLimit *limiter
}

// prefixPath keeps the prefix a path with one spelling, which the gate lets
// through: segments of plain letters that do not end in a dot.
var prefixPath = regexp.MustCompile(`^/([A-Za-z0-9._~-]*[A-Za-z0-9_~-]/)+$`)

// New returns a Portal. It reads nothing and asks nobody: a provider that is
// down never keeps a site from starting.
func New(c Config) (*Portal, error) {
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if !prefixPath.MatchString(c.Prefix) {
		return nil, fmt.Errorf("making portal: prefix %q is not a plain path that begins and ends with a slash", c.Prefix)
	}
	if c.Sessions == nil || c.Store == nil || c.Sealer == nil || c.Audit == nil {
		return nil, errors.New("making portal: sessions, store, sealer and audit are required")
	}
	seen := make(map[string]bool)
	for _, s := range c.Sources {
		name := s.Name()
		if !identity.ValidSource(name) || strings.HasSuffix(name, ".") {
			return nil, fmt.Errorf("making portal: source name %q is not 1 to 64 letters, digits, dots, hyphens or underscores that do not end in a dot", name)
		}
		if seen[name] {
			return nil, fmt.Errorf("making portal: two sources are called %q", name)
		}
		if c.Home != "" && strings.EqualFold(name, handOffName) {
			return nil, fmt.Errorf("making portal: no source may be called %q where one portal signs in for many sites", name)
		}
		seen[name] = true
	}
	if c.Home != "" && (!validHost(c.Home) || c.Served == nil) {
		return nil, fmt.Errorf("making portal: home %q must be a host, with its port unless that is 443, and come with the list of sites that it serves", c.Home)
	}
	if c.ClientAddr == nil {
		c.ClientAddr = socketAddr
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Portal{
		prefix: c.Prefix, sources: c.Sources, sessions: c.Sessions, store: c.Store, sealer: c.Sealer,
		home: originHost(c.Home), homeAlone: c.HomeAlone, served: c.Served,
		audit: c.Audit, client: c.ClientAddr, limit: newLimiter(c.Now), handLimit: newLimiter(c.Now), now: c.Now, log: c.Logger,
	}, nil
}

// ServeHTTP answers a request below the prefix; anything else gets 404. Paths
// are compared as they were sent: another spelling is another path.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !validHost(r.Host) {
		p.showError(w, r, pageMisdirected, "", errorLinks{})
		return
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), p.prefix)
	if !ok {
		p.showError(w, r, pageNotFound, "", errorLinks{})
		return
	}
	head, tail, deep := strings.Cut(rest, "/")
	switch {
	case rest == "":
		p.only(p.who, http.MethodGet, http.MethodHead)(w, r)
	case rest == "login":
		p.only(p.login, http.MethodGet)(w, r)
	case rest == "logout":
		p.only(p.logout, http.MethodGet, http.MethodHead, http.MethodPost)(w, r)
	case rest == "switch":
		p.only(p.switchUser, http.MethodPost)(w, r)
	case rest == "sessions":
		p.only(p.ownSessions, http.MethodGet, http.MethodHead)(w, r)
	case rest == "sessions/end":
		p.only(p.endOne, http.MethodPost)(w, r)
	case rest == "sessions/end-all":
		p.only(p.endAll, http.MethodPost)(w, r)
	case rest == "move":
		p.only(p.move, http.MethodGet, http.MethodPost)(w, r)
	case rest == "session":
		p.only(p.session, http.MethodGet, http.MethodHead)(w, r)
	case rest == "jwks.json":
		p.only(p.jwks, http.MethodGet, http.MethodHead)(w, r)
	case deep && head == "static" && assets[tail] != nil:
		p.only(assets[tail].serve, http.MethodGet, http.MethodHead)(w, r)
	case deep && head == "login" && p.provider(r, tail) != nil:
		p.only(p.loginSource(p.provider(r, tail)), http.MethodGet)(w, r)
	case deep && head == "callback" && p.provider(r, tail) != nil:
		p.only(p.callback(p.provider(r, tail)), http.MethodGet)(w, r)
	case rest == "callback/"+handOffName && p.away(r):
		p.only(p.arrive, http.MethodGet)(w, r)
	default:
		p.showError(w, r, pageNotFound, "", errorLinks{})
	}
}

// only lets the given methods through. HEAD is not among them where an answer
// changes something: programs that look at links ahead of people send it.
func (p *Portal) only(next http.HandlerFunc, methods ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, m := range methods {
			if r.Method == m {
				next(w, r)
				return
			}
		}
		w.Header().Set("Allow", strings.Join(methods, ", "))
		p.showError(w, r, pageMethod, "", errorLinks{})
	}
}

// source finds a way to sign in by its exact name.
func (p *Portal) source(name string) identity.Source {
	for _, s := range p.sources {
		if s.Name() == name {
			return s
		}
	}
	return nil
}
