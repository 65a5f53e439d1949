package report

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestAlikeChangesNothing: what is asked once for many is what each of them would have been told.
func TestAlikeChangesNothing(t *testing.T) {
	m := maker{rand.New(rand.NewPCG(7, 1))}
	pairs, fewer := 0, 0
	for range 120 {
		lines := m.lines(3 + m.IntN(6))
		before, after := try(lines), try(append(slices.Clone(lines), m.line()))
		if before == nil || after == nil {
			continue
		}
		together, apart := Comparison{}, Comparison{apart: true}
		together.compare([]*Site{before}, []*Site{after})
		apart.compare([]*Site{before}, []*Site{after})
		if x, y := said(together), said(apart); !slices.Equal(x, y) || together.Asked != apart.Asked {
			t.Fatalf("%q (%d), and one by one %q (%d)\nbefore:\n%v\nafter:\n%v", x, together.Asked, y, apart.Asked, texts(before), texts(after))
		}
		pairs++
		if together.decided < apart.decided {
			fewer++
		}
	}
	if pairs < 60 || fewer < pairs/2 {
		t.Errorf("of %d pairs %d were less work", pairs, fewer)
	}
}

// TestDiffManyLinesIsBounded: a line that opens everything concerns everybody at every route of a large site. What that costs grows
// with the routes, and not with the routes times the people.
func TestDiffManyLinesIsBounded(t *testing.T) {
	var b strings.Builder
	const lines = 300
	for i := range lines {
		fmt.Fprintf(&b, "allow role r%d GET,POST /api/v%d/patients/*/charts/c%d\n", i%50, i%7, i)
	}
	c := compare(t, b.String(), b.String()+"allow any /**")
	if c.Asked < 500*lines || c.decided > 150*lines {
		t.Errorf("%d decisions for %d answers of %d lines", c.decided, c.Asked, lines)
	}
	if len(c.Changes) != 51 || c.Changes[0].Route != "/**" || !c.Opens() {
		t.Errorf("%d changes: %q", len(c.Changes), said(c))
	}
}
