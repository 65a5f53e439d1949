package hardening

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// slots bounds what takes much memory, of the whole process: a slow hash takes 19 MiB, and an unbounded number of callers
// would be an out-of-memory kill of the proxy.
type slots struct {
	free  chan struct{}
	queue chan struct{}
}

// slowSlots is shared by all services of the process, as memory is.
var slowSlots = newSlots(slowAtOnce(runtime.GOMAXPROCS(0), memoryLimit()), 64)

// batchSlots bounds the bodies above smallBody that are in memory at once, with their answers.
var batchSlots = newSlots(batchesAtOnce(memoryLimit()), 64)

// smallBody needs no slot.
const smallBody = 64 << 10

// slowAtOnce is how many slow hashes run at once: one for each core, and no more than a quarter of the memory holds. Go's
// collector may keep as much again of what has ended.
func slowAtOnce(cores int, memory int64) int {
	const each = 2 * slowMemory << 10
	return int(max(1, min(int64(cores), memory/4/each)))
}

// batchesAtOnce is how many big bodies are in memory at once: 16, and no more than an eighth of the memory holds. Body, records
// and answer are copies of each other.
func batchesAtOnce(memory int64) int {
	const each = 4 * maxBody
	return int(max(1, min(16, memory/8/each)))
}

// memoryLimit is what this process may use: GOMEMLIMIT, or the control group's limit when that is lower.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1) // reads it
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 { // "max": none
			limit = min(limit, n)
		}
	}
	return limit
}

func newSlots(atOnce, waiting int) *slots {
	return &slots{make(chan struct{}, max(1, atOnce)), make(chan struct{}, waiting)}
}

// take waits for a slot; a full queue or the end of ctx is ErrBusy.
func (s *slots) take(ctx context.Context) error {
	if ctx.Err() != nil { // nobody waits for the answer any more
		return fmt.Errorf("starting: %w", ErrBusy)
	}
	select {
	case s.free <- struct{}{}:
		return nil
	default:
	}
	select {
	case s.queue <- struct{}{}:
		defer func() { <-s.queue }()
	default:
		return fmt.Errorf("queueing: %w", ErrBusy)
	}
	select {
	case s.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a place: %w", ErrBusy)
	}
}

func (s *slots) give() { <-s.free }
