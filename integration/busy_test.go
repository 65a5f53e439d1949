package integration

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must come and has no bound of its own: a busy machine is slow, not wrong.
const patience = time.Minute

// stopwatch measures a time that the product keeps within a bound, when it gets a processor.
type stopwatch struct {
	began  time.Time
	queued time.Duration
}

func startWatch() stopwatch { return stopwatch{time.Now(), queued()} }

// elapsed is the time since the start, whatever the machine did meanwhile.
func (w stopwatch) elapsed() time.Duration { return time.Since(w.began) }

// over reports whether a time since the start breaks a bound.
func (w stopwatch) over(took, bound time.Duration) bool {
	return took > bound && tooLong(took, queued()-w.queued, bound)
}

// tooLong holds a time against a bound. What the threads of this process had to wait for a processor is given on top, because the
// programs under test compete for the same ones; but ten times the bound is too long on any machine.
func tooLong(took, queued, bound time.Duration) bool {
	return took > bound+max(0, queued) || took > 10*bound
}

// queued is how long the threads of this process have been ready to run and did not (proc(5), schedstat, the second number); 0
// where the kernel does not tell. A thread that has ended takes its figure along: that only makes a stopwatch stricter.
func queued() (sum time.Duration) {
	files, _ := filepath.Glob("/proc/self/task/*/schedstat")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if fields := strings.Fields(string(b)); err == nil && len(fields) == 3 {
			ns, _ := strconv.ParseInt(fields[1], 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

// A bound is held against the clock, and no load of the machine excuses ten times as much.
func TestHarnessStopwatch(t *testing.T) {
	const bound = time.Second
	for name, c := range map[string]struct {
		took, queued time.Duration
		want         bool
	}{
		"in time":                        {bound, 0, false},
		"late":                           {bound + 1, 0, true},
		"late by what it waited for":     {2 * bound, bound, false},
		"late by more than that":         {2*bound + 1, bound, true},
		"late beyond all measure":        {10*bound + 1, time.Hour, true},
		"a thread took its figure along": {bound + 1, -time.Hour, true},
	} {
		if got := tooLong(c.took, c.queued, bound); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	w := startWatch()
	w.queued += time.Hour // nobody waited for a processor since
	if !w.over(bound+1, bound) || w.over(bound, bound) {
		t.Error("a stopwatch does not hold the bound")
	}
}
