package gate

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/budget"
)

// One person has one budget, over sessions and access tokens and over nodes; somebody else with a token has their own.
func TestBudgetIsThePersons(t *testing.T) {
	d := &desk{}
	rules := []string{"allow role doctor /records/{p}", "allow scope notes.read GET /records/{p}", "budget any 4 distinct {p} per 1h"}
	join := func(c *Config) {
		c.Bearer = d
		c.Person = func(source, subject, _ string) string { return subject } // one issuer for both
	}
	h := newHospital(t, rules, join)
	d.fill(h.now())
	dana := h.dana()
	d.tokens["t-read"].Grant.Subject = dana.session.Subject
	nodes := []*Gate{h.gate}
	h.rules(rules, join)
	nodes = append(nodes, h.gate)
	for _, g := range nodes { // each with a memory of its own
		b, err := budget.New(budget.Config{Store: h.store, Sealer: h.store.sealer, Now: h.now})
		if err != nil {
			t.Fatal(err)
		}
		g.counter = b
	}
	see := func(node int, how string, record string, want int) {
		t.Helper()
		h.gate = nodes[node]
		cookie, lines := dana.cookie, []string(nil)
		if how != "session" {
			cookie, lines = "", []string{"Authorization: " + how, "Dpop: proof"}
		}
		var next http.Handler
		if want != 200 {
			next = never(t)
		}
		if w := h.ask("GET", "/records/"+record, cookie, next, lines...); w.Code != want {
			t.Errorf("node %d, %s, %s: %d, want %d", node, how, record, w.Code, want)
		}
	}
	for i := range 4 {
		see(i%2, []string{"session", "Bearer t-read"}[i/2], fmt.Sprint(i), 200)
	}
	for node := range 2 {
		see(node, "session", "new", 403)
		see(node, "Bearer t-read", "new", 403)
		h.clock.add(2 * time.Second) // a node believes that there is no room for one
		see(node, "session", "3", 200)
		see(node, "Bearer t-read", "0", 200)
	}
	see(0, "DPoP t-dpop", "new", 200) // another person, with a budget of their own
}
