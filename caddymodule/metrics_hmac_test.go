package caddymodule

import (
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/prometheus/client_golang/prometheus"
)

// TestHMACMetrics: the counters of a ring stay when it goes, and every label is a word of ours.
func TestHMACMetrics(t *testing.T) {
	var tally hmacTally
	limits, err := hardening.NewLimits(1, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	tally.add(limits)
	tally.drop(limits)
	tally.drop(limits)
	if len(tally.limits) != 0 {
		t.Error("limits that are gone are kept")
	}
	one := hardening.Stats{Mismatches: 2, Units: 3, Operations: []hardening.Count{{Name: "verify", Outcome: "denied", N: 4}}, Declines: []hardening.Count{{Name: "mismatch", N: 4}}}
	sum := joinStats(one, joinStats(one, hardening.Stats{Operations: []hardening.Count{{Name: "verify", Outcome: "allowed", N: 1}}}))
	if sum.Mismatches != 4 || sum.Units != 6 || len(sum.Operations) != 2 || sum.Operations[0].N != 8 || sum.Declines[0].N != 8 || one.Operations[0].N != 4 {
		t.Errorf("%+v", sum)
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(hmacMetrics{}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Trim(l.GetValue(), "abcdefghijklmnopqrstuvwxyz.-") != "" {
					t.Errorf("%s has the label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	if len(families) < 8 {
		t.Errorf("%d families", len(families))
	}
}
