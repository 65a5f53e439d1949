package rekey

import (
	"strings"
	"testing"
)

// Every step of every plan has a title and ends in a report; one that nobody knows is refused, not passed over.
func TestPlans(t *testing.T) {
	for verb, steps := range plans {
		for i, step := range steps {
			if titles[step] == "" {
				t.Errorf("%s: the step %s has no title", verb, step)
			}
			if last := i == len(steps)-1; last != (step == stepReport) {
				t.Errorf("%s: the report is not the last step: %v", verb, steps)
			}
		}
	}
	if err := new(task).do(t.Context(), "of-tomorrow"); err == nil || !strings.Contains(err.Error(), "of-tomorrow") {
		t.Errorf("a step that nobody knows: %v", err)
	}
}
