package audit

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// twoFiles makes a log of two records on each of two days and returns the path of the
// newer file.
func twoFiles(t *testing.T, clock *clock) (dir, newest string) {
	t.Helper()
	dir = t.TempDir()
	l := openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk)
	take(t, l, "a", "b")
	clock.advance(24 * time.Hour)
	take(t, l, "c", "d")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, "audit-2026-03-02.jsonl")
}

func appendTo(t *testing.T, path, data string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(data); err != nil {
		t.Fatal(err)
	}
}

// TestTornLine: whatever a crash left at the end stays there, is closed with a newline
// and named by the next record; sequence and chain go on.
func TestTornLine(t *testing.T) {
	record := string(appendEvent(appendHead(nil, 5, appendTime(nil, newClock().at), []byte("HEAD")), &Event{Kind: "request"}))
	for _, c := range []struct {
		name, torn string
		lines      int // that the torn end counts as
	}{
		{"half a record", record[:40], 1},
		{"one byte", "{", 1},
		{"all but the newline", strings.TrimSuffix(record, "\n"), 1},
		{"zero bytes", strings.Repeat("\x00", 3000), 1},
		{"more than one chunk", strings.Repeat("\x00", 3*tailChunk), 1},
		{"closed, but not named", "{\"seq\":5\n", 1},
		{"twice", "{\"seq\":5\n{\"seq\":6", 2},
		{"many lines", strings.Repeat(strings.Repeat("x", 99)+"\n", 6000), 6000},
		{"not UTF-8", "\xff\xfe{\"seq\":99}", 1},
		{"another program's line", "{\"level\":\"info\",\"seq\":99}", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := newClock()
			dir, newest := twoFiles(t, clock)
			c.torn = strings.Replace(c.torn, "HEAD", verify(t, dir).Head, 1)
			appendTo(t, newest, c.torn)
			l := openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk)
			take(t, l, "e")
			x := verify(t, dir)
			if want := 4 + c.lines + 2; x.Lines != want || x.Last != uint64(want) {
				t.Fatalf("Verify: %+v; want %d lines", x, want)
			}
			data, err := os.ReadFile(newest)
			if err != nil || !bytes.Contains(data, []byte(strings.TrimSuffix(c.torn, "\n")+"\n{")) {
				t.Error("the torn line was changed")
			}
			if n := bytes.Count(data, []byte(`"kind":"log","reason":"torn-line"`)); n != 1 {
				t.Errorf("%d notes about the torn line", n)
			}
			// It is named once.
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			take(t, openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk), "f")
			if y := verify(t, dir); y.Lines != x.Lines+1 {
				t.Errorf("Verify after one more start: %+v", y)
			}
		})
	}
}

// TestResumeEmptyFiles: a crash between making a file and writing to it.
func TestResumeEmptyFiles(t *testing.T) {
	for name, torn := range map[string]string{"empty": "", "torn": "{\"se"} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			dir, _ := twoFiles(t, clock)
			clock.advance(24 * time.Hour)
			appendTo(t, filepath.Join(dir, "audit-2026-03-03.jsonl"), torn)
			take(t, openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk), "e")
			if x := verify(t, dir); x.Files != 3 || x.Last < 5 {
				t.Fatalf("Verify: %+v", x)
			}
		})
	}
}

// TestTornFirstLine: the very first write was torn, so that there is no record at all.
func TestTornFirstLine(t *testing.T) {
	dir := t.TempDir()
	appendTo(t, filepath.Join(dir, "audit-2026-03-01.jsonl"), "{\"seq\":1,\"ti")
	take(t, openLog(t, Config{Dir: dir}, systemDisk), "a")
	if x := verify(t, dir); x.Lines != 3 || x.First != 1 || x.Last != 3 || x.Torn != 1 {
		t.Fatalf("Verify: %+v", x)
	}
}

// TestTornThenNextDay: the torn line is closed in the file in which it is.
func TestTornThenNextDay(t *testing.T) {
	clock := newClock()
	dir, newest := twoFiles(t, clock)
	appendTo(t, newest, "{\"seq\":5,")
	clock.advance(24 * time.Hour)
	take(t, openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk), "e")
	if x := verify(t, dir); x.Files != 3 || x.Lines != 7 {
		t.Fatalf("Verify: %+v", x)
	}
}

// TestOldFilesRemoved: an operator archives the old days; only the newest file is needed.
func TestOldFilesRemoved(t *testing.T) {
	clock := newClock()
	dir, _ := twoFiles(t, clock)
	if err := os.Remove(filepath.Join(dir, "audit-2026-03-01.jsonl")); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "audit-2026-03-01.jsonl.gz"), "not ours")
	take(t, openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk), "e")
	if x := verify(t, dir); x.First != 3 || x.Last != 5 {
		t.Fatalf("Verify: %+v", x)
	}
}

// TestVerifyWhileWriting: a line that is just being written is no fault.
func TestVerifyWhileWriting(t *testing.T) {
	dir, newest := twoFiles(t, newClock())
	appendTo(t, newest, "{\"seq\":5,\"ti")
	if x := verify(t, dir); x.Last != 4 {
		t.Fatalf("Verify: %+v", x)
	}
	if x, err := Verify(t.TempDir()); err != nil || x != (Extent{}) {
		t.Fatalf("an empty folder: %+v, %v", x, err)
	}
	if _, err := Verify(filepath.Join(dir, "none")); err == nil {
		t.Fatal("a folder that is not there: no error")
	}
}
