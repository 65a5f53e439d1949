package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestExpectationSeeds fails when the fuzz target lost its committed seeds.
func TestExpectationSeeds(t *testing.T) {
	if entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzExpectation")); err != nil || len(entries) == 0 {
		t.Errorf("FuzzExpectation has no seeds: %v", err)
	}
}

// FuzzExpectation: a line is either an expectation or says what is wrong with it; it holds for one outcome at most, and one without a
// time holds at each time or at none.
func FuzzExpectation(f *testing.F) {
	p := hospital(f)
	f.Fuzz(func(t *testing.T, text string) {
		words := strings.Fields(text)
		e, err := ParseExpectation(Line{Words: words, At: "fuzz:1"})
		var problem *Problem
		if err != nil {
			if e != nil || !errors.As(err, &problem) || problem.Wrong == "" || problem.Write == "" || problem.At != "fuzz:1" {
				t.Fatalf("%q: %+v, %#v", text, e, err)
			}
			return
		}
		first := p.Check(e, monday)
		if second := p.Check(e, monday.Add(37*time.Hour)); (first == nil) != (second == nil) {
			t.Fatalf("%q: %v and at another time %v", text, first, second)
		}
		if first != nil && !errors.As(first, &problem) {
			t.Fatalf("%q: %#v", text, first)
		}
		holds := 0
		for outcome := range outcomes {
			other := *e
			other.Outcome = outcome
			if p.Check(&other, monday) == nil {
				holds++
			}
		}
		if holds > 1 {
			t.Fatalf("%q holds for %d outcomes", text, holds)
		}
	})
}
