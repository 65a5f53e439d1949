package policy

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// TestLanguageErrors: each mistake says what is wrong and what to write.
func TestLanguageErrors(t *testing.T) {
	networks := map[string][]netip.Prefix{"hospital": {netip.MustParsePrefix("10.0.0.0/8")}, "empty": nil}
	for _, c := range []struct{ text, reason, says string }{
		{"allow group /x", "group", "`group NAME`"}, {"allow group a/b", "group", "letters"}, {"allow groups a", "who", "`group NAME`"}, {"allow org", "org", "`org NAME`"}, {"allow idp a,", "idp", "empty"}, {"allow role a role b", "duplicate", "`role a,b`"},
		{"allow public role a", "who", "`public` alone"}, {"allow role a public", "who", "`public` alone"}, {"allow any role a", "who", "`any` alone"}, {"allow role a any", "who", "`any` alone"}, {"allow any public", "who", "`public` alone"}, {"allow any scope x", "who", "`any` alone"},
		{"allow device", "device", "`device known`"}, {"allow device unknown /x", "device", "`device known`"}, {"allow Group a", "who", "lower case"}, {"allow device known device known", "duplicate", "it once"}, {"deny device known /x", "device", "`require device known`"},
		{"allow public /x device known", "who", "never signed in"}, {"allow public device known", "who", "`public` alone"}, {"allow scope a device known", "device", "token"}, {"allow scope a scope b", "duplicate", "`scope a,b`"},
		{"deny any /x acr mfa", "condition", "`require acr LEVEL`"}, {"deny any /x amr a", "condition", "`require"}, {"deny any /x max_age 5m", "condition", "`require"}, {"allow public /x acr a", "who", "`any`"}, {"allow any /x acr a acr b", "duplicate", "`acr a,b`"},
		{"allow any /x max_age 5m max_age 6m", "duplicate", "shorter"}, {"allow any /x amr a amr b", "duplicate", "`require amr c`"}, {"allow any /x max_age 5", "require", "units"},
		{"allow any /x network", "network", "`network NAME`"}, {"allow any /x network hospitl", "network", "`hospital`"}, {"allow any /x network 10.1.0.0/8", "network", "10.0.0.0/8"}, {"allow any /x network 10.0.0.0/33", "network", "no network"}, {"allow any /x network fe80::1%eth0", "network", "neither an address"},
		{"allow any /x network a, b", "blank", "`a,b`"}, {"allow any /x network hospital,hospital", "duplicate", "twice"}, {"allow any /x network hospital network 10.0.0.0/8", "duplicate", "twice"}, {"allow any /x network empty", "network", "no addresses"}, {"require network /x", "network", "`network NAME`"},
		{"allow any /x hours", "hours", "no times"}, {"allow any /x hours mon-fri Europe/Brussels", "hours", "no times"}, {"allow any /x hours 07:00-19:00", "hours", "no time zone"}, {"allow any /x hours 07:00-19:00 Europe/Brussel", "hours", "no time zone"}, {"allow any /x hours 07:00-19:00 Local", "hours", "no time zone"},
		{"allow any /x hours 7:00-19:00 UTC", "hours", "no times of a day"}, {"allow any /x hours 07:00-07:00 UTC", "hours", "ends when it begins"}, {"allow any /x hours 07:00-24:01 UTC", "hours", "no times of a day"}, {"allow any /x hours 24:00-07:00 UTC", "hours", "no times of a day"}, {"allow any /x hours 07:60-08:00 UTC", "hours", "no times of a day"},
		{"allow any /x hours 07:00 UTC", "hours", "no times of a day"}, {"allow any /x hours monday 07:00-08:00 UTC", "hours", "no day"}, {"allow any /x hours Mon 07:00-08:00 UTC", "hours", "no day"}, {"allow any /x hours mon,mon 07:00-08:00 UTC", "hours", "twice"}, {"allow any /x hours mon- 07:00-08:00 UTC", "hours", "no day"},
		{"allow any /x hours 07:00-08:00,07:00-08:00 UTC", "duplicate", "twice"}, {"allow any /x hours 07:00-08:00 UTC hours 09:00-10:00 UTC", "duplicate", "twice"}, {"allow any /x hours 07:00-08:00, 09:00-10:00 UTC", "blank", "`07:00-08:00,09:00-10:00`"},
		{"allow any /x when", "when", "expression"}, {"allow any /x when true when false", "duplicate", "`&&`"}, {"allow any /x when nobody.name", "when", "column 1"}, {"allow any /x when 1", "when", "neither true nor false"}, {"allow any /{id} when path.i==\"a\"", "when", "path.i"},
		{"allow any /x network hospital /y", "condition", "before the conditions"}, {"allow any /x network hospital GET", "condition", "before the conditions"}, {"allow any /x network hospital or", "condition", "nothing after them"}, {"require acr mfa /x network hospital", "condition", "a line of its own"},
		{"require acr mfa acr b", "condition", "a line of its own"}, {"require hours 07:00-08:00 /x", "hours", "no time zone"}, {"require device /x", "device", "`device known`"}, {"require", "require", "`network NAME`"},
		{"allow any /p/{Id}", "path", "`{user}`"}, {"allow any /p/{}", "path", "does not exist"}, {"allow any /p/{claim.}", "path", "`{claim.NAME}`"}, {"allow any /p/{claim.Id}", "path", "does not exist"}, {"allow any /p/{claims.id}", "path", "`{claim.NAME}`"}, {"allow any /p/{a}{b}", "path", "mixes {a}"}, {"allow any /p/x{id}", "path", "mixes {id}"},
		{"allow any /p/{id", "path", "mixes"}, {"allow any /{a}/{a}", "path", "{a} twice"}, {"allow any /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", "path", "more than 8"}, {"allow any /p/{" + strings.Repeat("a", 33) + "}", "path", "does not exist"}, {"allow any /p/{username}", "path", "anybody's"}, {"allow any /p/{sub}", "path", "`{user}`"},
		{"allow public /p/{claim.id}", "path", "`any`"}, {"allow any /a;b", "path", "can match no request"},
		{"shadow", "action", "no rule"}, {"shadow expect x", "action", "no rule"}, {"shadow break_glass role a on /x for 5m", "action", "no shadow"}, {"shadow budget any 5 distinct {p} per 1h", "action", "no shadow"}, {"shadow shadow allow any", "action", "no rule"}, {"Shadow allow any", "action", "lower case"},
		{"allow rolle a /x", "who", "`role`"}, {"allow usr a /x", "who", "`user`"}, {"break_glass role a /x for 5m", "break_glass", "`on "}, {"break_glass role a on /x", "break_glass", "`for 30m`"}, {"break_glass role a on /x for", "break_glass", "no time"}, {"break_glass role a on /x for 5h", "break_glass", "more than four hours"}, {"break_glass role a on for 5m", "break_glass", "all of the app"}, {"break_glass role a on /x/y for 5m", "break_glass", "no patient open"}, {"break_glass role a on /** for 5m", "break_glass", "all of the app"},
		{"break_glass any on /x/* for 5m", "who", "whom it names"}, {"break_glass public on /x/* for 5m", "who", "whom it names"}, {"break_glass scope a on /x/* for 5m", "who", "whom it names"}, {"break_glass device known on /x/* for 5m", "who", "whom it names"}, {"break_glass role a on /x/* for 5m then", "condition", "nothing after them"},
		{"budget any distinct {p} per 1h", "budget", "a number"}, {"budget any 0 distinct {p} per 1h", "budget", "a number"}, {"budget any 05 distinct {p} per 1h", "budget", "a number"}, {"budget any 5 {p} per 1h", "budget", "`budget role doctor"}, {"budget any 5 distinct p per 1h", "budget", "no variable"}, {"budget any 5 distinct {user} per 1h", "budget", "no variable"},
		{"budget any 5 distinct {p} 1h", "budget", "how long"}, {"budget any 5 distinct {p} per 1h alarm 6", "budget", "after the limit"}, {"budget any 5 distinct {p} per 30s", "budget", "less than a minute"}, {"budget any 5 distinct {p} per 1h then allow", "budget", "`then deny`"}, {"budget any 5 distinct {p} per 1h on /x", "budget", "has no {p}"},
		{"budget any 5 distinct {p} per 1h /x/{p}", "budget", "nothing that can be here"}, {"budget public 5 distinct {p} per 1h", "who", "whom it names"}, {"budget scope a 5 distinct {p} per 1h", "who", "dodged"}, {"budget any device known 5 distinct {p} per 1h", "who", "dodged"}, {"budget any 5 distinct {zz} per 1h", "budget", "no path of another line"},
		{"budget any 5 distinct {p} per 1h on /{p} network hospital", "condition", "no condition"},
	} {
		words := strings.Fields(c.text)
		_, err := New(Config{Networks: networks, Lines: append(lines("allow user zoe /only/{z}"), Line{Words: words, At: "Caddyfile:9"})})
		if err == nil {
			t.Errorf("%s: compiled", c.text)
			continue
		}
		found := false
		for _, problem := range problems(t, err) {
			found = found || problem.Reason == c.reason && strings.Contains(problem.Wrong+"; "+problem.Write, c.says) && problem.At == "Caddyfile:9"
		}
		if !found {
			t.Errorf("%s: no %s that says %q: %v", c.text, c.reason, c.says, err)
		}
	}
}

// TestLanguageAccepts: what may be written, in which order.
func TestLanguageAccepts(t *testing.T) {
	networks := map[string][]netip.Prefix{"hospital": {netip.MustParsePrefix("10.0.0.0/8")}}
	for _, text := range []string{
		"allow role a group b user c org d idp e device known GET /x network hospital hours mon-fri,sun 07:00-12:00,13:00-19:00 Europe/Brussels acr a amr b max_age 1d", "allow device known role a", "allow any device known", "allow role network /x", "allow user when",
		"allow role a network hospital", "allow role a GET hours 00:00-24:00 UTC", "allow scope a org b user c /x network ::1,10.0.0.0/8", "allow role lab scope x GET", "allow any /x/{patient}/{claim.a_1}/{b2}/{user}/*/**", "deny any /x network hospital hours 22:00-06:00 UTC",
		"require network hospital", "require hours sat-mon 00:00-24:00 UTC GET /x", "require device known POST", "require when true /x", "shadow deny any /x", "shadow require acr a", "break_glass role a GET,POST on /x/{p} /y/** for 4h network hospital acr a", "budget any 5 distinct {z} per 1h",
		"budget role a 5 distinct {p} per 30d alarm 5 then step_up on /x/{p}/**", "allow user a group b,c",
	} {
		if _, err := compileAll(&Config{Networks: networks, Lines: append(lines("allow user zoe /only/{z}"), Line{Words: strings.Fields(text)})}, nil); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if p := with(t, Config{Exceptions: Exceptions{Semicolon: true}}, "allow any /a;b"); p == nil {
		t.Error("a literal that the site's exceptions accept")
	}
	_, err := compileAll(&Config{Lines: lines("allow any /x", "allow role a group b /y", "allow group b role a /y", "shadow allow any /x", "budget any 5 distinct {a} per 1h on /{a}", "budget any 6 distinct {a} per 1h on /{a}")}, nil)
	if list := problems(t, err); len(list) != 1 || list[0].Reason != "duplicate" || list[0].At != "Caddyfile:3" {
		t.Errorf("%v", err)
	}
}

// TestUses: what decisions hang on, those with shadow lines and expressions among them.
func TestUses(t *testing.T) {
	for text, want := range map[string]Uses{
		"allow any /x": {}, "allow user a": {Username: true}, "allow group a": {Groups: true}, "allow org a": {Org: true}, "allow idp a": {Source: true}, "allow any device known": {Device: true}, "allow any /{user}": {Username: true}, "allow any /{claim.a}": {Claims: true},
		"allow scope a": {Bearer: true, Query: true}, "allow any network 10.0.0.0/8": {Addr: true}, "allow any hours 00:00-12:00 UTC": {Time: true}, "allow any acr a": {Level: true}, "allow any max_age 5m": {Level: true, Time: true}, "allow any when request.host==\"a\"": {Host: true},
		"allow any when request.query==user.name": {Query: true, Username: true}, "allow any when user.org==user.idp": {Org: true, Source: true}, "allow any when \"a\"in(user.groups)": {Groups: true}, "allow any when user.device_known||user.acr==claim.a": {Device: true, Level: true, Claims: true},
		"allow any when inNetwork(request.address,\"10.0.0.0/8\")": {Addr: true}, "allow any when request.time.getHours(\"UTC\")<5": {Time: true},
	} {
		if got := compile(t, text).Uses(); got != want {
			t.Errorf("%s: %+v", text, got)
		}
		if got := compile(t, "allow public /only", "shadow "+text).Uses(); got != want {
			t.Errorf("shadow %s: %+v", text, got)
		}
	}
	if (*Policy)(nil).Uses() != (Uses{}) || (*Policy)(nil).Shadow() != nil || (*Policy)(nil).Warnings() != nil {
		t.Error("nil policy")
	}
}

// A shadow line decides nothing, and its policy decides with it.
func TestShadow(t *testing.T) {
	p := compile(t, "allow role a /x", "shadow allow role b PROPFIND,GET /x", "shadow deny user ann /x", "shadow require acr mfa /x")
	shadow := p.Shadow()
	for _, c := range []struct {
		who              *Subject
		real, underwater string
	}{{person("a"), ReasonAllowed, ReasonDenied}, {person("b", func(s *Subject) { s.Username = "bob" }), ReasonNoRule, ReasonStepUp}, {nil, ReasonNoSession, ReasonNoSession}} {
		answer(t, p, question{by(c.who), "/x", c.real})
		answer(t, shadow, question{by(c.who), "/x", c.underwater})
	}
	if p.Knows("PROPFIND") || !shadow.Knows("PROPFIND") || compile(t, "allow any").Shadow() != nil || !reflect.DeepEqual(p.Roles(), []string{"a", "b"}) {
		t.Error("methods or roles")
	}
	d := shadow.Decide(Request{Method: "GET", Path: parse(t, "/x"), Who: person("a")})
	if d.Rule != "shadow deny user ann /x (Caddyfile:3)" {
		t.Errorf("%+v", d)
	}
	// What could not be met together can be tried.
	if p, err := Compile(lines("allow any", "require acr a", "shadow require acr b")); err != nil || p.Shadow().Decide(Request{Method: "GET", Path: parse(t, "/"), Who: person("r")}).Reason != ReasonDenied {
		t.Errorf("%v", err)
	}
	if _, err := Compile(lines("shadow allow any")); err == nil {
		t.Error("a shadow alone opens nothing")
	}
}

// TestLinesKeepTheirWords: reports show the conditions of a line as its author wrote them, in their order.
func TestLinesKeepTheirWords(t *testing.T) {
	p := with(t, Config{}, "allow role a,b device known GET,PUT /x hours mon 07:00-08:00 UTC network 10.0.0.0/8 max_age 1d amr otp,hwk when user.org == 'lab'", "allow scope s role a GET /y")
	got := p.Lines()
	want := []LineInfo{
		{Rule: p.rules[0].text, At: got[0].At, Kind: "allow", Methods: []string{"GET", "PUT"}, Patterns: []string{"/x"}, Subjects: []Term{{"role", []string{"a", "b"}}}, Conditions: []Term{
			{"device", []string{"known"}}, {"hours", []string{"mon", "07:00-08:00", "UTC"}}, {"network", []string{"10.0.0.0/8"}}, {"max_age", []string{"1d"}}, {"amr", []string{"otp,hwk"}}, {"when", []string{"user.org == 'lab'"}}}},
		{Rule: p.rules[1].text, At: got[1].At, Kind: "allow", Methods: []string{"GET"}, Patterns: []string{"/y"}, Subjects: []Term{{"role", []string{"a"}}, {"scope", []string{"s"}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
