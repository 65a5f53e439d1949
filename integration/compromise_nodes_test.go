package integration

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/rekey"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// Row 156 on three nodes over Redis: the node at work is killed, another one takes over when its lease is over, and at the end
// nobody has a session any more and everybody can sign in again, on every node.
func TestRow156CompromiseNodes(t *testing.T) {
	t.Parallel() // some waiting
	h := newHall(t, 3, redistest.Standalone(t), hallConfig)
	var people []*session
	for i := range 6 {
		people = append(people, h.nodes[i%3].person(t, appHost, []string{"dana", "pat"}[i%2]))
	}
	old := h.nodes[0].keyState(t).primary(t).ID
	status, body, err := h.nodes[0].askAdmin(http.MethodPost, "keys/compromised", mustJSON(map[string]any{"id": old}))
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d, %v: %s", status, err, body)
	}
	eventually(t, patience, func() error {
		if op := h.nodes[0].operation(); op == nil || op.Phase != "wait" {
			return fmt.Errorf("%+v", op)
		}
		return nil
	})
	h.nodes[0].proc.kill()
	eventually(t, 4*time.Minute, func() error {
		op := h.nodes[1].operation()
		if op == nil || op.State != rekey.StateDone {
			return fmt.Errorf("%+v", op)
		}
		return nil
	})
	h.nodes[0].run(t)
	for i, n := range h.nodes {
		eventually(t, patience, func() error { // a node looks every two seconds
			if state := n.keyState(t); state.of(old) != rekey.Destroyed || state.Records[old] != 0 {
				return fmt.Errorf("node %d: the old key is %s, with %d records", i+1, state.of(old), state.Records[old])
			}
			return nil
		})
		for _, who := range people {
			if got := answers(t, n, who, 401); got != 401 {
				t.Errorf("node %d answers a session by the old key with %d", i+1, got)
			}
		}
		newcomer := n.person(t, appHost, "dana")
		for j, m := range h.nodes {
			if got := answers(t, m, newcomer, 200); got != 200 {
				t.Errorf("node %d answers a new session of node %d with %d", j+1, i+1, got)
			}
		}
	}
}
