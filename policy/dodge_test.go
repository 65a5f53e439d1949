package policy

import (
	"slices"
	"strings"
	"testing"
)

// TestDenyByExpressionIsNotDodged: a deny, a require and a budget do not look at a slash at the end, and neither may an expression in
// them that compares the whole path.
func TestDenyByExpressionIsNotDodged(t *testing.T) {
	p := with(t, Config{}, "allow any", `deny any when request.path == "/admin"`, `deny any when request.path.endsWith("/export")`,
		`deny any /dirs/** when request.path.endsWith("/")`, `require when request.path != "/payroll" || user.name == "boss"`)
	ann := person("")
	for path, want := range map[string]bool{
		"/admin": false, "/Admin": false, "/%61dmin": false, "/admin/": false, "/ADMIN/": false, "/a/export": false, "/a/export/": false, "/a/Export/": false,
		"/payroll": false, "/payroll/": false, "/PAYROLL/": false, "/dirs/x/": false, "/dirs/x": true, "/admin/x": true, "/x/": true,
	} {
		if got := p.Decide(get(t, p, ann, path)).Allowed; got != want {
			t.Errorf("%s: allowed is %t", path, got)
		}
	}
	// An allow is exact as ever.
	p = with(t, Config{}, `allow any when request.path == "/open"`)
	for path, want := range map[string]bool{"/open": true, "/open/": false, "/Open": false} {
		if got := p.Decide(get(t, p, ann, path)).Allowed; got != want {
			t.Errorf("%s: allowed is %t", path, got)
		}
	}
}

// TestDenyOfNamesWithSlash: an encoded slash that a site accepts is a slash to the app; a deny for what is somebody's holds for it.
func TestDenyOfNamesWithSlash(t *testing.T) {
	ann := person("", func(s *Subject) { s.Username = "lab/Ann"; s.Claims = map[string]string{"unit": "icu/2"} })
	p := with(t, Config{Exceptions: Exceptions{EncodedSlash: true}, Claims: []string{"unit"}}, "allow any", "deny any /home/{user}/locked", "deny any /units/{claim.unit}/payroll")
	for path, want := range map[string]bool{
		"/home/lab%2Fann/locked": false, "/home/LAB%2fAnn/locked": false, "/units/icu%2F2/payroll": false, "/units/icu%2F3/payroll": true, "/home/lab%2Fbob/locked": true,
	} {
		if got := p.Decide(get(t, p, ann, path)).Allowed; got != want {
			t.Errorf("%s: allowed is %t", path, got)
		}
	}
	p = with(t, Config{Exceptions: Exceptions{EncodedSlash: true}, Claims: []string{"unit"}}, "allow any /home/{user}", "allow any /units/{claim.unit}")
	for _, path := range []string{"/home/lab%2FAnn", "/units/icu%2F2"} {
		if p.Decide(get(t, p, ann, path)).Allowed {
			t.Errorf("%s: an allow takes a name with a slash for one segment", path)
		}
	}
}

// TestShadowChangesNoBudget: a shadow line decides nothing, so that its paths are not counted either.
func TestShadowChangesNoBudget(t *testing.T) {
	p := with(t, Config{}, "allow role doctor /patients/{patient}/**", "allow role doctor /archive/*", "shadow allow role doctor /archive/{patient} /patients/new", "budget role doctor 5 distinct {patient} per 1h")
	counted := func(path string) (values []string) {
		p.Counts(get(t, p, person("doctor"), path), func(c Count) bool { values = append(values, c.Value); return true })
		return values
	}
	if got := counted("/archive/7"); got != nil {
		t.Errorf("a shadow line has %v counted", got)
	}
	if got := counted("/patients/7/x"); !slices.Equal(got, []string{"7"}) {
		t.Errorf("counted %v", got)
	}
	if _, err := New(Config{Lines: []Line{{Words: []string{"allow", "role", "doctor"}}, {Words: []string{"shadow", "allow", "role", "doctor", "/x/{patient}"}},
		{Words: []string{"budget", "role", "doctor", "5", "distinct", "{patient}", "per", "1h"}}}}); err == nil {
		t.Error("a budget that only a shadow line gives a path counts nothing, and loads")
	}
}

// TestDenyByCapitalsIsNotDodged: /ADMIN is neither the /Admin of an expression nor, in lower case, its own. A line that must not be
// dodged therefore takes no capital letter for a path; what is compared with something else, and an allow, may have them.
func TestDenyByCapitalsIsNotDodged(t *testing.T) {
	for when, fine := range map[string]bool{
		`request.path.startsWith("/Admin")`: false, `request.path == "/a" || "/B" == request.path`: false, `request.path in ["/a", "/List"]`: false,
		`["/a", "/Loop"].exists(x, request.path.startsWith(x))`: false, `request.path.startsWith("/Of/" + user.name)`: false, `!(path.id != "ICU")`: false,
		`request.path.matches("^/Reports/")`: false, `request.path.matches("^/[A-Z]+$")`: false, `path.id.endsWith(".PDF")`: false,
		`request.path.startsWith("/admin") && user.name != "Boss"`: true, `request.path.matches("(?i)^/Reports/")`: true, `request.path.matches("^/\\S+/[A-Za-z]+$")`: true,
		`(request.path == "/a") == (user.name == "Boss")`: true, `request.time.getHours("Europe/Brussels") < 20 && request.path != "/é"`: true,
		`path.id != user.name && request.method == "POST" && user.roles.exists(r, r.startsWith("Ward"))`: true,
	} {
		for kind, mayLoad := range map[string]bool{"deny": fine, "allow": true} {
			_, err := New(Config{Lines: append(lines("allow any"), Line{Words: []string{kind, "any", "/x/{id}/**", "when", when}})})
			if (err == nil) != mayLoad || err != nil && !strings.Contains(err.Error(), "capital letter") {
				t.Errorf("%s when %s: %v", kind, when, err)
			}
		}
	}
	if _, err := New(Config{Lines: append(lines("allow any"), Line{Words: []string{"require", "when", `request.path != "/Payroll"`}})}); err == nil {
		t.Error("a require line takes a capital letter for a path")
	}
}
