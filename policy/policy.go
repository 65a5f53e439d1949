// Package policy turns the rules of a site into one decision with its reason.
//
// Call New once with all lines of a site; ParsePath and Decide for every request. Both are pure: no I/O, no clock, and nothing that a
// request could change. Decide allocates nothing unless a line has a `when`, and its cost grows with the path and not with the number
// of rules: besides with those lines that share pattern, method and one name, and differ in further subjects and conditions.
//
//	allow|deny WHO [METHODS] [PATHS] [CONDITIONS]      require CONDITION [METHODS] [PATHS]      shadow allow|deny|require ...
//	break_glass WHO [METHODS] on PATHS for DURATION [CONDITIONS]
//	budget WHO N distinct {NAME} per DURATION [alarm N] [then deny|step_up] [on PATHS]
//
// The semantics, in ten lines. Deny wins, the order of lines does not matter, and what no line allows is denied.
//  1. WHO: public (everybody), any (signed in), or role, user, group, org, idp with names a[,b] and `device known`: all must hold.
//     An access token is nobody's presence: public and `scope a[,b]` alone allow something to it, and scope lines to nobody else.
//  2. METHODS are upper case; GET includes HEAD; none means all that some line lists, besides GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS.
//  3. PATHS: "*" and {name} are one segment that is not empty, "**" at the end is any rest, also none; {user}, {claim.NAME} and in
//     scope lines {patient} are one segment that equals what is known of whoever asks; what is empty or not known equals nothing.
//  4. CONDITIONS all hold: network, hours, acr, amr, max_age, `when` with an expression (package condition).
//  5. What cannot be known counts as the answer that denies: an allow or break_glass does not match, a deny does, a require is unmet.
//  6. An allow compares exactly, with the bytes that were received: /%61dmin is not /admin. A deny must not be dodged: it, a require
//     and a budget compare the decoded path, and ignore ASCII case (of paths, names and claims) and a slash at the end.
//  7. A require narrows what allow lines open, and all that match must be met: what a new sign-in can show is a step-up, what it
//     cannot is a condition; without a session it is no session. An allow line of which only the levels are not met is a step-up, too.
//     A deny for anybody in particular ends at the sign-out: what is public besides is seen by the same person without a session.
//  8. A path that can be read in several ways is judged in each, and the strictest answer counts.
//  9. A shadow line decides nothing; Shadow is the policy in which it does. A budget line decides nothing here, it says what to count.
//  10. A break_glass takes the place of an allow that is missing, for one {patient} (or what its pattern leaves open) and below. It
//     lifts no deny and no require.
//
// Scopes of SMART App Launch 2.2 (patient/Observation.rs, and version 1's .read) are granted by those of the same context that have
// all their letters for that type or for "*"; all others compare as they are. A patient/ scope holds for what is the token's patient's:
// the path has its {patient}, or it is a search, GET .../Observation?patient=ID, and brings nothing else along (_include).
//
// The path that is judged is byte for byte the one that the app receives: the caller sends Path.String() on, strips the query
// before, and says truthfully who is asking. Unicode is not normalised; an app that folds other letters needs allow lines.
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

	spent int // steps of expressions, of this decision
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

// Missing says for a person what a line that nearly allows lacks. It names nothing: neither roles nor hours nor networks.
type Missing uint8

// What can be missing.
const (
	MissingRole    Missing = 1 << iota // who it is: a role, a group, an organisation, a name
	MissingNetwork                     // where from
	MissingHours                       // when
	MissingLevel                       // how the sign-in was made
	MissingDevice                      // a browser that is known
	MissingOther                       // what a `when` asks for
)

// Policy is a compiled set of lines, safe for concurrent use. A nil or zero Policy denies everything.
type Policy struct {
	allow, deny, require, glass, budgets node

	rules         []*rule          // all of them, also shadow ones
	glasses       map[string]*rule // break_glass lines by their words
	entries       map[*rule][]*entry
	methods       map[string]bool // beyond the usual ones
	roles, scopes []string        // of all lines
	requires      bool            // there are require lines
	counts        bool            // there are budget lines
	loose         bool            // allow lines ignore case, too
	exceptions    Exceptions
	uses          Uses
	shapes        shapes
	shadow        *Policy
	warnings      []*Problem
	given         given // names, for expectations
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

// ParsePath is parseReadings with the exceptions of the site.
func (p *Policy) ParsePath(escaped string) (Path, error) {
	if p == nil {
		return ParsePath(escaped)
	}
	return parseReadings(escaped, p.exceptions)
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
