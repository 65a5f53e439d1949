// Package bolt is the embedded store: one file on the local disk, no other
// process. It is what a single node uses when the Caddyfile names no store.
//
// Open makes the file (mode 0600, folders 0700) or opens it; Close lets go of it.
// It keeps the contract of package store and adds these promises:
//
//   - Acknowledged means fsynced. A call that changes something returns nil only
//     after the transaction is on the disk, file and folder, so that neither a
//     kill -9 nor a power cut takes it back (as far as the disk honours fsync).
//     There is no switch that turns this off.
//   - Writers are grouped: one goroutine runs all changes that are waiting in one
//     transaction with one fsync, and answers all of them after it. A change that
//     finds nothing to do (a Take of an absent key, a lost CompareAndSwap) costs no
//     fsync, so that a stranger who replays old states cannot wear out the disk.
//   - Reads do not wait for writes. A reader can see a change a moment before its
//     fsync returned; what it decides on that (a revocation known too early) is on
//     the safe side, and a Take or CompareAndSwap never depends on it.
//   - Expired values are absent at once and are removed from the file in the
//     background, a bounded batch at a time.
//   - When a write fails (disk full), its callers get store.ErrUnavailable and the
//     file is opened anew before the next write, so that nothing in memory can
//     differ from the disk. A file that turns out damaged while it is open (a bad
//     block, a file cut short) does not end the process: everything is refused from
//     then on, and the operator is told.
//
// What it trusts: the file system's locks (one process at a time; do not put the
// file on a network file system) and whoever can write the file, since values are
// stored as they come. Whoever sets the file back to an older copy undoes what was
// revoked since then.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/anteroom-proxy/anteroom/store"
)

// lockTimeout is how long Open waits for another process to let go of the file:
// long enough for the old process of a restart to finish, short enough that an
// operator sees the message instead of a hanging start.
const lockTimeout = 3 * time.Second

// Config says where the store is. Only Path is required.
type Config struct {
	// Path is the file. It is created when absent.
	Path string
	// Now is the clock that expiry is judged by; nil means time.Now.
	Now func() time.Time
	// Logger gets what an operator must know; nil means nowhere.
	Logger *slog.Logger
}

// Store is an open file. It is a store.Store; the zero value is not usable.
type Store struct {
	path    string
	now     func() time.Time
	log     *slog.Logger
	maxSize int // tests: bbolt refuses to grow the file above it; 0 means no bound

	queue   chan *change
	closing chan struct{} // closed by Close: no new changes are taken
	stopped chan struct{} // closed by the writer goroutine when it has ended
	done    sync.WaitGroup
	once    sync.Once

	// news is closed and replaced by the writer when the feed may have grown.
	news atomic.Pointer[chan struct{}]

	// mu guards db and file: readers hold it shared while they use db, the writer holds
	// it alone while it opens the file anew. db is nil after Close and after a reopen
	// that failed. file is what db has open.
	mu   sync.RWMutex
	db   *bolt.DB
	file *os.File

	// broken is set by the writer after a transaction that failed; only the writer
	// goroutine touches it.
	broken bool

	// hurt is set when bbolt panicked or faulted. Its locks may then be held for ever,
	// so nobody calls it again in this process.
	hurt atomic.Bool
}

var _ store.Store = (*Store)(nil)

// Open opens the file at cfg.Path, creating it and its folders when absent. When
// another process holds it, Open waits three seconds and then says so.
func Open(cfg Config) (*Store, error) { return open(cfg, 0) }

func open(cfg Config, maxSize int) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("opening the embedded store: no path given")
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("opening the embedded store %q: %w", cfg.Path, err)
	}
	s := &Store{
		path:    path,
		now:     cfg.Now,
		log:     cfg.Logger,
		maxSize: maxSize,
		queue:   make(chan *change, maxGroup),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.tell()
	if err := s.prepare(); err != nil {
		return nil, err
	}
	if s.db, s.file, err = s.openFile(); err != nil {
		return nil, err
	}
	s.done.Add(2)
	go s.write() // ends when Close closes s.closing
	go s.sweep() // ends when Close closes s.closing
	return s, nil
}

// prepare makes the folders and narrows the mode of a file that others can read:
// it was made by a copy or a restored backup, never by us.
func (s *Store) prepare() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("opening the embedded store %s: making its folder: %w", s.path, err)
	}
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("opening the embedded store %s: %w", s.path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("opening the embedded store %s: it is not a regular file: give the store a path of its own", s.path)
	case info.Mode().Perm()&0o077 != 0:
		s.log.Warn("the store's file was open to other users of this machine; its mode is set to 0600", "file", s.path, "mode", info.Mode().Perm().String())
		if err := os.Chmod(s.path, 0o600); err != nil {
			return fmt.Errorf("opening the embedded store %s: it is open to other users and its mode cannot be changed: %w", s.path, err)
		}
	}
	return nil
}

// openFile opens the database and makes the buckets. bbolt panics on pages that do
// not fit each other and faults on pages behind the end of a file that was cut short;
// both become a message here.
func (s *Store) openFile() (db *bolt.DB, file *os.File, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if file != nil {
				_ = file.Close() // bbolt cannot close what it did not finish to open; this frees the lock
			}
			db, file, err = nil, nil, s.damaged(fmt.Errorf("%v", r))
		}
	}()
	db, err = bolt.Open(s.path, 0o600, &bolt.Options{
		Timeout:      lockTimeout,
		FreelistType: bolt.FreelistMapType,
		MaxSize:      s.maxSize,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			var err error
			file, err = os.OpenFile(name, flag, mode)
			return file, err
		},
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, nil, fmt.Errorf("opening the embedded store %s: another process has held it for %v: stop the other anteroom, or give this one a data directory of its own: %w",
			s.path, lockTimeout, err)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, nil, s.damaged(err)
	case err != nil:
		return nil, nil, fmt.Errorf("opening the embedded store %s: %w", s.path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{labelKeys, labelFeed} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = syncFolder(filepath.Dir(s.path))
	}
	if err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("opening the embedded store %s: %w", s.path, err)
	}
	return db, file, nil
}

func (s *Store) damaged(err error) error {
	return fmt.Errorf("opening the embedded store %s: the file is damaged or no store: restore a copy, or move it away to begin an empty one (everybody signs in again, and keys kept only there are lost): %w", s.path, err)
}

// syncFolder makes the file's name durable: without it a power cut after the first
// acknowledged write could take the whole file with it.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Close waits for the changes that are under way and releases the file.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		if s.hurt.Load() {
			// The writer or a reader may hang inside bbolt. Closing the file frees its lock
			// for whoever opens it next; the memory map goes with the process.
			err = s.file.Close()
			return
		}
		s.done.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.db != nil {
			err = s.db.Close()
			s.db = nil
		}
	})
	if err != nil {
		return fmt.Errorf("closing the embedded store %s: %w", s.path, err)
	}
	return nil
}

// unavailable wraps the cause so that errors.Is finds store.ErrUnavailable and, where
// the cause is a context's, that too.
func unavailable(doing string, cause error) error {
	return fmt.Errorf("%s: %w: %w", doing, store.ErrUnavailable, cause)
}

var (
	errClosed = errors.New("it is closed or could not be opened again")
	errHurt   = errors.New("its file is damaged, removed or replaced")
)

// hurtBy ends the use of the file after a panic inside bbolt.
func (s *Store) hurtBy(r any) error {
	if !s.hurt.Swap(true) {
		s.log.Error("the embedded store's file is damaged or cannot be read; everything that needs it is refused: look after the disk, restore the file and start again", "file", s.path, "cause", fmt.Sprint(r))
	}
	return errHurt
}

// view runs fn in a read transaction. The slices it sees are valid only inside.
func (s *Store) view(ctx context.Context, doing string, fn func(keys, feed *bolt.Bucket) error) (err error) {
	if err := ctx.Err(); err != nil {
		return unavailable(doing, err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.hurt.Load() {
		return unavailable(doing, errHurt)
	}
	if s.db == nil {
		return unavailable(doing, errClosed)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = unavailable(doing, s.hurtBy(r))
		}
	}()
	var own error // what fn says; everything else is bbolt's
	err = s.db.View(func(tx *bolt.Tx) error {
		own = fn(tx.Bucket([]byte(labelKeys)), tx.Bucket([]byte(labelFeed)))
		return nil
	})
	if err != nil {
		return unavailable(doing, err)
	}
	if own != nil {
		return fmt.Errorf("%s: %w", doing, own)
	}
	return nil
}
