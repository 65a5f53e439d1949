package policy

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// blocks returns the policies that a file with Caddyfiles in it has: the lines of each `anteroom` block, with those of `use`, and its
// expectations.
func blocks(text string) (all [][]Line, networks map[string][]netip.Prefix) {
	networks = map[string][]netip.Prefix{}
	named := map[string][]Line{}
	var open []string // what each brace belongs to
	var block []Line
	var when []string // a line whose expression goes on
	for i, line := range strings.Split(text, "\n") {
		if before, _, ok := strings.Cut(line, " #"); ok {
			line = before
		}
		words := splitWords(strings.Trim(strings.TrimSpace(line), `"`))
		if len(words) == 0 || strings.HasPrefix(words[0], "#") || strings.HasPrefix(words[0], "//") {
			continue
		}
		last := words[len(words)-1]
		switch {
		case when != nil && words[0] == "}":
			block, when = append(block, Line{Words: when, At: "line " + strconv.Itoa(i+1)}), nil
		case when != nil:
			when[len(when)-1] += " " + strings.TrimSpace(line)
		case last == "{" && len(words) > 2 && words[len(words)-2] == "when":
			when = append(words[:len(words)-1:len(words)-1], "")
		case words[0] == "}" && len(open) > 0:
			name := open[len(open)-1]
			open = open[:len(open)-1]
			switch {
			case name == "anteroom" && len(block) > 0:
				all = append(all, block)
			case strings.HasPrefix(name, "policy "):
				named[strings.TrimPrefix(name, "policy ")] = block
			default:
				continue
			}
			block = nil
		case last == "{":
			open = append(open, strings.Join(words[:len(words)-1], " "))
		case words[0] == "```":
			open, block = nil, nil
		case words[0] == "network" && len(words) > 2:
			for _, word := range words[2:] {
				if prefix, err := netip.ParsePrefix(word); err == nil {
					networks[words[1]] = append(networks[words[1]], prefix)
				}
			}
		case words[0] == "use" && len(words) > 1:
			for _, name := range words[1:] {
				block = append(block, named[name]...)
			}
		case slices.Contains([]string{"allow", "deny", "require", "shadow", "break_glass", "budget", "expect"}, words[0]) && !strings.ContainsAny(line, "%[…"):
			if at := slices.Index(words, "when"); at > 0 && at+1 < len(words) {
				words = append(words[:at+1:at+1], strings.Trim(strings.Join(words[at+1:], " "), "{}"))
			}
			if len(words) > 1 {
				block = append(block, Line{Words: words, At: "line " + strconv.Itoa(i+1)})
			}
		}
	}
	return all, networks
}

// TestGoodConfigurations: what the documentation, the examples, the demo and the tests of the whole program use is without fault.
func TestGoodConfigurations(t *testing.T) {
	seen, expectations := 0, 0
	for _, pattern := range []string{"../README.md", "../Caddyfile.example", "../docs/*.md", "../cmd/anteroom-demo/config.go", "../integration/*_test.go", "../integration/bench/*.go", "../integration/testdata/*", "../caddymodule/testdata/adapt/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a directory
			}
			policies, networks := blocks(string(text))
			for _, lines := range policies {
				var expected []Line
				lines = slices.DeleteFunc(lines, func(line Line) bool {
					if line.Words[0] == "expect" {
						expected = append(expected, line)
					}
					return line.Words[0] == "expect"
				})
				p, err := New(Config{Lines: lines, Networks: networks})
				var problem *Problem
				if errors.As(err, &problem) && !isFinding(err) {

					continue // a part of a policy, or a mistake that is meant
				}
				if seen++; err != nil {
					t.Errorf("%s: %v", file, err)
					continue
				}
				for _, w := range p.Warnings() {
					t.Errorf("%s: %v", file, w)
				}
				for _, line := range expected {
					e, err := ParseExpectation(line)
					if err == nil {
						err = p.Check(e, monday)
					}
					if err != nil {
						t.Errorf("%s: %v", file, err)
					}
					expectations++
				}
			}
		}
	}
	if seen < 25 || expectations < 20 {
		t.Errorf("the test saw %d policies and %d expectations only", seen, expectations)
	}
}

// isFinding reports whether all that is wrong was found by the judgement.
func isFinding(err error) bool {
	codes := []string{foundUnknown, foundVariable, foundNever, foundContradiction, foundOpen, foundUnreachable, foundUseless}
	joined, ok := err.(interface{ Unwrap() []error })
	return ok && !slices.ContainsFunc(joined.Unwrap(), func(err error) bool {
		var problem *Problem
		return !errors.As(err, &problem) || !slices.Contains(codes, problem.Reason)
	})
}
