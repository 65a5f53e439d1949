package integration

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// hall is one installation of several nodes: one Redis, one master key, one provider, one backend. All nodes serve the same
// hosts, each on its own port; browsers send the cookies of a host to all its ports, as they would through a load balancer.
type hall struct {
	nodes []*rig
	redis *redistest.Server
}

// hallGlobals is globals for nodes: with an admin socket for the subcommands.
var hallGlobals = strings.Replace(globals, "admin off", "admin unix/$DIR/admin.sock", 1)

// hallConfig is the configuration of the attack tables with sessions in Redis.
var hallConfig = strings.Replace(strings.Replace(standard, globals, hallGlobals, 1), "\tanteroom {", "\tanteroom {\n\t\tstore redis $REDIS", 1)

// newHall starts n nodes.
func newHall(t testing.TB, n int, server *redistest.Server, caddyfile string, pairs ...string) *hall {
	t.Helper()
	h := prepareHall(t, n, server, caddyfile, pairs...)
	for i := range h.nodes {
		h.start(t, i)
	}
	return h
}

// prepareHall does all but starting the nodes. $REDIS is the URL of the server; pairs go before it.
func prepareHall(t testing.TB, n int, server *redistest.Server, caddyfile string, pairs ...string) *hall {
	t.Helper()
	h := &hall{redis: server}
	var ports []int
	for range n {
		ports = append(ports, freePort(t))
	}
	op, d := startProvider(t, ports...), startDump(t)
	for _, port := range ports {
		h.nodes = append(h.nodes, prepareAt(t, port, op, d, caddyfile, append([]string{"REDIS", server.URL()}, pairs...)...))
	}
	return h
}

// start runs one node. Each but the first to run gets the master key of another one, as an operator copies it.
func (h *hall) start(t testing.TB, i int) {
	t.Helper()
	own := h.masterKey(i)
	for j := range h.nodes {
		if key, err := os.ReadFile(h.masterKey(j)); err == nil && !exists(own) {
			if err := os.MkdirAll(filepath.Dir(own), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(own, key, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.nodes[i].run(t)
}

func (h *hall) masterKey(i int) string {
	return filepath.Join(h.nodes[i].dataDir(), "anteroom", "master.key")
}

// statuses asks every node at once and returns their answers.
func (h *hall) statuses(t testing.TB, target string, who *session) []int {
	t.Helper()
	var all []int
	for _, n := range h.nodes {
		all = append(all, n.status(t, appHost, target, who))
	}
	return all
}

// Three processes, one Redis: a session of one node is everybody's, and its end as well.
func TestThreeNodes(t *testing.T) {
	h := newHall(t, 3, redistest.Standalone(t), hallConfig)
	dana, other := h.nodes[0].person(t, appHost, "dana"), h.nodes[1].person(t, appHost, "dana")
	for range 3 { // a token that a node has just verified, and one that it has not seen
		for i, status := range h.statuses(t, "/members/x", dana) {
			if status != 200 {
				t.Fatalf("node %d answers a session of node 1 with %d", i+1, status)
			}
		}
	}
	h.nodes[2].signOut(t, appHost, dana)
	signedOut := startWatch()
	for i, n := range h.nodes {
		if got := answersSince(t, signedOut, n, dana, 401); got != 401 {
			t.Fatalf("node %d answers %d, %v after the sign-out at node 3", i+1, got, signedOut.elapsed())
		}
		t.Logf("node %d refuses %v after the sign-out was answered", i+1, signedOut.elapsed().Round(time.Millisecond))
	}
	// The sign-in of another browser lives on, also through a restart of every node.
	for i, n := range h.nodes {
		n.proc.kill()
		h.start(t, i)
		if got := n.status(t, appHost, "/members/x", other); got != 200 {
			t.Errorf("after a restart node %d answers a running session with %d", i+1, got)
		}
		if got := n.status(t, appHost, "/members/x", dana); got != 401 {
			t.Errorf("after a restart node %d answers a session that signed out with %d", i+1, got)
		}
	}
}

// answers asks a node until it answers a session with the status, and returns the last answer: the product has a second, see
// stopwatch. What was asked before the second was over may be answered later.
func answers(t testing.TB, n *rig, who *session, want int) (got int) {
	t.Helper()
	return answersSince(t, startWatch(), n, who, want)
}

func answersSince(t testing.TB, since stopwatch, n *rig, who *session, want int) (got int) {
	t.Helper()
	for ; ; time.Sleep(5 * time.Millisecond) {
		asked := since.elapsed()
		if got = n.status(t, appHost, "/members/x", who); got == want || since.over(asked, time.Second) {
			return got
		}
	}
}

// hear waits until the node has heard from the store what was written before now. The configuration has an admin socket.
func (r *rig) hear(t testing.TB) {
	t.Helper()
	now := time.Now()
	eventually(t, patience, func() error {
		asked := time.Now()
		for line := range strings.Lines(r.admin(t, "/metrics")) {
			if value, ok := strings.CutPrefix(line, "anteroom_store_silence_seconds "); ok {
				seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if heard := asked.Add(-time.Duration(seconds * float64(time.Second))); err != nil || !heard.After(now) {
					return fmt.Errorf("the store was heard %s s ago, %v", value, err)
				}
				return nil
			}
		}
		return errors.New("the metrics do not say when the store was heard")
	})
}

// kidOf reads the name of the key out of a token's header.
func kidOf(t testing.TB, header string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(header)
	if err != nil {
		t.Fatal(err)
	}
	var h struct {
		Kid string `json:"kid"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	return h.Kid
}
