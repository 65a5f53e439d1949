package condition

import (
	"strings"
	"testing"
)

// TestSteps: what a pattern costs follows the length of what it looks at, how large it is, and how often it is asked.
func TestSteps(t *testing.T) {
	steps := func(text string, in *Input) int {
		t.Helper()
		c, err := Compile(text, []string{"id"}, nil)
		if err != nil {
			t.Fatal(text, err)
		}
		return c.Steps(in)
	}
	path := func(n int) *Input {
		return &Input{Path: "/" + strings.Repeat("a", n-1), Query: strings.Repeat("q", 2*n)}
	}
	for text, most := range map[string]int{
		`request.method == "GET"`: 200, `request.path.startsWith("/a")`: 200, `user.roles.exists(r, r == "x")`: 400, `request.path.matches("^/a$")`: 1000,
	} {
		if n := steps(text, path(30)); n < 20 || n > most {
			t.Errorf("%s: %d steps for a usual request", text, n)
		}
	}
	for _, text := range []string{`request.path.matches("(.*a){12}x")`, `matches(request.path, "(.*a){12}x")`, `path.id.matches("(.*a){12}x")`, `(request.path + "").matches("(.*a){12}x")`, `(true ? request.path : "").matches("(.*a){12}x")`} {
		if short, long := steps(text, path(30)), steps(text, path(8192)); long < 8192*25 || short > long/50 {
			t.Errorf("%s: %d and %d", text, short, long)
		}
	}
	one := steps(`request.path.matches("(.*a){12}x")`, path(1000))
	if two := steps(`request.path.matches("(.*a){12}x") || request.path.matches("(.*b){12}x")`, path(1000)); two < 2*one-one/10 {
		t.Errorf("two patterns: %d, one: %d", two, one)
	}
	if query := steps(`request.query.matches("(.*a){12}x")`, path(1000)); query < 2*one-one/10 {
		t.Errorf("a query of twice the length: %d, %d", query, one)
	}
	if twice := steps(`(request.path + request.path).matches("(.*a){12}x")`, path(1000)); twice < 2*one-one/10 {
		t.Errorf("the path twice: %d, %d", twice, one)
	}
	if loop := steps(`[1, 2, 3].exists(x, x == 4 || request.path.matches("(.*a){12}x"))`, path(1000)); loop < 3*one-one/10 {
		t.Errorf("three turns: %d, %d", loop, one)
	}
	in := path(100)
	in.User.Roles = strings.Split(strings.Repeat("x,", 49)+"x", ",")
	few := steps(`user.roles.exists(r, r.matches("a{2}"))`, path(100))
	if loop := steps(`user.roles.exists(r, r.matches("a{2}"))`, in); loop < 5*few {
		t.Errorf("fifty turns: %d, one: %d", loop, few)
	}
	if (*Condition)(nil).Steps(in) != 0 {
		t.Error("nothing costs something")
	}
}
