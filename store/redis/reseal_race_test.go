package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// TestResealUnderLoad: keys are condemned one after the other, two nodes reseal at the same
// time, and everybody works on. No swap is lost, no entry is lost, doubled or out of order,
// no code is taken twice, and at the end nothing is under an old key.
func TestResealUnderLoad(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, r := config(t, server), newRing()
		c.Sealer = r
		s, other := patient(t, c), patient(t, c)
		for i := range 300 {
			if err := s.Put(t.Context(), fmt.Sprint("lasting", i), fmt.Append(nil, i), time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Put(t.Context(), "n", []byte("0"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var work, follow sync.WaitGroup
		var counted, appended atomic.Int64
		for w, node := range []*redis.Store{s, other, s, other} {
			work.Go(func() { count(ctx, t, node, &counted) })
			work.Go(func() { codes(ctx, t, node, w) })
			work.Go(func() {
				for ctx.Err() == nil {
					if _, err := node.Append(context.WithoutCancel(ctx), fmt.Append(nil, w), time.Now().Add(time.Hour)); err != nil {
						t.Error(err)
						return
					}
					appended.Add(1)
				}
			})
		}
		stop := make(chan struct{})
		var seen [2][]string
		for i, node := range []*redis.Store{s, other} {
			follow.Go(func() { seen[i] = followAll(t, node, stop) })
		}
		for range 4 {
			r.condemn()
			var two sync.WaitGroup
			for _, node := range []*redis.Store{s, other} {
				two.Go(func() { resealAll(t, node, r.stale) })
			}
			two.Wait()
		}
		cancel()
		work.Wait()
		close(stop)
		follow.Wait()
		if _, changed := reseal(t, s, r.stale, true); changed != 0 {
			t.Errorf("%d are under an old key", changed)
		}
		r.destroy()
		if v, err := s.Get(t.Context(), "n"); err != nil || string(v) != fmt.Sprint(counted.Load()) {
			t.Errorf("the counter is %s, %v; %d swaps won", v, err, counted.Load())
		}
		for i := range 300 {
			if v, err := s.Get(t.Context(), fmt.Sprint("lasting", i)); err != nil || string(v) != fmt.Sprint(i) {
				t.Fatalf("lasting%d is %q, %v", i, v, err)
			}
		}
		all := followAll(t, s, stop)
		if int64(len(all)) != appended.Load() {
			t.Errorf("the feed has %d entries; %d were appended", len(all), appended.Load())
		}
		for i := range seen {
			if fmt.Sprint(seen[i]) != fmt.Sprint(all) {
				t.Errorf("a follower saw %d entries, or in another order; the feed has %d", len(seen[i]), len(all))
			}
		}
		t.Logf("%d swaps, %d entries", counted.Load(), appended.Load())
	})
}

// count raises a counter by swaps and rewrites.
func count(ctx context.Context, t *testing.T, s *redis.Store, counted *atomic.Int64) {
	for i := 0; ctx.Err() == nil; i++ {
		old, err := s.Get(t.Context(), "n")
		if err != nil {
			t.Error(err)
			return
		}
		var n int
		_, _ = fmt.Sscan(string(old), &n)
		if i%2 == 0 {
			err = s.Rewrite(t.Context(), "n", old, fmt.Append(nil, n+1))
		} else {
			err = s.CompareAndSwap(t.Context(), "n", old, fmt.Append(nil, n+1), time.Time{})
		}
		switch {
		case err == nil:
			counted.Add(1)
		case !errors.Is(err, store.ErrConflict):
			t.Error(err)
			return
		}
	}
}

// codes makes values and takes each once.
func codes(ctx context.Context, t *testing.T, s *redis.Store, w int) {
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("code %d %d", w, i)
		if err := s.Put(t.Context(), key, []byte(key), time.Now().Add(time.Hour)); err != nil {
			t.Error(err)
			return
		}
		if v, err := s.Take(t.Context(), key); err != nil || string(v) != key {
			t.Errorf("Take = %q, %v", v, err)
			return
		}
		if _, err := s.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a value that was taken is back: %v", err)
			return
		}
	}
}

// followAll follows the feed from the beginning until stop is closed and all is read, and
// returns all cursors.
func followAll(t *testing.T, s *redis.Store, stop chan struct{}) (cursors []string) {
	cursor := ""
	for {
		ended := false
		select {
		case <-stop:
			ended = true
		default:
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if err := s.Wait(ctx, cursor); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Wait: %v", err)
			}
			cancel()
		}
		entries, err := s.After(t.Context(), cursor, 100)
		if err != nil {
			t.Errorf("After(%q): %v", cursor, err)
			return cursors
		}
		for _, e := range entries {
			cursor = e.Cursor
			cursors = append(cursors, cursor)
		}
		if ended && len(entries) == 0 {
			return cursors
		}
	}
}

// resealAll reseals as an operation does that another node may have taken over: what did not
// work is tried again.
func resealAll(t *testing.T, s *redis.Store, stale func([]byte) bool) {
	failures := 0
	for cursor := ""; ; {
		next, _, _, err := s.Reseal(t.Context(), cursor, stale, false)
		if err != nil {
			if failures++; failures > 3 || !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("Reseal(%q): %v", cursor, err)
				return
			}
			continue
		}
		if cursor = next; cursor == "" {
			return
		}
	}
}

// resealEnv makes the test binary a process that reseals until it is killed.
const resealEnv = "ANTEROOM_REDIS_TEST_RESEAL"

// resealChild reseals what key a sealed in the store that spec names, and says where it is.
func resealChild(spec string) error {
	address, prefix, _ := strings.Cut(spec, " ")
	r, now := newRing(), newClock()
	r.condemn()
	c := redis.Config{Addresses: []string{address}, Prefix: prefix, Sealer: r, Now: now.now}
	s, err := redis.Open(context.Background(), c)
	if err != nil {
		return err
	}
	for cursor := ""; ; {
		fmt.Printf("at %q\n", cursor)
		next, _, _, err := s.Reseal(context.Background(), cursor, r.stale, false)
		if err != nil {
			return err
		}
		if cursor = next; cursor == "" {
			fmt.Println("done")
			return nil
		}
	}
}

// TestResealKilled: the process is killed with -9 at many moments. The next one, from the
// beginning or from where the killed one was, completes it, and nothing is lost.
func TestResealKilled(t *testing.T) {
	server := redistest.Standalone(t)
	c := config(t, server)
	f := fill(t, c)
	f.ring.condemn()
	spec := c.Addresses[0] + " " + c.Prefix
	cursor := ""
	for round, done := 0, false; round < 25 && !done; round++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), resealEnv+"="+spec)
		var failed bytes.Buffer
		cmd.Stderr = &failed
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if lines.Text() == "done" {
				done = true
			}
			_, _ = fmt.Sscanf(lines.Text(), "at %q", &cursor)
			if n == round/5 { // in the midst of each part, a little later each time
				time.AfterFunc(time.Duration(round%5)*3*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		if failed.Len() > 0 {
			t.Fatalf("the process said %s", failed.String())
		}
		f.whole(t, f.Store, fmt.Sprint("after kill ", round))
	}
	t.Logf("the last one was killed at %q", cursor)
	for { // another node goes on where it was
		next, _, _, err := f.Reseal(t.Context(), cursor, f.ring.stale, false)
		if err != nil {
			t.Fatal(err)
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if _, changed := reseal(t, f, f.ring.stale, true); changed != 0 {
		t.Errorf("%d are under the old key", changed)
	}
	f.ring.destroy()
	f.whole(t, f.Store, "at the end")
}

// TestResealLostAnswer: the feed was replaced and nobody heard.
func TestResealLostAnswer(t *testing.T) {
	server := redistest.Standalone(t)
	c := config(t, server)
	f := fill(t, c)
	f.ring.condemn()
	address, struck := thief(t, server.Addresses[0], "'RENAME'")
	struck.Store(true)
	c.Addresses, c.Sealer, c.Now = []string{address}, f.ring, f.now.now
	s := open(t, c)
	struck.Store(false)
	if _, changed := reseal(t, s, f.ring.stale, false); changed != someSealed-1 {
		t.Errorf("%d changed; want %d", changed, someSealed-1)
	}
	if !struck.Load() {
		t.Error("no answer was stolen")
	}
	f.ring.destroy()
	f.whole(t, f.Store, "at the end")
}

// TestResealSpeed prints how long 20,000 values take.
func TestResealSpeed(t *testing.T) {
	server := redistest.Standalone(t)
	c, r := config(t, server), newRing()
	c.Sealer = r
	s := patient(t, c)
	const many = 20_000
	var wg sync.WaitGroup
	value := bytes.Repeat([]byte("v"), 300)
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < many; i += 16 {
				if err := s.Put(t.Context(), fmt.Sprint(i), value, time.Time{}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.condemn()
	for _, dry := range []bool{true, false} {
		begin := time.Now()
		_, changed := reseal(t, s, r.stale, dry)
		took := time.Since(begin)
		t.Logf("dry %v: %d values in %v, %.0f/s", dry, changed, took.Round(time.Millisecond), float64(changed)/took.Seconds())
		if changed != many+1 {
			t.Errorf("%d changed", changed)
		}
	}
}
