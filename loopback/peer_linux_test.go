package loopback

import "testing"

// TestIDOf: the kernel's "no id" is nobody's.
func TestIDOf(t *testing.T) {
	for id, want := range map[uint32]int{0: 0, 33: 33, 65534: 65534, 1<<32 - 1: -1} {
		if got := idOf(id); got != want {
			t.Errorf("%d is %d", id, got)
		}
	}
}
