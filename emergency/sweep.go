package emergency

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
)

const (
	sweepEvery = time.Minute
	sweepFor   = 5 * time.Minute
	// orphanAfter is when an entry without a record has none for good: Begin ended between the two.
	orphanAfter = 10 * time.Minute
	// againAfter is doubled with each try of an alarm, up to againAtMost.
	againAfter  = time.Minute
	againAtMost = time.Hour
)

// Run calls Sweep every minute until ctx ends.
func (l *Ledger) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.Sweep(ctx); err != nil && ctx.Err() == nil {
				l.log.Warn("looking after emergency accesses failed; it is tried again in a minute", "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// Sweep delivers alarms again that nobody took, writes the ends of accesses whose time is over into the audit log, tells of
// overdue reviews once a day, and removes what was kept long enough. Every node calls it every minute; the work is done
// once.
func (l *Ledger) Sweep(ctx context.Context) error {
	if !l.ready() {
		return fmt.Errorf("%w: %w", ErrUnavailable, errNoStore)
	}
	ctx, cancel := context.WithTimeout(ctx, sweepFor)
	defer cancel()
	now := l.now().UTC()
	round := sweep{l: l, now: now, today: now.Format(time.DateOnly)}
	if err := l.each(ctx, func(name string, b *bucket) error { return round.bucket(ctx, name, b) }); err != nil {
		return errors.Join(append(round.failures, err)...)
	}
	if err := l.retire(ctx, round.empty); err != nil {
		round.failures = append(round.failures, err)
	}
	if len(round.late) > 0 {
		if err := l.escalate(ctx, round.late, now); err != nil {
			round.failures = append(round.failures, err)
		}
	}
	return errors.Join(round.failures...)
}

// sweep is one round.
type sweep struct {
	l        *Ledger
	now      time.Time
	today    string
	down     bool // the webhook did not answer: not again in this round
	late     []string
	empty    []string
	failures []error
}

// bucket looks after one bucket. A failure of one record holds up no other one.
func (s *sweep) bucket(ctx context.Context, name string, b *bucket) error {
	left := len(b.Entries)
	for _, e := range b.Entries {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		late := e.Open && !s.now.Before(e.Begun.Add(ReviewWithin))
		gone := !e.Drop.IsZero() && !s.now.Before(e.Drop)
		if e.Work || late {
			var err error
			if gone, late, err = s.record(ctx, name, e, late); err != nil {
				s.failures = append(s.failures, err)
				continue
			}
		}
		if late {
			s.late = append(s.late, e.ID)
		}
		if gone {
			if err := s.l.edit(ctx, name, e.ID, func(*entry) bool { return false }); err != nil {
				return err
			}
			left--
		}
	}
	if left == 0 && name[:len(time.DateOnly)] < s.yesterday() {
		s.empty = append(s.empty, name)
	}
	return nil
}

func (s *sweep) yesterday() string { return s.now.Add(-day).Format(time.DateOnly) }

// record does what is left to do with one record, and brings its entry up to date.
func (s *sweep) record(ctx context.Context, name string, e entry, late bool) (gone, stillLate bool, err error) {
	var r record
	sealed, err := s.l.read(ctx, recordKey(e.ID), &r)
	switch {
	case errors.Is(err, errDamaged):
		return false, late, nil // List shows it
	case err != nil:
		return false, false, err
	case sealed == nil:
		return !s.now.Before(e.Begun.Add(orphanAfter)), false, nil
	}
	if !r.Stopped && (r.over() || !s.now.Before(r.Until)) {
		if err := s.l.stop(ctx, r.ID, "", nil); err != nil {
			return false, false, err
		}
		r.Stopped = true
	}
	for i := range r.Alarms {
		if err := s.alarm(ctx, &r, i); err != nil {
			return false, false, err
		}
	}
	before := e
	if e.set(&r); e != before {
		// The record may have changed since; what is set here is then set again later.
		err = s.l.edit(ctx, name, e.ID, func(now *entry) bool {
			now.Open, now.Work, now.Drop = now.Open && e.Open, e.Work, e.Drop
			return true
		})
	}
	return false, late && r.State == StateOpen, err
}

// alarm delivers one that is due. Whoever puts its next time off by a compare-and-swap is the one to send it.
func (s *sweep) alarm(ctx context.Context, r *record, i int) error {
	n := &r.Alarms[i]
	if n.State != AlarmPending || s.now.Before(n.Next) || s.down && s.l.alarm.Sends() {
		return nil
	}
	mine := false
	err := s.l.alter(ctx, r.ID, func(now *record) (bool, error) {
		mine = i < len(now.Alarms) && now.Alarms[i] == *n
		if !mine {
			return false, nil
		}
		if !s.l.alarm.Sends() { // there is no webhook any more: the log was told when it happened
			now.Alarms[i].State, now.Alarms[i].Next = AlarmLogged, time.Time{}
		} else {
			now.Alarms[i].Next = s.now.Add(min(againAfter<<min(n.Tries, 10), againAtMost))
			now.Alarms[i].Tries++
		}
		*r = *now
		r.Alarms = slices.Clone(now.Alarms)
		return true, nil
	})
	if err != nil || !mine || r.Alarms[i].State != AlarmPending {
		return err
	}
	if err := s.l.alarm.Deliver(ctx, r.event(r.Alarms[i])); err != nil {
		s.down = !errors.Is(err, alarm.ErrRefused)
		s.l.log.Warn("an alarm of an emergency access still did not reach the webhook; it is sent again", "id", r.ID, "alarm", n.Kind, "tries", r.Alarms[i].Tries, "error", err)
		return nil
	}
	s.l.told(r.ID, r.Alarms[i].Kind, nil)
	r.Alarms[i].State = AlarmDelivered
	return nil
}

// stop writes the end of an access into the audit log, once. end changes the record; nil: its time is over.
func (l *Ledger) stop(ctx context.Context, id, client string, end func(*record)) error {
	mine := false
	var r record
	err := l.alter(ctx, id, func(now *record) (bool, error) {
		if mine = !now.Stopped; !mine {
			return false, nil
		}
		if end != nil && now.Ended.IsZero() {
			end(now)
		}
		now.Stopped = true
		r = *now
		return true, nil
	})
	if err != nil || !mine {
		return err
	}
	e := r.audited("emergency", "ended", r.Stop)
	if e.Reason == "" {
		e.Reason = "expired"
	}
	if client != "" {
		e.Client = client
	}
	if err = l.audit.Record(ctx, e); err == nil {
		return nil
	}
	// Somebody else writes it later.
	undone := l.alter(context.WithoutCancel(ctx), id, func(now *record) (bool, error) {
		now.Stopped = false
		return true, nil
	})
	return fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(err, undone))
}

// overdue is when it was last told that reviews are overdue.
type overdue struct {
	Told  time.Time `json:"told,omitzero"`
	Claim time.Time `json:"claim,omitzero"` // nobody else tells before this
	Tries int       `json:"tries,omitempty"`
}

// escalate tells of overdue reviews, once a day over all nodes.
func (l *Ledger) escalate(ctx context.Context, late []string, now time.Time) error {
	expires := func(*overdue) time.Time { return now.Add(2 * day) }
	mine := false
	err := change(ctx, l, labelOverdue, expires, func(o *overdue, _ bool) (bool, error) {
		mine = !now.Before(o.Told.Add(day)) && !now.Before(o.Claim)
		o.Claim = now.Add(max(leaveAlone, min(againAfter<<min(o.Tries, 10), againAtMost)))
		o.Tries++
		return mine, nil
	})
	if err != nil || !mine {
		return err
	}
	e := alarm.Event{ID: "overdue-" + now.Format(time.DateOnly), Kind: alarm.KindUnreviewed, Ref: slices.Min(late), Count: len(late), At: now}
	l.alarm.RaiseThen(ctx, e, func(failed error) {
		if failed != nil && !errors.Is(failed, alarm.ErrNoWebhook) {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), writeFor)
		defer cancel()
		err := change(ctx, l, labelOverdue, expires, func(o *overdue, _ bool) (bool, error) {
			*o = overdue{Told: now}
			return true, nil
		})
		if err != nil {
			l.log.Warn("cannot note that it was told that reviews are overdue; it is told again", "error", err)
		}
	})
	return nil
}
