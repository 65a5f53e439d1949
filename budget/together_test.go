package budget

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

// A page that loads forty patients at the same moment, and the balancer spreads them over four nodes: all are counted, none
// is refused because the others were there.
func TestPageOverNodes(t *testing.T) {
	r := newRig(t)
	nodes := []*Budget{r.node(), r.node(), r.node(), r.node()}
	for page := range 5 {
		who := dana
		who.Account = fmt.Sprint("idp/", page)
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				got, err := nodes[i%4].Count(context.Background(), who, fmt.Sprint("p", i), sixty, time.Time{})
				if err != nil || !got.Admitted {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		all.Wait()
		if got := r.count(nodes[0], who, "one more", sixty, time.Time{}); got.Count != 41 {
			t.Errorf("%d are counted", got.Count)
		}
	}
}
