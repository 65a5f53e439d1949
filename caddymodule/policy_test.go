package caddymodule

import (
	"strings"
	"testing"
)

// row 1.M: an edit opens a way that is no decision of the policy, and the comparison that a pipeline trusts says that nothing changes.
func TestPolicyDiffBesideDecisions(t *testing.T) {
	const lines = "allow role doctor /p/{patient}/**\n"
	const glass = "break_glass role nurse on /p/{patient}/** for 30m"
	budget := "budget role doctor 60 distinct {patient} per 1h\n"
	for name, c := range map[string]struct {
		before, after string
		opens         bool
		says          string
	}{
		"a budget goes":        {budget, "", true, "not any more, may open: budget role doctor 60"},
		"a budget grows":       {budget, strings.Replace(budget, "60", "600", 1), true, "not any more, may open: budget role doctor 60"},
		"a budget comes":       {"", budget, false, "new: budget role doctor 60"},
		"an origin comes":      {"", "allow_origin https://evil.example\n", true, "new, may open: allow_origin https://evil.example"},
		"an origin goes":       {"allow_origin https://a.example\n", "", false, "not any more: allow_origin"},
		"a store may be away":  {"", "on_store_loss running_sessions 12h\n", true, "on_store_loss running_sessions 12h"},
		"nobody tells the app": {"", "assertion off\n", true, "assertion off"},
		"no fresh sign-in":     {glass + " fresh 5m\n", glass + "\n", true, "not any more: break_glass role nurse"},
		"an older sign-in":     {glass + " max_age 5m\n", glass + " max_age 4h\n", true, "max_age 4h"},
		"a drill":              {glass + "\n", glass + " drill\n", true, "for 30m drill"},
		"glass comes, by day":  {"", glass + " hours 08:00-18:00 UTC\n", true, "new, may open: break_glass"},
		"glass goes":           {glass + "\n", "", false, "not any more: break_glass"},
	} {
		before, _ := policyRig(t, policySite("app.test", lines+c.before))
		after, _ := policyRig(t, policySite("app.test", lines+c.after))
		out, err := runPolicy(t, "diff", before, after, "--exit-code")
		if (err != nil) != c.opens || !strings.Contains(out, c.says) {
			t.Errorf("%s: %s %v", name, out, err)
		}
	}
}

// A proposed config is looked at before anybody trusts it: what it is refused for is said without its control characters.
func TestPolicyErrorsCannotActOnATerminal(t *testing.T) {
	file, _ := policyRig(t, policySite("app.test", "allow any\ndeny user \"a\x1b[2J\u202eb\" /x\ndeny usr \"a\x1b[2Jb\" /x\n"))
	for _, args := range [][]string{{"matrix", "--config", file}, {"test", "--config", file}, {"diff", file, file}, {"explain", "--config", file, "GET", "/"}, {"replay", "--config", file, "-"}} {
		out, err := runPolicy(t, args[0], args[1:]...)
		if err == nil || strings.ContainsAny(out+err.Error(), "\x1b\u202e") || !strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %q %v", args, out, err)
		}
	}
}

// A condition on the host: explain asked under the site's first one, and denied what the gate lets pass under the second.
func TestPolicyExplainUnderEachHost(t *testing.T) {
	file, _ := policyRig(t, policySite("a.test, b.test", "allow any /x when request.host == \"b.test\"\n"))
	for address, want := range map[string]string{"https://b.test/x": "ALLOWED", "https://B.test:8443/x": "ALLOWED", "https://a.test/x": "DENIED"} {
		if out, err := runPolicy(t, "explain", "--config", file, "--as", "any", "GET", address); err != nil || !strings.HasPrefix(out, want) {
			t.Errorf("%s: %s %v", address, out, err)
		}
	}
	if _, err := runPolicy(t, "explain", "--config", file, "--as", "any", "GET", "/x"); err == nil || !strings.Contains(err.Error(), "under which host") {
		t.Errorf("a path is not enough: %v", err)
	}
}
