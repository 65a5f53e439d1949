package redis

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	fieldEntry = "v" // the one field of an entry in the stream
	feedPage   = 250 // entries that are read at a time
)

// Append adds an entry at the end of the feed. Redis gives the id, which only grows. The
// cursor carries the expiry besides, see After.
func (s *Store) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	const doing = "appending to the feed"
	if err := store.CheckValue(value); err != nil {
		return "", err
	}
	name := s.prefix + nameFeed
	b := append(binary.BigEndian.AppendUint64(nil, stamp(expires)), value...)
	sealed, err := s.sealer.Seal(ctx, labelEntry+" "+name, b)
	if err != nil {
		return "", s.unavailable(ctx, doing, err)
	}
	id, err := run(ctx, s, doing, name, once, func(ctx context.Context, c link) (string, error) {
		cmd := goredis.NewStringCmd(ctx, "XADD", name, "*", fieldEntry, sealed)
		err := s.durable(ctx, c, cmd)
		return cmd.Val(), err
	})
	if err != nil {
		return "", err
	}
	at, ok := parseID(id)
	if !ok {
		return "", s.unavailable(ctx, doing, errors.New("the server gave an entry no id"))
	}
	if s.appended.Add(1)%sweepEvery == 0 {
		s.sweep()
	}
	at.expires = stamp(expires)
	return at.cursor(), nil
}

// After returns the live entries that follow cursor; see store.Feed. It reads the
// cursor's own entry with them, in one command: when that is gone before its expiry, or
// when it may be gone but nothing follows (the newest entry is never swept), this feed
// is not the one that the cursor is of, and what was appended meanwhile could lie in
// front of the cursor. A node that went on would miss revocations.
func (s *Store) After(ctx context.Context, cursor string, limit int) ([]store.Entry, error) {
	from, err := parseCursor(cursor)
	if err != nil {
		return nil, err
	}
	if limit < 1 || limit > store.MaxEntries {
		limit = store.MaxEntries
	}
	entries, _, err := s.follow(ctx, from, limit)
	return entries, err
}

// follow returns the live entries after from, and the place of the last entry that it
// has seen, live or not.
func (s *Store) follow(ctx context.Context, from position, limit int) ([]store.Entry, position, error) {
	var entries []store.Entry
	for {
		want := min(limit-len(entries), feedPage)
		all, err := s.page(ctx, from, want)
		if err != nil {
			return nil, from, err
		}
		for _, e := range all {
			if from = e.position; alive(e.expires, s.now()) {
				entries = append(entries, store.Entry{Cursor: e.cursor(), Value: e.value})
			}
		}
		if len(all) < want || len(entries) == limit {
			return entries, from, nil
		}
	}
}

// entry is an entry of the stream with its place.
type entry struct {
	position
	value []byte
}

// page reads at most n entries that follow from, expired ones too.
func (s *Store) page(ctx context.Context, from position, n int) ([]entry, error) {
	const doing = "reading the feed"
	name, start, count := s.prefix+nameFeed, "-", n
	if from != (position{}) {
		start, count = from.id(), n+1
	}
	messages, err := run(ctx, s, doing, name, again, func(ctx context.Context, c link) ([]goredis.XMessage, error) {
		return c.XRangeN(ctx, name, start, "+", int64(count)).Result()
	})
	if err != nil {
		return nil, err
	}
	if from != (position{}) {
		switch {
		case len(messages) > 0 && messages[0].ID == start:
			messages = messages[1:]
		case len(messages) == 0 || !from.mayMiss(s.now()):
			return nil, fmt.Errorf("%s: %w: the entry of the cursor is gone: the feed was set back or replaced", doing, store.ErrNotFound)
		case len(messages) > n:
			messages = messages[:n]
		}
	}
	all := make([]entry, 0, len(messages))
	for _, m := range messages {
		e, err := s.openEntry(ctx, name, m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		all = append(all, e)
	}
	return all, nil
}

// openEntry opens one entry. One that does not open stops the feed: it may be the
// revocation that counts.
func (s *Store) openEntry(ctx context.Context, name string, m goredis.XMessage) (entry, error) {
	at, ok := parseID(m.ID)
	sealed, isText := m.Values[fieldEntry].(string)
	if ok && isText {
		if b, err := s.unseal(ctx, labelEntry+" "+name, []byte(sealed)); err == nil && len(b) >= 8 {
			at.expires = binary.BigEndian.Uint64(b)
			return entry{position: at, value: append([]byte{}, b[8:]...)}, nil
		}
	}
	if ctx.Err() == nil {
		s.log.Error("an entry of the feed in Redis does not open: it was sealed with another master key, or somebody wrote it. Nobody is let in until it is gone: give all nodes one master key, or remove the entry with XDEL",
			"redis", s.conf.name(), "stream", name, "entry", s.conf.clean(errors.New(m.ID)))
	}
	return entry{}, fmt.Errorf("%w: an entry of the feed does not open: another master key, or somebody wrote it", store.ErrUnavailable)
}
