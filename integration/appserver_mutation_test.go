package integration

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// readersSite is a site whose application reads paths in its own way: open and closed parts side by side, one closed part inside an
// open one, and one part for each person.
const readersSite = `
$HOST:$PORT {
	tls $CERT $KEY
	anteroom {
		allow public / /public/**
		deny public /public/secret/**
		allow role admin /admin/**
		allow any /members/**
		allow role patient /patients/{user}/**
		$SWITCH
	}
	reverse_proxy $APP
}
`

// switchSites has a site for each exception that a site can make, and one for all of them.
var switchSites = []struct{ host, lines string }{
	{appHost, "# as it comes"},
	{thirdHost, "paths allow encoded_slash"},
	{hmacHost, "paths allow semicolon"},
	{"orthanc.test", "paths allow encoded_percent"},
	{wideHost, "paths allow trailing_dot"},
	{"localhost", "paths ignore_case"},
	{authHost, "paths allow encoded_slash semicolon encoded_percent trailing_dot"},
}

func readersConfig() string {
	var b strings.Builder
	b.WriteString("{" + strings.Replace(globals, "level DEBUG", "level ERROR", 1) + "\tanteroom {" + hospital + "\t}\n}\n")
	for _, site := range switchSites {
		b.WriteString(strings.NewReplacer("$HOST", site.host, "$SWITCH", site.lines).Replace(readersSite))
	}
	return b.String()
}

// probe is one target that is tried, by one person.
type probe struct {
	id     int
	target string
	who    *session
	status int
}

// TestMutatedPaths, CVE-2023-33189: of 10,000 mutated paths for each kind of application none reaches a handler that the policy
// denies, however the application reads it. Fewer are tried again with each exception.
func TestMutatedPaths(t *testing.T) {
	t.Parallel() // work for a processor, beside the tests that wait
	for name, startApp := range appServers {
		t.Run("CVE-2023-33189 "+name, func(t *testing.T) {
			app := startApp(t)
			r := newRig(t, readersConfig(), "APP", app.addr)
			for i, site := range switchSites {
				n := 1000
				if i == 0 {
					n = 10_000
				}
				t.Run(site.lines, func(t *testing.T) { r.mutate(t, app, site.host, site.lines, n) })
			}
			straight(t, app)
		})
	}
}

// mutate sends n targets as nobody and as a patient.
func (r *rig) mutate(t *testing.T, app *appServer, host, paths string, n int) {
	pat := r.person(t, host, "pat")
	m := newMutator(uint64(n), r.authority(host), paths)
	var probes []*probe
	for range n {
		target := clean(m.target())
		probes = append(probes, &probe{len(probes), target, nil, 0}, &probe{len(probes) + 1, target, pat, 0})
	}
	began := time.Now()
	volley(t, probes, r.authority(host), func() (net.Conn, error) {
		return tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.addr(), clientTLS(host, "http/1.1"))
	})
	statuses, handlers, seen := map[int]int{}, map[string]int{}, map[int]bool{}
	for _, p := range probes {
		statuses[p.status]++
	}
	for _, h := range app.hits(t) {
		p := probes[h.id]
		if seen[h.id] {
			t.Errorf("%q of %s arrived twice", p.target, name(p.who))
		}
		seen[h.id] = true
		handlers[h.handler]++
		for _, problem := range reached(p, h, r.authority(host), paths == "paths ignore_case") {
			t.Errorf("%s sends %q, answered %d: %s\n%+v", name(p.who), p.target, p.status, problem, h)
		}
	}
	t.Logf("%d targets in %s; answers %v, handlers %v", n, time.Since(began).Round(time.Millisecond), statuses, handlers)
	if len(seen) < n/20 || statuses[400] < n/10 || statuses[401] < n/20 || statuses[403] < n/20 || statuses[0] > n/100 || statuses[503] > 0 {
		t.Errorf("the test sees too little: answers %v, handlers %v", statuses, handlers)
	}
}

// reached says what is wrong with a request that reached an application.
func reached(p *probe, h hit, authority string, anyCase bool) (problems []string) {
	if sent := strings.TrimPrefix(strings.TrimPrefix(p.target, "https://"), authority); h.target != p.target && (h.target != sent || sent == p.target) {
		problems = append(problems, fmt.Sprintf("it arrived as %q", h.target))
	}
	if p.who == nil && h.person != "" || p.who != nil && h.person != p.who.user {
		problems = append(problems, fmt.Sprintf("it arrived as one of %q", h.person))
	}
	if script, php := strings.CutSuffix(h.handler, "/index.php"); php {
		h.handler = handlerOf(script)
	}
	if h.handler != "patients" && !opens(p.who, h.handler) {
		problems = append(problems, "the application sent it to "+h.handler)
	}
	for _, read := range h.reads {
		for _, text := range []string{read, strings.ToLower(read)} {
			if handler := handlerOf(text); !opens(p.who, handler) && !(anyCase && text != strings.ToLower(text)) {
				problems = append(problems, fmt.Sprintf("read as %q it is for %s", read, handler))
			}
		}
	}
	return problems
}

// handlerOf is where a reading of a path leads: the names of readersSite's parts.
func handlerOf(path string) string {
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	segments = slices.DeleteFunc(segments, func(s string) bool { return s == "." })
	if len(segments) == 0 || strings.HasPrefix(segments[0], "index.php") {
		return "root"
	}
	next := ""
	if len(segments) > 1 {
		next = segments[1]
	}
	switch first := segments[0]; {
	case first == "public" && next == "secret":
		return "secret"
	case first == "patients":
		return "patients of " + next
	case first == "public" || first == "admin" || first == "members":
		return first
	}
	return "another"
}

// opens is the policy of readersSite.
func opens(who *session, handler string) bool {
	switch handler {
	case "root", "public":
		return true
	case "members":
		return who != nil
	}
	return who != nil && handler == "patients of "+who.user
}

// volley sends all probes over a few connections that stay open.
func volley(t *testing.T, probes []*probe, authority string, dial func() (net.Conn, error)) {
	t.Helper()
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := &keptConn{dial: dial}
			defer c.close()
			for i := next.Add(1) - 1; int(i) < len(probes); i = next.Add(1) - 1 {
				p := probes[i]
				extra := []string{fmt.Sprintf("X-Attack: %d", p.id)}
				if p.who != nil {
					extra = append(extra, p.who.line())
				}
				var err error
				if p.status, err = c.ask(get(p.target, authority, extra...)); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); int(n) > len(probes)/100 {
		t.Errorf("%d of %d requests were not answered", n, len(probes))
	}
}

// keptConn is a connection that is opened again when the peer ended it.
type keptConn struct {
	dial   func() (net.Conn, error)
	conn   net.Conn
	reader *bufio.Reader
}

func (c *keptConn) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask sends one request and returns the status of its answer.
func (c *keptConn) ask(payload string) (int, error) {
	for try := 0; ; try++ {
		fresh := c.conn == nil
		if fresh {
			conn, err := c.dial()
			if err != nil {
				return 0, err
			}
			c.conn, c.reader = conn, bufio.NewReader(conn)
		}
		c.conn.SetDeadline(time.Now().Add(patience))
		status, err := c.exchange(payload)
		if err == nil || fresh || try > 0 {
			return status, err
		}
	}
}

func (c *keptConn) exchange(payload string) (int, error) {
	if _, err := io.WriteString(c.conn, payload); err != nil {
		c.close()
		return 0, err
	}
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.close()
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err != nil || res.Close {
		c.close()
	}
	return res.StatusCode, err
}

// straight sends the same kind of targets past us: the application reaches its closed handlers by paths that do not look like them.
// Were it not so, the test above would show nothing.
func straight(t *testing.T, app *appServer) {
	t.Helper()
	m := newMutator(1, app.addr, "")
	var probes []*probe
	for i := range 4000 {
		probes = append(probes, &probe{id: i, target: clean(m.target())})
	}
	volley(t, probes, app.addr, func() (net.Conn, error) { return net.DialTimeout("tcp", app.addr, patience) })
	odd := map[string]int{}
	for _, h := range app.hits(t) {
		for _, read := range append(h.reads, h.handler) {
			handler := handlerOf(read)
			if spelled, _, _ := strings.Cut(probes[h.id].target, "?"); !opens(nil, handler) && handler != "another" && handler != handlerOf(spelled) {
				odd[strings.Split(handler, " ")[0]]++
				break
			}
		}
	}
	t.Logf("past us: %v", odd)
	if odd["admin"] < 20 || odd["secret"] < 5 {
		t.Errorf("the application has one reading of a path only: %v", odd)
	}
}
