package store

import (
	"context"
	"math/rand/v2"
	"time"
)

// longestPause bounds one Pause, so that ten rounds take a second or two at most.
const longestPause = 250 * time.Millisecond

// Pause waits before a change that lost a race for a value begins anew; round counts the
// lost races, and none are waited for (0: it returns at once). The wait is random, up to
// 2 ms doubled with each round and at most 250 ms: callers that change one value in step
// would otherwise let the same one win again and again. It returns the context's error
// when that ends first.
func Pause(ctx context.Context, round int) error {
	if err := ctx.Err(); err != nil || round <= 0 {
		return err
	}
	wait := longestPause
	if round < 7 {
		wait = 2 * time.Millisecond << (round - 1)
	}
	timer := time.NewTimer(rand.N(wait))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
