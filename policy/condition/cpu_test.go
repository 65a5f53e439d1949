package condition

import (
	"syscall"
	"testing"
	"time"
)

// cpu is how long this process has computed. Unlike the clock it tells what something costs on a machine that does other things, too.
// No tests run beside each other here.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
