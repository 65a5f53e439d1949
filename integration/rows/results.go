package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// row is a line of rows.txt.
type row struct {
	id, what   string
	notOffered string // why; "" for a row that is offered
}

// parseTable reads rows.txt: an id, words, and perhaps why it is not offered.
func parseTable(text string) ([]row, error) {
	var rows []row
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, what, found := strings.Cut(line, " ")
		if !found || !rowID.MatchString(id) || seen[id] {
			return nil, fmt.Errorf("reading the table: %q is not one new id and what it is about", line)
		}
		seen[id] = true
		what, why, _ := strings.Cut(strings.TrimSpace(what), "; not offered: ")
		rows = append(rows, row{id, what, why})
	}
	return rows, nil
}

var (
	rowID       = regexp.MustCompile(`^(?:[CNBLJPHIM][0-9]+|1(?:0[45]|3[6-9]|4[0-3]|5[3-9]|6[0-9]|7[0-4])|CVE-[0-9]{4}-[0-9]{4,}|GHSA-[0-9a-z]{4}|caddy-[0-9]+|no-id-[0-9]+)$`)
	functionIDs = regexp.MustCompile(`^Test((?:(?:[CNBLJ]|Row|A)[0-9]+)+)(?:[^0-9a-z]|$)`) // a number alone is no name of a test: Row156, A142
	oneID       = regexp.MustCompile(`([CNBLJ]|Row|A)([0-9]+)`)
	wordBreaks  = regexp.MustCompile(`[^A-Za-z0-9#.-]+`)
	sameName    = regexp.MustCompile(`#[0-9]+$`) // of go test, for the second of two subtests with one name
)

// words are the row ids among the words of a text.
func words(text string) []string {
	var ids []string
	for _, word := range wordBreaks.Split(text, -1) {
		word = strings.Trim(sameName.ReplaceAllString(word, ""), ".-")
		if rowID.MatchString(word) && !slices.Contains(ids, word) {
			ids = append(ids, word)
		}
	}
	return ids
}

// idsOf gives the rows that a test belongs to: those of the innermost part of its name that names any.
func idsOf(test string) []string {
	parts := strings.Split(test, "/")
	for i := len(parts) - 1; i > 0; i-- {
		if ids := words(parts[i]); len(ids) > 0 {
			return ids
		}
	}
	if found := functionIDs.FindStringSubmatch(parts[0]); found != nil {
		var ids []string
		for _, id := range oneID.FindAllStringSubmatch(found[1], -1) {
			letter := id[1]
			if letter == "Row" || letter == "A" {
				letter = ""
			}
			if rowID.MatchString(letter + id[2]) {
				ids = append(ids, letter+id[2])
			}
		}
		return ids
	}
	if strings.HasPrefix(parts[0], "Fuzz") {
		return []string{"J79"}
	}
	return nil
}

// homes are the packages that a row's tests may be in, by id or table; everything else may be anywhere. C1 is also the name of
// a set of control characters, and not every fuzz target reads tokens.
var homes = map[string][]string{
	"C":   {"/identity/oidc", "/identity/issuer", "/portal", "/integration"},
	"N":   {"/identity/oidc", "/identity/issuer", "/portal", "/integration"},
	"P":   {"/gate", "/policy", "/integration"},
	"H":   {"/gate", "/policy", "/integration"},
	"I":   {"/gate", "/policy", "/integration"},
	"M":   {"/gate", "/policy", "/integration"},
	"J79": {"/jws", "/session", "/identity/oidc", "/identity/issuer", "/identity/bearer"},
}

func home(id, pkg string) bool {
	allowed, limited := homes[id]
	if letter := strings.TrimRight(id, "0123456789"); !limited {
		allowed, limited = homes[letter]
	}
	return !limited || slices.ContainsFunc(allowed, func(end string) bool { return strings.HasSuffix(pkg, end) })
}

// results collects what the tests of each row did.
type results struct {
	rows   []row
	ids    map[string]bool
	ended  map[string]map[string]string // package -> test -> action
	broken []string                     // packages that failed without a test that did
}

func newResults(rows []row) *results {
	r := &results{rows: rows, ids: map[string]bool{}, ended: map[string]map[string]string{}}
	for _, row := range rows {
		r.ids[row.id] = true
	}
	return r
}

func (r *results) known(id string) bool { return r.ids[id] }

// event is one line of `go test -json` (see `go doc test2json`).
type event struct {
	Action, Package, ImportPath, Test, Output string
}

// read takes the events of one run and prints the output of what failed.
func (r *results) read(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	said := map[string][]string{}
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text()) // not an event: the go command speaks itself
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "output":
			said[key] = append(said[key], e.Output)
		case "build-fail":
			r.broken = append(r.broken, e.ImportPath)
		case "run", "pass", "fail", "skip":
			r.note(e)
			if e.Action == "fail" {
				fmt.Fprint(out, strings.Join(said[key], ""))
			}
			if e.Action != "run" {
				delete(said, key)
			}
		}
	}
	return lines.Err()
}

func (r *results) note(e event) {
	tests := r.ended[e.Package]
	if tests == nil {
		tests = map[string]string{}
		r.ended[e.Package] = tests
	}
	if e.Test != "" {
		tests[e.Test] = e.Action // run stays where a test never ended: the process died in it
		return
	}
	if e.Action == "fail" && !slices.ContainsFunc(values(tests), bad) {
		r.broken = append(r.broken, e.Package)
	}
}

func bad(action string) bool { return action == "fail" || action == "run" }

func values(m map[string]string) []string {
	var all []string
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func (r *results) failed() bool {
	for _, tests := range r.ended {
		if slices.ContainsFunc(values(tests), bad) {
			return true
		}
	}
	return len(r.broken) > 0
}

// tally is what the tests of one row did.
type tally struct{ passed, failed int }

// tallies counts tests without subtests. A test with subtests counts when it failed and none of those did.
func (r *results) tallies() (rows map[string]tally, strays []string) {
	rows = map[string]tally{}
	for pkg, tests := range r.ended {
		parent, blamed := map[string]bool{}, map[string]bool{}
		for test, action := range tests {
			for at := strings.LastIndexByte(test, '/'); at > 0; at = strings.LastIndexByte(test[:at], '/') {
				parent[test[:at]] = true
				blamed[test[:at]] = blamed[test[:at]] || bad(action)
			}
		}
		for test, action := range tests {
			if parent[test] && (!bad(action) || blamed[test]) {
				continue
			}
			ids := slices.DeleteFunc(idsOf(test), func(id string) bool { return !r.ids[id] || !home(id, pkg) })
			if bad(action) && len(ids) == 0 {
				strays = append(strays, pkg+" "+test)
			}
			for _, id := range ids {
				t := rows[id]
				switch {
				case action == "pass":
					t.passed++
				case bad(action):
					t.failed++
				}
				rows[id] = t
			}
		}
	}
	slices.Sort(strays)
	return rows, strays
}

// print writes the table and gives an error unless every row holds. In a limited run only rows that something ran for count.
func (r *results) print(out io.Writer, limited bool) error {
	tallies, strays := r.tallies()
	held, failed, missing := 0, []string(nil), []string(nil)
	for _, row := range r.rows {
		t := tallies[row.id]
		result := "pass"
		switch {
		case t.failed > 0:
			result, failed = "FAIL", append(failed, row.id)
		case t.passed == 0 && limited:
			continue
		case t.passed == 0:
			result, missing = "not run", append(missing, row.id)
		case row.notOffered != "":
			result, held = "not offered", held+1
		default:
			held++
		}
		what := row.what
		if row.notOffered != "" {
			what += " (" + row.notOffered + ")"
		}
		fmt.Fprintf(out, "%-4s %-11s %5d  %s\n", row.id, result, t.passed+t.failed, what)
	}
	fmt.Fprintf(out, "rows: %d hold, %d fail, %d have no test\n", held, len(failed), len(missing))
	for _, list := range []struct {
		what string
		of   []string
	}{{"fail", failed}, {"no test", missing}, {"failed beside the rows", strays}, {"broken", r.broken}} {
		if len(list.of) > 0 {
			fmt.Fprintf(out, "%s: %s\n", list.what, strings.Join(list.of, " "))
		}
	}
	if held == 0 || len(failed)+len(missing)+len(strays)+len(r.broken) > 0 {
		return fmt.Errorf("not every row holds")
	}
	return nil
}
