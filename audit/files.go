package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// file is what the log needs of an open file.
type file interface {
	Write([]byte) (int, error)
	Sync() error
	Close() error
}

// disk is the part of the system that tests replace to make it fail.
type disk struct {
	// open opens a file for appending; create makes it and fails when it exists.
	open func(path string, create bool) (file, error)
	// free returns which part of the file system is free to us, 0 to 1.
	free func(dir string) (float64, error)
}

var systemDisk = disk{open: openAppend, free: freeSpace}

// openAppend opens with O_APPEND, so that each write(2) lands at the end whatever else
// happens, and never follows a link that somebody put in the place of a log file.
func openAppend(path string, create bool) (file, error) {
	flags := os.O_WRONLY | os.O_APPEND | syscall.O_NOFOLLOW
	if create {
		flags |= os.O_CREATE | os.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func freeSpace(dir string) (float64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 {
		return 1, nil // a file system that does not count, such as some network ones
	}
	return float64(st.Bavail) / float64(st.Blocks), nil
}

// name is the name of a log file, taken apart.
type name struct {
	day  string // 2006-01-02, UTC
	part int    // 1 for the first of a day
}

const (
	namePrefix = "audit-"
	nameSuffix = ".jsonl"
	dayFormat  = time.DateOnly
	lockName   = "audit.lock"
)

func (n name) String() string {
	if n.part == 1 {
		return namePrefix + n.day + nameSuffix
	}
	return namePrefix + n.day + "-" + strconv.Itoa(n.part) + nameSuffix
}

func compareNames(a, b name) int {
	return cmp.Or(strings.Compare(a.day, b.day), cmp.Compare(a.part, b.part))
}

// parseName takes a file name apart; false for files that are not ours.
func parseName(s string) (name, bool) {
	rest, ok := strings.CutPrefix(s, namePrefix)
	if rest, ok2 := strings.CutSuffix(rest, nameSuffix); ok && ok2 && len(rest) >= len(dayFormat) {
		n := name{day: rest[:len(dayFormat)], part: 1}
		if _, err := time.Parse(dayFormat, n.day); err != nil {
			return name{}, false
		}
		if rest = rest[len(dayFormat):]; rest != "" {
			part, err := strconv.Atoi(strings.TrimPrefix(rest, "-"))
			if err != nil || part < 2 {
				return name{}, false
			}
			n.part = part
		}
		return n, n.String() == s
	}
	return name{}, false
}

// listFiles returns the log's files, oldest first. Other files in the folder do not
// matter.
func listFiles(dir string) ([]name, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []name
	for _, e := range entries {
		if n, ok := parseName(e.Name()); ok {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, compareNames)
	return names, nil
}

// prepare makes the folder, takes the lock and opens the newest file.
func (l *Log) prepare() (err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("opening the audit log: making its folder: %w", err)
	}
	if info, err := os.Stat(l.dir); err == nil && info.Mode().Perm()&0o007 != 0 {
		l.log.Warn("other users of this machine can reach the folder of the audit log: set its mode to 0700 or 0750", "folder", l.dir, "mode", info.Mode().Perm().String())
	}
	l.lock, err = takeLock(l.dir)
	if err != nil {
		return err
	}
	if err := l.resume(l.now()); err != nil {
		_ = l.lock.Close()
		return fmt.Errorf("opening the audit log %s: %w", l.dir, err)
	}
	return nil
}

// How long Open waits for the process before it, as in a restart.
const (
	lockTimeout = 3 * time.Second
	lockRetry   = 50 * time.Millisecond
)

// takeLock keeps a second process out: two writers would count the same numbers and
// tear the chain in two. The lock goes with the process, however it ends.
func takeLock(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	retry := time.NewTicker(lockRetry)
	defer retry.Stop()
	for range lockTimeout / lockRetry {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			break
		}
		<-retry.C
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("opening the audit log %s: another process has held it for %v: stop the other anteroom, or give this one a folder of its own: %w", dir, lockTimeout, err)
	}
	return nil, fmt.Errorf("opening the audit log: locking %s: %w", path, err)
}

// rotate begins a new file when the day is over or the next write would make the file
// too large. The day never goes back: a clock that was set back goes on in the newest
// file, because the order of files is the order of events.
func (l *Log) rotate(at time.Time, more int64) error {
	w := &l.writer
	next := w.name
	switch day := at.UTC().Format(dayFormat); {
	case day > w.name.day:
		next = name{day: day, part: 1}
	case w.size > 0 && w.size+more > l.maxBytes:
		next.part++
	default:
		return nil
	}
	return l.begin(next)
}

// begin creates the file and makes its name durable. The file before it is fsynced and
// closed in the background.
func (l *Log) begin(n name) error {
	path := filepath.Join(l.dir, n.String())
	f, err := l.disk.open(path, true)
	if err != nil {
		return err
	}
	if err := syncFolder(l.dir); err != nil {
		_ = f.Close()
		return err
	}
	w := &l.writer
	w.file, w.name, w.size = f, n, 0
	l.syncer.setCurrent(f, path)
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// moved reports whether the file at path is no longer the one that is open.
func moved(f file, path string) bool {
	open, ok := f.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	a, err := open.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(a, b)
}
