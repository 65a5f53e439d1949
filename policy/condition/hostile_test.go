package condition

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// longest is a request with values as long as the estimate reckons with, made to be slow.
func longest(extra int) *Input {
	in := input()
	in.Path = "/" + strings.Repeat("a", longPath-1+extra)
	in.Query = strings.Repeat("a", longQuery+extra)
	in.User.Roles = nil
	for i := range longList + extra {
		in.User.Roles = append(in.User.Roles, fmt.Sprintf("%s%d", strings.Repeat("a", longText-8), i))
	}
	in.User.Groups = in.User.Roles
	return in
}

// TestHostileExpressions: what an expression could do by its size is refused when it is loaded, and quickly.
func TestHostileExpressions(t *testing.T) {
	nest := func(open, inner, end string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	loops := `user.roles.exists(a, user.roles.exists(b, user.groups.exists(c, user.groups.all(d, a + b == c + d))))`
	for name, text := range map[string]string{
		"64 KiB":                 `request.method == "` + strings.Repeat("x", 64<<10) + `"`,
		"64 KiB of blanks":       strings.Repeat(" ", 64<<10) + "true",
		"brackets":               nest("(", "true", ")", 2000),
		"brackets, open":         strings.Repeat("(", 4000),
		"lists":                  nest("[", "true", "]", 2000) + " == []",
		"lists, open":            strings.Repeat("[", 4000),
		"braces":                 strings.Repeat("{", 4000),
		"conditionals":           nest("true ? true : (", "true", ")", 250),
		"calls":                  nest("size(", "[]", ")", 700) + " == 0",
		"index":                  "user.roles" + strings.Repeat("[0]", 1000) + ` == "x"`,
		"dots":                   "user" + strings.Repeat(".a", 1500) + " == 1",
		"or":                     "true" + strings.Repeat(" || true", 450),
		"sum":                    "1" + strings.Repeat(" + 1", 900) + " == 1",
		"huge number":            strings.Repeat("9", 3000) + " == 1",
		"huge exponent":          "1e999999999 == 1.0",
		"loops":                  loops,
		"loops, two":             `user.roles.all(a, user.groups.exists(b, a == b))`,
		"loops of literals":      `[1,2,3,4,5,6,7,8].all(a, [1,2,3,4,5,6,7,8].all(b, [1,2,3,4,5,6,7,8].all(c, [1,2,3,4,5,6,7,8].all(d, [1,2,3,4,5,6,7,8].all(e, a+b+c+d+e > 0)))))`,
		"loops over the path":    `user.roles.exists(r, request.query.contains(r) || request.path.matches("(a|aa)+b"))`,
		"regexp of another size": `request.path.matches("((((a{1,9}){1,9}){1,9}){1,9}){1,9}")`,
		"regexp that grows":      `request.path.matches("(a{0,1000}){0,1000}")`,
		"regexp from outside":    `request.query.matches(request.path)`,
		"regexp from a loop":     `user.roles.exists(r, request.path.matches(r))`,
		"regexp, function":       `matches(request.path, request.query)`,
		"zone from outside":      `request.time.getHours(path.patient) < 20`,
		"errors":                 strings.Repeat(`" `, 2000),
		"quotes":                 strings.Repeat(`"""`, 1000),
		"escapes":                `"` + strings.Repeat(`\`, 3001) + `" == ""`,
		"NUL":                    "true\x00",
		"remark":                 "// true",
		"types":                  `[[[[[[[[[[1]]]]]]]]]] == [[[[[[[[[["a"]]]]]]]]]]`,
	} {
		begun := cpu(t)
		c, err := Compile(text, vars, claims)
		if took := cpu(t) - begun; took > 10*time.Second {
			t.Errorf("%s: Compile takes %v", name, took)
		}
		if err == nil {
			_, err := c.Eval(longest(0))
			t.Errorf("%s compiles (and then %v)", name, err)
			continue
		}
		if len(err.Error()) > 2000 {
			t.Errorf("%s: a message of %d bytes", name, len(err.Error()))
		}
	}
}

// TestLongRequests: what compiles is answered in a time that the sender of a request does not choose.
func TestLongRequests(t *testing.T) {
	for _, text := range []string{
		`user.roles.exists(r, r == "doctor")`,
		`user.roles.all(r, r.startsWith("a")) && user.groups.all(g, g != "x")`,
		`request.path.matches("^/(a|aa)+b$")`,
		`request.query.contains("aaab")`,
		`user.roles.exists_one(r, r.endsWith("7"))`,
	} {
		c, err := Compile(text, vars, claims)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if _, err := c.Eval(longest(0)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		in := longest(0)
		in.Query, in.Path = strings.Repeat("a", 1<<20), "/"+strings.Repeat("a", 1<<20)
		in.User.Roles = make([]string, 1<<17)
		for i := range in.User.Roles {
			in.User.Roles[i] = "a7"
		}
		begun := cpu(t)
		if ok, err := c.Eval(in); err == nil {
			t.Errorf("%s: a request of 1 MiB is answered with %t", text, ok)
		}
		if took := cpu(t) - begun; took > 30*time.Second { // with the race detector
			t.Errorf("%s: %v for a request of 1 MiB", text, took)
		}
	}
	c, _ := Compile(`path.patient != "x"`, vars, claims)
	in := input()
	in.Vars = func(string) (string, bool) { return strings.Repeat("a", longPath+1), true }
	if _, err := c.Eval(in); err == nil {
		t.Error("a variable that is longer than any path has a value")
	}
}

// TestTogether evaluates one expression for many requests at once.
func TestTogether(t *testing.T) {
	c, err := Compile(`user.roles.exists(r, r == path.patient) && request.time.getHours("Europe/Brussels") == 13 && request.path.matches("^/[a-z]+")`, vars, claims)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 200 {
				in := input()
				in.User.Roles = append(in.User.Roles, fmt.Sprint(i))
				if holds, err := c.Eval(in); err != nil || holds != (i == 7) {
					t.Errorf("%d: %t, %v", i, holds, err)
				}
			}
		})
	}
	group.Wait()
}

// TestFuzzSeeds fails when a fuzz target lost its committed seeds.
func TestFuzzSeeds(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzCondition"))
	if err != nil || len(entries) == 0 {
		t.Errorf("FuzzCondition has no seeds: %v", err)
	}
}

// FuzzCondition: a text either compiles or says what is wrong; what compiles answers twice alike, does not get beyond the limit of
// its cost by any request that the estimate reckoned with, and has no answer for nobody but by constants and has().
func FuzzCondition(f *testing.F) {
	long := longest(0)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Compile(text, vars, claims)
		if (c == nil) == (err == nil) {
			t.Fatalf("%q: %v, %v", text, c, err)
		}
		if err != nil {
			if err.Error() == "" {
				t.Fatalf("%q: no message", text)
			}
			return
		}
		for _, in := range []*Input{input(), long, {}} {
			if !in.isShort() {
				t.Fatal("the longest request is too long")
			}
			a, errA := c.Eval(in)
			b, errB := c.Eval(in)
			if a != b || (errA == nil) != (errB == nil) {
				t.Fatalf("%q: %t, %v and then %t, %v", text, a, errA, b, errB)
			}
			if errA != nil && a {
				t.Fatalf("%q: true and %v", text, errA)
			}
			if c.counting == nil {
				continue
			}
			out, _, err := c.counting.Eval((*activation)(in))
			if (err == nil) != (errA == nil) || err == nil && out.Value() != a {
				t.Fatalf("%q: counted %v, %v, and not counted %t, %v", text, out, err, a, errA)
			}
		}
	})
}
