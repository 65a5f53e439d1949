// Package identity says what a signed-in person is and what every way of
// signing in must keep to.
//
// A way of signing in is a [Source]: Begin answers where to send the browser,
// Finish turns what came back into an [Identity]. All of them (OpenID Connect,
// LDAP, local accounts, activation codes) end in the same struct, so that
// session, policy and the apps never learn how somebody signed in. The
// subpackages hold the sources; this one has no I/O and no clock.
//
// It promises that an Identity for which [Identity.Check] returned nil can be
// put into a header, a cookie, a log line and a policy decision without a
// further look: sizes are bounded, text is valid UTF-8 without control
// characters, usernames do not change when a header parser trims them, and
// roles keep to the role grammar. The zero Identity fails the check.
//
// It trusts nothing: whatever a provider, a directory or a person sent counts
// as written by an attacker until Check has seen it. The account key is the
// pair (Issuer, Subject), never a name or an e-mail address (OpenID Connect
// Core 1.0, section 5.7).
//
// It leaves to the caller: binding Begin and Finish to one browser (state,
// attempt cookie, one use, ten minutes), sealing [Step.Keep], and turning the
// [Failure] into a page and an audit event. Errors carry one of three kinds
// ([ErrUnavailable], [ErrRefused], [ErrDeclined]) and a fixed reason code;
// text that came from outside is in neither.
package identity

import (
	"context"
	"net/url"
	"slices"
	"time"
)

// Identity is a person as a source vouches for them at one sign-in.
type Identity struct {
	Source   string            // the instance's name, e.g. "hospital"
	Issuer   string            // who vouches: an OpenID Connect issuer or a directory URL
	Subject  string            // stable id at the issuer, case kept; with Issuer the account key
	Username string            // name for policy and headers, with the source's prefix
	Name     string            // display name, may be empty
	Email    string            // may be empty; never an account key
	Roles    []string          // role names of this installation, not the source's raw groups
	Groups   []string          `json:",omitempty"` // likewise: names that the configuration gives, never raw values
	Org      string            // organisation, may be empty
	ACR      string            // authentication context class; empty means the lowest level
	AMR      []string          // authentication methods, e.g. "pwd", "otp"
	AuthTime time.Time         // when the person proved themselves; zero when not told
	Session  string            // the issuer's own id of its session, may be empty
	Issued   time.Time         // when the source vouched, by its own clock; zero when not told
	Claims   map[string]string `json:",omitempty"` // what rules may ask for besides; personal, never in a log
	Keep     []byte            // what the source wants back at Refresh and Depart; sealed in the store, never with the browser
	Renews   bool              // Keep lets the source be asked again
}

// Need is the level of proof that a request asks for (RFC 9470). The zero Need
// asks for nothing.
type Need struct {
	ACR    []string      // one of these authentication contexts
	AMR    [][]string    // of each of these lists, one method
	MaxAge time.Duration // since the person proved themselves; 0: any
}

// IsZero reports whether nothing is asked for.
func (n Need) IsZero() bool { return len(n.ACR) == 0 && len(n.AMR) == 0 && n.MaxAge == 0 }

// Met reports whether i shows what n asks for. What a source does not say is not
// shown (OpenID Connect Core 1.0, section 3.1.3.7, numbers 12 and 13).
func (n Need) Met(i Identity, now time.Time) bool {
	if len(n.ACR) > 0 && (i.ACR == "" || !slices.Contains(n.ACR, i.ACR)) {
		return false
	}
	for _, any := range n.AMR {
		if !slices.ContainsFunc(any, func(m string) bool { return slices.Contains(i.AMR, m) }) {
			return false
		}
	}
	return n.MaxAge == 0 || !i.AuthTime.IsZero() && now.Sub(i.AuthTime) <= n.MaxAge
}

// Start is what portal tells a source when an attempt begins.
type Start struct {
	State          string // unguessable, made by portal for this attempt
	CallbackURL    string // absolute URL of <prefix>callback/<source> on the site that asks
	Reauthenticate bool   // the person signed out or wants to be somebody else: ask for proof again
	Need           Need   // what the request that led here asks for
	LoginHint      string // what the person said they are called, may be empty
}

// Step is where the browser goes next.
type Step struct {
	RedirectURL string
	Keep        []byte // for Finish only; portal seals it into the attempt's cookie
	Posted      bool   // the answer comes as a form post (OAuth 2.0 Form Post Response Mode)
}

// Callback is what came back from the browser for an attempt whose state
// portal has checked and used up.
type Callback struct {
	Query       url.Values
	CallbackURL string
	Keep        []byte
	Posted      bool // Query is what a form post brought
}

// Source is one configured way of signing in. Implementations are safe for
// concurrent use and return errors that are a [Failure].
type Source interface {
	Name() string  // the instance's name, unique over all kinds, part of URLs
	Title() string // for people
	Begin(context.Context, Start) (Step, error)
	Finish(context.Context, Callback) (Identity, error)
}

// Prefixed is a Source that puts a text of its own before all its usernames.
// Portal keeps the people of other sources from having such a name.
type Prefixed interface{ UsernamePrefix() string }
