// Command rows runs the tests of the rows of the attack tables (rows.txt) and prints one line for each row: its id, whether
// all of its tests passed, how many there were, and what it is about.
//
// A test belongs to a row when the row's id is a word of its name or of its subtest's: TestRows/C7_kid-absent,
// TestB14SameToken, TestRow156Life, "J1 J3 none". A subtest without an id belongs to the rows of the test that it is in, and the seeds of a
// fuzz target to J79. It exits 1 unless every row has a test and no test failed; with -packages, rows that nothing ran for
// are left out.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed rows.txt
var table string

// everywhere are the packages that hold row tests. The end-to-end tests run alone, because they measure time.
const everywhere = "./identity/... ./jws ./session ./policy ./gate ./portal ./loopback ./hardening ./envelope/... ./rekey ./store/... ./budget ./emergency ./caddymodule ./integration"

func main() {
	packages := flag.String("packages", "", "packages to limit the run to, separated by blanks or commas")
	timeout := flag.String("timeout", "45m", "of each of the two runs of go test")
	flag.Parse()
	rows, err := parseTable(table)
	if err == nil {
		err = run(rows, *packages, *timeout, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rows:", err)
		os.Exit(1)
	}
}

func run(rows []row, packages, timeout string, out io.Writer) error {
	limited := packages != ""
	if !limited {
		packages = everywhere
	}
	names := strings.FieldsFunc(packages, func(r rune) bool { return r == ' ' || r == ',' })
	first, alone, err := list(names)
	if err != nil {
		return err
	}
	r := newResults(rows)
	for _, dirs := range [][]string{first, alone} {
		tests, holders, err := selected(dirs, r.known)
		if err != nil {
			return err
		}
		if len(tests) == 0 {
			continue
		}
		if err := goTest(r, tests, holders, timeout, out); err != nil {
			return err
		}
	}
	return r.print(out, limited)
}

// list gives the folders of packages, those of the end-to-end tests apart.
func list(names []string) (first, alone []string, err error) {
	command := exec.Command("go", append([]string{"list", "-f", "{{.Dir}}"}, names...)...)
	command.Stderr = os.Stderr
	text, err := command.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("listing packages: %w", err)
	}
	for _, dir := range strings.Fields(string(text)) {
		if filepath.Base(dir) == "integration" {
			alone = append(alone, dir)
		} else {
			first = append(first, dir)
		}
	}
	return first, alone, nil
}

var testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z][A-Za-z0-9_]*)\([a-z] \*testing\.[TF]\)`)

// selected gives the tests of every file that names a row, and the folders that have one. The rows of a table may be made in
// one function and run by another of the same file; tests called …Rows take them from elsewhere.
func selected(dirs []string, known func(id string) bool) (tests, holders []string, err error) {
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			return nil, nil, err
		}
		before := len(tests)
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, nil, fmt.Errorf("reading tests: %w", err)
			}
			names := namesRow(string(text), known)
			for _, found := range testFunction.FindAllStringSubmatch(string(text), -1) {
				if names || strings.HasSuffix(found[1], "Rows") || len(idsOf(found[1])) > 0 {
					tests = append(tests, found[1])
				}
			}
		}
		if len(tests) > before {
			holders = append(holders, dir)
		}
	}
	return tests, holders, nil
}

var quoted = regexp.MustCompile(`"([^"\n]*)"`)

// namesRow says whether a test file has a row's id in a test's name or at the beginning of a text.
func namesRow(text string, known func(string) bool) bool {
	for _, found := range testFunction.FindAllStringSubmatch(text, -1) {
		if len(idsOf(found[1])) > 0 {
			return true
		}
	}
	for _, found := range quoted.FindAllStringSubmatch(text, -1) {
		for _, id := range words(found[1]) {
			if known(id) {
				return true
			}
		}
	}
	return false
}

// goTest runs the tests and reads their results. What failed is printed at once; a test that fails is a row that fails, not
// an error.
func goTest(r *results, tests, dirs []string, timeout string, out io.Writer) error {
	args := []string{"test", "-json", "-count=1", "-timeout", timeout, "-run", "^(" + strings.Join(tests, "|") + ")$"}
	command := exec.Command("go", append(args, dirs...)...)
	command.Stderr = os.Stderr
	events, err := command.StdoutPipe()
	if err != nil {
		return fmt.Errorf("running tests: %w", err)
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("running tests: %w", err)
	}
	readErr := r.read(events, out)
	err = command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && r.failed() {
		err = nil // said by the rows
	}
	return errors.Join(readErr, err)
}
