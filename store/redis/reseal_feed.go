package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// feedTimeout bounds the resealing of the feed.
	feedTimeout = time.Minute
	// copyBytes is how many bytes of entries are copied with one command.
	copyBytes = 1 << 20
)

// An entry of a stream cannot be changed. So all are copied into a second stream of the
// same slot, under the same ids, sealed anew, and the second takes the place of the first
// in one step when nothing of what was copied was removed. Cursors are ids with the expiry
// that is sealed in the entry: they stay good, and a follower sees the same entries before
// and after. What is appended meanwhile is copied too; the last few come over as they are
// with the step itself, which therefore wins however much is appended.
//
// Who copies holds a token for as long as it goes on, and all that it does asks for it and
// prolongs it. What a killed one leaves is removed by the next.
const (
	copyBegin = `local owner = redis.call('GET', KEYS[2])
if owner and owner ~= ARGV[1] and string.sub(owner, 1, 5) ~= 'done ' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ` + copyLease + `)
return 1`
	copyEntries = `if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('XADD', KEYS[1], ARGV[i], '` + fieldEntry + `', ARGV[i + 1]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ` + copyLease + `)
return 1`
	// copySwap counts. Ids only grow, and the copy has only ids of the first stream, none
	// above ARGV[2]: when the first has as many up to there, they are the same. ARGV[3] is
	// what was copied; after a failover less may have arrived. The greatest id ever given
	// moves along, or an id could be given twice. It may be repeated when its answer was lost.
	copySwap = `local owner = redis.call('GET', KEYS[3])
if owner == 'done ' .. ARGV[1] then return 1 end
if owner ~= ARGV[1] then return -1 end
local function about(key)
  local t, flat = {}, redis.call('XINFO', 'STREAM', key)
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end
local from, to = about(KEYS[1]), about(KEYS[2])
local rest = redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', ` + copyRest + `)
if #rest == ` + copyRest + ` then return 0 end
if tostring(to['length']) ~= ARGV[3] or from['length'] - #rest ~= to['length'] then return 2 end
for _, entry in ipairs(rest) do redis.call('XADD', KEYS[2], entry[1], unpack(entry[2])) end
redis.call('XSETID', KEYS[2], from['last-generated-id'], 'ENTRIESADDED', from['entries-added'], 'MAXDELETEDID', from['max-deleted-entry-id'])
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SET', KEYS[3], 'done ' .. ARGV[1], 'PX', ` + copyLease + `)
return 1`
	copyLease = "5000" // milliseconds
	copyRest  = "100"  // entries
)

// resealFeed counts what is stale in the feed, and replaces all of it when there is some,
// until there is none: what came over at last may have been sealed by a node that had not
// heard yet.
func (s *Store) resealFeed(ctx context.Context, stale func([]byte) bool, dry bool) (seen, changed int, err error) {
	const doing = "resealing the feed"
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	passed := map[string]bool{} // entries that do not open, by their bytes, and are passed over: see Lenient
	wanted := func(b []byte) bool { return stale(b) && !passed[string(b)] }
	for first := true; ; first = false {
		n, old, err := s.countFeed(ctx, doing, wanted)
		if first {
			seen = n
		}
		switch {
		case err != nil:
			return seen, changed, err
		case dry:
			return seen, old, nil
		case old == 0:
			return seen, changed, nil
		}
		c := &feedCopy{store: s, doing: doing, token: rand.Text(), stale: wanted, passed: passed}
		if err := c.run(ctx); err != nil {
			return seen, changed, err
		}
		changed += c.changed
	}
}

func (s *Store) countFeed(ctx context.Context, doing string, stale func([]byte) bool) (seen, old int, err error) {
	for after := ""; ; {
		page, err := s.rawEntries(ctx, doing, after)
		if err != nil {
			return 0, 0, err
		}
		for _, e := range page {
			if seen++; stale(e.b) {
				old++
			}
			after = e.name
		}
		if len(page) < feedPage {
			return seen, old, nil
		}
	}
}

// rawEntries reads the next page of entries as they lie in Redis; the name of each is its
// id. An entry of another form is not ours and stops the feed anyway, see openEntry.
func (s *Store) rawEntries(ctx context.Context, doing, after string) ([]sealedValue, error) {
	name, start := s.prefix+nameFeed, "-"
	if after != "" {
		start = "(" + after
	}
	messages, err := run(ctx, s, doing, name, again, func(ctx context.Context, c link) ([]goredis.XMessage, error) {
		return c.XRangeN(ctx, name, start, "+", feedPage).Result()
	})
	if err != nil {
		return nil, err
	}
	page := make([]sealedValue, 0, len(messages))
	for _, m := range messages {
		sealed, ok := m.Values[fieldEntry].(string)
		if !ok || len(m.Values) != 1 {
			return nil, stuck(doing, "the entry "+m.ID+" of "+name, errors.New("it has other fields than ours"))
		}
		page = append(page, sealedValue{m.ID, []byte(sealed)})
	}
	return page, nil
}

// feedCopy is a copy of the feed under way.
type feedCopy struct {
	store        *Store
	doing, token string
	stale        func([]byte) bool
	passed       map[string]bool

	last            string // id of the last entry that was copied
	copied, changed int
}

// run copies until the copy takes the feed's place.
func (c *feedCopy) run(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	for {
		if err := c.copy(ctx); err != nil || c.copied == 0 {
			return err // the feed is empty: nothing to replace
		}
		answer, err := c.eval(ctx, true, copySwap, []string{nameFeed, nameFeedCopy, nameFeedOwner}, c.last, c.copied)
		switch {
		case err != nil:
			return err
		case answer == 1:
			return nil
		case answer < 0:
			return c.taken()
		case answer == 2: // something was removed, here or, in a failover, there
			if err := c.begin(ctx); err != nil {
				return err
			}
		}
	}
}

// begin takes the token, waiting for another's to end.
func (c *feedCopy) begin(ctx context.Context) error {
	c.last, c.copied, c.changed = "", 0, 0
	for {
		answer, err := c.eval(ctx, false, copyBegin, []string{nameFeedCopy, nameFeedOwner})
		if err != nil || answer == 1 {
			return err
		}
		if !pause(ctx, 3) {
			return c.taken()
		}
	}
}

// copy copies what follows last.
func (c *feedCopy) copy(ctx context.Context) error {
	for {
		page, err := c.store.rawEntries(ctx, c.doing, c.last)
		if err != nil {
			return err
		}
		var args []any
		size := 0
		for i, e := range page {
			b, err := c.anew(ctx, e)
			if err != nil {
				return err
			}
			args, size = append(args, e.name, b), size+len(b)
			if size < copyBytes && i < len(page)-1 {
				continue
			}
			answer, err := c.eval(ctx, false, copyEntries, []string{nameFeedCopy, nameFeedOwner}, args...)
			if err != nil {
				return err
			}
			if answer != 1 {
				return c.taken()
			}
			c.copied, c.last, args, size = c.copied+len(args)/2, e.name, nil, 0
		}
		if len(page) < feedPage {
			return nil
		}
	}
}

// anew is the entry as it stands in the copy. What is not stale is copied as it is.
func (c *feedCopy) anew(ctx context.Context, e sealedValue) ([]byte, error) {
	if !c.stale(e.b) {
		return e.b, nil
	}
	stream := c.store.prefix + nameFeed
	out, changed, err := c.store.sealAnew(ctx, labelEntry+" "+stream, e.b)
	if err != nil && skips(ctx, stream+" "+e.name, e.b, err) {
		c.passed[string(e.b)] = true
		return e.b, nil
	}
	if err != nil {
		return nil, stuck(c.doing, "the entry "+e.name+" of "+stream, err)
	}
	if changed {
		c.changed++
	}
	return out, nil
}

// eval runs a script with our token. Only the last one, which may be repeated, has to
// outlive the server: a copy that is not whole never takes the feed's place.
func (c *feedCopy) eval(ctx context.Context, last bool, script string, names []string, args ...any) (int64, error) {
	all := []any{"EVAL", script, len(names)}
	for _, name := range names {
		all = append(all, c.store.prefix+name)
	}
	all = append(append(all, c.token), args...)
	r := once
	if last {
		r = change
	}
	return run(ctx, c.store, c.doing, c.store.prefix+nameFeed, r, func(ctx context.Context, l link) (int64, error) {
		cmd := goredis.NewIntCmd(ctx, all...)
		err := error(nil)
		if last {
			err = c.store.durable(ctx, l, cmd)
		} else {
			err = l.Process(ctx, cmd)
		}
		return cmd.Val(), err
	})
}

// taken says that the token is another's.
func (c *feedCopy) taken() error {
	return fmt.Errorf("%s: %w: another node does the same, or the server failed over: try again", c.doing, store.ErrUnavailable)
}
