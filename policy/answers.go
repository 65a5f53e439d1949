package policy

import (
	"net/netip"
	"time"
)

// Config is what a policy is made of.
type Config struct {
	Lines    []Line
	Networks map[string][]netip.Prefix // names for `network`
	// Roles, Groups, Sources and Claims are what a session of this site can have. Nil: not known, and not judged.
	Roles, Groups, Sources, Claims []string
	IgnoreCase                     bool       // allow lines, too, do not look at the case of ASCII letters in paths: the app does not
	Exceptions                     Exceptions // which paths with several readings this site accepts
}

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

// Emergency is what a break_glass line opens for one request.
type Emergency struct {
	Rule    string // the line's words, without its place: it is the same line after a reload
	Route   string // the pattern that matched
	Scope   string // the path that the grant holds for, and all below it: raw bytes, whole segments, "/patients/7"
	Subject string // the decoded last segment of Scope, whom or what it is about
	For     time.Duration
}

// Count is one value that a budget line counts.
type Count struct {
	ID     string        // the line's, the same on all nodes and after a reload
	Rule   string        // the line and its place
	Value  string        // of the variable, decoded
	Limit  int           // how many different values there may be
	Alarm  int           // at how many somebody is told; 0: at none
	Per    time.Duration // in how long
	StepUp bool          // a new sign-in begins anew; otherwise it is denied
}

// Uses says what decisions can depend on.
type Uses struct {
	Username, Time, Addr, Host, Query, Bearer, Level, Groups, Org, Source, Device, Claims bool
}

// Explanation is a Decision with all lines that had a part in it.
type Explanation struct {
	Decision Decision
	Matched  []Match
}

// Match is one line whose path and method match a request.
type Match struct {
	Rule, Route string
	Kind        string // its first words: "allow", "deny", "require", "break_glass", "budget", with "shadow " before them
	Holds       bool   // all of it matches; for a require: it is met
	Why         string // what does not
}

// LineInfo is one line, for tables.
type LineInfo struct {
	Rule, At, Kind                              string
	Public, Any, Device, Shadow                 bool
	Roles, Users, Groups, Orgs, Sources, Scopes []string // of the subjects that the line names
	Patterns, Methods, Conditions               []string
}
