package portal

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

const stepQuery = "return_to=%2Fprescribe&acr_values=gold%20platinum&amr=otp,hwk&amr=pwd&max_age=300"

func stepNeed() identity.Need {
	return identity.Need{ACR: []string{"gold", "platinum"}, AMR: [][]string{{"otp", "hwk"}, {"pwd"}}, MaxAge: 5 * time.Minute}
}

// reaches makes the source confirm what stepNeed asks for.
func (s *source) reaches(w *world) {
	s.set(func() {
		s.id.ACR, s.id.AMR, s.id.AuthTime = "gold", []string{"pwd", "otp"}, w.clock()
	})
}

// stateOf is the state of an attempt that an answer began.
func stateOf(t testing.TB, answer *httptest.ResponseRecorder) string {
	t.Helper()
	expect(t, answer, http.StatusFound)
	u, err := url.Parse(answer.Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u.Query().Get("state")
}

func TestStepUp(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T) (*world, *browser, *session.Session) {
		t.Helper()
		w := newWorld(t, newSource("lab", "Lab"), newSource("hospital", "Hospital"))
		b := w.browser()
		b.signIn("hospital", "/x")
		return w, b, b.mustSession()
	}
	t.Run("the session's own source is asked, and the page opens", func(t *testing.T) {
		t.Parallel()
		w, b, old := start(t)
		answer := b.get("/.anteroom/login?" + stepQuery)
		state := stateOf(t, answer)
		h := w.sources[1]
		if got := h.lastBegin(t); !reflect.DeepEqual(got.Need, stepNeed()) || got.Reauthenticate {
			t.Errorf("asked for %+v", got)
		}
		h.reaches(w)
		answer = b.get(callback("hospital", state), fromProvider)
		expect(t, answer, http.StatusSeeOther)
		if to := answer.Header().Get("Location"); to != "/prescribe" {
			t.Errorf("landed at %q", to)
		}
		s := b.mustSession()
		if s.ID == old.ID || s.ACR != "gold" || !w.sessions.Revoked(old.ID) {
			t.Errorf("session %+v", s)
		}
	})
	for name, set := range map[string]func(w *world, i *identity.Identity){
		"nothing said":          func(_ *world, i *identity.Identity) { i.ACR, i.AMR, i.AuthTime = "", nil, time.Time{} },
		"a lower context":       func(_ *world, i *identity.Identity) { i.ACR = "silver" },
		"no second method":      func(_ *world, i *identity.Identity) { i.AMR = []string{"pwd"} },
		"an old authentication": func(w *world, i *identity.Identity) { i.AuthTime = w.clock().Add(-301 * time.Second) },
		"no time":               func(_ *world, i *identity.Identity) { i.AuthTime = time.Time{} },
	} {
		t.Run("N39 not reached: "+name, func(t *testing.T) {
			t.Parallel()
			w, b, old := start(t)
			state := stateOf(t, b.get("/.anteroom/login?"+stepQuery))
			h := w.sources[1]
			h.reaches(w)
			h.set(func() { set(w, &h.id) })
			answer := b.get(callback("hospital", state), fromProvider)
			e := w.audit.last(t)
			expect(t, answer, http.StatusForbidden, pageStepUp.title, e.Ref, "Your session goes on as it was.")
			if e.Reason != reasonNotReached || e.Decision != "failed" || answer.Header().Get("Location") != "" {
				t.Errorf("recorded %+v, answered %v", e, answer.Header())
			}
			if s := b.mustSession(); s.ID != old.ID || s.ACR != "" {
				t.Errorf("session %+v", s)
			}
			if list, _ := w.sessions.Sessions(t.Context(), "hospital", "sub-1"); len(list) != 1 {
				t.Errorf("%d sessions", len(list))
			}
			// The way to try again asks for the same.
			if !strings.Contains(answer.Body.String(), "acr_values=gold") {
				t.Errorf("no way to try again: %s", answer.Body)
			}
		})
	}
	t.Run("N38 the provider says no", func(t *testing.T) {
		t.Parallel()
		w, b, old := start(t)
		state := stateOf(t, b.get("/.anteroom/login?"+stepQuery))
		h := w.sources[1]
		h.set(func() {
			h.finishErr = &identity.Failure{Kind: identity.ErrDeclined, Reason: "unmet_authentication_requirements"}
		})
		answer := b.get(callback("hospital", state), fromProvider)
		expect(t, answer, http.StatusForbidden, pageDeclined.title, `href="/"`)
		if b.mustSession().ID != old.ID {
			t.Error("the session is another")
		}
	})
	t.Run("without a session, every way to sign in carries it", func(t *testing.T) {
		t.Parallel()
		w, _, _ := start(t)
		b := w.browser()
		page := b.get("/.anteroom/login?" + stepQuery)
		expect(t, page, http.StatusOK)
		href := hrefOn(t, page, "/.anteroom/login/lab?")
		stateOf(t, b.get(href))
		if got := w.sources[0].lastBegin(t).Need; !reflect.DeepEqual(got, stepNeed()) {
			t.Errorf("%s asks for %+v", href, got)
		}
	})
	t.Run("somebody else may sign in instead", func(t *testing.T) {
		t.Parallel()
		w, b, _ := start(t)
		page := b.get("/.anteroom/login?switch=1&" + stepQuery)
		expect(t, page, http.StatusOK)
		if strings.Contains(page.Body.String(), "acr_values") {
			t.Error("the next person is asked for what this one's page needs")
		}
		_ = w
	})
	t.Run("S9 two tabs: the lower one is not handed to the page that asks for more", func(t *testing.T) {
		t.Parallel()
		w, _, _ := start(t)
		b := w.browser()
		plain := b.begin("hospital", "/a")
		more := stateOf(t, b.get("/.anteroom/login/hospital?"+stepQuery))
		expect(t, b.get(callback("hospital", plain), fromProvider), http.StatusSeeOther)
		low := b.mustSession()
		w.sources[1].reaches(w)
		expect(t, b.get(callback("hospital", more), fromProvider), http.StatusSeeOther)
		if s := b.mustSession(); s.ID == low.ID || s.ACR != "gold" {
			t.Errorf("session %+v", s)
		}
	})
	t.Run("S13 a page that is never content", func(t *testing.T) {
		t.Parallel()
		w, b, _ := start(t)
		w.sources[1].reaches(w)
		for i := range 8 {
			answer := b.get("/.anteroom/login?" + stepQuery)
			if answer.Code == http.StatusFound {
				expect(t, b.get(callback("hospital", stateOf(t, answer)), fromProvider), http.StatusSeeOther)
				continue
			}
			expect(t, answer, http.StatusForbidden, pageStepUp.title)
			if e := w.audit.last(t); e.Reason != reasonStepLoop || i < 2 {
				t.Errorf("round %d: %+v", i, e)
			}
			b.mustSession()
			return
		}
		t.Error("it goes round for ever")
	})
	t.Run("a sign-in that waited for an answer too long", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, newSource("hospital", "Hospital")).limits(1, session.Move)
		w.sources[0].reaches(w)
		w.device(firefox)
		b := w.browser()
		state := stateOf(t, b.get("/.anteroom/login/hospital?return_to=%2Fp&max_age=60"))
		page := b.get(callback("hospital", state), fromProvider)
		expect(t, page, http.StatusSeeOther)
		id := ticketOf(t, b.get("/.anteroom/move"))
		w.advance(61 * time.Second)
		expect(t, b.form("/.anteroom/move", "id="+id), http.StatusForbidden, pageStepUp.title)
		b.mustNoSession()
	})
}

// hrefOn is the address of the first link on a page that begins so.
func hrefOn(t testing.TB, page *httptest.ResponseRecorder, prefix string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page.Body.String(), `href="`+prefix)
	if !ok {
		t.Fatalf("no link to %s on %s", prefix, page.Body)
	}
	href, _, _ := strings.Cut(rest, `"`)
	return prefix + html.UnescapeString(href)
}

// TestStepUpOverPortal: the need goes to the one portal and back.
func TestStepUpOverPortal(t *testing.T) {
	t.Parallel()
	w := newFleet(t, newSource("lab", "Lab"), newSource("hospital", "Hospital"))
	h := w.sources[1]
	u := w.person()
	u.open(homeHost, "/.anteroom/login/hospital")
	home := u.at(homeHost).mustSession()
	u.open(site, "/.anteroom/login?return_to=%2Fx")
	old := u.at(site).mustSession()
	if old.ID != home.ID {
		t.Fatal("not one sign-on")
	}
	t.Run("a sign-on that has not shown it is not handed over", func(t *testing.T) {
		last, _ := u.open(site, "/.anteroom/login?"+stepQuery)
		expect(t, last.answer, http.StatusForbidden, pageStepUp.title)
		if last.host != homeHost || u.at(site).mustSession().ID != old.ID {
			t.Errorf("ended at %s", last.url())
		}
	})
	t.Run("reached: a new sign-on, at the same page", func(t *testing.T) {
		h.reaches(w)
		last, _ := u.open(site, "/.anteroom/login?"+stepQuery)
		if last.host != site || last.target != "/prescribe" {
			t.Errorf("ended at %s: %s", last.url(), last.answer.Body)
		}
		if got := h.lastBegin(t).Need; !reflect.DeepEqual(got, stepNeed()) {
			t.Errorf("the provider is asked for %+v", got)
		}
		s := u.at(site).mustSession()
		if s.ACR != "gold" || s.ID == old.ID || u.at(homeHost).mustSession().ID != s.ID || !w.sessions.Revoked(old.ID) {
			t.Errorf("session %+v", s)
		}
	})
	t.Run("another site is handed what is there", func(t *testing.T) {
		n := len(h.begins)
		last, _ := u.open(fincare, "/.anteroom/login?"+stepQuery)
		if last.host != fincare || u.at(fincare).mustSession().ACR != "gold" || len(h.begins) != n {
			t.Errorf("ended at %s", last.url())
		}
	})
	t.Run("a code for less opens nothing at the site", func(t *testing.T) {
		u := w.person()
		way, to := u.step(site, "/.anteroom/login?acr_values=diamond")
		expect(t, way.answer, http.StatusFound)
		at, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		k, reason, err := w.portal.openAsk(t.Context(), at.Query().Get("ask"))
		if reason != "" || !reflect.DeepEqual(k.Need.ACR, []string{"diamond"}) {
			t.Fatalf("%+v, %s, %v", k, reason, err)
		}
		// As a node of an older version would make it.
		u.at(homeHost).signIn("hospital", "/")
		code, err := w.portal.newCode(t.Context(), k, u.at(homeHost).mustSession())
		if err != nil {
			t.Fatal(err)
		}
		answer := u.at(site).get(strings.TrimPrefix(code, "https://"+site), fromProvider)
		expect(t, answer, http.StatusForbidden, pageStepUp.title)
		if e := w.audit.last(t); e.Kind != kindHandOff || e.Reason != reasonNotReached {
			t.Errorf("recorded %+v", e)
		}
		u.at(site).mustNoSession()
	})
	t.Run("what an address says does not count beside an ask", func(t *testing.T) {
		k := ask{Site: site, State: newState(), Challenge: challenge(newVerifier()), Created: w.clock().Unix(), Need: identity.Need{ACR: []string{"diamond"}}}
		text, err := w.portal.sealJSON(t.Context(), labelAsk, k)
		if err != nil {
			t.Fatal(err)
		}
		stateOf(t, u.at(homeHost).get("/.anteroom/login?acr_values=gold&ask="+text))
		if got := h.lastBegin(t).Need; !reflect.DeepEqual(got, k.Need) {
			t.Errorf("asked for %+v", got)
		}
	})
	t.Run("the longest need fits into every cookie and address", func(t *testing.T) {
		long := strings.TrimSuffix(strings.Repeat(strings.Repeat("a", 63)+" ", 8), " ")
		u := w.person()
		last, way := u.open(site, "/.anteroom/login?acr_values="+url.QueryEscape(long)+"&return_to=/"+strings.Repeat("x", 900))
		for _, hop := range way {
			if hop.answer.Code >= 500 {
				t.Errorf("%s: %d", hop.url(), hop.answer.Code)
			}
		}
		if last.answer.Code != http.StatusOK || last.host != homeHost {
			t.Fatalf("ended at %s with %d", last.url(), last.answer.Code)
		}
		answer := u.at(homeHost).get(hrefOn(t, last.answer, "/.anteroom/login/hospital?"))
		stateOf(t, answer)
		if got := h.lastBegin(t).Need; len(got.ACR) != 8 {
			t.Errorf("asked for %+v", got)
		}
	})
}

// TestStepUpReopen: a sign-on that was idle at the portal is given back to somebody
// only for a page that it is enough for.
func TestStepUpReopen(t *testing.T) {
	t.Parallel()
	for query, begins := range map[string]int{"": 1, "?" + stepQuery: 2} {
		t.Run("of a need "+query, func(t *testing.T) {
			t.Parallel()
			w := newFleet(t, newSource("hospital", "Hospital"))
			u := w.person()
			u.mustOpen(site, "/")
			w.later(10 * time.Minute)
			u.work(site)
			w.later(20 * time.Minute)
			u.at(homeHost).mustNoSession()
			expect(t, u.at(homeHost).get("/.anteroom/login"+query), http.StatusFound)
			if n := len(w.sources[0].begins); n != begins {
				t.Errorf("the provider was asked %d times", n)
			}
		})
	}
}

func TestNeedOf(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]identity.Need{
		"":                          {},
		"acr_values=a":              {ACR: []string{"a"}},
		"acr_values=a%20b&x=1":      {ACR: []string{"a", "b"}},
		"amr=a,b&amr=c":             {AMR: [][]string{{"a", "b"}, {"c"}}},
		"max_age=1":                 {MaxAge: time.Second},
		"max_age=2592000":           {MaxAge: 30 * 24 * time.Hour},
		"max_age=0":                 {},
		"max_age=01":                {},
		"max_age=2592001":           {},
		"max_age=-1":                {},
		"max_age=%2B1":              {},
		"max_age=":                  {},
		"max_age=1&max_age=1":       {},
		"max_age=1.5":               {},
		"max_age=99999999999":       {},
		"max_age=x&acr_values=a":    {},
		"acr_values=":               {},
		"acr_values=a%20%20b":       {},
		"acr_values=%20a":           {},
		"acr_values=a%0ab":          {},
		"acr_values=%22":            {},
		"acr_values=%c3%a4":         {},
		"acr_values=a&acr_values=a": {},
		"acr_values=a&amr=":         {},
		"amr=a,":                    {},
		"acr_values=a&amr=" + strings.Repeat("x", 512):       {},
		"amr=" + strings.Repeat("x,", 16) + "x":              {},
		strings.TrimSuffix(strings.Repeat("amr=x&", 9), "&"): {},
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		got := needOf(q)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%.40q is %+v, want %+v", query, got, want)
		}
		back := make(url.Values)
		needQuery(got, back)
		if again := needOf(back); !reflect.DeepEqual(again, got) {
			t.Errorf("%.40q comes back as %+v", query, again)
		}
	}
}

func TestRefuseStepUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newSource("hospital", "Hospital"))
	b := w.browser()
	b.signIn("hospital", "/")
	answer := httptest.NewRecorder()
	w.portal.Refuse(answer, b.request("GET", "/prescribe?x=1"), Refusal{Kind: "step-up", Ref: "R", Session: b.mustSession(), Need: stepNeed()})
	expect(t, answer, http.StatusUnauthorized, pageNeedsMore.title, "Dr. Ada Doe", "Confirm who I am")
	stateOf(t, b.get(hrefOn(t, answer, "/.anteroom/login?")))
	if got := w.sources[0].lastBegin(t).Need; !reflect.DeepEqual(got, stepNeed()) {
		t.Errorf("asked for %+v", got)
	}
}
