package gate

import (
	"context"
	"net/http"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// TestBudgetOverHosts: a second name of a site is no second budget.
func TestBudgetOverHosts(t *testing.T) {
	h := newHospital(t, budgetRules, func(c *Config) { c.Counted = func(string) string { return site } })
	h.withBudget(t)
	const alias = "www.app.example"
	dana := h.dana()
	_, cookies, err := h.sessions.Issue(context.Background(), dana.session.Grant, alias, session.Admission{Verify: h.verify})
	if err != nil {
		t.Fatal(err)
	}
	see := func(host, cookie, patient string) int {
		return direct(h.gate, "GET", "/patients/"+patient, func(q *http.Request) {
			q.Host, q.TLS.ServerName = host, host
			q.Header.Set("Cookie", cookie)
		}, nil).Code
	}
	there := cookies[0].Name + "=" + cookies[0].Value + "; " + cookies[1].Name + "=" + cookies[1].Value
	for i, patient := range []string{"1", "2", "3"} {
		cookie, host := dana.cookie, site
		if i%2 == 1 {
			cookie, host = there, alias
		}
		if got := see(host, cookie, patient); got != 200 {
			t.Fatalf("%s at %s: %d", patient, host, got)
		}
	}
	if got := see(site, dana.cookie, "4"); got != 403 {
		t.Errorf("the fourth: %d", got)
	}
	if got := see(alias, there, "5"); got != 403 {
		t.Errorf("the fourth under another name of the site: %d", got)
	}
	if got := see(alias, there, "1"); got != 200 {
		t.Errorf("one that was opened before: %d", got)
	}
}
