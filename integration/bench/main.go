// Command bench measures what the gate costs beside a bare Caddy reverse_proxy, on loopback with TLS 1.3
// keep-alive: throughput, latency and CPU per request.
//
// Three processes of bin/anteroom proxy to one backend: bare (no gate), gate (audit off) and gate+audit.
// They are measured in turn, several times, so that whatever else the machine does hits all of them;
// what counts is the ratio of neighbours and the CPU time per request, not the rate itself.
//
// Then it measures /hmac-service beside a bare `respond` of the same listener, and the envelope beside bare AES-256-GCM.
//
// Then it measures how soon a sign-out holds everywhere: three processes of bin/anteroom on one Redis, the time from the answer of
// a sign-out at the third until each of them refuses the session.
//
//	make bench
//	go run ./integration/bench -rounds 9 -seconds 4
//	go run ./integration/bench -only hardening
//	go run ./integration/bench -rounds 0 -signouts 5000
package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "alternations; 0 leaves gate, hardening and envelope out")
	seconds := flag.Int("seconds", 4, "length of each measurement")
	signOuts := flag.Int("signouts", 1000, "sign-outs whose propagation is measured; 0 leaves that out")
	binary := flag.String("binary", "bin/anteroom", "the program to measure")
	only := flag.String("only", "", "one part alone: gate, hardening, envelope or signouts")
	flag.Parse()
	length, ran := time.Duration(*seconds)*time.Second, false
	for _, part := range []struct {
		name string
		size int
		run  func() error
	}{
		{"gate", *rounds, func() error { return bench(*binary, *rounds, length) }},
		{"hardening", *rounds, func() error { return hardening(*binary, *rounds, length) }},
		{"envelope", *rounds, func() error { return sealing(*rounds) }},
		{"signouts", *signOuts, func() error { return propagation(*binary, *signOuts) }},
	} {
		if part.size == 0 || *only != "" && *only != part.name {
			continue
		}
		ran = true
		if err := part.run(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
	}
	if !ran {
		fmt.Fprintln(os.Stderr, "bench: nothing to measure; -only takes gate, hardening, envelope or signouts")
		os.Exit(2)
	}
}

// sample is one measurement of one variant.
type sample struct {
	rate     float64 // requests a second
	cpu      float64 // µs of the server's CPU time per request
	p50, p99 time.Duration
}

func bench(binary string, rounds int, length time.Duration) error {
	rig, err := newRig(binary)
	if err != nil {
		return err
	}
	defer rig.close()
	samples := make([][]sample, len(rig.servers))
	for round := range rounds + 1 {
		if err := rig.signInAll(); err != nil {
			return err
		}
		for i, s := range rig.servers {
			d := length
			if round == 0 {
				d = time.Second // warms up connections, caches and the CPU; not counted
			}
			m, err := s.measure(d)
			if err != nil {
				return fmt.Errorf("measuring %s: %w; it says %s", s.name, err, s.says())
			}
			if round > 0 {
				samples[i] = append(samples[i], m)
			}
		}
	}
	report(rig.servers, samples)
	return nil
}

func report(servers []*server, samples [][]sample) {
	fmt.Printf("%-12s %9s %8s %19s %12s %8s %10s %10s\n", "variant", "req/s", "ratio", "[min–max]", "CPU µs/req", "ratio", "p50", "p99")
	for i, s := range servers {
		var rates, ratios, cpu, cpuRatios []float64
		var p50, p99 []time.Duration
		for r, m := range samples[i] {
			bare := samples[0][r]
			rates, ratios = append(rates, m.rate), append(ratios, m.rate/bare.rate)
			cpu, cpuRatios = append(cpu, m.cpu), append(cpuRatios, m.cpu/bare.cpu)
			p50, p99 = append(p50, m.p50), append(p99, m.p99)
		}
		fmt.Printf("%-12s %9.0f %8.3f %19s %12.1f %8.3f %10s %10s\n", s.name, median(rates), median(ratios),
			fmt.Sprintf("[%.3f–%.3f]", slices.Min(ratios), slices.Max(ratios)), median(cpu), median(cpuRatios), median(p50), median(p99))
	}
	fmt.Println("targets: gate ≥ 0.95, gate+audit ≥ 0.90 of bare")
}

func median[T float64 | time.Duration](values []T) T {
	s := slices.Sorted(slices.Values(values))
	return s[len(s)/2]
}
