package caddymodule

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// scrape reads our metrics from Caddy's admin endpoint.
func scrape(t *testing.T, c *http.Client) map[string]float64 {
	t.Helper()
	res, body := askAdmin(t, c, "127.0.0.1", "/metrics", "")
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	got := map[string]float64{}
	for line := range strings.Lines(body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(name, "anteroom_") || sealing.MatchString(name) {
			continue
		}
		if !regexp.MustCompile(`^anteroom_[a-z_]+$`).MatchString(name) {
			t.Errorf("%s has a label", name)
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		got[name] = v
	}
	return got
}

// sealing are the metrics of the envelope service and of keys, with labels of their own (TestEnvelopeMetrics).
var sealing = regexp.MustCompile(`^anteroom_(envelope|data_key|kms)_`)

// TestMetrics: all of them are there, on Caddy's own page, before and after reloads, and follow what happens.
func TestMetrics(t *testing.T) {
	r := newAdminRig(t)
	load(t, withAdmin(t, r.config(0), r.adminSocket()))
	session, cookies := r.signIn()
	if status, _, _ := r.get(r.client(), cookies); status != 200 {
		t.Fatalf("the session is refused: %d", status)
	}
	names := strings.Fields("anteroom_ready anteroom_store_silence_seconds anteroom_clock_skew_seconds anteroom_sessions anteroom_streams anteroom_revocations anteroom_verified_tokens anteroom_requests_degraded_total")
	for n := range 3 {
		got := scrape(t, adminClient(t, r.adminSocket()))
		for _, name := range names {
			if _, ok := got[name]; !ok {
				t.Errorf("after %d reloads %s is missing", n, name)
			}
		}
		if len(got) != len(names) || got["anteroom_ready"] != 1 || got["anteroom_verified_tokens"] < 1 {
			t.Errorf("after %d reloads: %v", n, got)
		}
		load(t, withAdmin(t, r.config(n+1), r.adminSocket()))
	}
	ours, _ := active(t)
	if err := ours.live().sessions.Revoke(t.Context(), session.ID); err != nil {
		t.Fatal(err)
	}
	if got := scrape(t, adminClient(t, r.adminSocket())); got["anteroom_revocations"] != 1 {
		t.Errorf("after a revocation: %v", got)
	}
	if err := caddy.Load(withAdmin(t, []byte(`{}`), r.adminSocket()), true); err != nil {
		t.Fatal(err)
	}
	if got := scrape(t, adminClient(t, r.adminSocket())); len(got) != 0 {
		t.Errorf("without anteroom: %v", got)
	}
}

// TestMetricsNotRunning: before a config runs there is an answer, too, and it says so.
func TestMetricsNotRunning(t *testing.T) {
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(metrics{}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	if ready, ok := got["anteroom_ready"]; !ok || ready != 0 || len(got) != 2 {
		t.Errorf("while nothing runs: %v", got)
	}
}

type counter uint64

func (c *counter) Degraded() uint64 { return uint64(*c) }

// TestMetricsCount: the total never falls when gates come and go, and counts nothing twice.
func TestMetricsCount(t *testing.T) {
	var sum tally
	a, b := counter(3), counter(4)
	sum.add(&a)
	sum.add(&b)
	for _, g := range []*counter{&a, &a, &b} {
		if sum.total() != 7 {
			t.Errorf("total %d, want 7", sum.total())
		}
		sum.drop(g)
	}
	if len(sum.gates) != 0 || sum.total() != 7 {
		t.Errorf("%d gates are held, total %d", len(sum.gates), sum.total())
	}
}

// TestMetricsHoldNoGate: a gate whose config is gone is let go, so that reloads leave no memory behind.
func TestMetricsHoldNoGate(t *testing.T) {
	r := newAdminRig(t)
	for n := range 5 {
		load(t, r.config(n))
	}
	if n := len(degraded.gates); n != 1 {
		t.Errorf("%d gates of one running site are held", n)
	}
}
