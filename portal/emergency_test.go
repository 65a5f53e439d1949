package portal

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/anteroom-proxy/anteroom/store"
)

// TestEmergency is the whole way: refused, the form, the page before the record, the end.
func TestEmergency(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	s := b.mustSession()
	e := policy.Emergency{Scope: "/patients/7", Subject: "7", For: 30 * time.Minute}
	page := b.refuse("GET", "/patients/7?tab=lab", Refusal{Kind: "forbidden", Ref: "7K3QWV9ZP2", Session: s, Emergency: &e})
	link := glassPath + "?return_to=%2Fpatients%2F7%3Ftab%3Dlab"
	expect(t, page, http.StatusForbidden, `<h2 id="emergency">Emergency access</h2>`, `href="`+link+`"`)

	form := b.get(link)
	expect(t, form, http.StatusOK, "<h1>Emergency access</h1>", `name="return_to" value="/patients/7?tab=lab"`, `name="patient" value="7"`,
		"<strong>30 minutes</strong>", "only this patient", "alarm", "reviewed", "IT help desk, 5-1234", "record of patient <strong>7</strong>")
	for _, r := range emergency.Reasons(false) {
		expect(t, form, http.StatusOK, `value="`+r.Code+`" required>`, r.Text)
	}
	g.mustNothing(b)

	answer := b.breaks(fields("/patients/7?tab=lab", "7"))
	expect(t, answer, http.StatusSeeOther)
	list, err := g.ledger.List(t.Context(), emergency.StateOpen)
	if err != nil || len(list) != 1 {
		t.Fatalf("reviews %v, %v", list, err)
	}
	r := list[0]
	if r.Patient != "7" || r.Scope != "/patients/7" || r.Route != "/patients/*" || r.Rule != "break_glass role doctor on /patients/* for 30m" ||
		r.ReasonCode != "life" || r.ReasonText != why || r.Site != site || r.Subject != s.Subject || r.Username != "adoe" || r.Client != "192.0.2.7" ||
		!r.Until.Equal(r.Begun.Add(30*time.Minute)) {
		t.Errorf("recorded %+v", r)
	}
	at := answer.Header().Get("Location")
	if want := glassPath + "/begun?id=" + r.ID + "&return_to=%2Fpatients%2F7%3Ftab%3Dlab"; at != want {
		t.Errorf("sent to %q, want %q", at, want)
	}
	expect(t, b.get(at), http.StatusOK, "<h1>You are in emergency access</h1>", "<strong>7</strong>", r.Until.Local().Format("15:04 MST"), "30 minutes left", r.ID,
		"reviewed", `href="/patients/7?tab=lab">Open the record`)

	expect(t, b.get("/.anteroom/"), http.StatusOK, "You are in emergency access", r.ID, `action="/.anteroom/emergency/end"`)
	expect(t, b.get(link), http.StatusOK, "You already are in emergency access", `href="/patients/7?tab=lab">Open the record`)

	end := b.form(glassPath+"/end", "id="+r.ID)
	expect(t, end, http.StatusOK, "Emergency access has ended", "closed to you again")
	if end.Header().Get("Clear-Site-Data") != `"cache"` {
		t.Error("what was shown stays in the browser's cache")
	}
	if n := len(g.active(b)); n != 0 {
		t.Errorf("%d still run", n)
	}
	expect(t, b.get(at), http.StatusForbidden, pageGlassOver.title)
	expect(t, b.form(glassPath+"/end", "id="+r.ID), http.StatusOK, "It had ended already")
	b.mustSession()
}

// TestEmergencyForm: what is not filled in comes back with everything that was typed, and
// nothing was begun (section 6.3, G2).
func TestEmergencyForm(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	for name, c := range map[string]struct {
		field, text string
		edit        func(url.Values)
	}{
		"no reason":           {fieldReason, "Choose a reason", func(v url.Values) { v.Del(fieldReason) }},
		"an unknown reason":   {fieldReason, "Choose a reason", func(v url.Values) { v.Set(fieldReason, "curious") }},
		"no text":             {fieldText, "in your own words", func(v url.Values) { v.Del(fieldText) }},
		"an empty text":       {fieldText, "in your own words", func(v url.Values) { v.Set(fieldText, "") }},
		"blanks":              {fieldText, "in your own words", func(v url.Values) { v.Set(fieldText, strings.Repeat(" \n", 20)) }},
		"9 characters":        {fieldText, "a little more", func(v url.Values) { v.Set(fieldText, "abcdefghi") }},
		"no words":            {fieldText, "a little more", func(v url.Values) { v.Set(fieldText, "............") }},
		"501 characters":      {fieldText, "Shorten", func(v url.Values) { v.Set(fieldText, strings.Repeat("ä", 501)) }},
		"not confirmed":       {fieldConfirm, "Tick the box", func(v url.Values) { v.Del(fieldConfirm) }},
		"confirmed otherwise": {fieldConfirm, "Tick the box", func(v url.Values) { v.Set(fieldConfirm, "no") }},
	} {
		t.Run("G2 "+name, func(t *testing.T) {
			v := fields("/patients/7", "7")
			c.edit(v)
			b.w.t, g.t = t, t
			before := len(g.glassEvents())
			answer := b.breaks(v)
			expect(t, answer, http.StatusUnprocessableEntity, "<title>Error: Emergency access", `href="#`+c.field+`">`, c.text, `value="/patients/7"`)
			if typed := strings.TrimSpace(v.Get(fieldText)); typed != "" && !strings.Contains(answer.Body.String(), typed) {
				t.Error("the text was lost")
			}
			if v.Get(fieldReason) == "life" && !strings.Contains(answer.Body.String(), `value="life" required checked`) {
				t.Error("the reason was lost")
			}
			if v.Get(fieldConfirm) == confirmed && !strings.Contains(answer.Body.String(), `value="yes" required checked`) {
				t.Error("the confirmation was lost")
			}
			g.mustNothing(b)
			if len(g.glassEvents()) != before {
				t.Error("a field that is not filled in yet is no event")
			}
			g.portal.glassPace = newPace(g.clock)
		})
	}
	t.Run("what a browser lets through is taken", func(t *testing.T) {
		b.w.t, g.t = t, t
		for _, text := range []string{"abcdefghij", strings.Repeat("ä", 500), "one line\r\nand another", "🚑 " + strings.Repeat("x", 497)} {
			v := fields("/patients/7", "7")
			v.Set(fieldText, text)
			expect(t, b.breaks(v), http.StatusSeeOther)
		}
	})
}

// TestEmergencyWithoutProvider: who has a running session gets in while no identity
// provider answers.
func TestEmergencyWithoutProvider(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	h := g.sources[0]
	h.set(func() {
		h.beginErr, h.finishErr, h.during = errStep, errStep, func() { t.Error("the provider is asked") }
	})
	begins := len(h.begins)
	expect(t, b.get(glassPath+"?return_to=/patients/7"), http.StatusOK)
	a := g.inside(b, "7")
	expect(t, b.get(glassPath+"/begun?id="+a.ID+"&return_to=/patients/7"), http.StatusOK, "Open the record")
	expect(t, b.form(glassPath+"/end", "id="+a.ID), http.StatusOK)
	if len(h.begins) != begins {
		t.Error("a sign-in was begun")
	}
}

// TestEmergencyRecord: no record, no access (section 6.3, G6).
func TestEmergencyRecord(t *testing.T) {
	t.Parallel()
	down := map[string]func(*glassWorld){
		"audit": func(g *glassWorld) { g.audit.set(func(e audit.Event) bool { return e.Kind == "emergency" }) },
		"store": func(g *glassWorld) {
			g.store.set(func(string) (bool, error) { return false, store.ErrUnavailable })
			g.store.failPut(store.ErrUnavailable)
		},
		"sealer": func(g *glassWorld) { g.sealer.mu.Lock(); g.sealer.err = errSealer; g.sealer.mu.Unlock() },
	}
	for name, fail := range down {
		t.Run("G6 "+name, func(t *testing.T) {
			g := newGlass(t)
			b := g.doctor()
			fail(g)
			answer := b.breaks(fields("/patients/7", "7"))
			expect(t, answer, http.StatusServiceUnavailable, pageGlassDown.title, "IT help desk, 5-1234", `href="/.anteroom/emergency?return_to=%2Fpatients%2F7"`)
			if b.jar[emergency.CookieName] != "" || len(answer.Header()["Set-Cookie"]) != 0 {
				t.Error("an access without a record")
			}
		})
	}
	t.Run("G6 the end", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		a := g.inside(b, "7")
		g.store.set(func(string) (bool, error) { return false, store.ErrUnavailable })
		g.store.failPut(store.ErrUnavailable)
		expect(t, b.form(glassPath+"/end", "id="+a.ID), http.StatusServiceUnavailable, pageGlassNotEnded.title)
	})
	t.Run("a refusal that cannot be recorded", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		g.audit.set(func(e audit.Event) bool { return e.Kind == "emergency" })
		for _, v := range []url.Values{fields("/payroll", "7"), fields("/patients/7", "8")} {
			expect(t, b.breaks(v), http.StatusServiceUnavailable, pageUnavailable.title)
		}
		expect(t, b.form(glassPath, fields("/patients/7", "7").Encode(), header("Origin", "https://evil.example")), http.StatusServiceUnavailable)
	})
}

// TestEmergencyEnds: an access does not outlive its time, its sign-in or its site (section
// 6.3, G4 and G11).
func TestEmergencyEnds(t *testing.T) {
	t.Parallel()
	t.Run("G4 time", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		a := g.inside(b, "7")
		g.advance(30*time.Minute + time.Second)
		expect(t, b.get(glassPath+"/begun?id="+a.ID+"&return_to=/patients/7"), http.StatusForbidden, pageGlassOver.title)
		if body := b.get("/.anteroom/").Body.String(); strings.Contains(body, "emergency") {
			t.Error("the page about oneself still shows it")
		}
	})
	for name, out := range map[string]func(b *browser){
		"signing out":        func(b *browser) { b.do("POST", "/.anteroom/logout") },
		"switching user":     func(b *browser) { b.do("POST", "/.anteroom/switch") },
		"ending all devices": func(b *browser) { b.form("/.anteroom/sessions/end-all", "") },
	} {
		t.Run("G11 "+name, func(t *testing.T) {
			g := newGlass(t)
			b := g.doctor()
			a := g.inside(b, "7")
			cookie := b.jar[emergency.CookieName]
			out(b)
			if b.jar[emergency.CookieName] != "" {
				t.Error("the browser keeps the cookie")
			}
			if list := g.glassEvents(); list[len(list)-1].Decision != "ended" {
				t.Errorf("recorded %+v", list)
			}
			next := g.doctor()
			next.jar[emergency.CookieName] = cookie
			if n := len(g.active(next)); n != 0 {
				t.Errorf("the next sign-in has %d accesses", n)
			}
			expect(t, next.get(glassPath+"/begun?id="+a.ID), http.StatusForbidden, pageGlassOver.title)
		})
	}
	t.Run("signing out while the end cannot be written", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		g.inside(b, "7")
		g.audit.set(func(e audit.Event) bool { return e.Kind == "emergency" })
		expect(t, b.do("POST", "/.anteroom/logout"), http.StatusOK, "You are signed out")
		b.mustNoSession()
	})
}

// TestEmergencySeveral: two patients, one after the other, each with an end of its own.
func TestEmergencySeveral(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	one, two := g.inside(b, "7"), g.inside(b, "8")
	if one.ID == two.ID || len(g.active(b)) != 2 {
		t.Fatalf("%+v", g.active(b))
	}
	expect(t, b.get("/.anteroom/"), http.StatusOK, one.ID, two.ID)
	expect(t, b.form(glassPath+"/end", "id="+one.ID), http.StatusOK)
	if left := g.active(b); len(left) != 1 || left[0].ID != two.ID {
		t.Errorf("%+v", left)
	}
}

// TestEmergencyReplay: a form that is sent twice begins two accesses, each with a record
// and a review of its own. The answer to the first may have been lost on the way.
func TestEmergencyReplay(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	lost := b.clone()
	expect(t, lost.breaks(fields("/patients/7", "7")), http.StatusSeeOther)
	expect(t, b.breaks(fields("/patients/7", "7")), http.StatusSeeOther)
	list, err := g.ledger.List(t.Context(), emergency.StateOpen)
	if err != nil || len(list) != 2 || list[0].ID == list[1].ID {
		t.Errorf("reviews %v, %v", list, err)
	}
}

// TestEmergencyPatients: whom the page names is whom the path is about, in any language,
// and the link leads to the path as it was sent.
func TestEmergencyPatients(t *testing.T) {
	t.Parallel()
	open := regexp.MustCompile(`href="([^"]*)">Open the record`)
	for path, shown := range map[string]string{
		"/patients/J%C3%B6rg/lab":                        "Jörg",
		"/patients/O'Brien":                              "O&#39;Brien",
		"/patients/(7)":                                  "(7)",
		"/patients/[7]@x":                                "[7]@x",
		"/patients/%3Cb%3Ebold?a=b&c":                    "&lt;b&gt;bold",
		"/patients/%22%3E%3Cscript%3Ealert(1)%3C/script": "&#34;&gt;&lt;script&gt;alert(1)&lt;",
		"/patients/a%20b":                                "a b",
		"/patients/" + strings.Repeat("long", 200):       "longlong",
	} {
		t.Run(path[:min(30, len(path))], func(t *testing.T) {
			g := newGlass(t)
			b := g.doctor()
			e, ok := g.policy(b.request("GET", "/"), b.mustSession(), path)
			if !ok {
				t.Fatal("no rule")
			}
			expect(t, b.refuse("GET", path, Refusal{Kind: "forbidden", Session: b.mustSession(), Emergency: &e}), 403, glassPath+"?return_to="+url.QueryEscape(path))
			form := b.get(glassPath + "?return_to=" + url.QueryEscape(path))
			expect(t, form, http.StatusOK, `<p class="value">`+shown)
			answer := b.breaks(fields(path, e.Subject))
			expect(t, answer, http.StatusSeeOther)
			banner := b.get(answer.Header().Get("Location"))
			expect(t, banner, http.StatusOK, shown)
			found := open.FindStringSubmatch(banner.Body.String())
			if found == nil || strings.NewReplacer("&#39;", "'", "&amp;", "&").Replace(found[1]) != path {
				t.Errorf("the link leads to %q", found)
			}
			for _, body := range []string{form.Body.String(), banner.Body.String(), b.get("/.anteroom/").Body.String()} {
				if strings.Contains(body, "<b>") || strings.Contains(body, "<script") {
					t.Errorf("the name is markup: %s", body)
				}
			}
		})
	}
}

// TestEmergencyOffer: where there is no form to offer, none is.
func TestEmergencyOffer(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	s := b.mustSession()
	e := &policy.Emergency{Scope: "/patients/7", Subject: "7", For: time.Hour}
	for name, c := range map[string]struct {
		method, target string
		ref            Refusal
	}{
		"no rule":          {"GET", "/patients/7", Refusal{Kind: "forbidden", Session: s}},
		"nobody":           {"GET", "/patients/7", Refusal{Kind: "forbidden", Emergency: e}},
		"a change":         {"POST", "/patients/7", Refusal{Kind: "forbidden", Session: s, Emergency: e}},
		"another kind":     {"GET", "/patients/7", Refusal{Kind: "step-up", Session: s, Emergency: e}},
		"a page of ours":   {"GET", "/.anteroom/login", Refusal{Kind: "forbidden", Session: s, Emergency: e}},
		"a very long path": {"GET", "/" + strings.Repeat("x", maxReturnTo), Refusal{Kind: "forbidden", Session: s, Emergency: e}},
	} {
		if body := b.refuse(c.method, c.target, c.ref).Body.String(); strings.Contains(body, "mergency") {
			t.Errorf("%s: %s", name, body)
		}
	}
	expect(t, b.refuse("GET", "/patients/7?x="+strings.Repeat("x", maxReturnTo), Refusal{Kind: "forbidden", Session: s, Emergency: e}), 403, glassPath+"?return_to=%2Fpatients%2F7\"")
	t.Run("an installation without", func(t *testing.T) {
		w := newWorld(t, newSource("hospital", "Hospital"))
		b := w.browser()
		b.signIn("hospital", "/")
		if body := b.refuse("GET", "/patients/7", Refusal{Kind: "forbidden", Session: b.mustSession(), Emergency: e}).Body.String(); strings.Contains(body, "mergency") {
			t.Error(body)
		}
		for _, path := range []string{"", "/begun", "/end"} {
			expect(t, b.get(glassPath+path), http.StatusNotFound)
		}
		b.do("POST", "/.anteroom/logout")
	})
	t.Run("half of it", func(t *testing.T) {
		_, err := New(Config{Sessions: g.sessions, Store: g.store, Sealer: g.sealer, Audit: g.audit, Emergency: g.ledger})
		if err == nil || !strings.Contains(err.Error(), "emergency access") {
			t.Error(err)
		}
	})
	t.Run("a policy that says nothing useful", func(t *testing.T) {
		for _, odd := range []policy.Emergency{{}, {Scope: "/x"}, {For: time.Hour}, {Scope: "x", For: time.Hour}} {
			g.set(func() {
				g.rule = func(*http.Request, *session.Session, string) (policy.Emergency, bool) { return odd, true }
			})
			expect(t, b.get(glassPath+"?return_to=/patients/7"), http.StatusForbidden, pageGlassClosed.title)
		}
		g.set(func() { g.rule = nil })
	})
}
