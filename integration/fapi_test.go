package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// TestFAPI2: one line of configuration against a provider that demands all of it: pushed requests, an assertion signed with a key
// that was made at the first start and that the provider fetches from us, tokens bound to a key, a nonce in every proof. Two nodes
// share the key.
func TestFAPI2(t *testing.T) {
	t.Parallel() // mostly waiting
	ports := []int{freePort(t), freePort(t)}
	client := registration("anteroom", ports, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": fmt.Sprintf("https://%s:%d/.anteroom/jwks/hospital.json", appHost, ports[0]),
		"require_pushed_authorization_requests": true, "dpop_bound_access_tokens": true, "id_token_signed_response_alg": "ES256",
	})
	delete(client, "client_secret")
	p := startCertified(t, []map[string]any{client}, "OP_NONCE=yes", "OP_THIN=yes")
	p.ready(t)
	source := strings.NewReplacer("\t\t\tclient_secret {file.$DIR/oidc.secret}\n", "\t\t\tclient_auth private_key_jwt\n\t\t\tprofile fapi2\n").Replace(
		sourceLines("anteroom", "roles_claim groups\n\t\t\trole doctor from \"grp-physicians\"\n\t\t\trole patient from \"grp-patients\""))
	h, d, redis := &hall{}, startDump(t), redistest.Standalone(t)
	for i, port := range ports {
		h.nodes = append(h.nodes, prepareAt(t, port, p, d, strings.Replace(hallConfig, hospital, source+shortIdle, 1), "REDIS", redis.URL()))
		h.start(t, i)
	}
	for i, n := range h.nodes {
		b := newBrowser(t)
		got := b.signIn(t, n.url(appHost, "/members/x"), "dana", "dana-pw")
		if got.Status != http.StatusOK || !strings.Contains(got.Body, "/members/x") {
			t.Fatalf("node %d: the sign-in ends with %d at %s\n%s\n%s\n%s", i+1, got.Status, got.URL, strings.Join(b.trace, "\n"), got.Body, p.proc.tail())
		}
		for _, line := range b.trace {
			if _, query, found := strings.Cut(line, p.issuer+"/auth?"); found && (strings.Contains(query, "redirect_uri=") || strings.Contains(query, "state=") || !strings.Contains(query, "request_uri=")) {
				t.Errorf("the browser carries what was pushed: %s", line)
			}
		}
		if i > 0 {
			continue
		}
		// The refresh token is bound to the key as well: what the provider says now is asked for with it.
		p.tell(t, "user", map[string]any{"user": "dana", "groups": []string{"grp-patients"}})
		eventually(t, time.Minute, func() error {
			if got := b.do(t, call(t, "GET", n.url(appHost, "/records/x"), "")); got.Status != http.StatusForbidden {
				time.Sleep(500 * time.Millisecond)
				return fmt.Errorf("a doctor's page is answered %d to a patient\n%s", got.Status, p.proc.tail())
			}
			return nil
		})
	}
	if n := p.counts(t); n["/request"] < 2 || n["/me"] < 2 {
		t.Errorf("the provider counts %v", n)
	}
}
