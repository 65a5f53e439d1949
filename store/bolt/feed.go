package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anteroom-proxy/anteroom/store"
)

// Append adds an entry at the end of the feed. The cursor is the bucket's sequence
// number, which bbolt stores in the same transaction: it only grows, over restarts
// and after all entries have expired, so that a cursor never means two entries.
func (s *Store) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	if err := store.CheckValue(value); err != nil {
		return "", err
	}
	stored := pack(value, expires)
	var seq uint64
	err := s.change(ctx, "appending to the feed", len(stored), func(tx *group) error {
		n, err := tx.append(stored)
		seq = n
		return err
	})
	if err != nil {
		return "", err // seq may still be written to by a change that ctx abandoned
	}
	return formatCursor(seq), nil
}

// After returns the live entries that follow cursor; see store.Feed.
func (s *Store) After(ctx context.Context, cursor string, limit int) ([]store.Entry, error) {
	after, err := parseCursor(cursor)
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > store.MaxEntries {
		limit = store.MaxEntries
	}
	var entries []store.Entry
	err = s.view(ctx, "reading the feed", func(_, feed *bolt.Bucket) error {
		if after > feed.Sequence() {
			// The file was replaced by an older one under a running follower: going on
			// from here would skip every revocation up to the old number.
			return store.ErrNotFound
		}
		now := s.now()
		c := feed.Cursor()
		for k, stored := c.Seek(feedKey(after + 1)); k != nil && len(entries) < limit; k, stored = c.Next() {
			if v, alive := unpack(stored, now); alive && len(k) == 8 {
				entries = append(entries, store.Entry{
					Cursor: formatCursor(binary.BigEndian.Uint64(k)),
					Value:  append([]byte{}, v...),
				})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Wait returns when the feed may hold a live entry after cursor; see store.Feed. The
// channel is taken before the look: an entry that is committed in between closes it.
func (s *Store) Wait(ctx context.Context, cursor string) error {
	for {
		news := *s.news.Load()
		entries, err := s.After(ctx, cursor, 1)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for the feed: %w", ctx.Err())
		case errors.Is(err, store.ErrNotFound):
			return nil // the follower learns from After that it must read from the beginning
		case err != nil:
			return err
		case len(entries) > 0:
			return nil
		}
		select {
		case <-news:
		case <-s.closing:
			return unavailable("waiting for the feed", errClosed)
		case <-ctx.Done():
		}
	}
}

// tell wakes whoever waits. The channels are made by Open and by the writer only, so
// that they belong to the goroutines that close them.
func (s *Store) tell() {
	news := make(chan struct{})
	if old := s.news.Swap(&news); old != nil {
		close(*old)
	}
}

func feedKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// formatCursor writes the number in 16 hex digits, so that cursors also sort as text.
func formatCursor(seq uint64) string { return fmt.Sprintf("%016x", seq) }

func parseCursor(cursor string) (uint64, error) {
	if cursor == "" {
		return 0, nil
	}
	seq, err := strconv.ParseUint(cursor, 16, 64)
	if err != nil || len(cursor) != 16 || seq == 1<<64-1 {
		return 0, fmt.Errorf("reading the feed: %w: not a cursor of this store", store.ErrInvalid)
	}
	return seq, nil
}
