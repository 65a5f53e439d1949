package caddymodule

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Caddy puts variables of the environment into the text of a Caddyfile before it takes it apart: of `allow role doctor {$PATHS}` without
// such a variable, `allow role doctor` is left, which allows every path. The file still tells.

var ofEnvironment = regexp.MustCompile(`\{\$([^{}:]+)(?::([^{}]*))?\}`)

// emptyVariables returns the variables in the lines of a file, from one to another, that stand there for nothing. What does not begin with the
// word is another line than the one that was read (a variable of several lines stands before it), or another file.
func emptyVariables(file string, from, to int, word string) []string {
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() { // a pipe is read once
		return nil
	}
	text, err := os.ReadFile(file)
	if err != nil { // it came over the admin API, or from standard input
		return nil
	}
	lines := strings.Split(string(text), "\n")
	if from < 1 || from > len(lines) {
		return nil
	}
	lines = lines[from-1 : min(max(from, to), len(lines))]
	if first := strings.Fields(lines[0]); !slices.Contains(first, word) && !strings.Contains(lines[0], "{$") {
		return nil
	}
	var empty []string
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		for _, m := range ofEnvironment.FindAllStringSubmatch(line, -1) {
			value, found := os.LookupEnv(m[1])
			if !found {
				value = m[2]
			}
			if strings.TrimSpace(value) == "" && !slices.Contains(empty, m[1]) {
				empty = append(empty, m[1])
			}
		}
	}
	return empty
}

// missing says what stands for nothing in lines of a policy.
func missing(rules []Rule) (warnings []string) {
	for _, r := range rules {
		if len(r.Empty) > 0 && len(r.Words) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: {$%s} is empty, so that the line says `%s` and no more, which is another rule than the one that was meant: set the variable, or write what the line has without it, for example {$%s:/nothing}",
				r.At, strings.Join(r.Empty, "}, {$"), strings.Join(r.Words, " "), r.Empty[0]))
		}
	}
	return warnings
}
