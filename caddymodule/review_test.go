package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
)

// fakeBook is a ledger that remembers what it was told.
type fakeBook struct {
	reviews  []emergency.Review
	asked    []string
	verdicts []emergency.Verdict
	fail     error
}

func (f *fakeBook) List(_ context.Context, state string) ([]emergency.Review, error) {
	f.asked = append(f.asked, state)
	return f.reviews, f.fail
}

func (f *fakeBook) Review(_ context.Context, v emergency.Verdict) (emergency.Review, error) {
	f.verdicts = append(f.verdicts, v)
	return emergency.Review{ID: v.ID, State: emergency.StateAccepted}, f.fail
}

func reviewDesk() (desk, *fakeBook, *fakeAudit) {
	d, _, log := fakeDesk()
	begun := time.Date(2026, 3, 1, 8, 0, 0, 0, time.FixedZone("CET", 3600))
	book := &fakeBook{reviews: []emergency.Review{{
		ID: "7Q2M9XKD4T", State: emergency.StateOpen, Site: "app.test", Source: "idp", Subject: "1", Username: "dana", Roles: []string{"doctor"},
		Patient: "7", Scope: "/patients/7", ReasonCode: "unconscious", ReasonText: "not answering", Begun: begun, Until: begun.Add(30 * time.Minute), Alarm: emergency.AlarmDelivered,
	}}}
	d.reviews = book
	return d, book, log
}

// TestG8AdminReviews: what is read is in the audit log, and without that nothing is shown; a verdict goes to the ledger with
// who asked for it.
func TestG8AdminReviews(t *testing.T) {
	d, book, log := reviewDesk()
	get := func(query string) (any, error) {
		d.r = httptest.NewRequest(http.MethodGet, "http://x"+adminPath+"reviews"+query, nil)
		return d.listReviews(context.Background())
	}
	answer, err := get("")
	list, ok := answer.(reviewList)
	if err != nil || !ok || len(list.Reviews) != 1 || list.Reviews[0].Begun.Location() != time.UTC || list.Reviews[0].Patient != "7" {
		t.Fatalf("%+v %v", answer, err)
	}
	if e := log.events[0]; e.Kind != "admin" || e.Reason != "reviews-listed" || e.Count != 1 || e.Client != "unix" || e.Ref == "" {
		t.Errorf("%+v", e)
	}
	for query, state := range map[string]string{"?state=all": "all", "?state=rejected": "rejected", "?state=accepted": "accepted", "?state=open": "open"} {
		if _, err := get(query); err != nil || book.asked[len(book.asked)-1] != state {
			t.Errorf("%s: %v %q", query, err, book.asked)
		}
	}
	before := len(book.asked)
	for _, query := range []string{"?state=", "?state=every", "?state=open&state=all", "?user=dana", "?state=open&x=y"} {
		if _, err := get(query); statusOf(err) != http.StatusBadRequest {
			t.Errorf("%s: %v", query, err)
		}
	}
	log.fail = audit.ErrUnavailable
	if answer, err := get(""); statusOf(err) != http.StatusServiceUnavailable || answer != nil {
		t.Errorf("without an audit log: %v %v", answer, err)
	}
	if len(book.asked) != before+1 {
		t.Error("odd queries reach the ledger")
	}
	for path, accept := range map[string]bool{"reviews/accept": true, "reviews/reject": false} {
		if _, err := adminRoutes[path].do(d.at(path, `{"id":"7Q2M9XKD4T","reviewer":"otto","comment":"seen"}`), context.Background()); err != nil {
			t.Error(err)
		}
		want := emergency.Verdict{ID: "7Q2M9XKD4T", Accept: accept, Reviewer: "otto", Comment: "seen", Client: "unix"}
		if got := book.verdicts[len(book.verdicts)-1]; !reflect.DeepEqual(got, want) || adminRoutes[path].method != http.MethodPost {
			t.Errorf("%s: %+v", path, got)
		}
		for _, body := range []string{"", "{", `{"id":1}`, `{"id":"x","state":"accepted"}`, `{"id":"x"}{}`} {
			if _, err := adminRoutes[path].do(d.at(path, body), context.Background()); statusOf(err) != http.StatusBadRequest {
				t.Errorf("%s %s: %v", path, body, err)
			}
		}
	}
}

// TestAdminReviewErrors: each error of the ledger has a status that says what to do.
func TestAdminReviewErrors(t *testing.T) {
	d, book, _ := reviewDesk()
	for want, status := range map[error]int{
		emergency.ErrNotFound: 404, emergency.ErrReviewed: 409, emergency.ErrOwn: 403, emergency.ErrVerdict: 400, emergency.ErrUnavailable: 503, errors.New("other"): 500,
	} {
		book.fail = fmt.Errorf("test: %w", want)
		if _, err := d.at("reviews/accept", `{"id":"x"}`).acceptReview(context.Background()); statusOf(err) != status {
			t.Errorf("%v: %d, want %d", want, statusOf(err), status)
		}
	}
	book.fail = emergency.ErrUnavailable
	d.r = httptest.NewRequest(http.MethodGet, "http://x"+adminPath+"reviews", nil)
	if _, err := d.listReviews(context.Background()); statusOf(err) != 503 {
		t.Errorf("%v", err)
	}
}

// glassBroken begins an emergency access in what runs.
func glassBroken(t *testing.T, username, patient string) (id string) {
	t.Helper()
	run, leave, err := enterRunning()
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	_, id, err = run.emergency.Begin(t.Context(), emergency.Grant{
		Site: "app.test", Source: "idp", Subject: "1", Username: username, Roles: []string{"doctor"}, Session: sidOfDana,
		Rule: "break_glass role doctor on /patients/** for 30m", Route: "/patients/**", Scope: "/patients/" + patient, Patient: patient,
		ReasonCode: "unconscious", ReasonText: "brought in by ambulance, not answering", Until: time.Now().Add(30 * time.Minute), Client: "192.0.2.7",
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestG8ReviewCommands: an operator sees what waits, accepts and rejects it, and hears what to do next; nothing that somebody is
// called acts on the terminal or in a shell.
func TestG8ReviewCommands(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	at := "--address=" + r.adminSocket()
	if out, err := command(t, reviewCommand(), at); err != nil || out != "No emergency access waits for review.\n" {
		t.Errorf("an empty list: %q %v", out, err)
	}
	first := glassBroken(t, "dana", "7")
	second := glassBroken(t, "\x1b[2J$(reboot)'; x", "8\r\n\x1b[31mOVERDUE")
	for _, args := range [][]string{{at}, {"list", at}} {
		out, err := command(t, reviewCommand(), args...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err != nil || len(lines) != 5 || !strings.HasPrefix(lines[0], "ID ") {
			t.Fatalf("%q: %q %v", args, out, err)
		}
		for _, want := range []string{first, "dana", "doctor", "app.test", "unconscious: brought in by ambulance", "30m, still runs", "logged", "2 open, 0 overdue", time.Now().Format("MST")} {
			if !strings.Contains(out, want) {
				t.Errorf("the list lacks %q:\n%s", want, out)
			}
		}
		if strings.ContainsAny(out, "\x1b\r") {
			t.Errorf("the list acts on a terminal: %q", out)
		}
	}
	if out, err := command(t, reviewCommand(), "accept", strings.ToLower(first), at, "--reviewer", "otto", "--comment", "asked by phone"); err != nil || !strings.HasPrefix(out, "Accepted: emergency access "+first+" of dana to patient 7, ") || strings.Contains(out, "Next") {
		t.Errorf("accept: %q %v", out, err)
	}
	out, err := command(t, reviewCommand(), "reject", second, at, "--reviewer", "otto", "--comment", "no relation")
	if err != nil || !strings.HasPrefix(out, "Rejected: ") || !strings.Contains(out, "It still ran and is over now") || strings.ContainsAny(out, "\x1b\r") ||
		!strings.Contains(out, `anteroom sessions end-user '?[2J$(reboot)'\''; x'`+"\n") {
		t.Errorf("reject: %q %v", out, err)
	}
	if out, err := command(t, reviewCommand(), at); err != nil || out != "No emergency access waits for review.\n" {
		t.Errorf("after the verdicts: %q %v", out, err)
	}
	var list reviewList
	out, err = command(t, reviewCommand(), at, "--json", "--state", "all")
	if err != nil || json.Unmarshal([]byte(out), &list) != nil || len(list.Reviews) != 2 || strings.Contains(out, sidOfDana) || strings.Contains(out, "\x1b") {
		t.Errorf("--json: %s %v", out, err)
	}
	if out, err := command(t, reviewCommand(), at, "--state", "rejected"); err != nil || !strings.Contains(out, "otto") || !strings.Contains(out, "no relation") || strings.Contains(out, first) {
		t.Errorf("--state rejected: %q %v", out, err)
	}
}

// TestReviewCommandErrors: what is mistyped, given twice or judged by oneself is said.
func TestReviewCommandErrors(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	at := "--address=" + r.adminSocket()
	first := glassBroken(t, "dana", "7")
	third := glassBroken(t, "-x", "9")
	if _, err := command(t, reviewCommand(), "accept", first, at, "--reviewer", "otto"); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, reviewCommand(), "reject", third, at, "--comment", "drill"); err != nil || !strings.Contains(out, "end-user -- -x\n") {
		t.Errorf("the operator's own name: %q %v", out, err)
	}
	fourth := glassBroken(t, "dana", "9")
	for want, args := range map[string][]string{
		"accepted by otto":               {"accept", first, "--reviewer", "erin"},
		"no emergency access of that id": {"accept", "0000000000"},
		"no emergency access of":         {"accept", "../keys"},
		"needs --comment":                {"reject", first},
		"--state is":                     {"--state", "every"},
		"unknown command":                {"acept", first},
		"accepts 1 arg":                  {"accept"},
		"their own":                      {"accept", fourth, "--reviewer", "DANA"},
		"at most 500":                    {"accept", fourth, "--comment", strings.Repeat("x", 501)},
	} {
		if _, err := command(t, reviewCommand(), append(args, at)...); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

// TestReviewTable: what is overdue stands out, and what ended early shows how long it was.
func TestReviewTable(t *testing.T) {
	now := time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)
	begun := now.Add(-75 * time.Hour)
	list := reviewList{Reviews: []reviewEntry{
		{ID: "A", State: "open", Overdue: true, User: "dana", Begun: begun, Until: begun.Add(30 * time.Minute), Ended: begun.Add(7 * time.Minute), Reason: "other", Text: strings.Repeat("é", 100), Alarm: "pending"},
		{ID: "B", State: "unreadable", Begun: now.Add(-time.Hour)},
		{ID: "C", State: "open", Subject: "sub", Begun: now.Add(-50 * time.Minute), Until: now.Add(-20 * time.Minute)},
	}}
	var out strings.Builder
	c := reviewCommand()
	c.SetOut(&out)
	if err := printReviews(c, list, "open", now); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for i, want := range map[int][]string{1: {"3d 3h OVERDUE", " 7m ", "pending", strings.Repeat("é", 59) + "…"}, 2: {"UNREADABLE"}, 3: {"sub", " 30m ", "50m"}, 5: {"3 open, 1 overdue"}} {
		for _, part := range want {
			if !strings.Contains(lines[i], part) {
				t.Errorf("line %d lacks %q: %s", i, part, lines[i])
			}
		}
	}
	for word, want := range map[string]string{"dana": "dana", "lab:dana@x.test": "lab:dana@x.test", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "~root": "'~root'", "a;b": "'a;b'", "é": "'é'", "*": "'*'"} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: %s", word, got)
		}
	}
}
