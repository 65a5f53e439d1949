package bolt

import (
	"context"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The sweep looks at a bounded number of entries in one transaction, so that neither a
// huge file nor a burst of expiries makes a foreground write wait for long. It goes on at
// once while most of what it sees has expired, so that nobody fills the file faster than it
// is emptied. Reads honour expiry by themselves: the sweep only gives space back.
const (
	sweepEvery = 10 * time.Second
	sweepBatch = 2000
)

// position is where the next round goes on in each bucket; nil is the beginning.
type position struct {
	keys, feed []byte
	behind     bool // half a batch or more had expired: there is probably more
}

// sweep removes what has expired until Close.
func (s *Store) sweep() {
	defer s.done.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var at position
	for {
		select {
		case <-tick.C:
			for more := true; more; more = at.behind {
				if err := s.sweepOnce(ctx, &at); err != nil {
					s.log.Warn("removing expired values from the embedded store failed", "file", s.path, "error", err)
					break
				}
			}
		case <-s.closing:
			return
		}
	}
}

// sweepOnce looks at the next sweepBatch entries of each bucket and deletes those that
// have expired. With nothing expired it writes nothing. A store that could not be
// opened anew after a failed write is tried again here, by the change that follows.
func (s *Store) sweepOnce(ctx context.Context, at *position) error {
	var keys, feed [][]byte
	next := *at
	err := s.view(ctx, "looking for expired values", func(k, f *bolt.Bucket) error {
		now := s.now()
		keys, next.keys = expired(k, at.keys, now)
		feed, next.feed = expired(f, at.feed, now)
		next.behind = len(keys)+len(feed) >= sweepBatch/2
		return nil
	})
	if err == nil && len(keys)+len(feed) == 0 {
		*at = next
		return nil
	}
	err = s.change(ctx, "removing expired values", 0, func(tx *group) error {
		now := s.now()
		if err := tx.remove(tx.keys, keys, now); err != nil {
			return err
		}
		return tx.remove(tx.feed, feed, now)
	})
	if err == nil {
		*at = next
	}
	return err
}

// expired returns the expired keys among the next sweepBatch ones and where to go on.
func expired(b *bolt.Bucket, from []byte, now time.Time) (found [][]byte, next []byte) {
	c := b.Cursor()
	k, v := c.First()
	if from != nil {
		k, v = c.Seek(from)
	}
	for n := 0; k != nil; k, v = c.Next() {
		if n++; n > sweepBatch {
			return found, append([]byte{}, k...)
		}
		if _, alive := unpack(v, now); !alive {
			found = append(found, append([]byte{}, k...))
		}
	}
	return found, nil
}

// remove deletes the keys that are still expired: between the look and this
// transaction somebody may have stored a new value under one of them.
func (g *group) remove(b *bolt.Bucket, keys [][]byte, now time.Time) error {
	for _, k := range keys {
		v := b.Get(k)
		if v == nil {
			continue
		}
		if _, alive := unpack(v, now); alive {
			continue
		}
		g.dirty = true
		if err := g.note(b.Delete(k)); err != nil {
			return err
		}
	}
	return nil
}
