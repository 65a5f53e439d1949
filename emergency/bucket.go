package emergency

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The book's index. A store lists by prefix only by reading everything, so the index is values of its own: buckets of at
// most bucketSize entries, named by the day and a number, and one list of the buckets. An entry is written before its record:
// a record that nobody can list would be an access that nobody reviews. What state an entry says is a hint; the
// record says.
const bucketSize = 1024

// buckets lists the buckets, the oldest first.
type buckets struct {
	Names []string `json:"names"`
}

type bucket struct {
	Entries []entry `json:"entries"`
}

type entry struct {
	ID    string    `json:"id"`
	Begun time.Time `json:"begun"`
	Open  bool      `json:"open"`
	Work  bool      `json:"work,omitempty"` // Sweep has something to do with the record
	Drop  time.Time `json:"drop,omitzero"`  // reviewed: the record is gone then
}

func bucketKey(name string) string { return labelBucket + "/" + name }

func bucketName(day time.Time, n int) string {
	return fmt.Sprintf("%s.%06d", day.UTC().Format(time.DateOnly), n)
}

// enter puts an entry into a bucket of its day.
func (l *Ledger) enter(ctx context.Context, e entry) (name string, err error) {
	leave, err := l.turn(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	var all buckets
	if _, err := l.read(ctx, labelBuckets, &all); err != nil {
		return "", err
	}
	n := 0
	day := e.Begun.UTC().Format(time.DateOnly) + "."
	for _, name := range all.Names {
		if strings.HasPrefix(name, day) {
			n++
		}
	}
	for n = max(0, n-1); ; n++ {
		name = bucketName(e.Begun, n)
		if err := l.announce(ctx, name); err != nil {
			return "", err
		}
		full := false
		err := change(ctx, l, bucketKey(name), never, func(b *bucket, _ bool) (bool, error) {
			full = len(b.Entries) >= bucketSize
			b.Entries = append(b.Entries, e)
			return !full, nil
		})
		if err != nil || !full {
			return name, err
		}
	}
}

// announce puts a bucket into the list before anything is in it.
func (l *Ledger) announce(ctx context.Context, name string) error {
	return change(ctx, l, labelBuckets, never, func(all *buckets, _ bool) (bool, error) {
		i, there := slices.BinarySearch(all.Names, name)
		if !there {
			all.Names = slices.Insert(all.Names, i, name)
		}
		return !there, nil
	})
}

// turn lets this node's changes of the index go one after the other: many at once would undo each other's work.
func (l *Ledger) turn(ctx context.Context) (leave func(), err error) {
	select {
	case l.turns <- struct{}{}:
		return func() { <-l.turns }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// edit changes the entry of an id; edit says false to remove it.
func (l *Ledger) edit(ctx context.Context, name, id string, edit func(*entry) bool) error {
	leave, err := l.turn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return change(ctx, l, bucketKey(name), never, func(b *bucket, _ bool) (bool, error) {
		i := slices.IndexFunc(b.Entries, func(e entry) bool { return e.ID == id })
		if i < 0 {
			return false, nil
		}
		before := b.Entries[i]
		if !edit(&b.Entries[i]) {
			b.Entries = slices.Delete(b.Entries, i, i+1)
			return true, nil
		}
		return b.Entries[i] != before, nil
	})
}

// each calls f for every bucket, the oldest first.
func (l *Ledger) each(ctx context.Context, f func(name string, b *bucket) error) error {
	var all buckets
	if _, err := l.read(ctx, labelBuckets, &all); err != nil {
		return err
	}
	for _, name := range all.Names {
		var b bucket
		if _, err := l.read(ctx, bucketKey(name), &b); err != nil {
			return err
		}
		if err := f(name, &b); err != nil {
			return err
		}
	}
	return nil
}

// find looks for the bucket of an id that began about then.
func (l *Ledger) find(ctx context.Context, id string, begun time.Time) (name string, err error) {
	var all buckets
	if _, err := l.read(ctx, labelBuckets, &all); err != nil {
		return "", err
	}
	day := begun.UTC().Format(time.DateOnly) + "."
	for _, name := range all.Names {
		if !strings.HasPrefix(name, day) {
			continue
		}
		var b bucket
		if _, err := l.read(ctx, bucketKey(name), &b); err != nil {
			return "", err
		}
		if slices.ContainsFunc(b.Entries, func(e entry) bool { return e.ID == id }) {
			return name, nil
		}
	}
	return "", ErrNotFound
}

// retire removes buckets of past days that are empty.
func (l *Ledger) retire(ctx context.Context, empty []string) error {
	for _, name := range empty {
		err := change(ctx, l, labelBuckets, never, func(all *buckets, _ bool) (bool, error) {
			i, there := slices.BinarySearch(all.Names, name)
			if there {
				all.Names = slices.Delete(all.Names, i, i+1)
			}
			return there, nil
		})
		if err != nil {
			return err
		}
		if err := l.store.Delete(ctx, bucketKey(name)); err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return nil
}
