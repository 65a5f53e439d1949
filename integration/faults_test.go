package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// What breaks, and what must hold all the same. The figures in FAULTS.md are what these tests log.

func TestFaultNodesKilled(t *testing.T) {
	h := newHall(t, 3, redistest.Standalone(t), hallConfig)
	c := newCrowd(t, h, 16)
	for i := range h.nodes {
		if got := c.signOut((i+1)%3, 1); got != 1 {
			t.Errorf("the sign-out at node %d was not acknowledged", (i+1)%3+1)
		}
		h.nodes[i].proc.kill()
		if got := c.signOut((i+1)%3, 2); got != 2 { // while a node is down
			t.Errorf("%d of 2 sign-outs were acknowledged while node %d was down", got, i+1)
		}
		h.start(t, i)
	}
	c.settle(10 * time.Second)
}

// A node that is killed the moment it acknowledged a sign-out has said it to Redis.
func TestFaultNodeKilledAfterAcknowledging(t *testing.T) {
	h := newHall(t, 2, redistest.Standalone(t), hallConfig)
	c := newCrowd(t, h, 8)
	for range 3 {
		c.signOut(0, 1)
		h.nodes[0].proc.kill()
		h.start(t, 0)
	}
	c.settle(10 * time.Second)
}

func TestFaultRedisRestarted(t *testing.T) {
	server := redistest.Standalone(t)
	h := newHall(t, 3, server, hallConfig)
	c := newCrowd(t, h, 16)
	c.bound = []time.Duration{10 * time.Second, 10 * time.Second, 10 * time.Second} // who has not heard before Redis goes hears when it is back
	for range 2 {
		c.signOut(1, 2)
		server.Kill()
		c.signOut(2, 1) // not acknowledged, or true
		server.Start()
		c.signOut(0, 1)
	}
	c.settle(10 * time.Second)
}

func TestFaultSentinelFailover(t *testing.T) {
	server := redistest.Sentinel(t)
	h := newHall(t, 3, server, hallConfig)
	c := newCrowd(t, h, 16)
	c.signOut(0, 2)
	server.KillMaster()
	acknowledged := c.signOut(1, 4) // some before, some after the replica took over
	t.Logf("%d of 4 sign-outs were acknowledged during the failover", acknowledged)
	c.settle(30 * time.Second)
	if got := c.signOut(2, 1); got != 1 {
		t.Error("after the failover a sign-out was not acknowledged")
	}
	c.settle(5 * time.Second)
}

func TestFaultClusterMasterLost(t *testing.T) {
	server := redistest.Cluster(t)
	h := newHall(t, 3, server, hallConfig)
	c := newCrowd(t, h, 16)
	c.signOut(0, 2)
	server.KillMaster(0)
	acknowledged := c.signOut(1, 2)
	t.Logf("%d of 2 sign-outs were acknowledged while a master was lost", acknowledged)
	server.Start()
	c.settle(40 * time.Second)
	if got := c.signOut(2, 1); got != 1 {
		t.Error("afterwards a sign-out was not acknowledged")
	}
	c.settle(5 * time.Second)
}

// frozenConfig: care must go on at one site, the other denies.
var frozenConfig = strings.Replace(hallConfig, "\t\tdeny role doctor /secret/**", "\t\tdeny role doctor /secret/**\n\t\ton_store_loss running_sessions 10m", 1)

// Redis is frozen for a minute. After 30 s nobody gets in at a site that denies; where running sessions go on, those that the
// node knew do and all others do not, nobody new signs in, and each such request is marked in the audit log.
func TestFaultRedisFrozen(t *testing.T) {
	t.Parallel() // a minute of waiting
	server := redistest.Standalone(t)
	h := newHall(t, 2, server, frozenConfig)
	r := h.nodes[0]
	dana, unseen := r.person(t, wideHost, "dana"), h.nodes[1].person(t, wideHost, "dana")
	if got := r.status(t, wideHost, "/x", dana); got != 200 {
		t.Fatalf("before the fault: %d", got)
	}
	c := newCrowd(t, h, 6)
	c.signOut(0, 1)
	r.hear(t) // after dana was seen
	server.Freeze()
	frozen := time.Now()
	if got := c.signOut(0, 1); got != 0 {
		t.Error("a sign-out was acknowledged that nobody has written down")
	}
	time.Sleep(time.Until(frozen.Add(33 * time.Second)))
	served := 0
	for time.Since(frozen) < 60*time.Second {
		served++
		if got := r.status(t, appHost, "/members/x", c.live[0]); got != 503 {
			t.Errorf("%v after Redis froze the site that denies answers %d", time.Since(frozen).Round(time.Second), got)
		}
		if got := r.status(t, wideHost, "/x", dana); got != 200 {
			t.Errorf("%v after Redis froze a running session is answered %d where care must go on", time.Since(frozen).Round(time.Second), got)
		}
		if got := r.status(t, wideHost, "/x", unseen); got != 503 {
			t.Errorf("%v after Redis froze a session that this node never saw is answered %d", time.Since(frozen).Round(time.Second), got)
		}
		if got := r.status(t, wideHost, "/secret/x", dana); got != 403 {
			t.Errorf("%v after Redis froze a denied path is answered %d", time.Since(frozen).Round(time.Second), got)
		}
		time.Sleep(3 * time.Second)
	}
	// Nobody is sent to the provider to type a password in vain.
	if p := newBrowser(t).do(t, call(t, "GET", r.url(wideHost, "/.anteroom/login"), "")); p.Status != 503 {
		t.Errorf("a sign-in begins while the store is silent: %d at %s", p.Status, p.URL)
	}
	server.Thaw()
	c.settle(15 * time.Second)
	marked := 0
	for _, e := range r.audit(t) {
		if e.str("degraded") == "store-loss" {
			if e.str("site") != wideHost || e.str("name") != "dana" {
				t.Errorf("marked as served without the store: %v", e)
			}
			marked++
		}
	}
	if marked < served {
		t.Errorf("%d of %d requests are marked in the audit log as served while the store was silent", marked, served)
	}
}

// A node that is cut off hears of no revocation. It refuses everybody after 30 s, and knows all of them when it is back.
func TestFaultNodeCutOff(t *testing.T) {
	t.Parallel() // most of a minute of waiting
	server := redistest.Standalone(t)
	h := prepareHall(t, 3, server, hallConfig)
	line := newRelay(t, server.Addresses[0])
	lone := h.nodes[2]
	lone.names["$REDIS"] = "redis://" + line.listener.Addr().String()
	lone.configure(t, hallConfig)
	for i := range h.nodes {
		h.start(t, i)
	}
	c := newCrowd(t, h, 10)
	c.bound[2] = 36 * time.Second // 30 s, and the time of a call that was under way
	line.set(true)
	cut := startWatch()
	if got := c.signOut(0, 3); got != 3 {
		t.Errorf("%d of 3 sign-outs were acknowledged", got)
	}
	for lone.status(t, appHost, "/members/x", c.live[0]) != 503 {
		if cut.over(cut.elapsed(), 40*time.Second) {
			t.Fatal("the node that is cut off goes on letting people in")
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Logf("the node that was cut off refuses everybody after %v", cut.elapsed().Round(100*time.Millisecond))
	c.signOut(1, 1)
	line.set(false)
	c.settle(15 * time.Second)
}

// The clock of one node jumps by ten minutes. It cannot tell that it is the one that is wrong, but it sees that its clock and
// Redis' do not agree: it lets nobody in until they do, and the others go on.
func TestFaultClockMoved(t *testing.T) {
	shifted := shiftedBinary(t)
	for name, offset := range map[string]time.Duration{"ahead": 10 * time.Minute, "behind": -10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			h := prepareHall(t, 3, redistest.Standalone(t), hallConfig)
			lone := h.nodes[2]
			lone.binary, lone.clock = shifted, filepath.Join(lone.dir, "clock")
			shift := func(by time.Duration) { // replaced whole: the program reads it at any time
				write(t, lone.clock+".new", by.String())
				if err := os.Rename(lone.clock+".new", lone.clock); err != nil {
					t.Fatal(err)
				}
			}
			shift(0)
			for i := range h.nodes {
				h.start(t, i)
			}
			c := newCrowd(t, h, 9)
			c.signOut(0, 1)
			c.distrust(2) // until it has compared the clocks, within a second
			shift(offset)
			moved := startWatch()
			for h.nodes[2].status(t, appHost, "/members/x", c.live[0]) != 503 {
				if moved.over(moved.elapsed(), 10*time.Second) {
					t.Fatal("a node whose clock is ten minutes off goes on letting people in")
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Logf("the node refuses everybody %v after its clock moved", moved.elapsed().Round(time.Millisecond))
			if got := c.signOut(1, 2); got != 2 {
				t.Errorf("%d of 2 sign-outs were acknowledged at a node whose clock is right", got)
			}
			if got := c.signOut(2, 1); got != 0 { // whoever is not let in cannot sign out either, and is told so
				t.Logf("%d sign-outs were acknowledged at the node whose clock is wrong", got)
			}
			shift(0)
			c.settle(15 * time.Second)
		})
	}
}

// A new configuration each second, for a minute, with streams open and people working.
func TestFaultReloads(t *testing.T) {
	t.Parallel() // a minute
	server := redistest.Standalone(t)
	h := newHall(t, 2, server, hallConfig)
	r := h.nodes[0]
	r.dump.respond(t, streams)
	c := newCrowd(t, h, 12)
	watcher := r.person(t, appHost, "dana")
	events := []string{"Accept: text/event-stream"}
	stream := r.open(t, "/members/sse", watcher, events, "200 OK")
	began, reloads := time.Now(), 0
	for time.Since(began) < time.Minute {
		reloads++
		text := strings.Replace(hallConfig, "app.test:$PORT {", fmt.Sprintf("app.test:$PORT {\n\theader X-Config %d", reloads), 1)
		r.configure(t, text)
		if res := output(t, r.env(), binary(t, "anteroom"), "reload", "--config", r.dir+"/Caddyfile", "--adapter", "caddyfile", "--address", "unix/"+r.dir+"/admin.sock"); res.code != 0 {
			t.Fatalf("reload %d: %s", reloads, res.stderr)
		}
		if reloads%10 == 0 {
			if got := c.signOut(0, 1); got != 1 {
				t.Error("a sign-out was not acknowledged during reloads")
			}
		}
		time.Sleep(time.Until(began.Add(time.Duration(reloads) * time.Second)))
	}
	stream.SetReadDeadline(time.Now().Add(patience))
	if _, err := stream.Read(make([]byte, 1)); err != nil {
		t.Logf("the stream that was open before the reloads has ended: %v", err)
	}
	// A stream of a config that was replaced long ago ends with its session all the same.
	again := r.open(t, "/members/sse", watcher, events, "200 OK")
	h.nodes[1].signOut(t, appHost, watcher)
	again.SetReadDeadline(time.Now().Add(patience))
	stream.SetReadDeadline(time.Now().Add(patience))
	for _, conn := range []io.Reader{stream, again} {
		if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error("a stream outlives its session")
		}
	}
	c.settle(10 * time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range c.counts {
		if strings.HasSuffix(what, "live: "+fmt.Sprint(http.StatusServiceUnavailable)) && strings.HasPrefix(what, "node 1") {
			t.Errorf("during %d reloads %d requests were answered 503", reloads, n)
		}
	}
}

// The embedded store cannot grow (a limit on the size of files stands for a full disk). Who is signed in works on, nobody new is,
// what was acknowledged stays, and when there is room everything goes on.
func TestFaultDiskFull(t *testing.T) {
	r := prepare(t, strings.Replace(standard, "\tanteroom {", "\tanteroom {\n\t\taudit off", 1))
	r.limitKiB = 256
	r.run(t)
	c := newCrowd(t, &hall{nodes: []*rig{r}}, 8)
	c.signOut(0, 2)
	full := false
	for range 150 { // a sign-in writes a record, a place in a list and a used-up attempt
		b := newBrowser(t)
		r.op.ready(t)
		if p := b.signIn(t, r.url(appHost, "/.anteroom/login?return_to=/members/x"), "dana", "dana-pw"); p.Status >= 500 {
			full = true
			break
		}
	}
	if !full {
		t.Fatal("the store never got full")
	}
	acknowledged := 0
	for range 3 {
		acknowledged += c.signOut(0, 1)
	}
	t.Logf("the disk is full: %d of 3 sign-outs were acknowledged", acknowledged)
	if got := r.status(t, appHost, "/members/x", c.live[0]); got != 200 {
		t.Errorf("with a full disk a running session is answered %d", got)
	}
	r.proc.kill()
	r.limitKiB = 0
	r.run(t)
	if got := c.signOut(0, 1); got != 1 {
		t.Error("with room on the disk a sign-out was not acknowledged")
	}
	c.settle(5 * time.Second)
}
