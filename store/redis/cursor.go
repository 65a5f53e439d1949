package redis

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// position is a place in the feed: the entry that was seen last. The zero position is
// the beginning.
type position struct {
	ms, seq uint64 // the entry's id in the stream
	expires uint64 // of the entry, as stamp says it
}

// An expired entry is kept for sweepAfter, and is expected to be there for missAfter: the
// clocks of two nodes may differ by what lies between.
const (
	sweepAfter = time.Hour
	missAfter  = 30 * time.Minute
)

// mayMiss reports whether the entry can have been swept: only then is a position whose
// entry is gone still a place to go on from.
func (p position) mayMiss(now time.Time) bool {
	return p.expires != 0 && !alive(p.expires, now.Add(-missAfter))
}

// id is the entry's id in the stream.
func (p position) id() string {
	return strconv.FormatUint(p.ms, 10) + "-" + strconv.FormatUint(p.seq, 10)
}

// cursor is the position as callers see it.
func (p position) cursor() string { return p.id() + "." + strconv.FormatUint(p.expires, 10) }

// parseID reads an id of the stream.
func parseID(id string) (position, bool) {
	ms, seq, ok := strings.Cut(id, "-")
	p := position{}
	var first, second bool
	p.ms, first = number(ms)
	p.seq, second = number(seq)
	return p, ok && first && second && (p.ms != 0 || p.seq != 0)
}

// parseCursor reads what cursor wrote, and nothing else: each position has one form.
func parseCursor(cursor string) (position, error) {
	if cursor == "" {
		return position{}, nil
	}
	id, expires, ok := strings.Cut(cursor, ".")
	p, fits := parseID(id)
	at, digits := number(expires)
	if !ok || !fits || !digits {
		return position{}, fmt.Errorf("reading the feed: %w: not a cursor of this store", store.ErrInvalid)
	}
	p.expires = at
	return p, nil
}

// number reads decimal digits without sign and leading zeros.
func number(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
