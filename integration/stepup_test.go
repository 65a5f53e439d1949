package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProvidersSignIn: at each of the real providers a person signs in, is asked for more where a page wants more and gets back
// to that page, and signs out at both ends.
func TestProvidersSignIn(t *testing.T) {
	withHouses(t, 1, "", "\t\trequire acr urn:example:mfa /members/vault/**\n", func(t *testing.T, p *house, nodes []*rig) {
		r, c := nodes[0], newChromium(t)
		p.account(t, "rosa")
		c.navigate(t, r.url(appHost, "/members/page?from=bookmark"))
		if got := c.location(t); !strings.HasPrefix(got, p.op.issuer) {
			t.Fatalf("the person is sent to %s", got)
		}
		c.screenshot(t, p.name+"-1-password")
		p.signIn(t, c, "rosa")
		c.at(t, r.url(appHost, "/members/page?from=bookmark"))
		c.waitText(t, "dump of GET /members/page?from=bookmark")
		first := c.session(t, r.url(appHost, "/"))
		told := tokenClaims(t, first)
		if told["preferred_username"] != "rosa" || !sameRoles(told["roles"], "doctor") || told["acr"] == "urn:example:mfa" {
			t.Fatalf("after a password the session says %v", told)
		}
		p.stepUp(t, c, r, first)
		second := c.session(t, r.url(appHost, "/"))
		if second.token == first.token || second.context == first.context {
			t.Error("the proof is new, the session is not (row 85)")
		}
		if status := r.status(t, appHost, "/members/x", first); status != http.StatusUnauthorized {
			t.Errorf("the session from before the step is answered %d", status)
		}
		p.signOut(t, c, r)
	})
}

// stepUp goes to a page that wants a second step. The session's level is that of its own proof (row 88).
func (p *house) stepUp(t *testing.T, c *chromium, r *rig, low *session) {
	t.Helper()
	const vault = "/members/vault/page?bed=2&ward=a%20b"
	refused := r.bare(t, appHost, vault, low)
	challenges := strings.Join(refused.Header.Values("WWW-Authenticate"), "\n")
	if refused.Status != http.StatusUnauthorized || !strings.Contains(challenges, `error="insufficient_user_authentication"`) || !strings.Contains(challenges, `acr_values="urn:example:mfa"`) {
		t.Errorf("row 68: a program is answered %d with\n%s", refused.Status, challenges)
	}
	c.navigate(t, r.url(appHost, vault))
	c.screenshot(t, p.name+"-2-second-step")
	if got := c.location(t); !strings.HasPrefix(got, p.op.issuer) {
		t.Fatalf("for more proof the person is sent to %s:\n%s", got, c.text(t))
	}
	if c.eval(t, `document.querySelector("input[type=password]") ? "yes" : "no"`) == "yes" {
		t.Error("the provider asks for the password again, where only a second step is missing")
		p.signIn(t, c, "rosa")
	}
	p.code(t, c)
	c.at(t, r.url(appHost, vault))
	c.waitText(t, "dump of GET "+vault)
	c.screenshot(t, p.name+"-3-vault")
	told := tokenClaims(t, c.session(t, r.url(appHost, "/")))
	if told["acr"] != "urn:example:mfa" || told["preferred_username"] != "rosa" {
		t.Errorf("after the second step the session says %v", told)
	}
}

// signOut ends the session here, then follows the link to the provider's sign-out and comes back.
func (p *house) signOut(t *testing.T, c *chromium, r *rig) {
	t.Helper()
	ended := c.session(t, r.url(appHost, "/"))
	c.navigate(t, r.url(appHost, "/.anteroom/logout"))
	c.click(t, `form[action="/.anteroom/logout"] button`)
	c.waitText(t, "has ended")
	c.screenshot(t, p.name+"-4-signed-out-here")
	if got := r.status(t, appHost, "/members/x", ended); got != http.StatusUnauthorized {
		t.Errorf("after the sign-out the session is answered %d", got)
	}
	c.click(t, `a[href*="logout/hospital"]`)
	c.screenshot(t, p.name+"-5-provider")
	p.leave(t, c)
	c.waitText(t, "signed out there")
	c.screenshot(t, p.name+"-6-signed-out-there")
	if got := c.location(t); !strings.HasPrefix(got, r.url(appHost, "/.anteroom/signed-out")) {
		t.Errorf("the provider sends the person to %s", got)
	}
	// The provider forgot the person: no prompt of ours is needed for that.
	c.navigate(t, r.url(appHost, "/members/again"))
	if got := c.location(t); !strings.HasPrefix(got, p.op.issuer) {
		t.Errorf("the next sign-in ends at %s without a password", got)
	}
}

func sameRoles(got any, want ...string) bool {
	list, ok := got.([]any)
	if !ok || len(list) != len(want) {
		return false
	}
	for i := range list {
		if list[i] != want[i] {
			return false
		}
	}
	return true
}

// TestStepUpKinds: a proof that is too old is asked for again; a method that the provider does not use is refused with a page, once,
// and the session that was there goes on.
func TestStepUpKinds(t *testing.T) {
	t.Parallel() // half a minute of waiting
	port := freePort(t)
	p, d := certified(t, port), startDump(t)
	const members, age = "\t\tallow any /members/**\n", 20 * time.Second
	caddyfile := strings.NewReplacer(hospital, p.source, members, members+"\t\trequire max_age 20s /members/fresh/**\n\t\trequire amr hwk,fpt /members/key/**\n").Replace(standard)
	r := prepareAt(t, port, p.op, d, caddyfile)
	r.run(t)
	b := newBrowser(t)
	if got := b.signIn(t, r.url(appHost, "/members/x"), "dana", "dana-pw"); got.Status != http.StatusOK {
		t.Fatalf("sign-in: %d", got.Status)
	}
	signedIn := time.Now()

	if got := b.visit(t, r.url(appHost, "/members/key/x")); got.URL.Host == r.authority(appHost) || !strings.Contains(got.Body, "password") {
		// The provider may know the person and answer at once.
		if got.Status < 400 || !strings.Contains(got.Body, "Reference number") {
			t.Errorf("a method that nobody has ends at %s with %d:\n%s", got.URL, got.Status, got.Body)
		}
	} else if got = b.submit(t, got, map[string]string{"username": "dana", "password": "dana-pw"}); got.Status < 400 || !strings.Contains(got.Body, "Reference number") {
		t.Errorf("after a password a method that nobody has ends at %s with %d:\n%s", got.URL, got.Status, got.Body)
	}
	for path, want := range map[string]int{"/members/x": http.StatusOK, "/members/key/x": http.StatusUnauthorized} {
		if got := b.do(t, call(t, "GET", r.url(appHost, path), "")); got.Status != want {
			t.Errorf("after a step-up that failed %s is answered %d, want %d", path, got.Status, want)
		}
	}

	time.Sleep(time.Until(signedIn.Add(age + 2*time.Second)))
	refused := b.do(t, call(t, "GET", r.url(appHost, "/members/fresh/x"), ""))
	if challenge := strings.Join(refused.Header.Values("WWW-Authenticate"), "\n"); refused.Status != http.StatusUnauthorized || !strings.Contains(challenge, "max_age=") {
		t.Errorf("an old proof is answered %d\n%s", refused.Status, challenge)
	}
	form := b.visit(t, r.url(appHost, "/members/fresh/x?bed=2"))
	if !strings.HasPrefix(form.URL.String(), p.op.issuer) || !strings.Contains(form.Body, "password") {
		t.Fatalf("for a new proof the person is sent to %s:\n%s", form.URL, form.Body)
	}
	if got := b.submit(t, form, map[string]string{"username": "dana", "password": "dana-pw"}); got.Status != http.StatusOK || got.URL.RequestURI() != "/members/fresh/x?bed=2" {
		t.Errorf("with a new proof the way ends at %s with %d:\n%s", got.URL, got.Status, got.Body)
	}
	// Nobody's level rises without them: each request showed a page or found the person there.
	for _, asked := range p.op.authorizations(t) {
		if asked["prompt"] == "none" {
			t.Errorf("a silent authorization request: %v", asked)
		}
	}
}
