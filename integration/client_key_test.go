package integration

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// TestClientKey: at a provider of others, which reads our keys at our address when it likes, the key of a client is replaced on one
// of two nodes. The new one signs when the provider knows it and not before; at no moment does a sign-in fail on either node. Then
// the key is stolen.
func TestClientKey(t *testing.T) {
	ports := []int{freePort(t), freePort(t)}
	client := registration("anteroom", ports, map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": fmt.Sprintf("https://%s:%d/.anteroom/jwks/hospital.json", appHost, ports[0]),
	})
	delete(client, "client_secret")
	p := startCertified(t, []map[string]any{client})
	p.ready(t)
	source := strings.Replace(sourceLines("anteroom", "roles_claim groups\n\t\t\trole doctor from \"grp-physicians\"\n\t\t\trole patient from \"grp-patients\""),
		"\t\t\tclient_secret {file.$DIR/oidc.secret}\n", "\t\t\tclient_auth private_key_jwt\n", 1)
	h, d, redis := &hall{}, startDump(t), redistest.Standalone(t)
	for i, port := range ports {
		h.nodes = append(h.nodes, prepareAt(t, port, p, d, strings.Replace(hallConfig, hospital, source, 1), "REDIS", redis.URL()))
		h.start(t, i)
	}
	works := func(when string) {
		t.Helper()
		for i, n := range h.nodes {
			b := newBrowser(t)
			if got := b.signIn(t, n.url(appHost, "/members/x"), "dana", "dana-pw"); got.Status != http.StatusOK || !strings.Contains(got.Body, "/members/x") {
				t.Fatalf("%s: node %d: the sign-in ends with %d at %s\n%s\n%s", when, i+1, got.Status, got.URL, strings.Join(b.trace, "\n"), p.proc.tail())
			}
		}
	}
	works("at first")
	if got := h.nodes[0].keys(t, "rotate", "client", "hospital"); got.code != 0 || !strings.Contains(got.stdout, "--activate") {
		t.Fatalf("published: %+v", got)
	}
	works("published")
	// The provider keeps a set for as long as it was told, a minute; asked with a key that it does not know it says no.
	eventually(t, 3*time.Minute, func() error {
		got := h.nodes[0].keys(t, "rotate", "client", "hospital", "--activate")
		works("asked")
		if got.code != 0 {
			time.Sleep(2 * time.Second)
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	works("activated")
	if got := h.nodes[1].keys(t, "status"); got.code != 0 || !strings.Contains(got.stdout, "client/hospital") {
		t.Errorf("status: %+v", got)
	}
	if got := h.nodes[1].keys(t, "compromised", "client/hospital", "--yes"); got.code != 0 {
		t.Fatalf("stolen: %+v", got)
	}
	eventually(t, 3*time.Minute, func() error {
		time.Sleep(2 * time.Second)
		for _, n := range h.nodes {
			if got := newBrowser(t).signIn(t, n.url(appHost, "/members/x"), "dana", "dana-pw"); got.Status != http.StatusOK {
				return fmt.Errorf("the sign-in ends with %d", got.Status)
			}
		}
		return nil
	})
}
