package redistest

import (
	"fmt"
	"os"
	"strings"
)

// outside stands in for a test where there is none.
type outside struct {
	cleanups []func()
}

// Outside returns a TB for a TestMain, and what to call at its end. Whatever fails panics; whether a missing Redis means that tests
// are skipped is for the caller to decide, with Missing.
func Outside() (TB, func()) {
	o := new(outside)
	return o, o.end
}

func (o *outside) end() {
	for i := len(o.cleanups) - 1; i >= 0; i-- {
		o.cleanups[i]()
	}
	o.cleanups = nil
}

func (o *outside) fail(format string, args []any) {
	o.end()
	panic(fmt.Sprintf(format, args...))
}

func (*outside) Helper()                             {}
func (o *outside) Fatalf(format string, args ...any) { o.fail(format, args) }
func (o *outside) Skipf(format string, args ...any)  { o.fail(format, args) }
func (o *outside) Cleanup(f func())                  { o.cleanups = append(o.cleanups, f) }

func (*outside) Logf(format string, args ...any) {
	fmt.Fprintln(os.Stderr, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (o *outside) TempDir() string {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		o.Fatalf("making a folder: %v", err)
	}
	o.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
