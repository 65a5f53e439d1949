package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/anteroom-proxy/anteroom/alarm"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of the HMAC service, all rings together. Their labels are fixed codes of ours; no ring, uid, caller or site is
// among them.
var (
	metricHMACOperations = prometheus.NewDesc("anteroom_hmac_operations_total", "Requests to the HMAC service by operation and outcome.", []string{"operation", "outcome"}, nil)
	metricHMACDeclines   = prometheus.NewDesc("anteroom_hmac_declines_total", "Requests to the HMAC service that were not answered with a success, by reason.", []string{"reason"}, nil)
	metricHMACMismatches = prometheus.NewDesc("anteroom_hmac_mismatches_total", "Wrong secrets.", nil, nil)
	metricHMACUnits      = prometheus.NewDesc("anteroom_hmac_units_total", "HMAC units that were spent.", nil, nil)
	metricHMACStoreAway  = prometheus.NewDesc("anteroom_hmac_failures_unshared_total", "Tries that this node counted by itself because the store did not answer.", nil, nil)
	metricHMACRunning    = prometheus.NewDesc("anteroom_hmac_slow_hashes_running", "Slow hashes that run now.", nil, nil)
	metricHMACQueued     = prometheus.NewDesc("anteroom_hmac_slow_hashes_queued", "Requests that wait for a slow hash.", nil, nil)
	metricHMACAtOnce     = prometheus.NewDesc("anteroom_hmac_slow_hashes_limit", "Slow hashes that cores and memory allow at once.", nil, nil)
	metricHMACRings      = prometheus.NewDesc("anteroom_hmac_rings", "Password rings of the config that runs, by state.", []string{"state"}, nil)
	metricHMACUpgrade    = prometheus.NewDesc("anteroom_hmac_rings_upgrade_due", "Rings whose records should be sent through upgrade: a pepper is compromised.", nil, nil)
)

var allHMACMetrics = []*prometheus.Desc{
	metricHMACOperations, metricHMACDeclines, metricHMACMismatches, metricHMACUnits, metricHMACStoreAway, metricHMACRunning, metricHMACQueued, metricHMACAtOnce,
	metricHMACRings, metricHMACUpgrade,
}

// hmacCounts adds up what the limits of all rings have counted, as long as they live and afterwards: a counter must not fall
// at a reload.
var hmacCounts hmacTally

type hmacTally struct {
	mu     sync.Mutex // guards the fields below
	limits map[*hardening.Limits]struct{}
	before hardening.Stats // of limits that are gone
}

func (t *hmacTally) add(l *hardening.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limits == nil {
		t.limits = map[*hardening.Limits]struct{}{}
	}
	t.limits[l] = struct{}{}
}

// drop lets go of limits and keeps what they have counted. Calling it again does nothing.
func (t *hmacTally) drop(l *hardening.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.limits[l]; ok {
		delete(t.limits, l)
		t.before = joinStats(t.before, l.Stats())
	}
}

func (t *hmacTally) total() hardening.Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.before
	for l := range t.limits {
		sum = joinStats(sum, l.Stats())
	}
	return sum
}

// joinStats adds counters; what is so at this moment is of the whole process and the same in both.
func joinStats(a, b hardening.Stats) hardening.Stats {
	b.Operations = joinCounts(a.Operations, b.Operations)
	b.Declines = joinCounts(a.Declines, b.Declines)
	b.Mismatches += a.Mismatches
	b.Units += a.Units
	b.StoreAway += a.StoreAway
	return b
}

func joinCounts(a, b []hardening.Count) []hardening.Count {
	out := slices.Clone(a)
	for _, c := range b {
		i := slices.IndexFunc(out, func(o hardening.Count) bool { return o.Name == c.Name && o.Outcome == c.Outcome })
		if i < 0 {
			out = append(out, c)
			continue
		}
		out[i].N += c.N
	}
	return out
}

// hmacMetrics is the collector; it has no state of its own.
type hmacMetrics struct{}

// Describe names everything that Collect may send.
func (hmacMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range allHMACMetrics {
		to <- d
	}
}

// Collect reads what was counted, and the rings of the config that runs.
func (hmacMetrics) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	s := hmacCounts.total()
	for _, c := range s.Operations {
		counter(metricHMACOperations, c.N, c.Name, c.Outcome)
	}
	for _, c := range s.Declines {
		counter(metricHMACDeclines, c.N, c.Name)
	}
	counter(metricHMACMismatches, s.Mismatches)
	counter(metricHMACUnits, s.Units)
	counter(metricHMACStoreAway, s.StoreAway)
	gauge(metricHMACRunning, s.Running)
	gauge(metricHMACQueued, s.Queued)
	gauge(metricHMACAtOnce, s.AtOnce)
	states, due := map[string]int{hardening.RingOpen: 0, hardening.RingLocked: 0, hardening.RingWaiting: 0}, 0
	for _, status := range runningRings() {
		states[status.State]++
		if status.UpgradeDue {
			due++
		}
	}
	for state, n := range states {
		gauge(metricHMACRings, n, state)
	}
	gauge(metricHMACUpgrade, due)
}

// runningRings are those of the config that runs, each once.
func runningRings() []hardening.RingStatus {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return nil
	}
	v, err := ctx.AppIfConfigured("anteroom_hmac")
	if err != nil {
		return nil
	}
	var list []hardening.RingStatus
	seen := map[string]bool{}
	for _, h := range v.(*hmacApp).registered() {
		if h.ring != nil && !seen[h.Ring] {
			seen[h.Ring] = true
			list = append(list, h.ring.Status())
		}
	}
	return list
}

// registerHMACMetrics adds the collector to a config's registry; each service's Provision calls it.
func registerHMACMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return nil // a context that no config made
	}
	err := registry.Register(hmacMetrics{})
	var already prometheus.AlreadyRegisteredError
	if err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// tellOfGuessing raises an alarm where the config has one, and writes to the log where it has not. It waits for nothing.
func tellOfGuessing(b hardening.Burst) {
	go func() {
		run, leave, err := enterRunning()
		if err != nil {
			poolLogger("hmac_service").Error("many wrong passwords within a minute; somebody may be guessing", "ring", b.Ring, "failures", b.Failures, "since", b.Since)
			return
		}
		defer leave()
		run.alarm.Raise(context.Background(), alarm.Event{Kind: alarm.KindGuessing, Site: b.Ring, Count: b.Failures, At: b.Since})
	}()
}
