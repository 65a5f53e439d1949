// Package portal is what a person with a browser sees of Anteroom: the pages
// and endpoints below one prefix, "/.anteroom/" unless configured otherwise.
//
// Call New with a Config, hand every request below the prefix to ServeHTTP,
// and let Refuse show the page of a request that the gate refused elsewhere.
// The endpoints are listed in routes.go.
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
// A page that needs more than the session's sign-in has shown (RFC 9470) leads to
// login with acr_values, amr and max_age: the source that signed the person in is
// asked, and there is a new session only if it confirms all of that. Reverify asks
// sources again; what a provider ended does not come back by a sign-in that was
// under way.
//
// The page of a refusal says what kind of thing is missing and whom to ask, and nothing
// that maps the rules. Where a rule lets a person break the glass, a form there begins
// emergency access: for what the site's policy says at that moment, for the patient that
// the person saw, and not before the ledger has it on record. It asks no provider.
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
	"github.com/anteroom-proxy/anteroom/emergency"
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

	// Reserved are prefixes of usernames that no source gives: those of callers who
	// come with access tokens.
	Reserved []string

	// Posted reports whether the provider of the source of this name answers with a
	// form post; to the others' callbacks nothing may be posted. Nil: none does.
	Posted func(source string) bool

	// ClientAddr tells the client's address for limits and the audit log.
	// Nil means the address of the connection.
	ClientAddr func(*http.Request) string

	// Contact says whom to ask about access, as plain text: a name, a telephone number,
	// an address. Empty: the pages say it in general words.
	Contact string

	// ContactOf is the same for the site of a request, where it names somebody of its own.
	// nil, or an empty answer: Contact.
	ContactOf func(*http.Request) string

	// Emergency keeps the book of emergency accesses; BreakGlass asks the policy of the
	// request's site. Both or none: without them nobody is offered any.
	Emergency  *emergency.Ledger
	BreakGlass BreakGlass

	Now    func() time.Time // nil means time.Now
	Logger *slog.Logger     // nil means none
}

// Portal answers the requests below its prefix. Make one with New. It is safe
// for concurrent use and holds nothing that must be closed.
type Portal struct {
	prefix   string
	sources  []identity.Source
	sessions *session.Manager
	store    store.Store
	sealer   Sealer
	audit    audit.Recorder
	hub
	client   func(*http.Request) string
	posted   func(source string) bool
	reserved []string // prefixes of usernames that are no source's
	limit    *limiter // sign-ins: what reaches a provider, or comes from one with a browser
	notices  *limiter // what comes from a provider without a browser
	degraded *seldom  // records of sessions whose provider is silent
	helpers
	glassBox
	now func() time.Time
	log *slog.Logger

	// handLimit is for hand-offs: they are many more than sign-ins and no
	// provider sees them. A hand-off costs two units, and a few writes.
	handLimit *limiter
}

// glassBox is what emergency access works with.
type glassBox struct {
	emergency  *emergency.Ledger
	breakGlass BreakGlass
	glassPace  *pace
	asked      *answering
}

// helpers are whom people ask.
type helpers struct {
	contact  string
	siteAsks func(*http.Request) string // at the request's site; may be nil
}

// hub is the one portal for many sites.
type hub struct {
	home      string                 // as Origin spells it; empty without one
	homeAlone bool                   // no application is behind it
	served    func(host string) bool // never nil with a home
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
	if (c.Emergency == nil) != (c.BreakGlass == nil) {
		return nil, errors.New("making portal: emergency access needs a ledger and a policy to ask")
	}
	if c.Posted == nil {
		c.Posted = func(string) bool { return false }
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
		hub: hub{originHost(c.Home), c.HomeAlone, c.Served}, posted: c.Posted, reserved: c.Reserved,
		notices: newLimiter(c.Now), degraded: new(seldom), helpers: helpers{c.Contact, c.ContactOf}, glassBox: glassBox{c.Emergency, c.BreakGlass, newPace(c.Now), new(answering)},
		audit: c.Audit, client: c.ClientAddr, limit: newLimiter(c.Now), handLimit: newLimiter(c.Now), now: c.Now, log: c.Logger,
	}, nil
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
