package policy

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestFuzzSeeds fails when a fuzz target lost its committed seeds.
func TestFuzzSeeds(t *testing.T) {
	for _, target := range []string{"FuzzPath", "FuzzPolicyLine"} {
		entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", target))
		if err != nil || len(entries) == 0 {
			t.Errorf("%s has no seeds: %v", target, err)
		}
	}
}

// FuzzPath checks invariant 3 on every accepted path: it survives net/url byte for byte, and no decoder finds in it what
// another one does not.
func FuzzPath(f *testing.F) {
	f.Fuzz(func(t *testing.T, input string) {
		p, err := ParsePath(input)
		if err != nil {
			if p != (Path{}) {
				t.Fatalf("%q: refused and yet %+v", input, p)
			}
			return
		}
		if p.String() != input {
			t.Fatalf("%q became %q", input, p.String())
		}
		u, err := url.ParseRequestURI(input)
		if err != nil || u.EscapedPath() != input || u.RawQuery != "" || u.Fragment != "" || u.Host != "" {
			t.Fatalf("%q: net/url reads it as %+v (%v)", input, u, err)
		}
		raw, decoded, folded := strings.Split(input[1:], "/"), strings.Split(p.decoded[1:], "/"), strings.Split(p.folded[1:], "/")
		if len(raw) != len(decoded) || len(raw) != len(folded) {
			t.Fatalf("%q: segments %q, %q", input, raw, decoded)
		}
		for i, segment := range raw {
			once, err := url.PathUnescape(segment)
			if err != nil || once != decoded[i] || lower(once) != folded[i] {
				t.Fatalf("%q: segment %q decodes to %q (%v), not %q", input, segment, once, err, decoded[i])
			}
			if once == "" && i < len(raw)-1 || strings.ContainsAny(once, "/\\;?#\x00") || strings.HasSuffix(once, ".") ||
				strings.TrimSpace(once) != once || strings.ContainsFunc(once, unicode.IsControl) || !utf8.ValidString(once) {
				t.Fatalf("%q: segment %q is ambiguous", input, once)
			}
			if twice, err := url.PathUnescape(once); err == nil && twice != once {
				t.Fatalf("%q: segment %q decodes twice, to %q", input, once, twice)
			}
		}
	})
}

// FuzzPolicyLine checks that every line either compiles to something that does not contradict its own text or tells what
// is wrong with it, and that two readings are equal.
func FuzzPolicyLine(f *testing.F) {
	f.Fuzz(func(t *testing.T, input string) {
		line := Line{Words: strings.Fields(input), At: "fuzz:1"}
		p, err := Compile([]Line{line})
		if (p == nil) == (err == nil) {
			t.Fatalf("%q: policy %v, error %v", input, p, err)
		}
		if err != nil {
			for _, problem := range problems(t, err) {
				if problem.Reason == "" || problem.Wrong == "" || problem.Write == "" {
					t.Fatalf("%q: %+v", input, problem)
				}
			}
			return
		}
		if line.Words[0] != "allow" {
			t.Fatalf("%q compiled", input)
		}
		if _, err := Compile([]Line{line, line}); err == nil {
			t.Fatalf("%q compiled twice", input)
		}
		root, _ := ParsePath("/")
		if d := p.Decide(Request{Method: "GET", Path: root}); d.Allowed && (line.Words[1] != "public" || !d.Public) {
			t.Fatalf("%q lets nobody in: %+v", input, d)
		}
		for _, role := range p.Roles() {
			if !ValidRole(role) {
				t.Fatalf("%q mentions role %q", input, role)
			}
		}
	})
}
