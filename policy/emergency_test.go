package policy

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, p *Policy, who *Subject, path string) Request {
	t.Helper()
	parsed, err := p.ParsePath(path)
	if err != nil {
		t.Fatal(path, err)
	}
	return Request{Method: "GET", Path: parsed, Who: who, Now: noon}
}

// The glass is broken for one part of the paths, by whom the line names, where nothing else forbids it.
func TestEmergency(t *testing.T) {
	p := with(t, Config{}, "allow role doctor /own/**", "break_glass role doctor GET on /patients/{patient}/** for 30m", "break_glass role doctor,nurse on /wards/*/{bed} /notes/** for 1h", "break_glass role doctor on /closed/** /strong/** /night/** for 5m",
		"deny any /patients/vip/**", "deny role temp /patients/**", "allow any /closed/open", "require network 10.0.0.0/8 /closed/**", "require acr mfa /strong/**", "break_glass role doctor on /self/{user}/{x} for 5m acr mfa")
	doctor, nurse := person("doctor"), person("nurse")
	bearer := *doctor
	bearer.Bearer = true
	for _, c := range []struct {
		who                  *Subject
		path, scope, subject string
	}{
		{doctor, "/patients/7", "/patients/7", "7"}, {doctor, "/patients/7/charts/1", "/patients/7", "7"}, {doctor, "/patients/7/", "/patients/7", "7"}, {doctor, "/patients/J%C3%B6rg%20A/x", "/patients/J%C3%B6rg%20A", "Jörg A"},
		{nurse, "/wards/3/12", "/wards/3/12", "12"}, {nurse, "/notes/7/x/y", "/notes/7", "7"},
		// The list of all patients is nobody's, and what is forbidden or allowed anyhow needs no glass.
		{doctor, "/patients", "", ""}, {doctor, "/patients/", "", ""}, {doctor, "/notes", "", ""}, {doctor, "/notes/", "", ""}, {doctor, "/own/x", "", ""}, {doctor, "/patients/vip/x", "", ""}, {doctor, "/patients/VIP", "", ""},
		{doctor, "/closed/1", "", ""}, {doctor, "/closed/open", "", ""}, {person("doctor,temp"), "/patients/7", "", ""}, {nurse, "/patients/7", "", ""}, {person("Doctor"), "/patients/7", "", ""}, {nil, "/patients/7", "", ""}, {&bearer, "/patients/7", "", ""},
		{doctor, "/Patients/7", "", ""}, {doctor, "/%70atients/7", "", ""}, {doctor, "/wards/3", "", ""}, {person("doctor", func(s *Subject) { s.ACR = "mfa" }), "/self/ann/3", "/self/ann/3", "3"},
	} {
		e, ok := p.Emergency(get(t, p, c.who, c.path))
		if ok != (c.scope != "") || e.Scope != c.scope || e.Subject != c.subject {
			t.Errorf("%+v %s: %t %+v", c.who, c.path, ok, e)
		}
		if ok && !p.Break(get(t, p, c.who, c.path), e) {
			t.Errorf("%s: offered and not given", c.path)
		}
	}
	e, _ := p.Emergency(get(t, p, doctor, "/patients/7/x"))
	if want := (Emergency{Rule: "break_glass role doctor GET on /patients/{patient}/** for 30m", Route: "/patients/{patient}/**", Scope: "/patients/7", Subject: "7", For: 30 * time.Minute}); e != want {
		t.Errorf("%+v", e)
	}
	post := get(t, p, doctor, "/patients/7")
	post.Method = "POST"
	if _, ok := p.Emergency(post); ok || p.Break(post, e) {
		t.Error("another method")
	}
	if !p.HasEmergency() || compile(t, "allow any").HasEmergency() || (*Policy)(nil).HasEmergency() {
		t.Error("HasEmergency")
	}
}

// A grant for one patient holds for no other, however the path is written, and ends with the line, the role, or a deny.
func TestGrantIsForOnePatient(t *testing.T) {
	exceptions := Exceptions{EncodedSlash: true, Semicolon: true, EncodedPercent: true, TrailingDot: true}
	texts := []string{"allow role doctor /own/**", "break_glass role doctor on /patients/{p}/** for 30m", "break_glass role doctor on /wards/{w}/beds/{b} for 30m"}
	p := with(t, Config{Exceptions: exceptions}, texts...)
	doctor := person("doctor")
	e, ok := p.Emergency(get(t, p, doctor, "/patients/7/charts"))
	if !ok {
		t.Fatal("no emergency")
	}
	for path, want := range map[string]bool{
		"/patients/7": true, "/patients/7/": true, "/patients/7/charts/1": true, "/patients/7/a%20b": true, "/patients/7/a%2Fb": true, "/patients/7/x;v=1": true,
		"/patients/77": false, "/patients/7x": false, "/patients/": false, "/patients": false, "/patients/8": false, "/patients/7%2F8": false, "/patients/7%2Fcharts": false, "/patients/7;v=8": false, "/patients/7;v=8/x": false,
		"/patients/%37": false, "/Patients/7": false, "/patients/7.": false, "/patients/%2537": false, "/wards/7": false, "/own/7": false, "/patients;x/7": false, "/patients%2F7": false, "/": false,
	} {
		if got := p.Break(get(t, p, doctor, path), e); got != want {
			t.Errorf("%s: %t", path, got)
		}
	}
	r := get(t, p, doctor, "/patients/7")
	for name, forged := range map[string]Emergency{
		"no scope": {Rule: e.Rule}, "all": {Rule: e.Rule, Scope: "/"}, "the list": {Rule: e.Rule, Scope: "/patients"}, "half a segment": {Rule: e.Rule, Scope: "/patients/"}, "another rule": {Rule: "break_glass role doctor on /wards/{w}/beds/{b} for 30m", Scope: e.Scope},
		"no rule": {Scope: e.Scope}, "a rule that is gone": {Rule: "break_glass role doctor on /patients/{p}/** for 60m", Scope: e.Scope}, "below": {Rule: e.Rule, Scope: "/patients/7/charts"},
	} {
		if p.Break(r, forged) {
			t.Error(name)
		}
	}
	// The deny that came with a reload holds, and a line that stands elsewhere now is the same line.
	for text, want := range map[string]bool{"deny role doctor /patients/7/**": false, "require acr mfa /patients/**": false, "require hours 00:00-01:00 UTC": false, "deny any /patients/8": true, "allow any /x": true} {
		again := with(t, Config{Exceptions: exceptions}, append([]string{text}, texts...)...)
		if again.Break(get(t, again, doctor, "/patients/7"), e) != want {
			t.Errorf("after %s: not %t", text, want)
		}
	}
	bearer := *doctor
	bearer.Bearer = true
	for name, who := range map[string]*Subject{"role gone": person("nurse"), "nobody": nil, "token": &bearer} {
		if p.Break(get(t, p, who, "/patients/7"), e) {
			t.Error(name)
		}
	}
	if p.Break(Request{Method: "GET", Who: doctor}, e) || (*Policy)(nil).Break(r, e) {
		t.Error("no path, no policy")
	}
	// A path that could be read as another patient's is not offered at all.
	for _, path := range []string{"/patients/7;v=8", "/patients/7%2F8", "/patients/%2537", "/patients/7."} {
		if e, ok := p.Emergency(get(t, p, doctor, path)); ok {
			t.Errorf("%s: %+v", path, e)
		}
	}
	if b, ok := p.Emergency(get(t, p, doctor, "/wards/3/beds/4")); !ok || b.Scope != "/wards/3" || p.Break(get(t, p, doctor, "/wards/4/beds/4"), b) || !p.Break(get(t, p, doctor, "/wards/3/beds/5"), b) {
		t.Errorf("%+v", b)
	}
}

// Of two patterns of one line the narrower one was granted, and the wider one makes no more of it.
func TestGrantOfTwoPatterns(t *testing.T) {
	p := with(t, Config{}, "allow any /own", "break_glass role doctor on /a/{x}/** /a/b/{y}/** for 30m")
	doctor := person("doctor")
	e, ok := p.Emergency(get(t, p, doctor, "/a/b/7/x"))
	if !ok || e.Scope != "/a/b/7" || e.Subject != "7" {
		t.Fatalf("%+v", e)
	}
	for path, want := range map[string]bool{"/a/b/7": true, "/a/b/7/y": true, "/a/b/77": false, "/a/b/8": false, "/a/b": false, "/a/c": false} {
		if p.Break(get(t, p, doctor, path), e) != want {
			t.Errorf("%s: not %t", path, want)
		}
	}
}

// Where only an allow line's own conditions are missing, the glass can be broken; what an allow line asks of the sign-in as well.
func TestEmergencyInsteadOfConditions(t *testing.T) {
	p := with(t, Config{}, "allow role doctor /patients/** network 10.0.0.0/8", "allow role doctor /acr/** acr mfa", "break_glass role doctor on /patients/{p}/** /acr/{p} for 30m")
	for _, path := range []string{"/patients/7", "/acr/7"} {
		if _, ok := p.Emergency(get(t, p, person("doctor"), path)); !ok {
			t.Error(path)
		}
	}
	r := get(t, p, person("doctor"), "/patients/7")
	r.Addr = netip.MustParseAddr("10.0.0.1")
	if _, ok := p.Emergency(r); ok {
		t.Error("offered to who is allowed")
	}
}

// TestMissing: what is missing is said of the nearest line, and no names.
func TestMissing(t *testing.T) {
	p := with(t, Config{}, "allow role doctor /role", "allow role doctor /net network 10.0.0.0/8", "allow any /hours hours 00:00-01:00 UTC", "allow any /dev device known", "allow any /two network 10.0.0.0/8 hours 00:00-01:00 UTC", "allow any /when when request.query == \"x\"",
		"allow role nurse /lvl acr a", "require acr b /lvl", "allow any /req", "require network 10.0.0.0/8 /req", "allow user bob GET /method", "allow any /x /device2", "require device known /device2", "allow any /reqs", "require acr a,b /reqs", "require acr b,c /reqs", "require acr a,c /reqs")
	for path, want := range map[string]Decision{
		"/role": {Reason: ReasonNoRule, Missing: MissingRole}, "/net": {Reason: ReasonNoRule, Missing: MissingRole}, "/hours": {Reason: ReasonCondition, Missing: MissingHours}, "/dev": {Reason: ReasonCondition, Missing: MissingDevice},
		"/two": {Reason: ReasonCondition, Missing: MissingNetwork | MissingHours}, "/when": {Reason: ReasonCondition, Missing: MissingOther}, "/lvl": {Reason: ReasonNoRule, Missing: MissingLevel}, "/req": {Reason: ReasonCondition, Missing: MissingNetwork},
		"/method": {Reason: ReasonNoRule, Missing: MissingRole}, "/else": {Reason: ReasonNoRule, Missing: MissingRole}, "/device2": {Reason: ReasonCondition, Missing: MissingDevice}, "/reqs": {Reason: ReasonDenied, Missing: MissingLevel},
	} {
		d := p.Decide(get(t, p, person("nurse"), path))
		if (d.Reason == ReasonNoRule) != (d.Rule == "") || (d.Rule == "") != (d.Route == "") {
			t.Errorf("%s: %+v", path, d)
		}
		d.Rule, d.Route = "", ""
		if !reflect.DeepEqual(d, want) {
			t.Errorf("%s: %+v, want %+v", path, d, want)
		}
	}
	if d := p.Decide(get(t, p, token("", "x"), "/role")); d.Missing != 0 {
		t.Errorf("a token: %+v", d)
	}
	if d := p.Decide(get(t, p, nil, "/role")); d.Missing != 0 {
		t.Errorf("nobody: %+v", d)
	}
}

// Another allow line whose levels go together with what is required is found, wherever it stands.
func TestLevelsOfAnotherLine(t *testing.T) {
	p := with(t, Config{}, "allow any /x acr a", "allow any /** acr b", "require acr b /x", "allow any /y acr a", "require acr b /y")
	for path, want := range map[string]string{"/x": "b", "/y": "b"} {
		d := p.Decide(get(t, p, person("r", func(s *Subject) { s.ACR = "a" }), path))
		if d.Reason != ReasonStepUp || !reflect.DeepEqual(d.Need.ACR, []string{want}) {
			t.Errorf("%s: %+v", path, d)
		}
	}
}

// TestExplain: every line whose path and method match, and why not.
func TestExplain(t *testing.T) {
	p := with(t, Config{}, "allow role doctor GET /patients/**", "allow any /patients/{user}", "allow user ann POST /patients/7", "shadow deny any /patients/7", "deny group x /PATIENTS/7/", "require acr mfa /patients/**", "allow scope a /patients/7", "break_glass role doctor on /patients/{p} for 5m", "allow any /else")
	e := p.Explain(get(t, p, person("doctor"), "/patients/7"))
	var got []string
	for _, m := range e.Matched {
		got = append(got, strings.Join([]string{m.Kind, m.Route, m.Why, map[bool]string{true: "holds", false: "not"}[m.Holds]}, "|"))
	}
	want := []string{"allow|/patients/**||holds", "shadow deny|/patients/7||holds", "deny|/PATIENTS/7/|who it is|not", "require|/patients/**|the sign-in|not", "allow|/patients/7|it is for access tokens|not", "break_glass|/patients/{p}||holds"}
	if !reflect.DeepEqual(got, want) || e.Decision.Reason != ReasonStepUp {
		t.Errorf("%q\n%+v", got, e.Decision)
	}
	q := with(t, Config{}, "allow public /own/*", "require acr mfa /own/{user}", "require acr mfa /own/{claim.c}/x")
	if e := q.Explain(get(t, q, nil, "/own/7")); len(e.Matched) != 2 || e.Matched[1].Holds || e.Decision.Reason != ReasonNoSession { // whose it is shows with the sign-in
		t.Errorf("%+v", e)
	}
	if e := (*Policy)(nil).Explain(Request{}); e.Decision.Reason != ReasonNoPolicy || e.Matched != nil {
		t.Errorf("%+v", e)
	}
	if p.Lines()[1].Patterns[0] != "/patients/{user}" || len(p.Lines()) != 9 || p.Lines()[3].Kind != "deny" || !p.Lines()[3].Shadow || (*Policy)(nil).Lines() != nil {
		t.Errorf("%+v", p.Lines())
	}
}
