package policy

import (
	"errors"
	"strings"
	"testing"
)

// problems returns every Problem of an error that Compile returned.
func problems(t *testing.T, err error) []*Problem {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("no joined error: %v", err)
	}
	var list []*Problem
	for _, e := range joined.Unwrap() {
		var p *Problem
		if !errors.As(e, &p) {
			t.Fatalf("no *Problem: %v", e)
		}
		list = append(list, p)
	}
	return list
}

func TestCompileErrors(t *testing.T) {
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		name   string
		words  []string
		reason string
		says   string // in Wrong or Write
	}{
		{"nothing", nil, "action", "`allow`, `deny` or `require`"},
		{"upper-case action", []string{"Allow", "any"}, "action", "lower case"},
		{"no who", []string{"allow"}, "who", "`public`"},
		{"unknown who", []string{"allow", "doctor"}, "who", "`role doctor`"},
		{"who with other characters", []string{"allow", "Ärzte"}, "who", "`role NAME`"},
		{"path as who", []string{"allow", "/x"}, "who", "`any` (everybody signed in)"},
		{"everyone", []string{"allow", "everyone", "/x"}, "who", "`public`"},
		{"authenticated", []string{"allow", "Authenticated"}, "who", "`any`"},
		{"roles", []string{"allow", "roles", "a,b", "GET"}, "who", "`role NAME`"},
		{"upper-case who", []string{"allow", "Public"}, "who", "`public` in lower case"},
		{"role without name", []string{"allow", "role"}, "role", "`role NAME`"},
		{"role, then a path", []string{"allow", "role", "/x"}, "role", "names no role"},
		{"role with a slash", []string{"allow", "role", "a/b"}, "role", "letters"},
		{"role too long", []string{"allow", "role", long}, "role", "64"},
		{"blank after comma", []string{"allow", "role", "a,", "b"}, "blank", "`role a,b`"},
		{"blank before comma", []string{"allow", "role", "a", ",b", "/x"}, "blank", "`role a,b`"},
		{"blanks around comma", []string{"allow", "role", "a", ",", "b"}, "blank", "`role a,b`"},
		{"blank instead of comma", []string{"allow", "role", "a", "b"}, "method", "`a,b`"},
		{"comma at the end", []string{"allow", "role", "a,", "/x"}, "role", "empty"},
		{"two commas", []string{"allow", "role", "a,,b"}, "role", "empty"},
		{"role twice", []string{"allow", "role", "a,b,a"}, "duplicate", `"a" twice`},
		{"user without name", []string{"allow", "user"}, "user", "`user NAME`"},
		{"user with NUL", []string{"allow", "user", "a\x00"}, "user", "no text"},
		{"user no UTF-8", []string{"allow", "user", "\xff"}, "user", "no text"},
		{"user too long", []string{"allow", "user", strings.Repeat("x", 256)}, "user", "255"},
		{"user empty", []string{"allow", "user", "a,,b"}, "user", "empty"},
		{"lower-case method", []string{"allow", "any", "get"}, "method", "`GET`"},
		{"mixed-case method in a list", []string{"allow", "any", "POST,Get"}, "method", "`GET`"},
		{"method list with blank", []string{"allow", "any", "GET,", "POST", "/x"}, "blank", "`GET,POST`"},
		{"method list with blank, comma at the end", []string{"allow", "any", "GET", ",POST,", "/x"}, "blank", "`GET,POST`"},
		{"empty method", []string{"allow", "any", "GET,,POST"}, "method", "neither"},
		{"TRACE", []string{"allow", "any", "TRACE"}, "method", "never let through"},
		{"track", []string{"allow", "any", "track"}, "method", "never let through"},
		{"CONNECT", []string{"deny", "any", "GET,CONNECT"}, "method", "never let through"},
		{"misspelt method", []string{"deny", "any", "PSOT"}, "method", "`POST`"},
		{"one letter too few", []string{"deny", "any", "DELET"}, "method", "`DELETE`"},
		{"one letter too many", []string{"deny", "any", "PUTT"}, "method", "`PUT`"},
		{"method twice", []string{"allow", "any", "GET,GET"}, "duplicate", "GET twice"},
		{"method too long", []string{"allow", "any", strings.Repeat("A", 33)}, "method", "neither"},
		{"path without slash", []string{"allow", "any", "patients/*"}, "path", "`/patients/*`"},
		{"star alone", []string{"allow", "any", "*"}, "path", "nothing there"},
		{"second path without slash", []string{"allow", "any", "/x", "y"}, "path", "`/y`"},
		{"method after path", []string{"allow", "any", "/x", "GET"}, "path", "does not start with a slash"},
		{"partial star", []string{"allow", "any", "/x*"}, "path", "whole segment"},
		{"** in the middle", []string{"allow", "any", "/**/x"}, "path", "`**` at the end"},
		{"** within a segment", []string{"allow", "any", "/x**"}, "path", "whole segment"},
		{"unknown variable", []string{"allow", "any", "/p/{Id}"}, "path", "`{user}`"},
		{"variable with text", []string{"allow", "any", "/p/x{user}"}, "path", "mixes"},
		{"percent", []string{"deny", "any", "/%61dmin"}, "path", "percent"},
		{"CVE-2026-27587 percent dot", []string{"deny", "any", "/admin/%2e"}, "path", "percent"},
		{"dot segment", []string{"allow", "any", "/a/../b"}, "path", "can match no request"},
		{"dot at the end", []string{"allow", "any", "/a."}, "path", "can match no request"},
		{"two slashes", []string{"allow", "any", "/a//b"}, "path", "empty segment"},
		{"query", []string{"allow", "any", "/a?b"}, "path", "can match no request"},
		{"fragment", []string{"allow", "any", "/a#b"}, "path", "can match no request"},
		{"parameter", []string{"allow", "any", "/a;b"}, "path", "can match no request"},
		{"backslash", []string{"allow", "any", `/a\b`}, "path", "can match no request"},
		{"non-ASCII", []string{"allow", "any", "/é"}, "path", "`*` for other segments"},
		{"too long", []string{"allow", "any", "/" + strings.Repeat("a", MaxPath)}, "path", "length"},
		{"path twice", []string{"allow", "any", "/x", "/x"}, "duplicate", "twice"},
		{"public and {user}", []string{"allow", "public", "/p/{user}"}, "path", "`any`"},
		{"empty path", []string{"allow", "any", "GET", ""}, "path", "slash"},
		{"scope without name", []string{"allow", "scope", "/x"}, "scope", "`scope NAME`"},
		{"scopes", []string{"allow", "scopes", "a,b", "GET"}, "who", "`scope NAME`"},
		{"upper-case scope", []string{"allow", "Scope", "a"}, "who", "`scope` in lower case"},
		{"scope in quotes", []string{"allow", "scope", `a"b`}, "scope", "printable"},
		{"scope not ASCII", []string{"allow", "scope", "é"}, "scope", "printable"},
		{"scope too long", []string{"allow", "scope", strings.Repeat("x", 256)}, "scope", "255"},
		{"scope twice", []string{"allow", "scope", "a,b,a"}, "duplicate", `"a" twice`},
		{"scopes with blanks", []string{"allow", "scope", "a,", "b", "GET"}, "blank", "`scope a,b`"},
		{"scopes without commas", []string{"allow", "scope", "user/A.rs", "user/B.rs", "GET", "/x"}, "blank", "`scope a,b`"},
		{"scope of a wrong order", []string{"allow", "scope", "patient/Observation.sr", "GET", "/{patient}"}, "scope", "in this order"},
		{"scope without letters", []string{"allow", "scope", "patient/Observation", "GET"}, "scope", "after the dot"},
		{"scope of a wrong type", []string{"allow", "scope", "user/observation.rs", "GET"}, "scope", "resource type"},
		{"scope with a constraint", []string{"allow", "scope", "user/Observation.rs?category=x", "GET"}, "scope", "constraint"},
		{"scope of SMART without methods", []string{"allow", "scope", "user/Observation.rs", "/x"}, "method", "`GET` for r and s"},
		{"scope of a patient whose name is in the body", []string{"allow", "scope", "patient/Observation.c", "POST", "/fhir/Observation"}, "path", "`{patient}`"},
		{"scope and role without name", []string{"allow", "scope", "a", "role", "/x"}, "role", "`role NAME`"},
		{"scope and a bad user", []string{"allow", "scope", "a", "user", "a,,b"}, "user", "empty"},
		{"deny scope", []string{"deny", "scope", "a"}, "scope", "denies nothing"},
		{"{patient} with text", []string{"allow", "scope", "a", "/p/x{patient}"}, "path", "mixes {patient}"},
		{"require nothing", []string{"require"}, "require", "`acr LEVEL`"},
		{"require what nobody shows", []string{"require", "mfa", "/x"}, "require", "`max_age 5m`"},
		{"require for a role", []string{"require", "role", "doctor"}, "require", "nothing that a sign-in shows"},
		{"acr without level", []string{"require", "acr", "/x"}, "require", "`acr NAME`"},
		{"acr with blanks", []string{"require", "acr", "a,", "b"}, "blank", "`acr a,b`"},
		{"acr in quotes", []string{"require", "acr", `a"b`}, "require", "it may have printable"},
		{"amr twice", []string{"require", "amr", "otp,otp"}, "duplicate", "twice"},
		{"max_age without time", []string{"require", "max_age"}, "require", "`max_age 5m`"},
		{"max_age without unit", []string{"require", "max_age", "300"}, "require", "units"},
		{"max_age of nothing", []string{"require", "max_age", "0s"}, "require", "one second"},
		{"max_age below a second", []string{"require", "max_age", "1500ms"}, "require", "whole seconds"},
		{"max_age negative", []string{"require", "max_age", "-5m"}, "require", "one second"},
		{"max_age too long", []string{"require", "max_age", "31d"}, "require", "thirty days"},
		{"max_age too long for a number", []string{"require", "max_age", "99999999999999999999d"}, "require", "thirty days"},
		{"max_age, then a path", []string{"require", "max_age", "/x"}, "require", "`max_age 5m`"},
		{"require twice", []string{"require", "amr", "b,a", "GET", "/x", "/x"}, "duplicate", "twice"},
		{"require with a bad method", []string{"require", "acr", "x", "get"}, "method", "`GET`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Compile(append(lines("allow any /valid"), Line{Words: c.words, At: "Caddyfile:9"}))
			if p != nil || err == nil {
				t.Fatal("compiled")
			}
			for _, problem := range problems(t, err) {
				if problem.Reason == c.reason && strings.Contains(problem.Wrong+"; "+problem.Write, c.says) {
					if !strings.HasPrefix(problem.Error(), "Caddyfile:9: ") || problem.Write == "" || strings.ContainsAny(problem.Error(), "\n\x00") && c.name != "user with NUL" {
						t.Errorf("message: %q", problem.Error())
					}
					return
				}
			}
			t.Errorf("no %s problem that says %q: %v", c.reason, c.says, err)
		})
	}
}

func TestCompileReportsEverything(t *testing.T) {
	_, err := Compile([]Line{
		{Words: strings.Fields("allow doctor get patients/*"), At: "Caddyfile:3"},
		{Words: strings.Fields("deny role a, b /x//y /{Id}"), At: "Caddyfile:4"},
		{Words: strings.Fields("allow any GET,POST /x /y"), At: "Caddyfile:5"},
		{Words: strings.Fields("allow any POST,GET /y /x"), At: "Caddyfile:6"},
	})
	var got []string
	for _, p := range problems(t, err) {
		got = append(got, p.At+" "+p.Reason)
	}
	want := "Caddyfile:3 who, Caddyfile:3 method, Caddyfile:3 path, Caddyfile:4 blank, Caddyfile:4 path, Caddyfile:4 path, Caddyfile:6 duplicate"
	if strings.Join(got, ", ") != want {
		t.Errorf("problems: %s\nwant: %s", strings.Join(got, ", "), want)
	}
	if !strings.Contains(err.Error(), "the same as Caddyfile:5") {
		t.Errorf("duplicate does not name the first: %v", err)
	}
}

func TestCompileNeedsAnAllow(t *testing.T) {
	for _, texts := range [][]string{nil, {"deny any /x"}} {
		_, err := Compile(lines(texts...))
		list := problems(t, err)
		if len(list) != 1 || list[0].Reason != "no-allow" || !strings.Contains(list[0].Error(), "`allow role doctor`") {
			t.Errorf("%q: %v", texts, err)
		}
	}
	_, err := Compile(lines("allow"))
	if list := problems(t, err); len(list) != 1 || list[0].Reason != "who" {
		t.Errorf("a faulty allow line counts as one: %v", err)
	}
	_, err = Compile([]Line{{Words: strings.Fields("allow any")}, {Words: strings.Fields("allow any")}})
	if list := problems(t, err); len(list) != 1 || !strings.Contains(list[0].Error(), "a line above") {
		t.Errorf("duplicate without place: %v", err)
	}
}

func TestCompileAccepts(t *testing.T) {
	for _, text := range []string{
		"allow public", "allow any GET", "allow role A.b_c-9 GET,HEAD,POST /", "allow user a@b.example,Zoë /x", "allow any PROPFIND,X-CUSTOM /dav/**",
		"allow role doctor GET /patients/{user}/* /x/{user} /**", "allow any FOO", "allow any /get",
		"allow scope a,b:c/d", "allow scope patient/Observation.rs,openid GET /fhir/**", "allow scope user/*.* role a,b GET,POST /x", "allow scope system/*.read user u GET", "allow scope patient/*.c POST /p/{patient}/*",
	} {
		compile(t, text)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"doctor": true, "A.b_c-9": true, "": false, "a b": false, "ä": false, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false} {
		if ValidRole(name) != want {
			t.Errorf("role %q", name)
		}
	}
	for method, want := range map[string]bool{
		"GET": true, "PROPFIND": true, "M-SEARCH": true, "FOO": true, "": false, "get": false, "Get": false, "GET ": false, "GET\t": false, "1GET": false, "TRACE": false,
		"TRACK": false, "DEBUG": false, "CONNECT": false, strings.Repeat("A", 32): true, strings.Repeat("A", 1000): false, "GE:T": false,
	} {
		if ValidMethod(method) != want {
			t.Errorf("method %q", method)
		}
	}
}
