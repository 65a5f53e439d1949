package integration

import (
	"strings"
	"testing"
)

// S4 and the rest of the pages' own headers; S17: nothing of the inside is reachable.
func TestOwnPages(t *testing.T) {
	r := newRig(t, standard)
	dana := r.person(t, appHost, "dana")
	b := newBrowser(t)
	for _, target := range []string{"/.anteroom/", "/.anteroom/logout", "/admin/x"} {
		req := navigation(t, "GET", r.url(appHost, target), "")
		req.Header.Set("Cookie", strings.TrimPrefix(dana.line(), "Cookie: "))
		p := b.do(t, req)
		policy := p.Header.Get("Content-Security-Policy")
		for _, want := range []string{"frame-ancestors 'none'", "default-src 'none'", "form-action 'self'", "base-uri 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s (%d): the policy %q lacks %s", target, p.Status, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe-") || strings.Contains(p.Body, "<script") {
			t.Errorf("%s: scripts are possible: %q", target, policy)
		}
		if p.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(p.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: headers %v", target, p.Header)
		}
		if got := p.Header.Get("Strict-Transport-Security"); got != "max-age=63072000" {
			t.Errorf("%s: Strict-Transport-Security %q", target, got)
		}
	}
	for _, target := range []string{"/.anteroom/nothing", "/.anteroom/admin", "/.anteroom/debug/pprof", "/.anteroom/callback/nobody", "/.anteroom/login/nobody"} {
		if status := r.status(t, appHost, target, dana); status != 404 {
			t.Errorf("S17 %s is answered %d, want 404", target, status)
		}
	}
	r.dump.take()
	found, err := listeners(r.proc.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range found {
		if int(l.addr.Port()) != r.port {
			t.Errorf("S17: bin/anteroom also listens on %s %s", l.network, l.addr)
		}
	}
	res, got := r.attack(t, row{payload: r.ask("/members/x", dana), targets: []string{"/members/x"}, who: dana, want: []int{200}})
	if len(got) == 1 && len(res.Answers) == 1 && res.Answers[0].Header.Get("Content-Security-Policy") != "" {
		t.Error("a policy of ours was added to the application's page")
	}
}
