package policy

import (
	"strings"
	"testing"
)

// TestFirstTries: what an operator writes first gets an error whose mend means what was meant, and no more.
func TestFirstTries(t *testing.T) {
	for text, want := range map[string]string{
		"allow role doctor /patients/* GET":               "write methods before the paths: `GET /path`",
		"allow GET role doctor /patients/*":               "write who it is for first",
		"allow role doctor * /patients/*":                 "write nothing there",
		"allow role doctor ALL /patients/*":               "write nothing there",
		"allow role doctor https://app.test/patients/*":   "the path alone, `/patients/*`",
		"allow role doctor GET patients/*":                "write `/patients/*`",
		"allow roles doctor GET /x":                       "write `role NAME`",
		"allow role doctor, nurse GET, POST /x":           "write `role doctor,nurse`",
		"allow role doctor /n hours 07:00-19:00":          "it names no time zone",
		"break_glass role doctor on /p/** for 30 minutes": "write `for 30m`",
		"allow role doctor /n network 2001:db8::/32, ::1": "write `2001:db8::/32,::1`",
	} {
		_, err := New(Config{Lines: ruleLines("allow role nurse /y", text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
