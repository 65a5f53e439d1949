package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// TestPause: the first round costs nothing, later ones wait within their bounds and differ.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for round, most := range []time.Duration{0, 2, 4, 8, 16, 32, 64, 250, 250, 250} {
			most *= time.Millisecond
			seen := map[time.Duration]bool{}
			for range 50 {
				began := time.Now()
				if err := store.Pause(t.Context(), round); err != nil {
					t.Fatal(err)
				}
				waited := time.Since(began)
				if waited > most {
					t.Errorf("round %d waited %v, more than %v", round, waited, most)
				}
				seen[waited] = true
			}
			if round > 0 && len(seen) < 40 {
				t.Errorf("round %d: %d different waits of 50: callers go on in step", round, len(seen))
			}
		}
	})
}

// TestPauseEnds: a caller that gave up is not held.
func TestPauseEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, round := range []int{-1, 0, 1, 1 << 40} {
		if err := store.Pause(ctx, round); !errors.Is(err, context.Canceled) {
			t.Errorf("round %d: %v", round, err)
		}
	}
}
