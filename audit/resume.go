package audit

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

// kindLog is the kind of the log's own records.
const kindLog = "log"

// end is what the disk says about the end of the log.
type end struct {
	seq     uint64 // of the last line, torn ones counted
	hash    string // of the last line; "" when there is none
	torn    bool   // the newest file does not end with a newline
	foreign bool   // the last line is not a record: a torn line that was closed, and then nothing
}

// resume finds the end of the log, closes a torn line and opens the newest file, or
// begins today's. The torn line stays as it is: it may be the trace of something.
func (l *Log) resume(at time.Time) error {
	names, err := listFiles(l.dir)
	if err != nil {
		return err
	}
	e, err := findEnd(l.dir, names)
	if err != nil {
		return err
	}
	w := &l.writer
	if len(names) == 0 {
		l.keepCount(e)
		return l.begin(name{day: at.UTC().Format(dayFormat), part: 1})
	}
	n := names[len(names)-1]
	path := filepath.Join(l.dir, n.String())
	f, err := l.disk.open(path, false)
	if err != nil {
		return err
	}
	if e.torn {
		if _, err := f.Write([]byte{'\n'}); err != nil {
			_ = f.Close()
			return err
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		_ = f.Close()
		return err
	}
	l.keepCount(e)
	if (e.torn || e.foreign) && w.note == "" {
		w.note = noteTorn
		l.log.Warn("the last line of the audit log is torn, as after a power cut; it is kept, and the next record names it", "file", path)
	}
	w.file, w.name, w.size = f, n, info.Size()
	l.syncer.setCurrent(f, path)
	return nil
}

// keepCount takes over the end that was found on the disk. When the disk knows less
// than this process has already written (files were removed under it), the count goes
// on from memory: the hole is then visible to Verify instead of being counted over.
func (l *Log) keepCount(e end) {
	w := &l.writer
	if e.seq >= w.seq {
		w.seq, w.prev = e.seq, append(w.prev[:0], e.hash...)
	}
}

// findEnd looks at the files from the newest back until it finds a record.
func findEnd(dir string, names []name) (end, error) {
	var e end
	var after uint64 // lines behind the last record that is readable
	for i := len(names) - 1; i >= 0; i-- {
		t, err := readTail(filepath.Join(dir, names[i].String()))
		if err != nil {
			return end{}, err
		}
		if i == len(names)-1 {
			e.torn = t.torn
		}
		if e.hash == "" {
			e.hash = t.hash
			e.foreign = t.lines > 0
		}
		after += t.lines
		if t.found {
			e.seq = t.seq
			break
		}
	}
	e.seq += after
	return e, nil
}

// tail is the end of one file.
type tail struct {
	found bool   // there is a record in the file
	seq   uint64 // of the last record
	lines uint64 // lines behind it that are no records; all of them when found is false
	hash  string // of the last line
	torn  bool   // the last line has no newline
}

// tailChunk is how much of a file's end is read at first: many records, or the torn
// remains of one write.
const tailChunk = 256 << 10

func readTail(path string) (tail, error) {
	f, err := os.Open(path)
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return tail{}, err
	}
	for size, chunk := info.Size(), int64(tailChunk); ; chunk *= 8 {
		chunk = min(chunk, size)
		data := make([]byte, chunk)
		if _, err := f.ReadAt(data, size-chunk); err != nil && chunk > 0 {
			return tail{}, err
		}
		if chunk < size { // the chunk begins somewhere within a line
			_, rest, ok := bytes.Cut(data, []byte{'\n'})
			if !ok {
				continue
			}
			data = rest
		}
		if t := parseTail(data); t.found || chunk == size {
			return t, nil
		}
	}
}

// parseTail walks back from the end of data, which begins at the start of a line.
func parseTail(data []byte) tail {
	var t tail
	if len(data) == 0 {
		return t
	}
	t.torn = data[len(data)-1] != '\n'
	data = bytes.TrimSuffix(data, []byte{'\n'})
	for first := true; ; first = false {
		i := bytes.LastIndexByte(data, '\n')
		line := data[i+1:]
		if first {
			t.hash = string(appendHash(nil, line))
		}
		if r, ok := parseRecord(line); ok {
			t.found, t.seq = true, r.Seq
			return t
		}
		t.lines++
		if i < 0 {
			return t
		}
		data = data[:i]
	}
}

// record is what the chain needs of a line.
type record struct {
	Seq    uint64 `json:"seq"`
	Prev   string `json:"prev"`
	Kind   string `json:"kind"`
	Reason string `json:"reason"`
}

// parseRecord reads a line; false when it is not a whole record of ours.
func parseRecord(line []byte) (record, bool) {
	var r record
	if !bytes.HasPrefix(line, []byte(`{"seq":`)) || json.Unmarshal(line, &r) != nil {
		return record{}, false
	}
	return r, r.Seq > 0
}
