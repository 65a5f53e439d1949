package redis_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// ledger is what a store has acknowledged.
type ledger struct {
	mu       sync.Mutex // guards what follows
	put      map[string]bool
	taken    map[string]bool
	unsure   map[string]bool // a Take whose outcome is unknown
	appended map[string]string
	refused  int
}

// work writes until the context ends and notes what was acknowledged.
func (l *ledger) work(ctx context.Context, t *testing.T, s *redis.Store, worker int) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("%d.%d", worker, i)
		cursor, appendErr := s.Append(ctx, []byte(key), time.Now().Add(time.Hour))
		putErr := s.Put(ctx, key, []byte(key), time.Now().Add(time.Hour))
		var takeErr error
		took := i%3 == 0 && putErr == nil
		if took {
			_, takeErr = s.Take(ctx, key)
		}
		l.mu.Lock()
		if appendErr == nil {
			l.appended[key] = cursor
		}
		l.put[key] = putErr == nil
		l.taken[key] = took && takeErr == nil
		l.unsure[key] = took && takeErr != nil
		for doing, err := range map[string]error{"Append": appendErr, "Put": putErr, "Take": takeErr} {
			if err != nil {
				l.refused++
				if !errors.Is(err, store.ErrUnavailable) {
					t.Errorf("%s: %v", doing, err)
				}
			}
		}
		l.mu.Unlock()
		if appendErr != nil { // do not spin while nothing works
			select {
			case <-ctx.Done():
			case <-time.After(rand.N(50 * time.Millisecond)):
			}
		}
	}
}

// check looks for each acknowledged fact.
func (l *ledger) check(t *testing.T, s *redis.Store) {
	t.Helper()
	good := 0
	for key, put := range l.put {
		v, err := s.Get(t.Context(), key)
		switch {
		case !put || l.unsure[key]:
		case l.taken[key] && !errors.Is(err, store.ErrNotFound):
			t.Errorf("%s was taken and came back: %q, %v", key, v, err)
		case !l.taken[key] && (err != nil || string(v) != key):
			t.Errorf("%s was put and is lost: %q, %v", key, v, err)
		}
		good++
	}
	found := map[string]string{}
	for cursor := ""; ; {
		entries, err := s.After(t.Context(), cursor, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if found[string(e.Value)] != "" {
				t.Errorf("%s is in the feed twice", e.Value)
			}
			found[string(e.Value)], cursor = e.Cursor, e.Cursor
		}
		if len(entries) == 0 {
			break
		}
	}
	for key, cursor := range l.appended {
		if found[key] != cursor {
			t.Errorf("%s was appended as %s and is there as %q", key, cursor, found[key])
		}
	}
	if good < 20 || len(l.appended) < 20 {
		t.Errorf("only %d keys and %d entries were acknowledged: the test saw too little", good, len(l.appended))
	}
	t.Logf("%d keys, %d entries acknowledged, %d calls refused", good, len(l.appended), l.refused)
}

// under runs writers on three nodes while harm is done, and then checks.
func under(t *testing.T, server *redistest.Server, harm func()) {
	t.Helper()
	c := config(t, server)
	l := &ledger{put: map[string]bool{}, taken: map[string]bool{}, unsure: map[string]bool{}, appended: map[string]string{}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var workers sync.WaitGroup
	nodes := []*redis.Store{open(t, c), open(t, c), open(t, c)}
	for i := range 6 {
		workers.Go(func() { l.work(ctx, t, nodes[i%3], i) })
	}
	harm()
	cancel()
	workers.Wait()
	recovered(t, nodes[0])
	l.check(t, nodes[0])
}

// recovered waits until the store takes writes again.
func recovered(t *testing.T, s *redis.Store) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := s.Put(t.Context(), "recovered", nil, time.Time{})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not recover: %v", err)
		}
	}
}

// let gives the writers some time.
func let() { time.Sleep(250 * time.Millisecond) }

// TestKilledServer: Redis is killed under load and started again. What was acknowledged
// is there, and what was taken stays taken.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		var opts []redistest.Option
		if secure {
			opts = append(opts, redistest.Secure(), redistest.Prefix("*"))
		}
		server := redistest.Standalone(t, opts...)
		under(t, server, func() {
			for range 3 {
				let()
				server.Kill()
				let()
				server.Start()
			}
			let()
		})
	}
}

// TestFailover: the Sentinels make the replica the master, first because an operator
// says so, then because the master was killed. Without WAIT the writes of the last
// moments would be gone.
func TestFailover(t *testing.T) {
	t.Parallel()
	server := redistest.Sentinel(t)
	under(t, server, func() {
		let()
		server.Failover()
		let()
		server.KillMaster()
		let()
		server.Start()
		let()
	})
}

// TestFrozenReplica: a replica that is attached and acknowledges nothing. The change may
// be lost with the master, so nothing is acknowledged by us either.
func TestFrozenReplica(t *testing.T) {
	t.Parallel()
	server := redistest.Sentinel(t)
	s := open(t, config(t, server))
	if err := s.Put(t.Context(), "code", []byte("x"), time.Time{}); err != nil {
		t.Fatal(err)
	}
	server.FreezeReplica()
	_, appendErr := s.Append(t.Context(), nil, time.Time{})
	_, takeErr := s.Take(t.Context(), "code")
	for doing, err := range map[string]error{
		"Append": appendErr, "Take": takeErr, "Put": s.Put(t.Context(), "k", nil, time.Time{}), "Delete": s.Delete(t.Context(), "code"),
		"CompareAndSwap": s.CompareAndSwap(t.Context(), "new", nil, nil, time.Time{}),
	} {
		is(t, err, store.ErrUnavailable, doing)
	}
	if _, err := s.After(t.Context(), "", 0); err != nil {
		t.Errorf("reading: %v", err)
	}
	server.Thaw()
	recovered(t, s)
}

// calls are all calls that ask the server. Each ends in time and says that it failed.
func calls(ctx context.Context, s *redis.Store) map[string]func() error {
	return map[string]func() error{
		"Get":            func() error { _, err := s.Get(ctx, "k"); return err },
		"Put":            func() error { return s.Put(ctx, "k", nil, time.Time{}) },
		"CompareAndSwap": func() error { return s.CompareAndSwap(ctx, "k", nil, nil, time.Time{}) },
		"Take":           func() error { _, err := s.Take(ctx, "k"); return err },
		"Delete":         func() error { return s.Delete(ctx, "k") },
		"List":           func() error { _, err := s.List(ctx, ""); return err },
		"Append":         func() error { _, err := s.Append(ctx, nil, time.Time{}); return err },
		"After":          func() error { _, err := s.After(ctx, "", 0); return err },
		"Wait":           func() error { return s.Wait(ctx, "") },
		"Time":           func() error { _, err := s.Time(ctx); return err },
	}
}

// refused runs all calls at once and wants ErrUnavailable from each, in time.
func refused(t *testing.T, s *redis.Store, limit time.Duration) {
	t.Helper()
	var all sync.WaitGroup
	for doing, call := range calls(t.Context(), s) {
		all.Go(func() {
			begin := time.Now()
			is(t, call(), store.ErrUnavailable, doing)
			if d := time.Since(begin); d > limit {
				t.Errorf("%s took %v", doing, d)
			}
		})
	}
	all.Wait()
}

// TestRow162Frozen: Redis takes connections and says nothing. Every call fails closed
// within its time, one that is cancelled at once, and Close does not hang.
func TestRow162Frozen(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	s := open(t, config(t, server))
	if err := s.Put(t.Context(), "k", nil, time.Time{}); err != nil {
		t.Fatal(err)
	}
	server.Freeze()
	refused(t, s, 8*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	for doing, call := range calls(ctx, s) {
		is(t, call(), context.DeadlineExceeded, doing)
	}
	if d := time.Since(begin); d > 2*time.Second { // one that did not look at its context takes 2.5 s
		t.Errorf("calls with a context of 100 ms took %v", d)
	}
	server.Thaw()
	recovered(t, s)
	server.Freeze()
	begin = time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("Close took %v", d)
	}
	server.Thaw()
}

// TestRow162Gone: Redis is not there. Every call fails closed, and works when it is back.
func TestRow162Gone(t *testing.T) {
	t.Parallel()
	server := redistest.Standalone(t)
	s := open(t, config(t, server))
	server.Kill()
	refused(t, s, 8*time.Second)
	server.Start()
	recovered(t, s)
	add(t, s, "Wait has something to find", time.Time{})
	for doing, call := range calls(t.Context(), s) {
		if err := call(); err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v", doing, err)
		}
	}
}

// TestRow162ClusterMasterLost: one third of the slots is gone, and with them, in Redis'
// default, the whole Cluster. It is good again when the server is back, with all facts.
func TestRow162ClusterMasterLost(t *testing.T) {
	t.Parallel()
	server := redistest.Cluster(t)
	under(t, server, func() {
		let()
		server.KillMaster(1)
		if s, err := redis.Open(t.Context(), config(t, server)); err == nil {
			_ = s.Close()
			t.Error("a node started while a part of the Cluster was gone")
		}
		server.Start()
		let()
	})
}
