package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// faults makes a real file fail. A write goes as far as room says, as on a disk that
// becomes full, and fails then.
type faults struct {
	mu   sync.Mutex // guards all fields
	room int        // bytes that can still be written; -1: no bound
	err  error      // what a write says that does not fit; nil: it is only short
	sync error      // what fsync says
	open error      // what opening says
	hold *hold      // of the next write; nil: none
}

// hold stops one write before it begins, and lets that one through whole.
type hold struct{ began, goOn chan struct{} }

type faultyFile struct {
	*os.File
	f *faults
}

func (f *faults) disk() disk {
	d := systemDisk
	d.free = func(string) (float64, error) { return 0.5, nil } // not the disk that the test happens to run on
	d.open = func(path string, create bool) (file, error) {
		f.mu.Lock()
		err := f.open
		f.mu.Unlock()
		if err != nil {
			return nil, err
		}
		opened, err := openAppend(path, create)
		if err != nil {
			return nil, err
		}
		return faultyFile{opened.(*os.File), f}, nil
	}
	return d
}

func (f *faults) set(change func(*faults)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (w faultyFile) Write(b []byte) (int, error) {
	w.f.mu.Lock()
	h := w.f.hold
	w.f.hold = nil
	w.f.mu.Unlock()
	if h != nil {
		close(h.began)
		<-h.goOn
		return w.File.Write(b)
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	if w.f.room < 0 {
		return w.File.Write(b)
	}
	fits := min(w.f.room, len(b))
	n, err := w.File.Write(b[:fits])
	if err != nil {
		return n, err
	}
	w.f.room -= n
	if fits < len(b) {
		return n, w.f.err
	}
	return n, nil
}

func (w faultyFile) Sync() error {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	return errors.Join(w.f.sync, w.File.Sync())
}

// TestRow179WriteFails: the disk is full after any number of bytes of a write. Every caller
// of that write is refused, the log goes on when there is room, says what happened, and
// still hangs together. No record, no access.
func TestRow179WriteFails(t *testing.T) {
	size := len(appendHead(nil, 2, appendTime(nil, newClock().at), make([]byte, hashLen))) + len(appendEvent(nil, &Event{Kind: "request", Name: "x"}))
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO, nil} {
		for _, room := range []int{0, 1, 10, size - 1, size, size + 1, 2*size - 1} {
			t.Run(fmt.Sprintf("%v after %d bytes", fault, room), func(t *testing.T) {
				f := &faults{room: -1}
				dir := t.TempDir()
				l := openLog(t, Config{Dir: dir}, f.disk())
				take(t, l, "before")
				f.set(func(f *faults) { f.room, f.err = room, fault })
				group(t, l, f, 3, func(err error) {
					if !errors.Is(err, ErrUnavailable) || fault != nil && !errors.Is(err, fault) {
						t.Errorf("error is %v", err)
					}
				})
				f.set(func(f *faults) { f.room = 0 })
				for range 3 { // still full: the torn line cannot be closed either
					if err := l.Record(t.Context(), request("no")); !errors.Is(err, ErrUnavailable) {
						t.Fatalf("on a full disk: %v", err)
					}
				}
				f.set(func(f *faults) { f.room = -1 })
				take(t, l, "after", "after")
				x := verify(t, dir)
				all := lines(t, dir)
				if n := len(all); x.Lines != n || !strings.Contains(all[n-3], `"kind":"log","reason":"write-failed"`) {
					t.Errorf("the failure is not noted:\n%s", strings.Join(all, "\n"))
				}
				if strings.Contains(strings.Join(all, ""), `"no"`) {
					t.Error("an event that found no room is in the log")
				}
			})
		}
	}
}

// group has n events wait for the writer while another one is being written, so that
// one write takes them all, and hands the answer of each to check.
func group(t *testing.T, l *Log, f *faults, n int, check func(error)) {
	t.Helper()
	h := &hold{make(chan struct{}), make(chan struct{})}
	f.set(func(f *faults) { f.hold = h })
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Record(t.Context(), Event{Kind: "request", Name: "held"}); err != nil {
			t.Error(err)
		}
	})
	<-h.began
	for range n {
		wg.Go(func() { check(l.Record(t.Context(), Event{Kind: "request", Name: "x"})) })
	}
	for waiting := 0; waiting < n; runtime.Gosched() {
		l.mu.Lock()
		waiting = len(l.queue)
		l.mu.Unlock()
	}
	close(h.goOn)
	wg.Wait()
}

// TestRow179NoFile: the newest file cannot be opened any more, or the next one cannot
// be made.
func TestRow179NoFile(t *testing.T) {
	f, clock, dir := &faults{room: -1}, newClock(), t.TempDir()
	l := openLog(t, Config{Dir: dir, Now: clock.now}, f.disk())
	take(t, l, "before")
	f.set(func(f *faults) { f.open = syscall.EMFILE })
	clock.advance(24 * time.Hour)
	for range 3 {
		if err := l.Record(t.Context(), request("no")); !errors.Is(err, ErrUnavailable) || !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("error is %v", err)
		}
	}
	f.set(func(f *faults) { f.open = nil })
	take(t, l, "after")
	if x := verify(t, dir); x.Files != 2 || x.Lines != 3 {
		t.Fatalf("Verify: %+v", x)
	}
	if _, err := open(Config{Dir: t.TempDir(), Now: clock.now}, (&faults{open: syscall.EACCES}).disk()); !errors.Is(err, syscall.EACCES) {
		t.Errorf("Open without a file: %v", err)
	}
}

// TestRow179Stalled: a disk that hangs neither holds a caller longer than its context
// nor lets the queue grow without bound.
func TestRow179Stalled(t *testing.T) {
	f := &faults{room: -1}
	l := openLog(t, Config{Dir: t.TempDir()}, f.disk())
	h := &hold{make(chan struct{}), make(chan struct{})}
	f.set(func(f *faults) { f.hold = h })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.Record(ctx, request("x")); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	})
	<-h.began
	cancel()
	wg.Wait()
	for range maxWaiting {
		if err := l.enqueue(&pending{tail: []byte("}\n"), done: make(chan error, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Record(t.Context(), request("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("one event more than may wait: %v", err)
	}
	close(h.goOn)
}

// TestSync: what was written is fsynced within a second; a failed fsync is told to the
// operator and noted in the log.
func TestSync(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &faults{room: -1, sync: syscall.EIO}
		l, err := open(Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))}, f.disk())
		if err != nil {
			t.Fatal(err)
		}
		second := func() {
			<-time.After(syncEvery + 1)
			synctest.Wait()
		}
		second()
		if log.Len() > 0 {
			t.Fatalf("nothing was written, and yet: %s", log.String())
		}
		take(t, l, "a")
		second()
		if !strings.Contains(log.String(), "fsync of the audit log failed") {
			t.Errorf("the operator was told %q", log.String())
		}
		f.set(func(f *faults) { f.sync = nil })
		second()
		take(t, l, "b")
		second()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if got := records(t, dir); len(got) != 3 || got[1].Kind != kindLog || got[1].Reason != noteSync {
		t.Fatalf("records: %+v", got)
	}
	verify(t, dir)
}

// TestMoved: a log rotation of somebody else takes the open file away. Events must not
// go on into a file without a name.
func TestMoved(t *testing.T) {
	for name, move := range map[string]func(path string) error{
		"moved":   func(path string) error { return os.Rename(path, path+".1") },
		"removed": os.Remove,
		"replaced by an empty one": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				l, err := Open(Config{Dir: dir})
				if err != nil {
					t.Fatal(err)
				}
				take(t, l, "a", "b")
				path := filepath.Join(dir, fileNames(t, dir))
				if err := move(path); err != nil {
					t.Fatal(err)
				}
				<-time.After(syncEvery + 1)
				synctest.Wait()
				take(t, l, "c")
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			})
			got := records(t, dir)
			if len(got) != 2 || got[0].Seq != 3 || got[0].Reason != noteMoved || got[0].Prev == "" || got[1].Name != "c" {
				t.Fatalf("records: %+v", got)
			}
			if x := verify(t, dir); x.First != 3 || x.Last != 4 {
				t.Fatalf("Verify: %+v", x)
			}
		})
	}
}

// TestErrorsAreNotAFlood: a disk that stays full must not fill the operator's log.
func TestErrorsAreNotAFlood(t *testing.T) {
	var log bytes.Buffer
	f, clock := &faults{room: -1, err: syscall.ENOSPC}, newClock()
	l := openLog(t, Config{Dir: t.TempDir(), Now: clock.now, Logger: slog.New(slog.NewTextHandler(&log, nil))}, f.disk())
	take(t, l, "a")
	f.set(func(f *faults) { f.room = 0 })
	for range 50 {
		if err := l.Record(t.Context(), request("x")); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	clock.advance(errorEvery)
	if err := l.Record(t.Context(), request("x")); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "writing to the audit log failed"); n != 2 {
		t.Errorf("%d lines in the operator's log; want 2", n)
	}
}
