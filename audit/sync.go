package audit

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// syncer holds the open files between the writer, which writes and changes them, and
// the goroutine below, which alone fsyncs and closes them: a slow disk then delays no
// request, and no file is closed while it is being synced.
type syncer struct {
	dirty atomic.Bool // something was written since the last fsync

	mu      sync.Mutex // guards the rest
	current file
	path    string // of current
	retired []file // waiting to be fsynced and closed
	trouble string // reason for the writer to open the file again; "" for none

	lastWarning time.Time // of the disk's free space; only the goroutine below uses it
}

// setCurrent changes the open file; the one before is retired.
func (s *syncer) setCurrent(f file, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		s.retired = append(s.retired, s.current)
	}
	s.current, s.path, s.trouble = f, path, ""
}

func (s *syncer) takeTrouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	reason := s.trouble
	s.trouble = ""
	return reason
}

func (s *syncer) setTrouble(f file, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == f {
		s.trouble = reason
	}
}

// spaceEvery is how often the free space is looked at, in turns of syncLoop: a minute.
const spaceEvery = 60

// syncLoop fsyncs once a second until Close.
func (l *Log) syncLoop() {
	defer l.done.Done()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	l.checkSpace()
	for turn := 1; ; turn++ {
		select {
		case <-tick.C:
			if err := l.syncFiles(); err != nil {
				l.log.Error("fsync of the audit log failed: events of the last second may not survive a power cut; look after the disk", "folder", l.dir, "error", err)
			}
			l.checkMoved()
			if turn%spaceEvery == 0 {
				l.checkSpace()
			}
		case <-l.closing:
			return
		}
	}
}

// syncFiles makes durable what was written and closes the files that are done with.
func (l *Log) syncFiles() error {
	s := &l.syncer
	s.mu.Lock()
	retired, current := s.retired, s.current
	s.retired = nil
	s.mu.Unlock()
	var errs []error
	for _, f := range retired {
		errs = append(errs, f.Sync(), f.Close())
	}
	if current != nil && s.dirty.Swap(false) {
		if err := current.Sync(); err != nil {
			errs = append(errs, err)
			s.setTrouble(current, noteSync)
		}
	}
	return errors.Join(errs...)
}

// checkMoved finds out when somebody moved or removed the file that is being written:
// events would go on into a file without a name and be gone at the next restart.
func (l *Log) checkMoved() {
	s := &l.syncer
	s.mu.Lock()
	current, path := s.current, s.path
	s.mu.Unlock()
	if current != nil && moved(current, path) {
		l.log.Error("the audit log's file was moved or removed while it was written; a new one is begun: leave the newest file where it is", "file", path)
		s.setTrouble(current, noteMoved)
	}
}

// The free space below which an operator is told, and how often.
const (
	spaceLow     = 0.10
	warningEvery = time.Hour
)

func (l *Log) checkSpace() {
	free, err := l.disk.free(l.dir)
	if err != nil || free >= spaceLow {
		return
	}
	s := &l.syncer
	if now := l.now(); s.lastWarning.IsZero() || now.Sub(s.lastWarning) >= warningEvery {
		s.lastWarning = now
		l.log.Warn("the disk of the audit log is nearly full; when it is full, requests are refused: make room", "folder", l.dir, "free_percent", int(free*100))
	}
}
