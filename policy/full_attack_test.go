package policy

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// with makes a policy of one configuration.
func with(t testing.TB, c Config, texts ...string) *Policy {
	t.Helper()
	for _, line := range lines(texts...) {
		for i, word := range line.Words {
			if word == "when" { // an expression is one word
				end := i + 1
				for end < len(line.Words) && line.Words[end][0] != '/' {
					end++
				}
				line.Words = append(append(line.Words[:i+1:i+1], strings.Join(line.Words[i+1:end], " ")), line.Words[end:]...)
				break
			}
		}
		c.Lines = append(c.Lines, line)
	}
	p, err := compileAll(&c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// question is a request with what the full language looks at.
type question struct {
	Request
	path   string
	reason string
}

func answer(t *testing.T, p *Policy, questions ...question) {
	t.Helper()
	for _, q := range questions {
		path, err := p.ParsePath(q.path)
		if err != nil {
			t.Fatal(q.path, err)
		}
		q.Path = path
		if q.Method == "" {
			q.Method = "GET"
		}
		if d := p.Decide(q.Request); d.Reason != q.reason || d.Allowed != (q.reason == ReasonAllowed) {
			t.Errorf("%s %s by %+v at %v from %v: %+v, want %s", q.Method, q.path, q.Who, q.Now, q.Addr, d, q.reason)
		}
	}
}

func by(who *Subject) Request { return Request{Who: who} }

func person(roles string, change ...func(*Subject)) *Subject {
	who := &Subject{Username: "ann", Roles: strings.Split(roles, ","), AuthTime: noon}
	for _, f := range change {
		f(who)
	}
	return who
}

func claimed(value string) *Subject {
	return person("patient", func(s *Subject) { s.Claims = map[string]string{"id": value} })
}

// A claim in a deny is not dodged by a spelling, in an allow it is exact, and an empty one is nobody's.
func TestClaimsAreNotDodged(t *testing.T) {
	p := with(t, Config{}, "allow role patient /own/{claim.id}/**", "allow any /all/**", "deny any /all/{claim.id}", "require acr mfa /all/x/{claim.id}")
	answer(t, p,
		question{by(claimed("aB7")), "/own/aB7/x", ReasonAllowed}, question{by(claimed("aB7")), "/own/%61B7", ReasonAllowed}, question{by(claimed("aB7")), "/own/ab7", ReasonNoRule},
		question{by(claimed("aB7")), "/own/aB7x", ReasonNoRule}, question{by(claimed("")), "/own/", ReasonNoRule}, question{by(claimed("")), "/own", ReasonNoRule}, question{by(person("patient")), "/own/x", ReasonNoRule},
		question{by(claimed("*")), "/own/x", ReasonNoRule}, question{by(claimed("{claim.id}")), "/own/x", ReasonNoRule}, question{by(claimed("a/b")), "/own/a/b", ReasonNoRule}, question{by(claimed("**")), "/own/a", ReasonNoRule},
		question{by(claimed("aB7")), "/all/aB7", ReasonDenied}, question{by(claimed("aB7")), "/all/AB7", ReasonDenied}, question{by(claimed("aB7")), "/all/%41b7/", ReasonDenied}, question{by(claimed("aB7")), "/all/c", ReasonAllowed},
		question{by(claimed("")), "/all/", ReasonAllowed}, question{by(claimed("aB7")), "/all/x/AB7", ReasonStepUp}, question{by(claimed("aB7")), "/all/x/y", ReasonAllowed},
		question{Request{}, "/own/aB7", ReasonNoSession},
	)
	// A name of the session's own is no claim of the site.
	if d := p.Decide(Request{Method: "GET", Path: parse(t, "/own/ann"), Who: person("patient")}); d.Allowed {
		t.Errorf("%+v", d)
	}
}

// In an app that ignores case, people and what is theirs are still told apart by every letter.
func TestIgnoreCaseFoldsNoNames(t *testing.T) {
	p := with(t, Config{IgnoreCase: true}, "allow role patient /Records/{claim.id} /Home/{user}/X", "allow role doctor /Admin/Reports", "break_glass role doctor on /Patients/{p}/** for 30m")
	doctor := person("doctor")
	answer(t, p,
		question{by(claimed("aB")), "/RECORDS/aB", ReasonAllowed}, question{by(claimed("aB")), "/records/Ab", ReasonNoRule}, question{by(claimed("aB")), "/home/ann/x", ReasonAllowed}, question{by(claimed("aB")), "/home/ANN/x", ReasonNoRule},
		question{by(doctor), "/aDMIN/rEPORTS", ReasonAllowed}, question{by(doctor), "/%61dmin/reports", ReasonNoRule}, question{by(doctor), "/Admin/Reports/", ReasonNoRule}, question{by(doctor), "/Admin%20/Reports"[:6] + "/Reports", ReasonAllowed},
		question{by(person("Doctor")), "/Admin/Reports", ReasonNoRule},
	)
	if e, ok := p.Emergency(Request{Method: "GET", Path: parse(t, "/PATIENTS/7/x"), Who: doctor}); !ok || e.Scope != "/PATIENTS/7" {
		t.Errorf("%+v", e)
	}
	exact := with(t, Config{}, "allow role doctor /Admin/Reports")
	answer(t, exact, question{by(doctor), "/admin/reports", ReasonNoRule})
}

// Several subjects all have to hold, and a deny for them is not dodged by a spelling.
func TestSubjects(t *testing.T) {
	p := with(t, Config{}, "allow role doctor group icu org Olive idp main device known /x", "allow group icu,er /g", "allow org Olive /o", "allow idp main /i", "allow device known /d", "allow any /all",
		"deny group Bad /all", "deny org Evil /all", "deny idp Guest role temp /all")
	all := func(change func(*Subject)) *Subject {
		who := &Subject{Username: "ann", Roles: []string{"doctor"}, Groups: []string{"icu"}, Org: "Olive", Source: "main", Device: true}
		change(who)
		return who
	}
	for _, c := range []struct {
		change func(*Subject)
		path   string
		want   string
	}{
		{func(*Subject) {}, "/x", ReasonAllowed}, {func(s *Subject) { s.Roles = nil }, "/x", ReasonNoRule}, {func(s *Subject) { s.Groups = []string{"ICU"} }, "/x", ReasonNoRule}, {func(s *Subject) { s.Org = "olive" }, "/x", ReasonNoRule},
		{func(s *Subject) { s.Source = "" }, "/x", ReasonNoRule}, {func(s *Subject) { s.Device = false }, "/x", ReasonCondition}, {func(s *Subject) { s.Bearer = true }, "/x", ReasonNoRule},
		{func(s *Subject) { s.Groups = []string{"a", "er"} }, "/g", ReasonAllowed}, {func(s *Subject) { s.Groups = nil }, "/g", ReasonNoRule}, {func(*Subject) {}, "/o", ReasonAllowed}, {func(s *Subject) { s.Org = "" }, "/o", ReasonNoRule},
		{func(*Subject) {}, "/i", ReasonAllowed}, {func(s *Subject) { s.Source = "Main" }, "/i", ReasonNoRule}, {func(*Subject) {}, "/d", ReasonAllowed}, {func(s *Subject) { s.Device = false }, "/d", ReasonCondition},
		{func(s *Subject) { s.Groups = []string{"BAD"} }, "/all", ReasonDenied}, {func(s *Subject) { s.Org = "evil" }, "/ALL/", ReasonDenied}, {func(s *Subject) { s.Source = "guest" }, "/all", ReasonAllowed},
		{func(s *Subject) { s.Source, s.Roles = "guest", []string{"TEMP"} }, "/all", ReasonDenied},
	} {
		answer(t, p, question{by(all(c.change)), c.path, c.want})
	}
}

// Networks: IPv4 in IPv6, zones, borders; an address that is not known is nowhere, and everywhere for a deny.
func TestNetworks(t *testing.T) {
	networks := map[string][]netip.Prefix{"hospital": {netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:172.16.0.0/108"), netip.MustParsePrefix("10.2.0.0/16")}}
	p := with(t, Config{Networks: networks}, "allow any /in network hospital,2001:db8::/32,192.0.2.7,fe80::9", "allow any /out", "deny any /out network hospital", "allow any /req", "require network hospital /req", "allow public /pub network hospital")
	for addr, in := range map[string]bool{"10.0.0.0": true, "10.255.255.255": true, "9.255.255.255": false, "11.0.0.0": false, "172.16.0.1": true, "172.31.255.255": true, "172.32.0.0": false, "::ffff:10.1.1.1": true,
		"::ffff:11.1.1.1": false, "::a00:1": false, "192.0.2.7": true, "192.0.2.8": false, "2001:db8:ffff::1": true, "2001:db9::": false, "2001:db8::1%eth0": true, "fe80::1": false, "fe80::9%eth0": true, "::": false, "0.0.0.0": false, "255.255.255.255": false} {
		want := map[bool]string{true: ReasonAllowed, false: ReasonCondition}[in]
		answer(t, p, question{Request{Who: alice, Addr: netip.MustParseAddr(addr)}, "/in", want})
	}
	near, far := netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("198.51.100.1")
	answer(t, p,
		question{Request{Who: alice}, "/in", ReasonCondition}, question{Request{Who: alice}, "/out", ReasonDenied}, question{Request{Who: alice, Addr: near}, "/OUT/", ReasonDenied}, question{Request{Who: alice, Addr: far}, "/out", ReasonAllowed},
		question{Request{Who: alice}, "/req", ReasonCondition}, question{Request{Who: alice, Addr: far}, "/%72eq/", ReasonNoRule}, question{Request{Who: alice, Addr: far}, "/req", ReasonCondition}, question{Request{Who: alice, Addr: near}, "/req", ReasonAllowed},
		question{Request{Addr: near}, "/pub", ReasonAllowed}, question{Request{Addr: far}, "/pub", ReasonNoSession}, question{Request{}, "/pub", ReasonNoSession}, question{Request{Who: alice, Addr: far}, "/pub", ReasonCondition},
	)
}

// What a line asks for besides a scope holds for tokens, too, and a patient's scope is his all the same.
func TestScopesWithConditions(t *testing.T) {
	p := with(t, Config{}, "allow scope a GET /net network 10.0.0.0/8", "allow scope a GET /lvl acr mfa", "allow scope a org Olive idp main GET /org", "allow scope patient/*.rs GET /p/{patient}/{x} when path.x == path.patient", "allow role lab scope a GET /lab", "allow any /net", "require device known /dev", "allow scope a GET /dev")
	in := netip.MustParseAddr("10.0.0.1")
	app := func(change func(*Subject)) *Subject {
		who := token("7", "a", "patient/*.rs")
		change(who)
		return who
	}
	none := app(func(*Subject) {})
	answer(t, p,
		question{Request{Who: none, Addr: in}, "/net", ReasonAllowed}, question{by(none), "/net", ReasonCondition}, question{Request{Who: token("", "b"), Addr: in}, "/net", ReasonScope},
		question{by(none), "/lvl", ReasonStepUp}, question{by(app(func(s *Subject) { s.ACR = "mfa" })), "/lvl", ReasonAllowed},
		question{by(none), "/org", ReasonNoRule}, question{by(app(func(s *Subject) { s.Org, s.Source = "Olive", "main" })), "/org", ReasonAllowed}, question{by(app(func(s *Subject) { s.Org = "Olive" })), "/org", ReasonNoRule},
		question{by(none), "/p/7/7", ReasonAllowed}, question{by(none), "/p/7/8", ReasonCondition}, question{by(none), "/p/8/8", ReasonNoRule}, question{by(none), "/lab", ReasonAllowed}, question{by(app(func(s *Subject) { s.Roles = nil })), "/lab", ReasonNoRule},
		question{by(none), "/dev", ReasonCondition}, question{by(person("lab")), "/lab", ReasonNoRule},
	)
}

// Hours are what the clock on one wall shows: over midnight, and when clocks are put forward and back.
func TestHours(t *testing.T) {
	p := with(t, Config{}, "allow any /day hours mon-fri 07:00-19:00 Europe/Brussels", "allow any /night hours fri,sat 22:00-06:00 Europe/Brussels", "allow any /gap hours 02:15-02:45 Europe/Brussels", "allow any /late hours 23:00-24:00,00:00-00:30 Europe/Brussels",
		"allow any /wrap hours sat-mon 00:00-24:00 UTC", "allow any /tokyo hours mon 00:00-01:00 Asia/Tokyo", "allow any /closed", "deny any /closed hours 00:00-06:00 UTC", "allow any /req", "require hours 06:00-20:00 UTC /req")
	for _, c := range []struct {
		path, at string
		in       bool
	}{
		{"/day", "2026-11-23T06:00:00Z", true}, {"/day", "2026-11-23T05:59:59Z", false}, {"/day", "2026-11-23T17:59:59Z", true}, {"/day", "2026-11-23T18:00:00Z", false}, {"/day", "2026-11-22T12:00:00Z", false}, // winter: UTC+1
		{"/day", "2026-07-06T05:00:00Z", true}, {"/day", "2026-07-06T04:59:59Z", false}, {"/day", "2026-07-06T17:00:00Z", false}, // summer: UTC+2
		// From Friday night into Saturday morning, from Saturday night into Sunday morning, and not from Thursday, nor into Monday.
		{"/night", "2026-11-20T21:00:00Z", true}, {"/night", "2026-11-20T20:59:59Z", false}, {"/night", "2026-11-21T04:59:59Z", true}, {"/night", "2026-11-21T05:00:00Z", false}, {"/night", "2026-11-22T04:00:00Z", true},
		{"/night", "2026-11-20T04:00:00Z", false}, {"/night", "2026-11-23T04:00:00Z", false}, {"/night", "2026-11-22T22:00:00Z", false},
		// 29 March 2026: from 02:00 to 03:00 no clock shows anything. 25 October: 02:00 to 03:00 comes twice.
		{"/gap", "2026-03-29T00:59:59Z", false}, {"/gap", "2026-03-29T01:00:00Z", false}, {"/gap", "2026-03-29T01:30:00Z", false}, {"/gap", "2026-10-25T00:30:00Z", true}, {"/gap", "2026-10-25T01:30:00Z", true}, {"/gap", "2026-10-25T01:00:00Z", false},
		{"/night", "2026-03-28T21:00:00Z", true}, {"/night", "2026-03-29T03:59:59Z", true}, {"/night", "2026-03-29T04:00:00Z", false}, {"/night", "2026-10-25T04:59:59Z", true}, {"/night", "2026-10-25T05:00:00Z", false},
		{"/late", "2026-11-22T22:00:00Z", true}, {"/late", "2026-11-22T23:00:00Z", true}, {"/late", "2026-11-22T23:30:00Z", false}, {"/late", "2026-11-22T21:59:59Z", false},
		{"/wrap", "2026-11-21T00:00:00Z", true}, {"/wrap", "2026-11-22T23:59:59Z", true}, {"/wrap", "2026-11-23T23:59:59Z", true}, {"/wrap", "2026-11-24T00:00:00Z", false}, {"/wrap", "2026-11-20T23:59:59Z", false},
		{"/tokyo", "2026-11-22T15:30:00Z", true}, {"/tokyo", "2026-11-23T00:30:00Z", false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		answer(t, p, question{Request{Who: alice, Now: at}, c.path, map[bool]string{true: ReasonAllowed, false: ReasonCondition}[c.in]})
		// The zone in which the caller's clock shows the moment says nothing.
		answer(t, p, question{Request{Who: alice, Now: at.In(time.FixedZone("x", -11*3600))}, c.path, map[bool]string{true: ReasonAllowed, false: ReasonCondition}[c.in]})
	}
	day := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	answer(t, p,
		question{Request{Who: alice}, "/day", ReasonCondition}, question{Request{Who: alice}, "/closed", ReasonDenied}, question{Request{Who: alice}, "/req", ReasonCondition},
		question{Request{Who: alice, Now: day}, "/closed", ReasonAllowed}, question{Request{Who: alice, Now: day}, "/req", ReasonAllowed}, question{Request{Who: alice, Now: day.Add(15 * time.Hour)}, "/closed", ReasonDenied},
	)
}

// Variables get the values of their own places, and a deny on a value is not dodged by a spelling of it.
func TestVariablesInOrder(t *testing.T) {
	p := with(t, Config{}, "allow any /a/{x}/b/{y} /c/{y}/{x}/** when path.x == \"1\" && path.y == \"2\"", "allow any /all/** /d/{user}/{x}", "deny any /all/{name} when path.name == \"secret\"",
		"deny any /all/x/{name} when path.name == \"Secret\"", "deny any /all/y/{name} when claim.none == path.name", "require acr mfa /all/z/**", "require when path.w != \"v\" /all/q/{w}")
	answer(t, p,
		question{by(alice), "/a/1/b/2", ReasonAllowed}, question{by(alice), "/a/2/b/1", ReasonCondition}, question{by(alice), "/c/2/1/z", ReasonAllowed}, question{by(alice), "/c/1/2", ReasonCondition}, question{by(alice), "/a/%31/b/2", ReasonAllowed},
		question{by(alice), "/d/alice/1", ReasonAllowed}, question{by(alice), "/d/bob/1", ReasonNoRule}, question{by(alice), "/d/alice/", ReasonNoRule}, question{by(alice), "/d/alice/a/b", ReasonNoRule},
		question{by(alice), "/all/secret", ReasonDenied}, question{by(alice), "/all/SECRET", ReasonDenied}, question{by(alice), "/ALL/%53ecret/", ReasonDenied}, question{by(alice), "/all/%53ecret/", ReasonDenied}, question{by(alice), "/all/secrets", ReasonAllowed},
		question{by(alice), "/all/x/Secret", ReasonDenied}, question{by(alice), "/all/x/secret", ReasonDenied}, question{by(alice), "/all/x/SECRET", ReasonDenied},
		// What has no answer counts as the one that denies.
		question{by(alice), "/all/y/z", ReasonDenied}, question{by(alice), "/all/q/w", ReasonAllowed}, question{by(alice), "/all/q/V", ReasonCondition},
	)
	_, err := New(Config{Lines: []Line{{Words: []string{"allow", "any", "/a/{x}", "/b/{y}", "when", `path.x == "1"`}}}})
	if err == nil || !strings.Contains(err.Error(), "path.x") {
		t.Errorf("a variable that one of the paths has not: %v", err)
	}
}

// A condition without an answer closes, whatever the line is.
func TestUnknownCloses(t *testing.T) {
	p := with(t, Config{}, "allow any /allow when inNetwork(request.address, \"10.0.0.0/8\")", "allow public /deny /deny2", "deny public /deny when inNetwork(request.address, \"10.0.0.0/8\")", "deny public /deny2 when \"bad\" in user.roles",
		"allow public /req", "require when user.name == \"ann\" /req", "allow any /glass2", "break_glass role doctor on /glass/{p} for 5m when inNetwork(request.address, \"10.0.0.0/8\")")
	doctor, in, out := person("doctor"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("11.0.0.1")
	answer(t, p,
		question{by(alice), "/allow", ReasonCondition}, question{Request{Who: alice, Addr: in}, "/allow", ReasonAllowed}, question{by(alice), "/deny", ReasonDenied}, question{Request{Who: alice, Addr: in}, "/deny", ReasonDenied}, question{Request{Who: alice, Addr: out}, "/deny", ReasonAllowed},
		question{Request{}, "/deny2", ReasonDenied}, question{by(alice), "/deny2", ReasonAllowed}, question{by(person("bad")), "/deny2", ReasonDenied}, question{by(person("x")), "/req", ReasonAllowed}, question{by(alice), "/req", ReasonCondition}, question{Request{}, "/req", ReasonNoSession},
	)
	path := parse(t, "/glass/1")
	if _, ok := p.Emergency(Request{Method: "GET", Path: path, Who: doctor}); ok {
		t.Error("broken without an address")
	}
	if _, ok := p.Emergency(Request{Method: "GET", Path: path, Who: doctor, Addr: in}); !ok {
		t.Error("not broken")
	}
}

// The strictest of all readings counts, also for a scope's {patient} and for what a sign-in has to show.
func TestSeveralReadings(t *testing.T) {
	exceptions := Exceptions{EncodedSlash: true, Semicolon: true, EncodedPercent: true, TrailingDot: true}
	p := with(t, Config{Exceptions: exceptions}, "allow any /a/** /f/*", "deny any /a/admin/**", "allow public /pub/*", "allow any /pub/**", "require acr mfa /a/x/**", "require amr otp /a/x;y", "allow scope patient/*.rs GET /p/{patient}/**", "allow any /u/{user} /q/**", "require acr a /q/x;y", "require acr b /q/x")
	pat := token("7", "patient/*.rs")
	answer(t, p,
		question{by(alice), "/a/b%2Fc", ReasonAllowed}, question{by(alice), "/f/b%2Fc", ReasonNoRule}, question{by(alice), "/a/admin%2Fx", ReasonDenied}, question{by(alice), "/a%2Fadmin", ReasonDenied}, question{by(alice), "/a/admin;x", ReasonDenied},
		question{by(alice), "/a/admin.", ReasonDenied}, question{by(alice), "/a/%2561dmin", ReasonDenied}, question{Request{}, "/pub/a", ReasonAllowed}, question{Request{}, "/pub/a%2Fb", ReasonNoSession}, question{by(alice), "/pub/a%2Fb", ReasonAllowed},
		question{by(alice), "/q/x;y", ReasonDenied}, question{by(alice), "/q/x", ReasonStepUp}, // no sign-in meets both readings
		question{by(alice), "/a/x;y", ReasonStepUp}, question{by(alice), "/u/alice", ReasonAllowed}, question{by(alice), "/u/alice;x", ReasonNoRule}, question{by(alice), "/u/alice.", ReasonNoRule},
		question{by(pat), "/p/7/x", ReasonAllowed}, question{by(pat), "/p/7%2F8/x", ReasonNoRule}, question{by(pat), "/p/7;v=8", ReasonNoRule}, question{by(pat), "/p/7/x;v=8", ReasonAllowed},
	)
	path, err := p.ParsePath("/pub/a%2Fb")
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(Request{Method: "GET", Path: path, Who: alice}); d.Public || !d.Allowed {
		t.Errorf("one reading is public and one is not: %+v", d)
	}
	if path, err = p.ParsePath("/a/x;y"); err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(Request{Method: "GET", Path: path, Who: alice}); !reflect.DeepEqual(d.Need, Need{ACR: []string{"mfa"}, AMR: [][]string{{"otp"}}}) {
		t.Errorf("%+v", d)
	}
}
