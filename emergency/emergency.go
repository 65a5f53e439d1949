// Package emergency keeps the book of broken glass: a person who is denied a patient's record may open it in an emergency,
// at once, for that patient and for minutes, and must answer for it afterwards.
//
// Call New, then Begin when somebody filled in the form, Active for each request that policy denied, and End when the person
// is done. Operators use List and Review. Call Sweep once a minute on every node, or let Run do it.
//
// What it promises:
//
//   - Begin returns a cookie only when the review record is durable in the store and the event is in the audit log. Either
//     one missing: no access. The alarm is raised besides; it never stands in the way.
//   - A grant is sealed in a cookie and bound to one session (its sid) and one site. It holds for the rule, the scope and the
//     time that policy gave, at most MaxLife. Signed out, expired, ended, rejected, of another session or site, changed: it is
//     silently none.
//   - A grant that was ended or rejected is over on this node at once and on the others within a quarter of a minute.
//     Active asks the store for that at most that often; a store that is silent is believed to have said what it said last,
//     for five minutes.
//   - A review stays open until somebody reviewed it, however long that takes. Reviewed ones are kept for KeepReviewed; the
//     archive is the audit log.
//   - No alarm is lost silently: the record knows which of its alarms a webhook took, and Sweep delivers the others
//     again, one node at a time. An alarm may arrive twice, with the same id.
//   - More than Config.PerDay accesses of one person within a day raise another alarm. Nobody is blocked by it.
//
// No identity provider is asked for anything. It trusts the store as package store says; values are sealed under labels that
// bind their keys, so that nobody who can write to it can forge a record or exchange two.
//
// What is left to the caller: whether this person may break the glass for that path (policy.Emergency before Begin,
// policy.Break for each request with what Active returns), a recent sign-in, the form's own protection against
// cross-site posts, setting the cookie, and who may review.
package emergency

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/store"
)

// CookieName is the cookie that holds a session's grants. Nothing of it ever reaches an application.
const CookieName = "__Host-anteroom-emergency"

const (
	// MaxLife is the longest time that one grant lasts; a longer one is cut to it.
	MaxLife = 4 * time.Hour
	// MaxGrants is how many grants of one session hold at the same time; one more drops the oldest.
	MaxGrants = 8
	// ReviewWithin is when a review is overdue.
	ReviewWithin = 72 * time.Hour
	// KeepReviewed is how long a reviewed record can be listed.
	KeepReviewed = 90 * 24 * time.Hour
	// MaxComment is the length of a reviewer's comment, in characters.
	MaxComment = 500
)

// States of a review.
const (
	StateOpen     = "open"
	StateAccepted = "accepted"
	StateRejected = "rejected"
	StateAll      = "all" // for List
	// StateUnreadable is of a record that does not open: the master key was replaced, or somebody changed the store.
	StateUnreadable = "unreadable"
)

var (
	// ErrReason says that a reason is not one; see CheckReason.
	ErrReason = errors.New("reason of an emergency access")
	// ErrNotFound says that there is no review, or no running grant, of that id.
	ErrNotFound = errors.New("no emergency access of that id")
	// ErrReviewed says that somebody reviewed it already.
	ErrReviewed = errors.New("emergency access is reviewed already")
	// ErrVerdict says that a verdict has no reviewer, or a comment that is missing or too long.
	ErrVerdict = errors.New("not a complete verdict")
	// ErrOwn says that the reviewer is the person who broke the glass.
	ErrOwn = errors.New("nobody reviews their own emergency access")
	// ErrUnavailable says that it is not certain what is in the store or in the audit log: no access was given.
	ErrUnavailable = errors.New("emergency access unavailable")
)

// errGrant says that Begin was called without what a grant needs.
var errGrant = errors.New("not a complete emergency access")

// Sealer encrypts what this package stores and hands to browsers. envelope's Envelope is one.
type Sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Config says what a Ledger works with. Store, Sealer and Audit are required.
type Config struct {
	Store  store.Store
	Sealer Sealer
	Audit  audit.Recorder
	// Alarm may be nil: then nobody is told but the audit log and the review list.
	Alarm *alarm.Alarm
	// PerDay is how many accesses of one person within 24 hours are usual; 0 means 5.
	PerDay int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what an operator must know; nil means nowhere.
	Logger *slog.Logger
}

// Grant is one emergency access, as Begin takes it.
type Grant struct {
	// Site is the host as the session knows it; Source and Subject are the account, Username what apps see.
	Site, Source, Subject, Username string
	Roles                           []string
	// Session is the sid. It is not stored; its label is.
	Session string
	// Rule, Route and Scope are those of policy.Emergency.
	Rule, Route, Scope string
	// Patient is the subject of the path, as the person confirmed it.
	Patient string
	// ReasonCode and ReasonText are as CheckReason takes them.
	ReasonCode, ReasonText string
	// Drill says that the rule lets ReasonDrill be a reason; Stale that the sign-in is not as fresh as the rule asks, since the
	// provider did not answer. Both come from whoever asked policy and provider, never from the person.
	Drill, Stale bool
	// Begun is now when it is zero. Until is when it ends.
	Begun, Until time.Time
	// Client is the address that the form came from.
	Client string
	// Cookies are the request's Cookie lines: grants that run already go on.
	Cookies []string
}

// Active is a grant that holds now. It is read only.
type Active struct {
	ID, Rule, Route, Scope, Patient string
	Begun, Until                    time.Time
	Drill                           bool
}

// End is what ending a grant takes.
type End struct {
	// ID is which one; empty: all of this session and site.
	ID string
	// Session, Site and Cookies are as in Grant, Who says whose session it is.
	Session, Site string
	Cookies       []string
	Who           Who
}

// Who is a person, for the audit log.
type Who struct {
	Source, Subject, Username string
	Roles                     []string
	Client                    string
}

// Review is one emergency access as reviewers see it.
type Review struct {
	ID                        string
	State                     string
	Site                      string
	Source, Subject, Username string
	Roles                     []string
	Session                   string // its label in the audit log
	Rule, Route, Scope        string
	Patient                   string
	ReasonCode, ReasonText    string
	Drill                     bool // it was for practice, as the person said
	Stale                     bool // it began without the fresh sign-in that its rule asks for
	Client                    string
	Begun, Until              time.Time
	Ended                     time.Time // zero: it ran until Until, or still runs
	Today                     int       // which one of this person within a day it was, from 1
	Alarm                     string    // one of the constants Alarm…
	Reviewer, Comment         string
	Reviewed                  time.Time
	Overdue                   bool
}

// What became of a record's alarms.
const (
	AlarmDelivered = "delivered" // the webhook took all of them
	AlarmPending   = "pending"   // it has not yet; Sweep tries again
	AlarmLogged    = "logged"    // there is no webhook
)

// Verdict is what a reviewer says.
type Verdict struct {
	ID       string
	Accept   bool
	Reviewer string // who; at most 64 characters
	Comment  string // required for a rejection; at most MaxComment characters
	Client   string // where it came from, for the audit log
}

// clearCookie returns the Set-Cookie line that removes all grants.
func clearCookie() *http.Cookie {
	c := cookie("")
	c.MaxAge = -1
	return c
}

// cookie is the one form, for setting and clearing: a browser refuses a line whose attributes a __Host- name does not allow.
func cookie(value string) *http.Cookie {
	return &http.Cookie{Name: CookieName, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}
