package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

const (
	crowd    = 40                     // people who sign in and out, again and again
	shift    = 25                     // of them at a time: their sessions are too young to be renewed while they are measured
	atOnce   = 4                      // browsers that sign in beside each other
	step     = time.Millisecond       // between two questions of a probe
	patience = 10 * time.Second       // with a node that goes on letting a session in
	target   = 100 * time.Millisecond // for 99 of 100 sign-outs, at every node
)

// member is the name of somebody of the crowd, and the password.
func member(i int) string { return fmt.Sprintf("member%02d", i) }

// nodes are three processes that share a Redis, a master key and a provider. A browser sends the cookies of localhost to all of
// them, as it would through a load balancer.
type nodes struct {
	*rig
	probes []*probe
}

// propagation measures n sign-outs and prints how soon each node knew.
func propagation(binary string, n int) error {
	if err := redistest.Missing(); err != nil {
		return err
	}
	outside, end := redistest.Outside()
	defer end()
	redis := redistest.Standalone(outside)
	r, err := prepare("node1", "node2", "node3")
	if err != nil {
		return err
	}
	defer r.close()
	all := &nodes{rig: r}
	for i, s := range r.servers {
		dir := filepath.Join(r.dir, s.name)
		if i > 0 {
			if err := copyMasterKey(filepath.Join(r.dir, r.servers[0].name), dir); err != nil {
				return err
			}
		}
		if err := r.run(s, binary, fmt.Sprintf("\t\tdirectory %s\n\t\tstore redis %s\n", dir, redis.URL())); err != nil {
			return fmt.Errorf("starting %s: %w", s.name, err)
		}
		p := newProbe(r, s)
		if err := p.untilReady(); err != nil {
			return fmt.Errorf("starting %s: %w; it says %s", s.name, err, s.says())
		}
		all.probes = append(all.probes, p)
	}
	took := make([][]time.Duration, len(all.probes))
	for done := 0; done < n; {
		cookies, err := all.signInShift(done, min(shift, n-done))
		if err != nil {
			return err
		}
		for _, cookie := range cookies {
			each, err := all.signOut(cookie)
			if err != nil {
				return fmt.Errorf("sign-out %d: %w; node3 says %s", done+1, err, r.servers[2].says())
			}
			for i, d := range each {
				took[i] = append(took[i], d)
			}
			done++
		}
	}
	reportPropagation(r.servers, took)
	return nil
}

// copyMasterKey does what an operator does for the second node.
func copyMasterKey(from, to string) error {
	key, err := os.ReadFile(filepath.Join(from, "master.key"))
	if err != nil {
		return fmt.Errorf("copying the master key: %w", err)
	}
	return errors.Join(os.MkdirAll(to, 0o700), os.WriteFile(filepath.Join(to, "master.key"), key, 0o600))
}

// signInShift signs people in at all nodes. They sit at many addresses, since one address may begin only so many sign-ins.
func (n *nodes) signInShift(first, count int) ([]string, error) {
	cookies, errs := make([]string, count), make([]error, atOnce)
	var browsers sync.WaitGroup
	for b := range atOnce {
		browsers.Go(func() {
			for i := b; i < count && errs[b] == nil; i += atOnce {
				k := first + i
				at := net.IPv4(127, 0, byte(k/200%200+1), byte(k%200+1))
				cookies[i], errs[b] = n.signIn(n.servers[k%len(n.servers)].url, member(k%crowd), at)
			}
		})
	}
	browsers.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("signing in: %w", err)
	}
	return cookies, nil
}

// signOut ends a session at the last node and returns, by node, how long after the answer its refusal came. All nodes have let the
// session in before and are being asked already when the person signs out, so that no probe has to be started first.
func (n *nodes) signOut(cookie string) ([]time.Duration, error) {
	for i, p := range n.probes {
		if err := p.want(http.StatusOK, "/records/17", cookie); err != nil {
			return nil, fmt.Errorf("a live session at node %d: %w", i+1, err)
		}
	}
	refused, errs := make([]time.Time, len(n.probes)), make([]error, len(n.probes))
	var asking sync.WaitGroup
	for i, p := range n.probes {
		asking.Go(func() { refused[i], errs[i] = p.untilRefused(cookie) })
	}
	status, err := newProbe(n.rig, n.servers[len(n.servers)-1]).ask(http.MethodPost, "/.anteroom/logout", cookie)
	answered := time.Now()
	asking.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if status >= 400 {
		return nil, fmt.Errorf("it is answered %d", status)
	}
	took := make([]time.Duration, len(n.probes))
	for i, p := range n.probes {
		took[i] = max(0, refused[i].Sub(answered)) // before the answer: at once
		if err := p.want(http.StatusUnauthorized, "/records/17", cookie); err != nil {
			return nil, fmt.Errorf("a session that node %d has refused once: %w", i+1, err)
		}
	}
	return took, nil
}

// probe asks one node over a connection that stays open.
type probe struct {
	url    string
	client *http.Client
}

func newProbe(r *rig, s *server) *probe {
	return &probe{s.url, &http.Client{
		Transport:     &http.Transport{TLSClientConfig: r.tls(), MaxIdleConnsPerHost: 1},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       5 * time.Second,
	}}
}

// ask sends one request with copied cookies, as a script of the page does.
func (p *probe) ask(method, path, cookie string) (int, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, p.url+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Cookie", cookie)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	if method == http.MethodPost {
		req.Header.Set("Origin", p.url)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body) // to the end, or the connection would not be used again
	return res.StatusCode, err
}

// want asks and is an error unless the answer has that status.
func (p *probe) want(status int, path, cookie string) error {
	got, err := p.ask(http.MethodGet, path, cookie)
	if err == nil && got != status {
		err = fmt.Errorf("%s%s is answered %d, want %d", p.url, path, got, status)
	}
	return err
}

// untilReady waits for the gate, which Caddy builds a moment after the listener.
func (p *probe) untilReady() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * step) {
		err := p.want(http.StatusOK, "/.anteroom/jwks.json", "")
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// untilRefused returns when the first refusal arrived.
func (p *probe) untilRefused(cookie string) (time.Time, error) {
	for deadline := time.Now().Add(patience); ; {
		began := time.Now()
		status, err := p.ask(http.MethodGet, "/records/17", cookie)
		now := time.Now()
		switch {
		case err != nil:
			return now, err
		case status == http.StatusUnauthorized:
			return now, nil
		case status != http.StatusOK:
			return now, fmt.Errorf("%s answers %d", p.url, status)
		case now.After(deadline):
			return now, fmt.Errorf("%s still lets the session in", p.url)
		}
		time.Sleep(step - now.Sub(began))
	}
}

func reportPropagation(servers []*server, took [][]time.Duration) {
	fmt.Printf("\n%-36s %10s %10s %10s\n", "sign-out at node3, refused by", "p50", "p99", "max")
	verdict := "met"
	for i, s := range servers {
		sorted := slices.Sorted(slices.Values(took[i]))
		p99 := percentile(sorted, 99)
		if p99 > target {
			verdict = "missed"
		}
		fmt.Printf("%-36s %10s %10s %10s\n", s.name, rounded(percentile(sorted, 50)), rounded(p99), rounded(sorted[len(sorted)-1]))
	}
	fmt.Printf("%d sign-outs, three processes, one Redis that syncs every write, asked each millisecond\n", len(took[0]))
	fmt.Printf("target: p99 ≤ %v at every node: %s\n", target, verdict)
}

// percentile is the smallest value that at least p of 100 values do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

func rounded(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
