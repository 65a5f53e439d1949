package redis

import (
	"context"
	"slices"
)

// The sweep looks at a bounded part of the feed now and then and goes on at once while
// most of what it sees is long expired. It only gives space back: reads honour expiry by
// themselves.
const (
	sweepEvery  = 32 // appends
	sweepRounds = 40 // at a time
)

// sweep starts one in the background, unless one runs.
func (s *Store) sweep() {
	if s.sweeping.Swap(true) {
		return
	}
	if !s.begin() {
		s.sweeping.Store(false)
		return
	}
	go func() { // ends after sweepRounds rounds; each is bounded as every call
		defer s.under.Done()
		defer s.sweeping.Store(false)
		for range sweepRounds {
			behind, err := s.sweepOnce(context.Background())
			if err != nil {
				s.log.Warn("removing expired entries from the feed failed", "error", err)
			}
			if !behind || err != nil {
				return
			}
			select {
			case <-s.closing:
				return
			default:
			}
		}
	}()
}

// sweepOnce looks at the next page and removes what expired an hour ago and more. The
// newest entry stays whatever its age: it is what shows, when nothing else is left, that
// the feed was not set back. It reports whether half the page or more was removed.
func (s *Store) sweepOnce(ctx context.Context) (behind bool, err error) {
	name := s.prefix + nameFeed
	// The place may be gone by now, swept by another node: begin anew then.
	all, err := s.page(ctx, s.swept, feedPage)
	if err != nil || len(all) == 0 {
		s.swept = position{}
		return false, nil
	}
	newest, err := run(ctx, s, "reading the feed", name, again, func(ctx context.Context, c link) (string, error) {
		messages, err := c.XRevRangeN(ctx, name, "+", "-", 1).Result()
		if err != nil || len(messages) == 0 {
			return "", err
		}
		return messages[0].ID, nil
	})
	if err != nil || newest == "" {
		return false, err
	}
	gone := []string{}
	now := s.now().Add(-sweepAfter)
	for _, e := range all {
		if !alive(e.expires, now) && e.id() != newest {
			gone = append(gone, e.id())
		} else {
			s.swept = e.position
		}
	}
	if len(all) < feedPage {
		s.swept = position{} // the end: the next round begins anew
	}
	for part := range slices.Chunk(gone, feedPage) {
		_, err := run(ctx, s, "removing expired entries", name, once, func(ctx context.Context, c link) (int64, error) {
			return c.XDel(ctx, name, part...).Result()
		})
		if err != nil {
			return false, err
		}
	}
	return len(all) == feedPage && len(gone) >= feedPage/2, nil
}
