package emergency

import (
	"testing"
	"time"
)

// TestClockSetBack: a grant lasts no longer because the machine's clock is set back, and clocks of two nodes may differ by seconds.
func TestClockSetBack(t *testing.T) {
	r := newRig(t)
	l := r.with(nil)
	line, _ := r.begin(l, r.grant("7"))
	r.clock.add(-30 * time.Second)
	r.wantActive(l, line, "7")
	r.clock.add(-2 * time.Hour)
	r.wantActive(l, line)
	r.clock.add(2*time.Hour + 29*time.Minute)
	r.wantActive(l, line, "7")
}
