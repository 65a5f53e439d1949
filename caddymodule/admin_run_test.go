package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2"
)

// withAdmin is a config whose admin interface listens there.
func withAdmin(t *testing.T, config []byte, listen string) []byte {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg["admin"] = map[string]any{"listen": listen, "config": map[string]any{"persist": false}}
	out, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// newAdminRig is a rig whose tests use the admin interface. Stop leaves its listener; a config without one ends it.
func newAdminRig(t *testing.T) rig {
	t.Helper()
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "app") })
	t.Cleanup(func() {
		quiet := `{"admin":{"disabled":true,"config":{"persist":false}},"logging":{"logs":{"default":{"writer":{"output":"discard"}}}}}`
		if err := caddy.Load([]byte(quiet), true); err != nil {
			t.Error(err)
		}
	})
	return r
}

// adminSocket is the address of a unix socket in the rig's folder.
func (r rig) adminSocket() string { return "unix/" + filepath.Join(r.dir, "admin.sock") }

// freeAddress is a port on that address which is free. It lies below the range that the system chooses from, so that no server of
// another test gets it, and the abstract unix socket of its name keeps it from tests of other packages until this one ends.
func freeAddress(t *testing.T, ip string) string {
	t.Helper()
	for range 200 {
		port := 20000 + rand.IntN(12000)
		mine, err := net.Listen("unix", fmt.Sprintf("@anteroom-test-port-%d", port))
		if err != nil {
			continue
		}
		t.Cleanup(func() { mine.Close() })
		address := fmt.Sprintf("%s:%d", ip, port)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port on " + ip)
	return ""
}

// adminClient keeps its connections, as a monitor does.
func adminClient(t *testing.T, listen string) *http.Client {
	network, address, found := strings.Cut(listen, "/")
	if !found {
		network, address = "tcp", listen
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// askAdmin sends one request; a body makes it a POST of JSON.
func askAdmin(t *testing.T, c *http.Client, host, path, body string, header ...string) (*http.Response, string) {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(answer)
}

// TestRowS17AdminOverTheWire: the routes answer on this host, over a socket and over loopback, to programs; to a page of
// another origin, another address or the public site they do not.
func TestRowS17AdminOverTheWire(t *testing.T) {
	r := newAdminRig(t)
	for _, listen := range []string{r.adminSocket(), freeAddress(t, "127.0.0.1")} {
		load(t, withAdmin(t, r.config(0), listen))
		c, host := adminClient(t, listen), "127.0.0.1"
		if !strings.Contains(listen, "/") {
			host = listen
		}
		for _, q := range []struct {
			path, body string
			header     []string
			status     int
			kind       string
		}{
			{"/anteroom/sessions", "", nil, 200, ""},
			{"/anteroom/keys", "", nil, 200, ""},
			{"/anteroom/health", "", nil, 200, ""},
			{"/anteroom/sessions/end", `{"id":"x"}`, nil, 404, "not-found"},
			{"/anteroom/sessions/end", `{"id":"` + strings.Repeat("x", adminBody) + `"}`, nil, 400, "bad-request"},
			{"/anteroom/sessions/end", "", nil, 405, "method"},
			{"/anteroom/sessions", "{}", nil, 405, "method"},
			{"/anteroom/health", "{}", nil, 405, "method"},
			{"/anteroom/", "", nil, 404, "not-found"},
			{"/anteroom/sessions/", "", nil, 404, "not-found"},
			{"/anteroom/sessions/end", `{"id":"x"}`, []string{"Content-Type", "text/plain"}, 415, "content-type"},
			{"/anteroom/keys/rotate", `{}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "content-type"},
			{"/anteroom/keys/rotate", `{}`, []string{"Via", "1.1 proxy"}, 403, "not-local"},
			{"/anteroom/keys/rotate", `{}`, []string{"Referer", "https://evil.example/"}, 403, "cross-origin"},
			{"/anteroom/keys/rotate", `{}`, []string{"Origin", "https://evil.example"}, 403, ""}, // over TCP Caddy is first
			{"/anteroom/sessions", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		} {
			res, body := askAdmin(t, c, host, q.path, q.body, q.header...)
			problem := res.Header.Get("Content-Type") == "application/problem+json"
			if res.StatusCode != q.status || q.kind != "" && (!problem || !strings.Contains(body, `"urn:anteroom:problem:`+q.kind+`"`)) {
				t.Errorf("%s %s %v over %s: %d %s %s, want %d %s", q.path, q.body, q.header, listen, res.StatusCode, res.Header.Get("Content-Type"), body, q.status, q.kind)
			}
			if res.Header.Get("Cache-Control") != "no-store" && res.StatusCode == 200 {
				t.Errorf("%s may be kept", q.path)
			}
		}
	}
	elsewhere := freeAddress(t, "127.0.0.2")
	_, port, _ := net.SplitHostPort(elsewhere)
	load(t, withAdmin(t, r.config(0), elsewhere))
	for _, path := range []string{"/anteroom/sessions", "/anteroom/health"} {
		if res, body := askAdmin(t, adminClient(t, elsewhere), "127.0.0.1:"+port, path, ""); res.StatusCode != 403 || !strings.Contains(body, "admin 127.0.0.1:2019") || !strings.Contains(body, "unix/") {
			t.Errorf("%s on %s: %d %s", path, elsewhere, res.StatusCode, body)
		}
	}
	res, err := r.client().Get("https://app.test/anteroom/sessions")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode == 200 {
		t.Error("the public site answers it")
	}
}

// TestAdminHoldsNoSecret: neither a session's id nor a token nor a key of ours is in any answer or in the metrics.
func TestAdminHoldsNoSecret(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	s, cookies := r.signIn()
	c := adminClient(t, r.adminSocket())
	all := ""
	for _, path := range []string{"/anteroom/sessions", "/anteroom/keys", "/anteroom/health", "/metrics"} {
		res, body := askAdmin(t, c, "127.0.0.1", path, "")
		if res.StatusCode != 200 {
			t.Fatalf("%s: %d %s", path, res.StatusCode, body)
		}
		all += body
	}
	_, body := askAdmin(t, c, "127.0.0.1", "/anteroom/sessions/end", `{"id":"`+audit.SessionLabel(s.ID)+`"}`)
	all += body
	if !strings.Contains(all, audit.SessionLabel(s.ID)) || !strings.Contains(all, `"ended":1`) {
		t.Fatalf("the session is not there: %s", all)
	}
	secrets := []string{s.ID, s.TokenID}
	for _, k := range cookies {
		secrets = append(secrets, k.Value, strings.Split(k.Value, ".")[0])
	}
	for _, secret := range secrets {
		if secret == "" || strings.Contains(all, secret) {
			t.Errorf("%q is in an answer", secret)
		}
	}
	if strings.Contains(all, `"seed"`) || strings.Contains(all, `"d"`) {
		t.Error("a private key is in an answer")
	}
}

// TestAdminAfterReload: a monitor on a kept connection hears of the config that runs now, also after a load that failed,
// after which Caddy's listener has the router of the failed one; and of none when anteroom is gone.
func TestAdminAfterReload(t *testing.T) {
	r := newAdminRig(t)
	listen := r.adminSocket()
	load(t, withAdmin(t, r.config(0), listen))
	s, _ := r.signIn()
	c := adminClient(t, listen)
	list := func(when string) {
		t.Helper()
		if res, body := askAdmin(t, c, "127.0.0.1", "/anteroom/sessions", ""); res.StatusCode != 200 || !strings.Contains(body, audit.SessionLabel(s.ID)) {
			t.Fatalf("%s: %d %s", when, res.StatusCode, body)
		}
	}
	list("at first")
	load(t, withAdmin(t, r.config(1), listen))
	list("after a reload")
	blocked := filepath.Join(r.dir, "blocked")
	if err := os.WriteFile(blocked, []byte("a file where a folder should be"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(r.config(2)), `"anteroom":{`, `"anteroom":{"directory":"`+blocked+`",`, 1)
	for range 5 {
		if err := caddy.Load(freePorts(t, withAdmin(t, []byte(broken), listen)), true); err == nil {
			t.Fatal("it loads")
		}
		list("after a reload that failed")
		if _, body := askAdmin(t, adminClient(t, listen), "127.0.0.1", "/metrics", ""); !strings.Contains(body, "\nanteroom_ready 1\n") {
			t.Fatal("the metrics are of the config that failed")
		}
	}
	if err := caddy.Load(withAdmin(t, []byte(`{}`), listen), true); err != nil {
		t.Fatal(err)
	}
	if res, body := askAdmin(t, c, "127.0.0.1", "/anteroom/sessions", ""); res.StatusCode != 404 || !strings.Contains(body, "not-configured") {
		t.Errorf("without anteroom: %d %s", res.StatusCode, body)
	}
	if res, body := askAdmin(t, c, "127.0.0.1", "/anteroom/health", ""); res.StatusCode != 503 || !strings.Contains(body, `"not-configured"`) {
		t.Errorf("health without anteroom: %d %s", res.StatusCode, body)
	}
}

// TestAdminDuringReloads: requests go on while configs come and go; none hangs, none fails otherwise than by 503.
func TestAdminDuringReloads(t *testing.T) {
	r := newAdminRig(t)
	listen := r.adminSocket()
	load(t, withAdmin(t, r.config(0), listen))
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for _, path := range []string{"/anteroom/sessions", "/anteroom/health", "/metrics"} {
		c := adminClient(t, listen)
		c.Transport.(*http.Transport).DisableKeepAlives = true // Caddy closes the old listener's connections under our feet
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://127.0.0.1"+path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := c.Do(req)
				if err != nil {
					continue // the listener changes hands
				}
				_ = res.Body.Close()
				if res.StatusCode != 200 && res.StatusCode != 503 {
					t.Errorf("%s: %d", path, res.StatusCode)
				}
			}
		})
	}
	began := time.Now()
	for n := range 20 {
		load(t, withAdmin(t, r.config(n), listen))
	}
	close(stop)
	asking.Wait()
	if took := time.Since(began); took > time.Minute { // a reload that waits for requests takes 5 s and more
		t.Errorf("20 reloads took %s", took)
	}
}

// TestRowS17AdminStoreAudit: what the admin API changes stands in the audit log of the running program.
func TestRowS17AdminStoreAudit(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	s, _ := r.signIn()
	c := adminClient(t, r.adminSocket())
	if res, body := askAdmin(t, c, "127.0.0.1", "/anteroom/keys/rotate", "{}"); res.StatusCode != 200 || strings.Count(body, `"state":"next"`) != 2 {
		t.Errorf("rotating: %d %s", res.StatusCode, body)
	}
	if res, body := askAdmin(t, c, "127.0.0.1", "/anteroom/sessions/end-user", `{"source":"idp","subject":"1"}`); res.StatusCode != 200 || body != `{"ended":1}`+"\n" {
		t.Errorf("ending: %d %s", res.StatusCode, body)
	}
	logs, err := filepath.Glob(filepath.Join(r.dir, "data", "caddy", "anteroom", "audit", "*.jsonl"))
	if err != nil || len(logs) != 1 {
		t.Fatal("audit logs: ", logs, err)
	}
	log, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"reason":"keys-rotated","client":"unix"`, `"reason":"user-ended","client":"unix","count":1`} {
		if !bytes.Contains(log, []byte(want)) {
			t.Errorf("the audit log lacks %s:\n%s", want, log)
		}
	}
	if bytes.Contains(log, []byte(s.ID)) {
		t.Error("the audit log holds a session's id")
	}
	if ours, _ := active(t); ours.live().sessions.Health().Revocations == 0 {
		t.Error("nothing was revoked")
	}
}

var _ roster = (*session.Manager)(nil)
