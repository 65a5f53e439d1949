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
			v, err := run(strings.NewReader(strings.TrimSuffix(test.in, "\n")+"\n"+exited("0")), &out)
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
	const ends = "testing.go:1: race detected during execution of test"
	const timeout = `{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"panic: test timed out after 45m0s\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"\trunning tests:\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t2700.1s\n"}
{"Action":"fail","Package":"p"}
`
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
		{"a panic of the program under test", passes + strings.Replace(fails, "TEXT", "end of anteroom.log:\\n        panic: boom", 1), true, false, 0, ""},
		{"a panic in a handler", passes + strings.Replace(fails, "TEXT", `{\"level\":\"error\",\"msg\":\"http: panic serving 127.0.0.1:1: boom`, 1), true, false, 0, ""},
		{"a word about panic", passes + strings.Replace(fails, "TEXT", "no need to panic: boom", 1), true, true, 1, "unsteady: p TestB"},
		{"a data race that another test shows", `{"Action":"output","Package":"p","Test":"TestA","Output":"WARNING: DATA RACE\n"}` + "\n" + passes + fails, true, false, 0, ""},
		{"a data race that no test shows", passes + strings.Replace(fails, "TEXT", ends, 1), true, false, 0, ""},
		{"out of time", passes + timeout, true, false, 0, ""},
		{"no test ran", fails, true, false, 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			code := "0"
			if strings.Contains(test.in, "fail") {
				code = "1"
			}
			v, err := run(strings.NewReader(test.in+exited(code)), &out)
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

// exited is what whoever runs go test tells of its end.
func exited(code string) string { return `{"Action":"exit","Output":"` + code + `"}` + "\n" }

// What no event tells of fails a run as well.
func TestExitCodes(t *testing.T) {
	const passes = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	const fails = `{"Action":"fail","Package":"p","Test":"TestB"}` + "\n"
	tests := []struct {
		name, in string
		good     bool
	}{
		{"two good ends", passes + exited("0") + passes + exited("0"), true},
		{"a failed test explains it, and passes alone", passes + fails + exited("1") + passes + exited("0"), true},
		{"nothing explains it", passes + exited("1"), false},
		{"only the other run's failure would", passes + fails + exited("1") + passes + exited("1"), false},
		{"it was killed", passes + exited("137"), false},
		{"it was killed after a failure", passes + fails + exited("137"), false},
		{"it was not told", passes, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			v, err := run(strings.NewReader(test.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.good(&out, func(testID) bool { return true }); got != test.good {
				t.Errorf("good = %v, want %v; it printed:\n%s", got, test.good, out.String())
			}
		})
	}
}
