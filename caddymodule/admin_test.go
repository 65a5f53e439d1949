package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// fakeRoster is a session manager that remembers what was done to it.
type fakeRoster struct {
	infos []session.Info
	keys  []session.KeyInfo
	fail  error
	done  []string
}

func (f *fakeRoster) AllSessions(context.Context) ([]session.Info, error) { return f.infos, f.fail }
func (f *fakeRoster) Keys() []session.KeyInfo                             { return f.keys }
func (f *fakeRoster) act(what string) error {
	f.done = append(f.done, what)
	return f.fail
}
func (f *fakeRoster) Revoke(_ context.Context, sid string) error { return f.act("revoke " + sid) }
func (f *fakeRoster) RotateKeys(context.Context) error           { return f.act("rotate") }
func (f *fakeRoster) KillKey(_ context.Context, kid string) error {
	return f.act("kill " + kid)
}
func (f *fakeRoster) RevokeUser(_ context.Context, u session.User) (int, error) {
	return 2, f.act(fmt.Sprintf("user %s/%s/%s", u.Source, u.Subject, u.Username))
}

// fakeAudit keeps events; what was done by then is in at, so that the order shows.
type fakeAudit struct {
	roster *fakeRoster
	events []audit.Event
	at     []int
	fail   error
}

func (f *fakeAudit) Record(_ context.Context, e audit.Event) error {
	if f.fail != nil {
		return fmt.Errorf("taking it: %w", f.fail)
	}
	f.events, f.at = append(f.events, e), append(f.at, len(f.roster.done))
	return nil
}

const sidOfDana = "SID-OF-DANA-THAT-NOBODY-MAY-SEE"

func fakeDesk() (desk, *fakeRoster, *fakeAudit) {
	began := time.Date(2026, 3, 1, 8, 0, 0, 0, time.FixedZone("CET", 3600))
	roster := &fakeRoster{
		infos: []session.Info{
			{ID: sidOfDana, Source: "idp", Subject: "1", Username: "dana", Name: "Dana Doe", Roles: []string{"doctor"}, AMR: []string{"pwd", "otp"},
				Sites: []string{"app.test"}, Device: session.Device{Browser: "Firefox", System: "Linux"}, Started: began, Seen: began.Add(time.Hour), Expires: began.Add(2 * time.Hour), Ends: began.Add(12 * time.Hour)},
			{ID: "second", Source: "lab", Subject: "1", Username: "erin", Started: began.Add(time.Minute)},
		},
		keys: []session.KeyInfo{{KID: "k1", Use: "session", State: session.KeySigning, Created: began}},
	}
	log := &fakeAudit{roster: roster}
	return desk{sessions: roster, audit: log, asker: "unix"}, roster, log
}

// at gives the desk a request.
func (d desk) at(path, body string) desk {
	d.r = httptest.NewRequest(http.MethodPost, "http://x"+adminPath+path, strings.NewReader(body))
	return d
}

func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	return problemOf(err).status
}

// TestRowS17AdminAudit: every change stands in the audit log before it is made, with who asked and whom it concerns; without
// a record nothing is changed; a change that fails is recorded as such.
func TestRowS17AdminAudit(t *testing.T) {
	label := audit.SessionLabel(sidOfDana)
	for path, c := range map[string]struct {
		body, done string
		event      audit.Event
	}{
		"sessions/end":      {`{"id":"` + label + `"}`, "revoke " + sidOfDana, audit.Event{Source: "idp", Subject: "1", Name: "dana", Roles: []string{"doctor"}, Session: label, Reason: "session-ended"}},
		"sessions/end-user": {`{"username":"dana"}`, "user //dana", audit.Event{Name: "dana", Reason: "user-ended", Count: 1}},
		"keys/rotate":       {`{}`, "rotate", audit.Event{Reason: "keys-rotated"}},
		"keys/kill":         {`{"kid":"k1"}`, "kill k1", audit.Event{Rule: "key k1", Reason: "key-killed"}},
	} {
		do := adminRoutes[path].do
		d, roster, log := fakeDesk()
		if _, err := do(d.at(path, c.body), t.Context()); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		c.event.Kind, c.event.Decision, c.event.Method, c.event.Route, c.event.Client = "admin", "allowed", http.MethodPost, adminPath+path, "unix"
		if len(log.events) != 1 || log.at[0] != 0 || log.events[0].Ref == "" || !slices.Equal(roster.done, []string{c.done}) {
			t.Fatalf("%s: done %q, recorded %+v after %v", path, roster.done, log.events, log.at)
		}
		log.events[0].Ref = ""
		if !reflect.DeepEqual(log.events[0], c.event) {
			t.Errorf("%s: recorded %+v\nwant %+v", path, log.events[0], c.event)
		}

		d, roster, log = fakeDesk()
		log.fail = audit.ErrUnavailable
		if _, err := do(d.at(path, c.body), t.Context()); statusOf(err) != http.StatusServiceUnavailable || len(roster.done) != 0 {
			t.Errorf("%s: without a record %v and done %q", path, err, roster.done)
		}
	}
	d, roster, log := fakeDesk()
	roster.fail = store.ErrUnavailable
	if _, err := d.at("keys/rotate", "{}").rotateKeys(t.Context()); statusOf(err) != http.StatusServiceUnavailable {
		t.Errorf("a change that failed: %v", err)
	}
	if len(log.events) != 2 || log.events[1].Decision != "failed" || log.events[1].Ref != log.events[0].Ref {
		t.Errorf("a change that failed is recorded as %+v", log.events)
	}
}

// TestAdminNobodyElse: a request that names nobody, or nobody who is there, ends nothing.
func TestAdminNobodyElse(t *testing.T) {
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"sessions/end", `{"id":"nope"}`, 404},
		{"sessions/end", `{"id":""}`, 404},
		{"sessions/end", `{}`, 404},
		{"sessions/end", `{"id":"` + sidOfDana + `"}`, 404}, // its label, never the id itself
		{"sessions/end", ``, 400},
		{"sessions/end", `null garbage`, 400},
		{"sessions/end", `["x"]`, 400},
		{"sessions/end", `{"id":"x"}{"id":"y"}`, 400},
		{"sessions/end", `{"id":"x","all":true}`, 400},
		{"sessions/end-user", `{}`, 400},
		{"sessions/end-user", `{"username":""}`, 400},
		{"sessions/end-user", `{"source":"idp"}`, 400},
		{"sessions/end-user", `{"subject":"1"}`, 400},
		{"sessions/end-user", `{"username":"dana","source":"idp"}`, 400},
		{"sessions/end-user", `{"username":"dana","source":"idp","subject":"1"}`, 400},
		{"keys/kill", `{"kid":""}`, 404},
		{"keys/kill", `{"kid":"k2"}`, 404},
		{"keys/rotate", `{"use":"session"}`, 400},
		{"keys/rotate", ``, 400},
	} {
		d, roster, log := fakeDesk()
		roster.infos = append(roster.infos, session.Info{}) // nobody is not named by nothing
		_, err := adminRoutes[c.path].do(d.at(c.path, c.body), t.Context())
		if statusOf(err) != c.status || len(roster.done) != 0 || len(log.events) != 0 {
			t.Errorf("%s %s: %v, done %q, recorded %v; want %d and nothing", c.path, c.body, err, roster.done, log.events, c.status)
		}
	}
}

// TestAdminListNames: the field names that scripts rely on, times in UTC, no list that is null; and no session's id.
func TestAdminListNames(t *testing.T) {
	d, _, _ := fakeDesk()
	answer, err := d.at("sessions?user=dana", "").listSessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"sessions":[{"id":"` + audit.SessionLabel(sidOfDana) + `","user":"dana","name":"Dana Doe","source":"idp","subject":"1","roles":["doctor"],"amr":["pwd","otp"],` +
		`"sites":["app.test"],"browser":"Firefox","system":"Linux","since":"2026-03-01T07:00:00Z","last_seen":"2026-03-01T08:00:00Z","idle_end":"2026-03-01T09:00:00Z","ends":"2026-03-01T19:00:00Z"}]}`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for query, n := range map[string]int{"": 2, "?user=DANA": 1, "?user=": 0, "?user=erin": 1} {
		answer, err := d.at("sessions"+query, "").listSessions(t.Context())
		got, _ := json.Marshal(answer)
		if err != nil || len(answer.(sessionList).Sessions) != n || strings.Contains(string(got), "null") || strings.Contains(string(got), sidOfDana) {
			t.Errorf("%q: %s %v", query, got, err)
		}
	}
	for _, query := range []string{"?usr=dana", "?user=dana&user=erin", "?user=dana&all=1"} {
		if _, err := d.at("sessions"+query, "").listSessions(t.Context()); statusOf(err) != http.StatusBadRequest {
			t.Errorf("%q: %v; a mistyped filter shows everybody", query, err)
		}
	}
	keys, err := d.at("keys", "").listKeys(t.Context())
	got, _ = json.Marshal(keys)
	if err != nil || string(got) != `{"keys":[{"kid":"k1","use":"session","state":"signing","created":"2026-03-01T07:00:00Z"}]}` {
		t.Errorf("keys: %s %v", got, err)
	}
}

// TestRow162AdminHealth: whoever watches the node sees why it lets nobody in.
func TestRow162AdminHealth(t *testing.T) {
	keys := []session.KeyInfo{{KID: "a", Use: "assertion", State: session.KeySigning}, {KID: "n", Use: "session", State: session.KeyNext}, {KID: "s", Use: "session", State: session.KeySigning}}
	for _, c := range []struct {
		h      session.Health
		status string
		http   int
	}{
		{session.Health{Running: true, Silence: time.Second, Skew: -30 * time.Second}, healthOK, 200},
		{session.Health{Running: true, Stale: true, Silence: time.Minute}, healthStale, 503},
		{session.Health{Running: true, Stale: true, Skew: 31 * time.Second}, healthClock, 503},
		{session.Health{Running: true, Skew: -31 * time.Second}, healthClock, 503},
		{session.Health{Stale: true}, healthStarting, 503},
	} {
		if got := healthOf(c.h, keys); got.Status != c.status || got.httpStatus() != c.http || got.SigningKey != "s" {
			t.Errorf("%+v: %+v", c.h, got)
		}
	}
	for err, want := range map[error]string{error(errNotConfigured): healthNotConfigured, error(errStarting): healthStarting} {
		if got := health(nil, err); got.Status != want || got.httpStatus() != 503 {
			t.Errorf("%v: %+v", err, got)
		}
	}
	got, err := json.Marshal(healthOf(session.Health{Running: true, Silence: 1500 * time.Millisecond, Skew: 2 * time.Second, Sessions: 1, Watchers: 2, Revocations: 3, CachedTokens: 4}, keys))
	want := `{"status":"ok","store_silent_seconds":1.5,"clock_skew_seconds":2,"sessions":1,"streams":2,"revocations":3,"verified_tokens":4,"signing_key":"s"}`
	if err != nil || string(got) != want {
		t.Errorf("%s %v\nwant %s", got, err, want)
	}
}

// TestAdminProblems: an error that nobody thought of is no 200, and says nothing that the asker may not know.
func TestAdminProblems(t *testing.T) {
	for err, want := range map[error]int{
		session.ErrStale: 503, session.ErrClosed: 503, store.ErrUnavailable: 503, context.DeadlineExceeded: 503, audit.ErrUnavailable: 503,
		errors.New("other"): 500, errNotConfigured: 404,
	} {
		if p := problemOf(fmt.Errorf("doing: %w", err)); p.status != want || p.kind == "" || p.detail == "" {
			t.Errorf("%v: %+v", err, p)
		}
	}
}
