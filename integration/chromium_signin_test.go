package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A person with a browser and a certified provider: sign in, work, be refused, sign out. A picture of each page is kept.
func TestSignInWithCertifiedProvider(t *testing.T) {
	r := newRig(t, standard)
	r.op.ready(t)
	c := newChromium(t)

	if status := c.navigate(t, r.url(appHost, "/members/page?from=bookmark")); status != 200 {
		t.Fatalf("the way to the provider ends with %d at %s", status, c.location(t))
	}
	if got := c.location(t); !strings.HasPrefix(got, r.op.issuer+"/interaction/") {
		t.Fatalf("with one provider the person is sent straight there, not to %s", got)
	}
	c.screenshot(t, "1-provider")
	if status := c.signIn(t, "dana", "dana-pw"); status != 200 {
		t.Fatalf("after sign-in: %d at %s\n%s", status, c.location(t), c.text(t))
	}
	if got := c.location(t); got != r.url(appHost, "/members/page?from=bookmark") {
		t.Errorf("sign-in ends at %s", got)
	}
	c.waitText(t, "dump of GET /members/page?from=bookmark")
	c.screenshot(t, "2-application")

	if got := c.eval(t, `document.cookie`); got != "" {
		t.Errorf("a script can read the cookies %q", got)
	}
	if status := c.navigate(t, r.url(appHost, "/admin/x")); status != http.StatusForbidden {
		t.Errorf("a page that the role may not see: %d", status)
	}
	text := c.text(t)
	for _, want := range []string{"Dana Doctor", "Reference number", "Switch user"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	c.screenshot(t, "3-no-permission")
	ref := c.eval(t, `document.querySelector(".ref").innerText`)
	found := false
	for _, rec := range r.audit(t) {
		found = found || rec.str("ref") == ref && rec.str("decision") == "denied"
	}
	if !found {
		t.Errorf("the reference number %q is not in the audit log", ref)
	}

	c.navigate(t, r.url(appHost, "/.anteroom/"))
	c.waitText(t, "Dana Doctor")
	c.screenshot(t, "4-who")
	c.navigate(t, r.url(appHost, "/.anteroom/logout"))
	c.screenshot(t, "5-sign-out")
	c.click(t, `form[action="/.anteroom/logout"] button`)
	c.waitText(t, "has ended")
	c.screenshot(t, "6-signed-out")

	// The provider's own session lives on; the next sign-in asks all the same.
	c.navigate(t, r.url(appHost, "/members/page"))
	c.do(t, "the provider asks again", chromedp.WaitVisible(chromedp.CSS("input[name=password]")))
	c.signIn(t, "pat", "pat-pw")
	c.waitText(t, "dump of GET /members/page")
	if status := c.navigate(t, r.url(appHost, "/patients/pat/1")); status != 200 {
		t.Errorf("the patient's own page: %d", status)
	}
	if status := c.navigate(t, r.url(appHost, "/patients/dana/1")); status != http.StatusForbidden {
		t.Errorf("somebody else's page: %d", status)
	}
	if status := c.navigate(t, r.url(appHost, "/.anteroom/callback/hospital?code=x&state=y")); status < 400 || status > 499 {
		t.Errorf("a callback that nobody began: %d", status)
	}
	c.waitText(t, "Reference number")
	c.screenshot(t, "7-error")
}

// With two providers a person chooses; both ways end in a session of their own kind.
func TestChooseProvider(t *testing.T) {
	second := strings.Replace(hospital, "identity oidc hospital {", "identity oidc second {\n\t\t\ttitle \"Second hospital\"\n\t\t\tusername_prefix \"second:\"", 1)
	r := newRig(t, strings.Replace(standard, hospital, hospital+second, 1))
	r.op.ready(t)
	c := newChromium(t)
	if status := c.navigate(t, r.url(appHost, "/members/x")); status != 200 {
		t.Fatalf("the choice: %d", status)
	}
	c.waitText(t, "Second hospital")
	c.screenshot(t, "1-choose")
	c.click(t, `a[href*="login/second"]`)
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, "dump of GET /members/x")
	got := r.dump.take()
	if len(got) == 0 || !strings.Contains(got[len(got)-1].Head, "Remote-User: second:dana\r\n") {
		t.Errorf("the application saw %v", got)
	}
}

// A dead provider is a page that says so, never a failed start; and when it comes back, so does the sign-in.
func TestDeadProvider(t *testing.T) {
	r := prepare(t, standard)
	r.op.ready(t)
	r.op.proc.kill()
	r.run(t)
	b := newBrowser(t)
	p := b.visit(t, r.url(appHost, "/members/x"))
	if p.Status != http.StatusServiceUnavailable && p.Status != http.StatusBadGateway {
		t.Errorf("with a dead provider sign-in answers %d\n%s", p.Status, p.Body)
	}
	if !strings.Contains(p.Body, "Reference number") {
		t.Errorf("the page says no reference number:\n%s", p.Body)
	}
	r.op.run(t)
	r.op.ready(t)
	b = newBrowser(t)
	eventually(t, patience, func() error {
		p := b.visit(t, r.url(appHost, "/members/x"))
		if !strings.Contains(p.Body, "password") {
			return errText("no form yet: " + p.Body[:min(200, len(p.Body))])
		}
		return nil
	})
	// A restart changed all its keys; the session that comes of it works.
	r.person(t, appHost, "dana")
	r.op.proc.kill()
	r.op.run(t)
	r.op.ready(t)
	r.person(t, appHost, "dana")
}

type errText string

func (e errText) Error() string { return string(e) }
