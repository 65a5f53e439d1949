package integration

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// hastened is a bin/anteroom in which a file moves the clock of rules, pages, budgets, emergencies and the audit log, and in
// which the ledger is swept each second; sessions and the store keep their time. It is built once for all tests.
var hastened = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "anteroom-hastened")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	replace := map[string]string{}
	for _, file := range []string{"gate/gate.go", "portal/portal.go", "emergency/ledger.go", "emergency/sweep.go", "budget/count.go", "audit/audit.go"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		changed := strings.Replace(string(text), "ow = time.Now\n", "ow = shiftedNow\n", 1)
		if file == "emergency/sweep.go" {
			changed = strings.Replace(changed, "sweepEvery = time.Minute", "sweepEvery = time.Second", 1)
		} else {
			if !strings.Contains(changed, "\n\t\"os\"\n") {
				changed = strings.Replace(changed, "import (\n", "import (\n\t\"os\"\n", 1)
			}
			changed += shiftedNow
		}
		if !strings.Contains(changed, "ow = shiftedNow") && !strings.Contains(changed, "sweepEvery = time.Second") {
			return "", fmt.Errorf("%s takes its time from elsewhere; mend the list", file)
		}
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = path
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, []byte(mustJSON(map[string]any{"Replace": replace})), 0o600); err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "anteroom-shifted")
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-overlay", overlay, "-o", path, "./cmd/anteroom")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building with another clock: %w\n%s", err, out)
	}
	return path, nil
})

// hasten lets a rig run that binary; the function moves its clock.
func (r *rig) hasten(t testing.TB) (shift func(by time.Duration)) {
	t.Helper()
	path, err := hastened()
	if err != nil {
		t.Fatal(err)
	}
	r.binary, r.clock = path, filepath.Join(r.dir, "clock")
	shift = func(by time.Duration) { // replaced whole: the program reads it at any time
		write(t, r.clock+".new", by.String())
		if err := os.Rename(r.clock+".new", r.clock); err != nil {
			t.Fatal(err)
		}
	}
	shift(0)
	return shift
}

// TestEmergencyTime: the webhook is down and the node dies with the alarm in hand; another start delivers it, once. When the time
// is over it is over, also for what runs; a review that nobody makes is alarmed, once a day.
func TestEmergencyTime(t *testing.T) {
	t.Parallel() // most of it is waiting
	desk := newDesk(t)
	r := prepare(t, strings.Replace(glassConfig, "\t\tstore redis $REDIS\n", "", 1), "DESK", desk.url)
	write(t, filepath.Join(r.dir, "alarm.token"), deskToken)
	shift := r.hasten(t)
	r.run(t)
	r.op.ready(t)
	r.dump.respond(t, streams)
	desk.open(false)
	b := newBrowser(t)
	b.signIn(t, r.url(appHost, "/members/x"), "dana", "dana-pw")
	before := time.Now() // the access begins between the two
	ref := b.breakGlass(t, r.url(appHost, "/patients/7/notes"))
	begun := time.Now()
	dana := b.person(t, r.url(appHost, "/"), "dana")
	if got := r.status(t, appHost, "/patients/7/notes", dana); got != 200 {
		t.Fatalf("with a webhook that is down the record is answered %d", got)
	}
	if list := r.reviews(t, "open"); len(list) != 1 || list[0]["alarm"] != "pending" {
		t.Errorf("the list of reviews is %v", list)
	}
	r.proc.kill()
	r.run(t)
	if got := r.status(t, appHost, "/patients/7/notes", dana); got != 200 {
		t.Fatalf("after a crash the record is answered %d", got)
	}
	desk.open(true)
	shift(4 * time.Minute)
	if a := desk.hears(t, "emergency", 1)[0]; a.Ref != ref || a.ID != ref+"-emergency" {
		t.Errorf("the alarm says %+v", a)
	}
	eventually(t, patience, func() error {
		if list := r.reviews(t, "open"); len(list) != 1 || list[0]["alarm"] != "delivered" {
			return fmt.Errorf("the list of reviews is %v", list)
		}
		return nil
	})

	ws := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Origin: " + r.url(appHost, "")}
	socket := r.open(t, "/patients/7/ws", dana, ws, "101 Switching Protocols")
	events := r.open(t, "/patients/7/sse", dana, []string{"Accept: text/event-stream"}, "200 OK")
	beside := r.open(t, "/members/sse", dana, []string{"Accept: text/event-stream"}, "200 OK")
	shift(time.Until(before.Add(29*time.Minute + 30*time.Second)))
	if got := r.status(t, appHost, "/patients/7/notes", dana); got != 200 {
		t.Errorf("after 29 and a half minutes of 30: %d", got)
	}
	shift(time.Until(begun.Add(30*time.Minute + time.Second)))
	over := startWatch()
	if got := r.status(t, appHost, "/patients/7/notes", dana); got != 403 {
		t.Errorf("after 30 minutes: %d", got)
	}
	for what, conn := range map[string]io.Reader{"WebSocket": socket, "stream of events": events} {
		socket.SetReadDeadline(time.Now().Add(patience))
		events.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") || over.over(over.elapsed(), 20*time.Second) {
			t.Errorf("the %s is open %v after the end of the access", what, over.elapsed())
		}
		t.Logf("the %s ended %v after the end of the access", what, over.elapsed().Round(100*time.Millisecond))
	}
	beside.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.CopyN(io.Discard, beside, 200_000); err != nil && !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a stream that needs no emergency ended with it: %v", err)
	}
	ended := 0
	eventually(t, patience, func() error {
		ended = 0
		for _, rec := range r.audit(t) {
			if rec.str("kind") == "emergency" && rec.str("decision") == "ended" && rec.str("emergency") == ref {
				ended++
			}
		}
		if ended != 1 {
			return fmt.Errorf("the end of the access stands %d times in the audit log", ended)
		}
		return nil
	})

	shift(73 * time.Hour)
	if a := desk.hears(t, "emergency-unreviewed", 1)[0]; a.Count != 1 {
		t.Errorf("the alarm says %+v", a)
	}
	if list := r.review(t); !strings.Contains(list.stdout, "OVERDUE") {
		t.Logf("the operator's own clock is right, and the list does not say that it is overdue:\n%s", list.stdout)
	}
	shift(90 * time.Hour)
	time.Sleep(2500 * time.Millisecond) // two sweeps
	desk.hears(t, "emergency-unreviewed", 1)
	shift(98 * time.Hour)
	desk.hears(t, "emergency-unreviewed", 2)
	if got := r.review(t, "accept", ref, "--reviewer", "rita"); got.code != 0 {
		t.Errorf("accepting: %s%s", got.stdout, got.stderr)
	}
	shift(130 * time.Hour)
	time.Sleep(2500 * time.Millisecond)
	desk.hears(t, "emergency-unreviewed", 2)
	if got := desk.heard(t, "emergency"); len(got) != 1 {
		t.Errorf("the access was alarmed %d times", len(got))
	}
}
