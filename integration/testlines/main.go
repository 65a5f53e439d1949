// Command testlines reads `go test -json` on standard input and prints what a person wants to see of it: go test's own line
// for each package, everything that a failed test or a failed build printed, and at the end how many tests ran and which of
// them were skipped. A skipped test looks like a passed one in go test's output, so it is named here.
//
// It exits 1 when a test or a build failed and when no test ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output events
	Test       string
	Output     string
}

func main() {
	failed, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlines:", err)
	}
	if err != nil || failed {
		os.Exit(1)
	}
}

// run copies the interesting lines of in to out and says whether something failed.
func run(in io.Reader, out io.Writer) (failed bool, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	pending := map[string][]string{} // output of tests that have not ended yet, by package and test
	var passed int
	var skipped []string
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text()) // not an event: the go command speaks itself
			continue
		}
		key := e.Package + "\x00" + e.Test
		switch e.Action {
		case "output", "build-output":
			switch {
			case e.Action == "build-output", e.Test == "" && packageLine(e.Output):
				fmt.Fprint(out, e.Output)
			default:
				pending[key] = append(pending[key], e.Output)
			}
		case "pass":
			if e.Test != "" {
				passed++
			}
			delete(pending, key)
		case "skip":
			if e.Test != "" {
				skipped = append(skipped, e.Package+" "+e.Test+": "+reason(pending[key]))
			}
			delete(pending, key)
		case "fail", "build-fail":
			failed = true
			fmt.Fprint(out, strings.Join(pending[key], ""))
			delete(pending, key)
		}
	}
	if err := lines.Err(); err != nil {
		return true, fmt.Errorf("reading test events: %w", err)
	}
	for key, rest := range pending { // tests that never ended: the process died in them
		if key[len(key)-1] != 0 && len(rest) > 0 {
			failed = true
			fmt.Fprint(out, strings.Join(rest, ""))
		}
	}
	if passed == 0 {
		failed = true
	}
	fmt.Fprintf(out, "tests: %d passed, %d skipped\n", passed, len(skipped))
	for _, s := range skipped {
		fmt.Fprintln(out, "skipped:", s)
	}
	return failed, nil
}

// packageLine reports whether a line of a package's output is go test's verdict, not something that code printed.
func packageLine(s string) bool {
	for _, prefix := range []string{"ok  \t", "FAIL\t", "?   \t", "---", "panic:", "\t"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// reason is the text that a skipped test gave.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			return line
		}
	}
	return "no reason given"
}
