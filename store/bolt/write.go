package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync/atomic"

	bolt "go.etcd.io/bbolt"

	"github.com/anteroom-proxy/anteroom/store"
)

// Bounds of one transaction: whatever waits is taken, up to these. They keep the
// memory of a group and the time that its first caller waits within reason.
const (
	maxGroup      = 256
	maxGroupBytes = 4 << 20
)

// change is one call that wants to write. The writer goroutine runs it inside a
// transaction, once at most, and answers through done after the commit.
type change struct {
	run   func(*group) error
	size  int // bytes that it adds, roughly
	state atomic.Uint32
	own   error      // what run said, set by the writer
	done  chan error // buffered: the writer never waits for a caller that went away
}

// States of a change. A caller whose context ends moves waiting to withdrawn and can
// then be sure that nothing happens; once running, the outcome is unknown to it.
const (
	waiting uint32 = iota
	running
	withdrawn
)

// group is one write transaction that several changes share. Each change decides
// before it writes: one that returns store.ErrNotFound or store.ErrConflict has
// touched nothing, so that the others of its group need not be undone.
type group struct {
	keys, feed *bolt.Bucket
	dirty      bool  // something was written; without it there is nothing to commit
	grown      bool  // the feed got an entry
	broken     error // the first error of bbolt itself: the whole group fails
}

func (g *group) put(key string, stored []byte) error {
	g.dirty = true
	return g.note(g.keys.Put([]byte(key), stored))
}

func (g *group) delete(key string) error {
	if g.keys.Get([]byte(key)) == nil {
		return nil
	}
	g.dirty = true
	return g.note(g.keys.Delete([]byte(key)))
}

func (g *group) append(stored []byte) (uint64, error) {
	g.dirty, g.grown = true, true
	seq, err := g.feed.NextSequence()
	if err != nil {
		return 0, g.note(err)
	}
	return seq, g.note(g.feed.Put(feedKey(seq), stored))
}

func (g *group) note(err error) error {
	if err != nil && g.broken == nil {
		g.broken = err
	}
	return err
}

// change hands fn to the writer and waits until its transaction is on the disk.
func (s *Store) change(ctx context.Context, doing string, size int, fn func(*group) error) error {
	if err := ctx.Err(); err != nil {
		return unavailable(doing, err)
	}
	if s.hurt.Load() {
		return unavailable(doing, errHurt)
	}
	c := &change{run: fn, size: size, done: make(chan error, 1)}
	select {
	case <-s.closing:
		return unavailable(doing, errClosed)
	default:
	}
	select {
	case s.queue <- c:
	case <-s.closing:
		return unavailable(doing, errClosed)
	case <-ctx.Done():
		return unavailable(doing, ctx.Err())
	}
	select {
	case err := <-c.done:
		return answer(doing, err)
	case <-ctx.Done():
		c.state.CompareAndSwap(waiting, withdrawn)
		return unavailable(doing, ctx.Err())
	case <-s.stopped:
	}
	// Close ran at the same time: the change may have come before the last group or
	// after it.
	select {
	case err := <-c.done:
		return answer(doing, err)
	default:
		return unavailable(doing, errClosed)
	}
}

func answer(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict):
		return fmt.Errorf("%s: %w", doing, err)
	default:
		return unavailable(doing, err)
	}
}

// write is the only goroutine that changes the file. It takes whatever waits, runs it
// in one transaction and answers. After Close it finishes what is already queued, so
// that no caller waits for ever.
func (s *Store) write() {
	defer s.done.Done()
	defer close(s.stopped)
	for {
		select {
		case c := <-s.queue:
			s.commit(s.gather(c))
		case <-s.closing:
			s.drain()
			return
		}
	}
}

// drain answers the changes that were queued before Close. A caller that slips in
// after it is released by s.stopped.
func (s *Store) drain() {
	for {
		select {
		case c := <-s.queue:
			s.commit(s.gather(c))
		default:
			return
		}
	}
}

func (s *Store) gather(first *change) []*change {
	changes := []*change{first}
	for size := first.size; len(changes) < maxGroup && size < maxGroupBytes; {
		select {
		case c := <-s.queue:
			changes = append(changes, c)
			size += c.size
		default:
			return changes
		}
	}
	return changes
}

// commit runs the changes and answers each of them.
func (s *Store) commit(changes []*change) {
	err := s.transact(changes)
	if err != nil {
		s.broken = true
		s.log.Error("writing to the embedded store failed; what waited for it is refused", "file", s.path, "changes", len(changes), "error", err)
	}
	for _, c := range changes {
		if err != nil {
			c.done <- err
			continue
		}
		c.done <- c.own
	}
}

// transact runs the changes in one transaction. An error means that none of them may
// be believed to have happened, although a failed last fsync can leave all of them
// in the file.
func (s *Store) transact(changes []*change) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	var tx *bolt.Tx
	defer func() {
		if r := recover(); r != nil {
			err = s.hurtBy(r)
		} else if tx != nil {
			// After a commit this does nothing. bbolt leaves a transaction open on one of
			// its error paths, and an open one would block the next Begin for ever.
			_ = tx.Rollback()
		}
	}()
	if s.hurt.Load() {
		return errHurt
	}
	if err := s.repair(); err != nil {
		return err
	}
	if tx, err = s.db.Begin(true); err != nil { // only this goroutine sets s.db while it runs
		return err
	}
	g := &group{keys: tx.Bucket([]byte(labelKeys)), feed: tx.Bucket([]byte(labelFeed))}
	for _, c := range changes {
		if c.state.CompareAndSwap(waiting, running) {
			c.own = c.run(g)
		}
		if g.broken != nil {
			return g.broken
		}
	}
	if !g.dirty {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if g.grown {
		s.tell()
	}
	return s.inPlace()
}

// inPlace makes sure that what was committed will be there after a restart: the open file is still the
// one at the path. Somebody who removes or replaces it while we run leaves us with a file that nobody
// will find again; nothing is acknowledged from then on.
func (s *Store) inPlace() error {
	ours, err := s.file.Stat() // only this goroutine sets s.file while it runs
	if err != nil {
		return err
	}
	if there, err := os.Stat(s.path); err == nil && os.SameFile(ours, there) {
		return nil
	}
	if !s.hurt.Swap(true) {
		s.log.Error("the store's file was removed or replaced while it was in use; nothing is stored or read any more: put the file back and restart", "file", s.path)
	}
	return errHurt
}

// repair opens the file anew after a transaction that failed. When the very last fsync
// of a commit fails, bbolt's free list in memory and the file's meta page disagree, and
// a later write could overwrite pages that are in use; a fresh look at the file cannot.
func (s *Store) repair() error {
	if !s.broken {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil {
		_ = s.db.Close()
		s.db = nil
	}
	db, file, err := s.openFile()
	if err != nil {
		return err
	}
	s.db, s.file, s.broken = db, file, false
	s.tell() // a failed last fsync can leave entries in the file that nobody was told of
	s.log.Info("the embedded store was opened anew after a failed write", "file", s.path)
	return nil
}
