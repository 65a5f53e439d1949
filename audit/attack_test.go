package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile are texts that try to end a field, a record or the reader's screen.
var hostile = []string{
	"\n{\"event\":\"x\"}",
	"doctor\"}\n{\"seq\":99,\"kind\":\"request\",\"decision\":\"allowed\"}",
	"\r\n", "\r", "\n", "\x00", "\\", "\"", "\\\"", "\\u000a", "</script>",
	"\x1b[2K\x1b[1A[audit cleared]", "\u009b2K", "\x7f", "\b\b\b\b",
	"\u202egnp.exe", "\u2066x\u2069", "\u2028", "\u2029", "\u0085", "\ufeff", "\u200b", "\u00ad",
	"\xff\xfe", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xc0\xafb", "\U000e0041", "\U0010ffff",
	"doctor\u0000", "{user}", "%s%n", "${jndi:ldap://x}",
	strings.Repeat("a", 100_000), strings.Repeat("\n", 100_000), strings.Repeat("\xff", 100_000), strings.Repeat("\U000e0041", 30_000),
	strings.Repeat("é", 50_000),
}

// everywhere puts the text into every field.
func everywhere(s string) Event {
	return Event{
		Ref: s, Kind: s, Source: s, Subject: s, Name: s, Roles: slices.Repeat([]string{s}, 500), Session: s, Site: s,
		Method: s, Route: s, Decision: s, Rule: s, Reason: s, Degraded: s, Client: s, ClientID: s, Scopes: slices.Repeat([]string{s}, 500),
		ACR: s, AMR: slices.Repeat([]string{s}, 500), Path: s, Missing: s, Shadow: s, Emergency: s, Purpose: s, Patient: s,
	}
}

// TestRow181LogInjection: a username of a stranger's choice makes one record, in one
// line, of bounded length, without a byte that a terminal acts on. With a second
// record it would forge who was let in; with escape sequences it would hide itself
// from the person who reads the log.
func TestRow181LogInjection(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir}, systemDisk)
	for _, h := range hostile {
		if err := l.Record(t.Context(), everywhere(h)); err != nil {
			t.Fatal(err)
		}
	}
	all := lines(t, dir)
	if len(all) != len(hostile) {
		t.Fatalf("%d events made %d lines", len(hostile), len(all))
	}
	for i, line := range all {
		if len(line) > maxLine {
			t.Errorf("event %d: a line of %d bytes", i, len(line))
		}
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("event %d: %U stands in the log as it is", i, r)
				break
			}
		}
	}
	for i, r := range records(t, dir) {
		want := strings.ToValidUTF8(hostile[i], "\ufffd")
		if len(hostile[i]) < capShort && r.Seq == uint64(i+1) && utf8.ValidString(hostile[i]) && (r.Name != want || r.Roles[0] != want) {
			t.Errorf("event %d: name is %q; want %q", i, r.Name, want)
		}
		if r.Seq != uint64(i+1) || r.Name != r.Subject || len(r.Roles) != maxRoles+1 || len(r.Scopes) != maxScopes+1 || len(r.AMR) != maxAMR+1 || r.ACR != r.Name {
			t.Errorf("event %d: %+v", i, r)
		}
	}
	verify(t, dir)
}

// TestCut: a field that is too long keeps its beginning, whole characters and a mark.
func TestCut(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{strings.Repeat("a", 64), strings.Repeat("a", 64)},
		{strings.Repeat("a", 65), strings.Repeat("a", 64) + cutMark},
		{"a" + strings.Repeat("é", 32), "a" + strings.Repeat("é", 31) + cutMark},
		{strings.Repeat("é", 33), strings.Repeat("é", 32) + cutMark},
		{strings.Repeat("\xbf", 65), strings.Repeat("\ufffd", 64) + cutMark},
		{strings.Repeat("a", 63) + "\U0001f600", strings.Repeat("a", 63) + cutMark},
	} {
		var got string
		if err := json.Unmarshal(appendString(nil, c.in, capShort), &got); err != nil || got != c.want {
			t.Errorf("%q became %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

// TestRow180Edits: every edit, removal, repetition and reordering of a record that has
// records behind it is found, and the message names the file and the line.
func TestRow180Edits(t *testing.T) {
	clock := newClock()
	dir, newest := twoFiles(t, clock)
	take(t, openLog(t, Config{Dir: dir, Now: clock.now}, systemDisk), "e", "f")
	head := verify(t, dir).Head
	oldest := filepath.Join(dir, "audit-2026-03-01.jsonl")
	for _, path := range []string{oldest, newest} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		records := slices.Collect(strings.Lines(string(whole)))
		for i, r := range records {
			end := path == newest && i >= len(records)-2 // a change can make one line of the last two
			change := func(name string, with ...string) {
				t.Helper()
				changed := strings.Join(slices.Concat(records[:i], with, records[i+1:]), "")
				if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
					t.Fatal(err)
				}
				x, err := Verify(dir)
				switch {
				case errors.Is(err, ErrChain) && strings.Contains(err.Error(), ".jsonl line "):
				case end && err == nil && x.Head != head: // only a copy of the head shows this
				default:
					t.Errorf("%s, record %d: %s was not found: %+v, %v", filepath.Base(path), i, name, x, err)
				}
			}
			change("an edit", strings.Replace(r, `"allowed"`, `"denied"`, 1))
			change("an edited number", strings.Replace(r, `"seq":`, `"seq":1`, 1))
			change("an edit that is no record", strings.Replace(r, `{`, `[`, 1))
			change("a blank", strings.Replace(r, `,`, `, `, 1))
			change("a repetition", r, r)
			change("a lost newline", strings.TrimSuffix(r, "\n")+" ")
			change("an empty line", r, "\n")
			change("a made up record", r, fmt.Sprintf("{\"seq\":%d,\"prev\":\"\",\"kind\":\"log\"}\n", i))
			if path != oldest || i > 0 { // without its first record the log only begins later
				change("a removal")
			}
			if i+1 < len(records) {
				j := records[i+1]
				records[i+1] = ""
				change("two records in the wrong order", j, r)
				records[i+1] = j
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(oldest, filepath.Join(dir, "audit-2026-03-03.jsonl")); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir); !errors.Is(err, ErrChain) {
		t.Errorf("files in the wrong order: %v", err)
	}
}

// TestRow180PlainChain states what a chain without a key does not show: whoever can
// write the files can compute it anew, and only a head that was copied elsewhere tells.
func TestRow180PlainChain(t *testing.T) {
	clock := newClock()
	dir, newest := twoFiles(t, clock)
	before := verify(t, dir)
	all := lines(t, dir)
	forged := strings.Replace(all[2], `"allowed"`, `"denied"`, 1)
	follows := strings.Replace(all[3], string(appendHash(nil, []byte(all[2]))), string(appendHash(nil, []byte(forged))), 1)
	if err := os.WriteFile(newest, []byte(forged+"\n"+follows+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if after := verify(t, dir); after.Last != before.Last || after.Head == before.Head {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

// TestRow182SessionLabel: the log must not contain what opens a session.
func TestRow182SessionLabel(t *testing.T) {
	const sid = "0123456789abcdefghijkl"
	if l := SessionLabel(sid); strings.Contains(l, sid[:4]) || strings.Contains(sid, l) {
		t.Errorf("label %q of %q", l, sid)
	}
}

// TestLinkInPlaceOfFile: a link that somebody put where the next file will be is not
// followed.
func TestLinkInPlaceOfFile(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "audit-2026-03-01.jsonl")); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(Config{Dir: dir, Now: newClock().now}); err == nil {
		_ = l.Close()
		t.Fatal("the link was followed")
	}
}

// FuzzString: any text makes one JSON string that decodes to itself, without a byte
// that a terminal acts on.
func FuzzString(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzString/*")
	if err != nil || len(seeds) == 0 {
		f.Fatal("the seeds of FuzzString are missing: ", err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s, capName)
		if len(b) > 6*capName+len(cutMark)+2 {
			t.Fatalf("%d bytes became %d", len(s), len(b))
		}
		for _, r := range string(b) {
			if !unicode.IsPrint(r) {
				t.Fatalf("%U stands in the log as it is", r)
			}
		}
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if want := string([]rune(s)); len(s) <= capName && got != want {
			t.Fatalf("%q became %q", want, got)
		}
	})
}
