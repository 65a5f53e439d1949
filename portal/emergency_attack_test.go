package portal

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// TestAttackEmergencyForm: no other page sends the form (rows 50, S2, S3), in no other
// shape (S6).
func TestAttackEmergencyForm(t *testing.T) {
	t.Parallel()
	for name, edit := range foreignForms() {
		t.Run("50 S2 S3 "+name, func(t *testing.T) {
			g := newGlass(t)
			b := g.doctor()
			expect(t, b.breaks(fields("/patients/7", "7"), edit), http.StatusForbidden, pageCrossOrigin.title)
			g.mustNothing(b)
			if e := g.audit.last(t); e.Kind != "emergency" || e.Decision != "denied" || e.Reason != reasonOrigin || e.Subject != "sub-1" {
				t.Errorf("recorded %+v", e)
			}
			a := g.inside(b, "7")
			expect(t, b.form(glassPath+"/end", "id="+a.ID, edit), http.StatusForbidden, pageCrossOrigin.title)
			if len(g.active(b)) != 1 {
				t.Error("a foreign page ended it")
			}
		})
	}
	g := newGlass(t)
	b := g.doctor()
	good := fields("/patients/7", "7").Encode()
	t.Run("S3 by a link, an image, a prefetch", func(t *testing.T) {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			b.do(method, glassPath+"?"+good, fromProvider, header("Sec-Fetch-Dest", "image"))
		}
		g.mustNothing(b)
	})
	for name, body := range map[string]string{
		"two targets":    good + "&return_to=/patients/8",
		"two patients":   good + "&patient=7",
		"two reasons":    good + "&reason=other",
		"two texts":      good + "&text=x",
		"two boxes":      good + "&confirm=yes",
		"a stranger":     good + "&scope=/",
		"a rule":         good + "&rule=break_glass+any+on+/**",
		"a duration":     good + "&for=24h",
		"in capitals":    strings.ToUpper(good),
		"no target":      strings.Replace(good, "return_to=%2Fpatients%2F7", "", 1),
		"no patient":     strings.Replace(good, "patient=7&", "", 1),
		"nothing":        "",
		"a bad escape":   good + "%zz",
		"semicolons":     strings.ReplaceAll(good, "&", ";"),
		"no UTF-8":       good + "%ff",
		"no UTF-8 name":  good + "&%ff=1",
		"a query's form": "",
	} {
		t.Run("S6 "+name, func(t *testing.T) {
			expect(t, b.form(glassPath+"?"+good, body), http.StatusBadRequest, pageForm.title, "Nothing was changed")
			g.mustNothing(b)
		})
	}
	t.Run("S6 kinds", func(t *testing.T) {
		for _, kind := range []string{"", "text/plain", "application/json", "multipart/form-data; boundary=x"} {
			expect(t, b.form(glassPath, good, header("Content-Type", kind)), http.StatusUnsupportedMediaType)
		}
		expect(t, b.form(glassPath, good, header("Content-Encoding", "gzip")), http.StatusUnsupportedMediaType)
		for _, length := range []int64{0, -1} {
			expect(t, b.form(glassPath, good+strings.Repeat("x", maxEmergencyForm), func(r *http.Request) {
				if length != 0 {
					r.ContentLength = length
				}
			}), http.StatusRequestEntityTooLarge)
		}
		g.mustNothing(b)
	})
	t.Run("the longest form that a page sends fits", func(t *testing.T) {
		v := fields("/patients/"+strings.Repeat("%C3%A4", 165), strings.Repeat("ä", 165))
		v.Set(fieldText, strings.Repeat("🚑", 480)+strings.Repeat("x", 20))
		if n := len(v.Encode()); n < 6000 || n > maxEmergencyForm {
			t.Errorf("%d bytes", n)
		}
		if answer := b.breaks(v); answer.Code >= 500 || answer.Code == http.StatusRequestEntityTooLarge {
			t.Errorf("%d", answer.Code)
		}
	})
}

// TestAttackEmergencyScope: what opens is what the policy says for this person at this
// moment, and never what a form says (section 6.3, G3).
func TestAttackEmergencyScope(t *testing.T) {
	t.Parallel()
	closed := func(t *testing.T, g *glassWorld, b *browser, v url.Values, reason string) {
		t.Helper()
		answer := b.breaks(v)
		expect(t, answer, http.StatusForbidden, pageGlassClosed.title, "Nothing was begun", "IT help desk, 5-1234", g.audit.last(t).Ref)
		if e := g.audit.last(t); e.Kind != "emergency" || e.Decision != "denied" || e.Reason != reason || e.Subject != "sub-1" {
			t.Errorf("recorded %+v, want %s", e, reason)
		}
		g.mustNothing(b)
	}
	t.Run("G3 another patient than that of the address", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		for i, patient := range []string{"8", "", " 7", "7 ", "07", "/patients/7", "７"} {
			answer := b.breaks(fields("/patients/7", patient))
			expect(t, answer, http.StatusUnprocessableEntity, "about another patient", "Tick the box", why, `name="patient" value="7"`, `<p class="value">7</p>`)
			if strings.Contains(answer.Body.String(), `value="yes" required checked`) {
				t.Error("what was confirmed for another stays confirmed")
			}
			if n := len(g.glassEvents()); n != i+1 || g.audit.last(t).Reason != reasonGlassPatient {
				t.Errorf("%q: recorded %d", patient, n)
			}
			g.mustNothing(b)
		}
	})
	t.Run("G3 targets that no rule opens", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		for _, target := range []string{"/payroll", "/", "/patients", "/patients/", "/patientsX/7", "/PATIENTS/7", "/admin/patients/7"} {
			reason := reasonGlassClosed
			if target == "/" {
				reason = reasonGlassTarget
			}
			closed(t, g, b, fields(target, "7"), reason)
		}
	})
	t.Run("4.7 targets that are no addresses of ours", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		g.portal.glassPace.now = func() time.Time { g.portal.glassPace.buckets = map[string]*bucket{}; return g.clock() }
		for _, target := range append(slices.Clone(foreign), own...) {
			for _, answer := range []*httptest.ResponseRecorder{
				b.breaks(fields(target, "7")), b.get(glassPath + "?return_to=" + url.QueryEscape(target)), b.get(glassPath + "/begun?return_to=" + url.QueryEscape(target)),
			} {
				if answer.Code != http.StatusForbidden && answer.Code != http.StatusBadRequest {
					t.Errorf("%q: %d", target, answer.Code)
				}
				if body := answer.Body.String(); strings.Contains(body, `href="//`) || strings.Contains(body, `href="http`) || strings.Contains(body, "javascript:") {
					t.Errorf("%q: %s", target, body)
				}
				for name := range answer.Header() {
					if name == "Location" || name == "Set-Cookie" {
						t.Errorf("%q: header %s", target, name)
					}
				}
			}
		}
		g.mustNothing(b)
		for _, target := range g.asked {
			if u, err := url.Parse("https://" + site + "/x"); err != nil || !strings.HasPrefix(target, "/") || mustRef(t, u, target).Host != site {
				t.Errorf("the policy is asked about %q", target)
			}
		}
	})
	t.Run("another role", func(t *testing.T) {
		g := newGlass(t)
		g.sources[0].set(func() { g.sources[0].id.Roles = []string{"clerk"} })
		b := g.doctor()
		expect(t, b.get(glassPath+"?return_to=/patients/7"), http.StatusForbidden, pageGlassClosed.title)
		closed(t, g, b, fields("/patients/7", "7"), reasonGlassClosed)
	})
	t.Run("a rule that is gone since the form was opened", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		expect(t, b.get(glassPath+"?return_to=/patients/7"), http.StatusOK)
		g.set(func() {
			g.rule = func(*http.Request, *session.Session, string) (policy.Emergency, bool) {
				return policy.Emergency{}, false
			}
		})
		closed(t, g, b, fields("/patients/7", "7"), reasonGlassClosed)
	})
	t.Run("a rule that is about less since then", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		g.set(func() {
			g.rule = func(*http.Request, *session.Session, string) (policy.Emergency, bool) {
				return policy.Emergency{Rule: "r", Route: "/patients/*", Scope: "/patients/7", Subject: "7", For: time.Minute}, true
			}
		})
		if a := g.inside(b, "7"); !a.Until.Equal(g.clock().Add(time.Minute)) {
			t.Errorf("until %s", a.Until)
		}
	})
	t.Run("another site's session", func(t *testing.T) {
		g := newGlass(t)
		b := g.doctor()
		b.host = "fincare.hospital.example"
		expect(t, b.breaks(fields("/patients/7", "7")), http.StatusUnauthorized, pageNoSession.title)
		expect(t, b.get(glassPath+"?return_to=/patients/7"), http.StatusFound)
	})
}

// TestAttackGlassTarget: what emergency access can be for at all, whatever a policy says
// (section 4.7).
func TestAttackGlassTarget(t *testing.T) {
	t.Parallel()
	p := newGlass(t).portal
	for _, good := range []string{
		"/patients/7", "/a", "/patients/7?tab=lab&u=https://x//y", "/patients/J%C3%B6rg", "/patients/O'Brien", "/patients/(7)[8]!*,@:=+$&~",
		"/patients/%3Cb%3E", "/.anteroomy", "/.well-known/x", "/" + strings.Repeat("a", maxReturnTo-1),
	} {
		if !p.glassTarget(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{
		"", "/", "a", "*", "//evil.example", "/\\evil.example", "/a\b", "/a?b=\\c", "/a?b=c d", "/a b", "/a\tb", "/a?\x00", "/a?b=\r\nX: y", "/a\nb",
		"/a?\u00e9", "/\u00e9", "/a#b", "/a?b#c", "/a//b", "/a//", "https://evil.example/", "/%zz", "/%", "/a%2", "/x\x7f", "/a\"b", "/a<b",
		"/.anteroom", "/.anteroom/", "/.anteroom/sessions", "/.anteroom/logout", "/.ANTEROOM/x", "/%2eanteroom/x", "/.anteroom/emergency?return_to=/x",
		"/" + strings.Repeat("a", maxReturnTo),
	} {
		if p.glassTarget(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
	base := &url.URL{Scheme: "https", Host: site, Path: "/.anteroom/emergency"}
	for _, s := range append(append(slices.Clone(foreign), own...), local...) {
		if u, err := base.Parse(s); p.glassTarget(s) && (err != nil || u.Host != site || u.Scheme != "https") {
			t.Errorf("%q leads to %v", s, u)
		}
	}
}

func mustRef(t *testing.T, base *url.URL, ref string) *url.URL {
	t.Helper()
	u, err := base.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestAttackEmergencyStranger: nobody without a session gets further than the sign-in,
// and the way there leads to the record, where the form is offered afresh.
func TestAttackEmergencyStranger(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.browser()
	login := "/.anteroom/login?return_to=%2Fpatients%2F7"
	for _, path := range []string{glassPath, glassPath + "/begun"} {
		answer := b.get(path + "?return_to=/patients/7")
		expect(t, answer, http.StatusFound)
		if at := answer.Header().Get("Location"); at != login {
			t.Errorf("sent to %q", at)
		}
		expect(t, b.get(path+"?return_to=/patients/7", program), http.StatusUnauthorized, "no-session")
	}
	expect(t, b.breaks(fields("/patients/7", "7")), http.StatusUnauthorized, `href="`+login+`"`)
	expect(t, b.breaks(fields("//evil.example", "7")), http.StatusUnauthorized, `href="/.anteroom/login"`)
	expect(t, b.breaks(fields("/patients/7", "7"), program), http.StatusUnauthorized, "no-session")
	expect(t, b.form(glassPath+"/end", "id=x"), http.StatusUnauthorized)
	if len(g.glassEvents()) != 0 || len(g.asked) != 0 {
		t.Errorf("a stranger made %d events and %d questions", len(g.glassEvents()), len(g.asked))
	}
}

// TestAttackEmergencyBegun: no address makes up an emergency, or leads elsewhere than to
// what is open.
func TestAttackEmergencyBegun(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b, other := g.doctor(), g.doctor()
	a := g.inside(b, "7")
	begun := func(id, to string) *httptest.ResponseRecorder {
		return b.get(glassPath + "/begun?" + url.Values{"id": {id}, "return_to": {to}}.Encode())
	}
	for _, id := range []string{"", "x", a.ID + "x", strings.ToLower(a.ID), "<b>", a.ID + "\r\nSet-Cookie: a=b"} {
		expect(t, begun(id, "/patients/7"), http.StatusForbidden, pageGlassOver.title)
	}
	for to, want := range map[string]string{
		"/patients/7": "/patients/7", "/patients/7/lab?x=1": "/patients/7/lab?x=1", "/patients/7?x": "/patients/7?x",
		"/patients/8": "/patients/7", "/patients/77": "/patients/7", "/": "/patients/7", "": "/patients/7", "/.anteroom/logout": "/patients/7",
		"//evil.example": "/patients/7", "/patients/7\r\nX: y": "/patients/7", "/patients/7//x": "/patients/7", "/patients/7#x": "/patients/7",
		"https://evil.example/patients/7": "/patients/7", "/patients/7\\x": "/patients/7",
	} {
		answer := begun(a.ID, to)
		expect(t, answer, http.StatusOK, `href="`+want+`">Open the record`)
	}
	expect(t, other.get(glassPath+"/begun?id="+a.ID+"&return_to=/patients/7"), http.StatusForbidden, pageGlassOver.title)
	t.Run("a cookie of another session", func(t *testing.T) {
		other.jar[emergency.CookieName] = b.jar[emergency.CookieName]
		expect(t, other.get(glassPath+"/begun?id="+a.ID+"&return_to=/patients/7"), http.StatusForbidden, pageGlassOver.title)
		expect(t, other.form(glassPath+"/end", "id="+a.ID), http.StatusOK, "It had ended already")
	})
	t.Run("ending what is not named", func(t *testing.T) {
		for _, id := range []string{"", "x", "%00"} {
			expect(t, b.form(glassPath+"/end", "id="+id), http.StatusOK, "It had ended already")
		}
		for _, body := range []string{"", "id=" + a.ID + "&id=" + a.ID, "id=" + a.ID + "&all=1"} {
			expect(t, b.form(glassPath+"/end", body), http.StatusBadRequest)
		}
		if len(g.active(b)) != 1 {
			t.Error("it has ended")
		}
	})
}

// TestAttackEmergencyMany: attempts are counted for each account, over its sign-ins (G10).
func TestAttackEmergencyMany(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	empty := url.Values{fieldTarget: {"/patients/7"}, fieldPatient: {"7"}}
	for range paceBurst {
		expect(t, b.breaks(empty), http.StatusUnprocessableEntity)
	}
	expect(t, b.breaks(fields("/patients/7", "7")), http.StatusTooManyRequests, pageGlassMany.title, "IT help desk, 5-1234")
	expect(t, g.doctor().breaks(fields("/patients/7", "7")), http.StatusTooManyRequests)
	g.mustNothing(b)
	g.sources[0].set(func() { g.sources[0].id.Subject, g.sources[0].id.Username = "sub-2", "bdoe" })
	g.inside(g.doctor(), "7")
	g.advance(paceRefill)
	g.inside(b, "7")
	expect(t, b.breaks(fields("/patients/7", "7")), http.StatusTooManyRequests)
}

// TestPace: memory is bounded, and those who were there keep their bucket.
func TestPace(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	l := newPace(func() time.Time { return now })
	for i := range 2 * paceMax {
		l.allow(fmt.Sprint(i))
	}
	if n := len(l.buckets); n > paceMax {
		t.Errorf("%d accounts remembered", n)
	}
	if !l.allow("0") || l.allow("new") {
		t.Error("a flood of accounts decides about others")
	}
	now = now.Add(paceBurst * paceRefill)
	if !l.allow("new") || len(l.buckets) > 1 {
		t.Errorf("%d accounts remembered after a rest", len(l.buckets))
	}
	now = now.Add(-time.Hour)
	for range paceBurst {
		l.allow("new")
	}
	if l.allow("new") {
		t.Error("a clock that goes back gives attempts")
	}
}

// TestAttackEmergencyPages: the headers of these pages, nothing of the rule on them, and
// problem+json for programs (rows 98, 173, S4, S14).
func TestAttackEmergencyPages(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	answers := map[string]*httptest.ResponseRecorder{
		"form":    b.get(glassPath + "?return_to=/patients/7"),
		"wrong":   b.form(glassPath, "return_to=/patients/7&patient=8&text=%3Cscript%3Ealert(1)%3C/script%3E"),
		"closed":  b.get(glassPath + "?return_to=/payroll"),
		"over":    b.get(glassPath + "/begun?id=%3Cscript%3Ealert(1)%3C/script%3E"),
		"no form": b.form(glassPath, "<script>"),
		"begins":  b.breaks(fields("/patients/7", "7")),
		"who":     b.get("/.anteroom/"),
	}
	answers["begun"] = b.get(answers["begins"].Header().Get("Location"))
	answers["end"] = b.form(glassPath+"/end", "id="+g.active(b)[0].ID)
	for name, answer := range answers {
		if name == "begins" {
			if c := answer.Header()["Set-Cookie"]; len(c) != 1 || answer.Body.Len() != 0 {
				t.Errorf("%v %s", c, answer.Body)
			}
			continue
		}
		for key, want := range map[string]string{
			"Content-Security-Policy": pageCSP, "X-Frame-Options": "DENY", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin",
		} {
			if answer.Header().Get(key) != want {
				t.Errorf("%s: %s %q", name, key, answer.Header()[key])
			}
		}
		body := answer.Body.String()
		for _, word := range []string{"<script", "break_glass", "/patients/*"} {
			if strings.Contains(body, word) {
				t.Errorf("%s: %q is on the page", name, word)
			}
		}
	}
	for name, answer := range map[string]*httptest.ResponseRecorder{
		"closed": b.get(glassPath+"?return_to=/payroll", program),
		"over":   b.get(glassPath+"/begun?id=x", program),
		"posted": b.breaks(fields("/payroll", "7"), program),
	} {
		expect(t, answer, http.StatusForbidden, `"type":"urn:anteroom:problem:forbidden"`)
		if kind := answer.Header().Get("Content-Type"); kind != "application/problem+json" || strings.Contains(answer.Body.String(), "payroll") {
			t.Errorf("%s: %s %s", name, kind, answer.Body)
		}
	}
	t.Run("methods", func(t *testing.T) {
		for path, allowed := range map[string][]string{"": {"GET", "HEAD", "POST"}, "/begun": {"GET", "HEAD"}, "/end": {"POST"}} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"} {
				if answer := b.do(method, glassPath+path); (answer.Code == http.StatusMethodNotAllowed) == slices.Contains(allowed, method) {
					t.Errorf("%s %s: %d", method, path, answer.Code)
				}
			}
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		if answer := b.do("HEAD", glassPath+"?return_to=/patients/7"); answer.Body.Len() != 0 || answer.Code != http.StatusOK {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}

// TestEmergencyEvents: each access has a beginning and an end in the log, before the
// browser hears of it (G5, G6).
func TestEmergencyEvents(t *testing.T) {
	t.Parallel()
	g := newGlass(t)
	b := g.doctor()
	a := g.inside(b, "7")
	expect(t, b.form(glassPath+"/end", "id="+a.ID), http.StatusOK)
	var decisions []string
	for _, e := range g.glassEvents() {
		decisions = append(decisions, e.Decision)
		if e.Site != site || e.Subject != "sub-1" || e.Session != audit.SessionLabel(b.mustSession().ID) {
			t.Errorf("recorded %+v", e)
		}
	}
	if !slices.Equal(decisions, []string{"allowed", "ended"}) {
		t.Errorf("recorded %v", decisions)
	}
}
