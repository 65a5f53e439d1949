// Command testlines reads `go test -json` on standard input and prints what a person wants to see of it: go test's own line
// for each package, everything that a failed test or a failed build printed, and at the end how many tests ran and which of
// them were skipped. A skipped test looks like a passed one in go test's output, so it is named here.
//
// A few tests that failed are run once more, each alone: real browsers and servers on a busy machine fail for reasons that are
// not ours. One that passes then is listed as unsteady, with what it printed the first time above: it is a bug to be found,
// but not a reason to throw a run of half an hour away. A data race, a panic, also one of the program under test, a failed
// build, a process that died or ran out of time, or more than a handful of failures is never given a second chance.
//
// Whoever runs go test tells its exit code behind its events, as {"Action":"exit","Output":"1"}: what go test fails for and no
// event tells of, such as a package that is not there, is found by that. The verdict is this program's exit code, and not go
// test's: it is 1 when a test failed twice, when anything else failed and when no test ran at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

// event is one line of `go test -json` (see `go doc test2json`), or the exit code of one go test.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output events
	Test       string
	Output     string
}

func main() {
	v, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testlines:", err)
	}
	if err != nil || !v.good(os.Stdout, alone) {
		os.Exit(1)
	}
}

// chances is how many tests may fail and still be run again.
const chances = 3

// testID is one top-level test.
type testID struct{ pkg, name string }

// verdict is what a run came to.
type verdict struct {
	failed []testID
	worse  bool // something that no second try can mend
}

// good says whether the run passes, after a second try of its failed tests.
func (v verdict) good(out io.Writer, again func(testID) bool) bool {
	if v.worse || len(v.failed) > chances {
		return false
	}
	good := true
	for _, t := range v.failed {
		if again(t) {
			fmt.Fprintf(out, "unsteady: %s %s failed and then passed alone\n", t.pkg, t.name)
		} else {
			fmt.Fprintf(out, "failed twice: %s %s\n", t.pkg, t.name)
			good = false
		}
	}
	return good
}

// alone runs one test by itself, with all its subtests and what its package starts for all tests. The longest takes four minutes
// on a busy machine.
func alone(t testID) bool {
	cmd := exec.Command("go", "test", "-race", "-count=1", "-timeout", "20m", "-run", "^"+t.name+"$", t.pkg)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run() == nil
}

// run copies the interesting lines of in to out and says what failed.
func run(in io.Reader, out io.Writer) (v verdict, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	pending := map[string][]string{} // output of tests that have not ended yet, by package and test
	var passed int
	var skipped []string
	failing := map[string]bool{} // packages with a failed test
	explained := false           // an event told of a failure since the last exit code
	exits := 0
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text()) // not an event: the go command speaks itself
			continue
		}
		key := e.Package + "\x00" + e.Test
		switch e.Action {
		case "output", "build-output":
			v.worse = v.worse || races(e.Output) // which stands with any test that ran then, also with one that passes
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
		case "exit":
			if exits++; e.Output != "0" && (e.Output != "1" || !explained) {
				v.worse = true
				fmt.Fprintf(out, "go test failed with the exit code %s, for more than a test\n", e.Output)
			}
			explained = false
		case "fail", "build-fail":
			explained = true
			switch {
			case e.Test == "" && !failing[e.Package]:
				v.worse = true // a build, or a process that died
			case e.Test != "" && !strings.Contains(e.Test, "/"):
				v.failed = append(v.failed, testID{e.Package, e.Test})
			}
			failing[e.Package] = true
			text := strings.Join(pending[key], "")
			v.worse = v.worse || hopeless(text)
			fmt.Fprint(out, text)
			delete(pending, key)
		}
	}
	if err := lines.Err(); err != nil {
		return verdict{}, fmt.Errorf("reading test events: %w", err)
	}
	for key, rest := range pending { // tests that never ended: the process died in them
		if key[len(key)-1] != 0 && len(rest) > 0 {
			v.worse = true
			fmt.Fprint(out, strings.Join(rest, ""))
		}
	}
	if passed == 0 {
		v.worse = true
	}
	if exits == 0 {
		v.worse = true
		fmt.Fprintln(out, "nobody told how go test ended")
	}
	fmt.Fprintf(out, "tests: %d passed, %d skipped\n", passed, len(skipped))
	for _, s := range skipped {
		fmt.Fprintln(out, "skipped:", s)
	}
	return v, nil
}

// races reports whether a line says that the race detector found something.
func races(line string) bool {
	return strings.HasPrefix(line, "WARNING: DATA RACE") || strings.Contains(line, "race detected")
}

// panics are those of a test, and, in the logs that a failed test shows, those of the programs under test.
var panics = regexp.MustCompile(`(?m)^\s*(panic|fatal error): |panic serving `)

// hopeless reports whether the output of a failed test or package shows what is never forgiven.
func hopeless(text string) bool {
	return strings.Contains(text, "DATA RACE") || panics.MatchString(text)
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
