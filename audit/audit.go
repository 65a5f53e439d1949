// Package audit keeps the record of who was let in where, and who was not: one line of
// JSON for each decision, in files that only grow.
//
// Call Open with a folder, hand the *Log to whoever decides, and Close it at the end.
// Off is for an operator who switches the audit off in so many words. The rule for
// callers is short: Record returned nil, or the request is refused.
//
// What it promises:
//
//   - Taken means written. Record returns nil after write(2) returned for the event's
//     whole line: it survives a kill -9 of this process. The file is fsynced once a
//     second and at Close, so a power cut costs at most about a second of events; an
//     fsync for every request would cost the application most of its speed.
//   - One writer puts all events that wait into one write, in one order, and answers
//     each caller. When a write fails, every caller of it gets ErrUnavailable and the
//     next write begins on a line of its own, after a record that says so. It may be
//     that some events of a failed write stand in the file: they say "allowed" of
//     requests that then got 503.
//   - Files are audit-2006-01-02.jsonl (UTC), then …-2.jsonl and so on when one would
//     exceed MaxBytes. Nothing is ever deleted or cut. A torn last line after a power
//     cut is closed with a newline and named by the next record.
//   - One event is one line, whatever its fields contain, and no field makes it long.
//
// Each record has "seq", which counts lines over all files and restarts without a hole,
// and "prev", the base64url SHA-256 (no padding) of the line before without its
// newline. Verify checks both. Be clear about what a plain chain shows: a record that
// was edited, removed, added or moved by someone who did not recompute all that
// follows, and every accident of disks and copies. It does not stop someone who can
// write the files from recomputing the rest, nor from cutting off the end. For that,
// copy the Head that Verify returns to another machine from time to time: the history
// up to a head cannot be changed without changing the head.
//
// It trusts the folder: mode 0700, files 0600, one process at a time (a lock file).
// What is left to the caller: what goes into an event (see Event), access to the
// files, copies elsewhere, and removing old files when the law says so; the newest one
// must stay, because the sequence continues from it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// ErrUnavailable says that an event was not taken: the disk is full or failing, the log
// is closed or too far behind, or the caller's context ended first. The request must
// not go on.
var ErrUnavailable = errors.New("audit log unavailable")

// ErrChain says that Verify found a record that does not follow from the one before.
var ErrChain = errors.New("audit log does not hang together")

const (
	defaultMaxBytes = 100 << 20
	maxWaiting      = 16 << 10 // events that may wait for the writer; more are refused
	maxGroupBytes   = 1 << 20  // bytes of one write(2), about
	syncEvery       = time.Second
)

// Config says where the log is. Only Dir is required.
type Config struct {
	// Dir is the folder of the log; it is created, mode 0700, when absent.
	Dir string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what an operator must know; nil means nowhere.
	Logger *slog.Logger
	// MaxBytes is the size above which a day's next file begins; 0 means 100 MiB.
	MaxBytes int64
}

// Log is an open audit log. It is a Recorder; the zero value takes no event.
type Log struct {
	dir      string
	now      func() time.Time
	log      *slog.Logger
	maxBytes int64
	lock     *os.File

	wake    chan struct{} // one token: events wait for the writer
	closing chan struct{} // closed by Close
	done    sync.WaitGroup
	once    sync.Once

	pendings sync.Pool // of *pending; of this log alone, as channels may not leave a test's bubble

	mu     sync.Mutex // guards queue and closed
	queue  []*pending
	closed bool

	disk   disk   // the system calls; tests put faults in their place
	writer writer // owned by the writer goroutine (by Open before it, by Close after it)
	syncer syncer // shared by the writer and the goroutine that fsyncs; has its own lock
}

var _ Recorder = (*Log)(nil)

// pending is one event on its way to the writer.
type pending struct {
	tail []byte     // the encoded event without what the writer adds in front
	done chan error // buffered: the writer never waits for a caller that went away
}

// Open opens the log in cfg.Dir and continues where it ended. It fails when another
// process has the folder, or when nothing can be written to it.
func Open(cfg Config) (*Log, error) { return open(cfg, systemDisk) }

func open(cfg Config, d disk) (*Log, error) {
	if cfg.Dir == "" {
		return nil, errors.New("opening the audit log: no folder given")
	}
	l := &Log{
		dir:      cfg.Dir,
		now:      cfg.Now,
		log:      cfg.Logger,
		maxBytes: cfg.MaxBytes,
		wake:     make(chan struct{}, 1),
		closing:  make(chan struct{}),
		disk:     d,
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.maxBytes <= 0 {
		l.maxBytes = defaultMaxBytes
	}
	if err := l.prepare(); err != nil {
		return nil, err
	}
	l.done.Add(2)
	go l.write()    // ends when Close closes l.closing
	go l.syncLoop() // ends when Close closes l.closing
	return l, nil
}

// Record hands the event to the writer and waits until it is written. Any error matches
// ErrUnavailable; the event may then be in the log or not.
func (l *Log) Record(ctx context.Context, e Event) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("recording an event: %w: %w", ErrUnavailable, err)
	}
	if e.Kind == "" {
		return fmt.Errorf("recording an event: %w: it has no kind", ErrUnavailable)
	}
	p, ok := l.pendings.Get().(*pending)
	if !ok {
		p = &pending{done: make(chan error, 1)}
	}
	p.tail = appendEvent(p.tail[:0], &e)
	if err := l.enqueue(p); err != nil {
		l.pendings.Put(p)
		return err
	}
	select {
	case err := <-p.done:
		l.pendings.Put(p)
		return err
	case <-ctx.Done():
		// p stays with the writer, which may be using it.
		return fmt.Errorf("recording an event: %w: %w", ErrUnavailable, ctx.Err())
	}
}

func (l *Log) enqueue(p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.wake == nil || l.closed:
		return fmt.Errorf("recording an event: %w: it is closed", ErrUnavailable)
	case len(l.queue) >= maxWaiting:
		return fmt.Errorf("recording an event: %w: %d events wait for the disk", ErrUnavailable, len(l.queue))
	}
	l.queue = append(l.queue, p)
	if len(l.queue) == 1 {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// Close writes what waits, fsyncs and releases the folder. Record fails afterwards.
func (l *Log) Close() error {
	var err error
	l.once.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.closing)
		l.done.Wait()
		l.retire()
		err = errors.Join(l.syncFiles(), l.lock.Close())
	})
	if err != nil {
		return fmt.Errorf("closing the audit log %s: %w", l.dir, err)
	}
	return nil
}
