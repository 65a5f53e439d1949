package portal

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/emergency"
	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// FuzzEmergency sends any form, with a policy that opens every path to everybody: nothing
// begins unless each field is what a page of ours sends, it begins for the path of the
// form, no answer leads to another site, and none is a 5xx.
func FuzzEmergency(f *testing.F) {
	good := fields("/patients/7?tab=lab", "7").Encode()
	f.Add("/patients/7?tab=lab", good)
	f.Add("//evil.example", fields("//evil.example", "7").Encode())
	f.Add("/patients/%3Cb%3E", fields("/patients/%3Cb%3E", "<b>").Encode())
	f.Add("/a\r\nSet-Cookie: a=b", good+"&return_to=/x")
	f.Add("/%2e%2e//evil.example", "return_to=/patients/7&patient=7&text=%ff")
	f.Add("/.anteroom/logout", "return_to=/.anteroom/logout&patient=logout&reason=life&text=0123456789&confirm=yes")
	f.Add("/patients/O'Brien", "return_to=/patients/O'Brien&patient=O'Brien&reason=other&text=ab%20cd%20ef%20gh&confirm=yes")
	g := newGlass(f)
	g.portal.log = slog.New(slog.DiscardHandler)
	b := g.doctor()
	g.rule = func(_ *http.Request, _ *session.Session, target string) (policy.Emergency, bool) {
		path, _, _ := strings.Cut(target, "?")
		last := path[strings.LastIndexByte(path, '/')+1:]
		name, err := url.PathUnescape(last)
		return policy.Emergency{Rule: "r", Route: "/**", Scope: path, Subject: name, For: 1e9}, err == nil
	}
	base := &url.URL{Scheme: "https", Host: site, Path: "/.anteroom/emergency"}
	f.Fuzz(func(t *testing.T, target, body string) {
		b.w.t = t
		delete(b.jar, emergency.CookieName)
		g.portal.glassPace = newPace(g.clock)
		page := b.get(glassPath + "?return_to=" + url.QueryEscape(target))
		if page.Code >= 500 {
			t.Errorf("%q: %d", target, page.Code)
		}
		if page.Code == http.StatusOK {
			u, err := base.Parse(target)
			if err != nil || u.Host != site || u.Scheme != "https" || strings.ContainsAny(target, "\r\n\\#") {
				t.Errorf("a form for %q", target)
			}
		}
		answer := b.form(glassPath, body)
		if answer.Code >= 500 {
			t.Errorf("%q: %d", body, answer.Code)
		}
		to := answer.Header().Get("Location")
		if (answer.Code == http.StatusSeeOther) != (to != "") || (to != "") != (b.jar[emergency.CookieName] != "") {
			t.Errorf("%q: %d, sent to %q with %v", body, answer.Code, to, answer.Header())
		}
		if to == "" {
			return
		}
		v, err := url.ParseQuery(body)
		if err != nil || len(v) != 5 || slices.ContainsFunc([]string{fieldTarget, fieldPatient, fieldReason, fieldText, fieldConfirm}, func(n string) bool { return len(v[n]) != 1 }) {
			t.Fatalf("begun by %q", body)
		}
		text := v.Get(fieldText)
		if emergency.ReasonText(v.Get(fieldReason)) == "" || v.Get(fieldConfirm) != confirmed || utf8.RuneCountInString(text) < emergency.MinReason {
			t.Errorf("begun by %q", body)
		}
		want := fields(v.Get(fieldTarget), "")
		if at, err := base.Parse(to); err != nil || at.Host != site || at.Path != glassPath+"/begun" || at.Query().Get(fieldTarget) != want.Get(fieldTarget) {
			t.Errorf("%q: sent to %q", body, to)
		}
		a := g.active(b)
		if path, _, _ := strings.Cut(v.Get(fieldTarget), "?"); len(a) != 1 || a[0].Scope != path || a[0].Patient != v.Get(fieldPatient) {
			t.Errorf("%q opens %+v", body, a)
		}
	})
}
