package condition

import (
	"strings"
	"testing"
)

// TestRepetitions: a repetition with a number is usual in a pattern. It compiles, it counts as often as it is written out, and neither
// panics.
func TestRepetitions(t *testing.T) {
	for text, path := range map[string]string{
		`request.path.matches("^/x/[0-9]{3}$")`:  "/x/123",
		`request.path.matches("^/x/[0-9]{2,}$")`: "/x/123",
		`request.path.matches("^/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(/[a-z]{1,9})?$")`: "/01234567-0123-0123-0123-0123456789ab/notes",
		`matches(request.path, "^(/[a-z]+){0,3}$")`:                                                             "/a/b",
	} {
		c, err := Compile(text, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, path := range []struct {
			text string
			want bool
		}{{path, true}, {path + "!", false}} {
			if got, err := c.Eval(&Input{Path: path.text}); got != path.want || err != nil {
				t.Errorf("%s of %s: %t, %v", text, path.text, got, err)
			}
		}
	}
	for _, pattern := range []string{"(.*a){40}x", "((a{1,9}){1,9}){1,9}", "(.{0,80}a)x", "(a{0,1000}){0,1000}"} {
		if _, err := Compile(`request.path.matches("`+pattern+`")`, nil, nil); err == nil || !strings.Contains(err.Error(), "the pattern") {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

// BenchmarkHostilePaths is what a stranger can make a pattern cost with the longest path. The limit of a pattern's size bounds it.
func BenchmarkHostilePaths(b *testing.B) {
	for _, text := range []string{
		`request.path.matches("^/([^x]*a){12}x$")`, `request.path.matches("(.*a){12}x")`, `request.path.matches("(a|aa|aaa){9}x$")`, `request.path.matches("((a*)*b)*c$")`,
		`request.path.matches("(.{0,40}a)x")`,
	} {
		c, err := Compile(text, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(text, func(b *testing.B) {
			in := Input{Path: "/" + strings.Repeat("a", 8191)}
			for b.Loop() {
				_, _ = c.Eval(&in)
			}
		})
	}
}
