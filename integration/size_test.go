package integration

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// How large the program gets when strangers ask for more than anybody needs. They come from many addresses, as a load balancer
// reports them, so that no limit by address is what keeps it small; but from fewer than the limiter remembers.

const (
	strangers    = 12_500
	sizeHeap     = 8 << 20  // bytes in use that a flood may leave: what is remembered of 12,500 addresses, and some connections
	sizePeak     = 96 << 20 // bytes of memory that it may take meanwhile: buffers, and garbage that was not collected yet
	sizeRoutines = 150      // of connections that stay open for a while: of browsers, and 32 to the application
	sizeFile     = 1 << 20  // bytes of the store's file, or of the audit log
)

// sizeConfig takes the client's address from a load balancer on this machine, and logs errors only.
var sizeConfig = strings.Replace(strings.Replace(standard, globals, hallGlobals, 1), "level DEBUG\n\t}", "level ERROR\n\t}\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t}", 1)

// sizeRedis is sizeConfig with sessions in Redis.
var sizeRedis = strings.Replace(sizeConfig, "\tanteroom {", "\tanteroom {\n\t\tstore redis $REDIS", 1)

// stranger is the address of one of them, and the header that tells it.
func stranger(i int) [2]string {
	return [2]string{"x-forwarded-for", fmt.Sprintf("10.%d.%d.7", i%strangers>>8, i%strangers&255)}
}

// usage is what a process holds at a moment when nobody asks for anything.
type usage struct {
	heap       int // bytes in use after a garbage collection
	resident   int // bytes of memory that it has of the machine
	peak       int // the most that it ever had
	goroutines int
	streams    int // open requests that end with their session
	audit      int // bytes of the audit log
}

func (u usage) String() string {
	return fmt.Sprintf("heap %.1f MiB, resident %.1f MiB, peak %.1f MiB, %d goroutines, %d streams, audit log %.1f MiB",
		mib(u.heap), mib(u.resident), mib(u.peak), u.goroutines, u.streams, mib(u.audit))
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

// usage collects the garbage, pools included, and reads the figures.
func (r *rig) usage(t testing.TB) usage {
	t.Helper()
	for range 3 { // what lies in a pool survives the first
		r.admin(t, "/debug/pprof/heap?gc=1")
	}
	u, metrics := usage{}, r.admin(t, "/metrics")
	for name, to := range map[string]*int{"go_memstats_heap_alloc_bytes": &u.heap, "go_goroutines": &u.goroutines, "anteroom_streams": &u.streams} {
		*to = figure(t, metrics, name+" ")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	u.resident, u.peak = figure(t, string(status), "VmRSS:")<<10, figure(t, string(status), "VmHWM:")<<10
	u.audit = bytesBelow(t, filepath.Join(r.dataDir(), "anteroom", "audit"))
	return u
}

// figure reads the number behind a name at the start of a line.
func figure(t testing.TB, text, name string) int {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			return int(n)
		}
	}
	t.Fatalf("no %q in\n%s", name, text)
	return 0
}

// bytesBelow adds up a file, or the files of a folder.
func bytesBelow(t testing.TB, path string) (n int) {
	t.Helper()
	err := filepath.WalkDir(path, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			n += int(info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// admin reads a page of Caddy's admin API.
func (r *rig) admin(t testing.TB, path string) string {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.dir, "admin.sock"))
		},
	}}
	res, err := client.Get("http://localhost" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", path, res.StatusCode, err)
	}
	return string(body)
}

// settled waits until what was asked is done and reads the figures.
func (r *rig) settled(t testing.TB, before usage) usage {
	t.Helper()
	var u usage
	eventually(t, patience, func() error {
		if u = r.usage(t); u.goroutines > before.goroutines+sizeRoutines {
			return fmt.Errorf("%d goroutines, there were %d", u.goroutines, before.goroutines)
		}
		return nil
	})
	return u
}

// bounded compares what the process holds with what it held.
func bounded(t testing.TB, before, after usage) {
	t.Helper()
	t.Logf("before: %v", before)
	t.Logf("after:  %v", after)
	if grown := after.heap - before.heap; grown > sizeHeap {
		t.Errorf("%.1f MiB more are in use than before, %.1f at most", mib(grown), mib(sizeHeap))
	}
	if grown := after.peak - before.resident; grown > sizePeak {
		t.Errorf("it took %.1f MiB more of memory than before, %.1f at most", mib(grown), mib(sizePeak))
	}
}

// held is one figure of a store, and by how much a flood may raise it.
type held struct {
	what    string
	n, more int
}

// stores are the two kinds. Each starts the program and says how to ask what its store holds.
var stores = map[string]func(*testing.T) (*rig, func() []held){
	"embedded": func(t *testing.T) (*rig, func() []held) {
		r := newRig(t, sizeConfig)
		return r, func() []held {
			return []held{{"bytes of the file", bytesBelow(t, filepath.Join(r.dataDir(), "anteroom", "store.db")), sizeFile}}
		}
	},
	"redis": func(t *testing.T) (*rig, func() []held) {
		server := redistest.Standalone(t)
		return newRig(t, sizeRedis, "REDIS", server.URL()), func() []held {
			return []held{
				{"keys", figure(t, "keys "+server.Do("DBSIZE"), "keys"), 200}, // a few for each of those who do sign in
				{"bytes of memory", figure(t, server.Do("INFO", "memory"), "used_memory:"), 4 << 20},
			}
		}
	},
}

// unstored compares what the store holds with what it held.
func unstored(t testing.TB, before, after []held) {
	t.Helper()
	for i, h := range after {
		t.Logf("%s in the store: %d before, %d after", h.what, before[i].n, h.n)
		if h.n > before[i].n+h.more {
			t.Errorf("the store has %d %s more than before, %d at most", h.n-before[i].n, h.what, h.more)
		}
	}
}

// 100,000 sign-ins are begun that nobody finishes. An attempt lives in the browser's cookie: nothing of it stays with us, neither in
// memory nor in the store nor in the audit log. People sign in meanwhile.
func TestSizeAttempts(t *testing.T) {
	const attempts, people = 100_000, 10
	for name, start := range stores {
		t.Run(name, func(t *testing.T) {
			r, stored := start(t)
			r.person(t, appHost, "dana")
			before := r.usage(t)
			storedBefore := stored()
			began := time.Now()
			f := newFlood(t, r, appHost, attempts, func(i int) (string, [][2]string) {
				return "/.anteroom/login?return_to=/members/x", [][2]string{stranger(i)}
			})
			f.longer.Store(true) // until all people are in, however slow the machine is
			longest := time.Duration(0)
			for i := range people { // over three quarters of the flood
				f.reach(t, i*attempts*3/4/people)
				asked := time.Now()
				if got := r.status(t, appHost, "/members/x", r.person(t, appHost, "dana")); got != 200 {
					t.Errorf("somebody who signed in amid the flood is answered %d", got)
				}
				longest = max(longest, time.Since(asked))
			}
			f.longer.Store(false)
			answers := f.wait(t)
			took, begun := time.Since(began), int(f.begun.Load())
			if answers["302"] != begun || len(answers) != 1 {
				t.Errorf("answers by status: %v, want %d times 302", answers, begun)
			}
			after := r.settled(t, before)
			t.Logf("%d attempts in %v (%.0f/s); of %d people meanwhile the slowest was in after %v", begun, took.Round(time.Millisecond),
				float64(begun)/took.Seconds(), people, longest.Round(time.Millisecond))
			bounded(t, before, after)
			unstored(t, storedBefore, stored())
			if grown := after.audit - before.audit; grown > sizeFile {
				t.Errorf("the audit log has grown by %.1f MiB", mib(grown))
			}
		})
	}
}
