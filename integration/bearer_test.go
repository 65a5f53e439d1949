package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// newClinic starts provider, nodes and the interface.
func newClinic(t *testing.T) *clinic {
	t.Helper()
	ports := []int{freePort(t), freePort(t)}
	back := fmt.Sprintf("http://127.0.0.1:%d/back", freePort(t))
	machine := func(id string) map[string]any {
		return map[string]any{"client_id": id, "client_secret": cronSecret, "grant_types": []string{"client_credentials"}, "redirect_uris": []string{}, "response_types": []string{}}
	}
	p := startCertified(t, []map[string]any{
		registration("anteroom", ports, nil), machine("cron"), machine("cron-opaque"),
		{"client_id": "app", "client_secret": cronSecret, "grant_types": []string{"authorization_code", "refresh_token"}, "redirect_uris": []string{back}, "response_types": []string{"code"}},
	})
	p.ready(t)
	c := &clinic{hall: &hall{redis: redistest.Standalone(t)}, op: p, dump: startDump(t), back: back, issuer: p.issuer}
	c.dump.respond(t, fhir)
	for i, port := range ports {
		c.nodes = append(c.nodes, prepareAt(t, port, p, c.dump, fhirConfig, "REDIS", c.redis.URL()))
		write(t, filepath.Join(c.nodes[i].dir, "cron.secret"), cronSecret)
		c.start(t, i)
	}
	return c
}

// TestBearerClients: a program of its own (client credentials) and an app that a patient lets act for them (a code, DPoP), both
// openid-client, against an interface behind the gate.
func TestBearerClients(t *testing.T) {
	c := newClinic(t)
	t.Run("a program with a bound token", c.program)
	t.Run("a program with an unbound token", c.unbound)
	t.Run("a token for somebody else", c.elsewhere)
	t.Run("an opaque token", c.opaque)
	t.Run("an app of a patient", c.delegated)
	t.Run("what a site says of itself", c.metadata)
	t.Run("places where no token belongs", c.misplaced)
}

func (c *clinic) at(host, path string) string { return c.nodes[0].url(host, path) }

func (c *clinic) program(t *testing.T) {
	c.dump.take()
	o := c.run(t, job{"client_id": "cron", "client_secret": cronSecret, "grant": "client_credentials", "dpop": true,
		"scope": "system/Observation.rs", "resource": fhirAudience, "calls": []job{
			{"name": "search", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation?code=8310-5")},
			{"name": "another resource", "method": "GET", "url": c.at(thirdHost, "/fhir/Patient/pat-1")},
			{"name": "write", "method": "POST", "url": c.at(thirdHost, "/fhir/Observation"), "body": "{}"},
			{"name": "without its proof", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation"), "as": "bearer"},
			{"name": "with a thief's proof", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation"), "token": "stolen"},
			{"name": "at the other node", "method": "GET", "url": c.nodes[1].url(thirdHost, "/fhir/Observation")},
			{"name": "capabilities", "method": "GET", "url": c.at(thirdHost, "/fhir/metadata")},
		}}, nil)
	if o.TokenType != "dpop" && o.TokenType != "DPoP" {
		t.Fatalf("the provider gives a token of type %q", o.TokenType)
	}
	got := c.dump.take()
	wants := []struct {
		status int
		code   string
	}{
		{200, ""}, {403, "insufficient_scope"},
		{403, ""}, // no scope would help a program to do what only doctors may
		{401, "invalid_token"}, {401, "invalid_dpop_proof"}, {200, ""}, {200, ""},
	}
	for i, want := range wants {
		call := o.Calls[i]
		if code := call.challenge("error"); call.Status != want.status || code != want.code {
			t.Errorf("%s: %d %q %s, want %d %q", call.Name, call.Status, code, call.Body, want.status, want.code)
		}
	}
	if len(got) != 3 {
		t.Fatalf("%d requests reached the interface, want 3", len(got))
	}
	for _, r := range got[:2] {
		c.arrived(t, r, map[string]string{"client_id": "cron", "scope": "system/Observation.rs"})
	}
	// The same request once more, here and at the other node, is no request: the memory of proofs is everybody's (row 72).
	sent := o.Calls[0].Sent
	for i, n := range c.nodes {
		if p := again(t, n.url(thirdHost, "/fhir/Observation?code=8310-5"), sent.Headers); p.Status != http.StatusUnauthorized {
			t.Errorf("a request sent again is answered %d by node %d", p.Status, i+1)
		}
	}
	if len(c.dump.take()) != 0 {
		t.Error("what was refused reached the interface")
	}
}

// challenge is a parameter of the answer's challenges.
func (c *clinicCall) challenge(name string) string {
	for _, one := range c.Challenges {
		if v := one.Parameters[name]; v != "" {
			return v
		}
	}
	return ""
}

// arrived checks what the interface sees of a caller: who it is and never the token.
func (c *clinic) arrived(t *testing.T, r *received, claims map[string]string) {
	t.Helper()
	for _, name := range []string{"Authorization", "DPoP", "Cookie"} {
		if got := r.values(name); len(got) > 0 {
			t.Errorf("the interface sees %s: %v", name, got)
		}
	}
	assertions := r.values("Anteroom-Assertion")
	if len(assertions) != 1 {
		t.Fatalf("the interface sees %d assertions:\n%s", len(assertions), r.Head)
	}
	var said map[string]any
	if err := decodePart(strings.Split(assertions[0], ".")[1], &said); err != nil {
		t.Fatal(err)
	}
	for name, want := range claims {
		got := fmt.Sprint(said[name])
		if list, ok := said[name].([]any); ok {
			got = ""
			for _, one := range list {
				got = strings.TrimSpace(got + " " + fmt.Sprint(one))
			}
		}
		if got != want {
			t.Errorf("the assertion says %s %v, want %q", name, said[name], want)
		}
	}
	if said["sid"] != nil {
		t.Errorf("the assertion names a session: %v", said)
	}
}

func (c *clinic) unbound(t *testing.T) {
	o := c.run(t, job{"client_id": "cron", "client_secret": cronSecret, "grant": "client_credentials", "scope": "system/Observation.rs", "resource": fhirAudience, "calls": []job{
		{"name": "refused", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation")},
	}}, nil)
	if o.Calls[0].Status != http.StatusUnauthorized || o.Calls[0].challenge("error") != "invalid_token" {
		t.Errorf("an unbound token is answered %d %q", o.Calls[0].Status, o.Calls[0].challenge("error"))
	}
	o = c.run(t, job{"client_id": "cron", "client_secret": cronSecret, "grant": "client_credentials", "scope": "system/Observation.rs", "resource": c.at(authHost, ""), "calls": []job{
		{"name": "bearer unbound allow", "method": "GET", "url": c.at(authHost, "/fhir/Observation")},
	}}, nil)
	if o.Calls[0].Status != http.StatusOK {
		t.Errorf("where it is allowed an unbound token is answered %d %v", o.Calls[0].Status, o.Calls[0].Challenges)
	}
}

func (c *clinic) elsewhere(t *testing.T) {
	for name, j := range map[string]job{
		"another audience": {"scope": "system/Observation.rs", "resource": "https://third.test/other"},
		"no scope":         {"scope": "system/Patient.r", "resource": fhirAudience},
	} {
		j["client_id"], j["client_secret"], j["grant"], j["dpop"] = "cron", cronSecret, "client_credentials", true
		j["calls"] = []job{{"name": name, "method": "GET", "url": c.at(thirdHost, "/fhir/Observation")}}
		o := c.run(t, j, nil)
		want, code := http.StatusUnauthorized, "invalid_token"
		if name == "no scope" {
			want, code = http.StatusForbidden, "insufficient_scope"
		}
		if o.Calls[0].Status != want || o.Calls[0].challenge("error") != code {
			t.Errorf("%s: %d %q", name, o.Calls[0].Status, o.Calls[0].challenge("error"))
		}
		if code == "insufficient_scope" && !strings.Contains(o.Calls[0].challenge("scope"), "/Observation.rs") { // of the program or of a patient
			t.Errorf("the challenge does not say which scope is enough: %v", o.Calls[0].Challenges)
		}
	}
}

func (c *clinic) opaque(t *testing.T) {
	before := c.op.counts(t)["/token/introspection"]
	o := c.run(t, job{"client_id": "cron-opaque", "client_secret": cronSecret, "grant": "client_credentials", "scope": "system/Observation.rs", "resource": fhirAudience, "calls": []job{
		{"name": "introspected", "method": "GET", "url": c.at("orthanc.test", "/fhir/Observation")},
		{"name": "remembered", "method": "GET", "url": c.at("orthanc.test", "/fhir/Observation?x=1")},
		{"name": "where tokens are JWTs", "method": "GET", "url": c.at(authHost, "/fhir/Observation")},
	}}, nil)
	if o.Calls[0].Status != 200 || o.Calls[1].Status != 200 || o.Calls[2].Status != 401 {
		t.Errorf("an opaque token is answered %d, %d, and %d where no introspection is", o.Calls[0].Status, o.Calls[1].Status, o.Calls[2].Status)
	}
	if asked := c.op.counts(t)["/token/introspection"] - before; asked != 1 {
		t.Errorf("two requests asked the provider %d times", asked)
	}
	if p := again(t, c.at("orthanc.test", "/fhir/Observation"), map[string]string{"Authorization": "Bearer made-up-token"}); p.Status != 401 {
		t.Errorf("a made-up token is answered %d", p.Status)
	}
}

func (c *clinic) delegated(t *testing.T) {
	j := job{"client_id": "app", "client_secret": cronSecret, "grant": "authorization_code", "dpop": true, "redirect_uri": c.back,
		"scope": "openid patient/Patient.r patient/Observation.rs", "resource": fhirAudience, "calls": []job{
			{"name": "the patient", "method": "GET", "url": c.at(thirdHost, "/fhir/Patient/pat-1")},
			{"name": "another patient", "method": "GET", "url": c.at(thirdHost, "/fhir/Patient/pat-2")},
			{"name": "results of the patient", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation?patient=pat-1")},
			{"name": "results by reference", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation?subject=Patient/pat-1&code=8310-5")},
			{"name": "everybody's results", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation")},
			{"name": "somebody else's results", "method": "GET", "url": c.at(thirdHost, "/fhir/Observation?patient=pat-1&patient=pat-2")},
			{"name": "the vault", "method": "GET", "url": c.at(thirdHost, "/fhir/vault/Observation?patient=pat-1")},
		}}
	c.dump.take()
	o := c.run(t, j, func(t *testing.T, address string) {
		b := newChromium(t)
		b.navigate(t, address)
		b.signIn(t, "pat", "pat-pw")
		b.waitText(t, "The application goes on.")
	})
	for i, want := range []int{200, 403, 200, 200, 403, 403, 401} {
		if o.Calls[i].Status != want {
			t.Errorf("%s: %d %v %s, want %d", o.Calls[i].Name, o.Calls[i].Status, o.Calls[i].Challenges, o.Calls[i].Body, want)
		}
	}
	last := o.Calls[6]
	if last.challenge("error") != "insufficient_user_authentication" || last.challenge("acr_values") != "urn:example:mfa" {
		t.Fatalf("the challenge of RFC 9470 reads %v", last.Challenges)
	}
	for _, r := range c.dump.take() {
		c.arrived(t, r, map[string]string{"client_id": "app", "patient": "pat-1", "sub": "u-1002"})
	}
	// The app does as it was told and asks the person for more.
	j["acr_values"] = last.challenge("acr_values")
	o = c.run(t, j, func(t *testing.T, address string) {
		b := newBrowser(t)
		p := b.visit(t, address)
		p = b.submit(t, p, map[string]string{"username": "pat", "password": "pat-pw"})
		if p = b.submit(t, p, map[string]string{"code": "123456"}); p.Status != 200 {
			t.Fatalf("the person's way ends with %d %s", p.Status, p.Body)
		}
	})
	if o.Calls[6].Status != http.StatusOK {
		t.Errorf("with a second step the vault is answered %d %v", o.Calls[6].Status, o.Calls[6].Challenges)
	}
}

func (c *clinic) metadata(t *testing.T) {
	p := again(t, c.at(authHost, "/.well-known/oauth-protected-resource"), nil)
	var said struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
	}
	if err := json.Unmarshal([]byte(p.Body), &said); p.Status != 200 || err != nil {
		t.Fatalf("%d %v %s", p.Status, err, p.Body)
	}
	if said.Resource != c.at(authHost, "") || !slices.Equal(said.Servers, []string{c.issuer}) || !slices.Equal(said.Scopes, []string{"system/Observation.rs"}) {
		t.Errorf("RFC 9728: %s", p.Body)
	}
	// A client that knows nothing but what it was told gets a token that is good here.
	o := c.run(t, job{"client_id": "cron", "client_secret": cronSecret, "grant": "client_credentials", "dpop": true, "scope": said.Scopes[0], "resource": said.Resource, "calls": []job{
		{"name": "as told", "method": "GET", "url": c.at(authHost, "/fhir/Observation")},
	}}, nil)
	if o.Calls[0].Status != http.StatusOK {
		t.Errorf("who does as it was told is answered %d %v", o.Calls[0].Status, o.Calls[0].Challenges)
	}
	p = again(t, c.at(thirdHost, "/fhir/Observation"), nil)
	challenges := strings.Join(p.Header.Values("WWW-Authenticate"), "\n")
	if p.Status != 401 || !strings.Contains(challenges, "resource_metadata=") || !strings.Contains(challenges, "DPoP") {
		t.Errorf("without a token: %d\n%s", p.Status, challenges)
	}
}

// misplaced: tokens in addresses, sessions as tokens, both at once.
func (c *clinic) misplaced(t *testing.T) {
	dana := c.nodes[0].person(t, thirdHost, "dana")
	cookie := strings.TrimPrefix(dana.line(), "Cookie: ")
	if p := again(t, c.at(thirdHost, "/fhir/Observation"), map[string]string{"Cookie": cookie}); p.Status != 200 {
		t.Fatalf("a doctor with a session is answered %d", p.Status)
	}
	o := c.run(t, job{"client_id": "cron", "client_secret": cronSecret, "grant": "client_credentials", "scope": "system/Observation.rs", "resource": c.at(authHost, ""), "calls": []job{}}, nil)
	c.dump.take()
	for name, row := range map[string]struct {
		host, path string
		headers    map[string]string
		want       int
	}{
		"J76 a session as a token":        {thirdHost, "/fhir/Observation", map[string]string{"Authorization": "Bearer " + dana.token}, 401},
		"J76 a session as a bound token":  {thirdHost, "/fhir/Observation", map[string]string{"Authorization": "DPoP " + dana.token}, 401},
		"J76 a token as a cookie":         {thirdHost, "/fhir/Observation", map[string]string{"Cookie": cookieToken + "=" + o.Token + "; " + cookieContext + "=" + dana.context}, 401},
		"J76 a token in the address":      {authHost, "/fhir/Observation?access_token=" + o.Token, nil, 400},
		"a doctor's cookies help nobody":  {thirdHost, "/fhir/Patient/pat-1", map[string]string{"Cookie": cookie, "Authorization": "Bearer " + o.Token}, 401},
		"a site that takes no tokens":     {appHost, "/members/x", map[string]string{"Authorization": "Bearer " + o.Token}, 401},
		"scopes are not for other paths":  {authHost, "/fhir/Patient/pat-1", map[string]string{"Authorization": "Bearer " + o.Token}, 403},
		"two schemes":                     {authHost, "/fhir/Observation", map[string]string{"Authorization": "Bearer " + o.Token + ", DPoP " + o.Token}, 400},
		"basic is no scheme of this site": {authHost, "/fhir/Observation", map[string]string{"Authorization": "Basic Y3Jvbjpjcm9u"}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			p := again(t, c.at(row.host, row.path), row.headers)
			if p.Status != row.want && !(row.want == 400 && p.Status == 401) {
				t.Errorf("answered %d %s, want %d", p.Status, p.Body, row.want)
			}
			if len(p.Header.Values("Set-Cookie")) > 0 {
				t.Errorf("cookies are set: %v", p.Header.Values("Set-Cookie"))
			}
		})
	}
	if got := c.dump.take(); len(got) != 0 {
		t.Errorf("what was refused reached the interface:\n%s", got[0].Head)
	}
}
