package policy

import (
	"slices"
	"testing"
	"time"
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

// TestDenyByCapitalsIsNotDodged: /ADMIN is neither the /Admin of an expression nor, in lower case, its own. What a path is compared with
// is therefore taken in lower case as well in lines that must not be dodged, and nothing else is.
func TestDenyByCapitalsIsNotDodged(t *testing.T) {
	for when, paths := range map[string][]string{
		`request.path.startsWith("/x/Admin")`:                             {"/x/Admin/a", "/x/admin", "/X/ADMIN", "/x/%61DMIN/b"},
		`"/x/B" == request.path`:                                          {"/x/B", "/x/b", "/X/b/", "/x/%62"},
		`request.path in ["/a", "/x/List"]`:                               {"/x/List", "/x/list/", "/x/LIST"},
		`["/a", "/x/Loop"].exists(x, request.path.startsWith(x))`:         {"/x/Loop/a", "/x/loop", "/X/LOOP"},
		`request.path.startsWith("/x/Of" + "/A")`:                         {"/x/Of/A", "/x/of/a", "/X/OF/Ab"},
		`!(path.id != "ICU")`:                                             {"/x/ICU", "/x/icu/a", "/x/Icu"},
		`request.path.matches("^/x/Reports/[A-Z]+$")`:                     {"/x/Reports/A", "/x/reports/a", "/X/REPORTS/aB"},
		`path.id.endsWith(".PDF")`:                                        {"/x/a.PDF", "/x/a.pdf", "/x/A.Pdf/"},
		`request.path.startsWith("/x/Admin") && user.name != "Boss"`:      {"/x/admin"},
		`(request.path == "/x/S") == (user.name == "Ann")`:                {"/x/S", "/x/s"},
		`path.id == "T" && request.time.getHours("Europe/Brussels") < 24`: {"/x/t"},
	} {
		p, err := New(Config{Lines: append(lines("allow any"), Line{Words: []string{"deny", "any", "/x/{id}/**", "when", when}})})
		if err != nil {
			t.Fatal(err)
		}
		who := person("", func(s *Subject) { s.Username = "Ann" })
		for _, path := range paths {
			r := get(t, p, who, path)
			r.Now = time.Unix(1_800_000_000, 0)
			if p.Decide(r).Allowed {
				t.Errorf("deny when %s: %s passes", when, path)
			}
		}
	}
	p, err := New(Config{Lines: append(lines("allow any"), Line{Words: []string{"require", "when", `request.path != "/Payroll" || user.name == "Boss"`}})})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"ann": false, "Boss": true, "boss": false} {
		for _, path := range []string{"/Payroll", "/payroll", "/PAYROLL/", "/%50ayroll"} {
			if got := p.Decide(get(t, p, person("", func(s *Subject) { s.Username = name }), path)).Allowed; got != want {
				t.Errorf("%s at %s: allowed is %t", name, path, got)
			}
		}
	}
}
