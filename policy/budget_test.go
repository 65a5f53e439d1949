package policy

import (
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func counts(p *Policy, r Request) (list []string) {
	p.Counts(r, func(c Count) bool { list = append(list, c.Rule+"="+c.Value); return true })
	return list
}

// What is counted is counted whichever line allows it, and however the path is written.
func TestCounts(t *testing.T) {
	p := with(t, Config{}, "allow any /**", "allow role doctor GET /patients/{patient}/** /wards/{w}/{patient}", "budget role doctor 60 distinct {patient} per 1h alarm 30", "budget any 5 distinct {w} per 1d then step_up on /wards/{w}/**", "budget role Nurse 1 distinct {x} per 1m on /x/{x}/{y}")
	doctor := person("doctor")
	for path, want := range map[string][]string{
		"/patients/7": {"0=7"}, "/PATIENTS/7/": {"0=7"}, "/%70atients/%37/x/y": {"0=7"}, "/patients/aB": {"0=aB"}, "/patients": nil, "/patients/": nil, "/wards/3/7": {"0=7", "1=3"}, "/wards/3": {"1=3"}, "/x/1/2": nil, "/": nil,
	} {
		got := counts(p, get(t, p, doctor, path))
		for i := range got {
			got[i] = map[bool]string{true: "0", false: "1"}[strings.Contains(got[i], "{patient}")] + got[i][strings.Index(got[i], "="):]
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := counts(p, get(t, p, person("nurse"), "/x/1/2")); len(got) != 1 || !strings.HasSuffix(got[0], "=1") {
		t.Errorf("%q", got)
	}
	// HEAD and POST are looks, too; who has a token has a name.
	for _, method := range []string{"HEAD", "POST"} {
		r := get(t, p, doctor, "/patients/7")
		r.Method = method
		if len(counts(p, r)) != 1 {
			t.Error(method)
		}
	}
	app := *doctor
	app.Bearer = true
	if len(counts(p, get(t, p, &app, "/patients/7"))) != 1 || counts(p, get(t, p, nil, "/wards/3/7")) != nil || counts(p, Request{Who: doctor}) != nil || counts(nil, Request{}) != nil {
		t.Error("who")
	}
	var first Count
	calls := 0
	p.Counts(get(t, p, doctor, "/wards/3/7"), func(c Count) bool { first, calls = c, calls+1; return false })
	if calls != 1 {
		t.Error("goes on")
	}
	if strings.Contains(first.Rule, "{w}") {
		t.Errorf("%+v", first)
	}
	want := Count{ID: first.ID, Rule: "budget role doctor 60 distinct {patient} per 1h alarm 30 (Caddyfile:3)", Value: "7", Limit: 60, Alarm: 30, Per: time.Hour}
	if first != want || len(first.ID) != 12 {
		t.Errorf("%+v", first)
	}
	// The line is the same one elsewhere, and another one with another number.
	ids := map[string]bool{}
	for _, texts := range [][]string{{"allow any /a/{p}", "budget any 5 distinct {p} per 1h"}, {"allow any /b", "allow any /a/{p}", "budget any 5 distinct {p} per 1h"}, {"allow any /a/{p}", "budget any 6 distinct {p} per 1h"}} {
		q := with(t, Config{}, texts...)
		q.Counts(get(t, q, doctor, "/a/1"), func(c Count) bool { ids[c.ID] = true; return true })
	}
	if len(ids) != 2 || !p.HasBudgets() || compile(t, "allow any").HasBudgets() || (*Policy)(nil).HasBudgets() {
		t.Errorf("%v", ids)
	}
}

// Each way to read a path counts.
func TestCountsOfReadings(t *testing.T) {
	p := with(t, Config{Exceptions: Exceptions{Semicolon: true, EncodedSlash: true}}, "allow any /**", "budget any 5 distinct {p} per 1h on /p/{p}/**")
	got := strings.Join(counts(p, get(t, p, alice, "/p/7;8")), " ")
	if strings.Count(got, "=7") != 2 || !strings.Contains(got, "=7;8") {
		t.Errorf("%q", got)
	}
	if got := strings.Join(counts(p, get(t, p, alice, "/p/7%2F8")), " "); !strings.HasSuffix(got, "=7") || !strings.Contains(got, "=7/8 ") {
		t.Errorf("%q", got)
	}
}

// A shape says what was asked for and not whose it was.
func TestShape(t *testing.T) {
	p := with(t, Config{}, "allow any /patients/*/charts/{c} /Own/{user}/** /**", "deny any /patients/x/secret", "shadow deny any /trial/*", "break_glass role a on /glass/{p} for 5m")
	for path, want := range map[string]string{
		"/": "/", "/patients/7/charts/9": "/patients/*/charts/*", "/patients/ann/charts/ANN": "/patients/{user}/charts/*", "/PATIENTS/7/Charts": "/*/*/*", "/own/ann/x/": "/*/{user}/*/", "/patients/7/secret": "/patients/*/*", "/patients/x/secret": "/patients/x/secret",
		"/patients/x/charts": "/patients/x/charts", "/7": "/*", "/charts/patients": "/*/*", "/trial/5": "/trial/*", "/glass/5/6": "/glass/*/*", "/%70atients/J%C3%B6": "/*/*", "/patients/": "/patients/", "/*/**": "/*/*",
		strings.Repeat("/a", 40): strings.Repeat("/*", 32) + "/**",
	} {
		for range 2 {
			if got := p.Shape(get(t, p, person("r"), path)); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	}
	long := "/" + strings.Repeat("l", 600)
	if got := with(t, Config{}, "allow any "+long).Shape(Request{Path: parse(t, long)}); got != "/**" {
		t.Errorf("%q", got)
	}
	if (*Policy)(nil).Shape(Request{Path: parse(t, "/")}) != "" || p.Shape(Request{}) != "" {
		t.Error("nothing has a shape")
	}
	r := get(t, p, person("r"), "/patients/7/charts/9")
	if n := testing.AllocsPerRun(100, func() { p.Shape(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	// However many there are, few are kept.
	for i := range 3 * maxShapes {
		path := ""
		for bit := range 13 {
			path += map[bool]string{true: "/ann", false: "/b"}[i>>bit&1 == 1]
		}
		if got := p.Shape(get(t, p, person("r"), path)); strings.Count(got, "/") != 13 {
			t.Fatal(got)
		}
	}
	if n := len(*p.shapes.known.Load()); n > maxShapes {
		t.Errorf("%d are kept", n)
	}
}

// Many requests at once find and keep the same shapes.
func TestShapesAtOnce(t *testing.T) {
	p := with(t, Config{}, "allow any /a/b/c/d")
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 200 {
				path := strings.Repeat("/a", i%7+1)
				if got := p.Shape(Request{Path: parse(t, path)}); got != "/a"+strings.Repeat("/*", i%7) {
					t.Error(got)
				}
			}
		})
	}
	wait.Wait()
}
