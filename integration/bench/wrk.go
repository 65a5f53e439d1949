package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// browserHeaders is what Chromium sends when a person follows a link within a site. With fewer headers than any
// browser sends, the four that the gate adds would weigh as much as all the others.
var browserHeaders = []string{
	`Sec-Ch-Ua: "Chromium";v="156", "Not)A;Brand";v="24"`, "Sec-Ch-Ua-Mobile: ?0", `Sec-Ch-Ua-Platform: "Linux"`,
	"Upgrade-Insecure-Requests: 1", "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
	"Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate", "Sec-Fetch-User: ?1", "Sec-Fetch-Dest: document",
	"Referer: https://localhost/records/", "Accept-Encoding: gzip, deflate, br, zstd", "Accept-Language: en-GB,en;q=0.9", "Priority: u=0, i",
}

// measure loads the server with wrk: one thread, 32 keep-alive connections.
func (s *server) measure(length time.Duration) (sample, error) {
	before, err := cpuTime(s.cmd.Process.Pid)
	if err != nil {
		return sample{}, err
	}
	args := []string{"-t1", "-c32", "-d" + strconv.Itoa(int(length.Seconds())) + "s", "--latency"}
	for _, h := range append(browserHeaders, "Cookie: "+s.cookie) {
		args = append(args, "-H", h)
	}
	out, err := exec.Command("wrk", append(args, s.url+"/records/17")...).CombinedOutput()
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

var (
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkCount = regexp.MustCompile(`(\d+) requests in`)
	wrkP50   = regexp.MustCompile(`50%\s+([0-9.]+(?:us|ms|s))`)
	wrkP99   = regexp.MustCompile(`99%\s+([0-9.]+(?:us|ms|s))`)
)

// parseWrk reads wrk's report. An answer other than 2xx makes the measurement worthless.
func parseWrk(out string) (sample, float64, error) {
	if strings.Contains(out, "Non-2xx") || strings.Contains(out, "Socket errors") {
		return sample{}, 0, fmt.Errorf("not every request was answered 2xx:\n%s", out)
	}
	var texts []string
	for _, re := range []*regexp.Regexp{wrkRate, wrkCount, wrkP50, wrkP99} {
		m := re.FindStringSubmatch(out)
		if m == nil {
			return sample{}, 0, fmt.Errorf("reading wrk's report: %s not found:\n%s", re, out)
		}
		texts = append(texts, m[1])
	}
	rate, err1 := strconv.ParseFloat(texts[0], 64)
	count, err2 := strconv.ParseFloat(texts[1], 64)
	p50, err3 := time.ParseDuration(texts[2])
	p99, err4 := time.ParseDuration(texts[3])
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return sample{}, 0, fmt.Errorf("reading wrk's report: %w", err)
		}
	}
	return sample{rate: rate, p50: p50, p99: p99}, count, nil
}

// cpuTime is the user and system time of a process so far (proc(5): fields 14 and 15 of stat, in
// hundredths of a second).
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading the server's CPU time: %w", err)
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may contain blanks
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading the server's CPU time: %d fields in stat", len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("reading the server's CPU time: fields %q and %q are no numbers", fields[11], fields[12])
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
