package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// takeOnNodes: 200 identical requests on three nodes at one moment, one success (attack
// row 163). With two, a hand-off code would open two sessions.
func takeOnNodes(f *fixture) {
	nodes := f.nodes()
	for round := range 5 {
		key := fmt.Sprintf("code %d", round)
		f.put(key, "secret", f.in(time.Minute))
		var mu sync.Mutex // guards winners
		winners := 0
		parallel(200, func(i int) {
			got, err := nodes[i%len(nodes)].Take(f.Context(), key)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && string(got) == "secret":
				winners++
			case !errors.Is(err, store.ErrNotFound) || got != nil:
				f.Errorf("Take = %q, %v", got, err)
			}
		})
		if winners != 1 {
			f.Fatalf("round %d: %d callers got the value; want 1", round, winners)
		}
	}
}

// swapOnNodes: three nodes that start at once must end with one signing key, and a
// counter that all of them raise loses nothing.
func swapOnNodes(f *fixture) {
	nodes := f.nodes()
	var mu sync.Mutex // guards winner
	winner := ""
	parallel(30, func(i int) {
		value := fmt.Sprint("node ", i)
		err := nodes[i%len(nodes)].CompareAndSwap(f.Context(), "key", nil, []byte(value), time.Time{})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil && winner != "":
			f.Errorf("%s and %s both created the key", winner, value)
		case err == nil:
			winner = value
		case !errors.Is(err, store.ErrConflict):
			f.Error(err)
		}
	})
	for _, n := range nodes {
		if got, err := n.Get(f.Context(), "key"); err != nil || string(got) != winner {
			f.Errorf("a node reads %q, %v; want %q", got, err, winner)
		}
	}
	f.put("n", "0", time.Time{})
	const workers, each = 6, 8
	parallel(workers, func(i int) {
		for done := 0; done < each; {
			s, n := nodes[i%len(nodes)], 0
			old, err := s.Get(f.Context(), "n")
			if err == nil {
				_, _ = fmt.Sscan(string(old), &n)
				err = s.CompareAndSwap(f.Context(), "n", old, fmt.Append(nil, n+1), time.Time{})
			}
			switch {
			case err == nil:
				done++
			case !errors.Is(err, store.ErrConflict):
				f.Error(err)
				return
			}
		}
	})
	f.want("n", fmt.Sprint(workers*each))
}

// feedOnNodes: what one node appends wakes the others, in the same order everywhere, and
// a cursor of one node serves on another.
func feedOnNodes(f *fixture) {
	nodes := f.nodes()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	const each = 20
	seen := make([][]string, len(nodes))
	var followers sync.WaitGroup
	for i, n := range nodes {
		followers.Go(func() {
			for cursor := ""; len(seen[i]) < each*len(nodes); {
				if err := n.Wait(ctx, cursor); err != nil {
					f.Errorf("node %d has seen %d entries: %v", i, len(seen[i]), err)
					return
				}
				entries, err := n.After(ctx, cursor, 0)
				if err != nil {
					f.Error(err)
					return
				}
				for _, e := range entries {
					seen[i] = append(seen[i], string(e.Value))
					cursor = e.Cursor
				}
			}
		})
	}
	parallel(len(nodes), func(i int) {
		for k := range each {
			if _, err := nodes[i].Append(ctx, fmt.Appendf(nil, "%d.%d", i, k), time.Time{}); err != nil {
				f.Error(err)
				cancel()
			}
		}
	})
	followers.Wait()
	for i := range seen {
		if strings.Join(seen[i], " ") != strings.Join(seen[0], " ") {
			f.Errorf("node %d saw another order than node 0", i)
		}
	}
	cursor, err := nodes[1].Append(ctx, []byte("one more"), time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := nodes[2].Append(ctx, []byte("and another"), time.Time{}); err != nil {
		f.Fatal(err)
	}
	if got, err := nodes[0].After(ctx, cursor, 0); err != nil || len(got) != 1 || string(got[0].Value) != "and another" {
		f.Errorf("with the cursor of another node: %q, %v", got, err)
	}
}
