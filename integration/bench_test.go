package integration

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkGate measures what the gate costs: `make bench`. One bin/anteroom proxies barely, one with the gate and the audit log
// off, one with the audit log on. They run in turns, because load generator, proxy and application share the machine: only
// ratios of neighbouring runs mean something, and the processor time of a request more than the rate.
//
// BENCH_ROUNDS and BENCH_SECONDS change the 5 rounds of 4 s.
func BenchmarkGate(b *testing.B) {
	backend := startPlainApp(b)
	variants := []*variant{
		newVariant(b, "bare reverse_proxy", backend, "", ""),
		newVariant(b, "anteroom, audit off", backend, "\tanteroom {\n\t\tallow role doctor\n\t}\n", "audit off"),
		newVariant(b, "anteroom, audit on", backend, "\tanteroom {\n\t\tallow role doctor\n\t}\n", ""),
	}
	rounds, seconds := envInt(b, "BENCH_ROUNDS", 5), envInt(b, "BENCH_SECONDS", 4)
	for _, v := range variants {
		v.run(b, 1) // warm: connections, caches, the first garbage collections
	}
	for range b.N {
		for round := range rounds {
			for i := range variants {
				v := variants[(i+round)%len(variants)] // no variant is always the first
				v.runs = append(v.runs, v.run(b, seconds))
			}
		}
	}
	fmt.Printf("\n%d rounds of %d s, wrk with 1 thread and 32 keep-alive connections, HTTP/1.1 over TLS 1.3, loopback\n\n", rounds, seconds)
	fmt.Printf("%-22s %9s %7s %12s %7s %9s %9s\n", "", "req/s", "ratio", "CPU µs/req", "ratio", "p50", "p99")
	for _, v := range variants {
		fmt.Printf("%-22s %9.0f %7.2f %12.1f %7.2f %9s %9s\n", v.name,
			median(v.runs, func(m measure, _ int) float64 { return m.rate }),
			median(v.runs, func(m measure, i int) float64 { return m.rate / variants[0].runs[i].rate }),
			median(v.runs, func(m measure, _ int) float64 { return m.cpu }),
			median(v.runs, func(m measure, i int) float64 { return m.cpu / variants[0].runs[i].cpu }),
			millis(median(v.runs, func(m measure, _ int) float64 { return m.p50 })),
			millis(median(v.runs, func(m measure, _ int) float64 { return m.p99 })))
	}
	fmt.Println("\nratio: median of the ratios to the bare run of the same round; targets of the rate: 0.95 without, 0.90 with the audit log")
	for i, label := range []string{"", "ratio-audit-off", "ratio-audit-on"} {
		if label != "" {
			b.ReportMetric(median(variants[i].runs, func(m measure, j int) float64 { return m.rate / variants[0].runs[j].rate }), label)
		}
	}
}

// variant is one process under load.
type variant struct {
	name  string
	rig   *rig
	gated bool
	runs  []measure
}

// measure is the outcome of one run: requests a second, processor µs a request, latencies in ms.
type measure struct{ rate, cpu, p50, p99 float64 }

// startPlainApp answers three bytes.
func startPlainApp(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok\n") })}
	go server.Serve(listener) // ends with Close
	b.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

func newVariant(b *testing.B, name, backend, gate, global string) *variant {
	config := "{" + strings.Replace(globals, "DEBUG", "ERROR", 1)
	if gate != "" {
		config += "\n\tanteroom {\n\t\t" + global + hospital + "\t}\n"
	}
	config += "}\n\nlocalhost:$PORT {\n\ttls $CERT $KEY\n" + gate + "\treverse_proxy $BACKEND\n}\n"
	v := &variant{name: name, rig: newRig(b, config, "BACKEND", backend), gated: gate != ""}
	v.rig.op.ready(b)
	return v
}

var (
	wrkRate     = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkLatency  = regexp.MustCompile(`(50|99)%\s+([0-9.]+)(us|ms|s)`)
)

// run loads the process for some seconds. A fresh session each time: an old token would be renewed in every answer, which a
// browser takes and wrk does not.
func (v *variant) run(b *testing.B, seconds int) measure {
	args := []string{"-t1", "-c32", fmt.Sprintf("-d%ds", seconds), "--latency"}
	if v.gated {
		args = append(args, "-H", v.rig.person(b, "localhost", "dana").line())
	}
	before := cpuTime(b, v.rig.proc.cmd.Process.Pid)
	out, err := exec.Command("wrk", append(args, v.rig.url("localhost", "/x"))...).CombinedOutput()
	if err != nil {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	spent := cpuTime(b, v.rig.proc.cmd.Process.Pid) - before
	if strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		b.Fatalf("%s: wrk did not get what it asked for:\n%s", v.name, out)
	}
	m := measure{rate: number(b, wrkRate, out), cpu: spent.Seconds() * 1e6 / number(b, wrkRequests, out)}
	for _, match := range wrkLatency.FindAllStringSubmatch(string(out), -1) {
		d, err := time.ParseDuration(match[2] + match[3])
		if err != nil {
			b.Fatal(err)
		}
		ms := float64(d) / float64(time.Millisecond)
		if match[1] == "50" {
			m.p50 = ms
		} else {
			m.p99 = ms
		}
	}
	return m
}

func number(b *testing.B, pattern *regexp.Regexp, out []byte) float64 {
	match := pattern.FindSubmatch(out)
	if match == nil {
		b.Fatalf("wrk said nothing that matches %s:\n%s", pattern, out)
	}
	n, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// cpuTime is user and system time of a process (proc(5): fields 14 and 15 of stat, in hundredths of a second).
func cpuTime(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

func median(runs []measure, value func(measure, int) float64) float64 {
	var all []float64
	for i, m := range runs {
		all = append(all, value(m, i))
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

func millis(ms float64) string { return fmt.Sprintf("%.2fms", ms) }

func envInt(b *testing.B, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		b.Fatalf("%s is %q, want a number from 1", name, text)
	}
	return n
}
