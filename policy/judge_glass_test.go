package policy

import (
	"strings"
	"testing"
)

// TestGlassIsJudged: a line that no form is ever offered for does not load; one whose grants may be wider than meant is told of.
func TestGlassIsJudged(t *testing.T) {
	try := func(glass string) (warned string, fault error) {
		p, err := New(Config{Lines: lines("allow role nurse /x", glass)})
		if err != nil {
			return "", err
		}
		for _, w := range p.Warnings() {
			warned += w.Error()
		}
		return warned, nil
	}
	for _, methods := range []string{"POST", "PUT,DELETE", "HEAD"} {
		if _, err := try("break_glass role doctor " + methods + " on /orders/{patient}/** for 5m"); err == nil || !strings.Contains(err.Error(), "by a GET") {
			t.Errorf("%s: %v", methods, err)
		}
	}
	for text, want := range map[string]string{
		"break_glass role doctor GET,POST on /orders/{patient}/** for 5m":       "",
		"break_glass role doctor on /wards/{ward}/patients/{patient}/** for 5m": "",
		"break_glass role doctor on /wards/*/beds/{bed}/** for 5m":              "",
		"break_glass role doctor on /wards/{ward}/patients/{person}/** for 5m":  "one {ward} and for all below it",
		"break_glass role doctor on /patients/{user}/notes/{a}/by/{b} for 5m":   "one {a}",
	} {
		if warned, err := try(text); err != nil || want == "" && warned != "" || !strings.Contains(warned, want) {
			t.Errorf("%s: %v, %q", text, err, warned)
		}
	}
}

// G3: a page that another line names, where the patient stands, is no patient: one grant for it is a list or an export of all. The
// operator is told of each, unless a deny line names it as well.
func TestG3GlassOpensNoList(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"allow role admin /patients/export/**"}, `"export"`},
		{[]string{"allow role admin /patients/export"}, `"export"`},
		{[]string{"require acr mfa /patients/search"}, `"search"`},
		{[]string{"allow role admin /patients/export/**", "deny role doctor /patients/export/**"}, ""},
		{[]string{"deny role doctor /patients/export"}, ""},
		{[]string{"allow role patient /patients/{user}/**", "allow role nurse /patients/*/notes", "allow any /export/patients"}, ""},
		{[]string{"shadow allow role admin /patients/export"}, ""},
	} {
		p, err := New(Config{Lines: lines(append([]string{"allow role nurse /x", "break_glass role doctor on /patients/{patient}/** for 5m"}, c.lines...)...)})
		if err != nil {
			t.Fatalf("%v: %v", c.lines, err)
		}
		found := ""
		for _, w := range p.Warnings() {
			if strings.Contains(w.Error(), "as if it were a patient") {
				found += w.Error()
			}
		}
		if c.want == "" && found != "" || !strings.Contains(found, c.want) {
			t.Errorf("%v: %q", c.lines, found)
		}
	}
}
