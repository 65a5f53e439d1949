package caddymodule

import (
	"errors"
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// The metrics are on Caddy's /metrics with the others. Each reads the config that runs at the moment of the scrape, so that
// one collector serves every config of the process: Caddy makes a new registry at each load, and after a load that failed
// its admin listener serves the registry of the config that did not come to run. None has a label: names of people, sites
// and paths are nobody's business there.
var (
	metricReady = prometheus.NewDesc("anteroom_ready", "Whether this node lets people in: 1, or 0 while it is starting, has not heard from the store for too long, or its clock is wrong.", nil, nil)

	metricSilence     = prometheus.NewDesc("anteroom_store_silence_seconds", "Time since this node last heard from the store.", nil, nil)
	metricSkew        = prometheus.NewDesc("anteroom_clock_skew_seconds", "The store's clock less this node's; 0 for a store without a clock.", nil, nil)
	metricSessions    = prometheus.NewDesc("anteroom_sessions", "Sessions that this node has seen lately.", nil, nil)
	metricStreams     = prometheus.NewDesc("anteroom_streams", "Open requests and connections that end with their session.", nil, nil)
	metricRevocations = prometheus.NewDesc("anteroom_revocations", "Revocations that this node keeps in memory.", nil, nil)
	metricVerified    = prometheus.NewDesc("anteroom_verified_tokens", "Tokens whose signature this node has verified and remembers.", nil, nil)
	metricDegraded    = prometheus.NewDesc("anteroom_requests_degraded_total", "Requests in the name of a session verified before the store fell silent (on_store_loss running_sessions).", nil, nil)
)

var allMetrics = []*prometheus.Desc{
	metricReady, metricSilence, metricSkew, metricSessions, metricStreams, metricRevocations, metricVerified, metricDegraded,
}

// degraded counts what the gates of all configs of the process let in while the store was silent: a counter must not fall at
// a reload.
var degraded tally

// counting is a gate, as far as it counts.
type counting interface{ Degraded() uint64 }

// tally adds up the counts of gates that come and go. The zero value is ready.
type tally struct {
	mu     sync.Mutex // guards the fields below
	gates  map[counting]struct{}
	before uint64 // of gates that are gone
}

func (t *tally) add(g counting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.gates == nil {
		t.gates = map[counting]struct{}{}
	}
	t.gates[g] = struct{}{}
}

// drop lets go of a gate and keeps what it has counted. Calling it again does nothing.
func (t *tally) drop(g counting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.gates[g]; ok {
		delete(t.gates, g)
		t.before += g.Degraded()
	}
}

// dropAll lets go of an app's gates.
func (t *tally) dropAll(a *App) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sites {
		if run := s.running.Load(); run != nil {
			t.drop(run.gate)
		}
	}
}

func (t *tally) total() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.before
	for g := range t.gates {
		n += g.Degraded()
	}
	return n
}

// metrics is the collector; it has no state of its own.
type metrics struct{}

// Describe names everything that Collect may send.
func (metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range allMetrics {
		to <- d
	}
}

// Collect reads what runs. While nothing does there is only that to tell.
func (metrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	to <- prometheus.MustNewConstMetric(metricDegraded, prometheus.CounterValue, float64(degraded.total()))
	run, leave, err := enterRunning()
	if err != nil {
		gauge(metricReady, 0)
		return
	}
	defer leave()
	h := run.sessions.Health()
	ready := 0.0
	if healthOf(h, nil).Status == healthOK {
		ready = 1
	}
	gauge(metricReady, ready)
	gauge(metricSilence, h.Silence.Seconds())
	gauge(metricSkew, h.Skew.Seconds())
	gauge(metricSessions, float64(h.Sessions))
	gauge(metricStreams, float64(h.Watchers))
	gauge(metricRevocations, float64(h.Revocations))
	gauge(metricVerified, float64(h.CachedTokens))
}

// registerMetrics adds the collector to a config's registry; App.Provision calls it. There may be one already: a module can
// be provisioned twice with one registry.
func registerMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return nil // a context that no config made
	}
	err := registry.Register(metrics{})
	var already prometheus.AlreadyRegisteredError
	if err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}
