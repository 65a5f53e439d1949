package policy

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"
)

// monday is a Monday, 12:00 in UTC and 13:00 in Brussels.
var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func expectLine(text string) Line { return Line{Words: splitWords(text), At: "Caddyfile:99"} }

// splitWords cuts at blanks, but not between backquotes.
func splitWords(text string) (words []string) {
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// newPolicy compiles lines as a Caddyfile has them, and judges them.
func newPolicy(t testing.TB, c Config, texts ...string) *Policy {
	t.Helper()
	c.Lines = ruleLines(texts...)
	p, err := New(c)
	if err != nil {
		t.Fatalf("compiling: %v", err)
	}
	return p
}

func ruleLines(texts ...string) (list []Line) {
	for i, text := range texts {
		list = append(list, Line{Words: splitWords(text), At: "Caddyfile:" + strconv.Itoa(i+1)})
	}
	return list
}

// hospital has a line of each kind.
func hospital(t testing.TB) *Policy {
	return newPolicy(t, Config{Roles: []string{"doctor", "patient", "admin", "night"}, Groups: []string{"ward3"}, Sources: []string{"hospital", "clinic"}, Claims: []string{"dept"}},
		"allow role doctor /patients/** /fhir/**",
		"allow role patient GET /patients/{user}/**",
		"allow public GET /assets/**",
		"allow role admin /admin/** network 10.0.0.0/8",
		"allow role night /night hours 19:00-07:00 Europe/Brussels",
		"deny user eve /patients/**",
		"require acr mfa /patients/*/notes",
		"allow role admin /depts/{claim.dept}/**",
		"break_glass role doctor on /archive/{id}/** for 30m",
		"allow scope patient/Observation.rs GET /fhir/Patient/{patient}/**",
		"allow group ward3 org north device known /ward3",
		"require max_age 10m POST /patients/**",
		"allow idp clinic /clinic when `request.host == \"clinic.example\"`",
		"allow role night /late when `request.time.getHours(\"Europe/Brussels\") >= 20`",
	)
}

func TestExpectations(t *testing.T) {
	p := hospital(t)
	for text, want := range map[string]string{
		"expect doctor GET /patients/7 allow":                                             "",
		"expect doctor:ann GET /patients/7?x=1 allow":                                     "",
		"expect patient:ann GET /patients/ann/x allow":                                    "",
		"expect patient:ann GET /patients/bob/x deny":                                     "",
		"expect patient:ann GET /patients/bob/x allow":                                    "it is denied, and not allowed: no line allows it",
		"expect patient GET /patients/bob/x deny":                                         "",
		"expect anonymous GET / login":                                                    "",
		"expect anonymous GET / allow":                                                    "it is asked to sign in, and not allowed: no line allows it",
		"expect anonymous GET /assets/x.css allow":                                        "",
		"expect anonymous POST /assets/x.css login":                                       "",
		"expect any GET /patients/7 deny":                                                 "",
		"expect user:eve GET /patients/7 deny":                                            "",
		"expect doctor:eve GET /patients/7 allow":                                         "it is denied, and not allowed: `deny user eve /patients/** (Caddyfile:6)` decides",
		"expect doctor GET /patients/7 deny":                                              "it is allowed, and not denied: `allow role doctor /patients/** /fhir/** (Caddyfile:1)` decides",
		"expect doctor,admin GET /patients/7 allow":                                       "",
		"expect admin from 10.1.2.3 GET /admin/x allow":                                   "",
		"expect admin from 192.0.2.1 GET /admin/x deny":                                   "",
		"expect admin from ::ffff:10.1.2.3 GET /admin/x allow":                            "",
		"expect admin GET /admin/x allow":                                                 "the address was not said, as with `from 10.1.2.3`",
		"expect doctor GET /patients/7/notes step_up":                                     "",
		"expect doctor acr mfa GET /patients/7/notes allow":                               "",
		"expect doctor acr low GET /patients/7/notes allow":                               "`require acr mfa /patients/*/notes (Caddyfile:7)` is not met",
		"expect doctor GET /patients/7/notes allow":                                       "the level was not said, as with `acr mfa`",
		"expect doctor POST /patients/7 allow":                                            "",
		"expect doctor age 1h POST /patients/7 step_up":                                   "",
		"expect doctor age 1h POST /patients/7 allow":                                     "(Caddyfile:12)` is not met",
		"expect doctor GET /archive/7/x emergency":                                        "",
		"expect doctor GET /archive/7/x deny":                                             "it is denied except for emergency access, and not denied: `break_glass role doctor on /archive/{id}/** for 30m (Caddyfile:9)` opens it in an emergency",
		"expect patient GET /archive/7/x deny":                                            "",
		"expect patient GET /archive/7/x emergency":                                       "it is denied, and not denied except for emergency access",
		"expect any scope patient/Observation.rs patient P1 GET /fhir/Patient/P1/x allow": "",
		"expect any scope patient/Observation.rs patient P1 GET /fhir/Patient/P2/x deny":  "",
		"expect any scope openid patient P1 GET /fhir/Patient/P1/x allow":                 "asks for another scope",
		"expect any group ward3 org north device known GET /ward3 allow":                  "",
		"expect any group ward3 org north GET /ward3 deny":                                "",
		"expect any group ward3 org north GET /ward3 allow":                               "the device was not said",
		"expect any group ward3 org south device known GET /ward3 deny":                   "",
		"expect any idp clinic host clinic.example GET /clinic allow":                     "",
		"expect any idp clinic host other.example GET /clinic deny":                       "",
		"expect admin claim.dept cardio GET /depts/cardio/x allow":                        "",
		"expect admin claim.dept cardio GET /depts/neuro/x deny":                          "",
		"expect admin GET /depts/neuro/x deny":                                            "",
		"expect night at 2026-11-23T22:00 Europe/Brussels GET /night allow":               "",
		"expect night at 2026-11-23T08:00 Europe/Brussels GET /night deny":                "",
		"expect night at `2026-11-23 06:59` Europe/Brussels GET /night allow":             "",
		"expect night at 2026-11-23T18:30 UTC GET /night allow":                           "",
		"expect night at 2026-11-23T08:00 Europe/Brussels GET /night allow":               "`allow role night /night hours 19:00-07:00 Europe/Brussels (Caddyfile:5)` is not met",
		"expect night GET /night deny":                                                    "it depends on the time, by `allow role night /night hours 19:00-07:00 Europe/Brussels (Caddyfile:5)`; write the time into it",
		"expect night GET /night allow":                                                   "it depends on the time",
		"expect night GET /late deny":                                                     "it depends on the time, by `allow role night /late when",
		"expect night at 2026-11-23T20:00 Europe/Brussels GET /late allow":                "",
		"expect doctor GET /night deny":                                                   "",
		"expect doctor GET /late deny":                                                    "",
		"expect docter GET /patients/7 deny":                                              "nothing gives anybody the role \"docter\"; write `doctor`",
		"expect any group ward33 GET /ward3 deny":                                         "nothing gives anybody the group \"ward33\"",
		"expect any idp klinic GET /clinic deny":                                          "nothing gives anybody the identity source \"klinic\"",
		"expect any claim.depd x GET /clinic deny":                                        "nothing gives anybody the claim \"depd\"",
		"expect doctor GET /patients//7 deny":                                             "such a path is refused before the rules",
		"expect doctor GET /patients/%2e%2e/x deny":                                       "such a path is refused before the rules",
		"expect doctor PROPFIND /patients/7 deny":                                         "",
		"expect doctor PROPFIND /patients/7 allow":                                        "no line knows the method PROPFIND",
		"expect doctor DELETE /nowhere deny":                                              "",
	} {
		e, err := ParseExpectation(expectLine(text))
		if err == nil {
			err = p.Check(e, monday)
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\n\t%v\n\twant %s", text, err, want)
		}
		var problem *Problem
		if err != nil && (!errors.As(err, &problem) || problem.At != "Caddyfile:99" || problem.Reason != "expect" || !strings.HasPrefix(problem.Error(), "Caddyfile:99: `expect ")) {
			t.Errorf("%s: %#v", text, err)
		}
	}
}

// TestExpectationsAreRead: what is wrong with a line, and what to write.
func TestExpectationsAreRead(t *testing.T) {
	for text, want := range map[string]string{
		"":                                                               "it is no expectation",
		"allow any":                                                      "it is no expectation",
		"expect":                                                         "cannot be a role",
		"expect doctor":                                                  "is neither a method",
		"expect doctor GET":                                              "is no path",
		"expect doctor GET /x":                                           "it does not say what is expected",
		"expect doctor GET x allow":                                      "\"x\" is no path",
		"expect doctor get /x allow":                                     "\"get\" is neither a method",
		"expect doctor TRACE /x allow":                                   "is neither a method",
		"expect doctor GET /x allowed":                                   "\"allowed\" is no outcome; write `allow`, `deny`, `emergency`, `login`, `step_up`",
		"expect doctor GET /x allow deny":                                "\"deny\" has no place after the outcome",
		"expect public GET /x allow":                                     "`anonymous`",
		"expect everybody GET /x allow":                                  "`anonymous`",
		"expect doctor role nurse GET /x allow":                          "it names roles twice",
		"expect role doctor role nurse GET /x allow":                     "it says `role` twice",
		"expect role doctor, nurse GET /x allow":                         "write `role doctor,nurse`",
		"expect doctor, nurse GET /x allow":                              "has blanks in it; write `doctor,admin`",
		"expect user ann,bob GET /x allow":                               "one person makes a request",
		"expect patient:ann user bob GET /x allow":                       "one person makes a request",
		"expect from 10.1.2.3 GET /x allow":                              "does not say who",
		"expect doctor network hospital GET /x allow":                    "write `from 10.1.2.3`",
		"expect doctor max_age 5m GET /x allow":                          "write `age 10m`",
		"expect doctor acr a acr b GET /x allow":                         "it says `acr` twice",
		"expect anonymous role doctor GET /x allow":                      "nobody is signed in who has `role doctor`",
		"expect doctor from fe80::1%eth0 GET /x allow":                   "is no address",
		"expect do/ctor GET /x allow":                                    "cannot be a role",
		"expect doctor: GET /x allow":                                    "cannot be a user",
		"expect :ann GET /x allow":                                       "cannot be a role",
		"expect doctor from here GET /x allow":                           "\"here\" is no address",
		"expect doctor from":                                             "there is nothing after `from`",
		"expect doctor at 2026-11-23T08:00 GET /x allow":                 "\"GET\" is no time zone",
		"expect doctor at 2026-11-23T08:00 Europe/Brussel GET /x allow":  "\"Europe/Brussel\" is no time zone",
		"expect doctor at 2026-11-23 08:00 GET /x allow":                 "\"GET\" is no time zone",
		"expect doctor at 2026-13-23T08:00 Europe/Brussels GET /x allow": "is no date and time",
		"expect doctor at 2026-03-29T02:30 Europe/Brussels GET /x allow": "it is put forward then",
		"expect doctor age long GET /x allow":                            "is no time",
		"expect doctor device new GET /x allow":                          "is nothing that a device is",
		"expect doctor claim.X y GET /x allow":                           "\"X\" cannot be a claim",
		"expect anonymous acr mfa GET /x login":                          "nobody is signed in who has `acr mfa`",
		"expect anonymous scope a GET /x login":                          "nobody is signed in",
		"expect anonymous GET /x step_up":                                "who is anonymous has no sign-in",
		"expect anonymous GET /x emergency":                              "who is anonymous has no sign-in",
	} {
		e, err := ParseExpectation(expectLine(text))
		if err == nil || e != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n\t%v\n\twant %s", text, err, want)
		}
		var problem *Problem
		if err != nil && (!errors.As(err, &problem) || problem.Wrong == "" || problem.Write == "" || problem.At != "Caddyfile:99") {
			t.Errorf("%s: %#v", text, err)
		}
	}
	e, err := ParseExpectation(expectLine("expect doctor:a:b from 10.0.0.1 acr mfa amr pwd,otp age 5m org o idp i group g,h device known claim.x y host h GET /p?q=1 allow"))
	if err != nil || e.Who.Username != "a:b" || len(e.Who.Groups) != 2 || len(e.Who.AMR) != 2 || e.Query != "q=1" || e.Path != "/p" || e.Age != 5*time.Minute || !e.Who.Device || e.Who.Bearer {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := ParseExpectation(expectLine("expect anonymous from 10.0.0.1 at 2026-11-23T08:00 UTC host h GET / login")); err != nil {
		t.Error(err)
	}
}

// TestExpectationsDoNotHangOnTheClock: whatever the time is at which a config is loaded, an expectation without a time holds or does
// not.
func TestExpectationsDoNotHangOnTheClock(t *testing.T) {
	p := newPolicy(t, Config{},
		"allow role a /x hours 07:00-19:00 UTC", "allow role a GET /x/y", "deny role b hours sat,sun 00:00-24:00 UTC", "allow role b /b",
		"require hours 06:00-22:00 UTC /c/**", "allow role c /c/**", "allow role d /d when `request.time - user.auth_time < duration(\"1h\")`",
		"require max_age 5m /e", "allow role e /e", "allow role f /f when `request.time.getFullYear(\"UTC\") > 2000`", "allow role f GET /f",
		"shadow deny role g hours 07:00-08:00 UTC", "allow role g /g", "break_glass role h on /h/{id} for 5m hours 08:00-09:00 UTC")
	for text, refused := range map[string]bool{
		"expect a GET /x allow": true, "expect a GET /x deny": true, "expect a GET /x/y allow": false, "expect a POST /x/y deny": false,
		"expect b GET /b allow": true, "expect b GET /b deny": true, "expect b GET /other deny": false, "expect c GET /c/d allow": true,
		"expect anonymous GET /x login": false, "expect any GET /x deny": false, "expect d GET /d allow": true, "expect e GET /e allow": false,
		"expect e age 1h GET /e step_up": false, "expect f GET /f allow": false, "expect f POST /f allow": true, "expect g GET /g allow": false,
		"expect h GET /h/7 emergency": true, "expect h GET /h/7 deny": true, "expect h GET /h deny": false, "expect b,a GET /x deny": true,
	} {
		e, err := ParseExpectation(expectLine(text))
		if err != nil {
			t.Fatal(err)
		}
		first := p.Check(e, monday)
		for hour := range 7 * 24 {
			err := p.Check(e, monday.Add(time.Duration(hour)*time.Hour))
			if says := err != nil && strings.Contains(err.Error(), "it depends on the time"); says != refused {
				t.Errorf("%s after %d hours: %v", text, hour, err)
				break
			}
			if (err == nil) != (first == nil) {
				t.Errorf("%s: %v and after %d hours %v", text, first, hour, err)
				break
			}
		}
		if !refused && first != nil {
			t.Errorf("%s: %v", text, first)
		}
	}
	var none *Policy
	e, _ := ParseExpectation(expectLine("expect anonymous GET / login"))
	if none.Check(e, monday) == nil || p.Check(nil, monday) == nil {
		t.Error("nothing is as expected")
	}
}
