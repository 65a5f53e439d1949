package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// batch is the number of lines or items of a big request.
const batch = 4096

const benchToken = "bench-token-of-more-than-32-characters"

// load is one kind of request to the service, or what it is compared with.
type load struct {
	name, method, path, kind, body string
	connections                    int
}

// hardening measures /hmac-service beside a bare `respond` of the same listener: single requests by their rate, batches by the
// CPU time of the server.
func hardening(binary string, rounds int, length time.Duration) error {
	rig, err := prepare("hmac")
	if err != nil {
		return err
	}
	defer rig.close()
	s := rig.servers[0]
	token := filepath.Join(rig.dir, "token")
	if err := os.WriteFile(token, []byte(benchToken+"\n"), 0o600); err != nil {
		return err
	}
	config := fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	default_bind 127.0.0.1
	log {
		level ERROR
	}
}
%s {
	tls %[2]s/tls.pem %[2]s/tls.key
	hmac_service {
		subject localhost
		token_file %[3]s
		no_recovery
		compat
		limit 100000000 burst 100000000
	}
	respond "ok"
}
`, s.url, rig.dir, token)
	if err := rig.launch(s, binary, config); err != nil {
		return err
	}
	secret := strings.Repeat("T:12,34;", 6) // the length of a gesture's text
	var lines, items []string
	for i := range batch {
		uid := "patient-" + strconv.Itoa(i)
		lines = append(lines, uid+"\t\t"+base64.RawURLEncoding.EncodeToString([]byte(secret)))
		items = append(items, fmt.Sprintf(`{"uid":%q,"secret":%q,"slow":false}`, uid, secret))
	}
	one := `{"items":[` + items[0] + `]}`
	get := "?" + strings.ReplaceAll(secret, ";", "%3b") + "&1"
	loads := []load{
		{"bare GET", "GET", "/bare" + get, "", "", 16},
		{"original GET", "GET", "/hmac-service" + get, "", "", 16},
		{"bare POST", "POST", "/bare", "application/json", one, 16},
		{"protect 1", "POST", "/hmac-service/v1/protect", "application/json", one, 16},
		{"4096 lines", "POST", "/hmac-service/v1/protect", "text/plain", strings.Join(lines, "\n") + "\n", 2},
		{"4096 items", "POST", "/hmac-service/v1/protect", "application/json", `{"items":[` + strings.Join(items, ",") + `]}`, 2},
	}
	samples := make([][]sample, len(loads))
	var loops []float64
	for round := range rounds + 1 {
		for i, l := range loads {
			d := length
			if round == 0 {
				d = time.Second
			}
			m, err := s.press(rig.dir, l, d)
			if err != nil {
				return fmt.Errorf("measuring %s: %w; it says %s", l.name, err, s.says())
			}
			if round > 0 {
				samples[i] = append(samples[i], m)
			}
		}
		loops = append(loops, hmacLoop(secret))
	}
	reportHardening(loads, samples, loops[1:])
	return nil
}

// hmacLoop is the CPU time of a batch of bare HMACs, in µs.
func hmacLoop(secret string) float64 {
	mac := hmac.New(sha256.New, make([]byte, 32))
	input := []byte(strings.Repeat("x", 100) + secret) // label, uid, salt and lengths beside the secret
	var sum []byte
	const times = 50
	before := ownCPU()
	for range times * batch {
		mac.Reset()
		mac.Write(input)
		sum = mac.Sum(sum[:0])
	}
	return float64((ownCPU() - before).Microseconds()) / times
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportHardening prints medians, and ratios of neighbours: each round's own, so that what the machine did besides hits both sides.
func reportHardening(loads []load, samples [][]sample, loops []float64) {
	fmt.Printf("\n%-14s %9s %12s %10s %10s\n", "hmac-service", "req/s", "CPU µs/req", "p50", "p99")
	cpu, rates := map[string][]float64{}, map[string][]float64{}
	for i, l := range loads {
		var p50, p99 []time.Duration
		for _, m := range samples[i] {
			rates[l.name], cpu[l.name] = append(rates[l.name], m.rate), append(cpu[l.name], m.cpu)
			p50, p99 = append(p50, m.p50), append(p99, m.p99)
		}
		fmt.Printf("%-14s %9.0f %12.1f %10s %10s\n", l.name, median(rates[l.name]), median(cpu[l.name]), median(p50), median(p99))
	}
	spread := func(of func(round int) float64) string {
		var all []float64
		for i := range loops {
			all = append(all, of(i))
		}
		return fmt.Sprintf("%.3f [%.3f–%.3f]", median(all), slices.Min(all), slices.Max(all))
	}
	for _, pair := range [][2]string{{"original GET", "bare GET"}, {"protect 1", "bare POST"}} {
		fmt.Printf("%s / %s: %s of its rate, target ≥ 0.8; by CPU time %s\n", pair[0], pair[1],
			spread(func(i int) float64 { return rates[pair[0]][i] / rates[pair[1]][i] }),
			spread(func(i int) float64 { return cpu[pair[1]][i] / cpu[pair[0]][i] }))
	}
	base := func(i int) float64 { return loops[i] + cpu["bare POST"][i] }
	fmt.Printf("4096 HMACs in a loop: %.0f µs; 4096 lines: %s × cheaper than 4096 requests (target ≥ 50), %s × loop and one bare request (target ≤ 2)\n",
		median(loops), spread(func(i int) float64 { return batch * cpu["protect 1"][i] / cpu["4096 lines"][i] }),
		spread(func(i int) float64 { return cpu["4096 lines"][i] / base(i) }))
	fmt.Printf("4096 items in JSON: %s × loop and one bare request (target ≤ 4)\n", spread(func(i int) float64 { return cpu["4096 items"][i] / base(i) }))
}

// press loads the server with one kind of request, over keep-alive connections.
func (s *server) press(dir string, l load, length time.Duration) (sample, error) {
	script := filepath.Join(dir, "load.lua")
	body := filepath.Join(dir, "load.body")
	text := fmt.Sprintf("wrk.method = %q\nwrk.headers[\"Authorization\"] = \"Bearer %s\"\n", l.method, benchToken)
	if l.body != "" {
		text += fmt.Sprintf("local f = assert(io.open(%q, \"rb\"))\nwrk.body = f:read(\"*a\")\nf:close()\nwrk.headers[\"Content-Type\"] = %q\n", body, l.kind)
	}
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return sample{}, err
	}
	if err := os.WriteFile(body, []byte(l.body), 0o600); err != nil {
		return sample{}, err
	}
	before, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	out, err := exec.Command("wrk", "-t1", "-c"+strconv.Itoa(l.connections), "-d"+strconv.Itoa(int(length.Seconds()))+"s", "--latency", "-s", script, s.url+l.path).CombinedOutput()
	if err != nil {
		return sample{}, fmt.Errorf("running wrk: %w: %s", err, out)
	}
	after, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	m, requests, err := parseWrk(string(out))
	if err != nil {
		return sample{}, err
	}
	m.cpu = float64((after - before).Microseconds()) / requests
	return m, nil
}
