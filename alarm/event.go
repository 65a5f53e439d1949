package alarm

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kinds of events.
const (
	KindEmergency  = "emergency"            // somebody broke the glass
	KindRate       = "emergency-rate"       // and did so unusually often within a day
	KindUnreviewed = "emergency-unreviewed" // emergency accesses wait for their review for too long
	KindBudget     = "budget"               // somebody looks at many different records: the alarm level of a budget
	KindLimit      = "budget-limit"         // and reached its limit
	KindGuessing   = "guessing"             // many wrong secrets within a minute
)

// Event is one thing that people have to hear of now. Empty fields are left out.
type Event struct {
	// ID names the event for whoever takes it: the same event is sent with the same id again when it is not certain that it
	// arrived. Empty: made from the other fields.
	ID string
	// Kind is one of the constants above.
	Kind string
	// Ref is the reference number in the audit log.
	Ref string
	// Site is the host; Source and Who are the way to sign in and the username there.
	Site, Source, Who string
	Roles             []string
	// Subject is whose data it is about, a patient. It goes to the webhook and never into the log.
	Subject string
	// Rule is the line of the policy, Reason a fixed code; never what somebody wrote freely.
	Rule, Reason string
	// Drill says that an emergency access was begun for practice, Stale that it was begun without the fresh sign-in that its rule asks
	// for: the identity provider did not answer, or somebody saw to that.
	Drill, Stale bool
	// Count and Limit are numbers of a budget or a rate.
	Count, Limit int
	// At is when it happened (zero: now), Until when it ends by itself.
	At, Until time.Time
}

// sent is the JSON of an event. Text is one sentence, in the member that chat programs show.
type sent struct {
	ID      string     `json:"id"`
	Kind    string     `json:"kind"`
	Text    string     `json:"text"`
	Ref     string     `json:"ref,omitempty"`
	Site    string     `json:"site,omitempty"`
	Source  string     `json:"source,omitempty"`
	Who     string     `json:"who,omitempty"`
	Roles   []string   `json:"roles,omitempty"`
	Subject string     `json:"subject,omitempty"`
	Rule    string     `json:"rule,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Drill   bool       `json:"drill,omitempty"`
	Stale   bool       `json:"without_fresh_sign_in,omitempty"`
	Count   int        `json:"count,omitempty"`
	Limit   int        `json:"limit,omitempty"`
	At      time.Time  `json:"at"`
	Until   *time.Time `json:"until,omitempty"`
}

// Caps of the fields, in bytes; what is longer came around the checks of others.
const (
	capShort = 256
	capLong  = 512
	maxRoles = 64
)

// tidy fills in what is missing and bounds the rest.
func (e *Event) tidy(now time.Time) {
	if e.At.IsZero() {
		e.At = now
	}
	e.At = e.At.UTC()
	for _, field := range []*string{&e.Kind, &e.Ref, &e.Site, &e.Source, &e.Who, &e.Subject, &e.Reason, &e.ID} {
		*field = clean(*field, capShort)
	}
	e.Rule = clean(e.Rule, capLong)
	roles := make([]string, 0, min(len(e.Roles), maxRoles))
	for _, role := range e.Roles[:min(len(e.Roles), maxRoles)] {
		roles = append(roles, clean(role, capShort))
	}
	e.Roles = roles
	if e.ID == "" {
		e.ID = e.makeID()
	}
}

// makeID is a hash: the same event has the same id, and nothing can be read out of it that is not in the event.
func (e *Event) makeID() string {
	h := sha256.New()
	add := func(text string) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		_, _ = h.Write(size[:])
		_, _ = h.Write([]byte(text))
	}
	for _, text := range []string{labelID, e.Kind, e.Ref, e.Site, e.Source, e.Who, e.Subject, e.Rule, e.Reason, e.At.Format(time.RFC3339Nano)} {
		add(text)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:15])
}

func (e *Event) json() sent {
	s := sent{
		ID: e.ID, Kind: e.Kind, Text: e.sentence(), Ref: e.Ref, Site: e.Site, Source: e.Source, Who: e.Who, Roles: e.Roles,
		Subject: e.Subject, Rule: e.Rule, Reason: e.Reason, Drill: e.Drill, Stale: e.Stale, Count: e.Count, Limit: e.Limit, At: e.At,
	}
	if !e.Until.IsZero() {
		until := e.Until.UTC()
		s.Until = &until
	}
	return s
}

// clean replaces what is not printable, cuts, and leaves valid UTF-8.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// sentence says what happened in words that everybody understands; names are in it, patients are not.
func (e *Event) sentence() string {
	who := plain(e.Who)
	if who == "" {
		who = "somebody"
	}
	at := ""
	if e.Site != "" {
		at = " at " + plain(e.Site)
	}
	ref := ""
	if e.Ref != "" {
		ref = " (reference " + plain(e.Ref) + ")"
	}
	switch e.Kind {
	case KindEmergency:
		what := "Emergency access"
		if e.Drill {
			what = "Drill: emergency access"
		}
		if e.Stale {
			what += " without a fresh sign-in"
		}
		return what + " by " + who + at + ref + "; it waits for review."
	case KindRate:
		return fmt.Sprintf("%d emergency accesses within a day by %s%s%s.", e.Count, who, at, ref)
	case KindUnreviewed:
		return fmt.Sprintf("%d emergency accesses are not reviewed yet although they are older than 3 days; see `anteroom review`.", e.Count)
	case KindBudget:
		return fmt.Sprintf("%s has looked at %d different records%s%s.", who, e.Count, at, ref)
	case KindGuessing:
		return fmt.Sprintf("%d wrong passwords within a minute%s; somebody may be guessing.", e.Count, at)
	case KindLimit:
		return fmt.Sprintf("%s has reached the limit of %d different records%s%s.", who, e.Limit, at, ref)
	}
	return "Alarm of kind " + plain(e.Kind) + ref + "."
}

// plain leaves out what chat programs take for markup or for a call to everybody: an "@" stays within an address only.
func plain(s string) string {
	var b strings.Builder
	before := ' '
	for _, r := range s {
		if strings.ContainsRune("<>&*`~|[]()!", r) || r == '@' && !unicode.IsLetter(before) && !unicode.IsDigit(before) {
			continue
		}
		_, _ = b.WriteRune(r) // never fails
		before = r
	}
	return b.String()
}
