package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// patience bounds what the suite waits for in real time. Nothing that works takes long;
// what is broken ends with a message instead of the test binary's own time-out.
const patience = 20 * time.Second

// waitAtOnce: a follower that comes late does not sleep on what is there already.
func waitAtOnce(f *fixture) {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	first := f.append("a", time.Time{})
	if err := f.Wait(ctx, ""); err != nil {
		f.Fatalf("Wait for an entry that is there: %v", err)
	}
	f.append("b", time.Time{})
	if err := f.Wait(ctx, first); err != nil {
		f.Fatalf("Wait after the first of two entries: %v", err)
	}
	f.is(f.Wait(ctx, "x"), store.ErrInvalid, "Wait with what is no cursor")
}

// waitWakes: an entry that is appended while many wait wakes every one of them, also
// those that wait from the beginning of an empty feed. A follower that sleeps on is a
// node on which a revoked session works.
func waitWakes(f *fixture) {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	cursor := ""
	for round := range 5 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for {
					if err := f.Wait(ctx, cursor); err != nil {
						f.Errorf("round %d: Wait: %v", round, err)
						return
					}
					entries, err := f.After(ctx, cursor, 1)
					if err != nil {
						f.Errorf("round %d: After: %v", round, err)
						return
					}
					if len(entries) == 1 { // Wait may return early; the entry is what ends it
						return
					}
				}
			})
		}
		next := f.append(fmt.Sprint(round), time.Time{})
		wg.Wait()
		cursor = next
	}
}

// waitEnds: nothing comes; Wait ends with its context and says why. An expired entry is
// nothing: a Wait that returned for it would spin for as long as it lies there.
func waitEnds(f *fixture) {
	f.append("gone", f.in(time.Second))
	f.clock.advance(time.Minute)
	ctx, cancel := context.WithTimeout(f.Context(), 50*time.Millisecond)
	defer cancel()
	asked := 0
	for ctx.Err() == nil {
		err := f.Wait(ctx, "")
		if asked++; err == nil {
			continue
		}
		f.is(err, context.DeadlineExceeded, "Wait for nothing")
		if errors.Is(err, store.ErrUnavailable) {
			f.Fatalf("nothing came, and Wait says that the store is away: %v", err)
		}
	}
	if asked > 3 {
		f.Fatalf("Wait returned %d times for nothing", asked)
	}
	done, stop := context.WithCancel(f.Context())
	stop()
	f.is(f.Wait(done, ""), context.Canceled, "Wait with a done context")
}

// waitClosed: Close releases whoever waits.
func waitClosed(f *fixture) {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				err := f.Wait(ctx, "")
				if err == nil {
					continue
				}
				if !errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
					f.Errorf("Wait while closing: %v", err)
				}
				return
			}
		})
	}
	if err := f.Close(); err != nil {
		f.Fatal(err)
	}
	wg.Wait()
	f.is(f.Wait(ctx, ""), store.ErrUnavailable, "Wait after Close")
}
