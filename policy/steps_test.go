package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Row 5: what a stranger's path makes all expressions of one decision cost together is bounded, and over the bound no line opens anything.
func TestStepsOfADecision(t *testing.T) {
	const hostile = `request.path.matches("(.*a){12}x")`
	long := "/p/" + strings.Repeat("a", 8000)
	many := func(kind string, n int, expression string) []string {
		texts := []string{"allow user eve /never"}
		for i := range n {
			texts = append(texts, fmt.Sprintf("%s role doctor /p/{id} when %s || user.acr == \"l%d\"", kind, expression, i))
		}
		return texts
	}
	doctor := person("doctor", func(s *Subject) { s.ACR = "l799" })
	costs := func(p *Policy, path string) (Decision, time.Duration) {
		r := get(t, p, doctor, path)
		begun := cpu(t)
		d := p.Decide(r)
		return d, cpu(t) - begun
	}
	p := with(t, Config{}, many("allow", 800, hostile)...)
	if d, took := costs(p, long); d.Allowed || took > 10*time.Second { // without the limit: 800 times some 30 ms
		t.Errorf("%+v after %v", d, took)
	}
	if e := p.Explain(get(t, p, doctor, long)); !e.Costly {
		t.Error("nobody is told")
	}
	// Within the bound each line has its answer: a usual path, and a usual number of lines.
	for n, path := range map[int]string{800: "/p/7", 20: "/p/" + strings.Repeat("a", 100)} {
		p := with(t, Config{}, many("allow", n, hostile)...)
		doctor.ACR = fmt.Sprintf("l%d", n-1)
		if n == 800 {
			p = with(t, Config{}, many("allow", n, `request.path == "/q"`)...)
		}
		if d, _ := costs(p, path); !d.Allowed {
			t.Errorf("%d lines, %d characters: %+v", n, len(path), d)
		}
	}
	// Over it a deny denies and a require is not met, also those whose expression says otherwise.
	for text, want := range map[string]string{
		"deny any /p/{id} when " + hostile: ReasonDenied, "require when !" + hostile + " /p/{id}": ReasonCondition, "allow scope x /other": ReasonAllowed,
		"allow role doctor /p/{id} when user.acr == \"\" || " + hostile: ReasonAllowed, // another line allows it
	} {
		p := with(t, Config{}, "allow any /p/{id}", text)
		d, _ := costs(p, long)
		if d.Reason != want {
			t.Errorf("%s: %+v", text, d)
		}
		if d, _ := costs(p, "/p/7"); !d.Allowed {
			t.Errorf("%s with a usual path: %+v", text, d)
		}
	}
	// All readings of a path share the bound.
	p = with(t, Config{Exceptions: Exceptions{Semicolon: true}}, append(many("deny", 40, hostile), "allow any /p/**")...)
	if d, took := costs(p, "/p/7;"+strings.Repeat("a", 8000)); d.Allowed || took > 10*time.Second {
		t.Errorf("%+v after %v", d, took)
	}
}

// A glass that is broken is judged within the bound, too.
func TestStepsOfAnEmergency(t *testing.T) {
	texts := []string{"allow user eve /never"}
	for i := range 800 {
		texts = append(texts, fmt.Sprintf(`break_glass role doctor on /p/{id}/** for %dm when !request.path.matches("(.*a){12}x%d")`, 1+i%200, i))
	}
	p := with(t, Config{}, texts...)
	begun := cpu(t)
	if e, ok := p.Emergency(get(t, p, person("doctor"), "/p/7/"+strings.Repeat("a", 8000))); ok {
		t.Errorf("%+v", e)
	}
	if took := cpu(t) - begun; took > 10*time.Second {
		t.Errorf("%v", took)
	}
	if _, ok := p.Emergency(get(t, p, person("doctor"), "/p/7/a")); !ok {
		t.Error("a usual path is not offered")
	}
}
