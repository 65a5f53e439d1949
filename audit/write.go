package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"
)

// Reasons of the log's own records (kind "log").
const (
	noteTorn  = "torn-line"    // the process ended in the middle of a write
	noteWrite = "write-failed" // the disk was full or failing; some of the lines before may be of refused requests
	noteSync  = "sync-failed"  // fsync failed: the lines before may be missing on the disk after a power cut
	noteMoved = "file-moved"   // the open file was moved or removed by someone else
)

// hashLen is the length of a base64url SHA-256 without padding.
const hashLen = 43

// writer is the state of the end of the log.
type writer struct {
	seq  uint64 // of the last line
	prev []byte // hash of the last line, empty before the first
	file file   // the newest file; nil after a failure, then resume opens it again
	name name   // its name
	size int64  // its size
	note string // reason of the record of our own that comes next; "" for none

	buf, hash, time []byte     // used again by each group
	batch           []*pending // the queue's other half: the two slices take turns
	lastError       time.Time  // when a failed write was last logged
}

// errorEvery is how often a disk that keeps failing is logged: each refused request
// would otherwise write a line to the operator's log.
const errorEvery = 10 * time.Second

// write takes what waits, writes it and answers, until Close. Close sets closed before
// it closes l.closing, so that the last turn finds everything that was accepted.
func (l *Log) write() {
	defer l.done.Done()
	for {
		select {
		case <-l.wake:
			l.writeWaiting()
		case <-l.closing:
			l.writeWaiting()
			return
		}
	}
}

func (l *Log) writeWaiting() {
	w := &l.writer
	l.mu.Lock()
	batch := l.queue
	l.queue = w.batch[:0]
	l.mu.Unlock()
	w.batch = batch
	limit := int(min(maxGroupBytes, l.maxBytes))
	for len(batch) > 0 {
		n, size := 0, 0
		for n < len(batch) && (n == 0 || size < limit) {
			size += len(batch[n].tail) + headLen
			n++
		}
		err := l.writeGroup(batch[:n])
		for i, p := range batch[:n] {
			batch[i] = nil // the slice is used again and must not hold on to it
			p.done <- err
		}
		batch = batch[n:]
	}
}

// headLen is about the length of what appendHead writes.
const headLen = 120

// writeGroup writes the events with one write(2). After an error none of them counts as
// taken. The file is then closed, and the next group finds out from the disk where the
// log really ends: how much of a failed write arrived is for the disk to say.
func (l *Log) writeGroup(group []*pending) error {
	if reason := l.syncer.takeTrouble(); reason != "" && l.writer.file != nil {
		l.retire()
		l.writer.note = reason
	}
	err := l.tryGroup(group)
	if err == nil {
		return nil
	}
	if w, now := &l.writer, l.now(); w.lastError.IsZero() || now.Sub(w.lastError) >= errorEvery {
		w.lastError = now
		l.log.Error("writing to the audit log failed; requests are refused until it works again: make room on the disk or repair it",
			"folder", l.dir, "error", err)
	}
	l.retire()
	l.writer.note = noteWrite
	return fmt.Errorf("writing to the audit log: %w: %w", ErrUnavailable, err)
}

func (l *Log) tryGroup(group []*pending) error {
	w := &l.writer
	at := l.now()
	if w.file == nil {
		if err := l.resume(at); err != nil {
			return err
		}
	}
	seq, prev, buf := w.seq, append(w.hash[:0], w.prev...), w.buf[:0]
	w.time = appendTime(w.time[:0], at)
	add := func(tail []byte) {
		seq++
		start := len(buf)
		buf = appendHead(buf, seq, w.time, prev)
		buf = append(buf, tail...)
		prev = appendHash(prev[:0], buf[start:len(buf)-1])
	}
	if w.note != "" {
		add(appendEvent(nil, &Event{Kind: kindLog, Reason: w.note}))
	}
	for _, p := range group {
		add(p.tail)
	}
	w.buf, w.hash = buf, prev
	if err := l.rotate(at, int64(len(buf))); err != nil {
		return err
	}
	n, err := w.file.Write(buf)
	w.size += int64(n)
	l.syncer.dirty.Store(true)
	if err != nil {
		return err
	}
	if n != len(buf) {
		return fmt.Errorf("only %d of %d bytes were written", n, len(buf))
	}
	w.seq, w.prev, w.note = seq, append(w.prev[:0], prev...), ""
	return nil
}

// appendHash appends the hash that links a line to the next one.
func appendHash(b, line []byte) []byte {
	sum := sha256.Sum256(line)
	return base64.RawURLEncoding.AppendEncode(b, sum[:])
}

// retire gives the open file to the goroutine that fsyncs and closes files.
func (l *Log) retire() {
	if l.writer.file != nil {
		l.syncer.setCurrent(nil, "")
		l.writer.file = nil
	}
}
