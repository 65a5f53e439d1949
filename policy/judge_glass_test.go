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
