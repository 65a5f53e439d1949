package emergency

import (
	"context"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
)

// record is what the store keeps of one emergency access, sealed. Names of members stay as they are for years.
type record struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	Site       string    `json:"site"`
	Source     string    `json:"source"`
	Subject    string    `json:"subject"`
	Username   string    `json:"username"`
	Roles      []string  `json:"roles,omitempty"`
	Session    string    `json:"session"` // its label, never the sid
	Rule       string    `json:"rule"`
	Route      string    `json:"route"`
	Scope      string    `json:"scope"`
	Patient    string    `json:"patient"`
	ReasonCode string    `json:"reason_code"`
	ReasonText string    `json:"reason_text"`
	Stale      bool      `json:"stale,omitempty"` // without the fresh sign-in that the rule asks for
	Client     string    `json:"client,omitempty"`
	Begun      time.Time `json:"begun"`
	Until      time.Time `json:"until"`
	Ended      time.Time `json:"ended,omitzero"`
	Stop       string    `json:"stop,omitempty"`    // why it ended before its time, a fixed code
	Stopped    bool      `json:"stopped,omitempty"` // its end is in the audit log
	Today      int       `json:"today,omitempty"`
	Alarms     []notice  `json:"alarms,omitempty"`
	Reviewer   string    `json:"reviewer,omitempty"`
	Comment    string    `json:"comment,omitempty"`
	Reviewed   time.Time `json:"reviewed,omitzero"`
}

// notice is one alarm of a record.
type notice struct {
	Kind  string    `json:"kind"`
	Count int       `json:"count,omitempty"`
	Limit int       `json:"limit,omitempty"`
	State string    `json:"state"` // one of the constants Alarm…
	Tries int       `json:"tries,omitempty"`
	Next  time.Time `json:"next,omitzero"` // pending: nobody else sends it before this
}

func recordKey(id string) string { return labelRecord + "/" + id }

// expires is never while nobody reviewed it.
func (r *record) expires() time.Time {
	if r.State == StateOpen {
		return time.Time{}
	}
	return r.Reviewed.Add(KeepReviewed)
}

// over says that access has ended before its time.
func (r *record) over() bool { return !r.Ended.IsZero() || r.State == StateRejected }

// pending says that something of it is still to be done by Sweep.
func (r *record) pending() bool { return !r.Stopped || r.alarm() == AlarmPending }

// alarm sums the alarms up.
func (r *record) alarm() string {
	state := AlarmLogged
	for _, n := range r.Alarms {
		switch n.State {
		case AlarmPending:
			return AlarmPending
		case AlarmDelivered:
			state = AlarmDelivered
		}
	}
	return state
}

// event makes the alarm of a notice. The text that the person wrote is not in it.
func (r *record) event(n notice) alarm.Event {
	return alarm.Event{
		ID: r.ID + "-" + n.Kind, Kind: n.Kind, Ref: r.ID, Site: r.Site, Source: r.Source, Who: r.Username, Roles: r.Roles,
		Subject: r.Patient, Rule: r.Rule, Reason: r.ReasonCode, Drill: r.drill(), Stale: r.Stale, Count: n.Count, Limit: n.Limit, At: r.Begun, Until: r.Until,
	}
}

// Purpose is the purpose of use of all that happens under an emergency access: emergency treatment (HL7 v3 PurposeOfUse).
const Purpose = "ETREAT"

// DegradedStale marks the events of an access that began without the fresh sign-in that its rule asks for (audit.Event.Degraded).
const DegradedStale = "fresh-sign-in"

func (r *record) drill() bool { return r.ReasonCode == ReasonDrill }

// audited is the audit event of something that happened to it.
func (r *record) audited(kind, decision, reason string) audit.Event {
	degraded := ""
	if r.Stale {
		degraded = DegradedStale
	}
	return audit.Event{
		Ref: r.ID, Kind: kind, Source: r.Source, Subject: r.Subject, Name: r.Username, Roles: r.Roles, Session: r.Session,
		Site: r.Site, Route: r.Route, Rule: r.Rule, Decision: decision, Reason: reason, Client: r.Client,
		Emergency: r.ID, Purpose: Purpose, Drill: r.drill(), Degraded: degraded,
	}
}

func (r *record) review(now time.Time) Review {
	return Review{
		ID: r.ID, State: r.State, Site: r.Site, Source: r.Source, Subject: r.Subject, Username: r.Username, Roles: r.Roles,
		Session: r.Session, Rule: r.Rule, Route: r.Route, Scope: r.Scope, Patient: r.Patient,
		ReasonCode: r.ReasonCode, ReasonText: r.ReasonText, Drill: r.drill(), Stale: r.Stale, Client: r.Client, Begun: r.Begun, Until: r.Until, Ended: r.Ended,
		Today: r.Today, Alarm: r.alarm(), Reviewer: r.Reviewer, Comment: r.Comment, Reviewed: r.Reviewed,
		Overdue: r.State == StateOpen && !now.Before(r.Begun.Add(ReviewWithin)),
	}
}

// alter changes one record. ErrNotFound when there is none.
func (l *Ledger) alter(ctx context.Context, id string, alter func(*record) (bool, error)) error {
	return change(ctx, l, recordKey(id), (*record).expires, func(r *record, found bool) (bool, error) {
		if !found {
			return false, ErrNotFound
		}
		return alter(r)
	})
}

// parseID reads an id as people write it: in any case, with blanks and hyphens, O for 0 and I or L for 1.
func parseID(text string) (string, bool) {
	id := strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-':
			return -1
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		}
		switch r {
		case 'O':
			return '0'
		case 'I', 'L':
			return '1'
		}
		return r
	}, text)
	if len(id) != idLength || strings.Trim(id, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		return "", false
	}
	return id, true
}

// idLength is the length of audit.NewRef.
const idLength = 10
