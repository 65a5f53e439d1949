package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestSeveralProviders: the hospital's own, a partner's and an insurer's that is down. Each has its own people; the dead one stops
// neither the start nor the others.
func TestSeveralProviders(t *testing.T) {
	port := freePort(t)
	own, partner, d := certified(t, port), certified(t, port), startDump(t)
	dead := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	another := func(source, name, issuer, rest string) string {
		return strings.NewReplacer("identity oidc hospital {", "identity oidc "+name+" {\n\t\t\tusername_prefix \""+name+":\"\n"+rest, "$OP", issuer).Replace(source)
	}
	staff := strings.ReplaceAll(partner.source, "role doctor from \"grp-physicians\"", "role external from staff")
	staff = strings.NewReplacer("\t\t\trole patient from \"grp-patients\"\n", "", "\t\t\trole admin from \"grp-admins\"\n", "").Replace(staff)
	global := strings.Replace(own.source, "roles_claim", "title \"Hospital staff\"\n\t\t\temail_domains hospital.test\n\t\t\troles_claim", 1) +
		another(staff, "second", partner.op.issuer, "\t\t\ttitle \"Partner clinic\"\n\t\t\temail_domains partner.test clinic.test\n\t\t\tmay_give external\n") +
		another(partner.source, "insurer", dead, "\t\t\ttitle \"Insurer\"\n\t\t\temail_domains insurer.test\n")
	r := prepareAt(t, port, own.op, d, strings.Replace(standard, hospital, global, 1))
	r.run(t) // the insurer's does not answer
	c := newChromium(t)

	c.navigate(t, r.url(appHost, "/members/x"))
	c.screenshot(t, "1-choice")
	for _, want := range []string{"Hospital staff", "Partner clinic", "Insurer"} {
		c.waitText(t, want)
	}
	c.navigate(t, r.url(appHost, "/.anteroom/login/insurer?return_to=/members/x"))
	c.waitText(t, "Reference number")
	c.screenshot(t, "2-insurer-is-down")
	find := func(address string) {
		t.Helper()
		c.navigate(t, r.url(appHost, "/members/x"))
		c.do(t, "the e-mail address", chromedp.SendKeys(chromedp.CSS("input[name=email]"), address))
		c.click(t, "form.find button")
	}
	find("somebody@nowhere.test")
	c.waitText(t, "No sign-in service")
	c.screenshot(t, "3-unknown")
	find("Dana@Clinic.TEST")
	c.waitText(t, "Partner clinic")
	if strings.Contains(c.text(t), "Hospital staff") {
		t.Errorf("the page offers others too:\n%s", c.text(t))
	}
	c.screenshot(t, "4-found")
	c.click(t, `a[href*="login/second"]`)
	c.waitText(t, "You said that you are Dana@Clinic.TEST")
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, "dump of GET /members/x")
	c.screenshot(t, "5-partner")
	told := r.told(t, appHost, c.session(t, r.url(appHost, "/")))
	if told["preferred_username"] != "second:dana" || !sameRoles(told["roles"], "external") || told["idp"] != "second" {
		t.Errorf("the partner's person is %v: the partner may give no role but external", told)
	}
	got := d.take()
	if last := got[len(got)-1]; !slices.Equal(last.values("Remote-User"), []string{"second:dana"}) || !slices.Equal(last.values("Remote-Groups"), []string{"external"}) {
		t.Errorf("the application saw %s", last.Head)
	}
	// The same name and the same address at another provider are another person.
	if status := r.status(t, appHost, "/records/x", c.session(t, r.url(appHost, "/"))); status != http.StatusForbidden {
		t.Errorf("the partner's dana is answered %d like the hospital's", status)
	}
	c.navigate(t, r.url(appHost, "/.anteroom/logout"))
	c.click(t, `form[action="/.anteroom/logout"] button`)
	c.waitText(t, "has ended")
	c.navigate(t, r.url(appHost, "/members/x"))
	c.waitText(t, "Used last in this browser")
	c.screenshot(t, "6-last-first")
	if first := c.eval(t, `document.querySelector(".links a").innerText`); !strings.Contains(first, "Partner clinic") {
		t.Errorf("the first way is %q", first)
	}
	b := newBrowser(t)
	if p := b.signIn(t, r.url(appHost, "/.anteroom/login/hospital?return_to=/records/x"), "dana", "dana-pw"); p.Status != http.StatusOK || p.URL.Path != "/records/x" {
		t.Errorf("the hospital's dana ends at %s with %d", p.URL, p.Status)
	}
	t.Run("an invitation from the provider's own page", func(t *testing.T) { invitation(t, r, partner.op.issuer) })
	t.Run("the answer of one provider at another's callback", func(t *testing.T) { mixedUp(t, r) })
}

// invitation: a link from a provider's page of applications begins nothing by itself (OpenID Connect Core 1.0, section 4).
func invitation(t *testing.T, r *rig, issuer string) {
	b := newBrowser(t)
	target := r.url(appHost, "/members/invited")
	p := b.visit(t, r.url(appHost, "/.anteroom/login?iss="+url.QueryEscape(issuer)+"&target_link_uri="+url.QueryEscape(target)))
	if p.Status != http.StatusOK || p.URL.Host != r.authority(appHost) || !strings.Contains(p.Body, "login/second") || strings.Contains(p.Body, "login/hospital") {
		t.Fatalf("the invitation ends with %d at %s:\n%s", p.Status, p.URL, p.Body)
	}
	for name, query := range map[string]string{
		"unknown issuer": "iss=https%3A%2F%2Fevil.example&target_link_uri=" + url.QueryEscape(target),
		"look-alike":     "iss=" + url.QueryEscape(issuer+"/") + "&target_link_uri=" + url.QueryEscape(target),
	} {
		if p := b.visit(t, r.url(appHost, "/.anteroom/login?"+query)); p.Status != http.StatusBadRequest {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
}

// mixedUp: an answer comes back to the provider that was asked, or it is refused (RFC 9207; row 19 of the attack tables).
func mixedUp(t *testing.T, r *rig) {
	b := newBrowser(t)
	form := b.visit(t, r.url(appHost, "/.anteroom/login/hospital?return_to=/members/x"))
	action, fields := formWith(t, form, map[string]string{"username": "dana", "password": "dana-pw"})
	next, err := form.URL.Parse(action)
	if err != nil {
		t.Fatal(err)
	}
	p := b.do(t, navigation(t, "POST", next.String(), fields.Encode()))
	for p.Status >= 300 && p.Status < 400 && !strings.Contains(p.Header.Get("Location"), "/.anteroom/callback/") {
		to, err := p.URL.Parse(p.Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		p = b.do(t, navigation(t, "GET", to.String(), ""))
	}
	answer := p.Header.Get("Location")
	if !strings.Contains(answer, "/callback/hospital?") {
		t.Fatalf("the provider's answer is %d %s", p.Status, answer)
	}
	for _, wrong := range []string{strings.Replace(answer, "/callback/hospital", "/callback/second", 1), strings.Replace(answer, "iss=", "iss=https%3A%2F%2Fevil.example&x=", 1)} {
		if p := b.do(t, navigation(t, "GET", wrong, "")); p.Status < 400 || len(p.Header.Values("Set-Cookie")) > 0 && strings.Contains(strings.Join(p.Header.Values("Set-Cookie"), " "), cookieToken+"=") {
			t.Errorf("an answer in the wrong place is answered %d", p.Status)
		}
	}
}
