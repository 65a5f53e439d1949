package emergency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/store"
)

const (
	usualPerDay = 5
	day         = 24 * time.Hour
	// writeFor bounds Begin, End and Review: what has begun is finished when the person hangs up.
	writeFor = 8 * time.Second
	// leaveAlone is how long an alarm is left to the node that raised it; package alarm tries for less than that.
	leaveAlone = 3 * time.Minute
	// maxText bounds what goes into a record from elsewhere, in bytes.
	maxText = 1024
)

// Ledger is the book. It is made by New; a nil or zero one gives nobody access. Its methods may be called from any
// goroutine.
type Ledger struct {
	store  store.Store
	sealer Sealer
	audit  audit.Recorder
	alarm  *alarm.Alarm
	perDay int
	now    func() time.Time
	log    *slog.Logger

	turns     chan struct{} // holds one while somebody changes the index
	cookies   *recent[[32]byte, opened]
	standings *recent[string, standing]
}

// New checks the configuration. It reads and writes nothing.
func New(c Config) (*Ledger, error) {
	if c.Store == nil || c.Sealer == nil || c.Audit == nil {
		return nil, errors.New("preparing emergency access: store, sealer and audit log are required")
	}
	l := &Ledger{
		store: c.Store, sealer: c.Sealer, audit: c.Audit, alarm: c.Alarm, perDay: c.PerDay, now: c.Now, log: c.Logger,
		turns: make(chan struct{}, 1), cookies: newRecent[[32]byte, opened](maxCookies), standings: newRecent[string, standing](maxStandings),
	}
	if l.perDay <= 0 {
		l.perDay = usualPerDay
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l, nil
}

func (l *Ledger) ready() bool { return l != nil && l.store != nil }

// Begin writes the review record and the audit event, raises the alarm, and returns the cookie to set and the id: the
// reference number that the person, the reviewer, the alarm and the audit log call it by. Errors match ErrReason or
// ErrUnavailable, or say what the grant lacks; with one there is no access.
func (l *Ledger) Begin(ctx context.Context, g Grant) (set *http.Cookie, id string, err error) {
	if !l.ready() {
		return nil, "", fmt.Errorf("%w: %w", ErrUnavailable, errNoStore)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeFor)
	defer cancel()
	now := l.now().UTC()
	h, r, err := newRecord(g, now)
	if err != nil {
		return nil, "", err
	}
	// The cookie first: one that does not fit must not leave a record of an access that never was.
	tickets := append(l.tickets(ctx, g.Cookies, h, now), ticket{r.ID, r.Rule, r.Route, r.Scope, r.Patient, r.Begun.Unix(), r.Until.Unix(), r.drill()})
	value, err := l.sealCookie(ctx, h, tickets)
	if err != nil {
		return nil, "", err
	}
	l.plan(ctx, r)
	if err := l.keep(ctx, r); err != nil {
		return nil, "", err
	}
	for _, n := range r.Alarms {
		l.alarm.RaiseThen(ctx, r.event(n), func(err error) { l.told(r.ID, n.Kind, err) })
	}
	l.standings.put(r.ID, standing{asked: now})
	return setCookie(value, tickets, now), r.ID, nil
}

// newRecord judges a grant.
func newRecord(g Grant, now time.Time) (holder, *record, error) {
	text, err := CheckReason(g.ReasonCode, g.ReasonText)
	if err != nil {
		return holder{}, nil, err
	}
	h, ok := holderOf(g.Session, g.Site)
	switch {
	case g.ReasonCode == ReasonDrill && !g.Drill:
		return h, nil, fmt.Errorf("%w: no drills are held here", ErrReason)
	case !ok:
		return h, nil, fmt.Errorf("%w: a session and a site are needed", errGrant)
	case g.Source == "" || g.Subject == "":
		return h, nil, fmt.Errorf("%w: an account is needed", errGrant)
	case g.Rule == "" || g.Scope == "" || g.Patient == "":
		return h, nil, fmt.Errorf("%w: a rule, a scope and a patient are needed", errGrant)
	case !g.Until.After(now):
		return h, nil, fmt.Errorf("%w: it is over before it begins", errGrant)
	}
	for _, text := range []string{g.Source, g.Subject, g.Username, g.Rule, g.Route, g.Scope, g.Patient, g.Client} {
		if len(text) > maxText {
			return h, nil, fmt.Errorf("%w: one of its texts is longer than %d bytes", errGrant, maxText)
		}
	}
	until := g.Until.UTC()
	if last := now.Add(MaxLife); until.After(last) {
		until = last
	}
	return h, &record{
		ID: audit.NewRef(), State: StateOpen, Site: h.site, Source: g.Source, Subject: g.Subject, Username: g.Username,
		Roles: slices.Clone(g.Roles[:min(len(g.Roles), 64)]), Session: audit.SessionLabel(g.Session),
		Rule: g.Rule, Route: g.Route, Scope: g.Scope, Patient: g.Patient,
		ReasonCode: g.ReasonCode, ReasonText: text, Stale: g.Stale, Client: g.Client, Begun: now, Until: until,
	}, nil
}

// plan says which alarms a record has. A rate that cannot be counted must not keep anybody from a patient.
func (l *Ledger) plan(ctx context.Context, r *record) {
	n, err := l.count(ctx, r)
	if err != nil {
		l.log.Error("cannot count how often somebody broke the glass today; the access itself is recorded", "id", r.ID, "error", err)
	}
	r.Today = n
	r.Alarms = []notice{{Kind: alarm.KindEmergency, State: AlarmLogged}}
	if n > l.perDay && (n-1)%l.perDay == 0 { // at the first above it, and each time that as many came again
		r.Alarms = append(r.Alarms, notice{Kind: alarm.KindRate, Count: n, Limit: l.perDay, State: AlarmLogged})
	}
	if l.alarm.Sends() {
		for i := range r.Alarms {
			r.Alarms[i].State, r.Alarms[i].Next = AlarmPending, r.Begun.Add(leaveAlone)
		}
	}
}

// person is when somebody broke the glass within a day.
type person struct {
	Times []time.Time `json:"times"`
}

// maxTimes bounds a person's list.
const maxTimes = 1024

// count counts one access of its person within a day, over all nodes.
func (l *Ledger) count(ctx context.Context, r *record) (n int, err error) {
	expires := func(*person) time.Time { return r.Begun.Add(2 * day) }
	err = change(ctx, l, hashKey(labelPerson, r.Source, r.Subject), expires, func(p *person, _ bool) (bool, error) {
		p.Times = slices.DeleteFunc(p.Times, func(t time.Time) bool { return !r.Begun.Before(t.Add(day)) })
		p.Times = append(p.Times, r.Begun)
		p.Times = p.Times[max(0, len(p.Times)-maxTimes):]
		n = len(p.Times)
		return true, nil
	})
	return n, err
}

// keep makes the record durable and puts the event into the audit log. When it fails, what is there is taken back: access is
// not given.
func (l *Ledger) keep(ctx context.Context, r *record) error {
	name, err := l.enter(ctx, entry{ID: r.ID, Begun: r.Begun, Open: true, Work: true})
	if err != nil {
		return err
	}
	err = l.write(ctx, recordKey(r.ID), nil, r, time.Time{})
	if errors.Is(err, store.ErrConflict) {
		// Two ids in a thousand billion are the same; the other one's record stays, its entry is there twice.
		return fmt.Errorf("%w: the reference number is taken", ErrUnavailable)
	}
	if err == nil {
		e := r.audited("emergency", "allowed", r.ReasonCode)
		e.Patient = r.Patient
		if err = l.audit.Record(ctx, e); err == nil {
			return nil
		}
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeFor)
	defer cancel()
	gone := l.store.Delete(undo, recordKey(r.ID))
	if gone == nil {
		gone = l.edit(undo, name, r.ID, func(*entry) bool { return false })
	}
	if gone != nil {
		l.log.Error("a review record stays of an emergency access that was not given", "id", r.ID, "error", gone)
	}
	return err
}

// told notes that the webhook took an alarm. Of a failure nothing is noted: Sweep finds it.
func (l *Ledger) told(id, kind string, failed error) {
	if failed != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeFor)
	defer cancel()
	err := l.alter(ctx, id, func(r *record) (bool, error) {
		i := slices.IndexFunc(r.Alarms, func(n notice) bool { return n.Kind == kind })
		if i < 0 || r.Alarms[i].State != AlarmPending {
			return false, nil
		}
		r.Alarms[i].State, r.Alarms[i].Next = AlarmDelivered, time.Time{}
		return true, nil
	})
	if err != nil {
		l.log.Warn("cannot note that an alarm was delivered; it is sent again", "id", id, "alarm", kind, "error", err)
	}
}

// End ends one grant, or all of a session and site, and returns the cookie to set. They are over on this node in any case
// and the cookie is right, also when an error says that the store or the audit log does not know it. ErrNotFound: none of
// them runs.
func (l *Ledger) End(ctx context.Context, e End) (set *http.Cookie, err error) {
	if !l.ready() {
		return clearCookie(), fmt.Errorf("%w: %w", ErrUnavailable, errNoStore)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeFor)
	defer cancel()
	now := l.now().UTC()
	h, ok := holderOf(e.Session, e.Site)
	if !ok {
		return clearCookie(), ErrNotFound
	}
	var stay, leave []ticket
	for _, t := range l.tickets(ctx, e.Cookies, h, now) {
		if e.ID == "" || t.ID == e.ID {
			leave = append(leave, t)
		} else {
			stay = append(stay, t)
		}
	}
	var failures []error
	for _, t := range leave {
		l.closed(t.ID)
		failures = append(failures, l.stop(ctx, t.ID, e.Who.Client, func(r *record) { r.Ended, r.Stop = now, "by-person" }))
	}
	if len(leave) == 0 {
		failures = append(failures, ErrNotFound)
	}
	value := ""
	if len(stay) > 0 {
		if value, err = l.sealCookie(ctx, h, stay); err != nil {
			failures = append(failures, err)
		}
	}
	return setCookie(value, stay, now), errors.Join(failures...)
}
