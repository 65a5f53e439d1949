package caddymodule

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// The metrics of the envelope service, of the data keys in memory and of the master key in AWS KMS. Their labels are fixed codes
// of ours; no tenant, purpose, record, key or caller is among them.
var (
	metricEnvelopeOperations = prometheus.NewDesc("anteroom_envelope_operations_total", "Requests to the envelope service by operation and outcome.", []string{"operation", "outcome"}, nil)
	metricEnvelopeDeclines   = prometheus.NewDesc("anteroom_envelope_declines_total", "Requests to the envelope service, and items of batches, that were not answered with a success, by reason.", []string{"reason"}, nil)
	metricEnvelopeBytes      = prometheus.NewDesc("anteroom_envelope_bytes_total", "Bytes of request bodies that the envelope service read, by operation.", []string{"operation"}, nil)
	metricKeyHits            = prometheus.NewDesc("anteroom_data_key_hits_total", "Data keys that were needed and in memory, by ring.", []string{"ring"}, nil)
	metricKeyAsked           = prometheus.NewDesc("anteroom_data_key_asks_total", "Data keys that the master key was asked for, by ring.", []string{"ring"}, nil)
	metricKeyFailed          = prometheus.NewDesc("anteroom_data_key_failures_total", "Data keys that the master key did not give, by ring.", []string{"ring"}, nil)
	metricKMSCalls           = prometheus.NewDesc("anteroom_kms_calls_total", "Calls to AWS KMS by operation and outcome: ok, unavailable (tried again), refused (somebody must act), sealed (does not open).", []string{"operation", "outcome"}, nil)
)

var allEnvelopeMetrics = []*prometheus.Desc{
	metricEnvelopeOperations, metricEnvelopeDeclines, metricEnvelopeBytes, metricKeyHits, metricKeyAsked, metricKeyFailed, metricKMSCalls,
}

// envelopeCounts adds up what all limits have counted, as long as they live and afterwards: a counter must not fall at a reload.
var envelopeCounts envelopeTally

type envelopeTally struct {
	mu     sync.Mutex // guards the fields below
	limits map[*envelope.Limits]struct{}
	before envelope.Stats // of limits that are gone
}

func (t *envelopeTally) add(l *envelope.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limits == nil {
		t.limits = map[*envelope.Limits]struct{}{}
	}
	t.limits[l] = struct{}{}
}

// drop lets go of limits and keeps what they have counted. Calling it again does nothing.
func (t *envelopeTally) drop(l *envelope.Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.limits[l]; ok {
		delete(t.limits, l)
		t.before = joinSealed(t.before, l.Stats())
	}
}

func (t *envelopeTally) total() envelope.Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.before
	for l := range t.limits {
		sum = joinSealed(sum, l.Stats())
	}
	return sum
}

func joinSealed(a, b envelope.Stats) envelope.Stats {
	return envelope.Stats{Operations: joinSealCounts(a.Operations, b.Operations), Declines: joinSealCounts(a.Declines, b.Declines), Bytes: joinSealCounts(a.Bytes, b.Bytes)}
}

func joinSealCounts(a, b []envelope.Count) []envelope.Count {
	out := slices.Clone(a)
	for _, c := range b {
		i := slices.IndexFunc(out, func(o envelope.Count) bool { return o.Name == c.Name && o.Outcome == c.Outcome })
		if i < 0 {
			out = append(out, c)
			continue
		}
		out[i].N += c.N
	}
	return out
}

// kmsCall is one counter of calls to KMS.
type kmsCall struct{ operation, outcome string }

// kmsCounts counts the calls of the whole process, those of a start that waits for KMS among them.
var kmsCounts = struct {
	sync.Mutex
	calls map[kmsCall]uint64
}{calls: map[kmsCall]uint64{}}

// countKMS is told of each call.
func countKMS(operation string, err error) {
	outcome := "unavailable"
	switch {
	case err == nil:
		outcome = "ok"
	case errors.Is(err, envelope.ErrRefused):
		outcome = "refused"
	case errors.Is(err, envelope.ErrSealed):
		outcome = "sealed"
	}
	kmsCounts.Lock()
	defer kmsCounts.Unlock()
	kmsCounts.calls[kmsCall{operation, outcome}]++
}

// envelopeMetrics is the collector; it has no state of its own.
type envelopeMetrics struct{}

// Describe names everything that Collect may send.
func (envelopeMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range allEnvelopeMetrics {
		to <- d
	}
}

// Collect reads what was counted.
func (envelopeMetrics) Collect(to chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	s := envelopeCounts.total()
	for _, c := range s.Operations {
		counter(metricEnvelopeOperations, c.N, c.Name, c.Outcome)
	}
	for _, c := range s.Declines {
		counter(metricEnvelopeDeclines, c.N, c.Name)
	}
	for _, c := range s.Bytes {
		counter(metricEnvelopeBytes, c.N, c.Name)
	}
	for _, ring := range slices.Sorted(maps.Keys(cacheCounts)) {
		c := cacheCounts[ring]
		counter(metricKeyHits, c.Hits.Load(), ring)
		counter(metricKeyAsked, c.Asked.Load(), ring)
		counter(metricKeyFailed, c.Failed.Load(), ring)
	}
	kmsCounts.Lock()
	calls := maps.Clone(kmsCounts.calls)
	kmsCounts.Unlock()
	for _, call := range slices.SortedFunc(maps.Keys(calls), func(a, b kmsCall) int {
		return cmp.Or(cmp.Compare(a.operation, b.operation), cmp.Compare(a.outcome, b.outcome))
	}) {
		counter(metricKMSCalls, calls[call], call.operation, call.outcome)
	}
}

// registerEnvelopeMetrics adds the collector to a config's registry; the app's and each service's Provision call it.
func registerEnvelopeMetrics(ctx caddy.Context) error {
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return nil // a context that no config made
	}
	err := registry.Register(envelopeMetrics{})
	var already prometheus.AlreadyRegisteredError
	if err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}
