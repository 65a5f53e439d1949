package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProvidersRefresh: what the provider's administrators change, sessions follow within one idle period, as long as their
// browsers come: other roles, then a closed account.
func TestProvidersRefresh(t *testing.T) {
	const idle = time.Minute
	withHouses(t, 1, shortIdle, "", func(t *testing.T, p *house, nodes []*rig) {
		r, c := nodes[0], newChromium(t)
		p.account(t, "iris")
		c.navigate(t, r.url(appHost, "/members/x"))
		p.signIn(t, c, "iris")
		c.waitText(t, "dump of GET /members/x")
		if got := c.fetch(t, "/records/x"); got != "200" {
			t.Fatalf("a doctor's page is answered %s", got)
		}
		p.demote(t, "iris")
		changed := time.Now()
		c.works(t, "/records/x", "403", changed.Add(idle))
		t.Logf("%s: the role was gone after %v", p.name, time.Since(changed).Round(time.Second))
		told := tokenClaims(t, c.session(t, r.url(appHost, "/")))
		if !sameRoles(told["roles"], "patient") || told["acr"] == "urn:example:mfa" {
			t.Errorf("after the change the session says %v", told)
		}
		p.disable(t, "iris")
		disabled := time.Now()
		c.works(t, "/members/x", "401", disabled.Add(idle))
		t.Logf("%s: the closed account was out after %v", p.name, time.Since(disabled).Round(time.Second))
		c.navigate(t, r.url(appHost, "/members/page"))
		c.screenshot(t, p.name+"-closed")
		var changes, ended int
		for _, rec := range r.audit(t) {
			if rec.str("kind") != "re-verification" {
				continue
			}
			if rec.str("reason") == "reverify.changed" {
				changes++
			} else if rec.str("decision") == "denied" {
				ended++
			}
		}
		if changes != 1 || ended != 1 {
			t.Errorf("the audit log has %d changes and %d ends, want one of each", changes, ended)
		}
	})
}

// works asks for a page as somebody who works does, every second, until the answer is want.
func (c *chromium) works(t *testing.T, path, want string, until time.Time) {
	t.Helper()
	for {
		got := c.fetch(t, path)
		if got == want {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("%s is answered %s to the end, want %s", path, got, want)
		}
		time.Sleep(time.Second)
	}
}

// A provider that does not answer ends no session at once, and the audit log says that nothing is known.
func TestProviderGoneWhileWorking(t *testing.T) {
	t.Parallel() // most of a minute of waiting
	port := freePort(t)
	p, d := certified(t, port), startDump(t)
	r := prepareAt(t, port, p.op, d, strings.Replace(standard, hospital, p.source+shortIdle, 1))
	r.run(t)
	b := newBrowser(t)
	if got := b.signIn(t, r.url(appHost, "/members/x"), "dana", "dana-pw"); got.Status != http.StatusOK {
		t.Fatalf("sign-in: %d", got.Status)
	}
	p.op.proc.kill()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if got := b.do(t, call(t, "GET", r.url(appHost, "/members/x"), "")); got.Status != http.StatusOK {
			t.Fatalf("while the provider is away a session is answered %d", got.Status)
		}
	}
	said := false
	for _, rec := range r.audit(t) {
		said = said || rec.str("kind") == "re-verification" && rec.str("decision") != "allowed"
	}
	if !said {
		t.Error("the audit log does not say that the provider did not answer")
	}
}
