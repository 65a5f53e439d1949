package gate

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// glassRules let doctors break the glass for one patient.
var glassRules = append(slices.Clone(rules),
	"allow role doctor /patients/own", "break_glass role doctor GET,PUT on /patients/{patient}/** for 30m",
	"deny any /patients/{patient}/sealed/**", "require acr mfa /patients/vip/**",
)

// hospital is a rig whose gate knows a ledger of emergency accesses.
type hospital struct {
	*rig
	ledger *emergency.Ledger
	now    func() time.Time
	shown  []Outcome
}

func newHospital(t testing.TB, lines []string, change ...func(*Config)) *hospital {
	t.Helper()
	h := &hospital{rig: newRig(t)}
	h.now = h.clock.now
	h.open(lines, change...)
	return h
}

// newQuietHospital has no network and the time of a test in a bubble.
func newQuietHospital(t testing.TB, lines []string, change ...func(*Config)) *hospital {
	t.Helper()
	h := &hospital{rig: &rig{t: t, audit: &recorder{}}, now: time.Now}
	h.sessions, h.store = newSessions(t, time.Now)
	h.open(lines, change...)
	return h
}

func (h *hospital) open(lines []string, change ...func(*Config)) {
	h.t.Helper()
	var err error
	h.ledger, err = emergency.New(emergency.Config{Store: h.store, Sealer: h.store.sealer, Audit: h.audit, Now: h.now})
	if err != nil {
		h.t.Fatal(err)
	}
	h.rules(lines, change...)
}

// rules loads another config.
func (h *hospital) rules(lines []string, change ...func(*Config)) {
	h.t.Helper()
	c := Config{
		Policy: compile(h.t, lines...), Sessions: h.sessions, Audit: h.audit, Now: h.now, Emergency: h.ledger,
		Deny: func(w http.ResponseWriter, _ *http.Request, o Outcome) {
			h.shown = append(h.shown, o)
			w.WriteHeader(o.Status)
		},
	}
	for _, f := range change {
		f(&c)
	}
	h.gate = mustNew(h.t, c)
}

// asks asks the gate as the portal does.
func (h *hospital) asks(who *person, target string) (policy.Emergency, bool) {
	r := httptest.NewRequest("POST", "/.anteroom/emergency", nil)
	r.Host = site
	return h.gate.Emergency(r, who.session, target)
}

// breakGlass does what the portal's form does, and returns the id and the cookie's line.
func (h *hospital) breakGlass(who *person, target string) (id, cookie string) {
	h.t.Helper()
	e, ok := h.asks(who, target)
	if !ok {
		h.t.Fatalf("%s may not break the glass for %s", who.session.Username, target)
	}
	s := who.session
	set, id, err := h.ledger.Begin(context.Background(), emergency.Grant{
		Site: s.Audience, Source: s.Source, Subject: s.Subject, Username: s.Username, Roles: s.Roles, Session: s.ID,
		Rule: e.Rule, Route: e.Route, Scope: e.Scope, Patient: e.Subject, ReasonCode: "life", ReasonText: "found unconscious in ward 3",
		Until: h.now().Add(e.For), Cookies: []string{who.cookie},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return id, set.Name + "=" + set.Value
}

// ask sends a request without a network; header lines may follow.
func (h *hospital) ask(method, target, cookie string, next http.Handler, lines ...string) *httptest.ResponseRecorder {
	return direct(h.gate, method, target, func(q *http.Request) {
		if cookie != "" {
			q.Header.Set("Cookie", cookie)
		}
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			q.Header.Set(name, value)
		}
	}, next)
}

// nurse has none of the roles that a line names.
func (h *hospital) nurse() *person {
	return h.signIn(session.Grant{Username: "nora", Roles: []string{"nurse"}})
}

// never fails the test when the app is reached.
func never(t testing.TB) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		t.Errorf("%s %s reached the app", q.Method, q.RequestURI)
	})
}
