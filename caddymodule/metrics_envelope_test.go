package caddymodule

import (
	"fmt"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/prometheus/client_golang/prometheus"
)

// TestEnvelopeMetrics: the counters of limits stay when they go, every label is a word of ours, and calls to KMS are told apart.
func TestEnvelopeMetrics(t *testing.T) {
	var tally envelopeTally
	limits, err := envelope.NewLimits(0, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	tally.add(limits)
	tally.drop(limits)
	tally.drop(limits)
	if len(tally.limits) != 0 {
		t.Error("limits that are gone are kept")
	}
	one := envelope.Stats{
		Operations: []envelope.Count{{Name: "open", Outcome: "denied", N: 4}}, Declines: []envelope.Count{{Name: "sealed", N: 4}}, Bytes: []envelope.Count{{Name: "open", N: 9}},
	}
	sum := joinSealed(one, joinSealed(one, envelope.Stats{Operations: []envelope.Count{{Name: "open", Outcome: "allowed", N: 1}}}))
	if len(sum.Operations) != 2 || sum.Operations[0].N != 8 || sum.Declines[0].N != 8 || sum.Bytes[0].N != 18 || one.Operations[0].N != 4 {
		t.Errorf("%+v", sum)
	}
	for _, err := range []error{nil, envelope.ErrUnavailable, envelope.ErrSealed, fmt.Errorf("%w: x", envelope.ErrRefused)} {
		countKMS("Decrypt", err)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(envelopeMetrics{}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				seen[l.GetName()+"="+l.GetValue()] = true
				if strings.Trim(l.GetValue(), "abcdefghijklmnopqrstuvwxyzADEGKR.-") != "" { // and the names of KMS' operations
					t.Errorf("%s has the label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	for _, want := range []string{"ring=own", "ring=apps", "operation=Decrypt", "outcome=ok", "outcome=unavailable", "outcome=sealed", "outcome=refused"} {
		if !seen[want] {
			t.Errorf("no counter has %s", want)
		}
	}
}
