package gate

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/budget"
	"github.com/anteroom-proxy/anteroom/session"
)

// bells is who hears of an alarm.
type bells struct {
	mu   sync.Mutex
	rung []alarm.Event
}

func (b *bells) Raise(_ context.Context, e alarm.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rung = append(b.rung, e)
}

// withBudget gives the gate a counter of its own store.
func (h *hospital) withBudget(t testing.TB) *bells {
	t.Helper()
	b, err := budget.New(budget.Config{Store: h.store, Sealer: h.store.sealer, Now: h.now})
	if err != nil {
		t.Fatal(err)
	}
	rung := &bells{}
	h.gate.counter, h.gate.alarm = b, rung
	return rung
}

var budgetRules = append(slices.Clone(rules), "allow role doctor /patients/{patient}/**", "allow role nurse /patients/{patient}/**", "budget role doctor 3 distinct {patient} per 1h alarm 2")

// 3 different patients, and the same ones as often as needed; the fourth is refused, for this account only, and people hear of it once.
func TestBudgetDenies(t *testing.T) {
	h := newHospital(t, budgetRules)
	rung := h.withBudget(t)
	dana, nora := h.dana(), h.nurse()
	other := h.signIn(session.Grant{Username: "dora", Roles: []string{"doctor"}})
	see := func(who *person, patient string, want int) {
		t.Helper()
		var next http.Handler
		if want != 200 {
			next = never(t)
		}
		if w := h.ask("GET", "/patients/"+patient+"/notes", who.cookie, next); w.Code != want {
			t.Errorf("%s sees %s: %d, want %d", who.session.Username, patient, w.Code, want)
		}
	}
	see(dana, "1", 200)
	for range 3 {
		see(dana, "2", 200)
		see(dana, "1", 200)
	}
	see(dana, "3", 200)
	h.audit.take()
	see(dana, "4", 403)
	refused := h.audit.take()
	see(dana, "5", 403)
	see(dana, "%33", 200) // the same patient, written in another way
	see(dana, "1", 200)
	second := h.dana() // another session of the same person
	see(second, "6", 403)
	see(other, "4", 200)
	for i := range 9 {
		see(nora, strconv.Itoa(i), 200)
	}
	if w := h.ask("GET", "/members/x", dana.cookie, nil); w.Code != 200 {
		t.Errorf("what is not counted: %d", w.Code)
	}
	if w := h.ask("GET", "/patients/4/notes", dana.cookie, never(t)); w.Code != 403 || !strings.Contains(w.Body.String(), `"urn:anteroom:problem:budget"`) || strings.Contains(w.Body.String(), "3") && strings.Contains(w.Body.String(), "distinct") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h.shown = nil
	if h.ask("GET", "/patients/4/notes", dana.cookie, never(t), "Accept: text/html", "Sec-Fetch-Mode: navigate"); len(h.shown) != 1 || h.shown[0].Kind != KindBudget || h.shown[0].Emergency != nil {
		t.Errorf("the page: %+v", h.shown)
	}
	if len(rung.rung) != 2 || rung.rung[0].Kind != alarm.KindBudget || rung.rung[0].Count != 2 || rung.rung[1].Kind != alarm.KindLimit || rung.rung[1].Limit != 3 {
		t.Fatalf("alarms %+v", rung.rung)
	}
	for _, e := range rung.rung {
		if e.Who != "dana" || e.Site != site || e.Rule == "" || e.Ref == "" || e.Subject != "" {
			t.Errorf("alarm %+v", e)
		}
	}
	if len(refused) != 2 || refused[0].Kind != "budget" || refused[0].Reason != reasonBudgetLimit || refused[0].Ref != rung.rung[1].Ref || refused[1].Kind != "request" || refused[1].Decision != "denied" || refused[1].Reason != reasonBudget || !strings.HasPrefix(refused[1].Rule, "budget role doctor") {
		t.Errorf("records %+v", refused)
	}
	for _, e := range refused {
		if strings.Contains(e.Path+e.Route+e.Rule+e.Shadow, "4") {
			t.Errorf("whose record it was stands in the log: %+v", e)
		}
	}
}

// A broken glass is counted, too.
func TestBudgetCountsEmergencies(t *testing.T) {
	h := newHospital(t, append(slices.Clone(glassRules), "budget role doctor 1 distinct {patient} per 1h"))
	h.withBudget(t)
	dana := h.dana()
	_, one := h.breakGlass(dana, "/patients/1")
	if w := h.ask("GET", "/patients/1", dana.cookie+"; "+one, nil); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	_, both := h.breakGlass(&person{session: dana.session, cookie: dana.cookie + "; " + one}, "/patients/2")
	if w := h.ask("GET", "/patients/2", dana.cookie+"; "+both, never(t)); w.Code != 403 {
		t.Errorf("the second one: %d", w.Code)
	}
}

// With step_up a new sign-in, and nothing less, begins anew.
func TestBudgetStepsUp(t *testing.T) { synctest.Test(t, testBudgetStepsUp) }

func testBudgetStepsUp(t *testing.T) {
	h := newQuietHospital(t, append(slices.Clone(rules), "allow role doctor /patients/{patient}/**", "budget role doctor 2 distinct {patient} per 1h then step_up"))
	h.withBudget(t)
	doctor := func(at time.Time) *person {
		return h.signIn(session.Grant{Username: "dana", Roles: []string{"doctor"}, AuthTime: at})
	}
	dana := doctor(time.Now())
	time.Sleep(5 * time.Minute)
	for _, patient := range []string{"1", "2"} {
		if w := h.ask("GET", "/patients/"+patient, dana.cookie, nil); w.Code != 200 {
			t.Errorf("%d", w.Code)
		}
	}
	w := h.ask("GET", "/patients/3", dana.cookie, never(t))
	if got := w.Header().Get("Www-Authenticate"); w.Code != 401 || !strings.Contains(got, `error="insufficient_user_authentication"`) || !strings.Contains(got, `max_age="299"`) || !strings.Contains(w.Body.String(), "step-up") {
		t.Errorf("%d %q", w.Code, w.Header()["Www-Authenticate"])
	}
	if w := h.ask("GET", "/patients/3", dana.cookie, never(t), "Accept: text/html", "Sec-Fetch-Mode: navigate"); w.Code != 302 || !strings.Contains(w.Header().Get("Location"), "max_age=299") {
		t.Errorf("a page: %d %q", w.Code, w.Header().Get("Location"))
	}
	time.Sleep(time.Second)
	if w := h.ask("GET", "/patients/3", doctor(time.Now().Add(-time.Minute)).cookie, never(t)); w.Code != 401 {
		t.Errorf("a new session of an old sign-in: %d", w.Code)
	}
	fresh := doctor(time.Now())
	for patient, want := range map[string]int{"3": 200} {
		if w := h.ask("GET", "/patients/"+patient, fresh.cookie, nil); w.Code != want {
			t.Errorf("after a new sign-in: %d", w.Code)
		}
	}
}

// failing is a counter that does not know.
type failing struct {
	err   error
	asked int
}

func (f *failing) Count(context.Context, budget.Key, string, budget.Limit, time.Time) (budget.Result, error) {
	f.asked++
	return budget.Result{Admitted: true}, f.err // whoever looks at the result is wrong
}

// No error lets a request through, whatever it is; a site that goes on without the store counts by itself.
func TestBudgetFailsClosed(t *testing.T) {
	h := newHospital(t, budgetRules, func(c *Config) { c.OnStoreLoss = 5 * time.Minute })
	dana := h.dana()
	ask := func(patient string, next http.Handler) int {
		return h.ask("GET", "/patients/"+patient, dana.cookie, next).Code
	}
	if got := ask("1", never(t)); got != 503 {
		t.Errorf("no counter: %d", got)
	}
	h.gate.counter = (*budget.Budget)(nil)
	if got := ask("1", never(t)); got != 503 {
		t.Errorf("a nil counter: %d", got)
	}
	for _, err := range []error{budget.ErrUnavailable, budget.ErrInvalid, context.DeadlineExceeded, errors.New("x")} {
		h.gate.counter = &failing{err: err}
		if got := ask("1", never(t)); got != 503 {
			t.Errorf("%v: %d", err, got)
		}
	}
	if got := h.ask("GET", "/members/x", dana.cookie, nil).Code; got != 200 {
		t.Errorf("what is not counted: %d", got)
	}
	if got := ask("1", nil); got != 503 {
		t.Errorf("%d", got)
	}
	// The store is silent, and the operator wants to go on.
	h.store.set(true)
	h.clock.add(31 * time.Second)
	for _, err := range []error{budget.ErrInvalid, errors.New("x")} {
		h.gate.counter = &failing{err: err}
		if got := ask("1", never(t)); got != 503 {
			t.Errorf("degraded, %v: %d", err, got)
		}
	}
	h.gate.counter = &failing{err: budget.ErrUnavailable}
	for patient, want := range map[string]int{"1": 200, "2": 200, "3": 200} {
		if got := ask(patient, nil); got != want {
			t.Errorf("degraded: %d", got)
		}
	}
	if got := ask("4", never(t)); got != 403 {
		t.Errorf("degraded, over the limit: %d", got)
	}
	if got := ask("2", nil); got != 200 {
		t.Errorf("degraded, one that is known: %d", got)
	}
	// Without the record that the limit was reached, nothing.
	h.store.set(false)
	h.audit.setFail(true)
	if got := ask("1", never(t)); got != 503 {
		t.Errorf("no record: %d", got)
	}
}

// A level that is reached and cannot be recorded lets nobody through, and people are told all the same.
func TestBudgetAlarmWithoutRecord(t *testing.T) {
	h := newHospital(t, budgetRules)
	rung := h.withBudget(t)
	dana := h.dana()
	h.ask("GET", "/patients/1", dana.cookie, nil)
	h.audit.setFail(true)
	if w := h.ask("GET", "/patients/2", dana.cookie, never(t)); w.Code != 503 || len(rung.rung) != 1 {
		t.Errorf("%d %+v", w.Code, rung.rung)
	}
}

// The counts of an outage are bounded, and end with their time.
func TestLocalCounts(t *testing.T) {
	var l localCounts
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	k, limit := budget.Key{ID: "a", Account: "x"}, budget.Limit{Max: 2, Per: time.Hour}
	for _, c := range []struct {
		value string
		after time.Duration
		want  bool
	}{{"1", 0, true}, {"2", 0, true}, {"1", 0, true}, {"3", 0, false}, {"3", 59 * time.Minute, false}, {"1", 0, true}, {"3", time.Minute, true}, {"2", 0, false}} {
		now = now.Add(c.after)
		if got := l.admits(k, c.value, limit, now); got != c.want {
			t.Errorf("%s: %t", c.value, got)
		}
	}
	for i := range maxLocalWindows + 10 {
		l.admits(budget.Key{ID: strconv.Itoa(i)}, "1", limit, now)
	}
	if len(l.windows) != maxLocalWindows || l.admits(budget.Key{ID: "new"}, "1", limit, now) {
		t.Errorf("%d windows", len(l.windows))
	}
	if !l.admits(k, "1", limit, now) {
		t.Error("a known one has to wait")
	}
	if now = now.Add(time.Hour); !l.admits(budget.Key{ID: "new"}, "1", limit, now) || len(l.windows) != 1 {
		t.Errorf("%d windows after their time", len(l.windows))
	}
}
