package emergency

import (
	"context"
	"net/http"
	"time"
)

// Ledger is the book. It is made by New; a nil or zero one gives nobody access.
type Ledger struct{ config Config }

// New checks the configuration. It reads and writes nothing.
func New(c Config) (*Ledger, error) { return &Ledger{config: c}, nil }

// Begin writes the review record and the audit event, raises the alarm, and returns the cookie to set and the id: the
// reference number that the person, the reviewer, the alarm and the audit log call it by.
func (l *Ledger) Begin(ctx context.Context, g Grant) (set *http.Cookie, id string, err error) {
	return nil, "", ErrUnavailable
}

// Active returns the grants that hold for this session (its sid) and site. cookies are the request's Cookie lines. What it
// returns is shared: do not change it.
func (l *Ledger) Active(ctx context.Context, cookies []string, sid, site string, now time.Time) []Active {
	return nil
}

// End ends one grant or all of them and returns the cookie to set. ErrNotFound: none of them runs.
func (l *Ledger) End(ctx context.Context, e End) (set *http.Cookie, err error) {
	return nil, ErrUnavailable
}

// List returns the reviews of a state, or StateAll, the oldest first.
func (l *Ledger) List(ctx context.Context, state string) ([]Review, error) { return nil, ErrUnavailable }

// Review writes down a verdict and returns what was reviewed. A rejected access that still runs is over.
func (l *Ledger) Review(ctx context.Context, v Verdict) (Review, error) {
	return Review{}, ErrUnavailable
}

// Accept and Reject are Review in short.
func (l *Ledger) Accept(ctx context.Context, id, reviewer, comment string) error { return ErrUnavailable }

// Reject says that an access was not in order.
func (l *Ledger) Reject(ctx context.Context, id, reviewer, comment string) error { return ErrUnavailable }

// Sweep delivers alarms again that nobody took, tells of overdue reviews once a day, and removes reviewed records that
// were kept long enough. Every node calls it every minute; the work is done once.
func (l *Ledger) Sweep(ctx context.Context) error { return ErrUnavailable }

// Run calls Sweep every minute until ctx ends.
func (l *Ledger) Run(ctx context.Context) {}
