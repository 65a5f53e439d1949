package integration

import (
	"io"
	"net/http"
	"net/url"
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
		b := c.copied(t, r.url(appHost, "/"))
		if got := b.do(t, call(t, "GET", r.url(appHost, "/records/x"), "")); got.Status != http.StatusOK {
			t.Fatalf("a doctor's page is answered %d", got.Status)
		}
		p.demote(t, "iris")
		changed := time.Now()
		t.Run("169 "+p.name, func(t *testing.T) { b.works(t, r.url(appHost, "/records/x"), http.StatusForbidden, changed.Add(idle)) })
		t.Logf("%s: the role was gone after %v", p.name, time.Since(changed).Round(time.Second))
		_, cookies := b.cookies(t, r.url(appHost, "/"))
		told := tokenClaims(t, &session{token: cookies[cookieToken]})
		if !sameRoles(told["roles"], "patient") || told["acr"] == "urn:example:mfa" {
			t.Errorf("after the change the session says %v", told)
		}
		p.disable(t, "iris")
		disabled := time.Now()
		b.works(t, r.url(appHost, "/members/x"), http.StatusUnauthorized, disabled.Add(idle))
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
			} else if rec.str("decision") == "ended" {
				ended++
			}
		}
		if changes != 1 || ended != 1 {
			t.Errorf("the audit log has %d changes and %d ends, want one of each", changes, ended)
		}
	})
}

// copied is a browser that goes on with the cookies of this one.
func (c *chromium) copied(t testing.TB, siteURL string) *browser {
	t.Helper()
	at, err := url.Parse(siteURL)
	if err != nil {
		t.Fatal(err)
	}
	b, s := newBrowser(t), c.session(t, siteURL)
	b.client.Jar.SetCookies(at, []*http.Cookie{
		{Name: cookieToken, Value: s.token, Path: "/", Secure: true}, {Name: cookieContext, Value: s.context, Path: "/", Secure: true},
	})
	return b
}

// works asks for a page every second, as somebody who works does, until the answer is want. None is broken off: what was under way
// when the session ended gets the answer that the next request would get.
func (b *browser) works(t *testing.T, rawURL string, want int, until time.Time) {
	t.Helper()
	for status := 0; status != want; time.Sleep(time.Second) {
		res, err := b.client.Do(call(t, "GET", rawURL, ""))
		if err == nil {
			status = res.StatusCode
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		switch {
		case err != nil:
			t.Fatalf("%s is not answered: %v", rawURL, err)
		case status != want && time.Now().After(until):
			t.Fatalf("%s is answered %d to the end, want %d", rawURL, status, want)
		}
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
