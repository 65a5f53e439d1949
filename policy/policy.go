// Package policy turns the rules of a site into one decision with its reason.
//
// Call Compile once with all lines of a site, ParsePath and Decide for every request. Both are pure: no I/O, no clock, no
// state that a request could change; Decide allocates nothing and its cost grows with the path, not with the number of rules: for
// a token also with its scopes and the scope lines for that path, and with the require lines for it.
//
// The language is one line per rule: allow|deny WHO [METHODS] [PATHS], or require WHAT [METHODS] [PATHS].
//
//   - WHO is public (everybody), any (everybody signed in), role a[,b], user a[,b], or scope a[,b] with role a[,b] or user a[,b]
//     after it where only these may use it.
//   - WHAT is acr a[,b] (one of these levels), amr a[,b] (one of these methods) or max_age 5m (signed in no longer ago).
//   - METHODS are upper case and comma-separated; GET includes HEAD; none means all methods of this policy: GET, HEAD, POST,
//     PUT, PATCH, DELETE, OPTIONS and whatever else some line lists by name. Any other method is denied.
//   - PATHS start with "/"; none means all. "*" is one whole segment that is not empty; "**", at the end only, is any rest,
//     also none: /api/** covers /api, /api/ and everything below; {user} is one segment whose percent-decoded bytes equal
//     the username, {patient} one that equals the patient of a token. Apart from that a slash at the end counts: "allow any /api"
//     does not cover /api/.
//
// An access token is nobody's presence: public and scope lines alone allow something to its holder, and scope lines to nobody
// else. One scope of the line is enough. Those of SMART App Launch 2.2 (patient/Observation.rs, and version 1's .read) are
// granted by scopes of the same context that have all their letters for that type or for "*"; all others compare as they are. A
// patient/ scope needs a patient in the token and holds for what is that patient's: the path has its {patient}, or it is a search,
// GET .../Observation?patient=ID, by a parameter that the type has, and brings nothing else along (_include). A line that lists
// user/ or system/ scopes trusts the app to know whose data it gives out.
//
// A require line narrows what the allow lines open, for sessions and tokens, and asks for a session where they open it to all. It
// matches as a deny does; all lines that match must be met. What no sign-in can meet is denied.
//
// Deny wins, the order of lines does not matter, and what no line allows is denied. An allow compares exactly, with the bytes
// that were received: /%61dmin is not /admin. A deny must not be dodged: it compares the percent-decoded path, ignores ASCII
// case (of paths, user and role names) and a slash at the end. A deny for any, a role or a user ends at the sign-out: what is
// public besides is seen by the same person without a session.
//
// Path can only be made by ParsePath, which refuses every path that two programs could read in two ways (RFC 3986 sections
// 2 and 3.3, read strictly). That is invariant 3: the path that is judged here is byte for byte the path that the app
// receives. The caller has to send Path.String() on and nothing else, to strip the query before, and to say truthfully who
// is asking. Unicode is not normalised; an app that folds other letters than ASCII has to be ruled by allow lines.
package policy

import (
	"net/netip"
	"slices"
	"time"
)

// Line is one rule as its words, with the place it was written at.
type Line struct {
	Words []string // "allow", "role", "doctor", "GET", "/x/*"
	At    string   // "Caddyfile:12"; for messages and for Decision.Rule
}

// Subject is who is asking: plain values of a verified session, or of a verified access token.
type Subject struct {
	Username string
	Roles    []string
	ACR      string    // the level of the sign-in; "" meets no require line
	AMR      []string  // its methods
	AuthTime time.Time // when it was; zero: not known
	Bearer   bool      // an access token came and no session
	Scopes   []string  // of the token; what is no scope-token matches nothing
	Patient  string    // the token's patient in context; "": none
	Groups   []string
	Org      string            // the organisation that the source names
	Source   string            // which identity source it was
	Device   bool              // this account signed in with this browser before
	Claims   map[string]string // by the site's names for them. Read only
}

// Request is what is asked. Its zero value is denied.
type Request struct {
	Method string
	Path   Path
	Query  string    // as received, without "?"; only scopes of SMART look at it
	Body   bool      // there is, or could be, a body
	Who    *Subject  // nil: nobody is signed in
	Now    time.Time // the zero Time meets no max_age, and is within no hours
	Host   string    // for `when`
	Addr   netip.Addr
}

// Need is what a sign-in has to show. The zero Need asks nothing.
type Need struct {
	ACR    []string      // any one of these levels; none: any level
	AMR    [][]string    // of each list at least one method
	MaxAge time.Duration // how long ago it may have been; 0: however long
}

// Decision is the answer to one Request. Its zero value denies.
type Decision struct {
	Allowed bool
	Rule    string // the deciding line and its place, "allow role doctor (Caddyfile:12)"; empty when no line matched
	Route   string // the pattern that matched, for the audit log; never the path of the request
	Reason  string // one of the Reason constants
	Public  bool   // the deciding line allows everybody, signed in or not
	Need    Need   // for ReasonStepUp: all that a new sign-in has to show. Read only
	// Scopes are for ReasonScope: any one of them would have been enough. Read only.
	Scopes []string
	// Missing is for ReasonNoRule and ReasonCondition: what the nearest line lacks.
	Missing Missing
}

// The reasons of a Decision.
const (
	ReasonAllowed   = "allowed"    // an allow line matches and no deny line does
	ReasonDenied    = "denied"     // a deny line matches
	ReasonNoRule    = "no-rule"    // somebody is signed in and no line matches
	ReasonNoSession = "no-session" // nobody is signed in and no public line matches
	ReasonCondition = "condition"  // a line would allow it elsewhere, at another time, or on another device
	ReasonStepUp    = "step-up"    // an allow line matches, and a require line that is not met
	ReasonScope     = "scope"      // a token whose scopes are too few
	ReasonMethod    = "method"     // a method that this policy does not know
	ReasonPath      = "path"       // a Path that ParsePath did not make
	ReasonNoPolicy  = "no-policy"  // a nil Policy
)

// Policy is a compiled set of lines, safe for concurrent use. A nil or zero Policy denies everything.
type Policy struct {
	allow, deny, require, glass, budgets node

	rules         []*rule          // all of them, also shadow ones
	glasses       map[string]*rule // break_glass lines by their words
	methods       map[string]bool  // beyond the usual ones
	roles, scopes []string         // of all lines
	requires      bool             // there are require lines
	counts        bool             // there are budget lines
	loose         bool             // allow lines ignore case, too
	exceptions    Exceptions
	uses          Uses
	shapes        shapes
	shadow        *Policy
	warnings      []*Problem
}

// Knows reports whether the policy can allow the method at all: one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, or
// listed by a line. Methods are case-sensitive (RFC 9110 section 9.1).
func (p *Policy) Knows(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return p != nil && p.methods[method]
}

// Warnings returns what New found that is no error.
func (p *Policy) Warnings() []*Problem {
	if p == nil {
		return nil
	}
	return slices.Clone(p.warnings)
}

// ParsePath is ParsePathWith with the exceptions of the site.
func (p *Policy) ParsePath(escaped string) (Path, error) {
	if p == nil {
		return ParsePath(escaped)
	}
	return ParsePathWith(escaped, p.exceptions)
}

// Shadow returns the policy that the shadow lines would make together with the others, nil when there are none.
func (p *Policy) Shadow() *Policy {
	if p == nil {
		return nil
	}
	return p.shadow
}

// Scopes returns the scopes of all lines, sorted.
func (p *Policy) Scopes() []string {
	if p == nil {
		return nil
	}
	return slices.Clone(p.scopes)
}

// Roles returns the names of all roles that the lines mention, sorted.
func (p *Policy) Roles() []string {
	if p == nil {
		return nil
	}
	return slices.Clone(p.roles)
}
