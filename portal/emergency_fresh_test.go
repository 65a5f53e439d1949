package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// askable is a source whose provider can be asked whether it answers.
type askable struct {
	identity.Source
	down  atomic.Bool
	asked atomic.Int32
}

func (s *askable) Answers(context.Context) error {
	s.asked.Add(1)
	if s.down.Load() {
		return errors.New("connection refused")
	}
	return nil
}

// freshGlass is a world whose rule says what edit makes of it; the provider tells when people signed in.
func freshGlass(t *testing.T, edit func(*policy.Emergency)) (*glassWorld, *askable) {
	g := newGlass(t)
	source := &askable{Source: g.sources[0].whole()}
	g.portal.sources = []identity.Source{source}
	g.portal.breakGlass = func(r *http.Request, s *session.Session, target string) (policy.Emergency, bool) {
		e, ok := g.policy(r, s, target)
		edit(&e)
		return e, ok
	}
	g.sources[0].set(func() { g.sources[0].id.AuthTime = g.clock() })
	return g, source
}

// G2: a form that needs a fresh sign-in is not shown, and not taken, before there is one; the way leads back to the form.
func TestGlassFreshSignIn(t *testing.T) {
	t.Parallel()
	g, source := freshGlass(t, func(e *policy.Emergency) { e.Fresh = 5 * time.Minute })
	b := g.doctor()
	form := glassPath + "?return_to=" + url.QueryEscape("/patients/7?tab=1")
	expect(t, b.get(form), http.StatusOK, "Begin emergency access")
	if source.asked.Load() != 0 {
		t.Error("the provider is asked although the sign-in is fresh")
	}
	g.advance(4 * time.Minute)
	expect(t, b.breaks(fields("/patients/8", "8")), http.StatusSeeOther) // begun while it was fresh: filled in since
	if len(g.active(b)) != 1 {
		t.Fatal("not begun")
	}
	g.advance(2 * time.Minute)
	before := len(g.reviews())
	answer := b.breaks(fields("/patients/7?tab=1", "7"))
	expect(t, answer, http.StatusSeeOther)
	to := answer.Header().Get("Location")
	if !strings.HasPrefix(to, "/.anteroom/login?") || !strings.Contains(to, "max_age=300") || len(g.reviews()) != before {
		t.Fatalf("sent to %q, %d reviews", to, len(g.reviews()))
	}
	answer = b.get(form)
	expect(t, answer, http.StatusSeeOther)
	state := stateOf(t, b.get(answer.Header().Get("Location")))
	if need := g.sources[0].lastBegin(t).Need; need.MaxAge != 150*time.Second {
		t.Errorf("asked for %+v", need)
	}
	g.sources[0].set(func() { g.sources[0].id.AuthTime = g.clock() })
	answer = b.get(callback("hospital", state), fromProvider)
	expect(t, answer, http.StatusSeeOther)
	if back := answer.Header().Get("Location"); back != form {
		t.Fatalf("back to %q, not to %q", back, form)
	}
	expect(t, b.get(form), http.StatusOK, "Begin emergency access")
	expect(t, b.breaks(fields("/patients/7?tab=1", "7")), http.StatusSeeOther)
	if r := g.reviews(); len(r) != before+1 || r[len(r)-1].Stale {
		t.Errorf("%+v", r)
	}
}

// G2: with a silent provider whoever has a running session gets in, and everything that is told of it says so. Whoever only says that it
// is silent, hangs up or asks again and again changes nothing.
func TestGlassProviderDown(t *testing.T) {
	t.Parallel()
	g, source := freshGlass(t, func(e *policy.Emergency) { e.Fresh = 5 * time.Minute })
	b := g.doctor()
	g.advance(time.Hour)
	b.signIn("hospital", "/") // a running session, of an old proof
	for range 30 {
		expect(t, b.get(glassPath+"?return_to=%2Fpatients%2F7", func(r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			*r = *r.WithContext(ctx)
		}), http.StatusSeeOther)
	}
	if n := source.asked.Load(); n != 1 {
		t.Errorf("the provider was asked %d times within a moment", n)
	}
	source.down.Store(true)
	g.advance(10 * time.Second)
	expect(t, b.get(glassPath+"?return_to=%2Fpatients%2F7"), http.StatusOK, "The sign-in service does not answer", "Begin emergency access")
	expect(t, b.breaks(fields("/patients/7", "7")), http.StatusSeeOther)
	reviews := g.reviews()
	if len(reviews) != 1 || !reviews[0].Stale {
		t.Fatalf("%+v", reviews)
	}
	if e := g.audit.last(t); e.Kind != "emergency" || e.Degraded != emergency.DegradedStale {
		t.Errorf("%+v", e)
	}
	source.down.Store(false) // it answers again when the form is sent
	g.advance(10 * time.Second)
	expect(t, b.breaks(fields("/patients/8", "8")), http.StatusSeeOther)
	if len(g.reviews()) != 1 {
		t.Error("begun without a fresh sign-in although the provider answers")
	}
}

// G2: what a line demands of the sign-in itself (max_age, acr) is demanded whether the provider answers or not.
func TestGlassNeed(t *testing.T) {
	t.Parallel()
	g, source := freshGlass(t, func(e *policy.Emergency) { e.Need = &policy.Need{ACR: []string{"mfa"}, MaxAge: time.Minute} })
	source.down.Store(true)
	b := g.doctor()
	for _, answer := range []*http.Response{b.get(glassPath + "?return_to=%2Fpatients%2F7").Result(), b.breaks(fields("/patients/7", "7")).Result()} {
		if to := answer.Header.Get("Location"); answer.StatusCode != http.StatusSeeOther || !strings.Contains(to, "acr_values=mfa") || !strings.Contains(to, "max_age=60") {
			t.Errorf("%d %q", answer.StatusCode, to)
		}
	}
	if len(g.reviews()) != 0 || source.asked.Load() != 0 {
		t.Error("begun, or the provider was asked")
	}
	expect(t, b.get(glassPath+"?return_to=%2Fpatients%2F7", program), http.StatusUnauthorized, "urn:anteroom:problem:step-up")
	// An address that is too long to come back to as a form leads back to the page, which offers the form again.
	long := "/patients/7?" + strings.Repeat("%20", 300)
	if to := b.get(glassPath + "?return_to=" + url.QueryEscape(long)).Header().Get("Location"); !strings.Contains(to, url.QueryEscape(long)) || strings.Contains(to, "emergency") {
		t.Errorf("a long address: %q", to)
	}
}

// G12: a drill is offered where the rule says so and nowhere else, and is marked in all that is told of it.
func TestGlassDrill(t *testing.T) {
	t.Parallel()
	drills := false
	g, _ := freshGlass(t, func(e *policy.Emergency) { e.Drill = drills })
	b := g.doctor()
	v := fields("/patients/7", "7")
	v.Set(fieldReason, emergency.ReasonDrill)
	if page := b.get(glassPath + "?return_to=%2Fpatients%2F7"); strings.Contains(page.Body.String(), "drill") {
		t.Error("offered where no rule says so")
	}
	expect(t, b.breaks(v), http.StatusUnprocessableEntity, "Choose a reason.")
	drills = true
	expect(t, b.get(glassPath+"?return_to=%2Fpatients%2F7"), http.StatusOK, "This is a drill")
	answer := b.breaks(v)
	expect(t, answer, http.StatusSeeOther)
	expect(t, b.get(answer.Header().Get("Location")), http.StatusOK, "marked as a <strong>drill</strong>", "The alarm was raised")
	if e := g.audit.last(t); !e.Drill || e.Reason != emergency.ReasonDrill || e.Kind != "emergency" {
		t.Errorf("%+v", e)
	}
	if r := g.reviews(); len(r) != 1 || !r[0].Drill || r[0].State != emergency.StateOpen {
		t.Errorf("%+v", r)
	}
	if a := g.active(b); len(a) != 1 || !a[0].Drill {
		t.Errorf("%+v", a)
	}
	v = fields("/patients/8", "8")
	expect(t, b.breaks(v), http.StatusSeeOther)
	if e := g.audit.last(t); e.Drill || len(g.reviews()) != 2 {
		t.Errorf("an emergency during a drill is one: %+v", e)
	}
}

func (g *glassWorld) reviews() []emergency.Review {
	g.t.Helper()
	list, err := g.ledger.List(g.t.Context(), emergency.StateAll)
	if err != nil {
		g.t.Fatal(err)
	}
	return list
}
