package policy

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// lines turns "allow any /x" texts into Lines at Caddyfile:1, :2 and so on.
func lines(texts ...string) []Line {
	var list []Line
	for i, text := range texts {
		list = append(list, Line{Words: strings.Fields(text), At: "Caddyfile:" + strconv.Itoa(i+1)})
	}
	return list
}

func compile(t testing.TB, texts ...string) *Policy {
	t.Helper()
	p, err := Compile(lines(texts...))
	if err != nil {
		t.Fatalf("compiling: %v", err)
	}
	return p
}

func parse(t testing.TB, path string) Path {
	t.Helper()
	p, err := ParsePath(path)
	if err != nil {
		t.Fatalf("%q: %v", path, err)
	}
	if p.String() != path {
		t.Fatalf("%q became %q", path, p.String())
	}
	return p
}

var (
	doctor = &Subject{Username: "doctor", Roles: []string{"doctor"}}
	alice  = &Subject{Username: "alice", Roles: []string{"patient"}}
	nobody = &Subject{Username: "nobody"}
)

// wantCase is one question: who asks for what and which reason decides.
type wantCase struct {
	who    *Subject
	method string
	path   string
	reason string
}

func check(t *testing.T, p *Policy, cases []wantCase) {
	t.Helper()
	for _, c := range cases {
		d := p.Decide(Request{Method: c.method, Path: parse(t, c.path), Who: c.who})
		if d.Reason != c.reason || d.Allowed != (c.reason == ReasonAllowed) {
			t.Errorf("%v %s %s: %+v, want %s", c.who, c.method, c.path, d, c.reason)
		}
	}
}

func TestZeroDenies(t *testing.T) {
	if (Decision{}).Allowed {
		t.Error("zero Decision allows")
	}
	var none *Policy
	if d := none.Decide(Request{Method: "GET", Path: parse(t, "/"), Who: doctor}); d.Allowed || d.Reason != ReasonNoPolicy {
		t.Errorf("nil policy: %+v", d)
	}
	if none.Uses().Username || none.Roles() != nil || none.Knows("PROPFIND") {
		t.Error("nil policy knows something")
	}
	if d := (&Policy{}).Decide(Request{Method: "GET", Path: parse(t, "/"), Who: doctor}); d.Allowed || d.Reason != ReasonNoRule {
		t.Errorf("zero policy: %+v", d)
	}
	p := compile(t, "allow public")
	if d := p.Decide(Request{Method: "GET"}); d.Allowed || d.Reason != ReasonPath {
		t.Errorf("zero path: %+v", d)
	}
	if d := p.Decide(Request{Path: parse(t, "/")}); d.Allowed || d.Reason != ReasonMethod {
		t.Errorf("no method: %+v", d)
	}
}

func TestDecideWho(t *testing.T) {
	p := compile(t, "allow public /open", "allow any /any", "allow role doctor,nurse /role", "allow user alice,bob /user")
	check(t, p, []wantCase{
		{nil, "GET", "/open", ReasonAllowed}, {nobody, "GET", "/open", ReasonAllowed},
		{nil, "GET", "/any", ReasonNoSession}, {nobody, "GET", "/any", ReasonAllowed},
		{nil, "GET", "/role", ReasonNoSession}, {nobody, "GET", "/role", ReasonNoRule}, {doctor, "GET", "/role", ReasonAllowed},
		{&Subject{Roles: []string{"x", "nurse"}}, "GET", "/role", ReasonAllowed}, {&Subject{Roles: []string{"Doctor"}}, "GET", "/role", ReasonNoRule},
		{nil, "GET", "/user", ReasonNoSession}, {alice, "GET", "/user", ReasonAllowed}, {doctor, "GET", "/user", ReasonNoRule},
		{&Subject{Username: "Alice"}, "GET", "/user", ReasonNoRule}, {&Subject{}, "GET", "/user", ReasonNoRule},
		{doctor, "GET", "/other", ReasonNoRule}, {nil, "GET", "/other", ReasonNoSession},
	})
}

func TestDecideMethods(t *testing.T) {
	p := compile(t, "allow any GET /read", "allow any POST,PROPFIND /write", "allow any /all", "deny any HEAD /all")
	check(t, p, []wantCase{
		{alice, "GET", "/read", ReasonAllowed}, {alice, "HEAD", "/read", ReasonAllowed}, {alice, "POST", "/read", ReasonNoRule},
		{alice, "OPTIONS", "/read", ReasonNoRule}, {alice, "POST", "/write", ReasonAllowed}, {alice, "GET", "/write", ReasonNoRule},
		{alice, "PROPFIND", "/write", ReasonAllowed}, {alice, "PROPFIND", "/all", ReasonAllowed}, {alice, "PROPFIND", "/read", ReasonNoRule},
		{alice, "HEAD", "/all", ReasonDenied}, {alice, "GET", "/all", ReasonAllowed}, {alice, "OPTIONS", "/all", ReasonAllowed},
		{alice, "MKCOL", "/all", ReasonMethod}, {alice, "get", "/all", ReasonMethod}, {alice, "TRACE", "/all", ReasonMethod},
		{alice, "CONNECT", "/all", ReasonMethod}, {alice, "GET ", "/all", ReasonMethod},
	})
}

func TestDecidePaths(t *testing.T) {
	p := compile(t, "allow any / /one /dir/ /a/*/c /api/** /patients/{user}/* /b/*/** /lit!$&'()+,=:@[x]~_-.y", "allow public /public/**")
	check(t, p, []wantCase{
		{alice, "GET", "/", ReasonAllowed}, {alice, "GET", "/one", ReasonAllowed}, {alice, "GET", "/one/", ReasonNoRule},
		{alice, "GET", "/One", ReasonNoRule}, {alice, "GET", "/%6fne", ReasonNoRule}, {alice, "GET", "/onex", ReasonNoRule},
		{alice, "GET", "/dir/", ReasonAllowed}, {alice, "GET", "/dir", ReasonNoRule},
		{alice, "GET", "/a/x/c", ReasonAllowed}, {alice, "GET", "/a/c", ReasonNoRule}, {alice, "GET", "/a/x/y/c", ReasonNoRule},
		{alice, "GET", "/a/%C3%A9/c", ReasonAllowed}, {alice, "GET", "/a/*/c", ReasonAllowed},
		{alice, "GET", "/api", ReasonAllowed}, {alice, "GET", "/api/", ReasonAllowed}, {alice, "GET", "/api/x/y/", ReasonAllowed},
		{alice, "GET", "/apix", ReasonNoRule}, {alice, "GET", "/api-old/x", ReasonNoRule},
		{alice, "GET", "/b/x", ReasonAllowed}, {alice, "GET", "/b/", ReasonNoRule}, {alice, "GET", "/b", ReasonNoRule}, {alice, "GET", "/b/x/y/z", ReasonAllowed},
		{alice, "GET", "/patients/alice/12", ReasonAllowed}, {alice, "GET", "/patients/alice", ReasonNoRule},
		{alice, "GET", "/patients/alice/", ReasonNoRule}, {alice, "GET", "/patients/alice/12/x", ReasonNoRule},
		{alice, "GET", "/patients/bob/12", ReasonNoRule}, {alice, "GET", "/patients/Alice/12", ReasonNoRule},
		{alice, "GET", "/patients/%61lice/12", ReasonAllowed}, {alice, "GET", "/patients/alic/12", ReasonNoRule},
		{nil, "GET", "/patients/alice/12", ReasonNoSession}, {&Subject{}, "GET", "/patients/%7Buser%7D/12", ReasonNoRule},
		{alice, "GET", "/lit!$&'()+,=:@[x]~_-.y", ReasonAllowed},
		{nil, "GET", "/public", ReasonAllowed}, {nil, "GET", "/public/x.css", ReasonAllowed}, {nil, "GET", "/publicx", ReasonNoSession},
	})
}

func TestDecideUsernameBytes(t *testing.T) {
	p := compile(t, "allow any /u/{user}")
	for name, paths := range map[string][]string{
		"a@b": {"/u/a@b", "/u/a%40b"}, "Zoë": {"/u/Zo%C3%AB"}, "a b": {"/u/a%20b"}, "x+y": {"/u/x+y", "/u/x%2By"},
	} {
		for _, path := range paths {
			check(t, p, []wantCase{{&Subject{Username: name}, "GET", path, ReasonAllowed}})
		}
	}
	for name, path := range map[string]string{"a b": "/u/a+b", "": "/u/", "a/b": "/u/a", "Zoe\u0308": "/u/Zo%C3%AB", "*": "/u/x", "**": "/u/x", "{user}": "/u/x"} {
		check(t, p, []wantCase{{&Subject{Username: name}, "GET", path, ReasonNoRule}})
	}
}

func TestDenyWinsInAnyOrder(t *testing.T) {
	texts := []string{"allow any", "deny user alice /x/**", "deny role temp", "allow user alice /x/y"}
	want := []wantCase{
		{alice, "GET", "/x/y", ReasonDenied}, {alice, "GET", "/x", ReasonDenied}, {alice, "GET", "/z", ReasonAllowed},
		{doctor, "GET", "/x/y", ReasonAllowed}, {&Subject{Username: "d", Roles: []string{"doctor", "temp"}}, "GET", "/z", ReasonDenied},
	}
	for i := range texts {
		check(t, compile(t, append(append([]string{}, texts[i:]...), texts[:i]...)...), want)
	}
}

func TestDenyIsNotDodged(t *testing.T) {
	p := compile(t, "allow any", "allow public /admin/**", "deny any /Admin/Keys /files/*/secret /home/{user}", "deny user Bob,"+strings.Repeat("x", 255)+" /b", "deny role temp /r", "deny public DELETE /", "deny any /dir/")
	check(t, p, []wantCase{
		{alice, "GET", "/admin/keys", ReasonDenied}, {alice, "GET", "/ADMIN/KEYS", ReasonDenied}, {alice, "GET", "/%61dmin/keys", ReasonDenied},
		{alice, "GET", "/%41dmin/ke%79s", ReasonDenied}, {alice, "GET", "/admin/keys/", ReasonDenied}, {alice, "GET", "/admin/keys/x", ReasonAllowed},
		{alice, "GET", "/dir", ReasonDenied}, {alice, "GET", "/DIR/", ReasonDenied}, {alice, "GET", "/dir/x", ReasonAllowed},
		{nil, "GET", "/admin/keys", ReasonAllowed}, {nil, "DELETE", "/", ReasonDenied}, {alice, "DELETE", "/", ReasonDenied}, {alice, "GET", "/", ReasonAllowed},
		{alice, "GET", "/files/a/Secret", ReasonDenied}, {alice, "GET", "/files/*/secret", ReasonDenied}, {alice, "GET", "/files/a%21/secret", ReasonDenied},
		{alice, "GET", "/home/ALICE", ReasonDenied}, {alice, "GET", "/home/alicf", ReasonAllowed}, {alice, "GET", "/home/bob", ReasonAllowed},
		{&Subject{Username: "ALICE"}, "GET", "/home/alice", ReasonDenied},
		{&Subject{Username: "bOB"}, "GET", "/b", ReasonDenied}, {&Subject{Username: strings.Repeat("X", 255)}, "GET", "/b", ReasonDenied},
		{&Subject{Username: strings.Repeat("x", 256)}, "GET", "/b", ReasonAllowed},
		{&Subject{Roles: []string{"TEMP"}}, "GET", "/r", ReasonDenied},
	})
}

func TestDecisionTells(t *testing.T) {
	p := compile(t, "allow role doctor", "allow role patient GET /patients/{user}/*", "deny user eve /x /y", "allow public /open")
	who := &Subject{Username: "eve", Roles: []string{"patient", "doctor"}}
	for _, c := range []struct {
		path string
		want Decision
	}{
		{"/patients/eve/1", Decision{Allowed: true, Rule: "allow role patient GET /patients/{user}/* (Caddyfile:2)", Route: "/patients/{user}/*", Reason: ReasonAllowed}},
		{"/patients/bob/1", Decision{Allowed: true, Rule: "allow role doctor (Caddyfile:1)", Route: "/**", Reason: ReasonAllowed}},
		{"/Y", Decision{Rule: "deny user eve /x /y (Caddyfile:3)", Route: "/y", Reason: ReasonDenied}},
		{"/open", Decision{Allowed: true, Rule: "allow public /open (Caddyfile:4)", Route: "/open", Reason: ReasonAllowed, Public: true}},
	} {
		if got := p.Decide(Request{Method: "GET", Path: parse(t, c.path), Who: who}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.path, got, c.want)
		}
	}
	bare, err := Compile([]Line{{Words: []string{"allow", "any"}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := bare.Decide(Request{Method: "GET", Path: parse(t, "/"), Who: who}); d.Rule != "allow any" {
		t.Errorf("rule without place: %q", d.Rule)
	}
}

func TestFirstLineIsReported(t *testing.T) {
	p := compile(t, "allow any GET /x", "allow any GET,POST /x", "allow any /x", "allow role a /x", "deny any GET /x", "deny any HEAD,GET /x", "deny public /y")
	if d := p.Decide(Request{Method: "HEAD", Path: parse(t, "/x"), Who: alice}); d.Rule != "deny any GET /x (Caddyfile:5)" {
		t.Errorf("deny: %+v", d)
	}
	if d := p.Decide(Request{Method: "POST", Path: parse(t, "/x"), Who: alice}); d.Rule != "allow any /x (Caddyfile:3)" {
		t.Errorf("allow: %+v", d)
	}
	if d := p.Decide(Request{Method: "POST", Path: parse(t, "/y"), Who: nil}); d.Reason != ReasonDenied || d.Public {
		t.Errorf("deny public: %+v", d)
	}
}

func TestRolesAndUsername(t *testing.T) {
	p := compile(t, "allow role b,a /x", "deny role c", "allow any")
	if got := p.Roles(); !reflect.DeepEqual(got, []string{"a", "b", "c"}) {
		t.Errorf("roles %q", got)
	}
	p.Roles()[0] = "changed"
	if p.Roles()[0] != "a" {
		t.Error("Roles hands out its own memory")
	}
	for text, want := range map[string]bool{"allow any /x": false, "allow any /{user}": true, "allow user x": true, "allow any /x /y/{user}/**": true} {
		if compile(t, text).Uses().Username != want {
			t.Errorf("%s: UsesUsername is not %t", text, want)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	p := compile(t, "allow any /a/*/{user}/**", "deny role temp /A/b", "deny user Bob /a/**", "allow role doctor PROPFIND /q", "require acr x,y /a/**", "require acr y,z", "require amr otp", "require max_age 5m",
		"allow scope patient/Observation.rs,openid role patient GET /a/b/{patient}/** /Observation")
	who := &Subject{Username: "alice", Roles: []string{"patient", "Nurse"}, ACR: "y", AMR: []string{"pwd", "otp"}, AuthTime: noon}
	app := *who
	app.Bearer, app.Patient, app.Scopes = true, "alice", []string{"launch/patient", "patient/*.r", "patient/Observation.cs"}
	for _, c := range []struct {
		who    *Subject
		target string
	}{{who, "/a/b/%61lice/More"}, {&app, "/a/b/%61lice/More"}, {&app, "/Observation?x=y&patient=Patient/%61lice"}} {
		target, search, _ := strings.Cut(c.target, "?")
		path := parse(t, target)
		if n := testing.AllocsPerRun(100, func() {
			if !p.Decide(Request{Method: "GET", Path: path, Query: search, Who: c.who, Now: noon}).Allowed {
				t.Errorf("%s: denied", c.target)
			}
		}); n != 0 {
			t.Errorf("%s: Decide allocates %v times", c.target, n)
		}
	}
	noAllocationFull(t)
	if n := testing.AllocsPerRun(100, func() { _, _ = ParsePath("/api/patients/12/charts.json") }); n != 0 {
		t.Errorf("ParsePath allocates %v times for a plain path", n)
	}
}

// noAllocationFull is the same for all that is not an expression, for budgets and for the shadow.
func noAllocationFull(t *testing.T) {
	t.Helper()
	p := with(t, Config{IgnoreCase: true, Networks: plainNetworks}, "allow role Doctor group icu org o idp i device known /Patients/{p}/{claim.id}/** network hospital hours 00:00-24:00 Europe/Brussels acr a,b max_age 5m", "deny role x /patients/** network 192.0.2.0/24 hours 00:00-24:00 UTC",
		"require network hospital /patients/**", "require device known", "require hours mon-sun 00:00-24:00 UTC", "budget role doctor 5 distinct {p} per 1h", "shadow deny any /patients/x", "shadow allow any /y", "break_glass role nurse on /patients/{p} for 5m")
	who := &Subject{Username: "Ann", Roles: []string{"X", "Doctor", "x"}[1:2], Groups: []string{"icu"}, Org: "o", Source: "i", Device: true, ACR: "b", AuthTime: noon, Claims: map[string]string{"id": "aB"}}
	r := Request{Method: "GET", Path: parse(t, "/PATIENTS/7/aB/x"), Who: who, Now: noon, Addr: netip.MustParseAddr("::ffff:10.1.2.3")}
	counted := 0
	count := func(Count) bool { counted++; return true }
	if n := testing.AllocsPerRun(100, func() {
		if d := p.Decide(r); !d.Allowed {
			t.Fatalf("%+v", d)
		}
		if d := p.Shadow().Decide(r); !d.Allowed {
			t.Fatalf("shadow: %+v", d)
		}
		p.Counts(r, count)
	}); n != 0 || counted == 0 {
		t.Errorf("Decide allocates %v times with conditions; %d counted", n, counted)
	}
}
