package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

var _ store.Sealed = (*Store)(nil)

const (
	resealPage     = 500 // values or files that one call looks at
	resealTogether = 50  // values that are sealed anew with one acknowledgement
	resealWorkers  = 4   // shares at a time
)

// The parts of a walk over all that is sealed, as they begin cursors.
const (
	partValues = "v"
	partProbe  = "p"
	partFiles  = "f"
	partFeed   = "s"
)

// Reseal implements store.Sealed: the values, the probe, the files with their index, and the
// feed, which is one call as a whole. Bytes that are not stale are left alone, whether they
// open or not. A stale one that does not open stops it, with its name in Redis in the error:
// it was forged, or its key is gone.
//
// Each value is exchanged for the same value in one step that fails when somebody wrote it
// meanwhile; a kill at any moment leaves it sealed under the one key or the other, and both
// open.
func (s *Store) Reseal(ctx context.Context, cursor string, stale func(sealed []byte) bool, dry bool) (next string, seen, changed int, err error) {
	part, rest, _ := strings.Cut(cursor, ":")
	switch part {
	case "", partValues:
		at, err := parsePlace(rest)
		if err != nil || part == "" && cursor != "" {
			return "", 0, 0, errCursor
		}
		place, seen, changed, err := s.resealValues(ctx, at, stale, dry)
		next = partProbe
		if place != nil {
			next = partValues + ":" + place.String()
		}
		return next, seen, changed, err
	case partProbe:
		if rest != "" {
			return "", 0, 0, errCursor
		}
		seen, changed, err = s.resealProbe(ctx, stale, dry)
		return partFiles, seen, changed, err
	case partFiles:
		if rest != "" && !idForm(rest) {
			return "", 0, 0, errCursor
		}
		last, seen, changed, err := s.Files().reseal(ctx, rest, stale, dry)
		next = partFeed
		if last != "" {
			next = partFiles + ":" + last
		}
		return next, seen, changed, err
	case partFeed:
		if rest != "" {
			return "", 0, 0, errCursor
		}
		seen, changed, err = s.resealFeed(ctx, stale, dry)
		return "", seen, changed, err
	}
	return "", 0, 0, errCursor
}

var errCursor = fmt.Errorf("resealing: %w: not a cursor of this store", store.ErrInvalid)

// sealAnew opens what any key of ours sealed and seals it under the present one.
func (s *Store) sealAnew(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error) {
	if r, ok := s.sealer.(resealer); ok {
		return r.Reseal(ctx, label, sealed)
	}
	plain, err := s.sealer.Open(ctx, label, sealed)
	if err == nil {
		out, err = s.sealer.Seal(ctx, label, plain)
	}
	return out, err == nil, err
}

// stuck says that a stale value does not open.
func stuck(doing, what string, err error) error {
	return fmt.Errorf("%s: %w: %s does not open, although the key that it names is wanted: somebody wrote it, or the key is gone; remove it: %w", doing, store.ErrUnavailable, what, err)
}

func (s *Store) resealValues(ctx context.Context, at place, stale func([]byte) bool, dry bool) (next *place, seen, changed int, err error) {
	const doing = "resealing values"
	page, next, err := s.walk(ctx, doing, at, resealPage)
	if err != nil {
		return nil, 0, 0, err
	}
	var old []sealedValue
	for _, v := range page {
		if stale(v.b) {
			old = append(old, v)
		}
	}
	if dry {
		return next, len(page), len(old), nil
	}
	var mu sync.Mutex // guards changed, err, and stale, which the caller need not make safe for several goroutines
	alone := func(b []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return stale(b)
	}
	var group sync.WaitGroup
	shares := slices.Collect(slices.Chunk(old, resealTogether))
	var taken atomic.Int64
	for range min(resealWorkers, len(shares)) {
		group.Go(func() {
			for i := taken.Add(1) - 1; i < int64(len(shares)); i = taken.Add(1) - 1 {
				n, failed := s.resealShare(ctx, doing, shares[i], alone)
				mu.Lock()
				changed += n
				if failed != nil && err == nil {
					err = failed
				}
				stop := err != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	group.Wait()
	return next, len(page), changed, err
}

// resealShare seals some values of one server anew, with one acknowledgement for all. What
// that does not do, because the value is another one by now, lies on another server or does
// not open, is done one by one.
func (s *Store) resealShare(ctx context.Context, doing string, share []sealedValue, stale func([]byte) bool) (changed int, err error) {
	anew := make([][]byte, len(share))
	var rest []sealedValue
	var todo []int
	for i, v := range share {
		out, did, err := s.sealAnew(ctx, labelValue+" "+v.name, v.b)
		if err != nil {
			rest = append(rest, v)
		} else if did {
			anew[i] = out
			todo = append(todo, i)
		}
	}
	if len(todo) > 0 {
		won, err := run(ctx, s, doing, share[todo[0]].name, change, func(ctx context.Context, c link) ([]bool, error) {
			cmds, won := make([]goredis.Cmder, len(todo)), make([]bool, len(todo))
			for n, i := range todo {
				cmds[n] = goredis.NewIntCmd(ctx, "EVAL", swapScript, 1, share[i].name, share[i].b, anew[i], keep.Milliseconds())
			}
			err := s.durable(ctx, c, cmds...)
			for n, cmd := range cmds {
				won[n] = cmd.Err() == nil && cmd.(*goredis.IntCmd).Val() == 1
			}
			return won, err
		})
		if err != nil {
			return 0, err
		}
		for n, i := range todo {
			if won[n] {
				changed++
			} else {
				rest = append(rest, share[i])
			}
		}
	}
	for _, v := range rest {
		did, err := s.resealAt(ctx, doing, labelValue, v, stale)
		if err != nil {
			return changed, err
		}
		if did {
			changed++
		}
	}
	return changed, nil
}

// resealAt seals one value anew, unless somebody does so first or removes it. Its name is
// part of its label.
func (s *Store) resealAt(ctx context.Context, doing, label string, v sealedValue, stale func([]byte) bool) (bool, error) {
	for range attempts * 4 {
		out, changed, err := s.sealAnew(ctx, label+" "+v.name, v.b)
		if err == nil && !changed {
			return false, nil
		}
		if err == nil {
			won, err := s.swap(ctx, doing, v.name, v.b, out, keep)
			if won || err != nil {
				return won, err
			}
		}
		present, readErr := run(ctx, s, doing, v.name, again, func(ctx context.Context, c link) ([]byte, error) {
			b, err := c.Get(ctx, v.name).Bytes()
			return b, absent(err)
		})
		switch {
		case errors.Is(readErr, store.ErrNotFound):
			return false, nil
		case readErr != nil:
			return false, readErr
		case err != nil && bytes.Equal(present, v.b) && skips(ctx, v.name, v.b, err):
			return false, nil
		case err != nil && bytes.Equal(present, v.b):
			return false, stuck(doing, v.name, err)
		case !stale(present):
			return false, nil
		}
		v.b = present
	}
	return false, fmt.Errorf("%s: %w: others change %s all the time", doing, store.ErrUnavailable, v.name)
}

func (s *Store) resealProbe(ctx context.Context, stale func([]byte) bool, dry bool) (seen, changed int, err error) {
	const doing = "resealing the probe"
	name := s.prefix + nameProbe
	there, err := s.readProbe(ctx, doing, name)
	if err != nil || there == nil {
		return 0, 0, err
	}
	if !stale(there) {
		return 1, 0, nil
	}
	if dry {
		return 1, 1, nil
	}
	did, err := s.resealAt(ctx, doing, labelProbe, sealedValue{name, there}, stale)
	if did {
		changed = 1
	}
	return 1, changed, err
}

// resealFile exchanges entry and content of one file in one step, see putFile, when both
// are still what was read. An absent content is "".
const resealFile = `local entry, content = redis.call('HGET', KEYS[1], ARGV[1]) or '', redis.call('GET', KEYS[2]) or ''
if entry == ARGV[3] and content == ARGV[5] then return 1 end
if entry ~= ARGV[2] or content ~= ARGV[4] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
if ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5]) end
return 1`

// reseal looks at the next files after the one whose id is last, and returns the last of
// them, or "" at the end.
func (f *Files) reseal(ctx context.Context, last string, stale func([]byte) bool, dry bool) (next string, seen, changed int, err error) {
	const doing = "resealing files"
	all, err := run(ctx, f.store, doing, f.indexName(), again, func(ctx context.Context, c link) (map[string]string, error) {
		return c.HGetAll(ctx, f.indexName()).Result()
	})
	if err != nil {
		return "", 0, 0, err
	}
	var ids []string
	for id := range all {
		if !idForm(id) {
			if skips(ctx, f.indexName(), []byte(all[id]), nil) {
				continue
			}
			return "", 0, 0, stuck(doing, fmt.Sprintf("the field %.80q of %s", id, f.indexName()), errors.New("it is not a name of ours"))
		}
		if id > last {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if len(ids) > resealPage {
		ids = ids[:resealPage]
		next = ids[len(ids)-1]
	}
	for _, id := range ids {
		a, b, err := f.resealOne(ctx, doing, id, stale, dry)
		seen, changed = seen+a, changed+b
		if err != nil {
			return "", seen, changed, err
		}
	}
	return next, seen, changed, nil
}

// fileBytes are the entry and the content of a file as they lie in Redis.
type fileBytes struct{ entry, content []byte }

func (f *Files) resealOne(ctx context.Context, doing, id string, stale func([]byte) bool, dry bool) (seen, changed int, err error) {
	for range attempts * 4 {
		there, err := f.bytes(ctx, doing, id)
		if err != nil || there.entry == nil {
			return 0, 0, err
		}
		anew := there
		changed = 0
		seen = 1
		for _, x := range []struct {
			label    string
			from, to *[]byte
		}{{labelFileEntry, &there.entry, &anew.entry}, {labelFile, &there.content, &anew.content}} {
			if len(*x.from) == 0 {
				continue
			}
			if x.label == labelFile {
				seen++
			}
			if !stale(*x.from) {
				continue
			}
			changed++
			if dry {
				continue
			}
			out, did, err := f.store.sealAnew(ctx, x.label+" "+f.fileName(id), *x.from)
			if err != nil && skips(ctx, f.fileName(id), *x.from, err) {
				changed--
				continue
			}
			if err != nil {
				return seen, 0, stuck(doing, "the file "+f.fileName(id), err)
			}
			if !did {
				changed--
			}
			*x.to = out
		}
		if dry || changed == 0 {
			return seen, changed, nil
		}
		won, err := run(ctx, f.store, doing, f.indexName(), change, func(ctx context.Context, c link) (bool, error) {
			cmd := goredis.NewIntCmd(ctx, "EVAL", resealFile, 2, f.indexName(), f.fileName(id), id, there.entry, anew.entry, there.content, anew.content)
			err := f.store.durable(ctx, c, cmd)
			return err == nil && cmd.Val() == 1, err
		})
		if won || err != nil {
			return seen, changed, err
		}
	}
	return 0, 0, fmt.Errorf("%s: %w: others change %s all the time", doing, store.ErrUnavailable, f.fileName(id))
}

// bytes reads entry and content; what is absent is nil.
func (f *Files) bytes(ctx context.Context, doing, id string) (fileBytes, error) {
	return run(ctx, f.store, doing, f.indexName(), again, func(ctx context.Context, c link) (fileBytes, error) {
		pipe := c.Pipeline()
		entry, content := pipe.HGet(ctx, f.indexName(), id), pipe.Get(ctx, f.fileName(id))
		_, _ = pipe.Exec(ctx) // each command has its own error
		var there fileBytes
		for _, x := range []struct {
			cmd *goredis.StringCmd
			to  *[]byte
		}{{entry, &there.entry}, {content, &there.content}} {
			b, err := x.cmd.Bytes()
			if err != nil && !errors.Is(err, goredis.Nil) {
				return fileBytes{}, err
			}
			if err == nil {
				*x.to = b
			}
		}
		return there, nil
	})
}
