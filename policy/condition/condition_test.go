package condition

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // a Monday

// input is a request that has a value for everything.
func input() *Input {
	return &Input{
		Method: "GET", Path: "/patients/7/charts", Query: "q=1", Host: "app.example", Time: noon, Addr: netip.MustParseAddr("10.1.2.3"), SignedIn: true,
		User: User{Name: "ann", Roles: []string{"nurse", "doctor"}, Groups: []string{"ward3"}, Org: "north", IDP: "hospital", ACR: "mfa", AMR: []string{"pwd", "otp"},
			AuthTime: noon.Add(-time.Hour), Device: true},
		Claims: map[string]string{"dept": "cardio", "empty": ""},
		Vars: func(name string) (string, bool) {
			switch name {
			case "patient":
				return "7", true
			case "empty":
				return "", true
			}
			return "", false
		},
	}
}

var (
	vars   = []string{"patient", "empty", "other"}
	claims = []string{"dept", "empty", "ward"}
)

func TestEval(t *testing.T) {
	for text, want := range map[string]bool{
		`request.method == "GET"`:                                          true,
		`request.path.startsWith("/patients/")`:                            true,
		`request.path.matches("^/patients/[0-9]+/charts$")`:                true,
		`request.query.contains("q=")`:                                     true,
		`request.host == "app.example"`:                                    true,
		`request.time.getHours("Europe/Brussels") == 13`:                   true,
		`request.time.getHours("+02:00") == 14`:                            true,
		`request.time.getHours("UTC") < 12`:                                false,
		`request.time.getHours() == 12`:                                    true,
		`request.time.getFullYear("Europe/Brussels") == 2026`:              true,
		`request.time.getMonth("Europe/Brussels") == 10`:                   true,
		`request.time.getDate("Europe/Brussels") == 23`:                    true,
		`request.time.getDayOfMonth("Europe/Brussels") == 22`:              true,
		`request.time.getDayOfWeek("Europe/Brussels") == 1`:                true,
		`request.time.getDayOfYear("Europe/Brussels") == 326`:              true,
		`request.time.getMinutes("Asia/Kolkata") == 30`:                    true,
		`request.time.getSeconds("Asia/Kolkata") == 0`:                     true,
		`request.time.getMilliseconds("Asia/Kolkata") == 0`:                true,
		`request.time < timestamp("2027-01-01T00:00:00Z")`:                 true,
		`request.time - user.auth_time <= duration("1h")`:                  true,
		`(request.time - user.auth_time).getMinutes() == 60`:               true,
		`inNetwork(request.address, "10.0.0.0/8")`:                         true,
		`inNetwork(request.address, "10.1.2.3")`:                           true,
		`inNetwork(request.address, "192.168.0.0/16")`:                     false,
		`"doctor" in user.roles`:                                           true,
		`"Doctor" in user.roles`:                                           false,
		`user.roles.exists(r, r.startsWith("doc"))`:                        true,
		`user.roles.all(r, r != "temp")`:                                   true,
		`user.roles.exists_one(x, x == "nurse")`:                           true,
		`user.roles.size() == 2 && size(user.groups) == 1`:                 true,
		`user.roles[0] == "nurse"`:                                         true,
		`user.name == "ann" && user.org == "north"`:                        true,
		`user.idp in ["hospital", "clinic"]`:                               true,
		`user.acr == "mfa" && "otp" in user.amr`:                           true,
		`user.device_known`:                                                true,
		`path.patient == "7"`:                                              true,
		`int(path.patient) > 5`:                                            true,
		`claim.dept == "cardio"`:                                           true,
		`has(claim.dept) && has(user.name) && has(path.patient)`:           true,
		`has(claim.empty) || has(path.empty) || has(path.other)`:           false,
		`!has(claim.ward) || claim.ward == "3"`:                            true,
		`claim.ward == "3" || true`:                                        true,
		`request.method == "GET" ? true : false`:                           true,
		"// a remark\nrequest.method == 'GET'\n  && request.query != \"\"": true,
	} {
		c, err := Compile(text, vars, claims)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := c.Eval(input()); err != nil || got != want {
			t.Errorf("%s: %t, %v, want %t", text, got, err, want)
		}
		if c.Text() != text {
			t.Errorf("%s became %s", text, c.Text())
		}
	}
}

// TestNoAnswer: unknown is neither true nor false, and says what was unknown.
func TestNoAnswer(t *testing.T) {
	nobody := input()
	nobody.SignedIn = false
	bare := &Input{SignedIn: true}
	for _, c := range []struct {
		text string
		in   *Input
	}{
		{`claim.ward == "3"`, input()}, {`claim.ward != "3"`, input()}, {`!(claim.ward == "3")`, input()}, {`claim.empty == ""`, input()},
		{`path.other == "x"`, input()}, {`path.empty == ""`, input()}, {`path.patient == "7"`, bare}, {`claim.dept != "x"`, bare},
		{`user.name != "eve"`, nobody}, {`!("temp" in user.roles)`, nobody}, {`!user.device_known`, nobody}, {`user.groups.all(g, g != "x")`, nobody},
		{`request.time.getHours("UTC") >= 0`, bare}, {`!inNetwork(request.address, "10.0.0.0/8")`, bare}, {`user.auth_time <= request.time`, bare},
		{`user.org != "x"`, bare}, {`user.acr != "low"`, bare}, {`user.idp != "x"`, bare}, {`user.name != "x"`, bare}, {`request.host != "x"`, bare},
		{`int(claim.dept) < 5`, input()}, {`user.roles[9] != "x"`, input()}, {`9223372036854775807 + int(path.patient) > 0`, input()}, {`1 / (int(path.patient) - 7) > 0`, input()},
	} {
		compiled, err := Compile(c.text, vars, claims)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		got, err := compiled.Eval(c.in)
		if got || !errors.Is(err, ErrNoAnswer) {
			t.Errorf("%s: %t, %v", c.text, got, err)
		}
	}
	c, _ := Compile(`claim.ward == "3"`, nil, nil)
	if _, err := c.Eval(input()); err == nil || err.Error() != "condition without an answer: claim.ward has no value" {
		t.Errorf("%v", err)
	}
	var none *Condition
	if ok, err := none.Eval(input()); ok || err == nil {
		t.Error("a nil Condition has an answer")
	}
	if ok, err := c.Eval(nil); ok || err == nil {
		t.Error("a nil Input has an answer")
	}
}

// TestMistakes: each says where, what and what to write instead.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		``:                              "it is empty; write",
		"  \n ":                         "it is empty; write",
		"request.method == \"\xff\"":    "no text in UTF-8",
		`request.method`:                "it is a text, and neither true nor false",
		`request.time`:                  "it is a time, and",
		`1 + 2`:                         "it is a number, and",
		`user.roles`:                    "list(string)",
		`request.ip == "x"`:             "column 1: \"request.ip\" is no name; write `request.address`",
		`request.methd == "GET"`:        "\"request.methd\" is no name; write `request.method`",
		`request.foo == "x"`:            "write one of `request.address`",
		`request.address == "10.0.0.1"`: "write `inNetwork(request.address, \"10.0.0.0/8\")`",
		`user.role == "doctor"`:         "write `user.roles`",
		`user.roles == "doctor"`:        "a list does not equal a text; write `\"doctor\" in user.roles`",
		`user.roles in "doctor"`:        "`in` needs a list after it",
		`user == "x"`:                   "\"user\" alone is nothing; write a name such as `user.roles`",
		`role == "x"`:                   "\"role\" is no name; write `user.roles`",
		`doctor in user.roles`:          "\"doctor\" is no name",
		`path.patiant == "x"`:           "no {patiant}; write `path.patient`",
		`path.zzzzzz == "x"`:            "write one of `path.patient`",
		`claim.dpt == "x"`:              "no identity source has a claim \"dpt\"; write `claim.dept`",
		`claim.zzzzzzzz == "x"`:         "write `claim zzzzzzzz` into the identity source",
		`has(claim.zzzzzzzz)`:           "no identity source has a claim",
		`has(user)`:                     "has() asks for a name; write one such as",
		`has(user.roles.x)`:             "has() asks for a name",
		`request.method = "GET"`:        "a single = compares nothing; write `==`",
		`user.device_known & true`:      "a single & is no operator; write `&&`",
		`user.device_known and true`:    "write `&&`",
		`request.method == "GET`:        "has no place here",
		`request.method == `:            "it ends too early",
		`{ user.device_known }`:         "a brace has no place here",
		`request.time.getHours("Europe/Brussel") < 20`:             "\"Europe/Brussel\" is no time zone",
		`request.time.getHours("") < 20`:                           "is no time zone",
		`request.time.getHours("Local") < 20`:                      "is no time zone",
		`request.time.getHours("../../etc/passwd") < 20`:           "is no time zone",
		`request.time.getHours("+2") < 20`:                         "an offset has four digits",
		`request.time.getHours(claim.dept) < 20`:                   "the zone is no text between quotes",
		`request.time.getHour("UTC") < 20`:                         "write `request.time.getHours(\"Europe/Brussels\")`",
		`request.time.getHuors("UTC") < 20`:                        "write `getHours`",
		`inNetwork(request.address, "10.0.0.1/8")`:                 "and is 10.0.0.0/8",
		`inNetwork(request.address, "10.0.0/8")`:                   "is no network",
		`inNetwork(request.address, "::ffff:10.0.0.0/104")`:        "is no network",
		`inNetwork(request.address, claim.dept)`:                   "the network is no text",
		`inNetwork("10.0.0.1", "10.0.0.0/8")`:                      "inNetwork does not take",
		`request.path.matches(claim.dept)`:                         "the pattern is no text between quotes",
		`request.path.matches("(")`:                                "the pattern cannot be read: error parsing regexp: missing closing )",
		`request.path.matches("` + strings.Repeat("a", 600) + `")`: "the pattern is longer than",
		`request.path.matches("((a{1,100}){1,100}){1,100}")`:       "",
		`timestamp(claim.dept) < request.time`:                     "what timestamp reads is no text between quotes",
		`timestamp("tomorrow") < request.time`:                     "\"tomorrow\" is no timestamp",
		`dyn(1) == 1`:                                              "dyn is not available here",
		`type(1) == int`:                                           "no",
		`user.roles.map(r, r + "x").size() > 0`:                    "map is not available here; write `exists` or `all`",
		`user.roles.filter(r, r != "x").size() > 0`:                "",
		`{"a": 1}["a"] == 1`:                                       "it makes a map",
		`google.protobuf.Value{} == 1`:                             "it makes a message",
		`user.roles.exists(user, user == "x")`:                     "is already the name of something else",
		`[1, "a"].size() > 0`:                                      "",
		`request.method == 1`:                                      "== does not take (string, int)",
		`request.method && true`:                                   "column 8: this is of type string, and bool is needed",
		`@result`:                                                  "",
		`__result__ == 1`:                                          "",
		`package == 1`:                                             "",
		`claim["dept"] == "x"`:                                     "\"claim\" alone is nothing",
		`request.method.matchs("a")`:                               "write `matches`",
		`duration("8 hours") > duration("1h")`:                     "\"8 hours\" is no duration; write `duration(\"8h\")`",
		`claim.dept.x == "y"`:                                      "this has nothing after another dot",
		`"a".exists(x, x == "b")`:                                  "this is no list to go through",
		`user.roles.exists(r)`:                                     "exists needs a word for each element",
		`user.roles.exists("r", true)`:                             "this is no word for an element",
		`request.method.startsWith('/a'`:                           "a bracket is not closed",
		`user.name == “ann”`:                                       "these are quotes of a letter",
		`request.method in ("GET", "POST")`:                        "a list has no place here",
		`user.acr == mfa`:                                          "write `\"mfa\"` if the text is meant",
		`optional.none() == 1`:                                     "",
	} {
		c, err := Compile(text, vars, claims)
		if err == nil || c != nil {
			t.Errorf("%s compiles", text)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Wrong == "" || e.Write == "" || strings.Contains(err.Error(), "\n\n") {
			t.Errorf("%s: %#v", text, err)
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n\t%v\n\twant %s", text, err, want)
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := Compile("user.role == \"a\" ||\n  request.ip == \"b\"", nil, nil)
	want := "column 1: \"user.role\" is no name; write `user.roles`\nline 2, column 3: \"request.ip\" is no name; write `request.address`"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

func TestWhatItUses(t *testing.T) {
	c, err := Compile(`request.time.getHours() < 20 && (inNetwork(request.address, "10.0.0.0/8") || "doctor" in user.roles || user.idp in ["a", "b"] || has(claim.dept))`, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !c.UsesTime() || !c.UsesUser() || !c.Uses("claim.dept") || c.Uses("claim.x") {
		t.Errorf("%q", c.Names())
	}
	if got := strings.Join(c.Names(), " "); got != "claim.dept request.address request.time user.idp user.roles" {
		t.Error(got)
	}
	if got := c.Mentions("user.roles"); len(got) != 1 || got[0] != "doctor" {
		t.Error(got)
	}
	if got := c.Mentions("user.idp"); len(got) != 2 {
		t.Error(got)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0].Error(), "without a zone is in UTC") {
		t.Errorf("%v", w)
	}
	if _, ok := c.Constant(); ok {
		t.Error("it is no constant")
	}
	for text, want := range map[string]bool{"true": true, "1 > 2": false, `"a" in ["a"]`: true} {
		c, err := Compile(text, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := c.Constant(); !ok || got != want {
			t.Errorf("%s: %t, %t", text, got, ok)
		}
		if c.UsesUser() || len(c.Warnings()) > 0 {
			t.Errorf("%s uses %q", text, c.Names())
		}
	}
}
