package policy

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestFuzzSeeds fails when a fuzz target lost its committed seeds.
func TestFuzzSeeds(t *testing.T) {
	for _, target := range []string{"FuzzPath", "FuzzPathExceptions", "FuzzPolicyLine", "FuzzScope"} {
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
		scoped := slices.ContainsFunc(p.Lines()[0].Subjects, func(t Term) bool { return t.Key == "scope" })
		if scoped != p.Uses().Bearer || scoped != (len(p.Scopes()) > 0) {
			t.Fatalf("%q has the scopes %q", input, p.Scopes())
		}
		session := Request{Method: "GET", Path: root, Who: &Subject{Username: "u", Roles: p.Roles(), Scopes: p.Scopes(), Patient: "p"}}
		if d := p.Decide(session); d.Allowed && scoped {
			t.Fatalf("%q lets a session in: %+v", input, d)
		}
		session.Who.Bearer = true
		if d := p.Decide(session); d.Allowed && !d.Public && !scoped {
			t.Fatalf("%q lets a token in: %+v", input, d)
		}
		for _, role := range p.Roles() {
			if !ValidRole(role) {
				t.Fatalf("%q mentions role %q", input, role)
			}
		}
	})
}

// FuzzDecide compares the trees with a try of each line by itself: what is allowed has an allow line that holds, no deny line that holds
// and no require line that is not met, in each way to read the path.
func FuzzDecide(f *testing.F) {
	f.Fuzz(func(t *testing.T, text, target, name, value string, switches uint8) {
		c := Config{IgnoreCase: switches&1 != 0, Networks: plainNetworks}
		if switches&2 != 0 {
			c.Exceptions = Exceptions{EncodedSlash: true, Semicolon: true, EncodedPercent: true, TrailingDot: true}
		}
		for text := range strings.SplitSeq(text, "\n") {
			c.Lines = append(c.Lines, Line{Words: strings.Fields(text)})
		}
		p, err := compileAll(&c, nil)
		path, err2 := parseReadings(target, c.Exceptions)
		if err != nil || err2 != nil {
			return
		}
		r := Request{Method: "GET", Path: path, Now: noon, Addr: netip.MustParseAddr("10.1.2.3"),
			Who: &Subject{Username: name, Roles: []string{value, "r"}, Groups: []string{name}, Claims: map[string]string{"c": value}, Org: value, Device: switches&4 != 0, ACR: value}}
		if switches&8 != 0 {
			r.Who = nil
		}
		holds := true
		for _, one := range append([]Path{path}, path.readings()...) {
			alone := r
			alone.Path = one
			alone.Path.others = nil
			allowed, closed := false, false
			for _, m := range p.Explain(alone).Matched {
				allowed = allowed || m.Kind == "allow" && m.Holds
				closed = closed || m.Kind == "deny" && m.Holds || m.Kind == "require" && !m.Holds
			}
			holds = holds && allowed && !closed
		}
		if d := p.Decide(r); d.Allowed != holds {
			t.Fatalf("%q %q by %+v: %+v, and each line by itself: %t", text, target, r.Who, d, holds)
		}
		if e, ok := p.Emergency(r); ok && (holds || !isBelow(path.raw, e.Scope) || !p.Break(r, e)) {
			t.Fatalf("%q %q by %+v: %+v", text, target, r.Who, e)
		}
		if shape := p.Shape(r); len(shape) > maxShape || shape[0] != '/' {
			t.Fatalf("%q %q: the shape %q", text, target, shape)
		}
	})
}

// FuzzScope compares what scopes grant and which patient a query names with a slow reading of the same.
func FuzzScope(f *testing.F) {
	f.Fuzz(func(t *testing.T, want, granted, query string) {
		s, wrong := readScope(want)
		if wrong == "" && s.context != "" && (s.may == 0 || !s.grantedBy([]string{want}) || s.grantedBy(nil)) {
			t.Fatalf("%q: %+v", want, s)
		}
		scopes := strings.Fields(granted)
		if wrong == "" && s.grantedBy(scopes) != naiveGranted(want, scopes) {
			t.Fatalf("%q is granted by %q: %t", want, granted, s.grantedBy(scopes))
		}
		said := namesPatient(query, "Ab-1")
		named, other := said&(byPatient|bySubject) != 0, said&another != 0
		values, err := url.ParseQuery(query)
		if err != nil {
			if named && !other {
				t.Fatalf("%q: %v, and yet it names the patient", query, err)
			}
			return
		}
		found := false
		for name, list := range values {
			for _, value := range list {
				head := strings.ToLower(strings.TrimLeft(name, " \x00[]"))
				if head, _, _ = strings.Cut(strings.ReplaceAll(head, ".", ":"), ":"); head != "patient" && head != "subject" {
					continue
				}
				found = true
				if value != "Ab-1" && value != "Patient/Ab-1" && !other {
					t.Fatalf("%q: %q=%q is not seen", query, name, value)
				}
			}
		}
		if named && !other && !found {
			t.Fatalf("%q names nobody", query)
		}
	})
}

// FuzzPathExceptions holds the promises of parseReadings for each path with each combination of switches.
func FuzzPathExceptions(f *testing.F) {
	f.Fuzz(func(t *testing.T, input string) {
		for _, allow := range switches() {
			checkReadings(t, input, allow)
		}
	})
}
