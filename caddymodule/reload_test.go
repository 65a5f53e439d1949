package caddymodule

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// rig is a running config with one gated site in front of a backend.
type rig struct {
	bench
	t       *testing.T
	backend *httptest.Server
}

func newRig(t *testing.T, backend http.HandlerFunc) rig {
	t.Helper()
	r := rig{bench: newBench(t), t: t, backend: httptest.NewServer(backend)}
	t.Cleanup(r.backend.Close)
	t.Cleanup(func() { _ = caddy.Stop() })
	return r
}

// config is the site with one more header line, so that each n is another config.
func (r rig) config(n int) []byte {
	r.t.Helper()
	config, err := adapt(r.t, r.file("", fmt.Sprintf("app.test:8443 {\n\tTLS\n\theader X-Config %d\n\tanteroom {\n\t\tallow role doctor\n\t}\n\treverse_proxy %s\n}\n", n, r.backend.Listener.Addr())))
	if err != nil {
		r.t.Fatal(err)
	}
	return config
}

func active(t *testing.T) (*App, *caddyhttp.App) {
	t.Helper()
	ours, err := caddy.ActiveContext().App("anteroom")
	if err != nil {
		t.Fatal(err)
	}
	h, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	return ours.(*App), h.(*caddyhttp.App)
}

// signIn makes a session as the portal does after a sign-in.
func (r rig) signIn() (*session.Session, []*http.Cookie) {
	r.t.Helper()
	ours, _ := active(r.t)
	s, cookies, err := ours.live().sessions.Issue(r.t.Context(), session.Grant{Source: "idp", Subject: "1", Username: "dana", Roles: []string{"doctor"}, AuthTime: time.Now()}, "app.test:8443", session.Admission{})
	if err != nil {
		r.t.Fatal(err)
	}
	return s, cookies
}

// client talks to the running config, whatever its port.
func (r rig) client() *http.Client {
	_, h := active(r.t)
	var addr string
	for _, s := range h.Servers {
		addr = s.Listeners()[0].Addr().String()
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.pool, ServerName: "app.test", MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: rewriteHost{tr, addr}}
}

type rewriteHost struct {
	tr   *http.Transport
	addr string
}

func (h rewriteHost) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Host, req.URL.Host = req.URL.Host, h.addr
	return h.tr.RoundTrip(req)
}

func (r rig) get(c *http.Client, cookies []*http.Cookie) (int, string, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "https://app.test/x", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, k := range cookies {
		req.AddCookie(k)
	}
	res, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("X-Config"), string(body)
}

// TestReloadKeepsSessions: a reload signs nobody out and brings nobody back. The second half fails
// when a new config reads revocations anew without those of the last second.
func TestReloadKeepsSessions(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, req.Header.Get("Remote-User")) })
	load(t, r.config(0))
	_, stays := r.signIn()
	gone, ended := r.signIn()
	ours, _ := active(t)
	if err := ours.live().sessions.Revoke(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 5; n++ {
		load(t, r.config(n))
		c := r.client()
		if status, config, body := r.get(c, stays); status != 200 || config != fmt.Sprint(n) || body != "dana" {
			t.Fatalf("after reload %d: %d %q %q", n, status, config, body)
		}
		if status, _, _ := r.get(c, ended); status != http.StatusUnauthorized {
			t.Fatalf("after reload %d the revoked session is back: %d", n, status)
		}
	}
}

// TestReloadLeaksNothing: 100 reloads leave the goroutines and the pool as they were.
func TestReloadLeaksNothing(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) {})
	load(t, r.config(0))
	load(t, r.config(1))
	before := runtime.NumGoroutine()
	for n := range 100 {
		load(t, r.config(n))
	}
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before+5 && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before+5 {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
	entries := 0
	pool.Range(func(_, _ any) bool { entries++; return true })
	if entries != 4 {
		t.Errorf("the pool holds %d resources instead of store, audit log, sessions and alarm", entries)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	pool.Range(func(k, _ any) bool { t.Errorf("%v is still open after the stop", k); return true })
}

// TestFailedReloadKeepsTheOld: a config that cannot start leaves the running one and its sessions alone.
func TestFailedReloadKeepsTheOld(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) {})
	load(t, r.config(0))
	_, cookies := r.signIn()
	blocked := filepath.Join(r.dir, "blocked")
	if err := os.WriteFile(blocked, []byte("a file where a folder should be"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(r.config(1)), `"anteroom":{`, `"anteroom":{"directory":"`+blocked+`",`, 1)
	for range 5 {
		if err := caddy.Load(freePorts(t, []byte(broken)), true); err == nil {
			t.Fatal("it loads")
		}
		if status, config, _ := r.get(r.client(), cookies); status != 200 || config != "0" {
			t.Fatalf("the old config answers %d %q", status, config)
		}
	}
}

// TestRemovalWithARequestInFlight: Caddy cleans the old config up while its requests run. What such a
// request uses stays open until it has left, and is closed then.
func TestRemovalWithARequestInFlight(t *testing.T) {
	arrived, goOn := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-goOn
		fmt.Fprint(w, "done")
	})
	load(t, r.config(0))
	_, cookies := r.signIn()
	c := r.client()
	answered := make(chan string)
	go func() {
		status, _, body := r.get(c, cookies)
		answered <- fmt.Sprint(status, " ", body)
	}()
	<-arrived
	empty, err := adapt(t, r.file("", "other.test:8443 {\n\tTLS\n\trespond ok\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var cfg map[string]any
	if err := json.Unmarshal(freePorts(t, empty), &cfg); err != nil {
		t.Fatal(err)
	}
	delete(cfg["apps"].(map[string]any), "anteroom")
	without, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(without, true); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if got := <-answered; got != "200 done" {
		t.Fatalf("the request in flight got %q", got)
	}
}

// TestValidateBesideARunningInstance: the embedded store is locked by the running process; a check of a
// new config must neither need nor disturb it.
func TestValidateBesideARunningInstance(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) {})
	load(t, r.config(0))
	if err := validate(t, r.config(1)); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := r.get(r.client(), nil); status != http.StatusUnauthorized {
		t.Fatalf("the running instance answers %d afterwards", status)
	}
}

// TestAppDown: the application behind the gate is not running. A person gets a page in plain words and a program a
// problem, both with a reference number that stands in the audit log, where Caddy alone sends an empty 502.
func TestAppDown(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) {})
	load(t, r.config(0))
	_, cookies := r.signIn()
	r.backend.Close()
	c := r.client()
	for accept, want := range map[string][2]string{
		"text/html":        {"text/html; charset=utf-8", "The application does not answer"},
		"application/json": {"application/problem+json", "urn:anteroom:problem:application"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://app.test/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		for _, k := range cookies {
			req.AddCookie(k)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != http.StatusBadGateway || res.Header.Get("Content-Type") != want[0] || !strings.Contains(string(body), want[1]) {
			t.Errorf("%s: %d %s %s", accept, res.StatusCode, res.Header.Get("Content-Type"), body)
		}
		if res.Header.Get("Strict-Transport-Security") == "" || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", accept, res.Header)
		}
		ref := regexp.MustCompile(`[0-9A-Z]{10}`).FindString(string(body))
		logs, err := filepath.Glob(filepath.Join(r.dir, "data", "caddy", "anteroom", "audit", "*"))
		if err != nil || len(logs) == 0 {
			t.Fatal("no audit log: ", err)
		}
		log, err := os.ReadFile(logs[0])
		if err != nil || ref == "" || !strings.Contains(string(log), `"ref":"`+ref+`"`) {
			t.Errorf("%s: the reference %q is not in the audit log (%v)", accept, ref, err)
		}
	}
}

// TestMissingMasterKey: the store is there and the key that sealed it is not. A new key would hide the loss; the
// start fails, says which file is missing, and makes none.
func TestMissingMasterKey(t *testing.T) {
	r := newRig(t, func(http.ResponseWriter, *http.Request) {})
	load(t, r.config(0))
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(r.dir, "data", "caddy", "anteroom", "master.key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	err := caddy.Load(freePorts(t, r.config(0)), true)
	if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "backup") {
		t.Fatalf("starting without it: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made over the old one's store")
	}
}
