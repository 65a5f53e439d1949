package integration

import (
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// portalConfig has one portal and two other sites, behind it the backend of all tests.
var portalConfig = strings.Replace(strings.Replace(hallConfig, "\t\tstore redis", "\t\tportal auth.test:$PORT\n\t\tstore redis", 1),
	"wide.test:$PORT {", "auth.test:$PORT {\n\ttls $CERT $KEY\n\tanteroom\n}\n\nwide.test:$PORT {", 1)

// One sign-in opens all sites, one sign-out ends all of them; the provider hears of one site only.
func TestPortalForManySites(t *testing.T) {
	h := newHall(t, 2, redistest.Standalone(t), portalConfig)
	r := h.nodes[0]
	r.op.ready(t)
	b := newBrowser(t)
	if p := b.signIn(t, r.url(appHost, "/members/x?a=b"), "dana", "dana-pw"); p.Status != 200 || p.URL.String() != r.url(appHost, "/members/x?a=b") {
		t.Fatalf("the sign-in ended at %s with %d:\n%s\n%s", p.URL, p.Status, strings.Join(b.trace, "\n"), p.Body)
	}
	asked := r.op.counts(t)
	if p := b.visit(t, r.url(wideHost, "/y")); p.Status != 200 || p.URL.String() != r.url(wideHost, "/y") {
		t.Fatalf("the second site answers %d at %s:\n%s", p.Status, p.URL, strings.Join(b.trace, "\n"))
	}
	if now := r.op.counts(t); len(now) != len(asked) || now["/token"] != asked["/token"] || now["/auth"] != asked["/auth"] {
		t.Errorf("the provider was asked for the second site: %v, then %v", asked, now)
	}
	if p := b.visit(t, r.url(authHost, "/")); p.Status != 200 || p.URL.Path != "/.anteroom/" {
		t.Errorf("the portal's start page ends at %s with %d", p.URL, p.Status)
	}
	tokens := map[string]bool{}
	var contexts []string
	for _, host := range []string{appHost, wideHost, authHost} {
		_, cookies := b.cookies(t, r.url(host, "/"))
		tokens[cookies[cookieToken]] = true
		contexts = append(contexts, cookies[cookieContext])
	}
	if len(tokens) != 3 || tokens[""] || contexts[0] == contexts[1] || contexts[1] == contexts[2] {
		t.Errorf("each site has cookies of its own; contexts %v", contexts)
	}
	_, cookies := b.cookies(t, r.url(appHost, "/"))
	app := &session{"dana", cookies[cookieToken], cookies[cookieContext]}
	if status := r.status(t, wideHost, "/y", app); status != 401 {
		t.Errorf("the cookies of one site open another one: %d", status)
	}
	if status := h.nodes[1].status(t, appHost, "/members/x", app); status != 200 {
		t.Errorf("the other node answers the session with %d", status)
	}
	out := b.do(t, navigation(t, http.MethodPost, r.url(wideHost, "/.anteroom/logout"), ""))
	if out.Status >= 400 {
		t.Fatalf("signing out: %d %s", out.Status, out.Body)
	}
	for _, host := range []string{appHost, wideHost, authHost} {
		if p := b.do(t, call(t, "GET", r.url(host, "/.anteroom/session"), "")); p.Status != 401 {
			t.Errorf("after sign-out at one site %s answers %d", host, p.Status)
		}
	}
	// The provider remembers dana; it must ask her again all the same.
	if p := b.visit(t, r.url(appHost, "/members/x")); !strings.HasPrefix(p.URL.String(), r.op.issuer) || p.Status != 200 {
		t.Errorf("the next sign-in was not prompted for: %d at %s", p.Status, p.URL)
	}
}
