package emergency

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	maxReviewer = 64
	readers     = 8 // records that List reads at the same time
)

// List returns the reviews of a state, or StateAll, the oldest first. A record that does not open is among them, open and
// with StateUnreadable, so that nobody takes it for reviewed.
func (l *Ledger) List(ctx context.Context, state string) ([]Review, error) {
	switch {
	case !l.ready():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errNoStore)
	case state != StateOpen && state != StateAccepted && state != StateRejected && state != StateAll:
		return nil, fmt.Errorf("listing reviews: %q is none of open, accepted, rejected, all", state)
	}
	var entries []entry
	err := l.each(ctx, func(_ string, b *bucket) error {
		for _, e := range b.Entries {
			if e.Open || state != StateOpen {
				entries = append(entries, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found, err := l.readAll(ctx, entries)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(r Review) bool {
		open := r.State == StateOpen || r.State == StateUnreadable
		return state != StateAll && r.State != state && (state != StateOpen || !open)
	})
	slices.SortFunc(found, func(a, b Review) int {
		return cmp.Or(a.Begun.Compare(b.Begun), strings.Compare(a.ID, b.ID))
	})
	return found, nil
}

// readAll reads the records of entries. Those without a record never began, or are gone.
func (l *Ledger) readAll(ctx context.Context, entries []entry) (found []Review, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex // guards found
	var all sync.WaitGroup
	next := make(chan entry)
	now := l.now()
	for range min(readers, len(entries)) {
		all.Go(func() {
			for e := range next {
				r, there, err := l.readOne(ctx, e, now)
				if err != nil {
					cancel(err)
					continue
				}
				if there {
					mu.Lock()
					found = append(found, r)
					mu.Unlock()
				}
			}
		})
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			break
		}
		next <- e
	}
	close(next)
	all.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
	return found, nil
}

func (l *Ledger) readOne(ctx context.Context, e entry, now time.Time) (r Review, there bool, err error) {
	var stored record
	sealed, err := l.read(ctx, recordKey(e.ID), &stored)
	if errors.Is(err, errDamaged) {
		l.log.Error("a review record does not open", "id", e.ID, "error", err)
		return Review{ID: e.ID, State: StateUnreadable, Begun: e.Begun, Overdue: !now.Before(e.Begun.Add(ReviewWithin))}, true, nil
	}
	if err != nil || sealed == nil {
		return Review{}, false, err
	}
	return stored.review(now), true, nil
}

// Review writes down a verdict and returns what was reviewed. The event is in the audit log first, and a second one says so
// when the verdict then could not be kept. A rejected access that still runs is over. Errors match ErrVerdict,
// ErrNotFound, ErrReviewed, ErrOwn or ErrUnavailable.
func (l *Ledger) Review(ctx context.Context, v Verdict) (Review, error) {
	if !l.ready() {
		return Review{}, fmt.Errorf("%w: %w", ErrUnavailable, errNoStore)
	}
	v, err := checkVerdict(v)
	if err != nil {
		return Review{}, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeFor)
	defer cancel()
	var r record
	sealed, err := l.read(ctx, recordKey(v.ID), &r)
	if err == nil && sealed == nil {
		err = ErrNotFound
	}
	if err == nil {
		err = mayReview(&r, v)
	}
	if err != nil {
		return Review{}, err
	}
	e := r.audited("review", "allowed", "review-"+v.state())
	e.Rule, e.Client = "reviewer "+v.Reviewer, v.Client
	if err := l.audit.Record(ctx, e); err != nil {
		return Review{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	err = l.alter(ctx, v.ID, func(now *record) (bool, error) {
		if err := mayReview(now, v); err != nil {
			return false, err
		}
		l.judge(now, v)
		r = *now
		return true, nil
	})
	if err != nil {
		e.Decision = "failed"
		_ = l.audit.Record(ctx, e) // the error that matters is the verdict's
		return Review{}, err
	}
	if r.State == StateRejected {
		l.closed(r.ID)
	}
	if err := l.mark(ctx, &r); err != nil {
		l.log.Warn("the index of reviews is not up to date; it is mended later", "id", r.ID, "error", err)
	}
	return r.review(l.now()), nil
}

// judge puts a verdict into a record.
func (l *Ledger) judge(r *record, v Verdict) {
	now := l.now().UTC()
	r.State, r.Reviewer, r.Comment, r.Reviewed = v.state(), v.Reviewer, v.Comment, now
	if !v.Accept && r.Ended.IsZero() && now.Before(r.Until) {
		r.Ended, r.Stop = now, "rejected"
	}
}

func (v Verdict) state() string {
	if v.Accept {
		return StateAccepted
	}
	return StateRejected
}

func mayReview(r *record, v Verdict) error {
	switch {
	case r.State != StateOpen:
		return fmt.Errorf("%w: %s by %s", ErrReviewed, r.State, r.Reviewer)
	case strings.EqualFold(cmp.Or(r.Username, r.Subject), v.Reviewer):
		return ErrOwn
	}
	return nil
}

func checkVerdict(v Verdict) (Verdict, error) {
	id, ok := parseID(v.ID)
	if !ok {
		return v, ErrNotFound
	}
	v.ID = id
	n := 0
	if v.Reviewer, n = oneLine(v.Reviewer); n == 0 || n > maxReviewer || !utf8.ValidString(v.Reviewer) {
		return v, fmt.Errorf("%w: name the reviewer, in at most %d characters", ErrVerdict, maxReviewer)
	}
	v.Comment, n = oneLine(v.Comment)
	switch {
	case n > MaxComment:
		return v, fmt.Errorf("%w: a comment has at most %d characters", ErrVerdict, MaxComment)
	case n == 0 && !v.Accept:
		return v, fmt.Errorf("%w: a rejection needs a comment that says why", ErrVerdict)
	}
	return v, nil
}

// mark brings the index up to date with a record.
func (l *Ledger) mark(ctx context.Context, r *record) error {
	name, err := l.find(ctx, r.ID, r.Begun)
	if err != nil {
		return err
	}
	return l.edit(ctx, name, r.ID, func(e *entry) bool {
		e.set(r)
		return true
	})
}

func (e *entry) set(r *record) {
	e.Open, e.Work, e.Drop = r.State == StateOpen, r.pending(), r.expires()
}
