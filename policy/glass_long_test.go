package policy

import (
	"strings"
	"testing"
)

// TestLongGlass: what stands in the cookie and in the record of a grant is bounded (package emergency). A line that is longer would load,
// offer its form, and never open anything.
func TestLongGlass(t *testing.T) {
	line := func(n int) Line {
		words := []string{"break_glass", "role", "doctor", "on", "/patients/{patient}/**", "for", "30m", "when", ""}
		words[len(words)-1] = "user.name != \"" + strings.Repeat("x", n-len(strings.Join(words, " "))-len("user.name != \"\"")) + "\""
		return Line{Words: words}
	}
	for n, want := range map[int]bool{200: true, 1024: true, 1025: false, 3000: false} {
		_, err := Compile([]Line{{Words: []string{"allow", "any", "/x"}}, line(n)})
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "longer than 1024") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
