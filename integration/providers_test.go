package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
	"github.com/chromedp/chromedp"
)

// Two real providers as people and administrators use them. What a test asks of one it asks of the other; each registers
// anterooms, has accounts and ends sessions in its own way.

// house is one of them, with one client for the anterooms of a test.
type house struct {
	name    string
	op      *provider // where it is
	source  string    // the lines of identity oidc
	signIn  func(t testing.TB, c *chromium, user string)
	code    func(t testing.TB, c *chromium) // the second step, when it is asked for
	account func(t testing.TB, user string) // makes an account of this test's own, a doctor
	demote  func(t testing.TB, user string) // a patient from now on
	disable func(t testing.TB, user string)
	endAll  func(t testing.TB, user string) // the administrators end the user's sessions
	leave   func(t testing.TB, c *chromium) // what the provider wants before it ends its session
}

// houses gives the real providers, each with a client for anterooms on the given ports.
var houses = map[string]func(t testing.TB, ports ...int) *house{"oidc-provider": certified, "Keycloak": ofKeycloak}

// sourceLines are what both providers' sources have in common.
func sourceLines(client, rest string) string {
	return `
		identity oidc hospital {
			issuer $OP
			client_id ` + client + `
			client_secret {file.$DIR/oidc.secret}
			` + rest + `
		}
`
}

// registration is a client of oidc-provider for anterooms on ports, with all that the protocol has; change overwrites.
func registration(id string, ports []int, change map[string]any) map[string]any {
	var callbacks, returns []string
	for _, port := range ports {
		for _, host := range []string{appHost, wideHost, authHost, thirdHost} {
			for _, source := range sources {
				callbacks = append(callbacks, fmt.Sprintf("https://%s:%d/.anteroom/callback/%s", host, port, source))
			}
			returns = append(returns, fmt.Sprintf("https://%s:%d/.anteroom/signed-out", host, port))
		}
	}
	client := map[string]any{
		"client_id": id, "client_secret": clientSecret, "redirect_uris": callbacks, "post_logout_redirect_uris": returns,
		"response_types": []string{"code"}, "grant_types": []string{"authorization_code", "refresh_token"},
		"backchannel_logout_uri":              fmt.Sprintf("https://%s:%d/.anteroom/backchannel/hospital", appHost, ports[0]),
		"backchannel_logout_session_required": true,
	}
	maps.Copy(client, change)
	return client
}

// thirdHost is one more name in the tests' certificate.
const thirdHost = "third.test"

// startCertified runs oidc-provider with the given registrations; env as op.mjs says.
func startCertified(t testing.TB, clients []map[string]any, env ...string) *provider {
	t.Helper()
	p := &provider{port: freePort(t)}
	p.issuer = fmt.Sprintf("http://127.0.0.1:%d", p.port)
	roots := filepath.Join(t.TempDir(), "ca.pem")
	write(t, roots, string(ca().pem))
	p.env = append([]string{"PORT=" + strconv.Itoa(p.port), "OP_CLIENTS=" + mustJSON(clients), "OP_MODULES=" + part(t, "op/node_modules"),
		"NODE_EXTRA_CA_CERTS=" + roots}, env...)
	p.run(t)
	return p
}

// tell asks one of the provider's pages for tests.
func (p *provider) tell(t testing.TB, page string, body any) []byte {
	t.Helper()
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, p.issuer+"/_test/"+page, strings.NewReader(mustJSON(body)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("the provider's page %s answers %d %s %v\n%s", page, res.StatusCode, answer, err, p.proc.tail())
	}
	return answer
}

// authorizations are the parameters of the authorization requests that the provider granted, in order.
func (p *provider) authorizations(t testing.TB) []map[string]any {
	t.Helper()
	var all []map[string]any
	if err := json.Unmarshal(p.tell(t, "authorizations", nil), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func certified(t testing.TB, ports ...int) *house {
	t.Helper()
	p := startCertified(t, []map[string]any{registration("anteroom", ports, nil)})
	p.ready(t)
	user := func(t testing.TB, name string, change map[string]any) {
		t.Helper()
		change["user"] = name
		p.tell(t, "user", change)
	}
	return &house{
		name: "oidc-provider", op: p,
		source: sourceLines("anteroom", `roles_claim groups
			role doctor from "grp-physicians"
			role patient from "grp-patients"
			role admin from "grp-admins"`),
		signIn: func(t testing.TB, c *chromium, name string) { t.Helper(); c.signIn(t, name, name+"-pw") },
		code: func(t testing.TB, c *chromium) {
			t.Helper()
			c.do(t, "the second step", chromedp.SendKeys(chromedp.CSS("input[name=code]"), "123456"))
			c.click(t, "#go")
		},
		account: func(t testing.TB, name string) {
			user(t, name, map[string]any{"sub": "u-" + name, "name": name + " Example", "email": name + "@hospital.test", "groups": []string{"grp-physicians"}})
		},
		demote:  func(t testing.TB, name string) { user(t, name, map[string]any{"groups": []string{"grp-patients"}}) },
		disable: func(t testing.TB, name string) { user(t, name, map[string]any{"disabled": true}) },
		endAll: func(t testing.TB, name string) {
			t.Helper()
			if got := string(p.tell(t, "logout", map[string]any{"user": name, "client": "anteroom", "form": "sid"})); got == `{"sessions":0}` {
				t.Fatalf("the provider ended no session of %s", name)
			}
		},
		leave: func(t testing.TB, c *chromium) { t.Helper(); c.click(t, "button[name=logout]") },
	}
}

func ofKeycloak(t testing.TB, ports ...int) *house {
	t.Helper()
	k := startedKeycloak(t)
	client := k.client(t, ports...)
	press := func(t testing.TB, c *chromium, what, css, text string) {
		t.Helper()
		c.do(t, what, chromedp.WaitVisible(chromedp.CSS(css)), chromedp.SendKeys(chromedp.CSS(css), text))
	}
	groups := func(t testing.TB, name, method, group string) {
		t.Helper()
		var found []struct{ ID, Name string }
		k.admin(t, "GET", "/groups?exact=true&search="+url.QueryEscape(group), nil, &found)
		if len(found) != 1 {
			t.Fatalf("%d groups are called %s", len(found), group)
		}
		k.admin(t, method, "/users/"+k.userID(t, name)+"/groups/"+found[0].ID, nil, nil)
	}
	return &house{
		name: "Keycloak", op: &provider{issuer: k.issuer, proc: k.proc},
		source: sourceLines(client, `roles_claim realm_access.roles
			role doctor from physician
			role patient from patient
			role admin from administrator`),
		signIn: func(t testing.TB, c *chromium, name string) {
			t.Helper()
			press(t, c, "the user name", "#username", name)
			press(t, c, "the password", "#password", name+"-pw")
			c.click(t, "#kc-login")
		},
		code: func(t testing.TB, c *chromium) {
			t.Helper()
			press(t, c, "the second step", "#otp", totp())
			c.click(t, "#kc-login")
		},
		account: func(t testing.TB, name string) { t.Helper(); k.user(t, name, "/cardiology") },
		demote: func(t testing.TB, name string) {
			t.Helper()
			groups(t, name, "DELETE", "cardiology")
			groups(t, name, "PUT", "outpatients")
		},
		disable: func(t testing.TB, name string) {
			t.Helper()
			k.admin(t, "PUT", "/users/"+k.userID(t, name), map[string]any{"enabled": false}, nil)
		},
		endAll: func(t testing.TB, name string) {
			t.Helper()
			k.admin(t, "POST", "/users/"+k.userID(t, name)+"/logout", nil, nil)
		},
		leave: func(testing.TB, *chromium) {}, // the ID token that came along is enough for Keycloak
	}
}

// shortIdle is for tests that wait for what happens within one idle period.
const shortIdle = "\t\tsession {\n\t\t\tidle 1m\n\t\t}\n"

// withHouses runs a test at each of the real providers, on n nodes that share one Redis (1: the embedded store). The global
// option gets the lines besides, the members' rule of the sites the rules.
func withHouses(t *testing.T, n int, global, rules string, test func(t *testing.T, p *house, nodes []*rig)) {
	t.Parallel() // mostly waiting
	for _, name := range slices.Sorted(maps.Keys(houses)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ports []int
			for range n {
				ports = append(ports, freePort(t))
			}
			p, d := houses[name](t, ports...), startDump(t)
			caddyfile, redis := standard, ""
			if n > 1 {
				caddyfile, redis = hallConfig, redistest.Standalone(t).URL()
			}
			const members = "\t\tallow any /members/**\n"
			caddyfile = strings.NewReplacer(hospital, p.source+global, members, members+rules).Replace(caddyfile)
			h := &hall{}
			for _, port := range ports {
				h.nodes = append(h.nodes, prepareAt(t, port, p.op, d, caddyfile, "REDIS", redis))
			}
			for i := range h.nodes {
				h.start(t, i)
			}
			test(t, p, h.nodes)
		})
	}
}

// told is the answer of <prefix>session.
func (r *rig) told(t testing.TB, host string, who *session) map[string]any {
	t.Helper()
	p := r.bare(t, host, "/.anteroom/session", who)
	var answer map[string]any
	if err := json.Unmarshal([]byte(p.Body), &answer); p.Status != http.StatusOK || err != nil {
		t.Fatalf("the session is told with %d %v %s", p.Status, err, p.Body)
	}
	return answer
}

// tokenClaims are the claims of a session's token; nothing is verified.
func tokenClaims(t testing.TB, s *session) map[string]any {
	t.Helper()
	var claims map[string]any
	if err := decodePart(strings.Split(s.token, ".")[1], &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// bare asks as a program with the cookies of a session does.
func (r *rig) bare(t testing.TB, host, target string, who *session) page {
	t.Helper()
	name, value, _ := strings.Cut(who.line(), ": ")
	return newBrowser(t).do(t, call(t, "GET", r.url(host, target), "", name, value))
}
