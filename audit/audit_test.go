package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 23, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func openLog(t *testing.T, cfg Config, d disk) *Log {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = newClock().now
	}
	l, err := open(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func request(name string) Event {
	return Event{Kind: "request", Source: "hospital", Subject: "s-1", Name: name, Site: "app.example", Method: "GET", Decision: "allowed"}
}

func take(t *testing.T, l *Log, names ...string) {
	t.Helper()
	for _, n := range names {
		if err := l.Record(t.Context(), request(n)); err != nil {
			t.Fatalf("Record(%s): %v", n, err)
		}
	}
}

// lines reads all lines of all files in order, without the newlines.
func lines(t *testing.T, dir string) []string {
	t.Helper()
	names, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.String()))
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			all = append(all, strings.TrimSuffix(l, "\n"))
		}
	}
	return all
}

// fullRecord is every member of a record.
type fullRecord struct {
	Seq                                                                                                            uint64
	Time                                                                                                           time.Time
	Prev, Kind, Ref, Source, Subject, Name, Session, Site, Method, Route, Decision, Rule, Reason, Degraded, Client string
	ACR, Path, Missing, Shadow, Emergency, Purpose, Patient                                                        string
	Roles, AMR, Scopes                                                                                             []string
	ClientID                                                                                                       string `json:"client_id"`
}

// records decodes strictly: one object a line, no unknown members.
func records(t *testing.T, dir string) []fullRecord {
	t.Helper()
	var all []fullRecord
	for _, l := range lines(t, dir) {
		d := json.NewDecoder(strings.NewReader(l))
		d.DisallowUnknownFields()
		var r fullRecord
		if err := d.Decode(&r); err != nil {
			t.Fatalf("line %q: %v", l, err)
		}
		all = append(all, r)
	}
	return all
}

func verify(t *testing.T, dir string) Extent {
	t.Helper()
	x, err := Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func fileNames(t *testing.T, dir string) string {
	t.Helper()
	names, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, n := range names {
		s = append(s, n.String())
	}
	return strings.Join(s, " ")
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "audit")
	l := openLog(t, Config{Dir: dir}, systemDisk)
	e := Event{
		Ref: "ABCDEFGHJK", Kind: "request", Source: "hospital", Subject: "s-1", Name: "doctor", Roles: []string{"doctor", "staff"},
		Session: SessionLabel("sid"), Site: "app.example", Method: "GET", Route: "/patients/{user}/*", Decision: "allowed",
		Rule: "allow role doctor (Caddyfile:12)", Reason: "rule", Degraded: "store-loss", Client: "192.0.2.1", ClientID: "heart-app", Scopes: []string{"patient/Observation.rs", "openid"},
		ACR: "urn:level:2", AMR: []string{"pwd", "otp"}, Path: "/patients/*/notes", Missing: "role", Shadow: "would deny: shadow deny any (Caddyfile:13)",
		Emergency: "4F9K2M7QXR", Purpose: "ETREAT", Patient: "p1001",
	}
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	take(t, l, "patient")
	got := records(t, dir)
	want := fullRecord{
		Seq: 1, Time: newClock().at, Kind: e.Kind, Ref: e.Ref, Source: e.Source, Subject: e.Subject, Name: e.Name, Roles: e.Roles,
		Session: e.Session, Site: e.Site, Method: e.Method, Route: e.Route, Decision: e.Decision, Rule: e.Rule, Reason: e.Reason, Degraded: e.Degraded, Client: e.Client,
		ClientID: e.ClientID, Scopes: e.Scopes, ACR: e.ACR, AMR: e.AMR, Path: e.Path, Missing: e.Missing, Shadow: e.Shadow, Emergency: e.Emergency, Purpose: e.Purpose, Patient: e.Patient,
	}
	for _, name := range []string{"acr", "amr", "path", "missing", "shadow", "emergency", "purpose"} {
		if first := lines(t, dir); !strings.Contains(first[0], `"`+name+`":`) || strings.Contains(first[1], `"`+name+`":`) {
			t.Errorf("%s is not written exactly when it is not empty", name)
		}
	}
	if got[1].Degraded != "" || strings.Contains(lines(t, dir)[1], "degraded") {
		t.Errorf("nothing was missing: %+v", got[1])
	}
	if len(got) != 2 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
	if l := lines(t, dir); got[1].Seq != 2 || got[1].Prev != string(appendHash(nil, []byte(l[0]))) {
		t.Fatalf("second record: %+v", got[1])
	}
	if x := verify(t, dir); x != (Extent{Files: 1, Lines: 2, First: 1, Last: 2, Head: x.Head}) || len(x.Head) != hashLen {
		t.Fatalf("Verify: %+v", x)
	}
	for path, mode := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "audit-2026-03-01.jsonl"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, mode)
		}
	}
}

func TestRecordRefuses(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir}, systemDisk)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Record(done, request("x")); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("done context: %v", err)
	}
	if err := l.Record(t.Context(), Event{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("zero event: %v", err)
	}
	if err := new(Log).Record(t.Context(), request("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("zero log: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	if err := l.Record(t.Context(), request("x")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("closed: %v", err)
	}
	if got := lines(t, dir); len(got) != 0 {
		t.Errorf("refused events were written: %q", got)
	}
	if err := Off().Record(t.Context(), request("x")); err != nil {
		t.Errorf("Off: %v", err)
	}
}

// TestManyWriters: each caller's own events keep their order, nothing is lost or
// doubled, and the chain holds.
func TestManyWriters(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir, MaxBytes: 20_000}, systemDisk)
	const writers, each = 20, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := l.Record(t.Context(), request(fmt.Sprintf("%d.%d", w, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := make([]int, writers)
	for _, r := range records(t, dir) {
		var w, i int
		if _, err := fmt.Sscanf(r.Name, "%d.%d", &w, &i); err != nil || next[w] != i {
			t.Fatalf("%s came where event %d of its writer belongs", r.Name, next[w])
		}
		next[w]++
	}
	if x := verify(t, dir); x.Lines != writers*each || x.Last != writers*each || x.Files < 5 {
		t.Fatalf("Verify: %+v", x)
	}
}

func TestFiles(t *testing.T) {
	dir, clock := t.TempDir(), newClock()
	cfg := Config{Dir: dir, Now: clock.now, MaxBytes: 600}
	l := openLog(t, cfg, systemDisk)
	take(t, l, "a", "b")
	if got := fileNames(t, dir); got != "audit-2026-03-01.jsonl" {
		t.Fatal(got)
	}
	take(t, l, "c")
	if got := fileNames(t, dir); got != "audit-2026-03-01.jsonl audit-2026-03-01-2.jsonl" {
		t.Fatal(got)
	}
	clock.advance(2 * time.Hour)
	take(t, l, "d")
	// A clock that is set back goes on in the newest file.
	clock.advance(-48 * time.Hour)
	take(t, l, "e", "f")
	const want = "audit-2026-03-01.jsonl audit-2026-03-01-2.jsonl audit-2026-03-02.jsonl audit-2026-03-02-2.jsonl"
	if got := fileNames(t, dir); got != want {
		t.Fatal(got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, cfg, systemDisk)
	take(t, l, "g")
	if x := verify(t, dir); x.Lines != 7 || x.Last != 7 {
		t.Fatalf("Verify: %+v", x)
	}
	var names string
	for _, r := range records(t, dir) {
		names += r.Name
	}
	if names != "abcdefg" {
		t.Fatal(names)
	}
}

// TestPartTen: the tenth file of a day comes after the ninth, not after the first.
func TestPartTen(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir, MaxBytes: 1}, systemDisk)
	for i := range 12 {
		take(t, l, fmt.Sprint(i))
	}
	if x := verify(t, dir); x.Files != 12 || x.Last != 12 {
		t.Fatalf("Verify: %+v", x)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, Config{Dir: dir, MaxBytes: 1}, systemDisk)
	take(t, l, "x")
	if x := verify(t, dir); x.Files != 13 || x.Last != 13 {
		t.Fatalf("Verify: %+v", x)
	}
}

func TestParseName(t *testing.T) {
	for s, want := range map[string]name{
		"audit-2026-03-01.jsonl":     {"2026-03-01", 1},
		"audit-2026-03-01-2.jsonl":   {"2026-03-01", 2},
		"audit-2026-03-01-10.jsonl":  {"2026-03-01", 10},
		"audit-2026-03-01-1.jsonl":   {},
		"audit-2026-03-01-02.jsonl":  {},
		"audit-2026-03-01-0.jsonl":   {},
		"audit-2026-03-01--2.jsonl":  {},
		"audit-2026-03-01-+2.jsonl":  {},
		"audit-2026-03-01-2.jsonl.1": {},
		"audit-2026-03-012.jsonl":    {},
		"audit-2026-13-01.jsonl":     {},
		"audit-.jsonl":               {},
		"audit.lock":                 {},
		"":                           {},
	} {
		if got, ok := parseName(s); got != want && ok || ok != (want != name{}) {
			t.Errorf("parseName(%q) = %v, %v", s, got, ok)
		}
	}
}

func TestRefAndLabel(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		ref := NewRef()
		if len(ref) != 10 || strings.Trim(ref, refAlphabet) != "" || seen[ref] {
			t.Fatalf("NewRef() = %q", ref)
		}
		seen[ref] = true
	}
	a, b := SessionLabel("a"), SessionLabel("b")
	if len(a) != 16 || a == b || a != SessionLabel("a") || SessionLabel("") != "" {
		t.Fatal(a, b)
	}
}

// TestSecondProcess: the folder has one writer. (A second open of the lock file
// conflicts within one process as well.)
func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(Config{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "another process") {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLabel(t *testing.T) {
	if !strings.HasPrefix(labelSession, "anteroom/audit/") || !strings.HasSuffix(labelSession, "/v1") {
		t.Errorf("label %q", labelSession)
	}
}

func TestFreeSpaceWarning(t *testing.T) {
	clock, free := newClock(), 0.5
	var out bytes.Buffer
	d := systemDisk
	d.free = func(string) (float64, error) { return free, nil }
	l := openLog(t, Config{Dir: t.TempDir(), Now: clock.now, Logger: slog.New(slog.NewTextHandler(&out, nil))}, d)
	if err := l.Close(); err != nil { // the goroutine that calls checkSpace has ended now
		t.Fatal(err)
	}
	check := func(want int) {
		t.Helper()
		l.checkSpace()
		if got := strings.Count(out.String(), "nearly full"); got != want {
			t.Fatalf("%d warnings; want %d: %s", got, want, out.String())
		}
	}
	check(0)
	free = 0.09
	check(1)
	check(1)
	clock.advance(59 * time.Minute)
	check(1)
	clock.advance(time.Minute)
	check(2)
	if f, err := freeSpace(l.dir); err != nil || f <= 0 || f > 1 {
		t.Fatal(f, err)
	}
}
