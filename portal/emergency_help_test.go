package portal

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

const (
	glassPath = "/.anteroom/emergency"
	why       = "Found unconscious, allergies unknown"
)

// glassWorld is a world where doctors may break the glass for /patients/*, for half an
// hour.
type glassWorld struct {
	*world
	ledger *emergency.Ledger

	mu    sync.Mutex // guards the fields below
	asked []string   // addresses that the policy was asked for
	rule  BreakGlass // overrides the policy
}

func newGlass(t testing.TB) *glassWorld {
	t.Helper()
	g := &glassWorld{world: newWorld(t, newSource("hospital", "General Hospital"))}
	var err error
	g.ledger, err = emergency.New(emergency.Config{Store: g.store, Sealer: g.sealer, Audit: g.audit, Now: g.clock})
	if err != nil {
		t.Fatal(err)
	}
	g.portal, err = New(Config{
		Sources: []identity.Source{g.sources[0].whole()}, Sessions: g.sessions, Store: g.store, Sealer: g.sealer, Audit: g.audit,
		Emergency: g.ledger, BreakGlass: g.policy, Contact: "IT help desk, 5-1234",
		Now: g.clock, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *glassWorld) policy(r *http.Request, s *session.Session, target string) (policy.Emergency, bool) {
	g.mu.Lock()
	g.asked = append(g.asked, target)
	rule := g.rule
	g.mu.Unlock()
	if rule != nil {
		return rule(r, s, target)
	}
	path, _, _ := strings.Cut(target, "?")
	rest, ok := strings.CutPrefix(path, "/patients/")
	first, _, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(first)
	if !ok || first == "" || err != nil || !slices.Contains(s.Roles, "doctor") || s.Audience != siteName(r.Host) {
		return policy.Emergency{}, false
	}
	return policy.Emergency{
		Rule: "break_glass role doctor on /patients/* for 30m", Route: "/patients/*", Scope: "/patients/" + first, Subject: name, For: 30 * time.Minute,
	}, true
}

func (g *glassWorld) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// doctor is a browser in which the doctor is signed in.
func (g *glassWorld) doctor() *browser {
	g.t.Helper()
	b := g.browser()
	b.signIn("hospital", "/")
	return b
}

// fields is the form as a person fills it in.
func fields(target, patient string) url.Values {
	return url.Values{fieldTarget: {target}, fieldPatient: {patient}, fieldReason: {"life"}, fieldText: {why}, fieldConfirm: {confirmed}}
}

// breaks sends the form and returns the answer.
func (b *browser) breaks(v url.Values, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	b.w.t.Helper()
	return b.form(glassPath, v.Encode(), edit...)
}

// active are the accesses that run in this browser.
func (g *glassWorld) active(b *browser) []emergency.Active {
	g.t.Helper()
	s := b.mustSession()
	return g.ledger.Active(g.t.Context(), b.request("GET", "/").Header["Cookie"], s.ID, s.Audience, g.clock())
}

// inside breaks the glass for a patient and returns the access.
func (g *glassWorld) inside(b *browser, patient string) emergency.Active {
	g.t.Helper()
	expect(g.t, b.breaks(fields("/patients/"+patient, patient)), http.StatusSeeOther)
	for _, a := range g.active(b) {
		if a.Patient == patient {
			return a
		}
	}
	g.t.Fatalf("no access to %s", patient)
	return emergency.Active{}
}

// mustNothing fails when anything was begun: no access, no review, no event that says so.
func (g *glassWorld) mustNothing(b *browser) {
	g.t.Helper()
	if b.jar[emergency.CookieName] != "" {
		g.t.Error("the browser got an access")
	}
	if list, err := g.ledger.List(g.t.Context(), emergency.StateAll); err != nil || len(list) != 0 {
		g.t.Errorf("reviews %v, %v", list, err)
	}
	if slices.ContainsFunc(g.glassEvents(), func(e audit.Event) bool { return e.Decision == "allowed" }) {
		g.t.Errorf("recorded %+v", g.glassEvents())
	}
}

// glassEvents are the records of emergency accesses.
func (g *glassWorld) glassEvents() (list []audit.Event) {
	g.audit.mu.Lock()
	defer g.audit.mu.Unlock()
	for _, e := range g.audit.events {
		if e.Kind == "emergency" {
			list = append(list, e)
		}
	}
	return list
}

// emergencyPages makes each page of emergency access once.
func emergencyPages(t *testing.T) map[string]string {
	t.Helper()
	g := newGlass(t)
	b := g.doctor()
	e, _ := g.policy(b.request("GET", "/"), b.mustSession(), "/patients/7")
	out := map[string]string{
		"why-emergency":       b.refuse("GET", "/patients/7", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2", Session: b.mustSession(), Missing: policy.MissingRole, Emergency: &e}).Body.String(),
		"emergency":           b.get(glassPath + "?return_to=/patients/7").Body.String(),
		"emergency-none":      b.get(glassPath + "?return_to=/payroll").Body.String(),
		"emergency-over":      b.get(glassPath + "/begun?id=x").Body.String(),
		"emergency-all-wrong": b.form(glassPath, "return_to=/patients/7&patient=8&text=x").Body.String(),
	}
	g.set(func() {
		g.rule = func(*http.Request, *session.Session, string) (policy.Emergency, bool) {
			return policy.Emergency{Rule: "r", Route: "/board", Scope: "/board", For: time.Hour}, true
		}
	})
	out["emergency-page"] = b.get(glassPath + "?return_to=/board").Body.String()
	g.set(func() { g.rule = nil })
	g.audit.set(func(e audit.Event) bool { return e.Kind == "emergency" })
	out["emergency-down"] = b.breaks(fields("/patients/7", "7")).Body.String()
	g.audit.set(nil)
	g.inside(b, "7")
	out["emergency-begun"] = b.get(b.breaks(fields("/patients/7", "7")).Header().Get("Location")).Body.String()
	out["emergency-again"] = b.get(glassPath + "?return_to=/patients/7").Body.String()
	out["emergency-who"] = b.get("/.anteroom/").Body.String()
	out["emergency-ended"] = b.form(glassPath+"/end", "id="+g.active(b)[0].ID).Body.String()
	for range paceBurst {
		out["emergency-many"] = b.breaks(url.Values{fieldTarget: {"/patients/7"}, fieldPatient: {"7"}}).Body.String()
	}
	return out
}
