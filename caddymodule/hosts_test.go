package caddymodule

import "testing"

// TestBudgetsCountOverHosts: all names of a site count as one, whatever order they are written in, and another site is another.
func TestBudgetsCountOverHosts(t *testing.T) {
	for _, names := range []string{"app.test, localhost", "localhost, app.test"} {
		b := newBench(t)
		text := b.global("", site(names, "allow role doctor /{patient}\nbudget role doctor 5 distinct {patient} per 1h")+site("other.test", "allow any"))
		run(t, adapted(t, text))
		a, _ := active(t)
		if got := a.sites[0].gateConfig(&running{}).Counted; got("app.test") != "app.test" || got("localhost") != "app.test" || got("other.test") != "other.test" {
			t.Errorf("%s: %q", names, a.counted)
		}
	}
}
