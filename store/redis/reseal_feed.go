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
// in one step when the first has still just the entries that were copied. Cursors are ids
// with the expiry that is sealed in the entry: they stay good, and a follower sees the same
// entries before and after. What is appended meanwhile is copied too, until the step wins.
//
// Who copies writes a token first, and all that it does asks for the token: of two, the
// later one goes on, and the earlier one's copy is gone. What a killed one leaves is removed
// by the next.
const (
	copyBegin = `redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1])
return 1`
	copyEntries = `if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('XADD', KEYS[1], ARGV[i], '` + fieldEntry + `', ARGV[i + 1]) end
return 1`
	// copySwap compares lengths and the last entries: ids only grow, and the copy has only
	// ids of the first stream, so that both have the same. The greatest id ever given moves
	// along, or an id could be given twice. It may be repeated when its answer was lost.
	copySwap = `local owner = redis.call('GET', KEYS[3])
if owner == 'done ' .. ARGV[1] then return 1 end
if owner ~= ARGV[1] then return -1 end
local function about(key)
  local t, flat = {}, redis.call('XINFO', 'STREAM', key)
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end
local from, to = about(KEYS[1]), about(KEYS[2])
if from['length'] ~= to['length'] or tostring(to['length']) ~= ARGV[3] or from['length'] == 0 then return 0 end
if from['last-entry'][1] ~= ARGV[2] or to['last-entry'][1] ~= ARGV[2] then return 0 end
redis.call('XSETID', KEYS[2], from['last-generated-id'], 'ENTRIESADDED', from['entries-added'], 'MAXDELETEDID', from['max-deleted-entry-id'])
redis.call('RENAME', KEYS[2], KEYS[1])
redis.call('SET', KEYS[3], 'done ' .. ARGV[1])
return 1`
)

// resealFeed counts what is stale in the feed, and replaces all of it when there is some.
func (s *Store) resealFeed(ctx context.Context, stale func([]byte) bool, dry bool) (seen, changed int, err error) {
	const doing = "resealing the feed"
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	for after := ""; ; {
		page, err := s.rawEntries(ctx, doing, after)
		if err != nil {
			return 0, 0, err
		}
		for _, e := range page {
			if seen++; stale(e.b) {
				changed++
			}
			after = e.name
		}
		if len(page) < feedPage {
			break
		}
	}
	if dry || changed == 0 {
		return seen, changed, nil
	}
	c := &feedCopy{store: s, doing: doing, token: rand.Text(), stale: stale}
	if err := c.run(ctx); err != nil {
		return seen, 0, err
	}
	return seen, c.changed, nil
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

	last            string // id of the last entry that was copied
	copied, changed int
}

// run copies until the copy takes the feed's place.
func (c *feedCopy) run(ctx context.Context) error {
	if err := c.begin(ctx); err != nil {
		return err
	}
	for {
		before := c.copied
		if err := c.copy(ctx); err != nil {
			return err
		}
		answer, err := c.eval(ctx, true, copySwap, []string{nameFeed, nameFeedCopy, nameFeedOwner}, c.last, c.copied)
		switch {
		case err != nil:
			return err
		case answer == 1:
			return nil
		case answer < 0:
			return c.taken()
		case before == c.copied:
			// Nothing was added: something was removed, here or, in a failover, there.
			if err := c.begin(ctx); err != nil {
				return err
			}
		}
	}
}

func (c *feedCopy) begin(ctx context.Context) error {
	c.last, c.copied, c.changed = "", 0, 0
	_, err := c.eval(ctx, false, copyBegin, []string{nameFeedCopy, nameFeedOwner})
	return err
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
	return fmt.Errorf("%s: %w: another node began to do the same, or the server failed over: try again", c.doing, store.ErrUnavailable)
}
