package integration

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestReload reloads through the admin socket while people work: nobody is signed out or sees an error, streams go on, a changed
// policy holds at once, and a configuration that is refused changes nothing.
func TestReload(t *testing.T) {
	const reloads = 15
	config := strings.Replace(standard, "admin off", "admin unix/$DIR/admin.sock|0600\n\tgrace_period 5s", 1)
	config = strings.ReplaceAll(config, "reverse_proxy $DUMP", "reverse_proxy $DUMP {\n\t\tstream_close_delay 1m\n\t}")
	r := newRig(t, config)
	r.dump.respond(t, streams)
	dana := r.person(t, appHost, "dana")
	stream := r.open(t, "/members/ws", dana, []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Version: 13", "Origin: " + r.url(appHost, "")}, "101 Switching Protocols")

	var stop atomic.Bool
	var served, wrong atomic.Int64
	var example atomic.Value // one of the wrong answers
	var workers sync.WaitGroup
	b := newBrowser(t)
	for range 4 {
		workers.Go(func() {
			for !stop.Load() {
				req := call(t, "GET", r.url(appHost, "/members/x"), "")
				req.Header.Set("Cookie", strings.TrimPrefix(dana.line(), "Cookie: "))
				res, err := b.client.Do(req)
				if err != nil {
					continue // a connection that the old configuration closed; a browser tries again
				}
				body, _ := io.ReadAll(res.Body) // cut off is as good as an error above
				res.Body.Close()
				served.Add(1)
				if res.StatusCode != http.StatusOK {
					wrong.Add(1)
					example.Store(res.Status + " " + string(body))
				}
			}
		})
	}
	reload := func(caddyfile string) result {
		r.configure(t, caddyfile)
		return output(t, r.env(), binary(t, "anteroom"), "reload", "--config", filepath.Join(r.dir, "Caddyfile"), "--adapter", "caddyfile",
			"--address", "unix/"+filepath.Join(r.dir, "admin.sock"), "--force")
	}
	for range reloads {
		if res := reload(config); res.code != 0 {
			t.Fatalf("reloading: %s", res.stderr)
		}
	}
	stop.Store(true)
	workers.Wait()
	if wrong.Load() > 0 || served.Load() < reloads {
		t.Errorf("%d of %d answers during %d reloads were no 200, for example %v", wrong.Load(), served.Load(), reloads, example.Load())
	}
	stream.SetReadDeadline(time.Now().Add(patience))
	if _, err := stream.Read(make([]byte, 1000)); err != nil {
		t.Errorf("a stream did not survive the reloads: %v", err)
	}

	if res := reload(strings.Replace(config, "reverse_proxy $DUMP", "rewrite * /x\n\treverse_proxy $DUMP", 1)); res.code == 0 {
		t.Error("a configuration that opens a way round was taken")
	}
	if status := r.status(t, appHost, "/members/x", dana); status != http.StatusOK {
		t.Errorf("after a refused reload: %d", status)
	}
	if res := reload(strings.Replace(config, "allow any /members/**", "deny any /members/**", 1)); res.code != 0 {
		t.Fatalf("reloading: %s", res.stderr)
	}
	if status := r.status(t, appHost, "/members/x", dana); status != http.StatusForbidden {
		t.Errorf("after the policy changed: %d", status)
	}
	r.signOut(t, appHost, dana)
	stream.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, stream); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Error("a stream of an old configuration outlives the sign-out")
	}
	r.chain(t)
}
