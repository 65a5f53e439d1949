package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/policy"
)

// hosted is a site of several hosts, whose lines ask under which one.
func hosted(t *testing.T, hosts []string, lines ...[]string) *Site {
	t.Helper()
	var c policy.Config
	for _, words := range lines {
		c.Lines = append(c.Lines, policy.Line{Words: words, At: "Caddyfile:1"})
	}
	p, err := policy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return NewSite(hosts, "Caddyfile:1", p, c)
}

// The matrix said no, and a comparison that nothing opens, of what is open under the site's second host.
func TestConditionsOnTheHost(t *testing.T) {
	when := func(host string) []string {
		return []string{"allow", "any", "/y", "when", `request.host == "` + host + `"`}
	}
	both := []string{"a.test", "b.test"}
	before, after := hosted(t, both, when("a.test")), hosted(t, both, when("b.test"))
	cells := func(s *Site) (kinds []Kind) {
		m := NewMatrix(s)
		for _, r := range m.Rows {
			if r.Route == "/y" {
				kinds = append(kinds, r.Cells[1].Kind)
			}
		}
		return kinds
	}
	if got := cells(after); !slices.Equal(got, []Kind{Conditional}) {
		t.Errorf("the matrix of two hosts says %v", got)
	}
	if got := cells(hosted(t, both[1:], when("b.test"))); !slices.Equal(got, []Kind{Yes}) {
		t.Errorf("the matrix of one host says %v", got)
	}
	c := Compare([]*Site{before}, []*Site{after})
	for host, want := range map[string]Direction{"a.test": Closed, "b.test": Opened} {
		if !slices.ContainsFunc(c.Changes, func(x Change) bool { return x.Site == host && x.Direction == want }) {
			t.Errorf("%s is not %s: %+v", host, want, c.Changes)
		}
	}
	if c = Compare([]*Site{before}, []*Site{hosted(t, both[1:], when("b.test"))}); !c.Opens() || !slices.Equal(c.Removed, both[:1]) {
		t.Errorf("one host goes, the other opens: %+v", c)
	}
	if c = Compare([]*Site{before}, []*Site{hosted(t, []string{"c.test"}, when("c.test"))}); !slices.Equal(c.Removed, both) {
		t.Errorf("both hosts are gone, and it names %v", c.Removed)
	}
	r := NewReplay([]*Site{after})
	if err := r.Read(strings.NewReader(`{"kind":"request","site":"B.test:8443","method":"GET","path":"/y","name":"ann","decision":"denied","reason":"` + policy.ReasonNoRule + `","time":"2026-11-22T10:00:00Z"}` + "\n" +
		`{"kind":"request","site":"a.test","method":"GET","path":"/y","name":"ann","decision":"denied","reason":"` + policy.ReasonNoRule + `","time":"2026-11-22T10:00:00Z"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	if got := r.Result(); got.WouldAllow != 1 || got.Same != 1 {
		t.Errorf("replay: %+v", got)
	}
}
