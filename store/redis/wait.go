package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// slice is how long one blocking read lasts. After each the feed is looked at anew,
	// so that a feed that was set back is noticed, and a dead connection too.
	slice = time.Second
	// early is how much sooner than its caller's deadline a blocking read ends, so that
	// its connection is still good afterwards.
	early = 50 * time.Millisecond
)

// Wait returns when the feed may hold a live entry after cursor; see store.Feed. The
// server holds the request and answers it when an entry is appended.
func (s *Store) Wait(ctx context.Context, cursor string) error {
	from, err := parseCursor(cursor)
	if err != nil {
		return err
	}
	for {
		entries, last, err := s.follow(ctx, from, 1)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("waiting for the feed: %w", ctx.Err())
		case errors.Is(err, store.ErrNotFound):
			return nil // the caller learns from After that it must read from the beginning
		case err != nil:
			return err
		case len(entries) > 0:
			return nil
		}
		if err := s.block(ctx, last); err != nil {
			return err
		}
	}
}

// block waits until the stream has an entry after last, for a slice at most. The read
// goes on without the caller when that leaves, because a read that is broken off costs
// the connection.
func (s *Store) block(ctx context.Context, last position) error {
	const doing = "waiting for the feed"
	length := slice
	if deadline, ok := ctx.Deadline(); ok {
		length = min(length, time.Until(deadline)-early)
	}
	done := make(chan error, 1)
	if length >= time.Millisecond {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return s.unavailable(ctx, doing, errClosed)
		}
		s.waiting.Add(1)
		s.mu.Unlock()
		go func() { // ends with the slice, or when Close closes the client
			defer s.waiting.Done()
			done <- s.readBlocking(last, length)
		}()
	}
	select {
	case err := <-done:
		if err != nil {
			return s.unavailable(ctx, doing, err)
		}
		return nil
	case <-s.closing:
		return s.unavailable(ctx, doing, errClosed)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	}
}

func (s *Store) readBlocking(last position, length time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), length+s.times.io)
	defer cancel()
	name, id := s.prefix+nameFeed, "0-0"
	if last != (position{}) {
		id = last.id()
	}
	node, err := s.node(ctx, name, "")
	if err == nil {
		err = node.XRead(ctx, &goredis.XReadArgs{Streams: []string{name, id}, Count: 1, Block: length}).Err()
	}
	if errors.Is(err, goredis.Nil) {
		return nil
	}
	if err != nil {
		_ = s.redirected(ctx, err)
	}
	return err
}

// Time is the clock of the server that keeps the feed.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	return run(ctx, s, "asking for the time", s.prefix+nameFeed, again, func(ctx context.Context, c link) (time.Time, error) {
		return c.Time(ctx).Result()
	})
}
