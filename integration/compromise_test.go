package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/rekey"
)

// drillConfig is the configuration of the attack tables with an admin socket, and a site for a password table.
var drillConfig = strings.Replace(standard, globals, hallGlobals, 1) + `
localhost:$PORT {
	tls $CERT $KEY
	hmac_service {
		ring passwords
		token_file $DIR/hmac.token
		no_recovery
		limit 10000000 burst 10000000
	}
}
`

const drillRecords = 100_000

// Row 156, the compromise drill: a store with 100,000 sealed values and an application's table of 100,000 password records. The
// data key was stolen, with a copy of the disk. The program dies five times on the way, and the operation comes to its end all
// the same: nothing opens with what the thief has, everything opens with the new key, nothing is lost. Then the pepper.
func TestRow156CompromiseDrill(t *testing.T) {
	t.Parallel() // work for a processor, beside the tests that wait
	r := prepare(t, drillConfig)
	write(t, filepath.Join(r.dir, "hmac.token"), hmacToken)
	data := filepath.Join(r.dataDir(), "anteroom")
	began := time.Now()
	d, closeDisk := openDisk(t, data)
	dana := d.fill(t, drillRecords, r.authority(appHost))
	before := d.sealed(t)
	closeDisk()
	if len(before) < drillRecords {
		t.Fatalf("only %d values", len(before))
	}
	thief := filepath.Join(r.dir, "thief")
	copyDisk(t, data, thief)
	t.Logf("%d sealed values made in %v", len(before), time.Since(began).Round(time.Millisecond))

	r.run(t)
	if got := r.visit(t, dana); got != http.StatusOK {
		t.Fatalf("before: a session is answered %d", got)
	}
	old := r.keyState(t).primary(t).ID
	if dry := r.keys(t, "compromised", old, "--dry-run"); dry.code != 0 || !strings.Contains(dry.stdout, "sealed anew: 1000") || r.operation() != nil {
		t.Fatalf("dry run: %s%s", dry.stdout, dry.stderr)
	}
	began = time.Now()
	r.dieOnTheWay(t, old)
	took := r.finishOperation(t)
	if got := r.visit(t, dana); got != http.StatusUnauthorized {
		t.Errorf("afterwards a session by a key that the thief can read is answered %d", got)
	}
	state := r.keyState(t)
	if state.of(old) != rekey.Destroyed || state.Records[old] != 0 {
		t.Errorf("the old key is %s, with %d records", state.of(old), state.Records[old])
	}
	r.checkReport(t, old, len(before))
	newcomer := r.person(t, appHost, "dana")
	if got := r.status(t, appHost, "/members/x", newcomer); got != http.StatusOK {
		t.Errorf("a new session is answered %d", got)
	}
	t.Logf("%d values: %v from the command to the end, over five kills; %.0f values a second at work (%v)", len(before), time.Since(began).Round(time.Millisecond), float64(len(before))/took.Seconds(), took.Round(time.Millisecond))

	r.proc.stop(t)
	d, closeDisk = openDisk(t, data)
	after := d.sealed(t)
	lost := 0
	for key := range before {
		if _, found := after[key]; !found {
			lost++
		}
	}
	if n := d.opens(t, after); n != len(after) || lost > 0 {
		t.Errorf("%d of %d values open, %d are lost", n, len(after), lost)
	}
	for key, v := range after {
		if id, ok := envelope.KeyOf(v); ok && id == old {
			t.Fatalf("%s is under the old key", key)
		}
	}
	closeDisk()
	stolen, closeStolen := openDisk(t, thief)
	defer closeStolen()
	if n := stolen.opens(t, before); n != len(before) {
		t.Fatalf("control: with the stolen disk %d of %d stolen values open", n, len(before))
	}
	if n := stolen.opens(t, after); n != 0 {
		t.Errorf("%d of the present values open with what was stolen", n)
	}
	r.run(t)
	r.pepperDrill(t)
	r.chain(t)
}

// visit asks for a page of people who are signed in, as a program would.
func (r *rig) visit(t testing.TB, who *visitor) int {
	t.Helper()
	req := navigation(t, http.MethodGet, r.url(appHost, "/members/x"), "")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	req.Header.Set("Cookie", who.header)
	res, err := newBrowser(t).client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// kills are where the program dies: three times amid the records, then while other nodes would be waited for, and in one of the
// steps after that.
var kills = []struct {
	phases []string
	seen   int
}{
	{[]string{"reseal-values"}, 5_000}, {[]string{"reseal-values"}, 35_000}, {[]string{"reseal-values"}, 70_000}, {[]string{"wait"}, 0}, {[]string{"reseal-values-2", "verify"}, 0},
}

// dieOnTheWay begins the operation and kills the program at each of these places.
func (r *rig) dieOnTheWay(t testing.TB, id string) {
	t.Helper()
	status, body, err := r.askAdmin(http.MethodPost, "keys/compromised", mustJSON(map[string]any{"id": id}))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v: %s", status, err, body)
	}
	var seen []string
	for _, k := range kills {
		for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(time.Millisecond) {
			op := r.operation()
			if op != nil && op.State == rekey.StateDone && len(seen) == len(kills)-1 {
				t.Logf("killed at %q; the steps after that were over before they were seen", seen) // they take a third of a second
				return
			}
			if op != nil && op.State != rekey.StateRunning {
				t.Fatalf("the operation is %s after %q: %s", op.State, seen, op.Problem)
			}
			if op != nil && slices.Contains(k.phases, op.Phase) && op.Seen >= k.seen {
				seen = append(seen, fmt.Sprint(op.Phase, " ", op.Seen))
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("it does not come to %v; killed at %q", k, seen)
			}
		}
		r.proc.kill()
		r.run(t)
	}
	t.Logf("killed at %q", seen)
}

// finishOperation waits for the end and returns how long the steps took that seal anew.
func (r *rig) finishOperation(t testing.TB) (took time.Duration) {
	t.Helper()
	var last *rekey.Progress
	eventually(t, 5*time.Minute, func() error {
		op := r.operation()
		if op == nil || op.State == rekey.StateRunning {
			return fmt.Errorf("still running: %+v", op)
		}
		last = op
		return nil
	})
	if last.State != rekey.StateDone {
		t.Fatalf("%s at %s: %s", last.State, last.Phase, last.Problem)
	}
	for _, s := range last.Steps {
		if s.Name == "reseal-values" {
			took = s.Ended.Sub(s.Began)
		}
		t.Logf("%-16s %8v %7d %s", s.Name, s.Ended.Sub(s.Began).Round(time.Millisecond), s.Count, s.Detail)
	}
	return took
}

// checkReport: the report proves what was done, and the audit log has its hash.
func (r *rig) checkReport(t testing.TB, old string, values int) {
	t.Helper()
	res := r.keys(t, "report")
	var report rekey.Report
	if err := json.Unmarshal([]byte(res.stdout), &report); res.code != 0 || err != nil {
		t.Fatalf("keys report: %v, %s%s", err, res.stdout, res.stderr)
	}
	if report.Before[old] < values || report.Left != 0 || report.After[old] != 0 || !slices.Equal(report.Gone, []string{old}) || len(report.Signing) == 0 || report.Starts < 2 {
		t.Errorf("the report says %s", res.stdout)
	}
	sum := sha256.Sum256([]byte(res.stdout))
	found := 0
	for _, rec := range r.audit(t) {
		if rec.str("kind") == "admin" && strings.Contains(rec.str("rule"), "sha256:"+hex.EncodeToString(sum[:])) {
			found++
		}
	}
	if found == 0 {
		t.Error("the audit log has not the hash of the report")
	}
	page := filepath.Join(artifacts(t), "report.html")
	if res := r.keys(t, "report", "--html", page); res.code != 0 {
		t.Errorf("%s%s", res.stdout, res.stderr)
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte(old)) || bytes.Contains(b, []byte("<script")) {
		t.Errorf("the page: %v", err)
	}
}

// lines sends plain lines to the service, and returns a line for each.
func (r *rig) lines(t testing.TB, verb string, lines []string) []string {
	t.Helper()
	client := &http.Client{Timeout: 3 * time.Minute, Transport: &http.Transport{TLSClientConfig: clientTLS("localhost")}}
	defer client.CloseIdleConnections()
	var all []string
	for batch := range slices.Chunk(lines, 4096) {
		req, err := http.NewRequest(http.MethodPost, r.hmacURL("/hmac-service/v1/"+verb), strings.NewReader(strings.Join(batch, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+hmacToken)
		req.Header.Set("Content-Type", "text/plain")
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		answer := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
		if err != nil || res.StatusCode != http.StatusOK || len(answer) != len(batch) {
			t.Fatalf("%s: %d, %v, %d lines: %.300s", verb, res.StatusCode, err, len(answer), b)
		}
		all = append(all, answer...)
	}
	return all
}

// pepperDrill: the pepper of the application's table was stolen. Every record gets the new one over it, without a password.
func (r *rig) pepperDrill(t testing.TB) {
	t.Helper()
	people := make([]string, drillRecords)
	for i := range people {
		people[i] = fmt.Sprintf("user-%d\tlogin\t%s", i, base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "secret %d", i)))
	}
	eventually(t, patience, func() error { // a ring is ready a moment after the site
		if got := r.keyState(t).Rings; len(got) != 1 || got[0].Primary != "p1" {
			return fmt.Errorf("rings %+v", got)
		}
		return nil
	})
	table := r.lines(t, "protect", people)
	began := time.Now()
	if res := r.keys(t, "compromised", "passwords/p1", "--yes"); res.code != 0 {
		t.Fatalf("%s%s", res.stdout, res.stderr)
	}
	if got := r.keyState(t).Rings[0]; got.Primary != "p2" || !got.UpgradeDue {
		t.Fatalf("after the compromise: %+v", got)
	}
	upgrading := time.Now()
	upgraded := r.lines(t, "upgrade", table)
	took := time.Since(upgrading)
	for i, record := range upgraded {
		if !strings.Contains(record, "l=p1.p2,") || strings.HasPrefix(record, "!") {
			t.Fatalf("record %d: %s", i, record)
		}
	}
	if again := r.lines(t, "upgrade", upgraded[:4096]); !slices.Equal(again, upgraded[:4096]) {
		t.Error("an upgrade of what is upgraded changes it")
	}
	for _, i := range []int{0, 4095, 4096, drillRecords / 2, drillRecords - 1} {
		for secret, want := range map[string]bool{fmt.Sprint("secret ", i): true, "wrong": false} {
			status, body := r.curl(t, "-H", "Authorization: Bearer "+hmacToken, "-H", "Content-Type: application/json",
				"--data-binary", mustJSON(map[string]string{"uid": fmt.Sprint("user-", i), "context": "login", "secret": secret, "record": upgraded[i]}), r.hmacURL("/hmac-service/v1/verify"))
			if status != "200" || strings.Contains(body, `"match":true`) != want {
				t.Errorf("record %d, %q: %s %s", i, secret, status, body)
			}
		}
	}
	t.Logf("pepper: new one after %v; %d records upgraded in %v, %.0f a second", upgrading.Sub(began).Round(time.Millisecond), len(upgraded), took.Round(time.Millisecond), float64(len(upgraded))/took.Seconds())
}
