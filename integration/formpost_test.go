package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestFormPost: the answer of the provider comes as a form that the browser posts from another site. The code never stands in
// an address, and the callback takes it in no other way (row N29).
func TestFormPost(t *testing.T) {
	port := freePort(t)
	p, d := certified(t, port), startDump(t)
	source := strings.Replace(p.source, "roles_claim", "response_mode form_post\n\t\t\troles_claim", 1)
	r := prepareAt(t, port, p.op, d, strings.Replace(standard, hospital, source, 1))
	r.run(t)
	c := newChromium(t)
	c.navigate(t, r.url(appHost, "/members/page?from=bookmark"))
	asked, err := url.Parse(c.location(t))
	if err != nil || !strings.HasPrefix(asked.String(), p.op.issuer) {
		t.Fatalf("the person is sent to %s", asked)
	}
	c.signIn(t, "dana", "dana-pw")
	c.at(t, r.url(appHost, "/members/page?from=bookmark"))
	c.waitText(t, "dump of GET /members/page?from=bookmark")
	c.screenshot(t, "signed-in")
	if all := p.op.authorizations(t); len(all) != 1 || all[0]["response_mode"] != "form_post" {
		t.Errorf("the authorization requests were %v", all)
	}
	for _, rec := range r.audit(t) {
		if strings.Contains(mustJSON(rec), "code=") {
			t.Errorf("a code is in the audit log: %v", rec)
		}
	}
	// A second sign-in, over the session of the first: what came before is seen, although the post came from elsewhere.
	first := c.session(t, r.url(appHost, "/"))
	c.navigate(t, r.url(appHost, "/.anteroom/login?return_to=/members/again"))
	c.waitText(t, "dump of GET /members/again") // the provider knows her and answers at once
	if second := c.session(t, r.url(appHost, "/")); second.token != first.token && r.status(t, appHost, "/members/x", first) != http.StatusUnauthorized {
		t.Error("after a second sign-in the first session lives on beside it")
	}
	t.Run("N29 the other way round", func(t *testing.T) {
		b := newBrowser(t)
		page := b.visit(t, r.url(appHost, "/members/x"))
		state := ""
		for _, line := range b.trace {
			if _, rest, found := strings.Cut(line, "state="); found && state == "" {
				state, _, _ = strings.Cut(rest, "&")
				state, _, _ = strings.Cut(state, " ")
			}
		}
		if state == "" {
			t.Fatalf("no state in %v, the page is %s", b.trace, page.URL)
		}
		got := b.do(t, navigation(t, "GET", r.url(appHost, "/.anteroom/callback/hospital?code=abc&state="+state), ""))
		if got.Status < 400 || got.Status > 499 {
			t.Errorf("a code in the address is answered %d", got.Status)
		}
	})
	t.Run("N29 a post that nobody asked for", func(t *testing.T) {
		q := newRig(t, standard)
		q.op.ready(t)
		b := newBrowser(t)
		got := b.do(t, navigation(t, "POST", q.url(appHost, "/.anteroom/callback/hospital"), "code=abc&state=def", "Origin", q.op.issuer, "Sec-Fetch-Site", "cross-site"))
		if got.Status < 400 || got.Status > 499 {
			t.Errorf("a post to a callback of addresses is answered %d", got.Status)
		}
	})
}
