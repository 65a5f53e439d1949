package integration

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// TestProvidersEndSessions: who is signed out at the provider's side is out here, on all nodes, within one second.
func TestProvidersEndSessions(t *testing.T) {
	withHouses(t, 3, "", "", func(t *testing.T, p *house, nodes []*rig) {
		p.account(t, "olga")
		p.account(t, "omar")
		who := map[string]*session{}
		for _, name := range []string{"olga", "omar"} {
			c := newChromium(t)
			c.navigate(t, nodes[1].url(appHost, "/members/x"))
			p.signIn(t, c, name)
			c.waitText(t, "dump of GET /members/x")
			who[name] = c.session(t, nodes[1].url(appHost, "/"))
			who[name].user = name
		}
		for i, n := range nodes {
			if got := n.status(t, appHost, "/members/x", who["olga"]); got != http.StatusOK {
				t.Fatalf("node %d answers a session with %d", i+1, got)
			}
		}
		p.endAll(t, "olga")
		ended := startWatch()
		for i, n := range nodes {
			if got := answersSince(t, ended, n, who["olga"], http.StatusUnauthorized); got != http.StatusUnauthorized {
				t.Fatalf("node %d answers %d, %v after the provider ended the session\n%s", i+1, got, ended.elapsed(), p.op.proc.tail())
			}
		}
		t.Logf("%s: all nodes refuse after %v", p.name, ended.elapsed().Round(time.Millisecond))
		for i, n := range nodes {
			if got := n.status(t, appHost, "/members/x", who["omar"]); got != http.StatusOK {
				t.Errorf("node %d answers a colleague's session with %d", i+1, got)
			}
		}
		if notified(t, nodes[0], "allowed") != 1 {
			t.Errorf("the audit log has %d logout tokens, want one", notified(t, nodes[0], "allowed"))
		}
	})
}

// notified counts the logout tokens in a node's audit log.
func notified(t testing.TB, n *rig, decision string) int {
	t.Helper()
	count := 0
	for _, rec := range n.audit(t) {
		if strings.Contains(mustJSON(rec), "backchannel") || strings.Contains(mustJSON(rec), "back-channel") {
			if rec.str("decision") == decision {
				count++
			}
		}
	}
	return count
}

// A logout token that names the person and no session ends all of theirs; and one who signs out at the provider, with a browser,
// is out here.
func TestProviderEndsSubject(t *testing.T) {
	ports := []int{freePort(t), freePort(t)}
	p, d, redis := certified(t, ports...), startDump(t), redistest.Standalone(t)
	h := &hall{redis: redis}
	for _, port := range ports {
		h.nodes = append(h.nodes, prepareAt(t, port, p.op, d, strings.Replace(hallConfig, hospital, p.source, 1), "REDIS", redis.URL()))
	}
	h.start(t, 0)
	h.start(t, 1)
	one, two, pat := h.nodes[0].person(t, appHost, "dana"), h.nodes[1].person(t, appHost, "dana"), h.nodes[1].person(t, appHost, "pat")
	p.op.tell(t, "logout", map[string]any{"user": "dana", "client": "anteroom", "form": "sub"})
	for i, n := range h.nodes {
		for _, who := range []*session{one, two} {
			if got := answers(t, n, who, http.StatusUnauthorized); got != http.StatusUnauthorized {
				t.Errorf("node %d answers %d to somebody whose sessions all ended", i+1, got)
			}
		}
		if got := n.status(t, appHost, "/members/x", pat); got != http.StatusOK {
			t.Errorf("node %d answers %d to somebody else", i+1, got)
		}
	}
	r, c := h.nodes[0], newChromium(t)
	c.navigate(t, r.url(appHost, "/members/x"))
	c.signIn(t, "dana", "dana-pw")
	c.waitText(t, "dump of GET /members/x")
	c.navigate(t, p.op.issuer+"/session/end")
	c.click(t, "button[name=logout]")
	c.screenshot(t, "left-at-the-provider")
	c.navigate(t, r.url(appHost, "/members/x"))
	if got := c.location(t); !strings.HasPrefix(got, p.op.issuer) {
		t.Errorf("somebody who left at the provider is at %s", got)
	}
}
