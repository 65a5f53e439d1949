package integration

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// A reload with other lifetimes starts a second manager of sessions beside the first, which goes on for as long as the requests
// of its config: both hear each sign-out, here and at the other node, and nobody else is signed out.
func TestReloadWithOtherLifetimes(t *testing.T) {
	h := newHall(t, 2, redistest.Standalone(t), hallConfig)
	r := h.nodes[0]
	r.dump.respond(t, streams)
	c := newCrowd(t, h, 16)
	watchers, streams := []*session{}, []io.Reader{}
	for i := range 8 {
		who := r.person(t, appHost, "dana")
		conn := r.open(t, "/members/sse", who, []string{"Accept: text/event-stream"}, "200 OK")
		conn.SetReadDeadline(time.Now().Add(5 * time.Minute))
		watchers, streams = append(watchers, who), append(streams, conn)
		r.configure(t, strings.Replace(hallConfig, "\tanteroom {", fmt.Sprintf("\tanteroom {\n\t\tsession {\n\t\t\tidle %dm\n\t\t}", 20+i), 1))
		if res := output(t, r.env(), binary(t, "anteroom"), "reload", "--config", r.dir+"/Caddyfile", "--adapter", "caddyfile", "--address", r.adminSocket()); res.code != 0 {
			t.Fatalf("reload %d: %s", i, res.stderr)
		}
		if got := c.signOut(i%2, 1); got != 1 {
			t.Error("a sign-out was not acknowledged")
		}
	}
	// Each stream is held by another config, and each of their managers hears that its session ends.
	for i, who := range watchers {
		h.nodes[i%2].signOut(t, appHost, who)
		ended := startWatch()
		if _, err := io.Copy(io.Discard, streams[i]); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("the stream of reload %d outlives its session", i)
		} else if d := ended.elapsed(); ended.over(d, time.Second) {
			t.Errorf("the stream of reload %d ends %v after its session", i, d)
		}
	}
	c.settle(10 * time.Second)
}

// Row 165: a signing key is killed and sessions are ended; all nodes go down, and somebody restores the copy of Redis from
// before. Neither the key nor any session comes back.
func TestKilledKeyInARestoredRedis(t *testing.T) {
	server := redistest.Standalone(t)
	h := newHall(t, 2, server, hallConfig)
	first := h.nodes[0].person(t, appHost, "dana")
	h.nodes[1].signOut(t, appHost, first)
	old := h.nodes[0].person(t, appHost, "dana")
	ended := h.nodes[0].person(t, appHost, "dana")
	header, _, _ := strings.Cut(old.token, ".")
	kid := kidOf(t, header)

	_, data, _ := strings.Cut(server.Do("CONFIG", "GET", "dir"), "\n")
	data = strings.TrimSpace(data)
	server.Stop()
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	server.Start()
	for i := range h.nodes {
		if got := answers(t, h.nodes[i], old, 200); got != 200 {
			t.Fatalf("before: %d", got)
		}
	}
	h.nodes[1].signOut(t, appHost, ended)
	if res := output(t, h.nodes[0].env(), binary(t, "anteroom"), "keys", "kill", kid, "--address", h.nodes[0].adminSocket()); res.code != 0 {
		t.Fatalf("keys kill: %s", res.stderr)
	}
	client, killed := quick(t), startWatch()
	for i, n := range h.nodes {
		got := 0
		for asked := time.Duration(0); got != 401 && !killed.over(asked, 2*time.Second); time.Sleep(5 * time.Millisecond) {
			asked = killed.elapsed()
			got = n.asked(t, client, old)
		}
		if got != 401 {
			t.Errorf("node %d answers a session of a killed key with %d", i+1, got)
		}
	}
	for _, n := range h.nodes {
		n.hear(t) // what it heard it says when it ends
		n.proc.stop(t)
	}
	server.Stop()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(data, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	server.Start()
	for i, n := range h.nodes {
		h.start(t, i)
		for what, who := range map[string]*session{"of a killed key": old, "that signed out": ended} {
			if got := n.status(t, appHost, "/members/x", who); got != 401 {
				t.Errorf("with the restored Redis node %d answers a session %s with %d", i+1, what, got)
			}
		}
		if res := output(t, n.env(), binary(t, "anteroom"), "keys", "list", "--json", "--address", n.adminSocket()); res.code != 0 || !strings.Contains(res.stdout, "kid") || strings.Contains(res.stdout, kid) {
			t.Errorf("node %d takes the killed key again: %s", i+1, res.stdout+res.stderr)
		}
	}
	fresh := h.nodes[1].person(t, appHost, "dana")
	for i, n := range h.nodes {
		if got := answers(t, n, fresh, 200); got != 200 {
			t.Errorf("node %d answers a new session with %d", i+1, got)
		}
	}
}

// asked is the status of one answer, 0 when there is none: a request on its way is cut when its session ends.
func (r *rig) asked(t testing.TB, client *http.Client, who *session) int {
	res, err := client.Do(call(t, http.MethodGet, r.url(appHost, "/members/x"), "", "Cookie", strings.TrimPrefix(who.line(), "Cookie: ")))
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}
