package integration

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crowd keeps asking the nodes of a hall, with sessions that are alive and with sessions that signed out, and keeps a ledger of
// what it was told. What must hold whatever breaks: a sign-out that was acknowledged is never forgotten, and nobody who signed
// out gets in once the bound is over.
type crowd struct {
	h     *hall
	t     *testing.T
	bound []time.Duration // by node: how long after an acknowledged sign-out it may not have heard of it
	lost  int             // node whose clock is moved: its 401 says nothing

	mu       sync.Mutex // guards what follows
	live     []*session
	ended    map[*session]stopwatch // since the sign-out was acknowledged
	counts   map[string]int         // "node 1: 200" → how often
	latest   []time.Duration        // by node: the longest time after a sign-out at which the session still got in
	wrong    []string
	changed  time.Time // when a live session was last taken out: a request that was on its way then says nothing
	stopped  atomic.Bool
	visitors sync.WaitGroup
}

// newCrowd signs n people in, over all nodes, and lets them work until the test ends. The bound is a second unless the test
// sets another.
func newCrowd(t *testing.T, h *hall, n int) *crowd {
	t.Helper()
	c := &crowd{h: h, t: t, ended: map[*session]stopwatch{}, counts: map[string]int{}, lost: -1, latest: make([]time.Duration, len(h.nodes))}
	for range h.nodes {
		c.bound = append(c.bound, time.Second)
	}
	people := make([]*session, n)
	var signIns sync.WaitGroup
	for worker := range 4 {
		signIns.Go(func() {
			for i := worker; i < n; i += 4 {
				people[i] = h.nodes[i%len(h.nodes)].person(t, appHost, "dana")
			}
		})
	}
	signIns.Wait()
	c.live = people
	for i := range h.nodes { // each node has seen each of them
		for _, s := range people {
			if status := h.nodes[i].status(t, appHost, "/members/x", s); status != 200 {
				t.Fatalf("before anything broke node %d answered %d", i+1, status)
			}
		}
	}
	for i := range h.nodes {
		c.visitors.Go(func() { c.visit(i) })
	}
	t.Cleanup(c.stop)
	return c
}

// distrust takes no 401 of a node for wrong from now on: its clock is moved, and until it sees that it judges by it.
func (c *crowd) distrust(node int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = node
}

// stop lets nobody work any more.
func (c *crowd) stop() {
	c.stopped.Store(true)
	c.visitors.Wait()
}

// quick is a client that follows nothing and keeps nothing.
func quick(t testing.TB) *http.Client {
	client := newBrowser(t).client
	client.Jar = nil
	return client
}

// visit asks one node again and again.
func (c *crowd) visit(node int) {
	client := quick(c.t)
	client.Timeout = 3 * time.Second // whoever gets no answer asks again
	for !c.stopped.Load() {
		began := time.Now() // before the choice: a session that is taken out meanwhile has to say nothing
		s, acknowledged := c.pick()
		req := call(c.t, http.MethodGet, c.h.nodes[node].url(appHost, "/members/x"), "", "Cookie", strings.TrimPrefix(s.line(), "Cookie: "))
		status := "error"
		if res, err := client.Do(req); err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if err == nil {
				status = fmt.Sprint(res.StatusCode)
			}
		}
		c.note(node, status, began, acknowledged)
		time.Sleep(15 * time.Millisecond) // the crowd is not a load test
	}
}

// pick chooses a session, and tells since when it is known to have ended.
func (c *crowd) pick() (*session, *stopwatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.ended); n > 0 && rand.IntN(2) == 0 {
		for s, since := range c.ended { // any: a map's order is random
			return s, &since
		}
	}
	return c.live[rand.IntN(len(c.live))], nil
}

func (c *crowd) note(node int, status string, began time.Time, acknowledged *stopwatch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := "live"
	if acknowledged != nil {
		who = "ended"
	}
	c.counts[fmt.Sprintf("node %d, %s: %s", node+1, who, status)]++
	switch {
	case acknowledged != nil && status == "200":
		after := began.Sub(acknowledged.began)
		c.latest[node] = max(c.latest[node], after)
		if acknowledged.over(after, c.bound[node]) {
			c.wrong = append(c.wrong, fmt.Sprintf("node %d let a session in %v after its sign-out was acknowledged", node+1, after))
		}
	case acknowledged == nil && status == "401" && began.After(c.changed) && node != c.lost:
		c.wrong = append(c.wrong, fmt.Sprintf("node %d does not know a session that nobody ended", node+1))
	}
}

// signOut ends n sessions at a node and returns how many of these sign-outs were acknowledged. What was not is unknown: such a
// session counts as neither.
func (c *crowd) signOut(node, n int) (acknowledged int) {
	client := quick(c.t)
	for range n {
		c.mu.Lock()
		if len(c.live) < 2 {
			c.mu.Unlock()
			c.t.Fatal("nobody is left to sign out")
		}
		s := c.live[0]
		c.live = c.live[1:]
		c.changed = time.Now()
		c.mu.Unlock()
		req := navigation(c.t, http.MethodPost, c.h.nodes[node].url(appHost, "/.anteroom/logout"), "", "Cookie", strings.TrimPrefix(s.line(), "Cookie: "))
		res, err := client.Do(req)
		if err != nil {
			continue
		}
		res.Body.Close()
		if res.StatusCode >= 400 {
			continue
		}
		acknowledged++
		c.mu.Lock()
		c.ended[s] = startWatch()
		c.mu.Unlock()
	}
	return acknowledged
}

// settle waits until every node lets a live session in again, and then asks each for every session of the ledger. The limit is
// for what comes back by itself on a machine that has time; see stopwatch.
func (c *crowd) settle(within time.Duration) {
	c.t.Helper()
	over := startWatch()
	c.mu.Lock()
	live, ended := slices.Clone(c.live), make([]*session, 0, len(c.ended))
	for s := range c.ended {
		ended = append(ended, s)
	}
	c.mu.Unlock()
	client := quick(c.t)
	for i, n := range c.h.nodes {
		for c.ask(client, n, live[0]) != 200 {
			if over.over(over.elapsed(), within) {
				c.t.Fatalf("node %d does not let a live session in %v after the fault was over: %d", i+1, over.elapsed(), c.ask(client, n, live[0]))
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	back := startWatch() // a second for what a node may still not have heard
	for i, n := range c.h.nodes {
		for _, s := range ended {
			got := 0
			for asked := time.Duration(0); got != 401 && !back.over(asked, time.Second); {
				asked = back.elapsed()
				got = c.ask(client, n, s)
			}
			if got != 401 {
				c.t.Errorf("after the fault node %d answers a session that signed out with %d", i+1, got)
			}
		}
		for _, s := range live {
			if got := c.ask(client, n, s); got != 200 {
				c.t.Errorf("after the fault node %d answers a live session with %d", i+1, got)
			}
		}
	}
	c.report(len(ended), len(live))
}

func (c *crowd) ask(client *http.Client, n *rig, s *session) int {
	res, err := client.Do(call(c.t, http.MethodGet, n.url(appHost, "/members/x"), "", "Cookie", strings.TrimPrefix(s.line(), "Cookie: ")))
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// report fails for what was wrong and logs what was measured.
func (c *crowd) report(ended, live int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.wrong[:min(len(c.wrong), 5)] {
		c.t.Error(w)
	}
	var lines []string
	for what, n := range c.counts {
		lines = append(lines, fmt.Sprintf("%s × %d", what, n))
	}
	slices.Sort(lines)
	c.t.Logf("%d signed out, %d live, %d wrong; longest time in after a sign-out, by node: %v\n%s", ended, live, len(c.wrong), c.latest, strings.Join(lines, "\n"))
}

// relay is a line between a node and Redis that can be cut.
type relay struct {
	listener net.Listener
	to       string

	mu    sync.Mutex // guards what follows
	cut   bool
	conns []net.Conn
}

func newRelay(t testing.TB, to string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, to: to}
	t.Cleanup(func() { listener.Close(); r.set(true) })
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(conn) // ends with the connection
		}
	}()
	return r
}

func (r *relay) serve(conn net.Conn) {
	defer conn.Close()
	if !r.keep(conn) {
		io.Copy(io.Discard, conn) // a line that is cut says nothing at all
		return
	}
	server, err := net.Dial("tcp", r.to)
	if err != nil || !r.keep(server) {
		return
	}
	defer server.Close()
	go func() { io.Copy(server, conn); server.Close() }()
	io.Copy(conn, server)
}

// keep remembers a connection, unless the line is cut.
func (r *relay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return false
	}
	r.conns = append(r.conns, conn)
	return true
}

// set cuts the line or mends it.
func (r *relay) set(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	if cut {
		for _, conn := range r.conns {
			conn.Close()
		}
		r.conns = nil
	}
}
