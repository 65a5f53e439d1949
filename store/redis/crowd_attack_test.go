package redis_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// TestManyWritesLeaveReads: while a replica acknowledges nothing, each write keeps its
// connection for half a second, and thousands of sessions are to be renewed. Reading the
// feed must not wait behind them: a node that cannot read it for 30 s lets nobody in.
func TestManyWritesLeaveReads(t *testing.T) {
	t.Parallel()
	server := redistest.Sentinel(t)
	s := open(t, config(t, server))
	if _, err := s.Append(t.Context(), []byte("entry"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	server.FreezeReplica()
	ctx, cancel := context.WithCancel(t.Context())
	var crowd sync.WaitGroup
	for i := range 400 {
		crowd.Go(func() {
			for ctx.Err() == nil {
				if s.CompareAndSwap(ctx, fmt.Sprint(i), nil, []byte("token"), time.Time{}) == nil {
					t.Error("acknowledged")
				}
			}
		})
	}
	begin, slowest, failed, polls := time.Now(), time.Duration(0), 0, 0
	for time.Since(begin) < 6*time.Second {
		one := time.Now()
		_, err1 := s.Time(ctx)
		_, err2 := s.After(ctx, "", 0)
		if polls++; err1 != nil || err2 != nil {
			failed++
			t.Logf("%v, %v", err1, err2)
		}
		slowest = max(slowest, time.Since(one))
	}
	cancel()
	crowd.Wait()
	t.Logf("%d polls, the slowest %v", polls, slowest)
	if failed > 0 || slowest > time.Second {
		t.Errorf("%d of %d polls failed, the slowest took %v", failed, polls, slowest)
	}
	server.Thaw()
	recovered(t, s)
}
