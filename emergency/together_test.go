package emergency

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// One account, that of a ward, breaks the glass sixty times at the same moment on three nodes: each access is given, in the list
// and counted, and its end is too.
func TestOnePersonTogether(t *testing.T) {
	r := newRig(t)
	var nodes []*Ledger
	for range 3 {
		nodes = append(nodes, r.with(nil))
	}
	const accesses = 60
	numbers := make([]int, accesses)
	var all sync.WaitGroup
	for i := range accesses {
		all.Go(func() {
			g := r.grant(fmt.Sprint(i))
			if _, _, err := nodes[i%3].Begin(context.Background(), g); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	listed := r.list(nodes[0], StateOpen)
	if len(listed) != accesses {
		t.Fatalf("%d listed", len(listed))
	}
	for _, v := range listed {
		if v.Today < 1 || v.Today > accesses {
			t.Fatalf("%s is number %d", v.ID, v.Today)
		}
		numbers[v.Today-1]++
	}
	for i, n := range numbers {
		if n != 1 {
			t.Errorf("%d of them are number %d of the day", n, i+1)
		}
	}
}
