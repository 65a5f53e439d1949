package main

import (
	"strings"
	"testing"
)

// A gate that reads events must not call an empty or a broken run a good one.
func TestRun(t *testing.T) {
	tests := []struct {
		name, in   string
		wantFailed bool
		want       []string
	}{
		{"nothing ran", "", true, []string{"tests: 0 passed, 0 skipped"}},
		{"one passed, one skipped",
			`{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: no redis\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}`, false,
			[]string{"ok  \tp\t0.1s", "tests: 1 passed, 1 skipped", "skipped: p TestB: b_test.go:1: no redis"}},
		{"a failure shows its output",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: wrong\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}`, true, []string{"b_test.go:1: wrong", "FAIL\tp\t0.1s"}},
		{"a broken build",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"ImportPath":"q","Action":"build-output","Output":"q.go:1:1: expected 'package'\n"}
{"ImportPath":"q","Action":"build-fail"}`, true, []string{"expected 'package'"}},
		{"a test that never ended",
			`{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"panic: boom\n"}`, true, []string{"panic: boom"}},
		{"the go command speaks", "go: no such package\n", true, []string{"go: no such package"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			v, err := run(strings.NewReader(test.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if failed := v.worse || len(v.failed) > 0; failed != test.wantFailed {
				t.Errorf("failed = %v, want %v", failed, test.wantFailed)
			}
			for _, want := range test.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, out.String())
				}
			}
			if strings.Contains(out.String(), "chatter") {
				t.Errorf("output of a passed test was printed:\n%s", out.String())
			}
		})
	}
}

// A second chance is for a few tests that failed by themselves, and it must be taken.
func TestSecondChance(t *testing.T) {
	const fails = `{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: TEXT\n"}
{"Action":"fail","Package":"p","Test":"TestB/row"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p"}
`
	const passes = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	many := passes
	for _, name := range []string{"TestB", "TestC", "TestD", "TestE"} {
		many += strings.ReplaceAll(fails, "TestB", name)
	}
	tests := []struct {
		name, in  string
		again     bool
		good      bool
		tried     int
		wantPrint string
	}{
		{"nothing failed", passes, false, true, 0, ""},
		{"passes alone", passes + fails, true, true, 1, "unsteady: p TestB"},
		{"fails again", passes + fails, false, false, 1, "failed twice: p TestB"},
		{"a data race", passes + strings.Replace(fails, "TEXT", "WARNING: DATA RACE", 1), true, false, 0, ""},
		{"too many", many, true, false, 0, ""},
		{"the build", passes + fails + `{"ImportPath":"q","Action":"build-fail"}` + "\n", true, false, 0, ""},
		{"a process that died", passes + `{"Action":"fail","Package":"q"}` + "\n" + fails, true, false, 0, ""},
		{"a panic", passes + strings.Replace(fails, "    b_test.go:1: TEXT", "panic: boom", 1), true, false, 0, ""},
		{"no test ran", fails, true, false, 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			v, err := run(strings.NewReader(test.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			tried := 0
			good := v.good(&out, func(id testID) bool {
				tried++
				return test.again && id == testID{"p", "TestB"}
			})
			if good != test.good || tried != test.tried || !strings.Contains(out.String(), test.wantPrint) {
				t.Errorf("good = %v after %d tries, want %v after %d; it printed:\n%s", good, tried, test.good, test.tried, out.String())
			}
		})
	}
}
