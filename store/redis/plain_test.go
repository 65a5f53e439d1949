package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// openPlain opens a store whose sealer is made of what lies in Redis.
func openPlain(t *testing.T, c redis.Config, r *ring) (*redis.Store, *redis.Plain) {
	t.Helper()
	var plain *redis.Plain
	c.Sealer = nil
	c.Unseal = func(ctx context.Context, p *redis.Plain) (redis.Sealer, error) {
		plain = p
		err := p.CompareAndSwap(ctx, "ring", nil, []byte("wrapped"), time.Time{})
		if errors.Is(err, store.ErrConflict) {
			_, err = p.Get(ctx, "ring")
		}
		return r, err
	}
	return open(t, c), plain
}

// TestUnseal: the sealer's own keys lie in Redis, are there before the first sealed value
// is looked at, and are the same for the next node.
func TestUnseal(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, r := config(t, server), newRing()
		s, p := openPlain(t, c, r)
		ctx := t.Context()
		if err := s.Put(ctx, "ring", []byte("a value"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		if v, err := p.Get(ctx, "ring"); err != nil || string(v) != "wrapped" {
			t.Errorf("the plain value is %q, %v", v, err)
		}
		other, q := openPlain(t, c, r)
		if v, err := other.Get(ctx, "ring"); err != nil || string(v) != "a value" {
			t.Errorf("the other node has %q, %v", v, err)
		}
		if err := q.CompareAndSwap(ctx, "ring", []byte("wrapped"), []byte("wrapped anew"), time.Time{}); err != nil {
			t.Error(err)
		}
		if v, err := p.Get(ctx, "ring"); err != nil || string(v) != "wrapped anew" {
			t.Errorf("the first node has %q, %v", v, err)
		}
		if items, err := s.List(ctx, ""); err != nil || len(items) != 1 {
			t.Errorf("List has %d items, %v", len(items), err)
		}
		for _, name := range names(t, c) {
			if strings.Contains(name, "ring") {
				t.Errorf("the name %q says what it is", name)
			}
		}
	})
	c := config(t, forms[0].shared(t))
	c.Sealer = nil
	if _, err := redis.Open(t.Context(), c); err == nil {
		t.Error("a store without a sealer was opened")
	}
	gone := errors.New("no key opens the ring: bring back master.key")
	c.Unseal = func(context.Context, *redis.Plain) (redis.Sealer, error) { return nil, gone }
	_, err := redis.Open(t.Context(), c)
	is(t, err, gone, "an Unseal that fails")
	if len(names(t, c)) != 0 {
		t.Errorf("it left %q", names(t, c))
	}
}

// TestPlain: compare-and-set as the store's own, one winner, expiry, limits.
func TestPlain(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c, now := config(t, server), newClock()
		c.Now = now.now
		_, p := openPlain(t, c, newRing())
		ctx := t.Context()
		_, err := p.Get(ctx, "k")
		is(t, err, store.ErrNotFound, "Get of an absent key")
		is(t, p.CompareAndSwap(ctx, "k", []byte{}, []byte("1"), time.Time{}), store.ErrConflict, "swap of an absent key")
		if err := p.CompareAndSwap(ctx, "k", nil, []byte("1"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		is(t, p.CompareAndSwap(ctx, "k", nil, []byte("1"), time.Time{}), store.ErrConflict, "making it twice")
		is(t, p.CompareAndSwap(ctx, "k", []byte("0"), []byte("1"), time.Time{}), store.ErrConflict, "a swap from another value to the present one")
		var wg sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 30 { // all write the same bytes: one of them wrote them
			wg.Go(func() {
				err := p.CompareAndSwap(ctx, "k", []byte("1"), []byte("2"), now.in(time.Minute))
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.Is(err, store.ErrConflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won != 1 {
			t.Errorf("%d swaps won", won)
		}
		now.advance(time.Minute)
		_, err = p.Get(ctx, "k")
		is(t, err, store.ErrNotFound, "Get of an expired key")
		if err := p.CompareAndSwap(ctx, "k", nil, nil, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if v, err := p.Get(ctx, "k"); err != nil || v == nil || len(v) != 0 {
			t.Errorf("an empty value is %q, %v", v, err)
		}
		is(t, p.CompareAndSwap(ctx, "", nil, nil, time.Time{}), store.ErrInvalid, "an empty key")
		is(t, p.CompareAndSwap(ctx, "k", nil, bytes.Repeat([]byte("v"), store.MaxValue+1), time.Time{}), store.ErrInvalid, "a long value")
		for i, lie := range []string{"", "x", strings.Repeat("\x02", 100)} {
			key := fmt.Sprint("lie", i)
			before := names(t, c)
			if err := p.CompareAndSwap(ctx, key, nil, []byte("1"), time.Time{}); err != nil {
				t.Fatal(err)
			}
			for _, name := range names(t, c) {
				if !strings.Contains(strings.Join(before, " "), name) {
					raw(t, c).Set(ctx, name, lie, 0)
				}
			}
			_, err := p.Get(ctx, key)
			is(t, err, store.ErrUnavailable, "what somebody wrote")
		}
	})
}

// TestLostPlainAnswer: the server made the swap and nobody heard. The second attempt knows
// its own bytes, also when another has written the same value meanwhile.
func TestLostPlainAnswer(t *testing.T) {
	server := redistest.Standalone(t)
	c := config(t, server)
	_, other := openPlain(t, c, newRing())
	address, struck := thief(t, server.Addresses[0], "\r\nEVAL\r\n")
	struck.Store(true)
	c.Addresses = []string{address}
	_, p := openPlain(t, c, newRing())
	struck.Store(false)
	if err := p.CompareAndSwap(t.Context(), "k", nil, []byte("new"), time.Time{}); err != nil {
		t.Errorf("a swap that was made: %v", err)
	}
	if v, err := other.Get(t.Context(), "k"); err != nil || string(v) != "new" {
		t.Errorf("the value is %q, %v", v, err)
	}
	if !struck.Load() {
		t.Error("no answer was stolen")
	}
}

// TestLook: a look needs no sealer and leaves nothing, also where others have stored.
func TestLook(t *testing.T) {
	eachForm(t, func(t *testing.T, server *redistest.Server) {
		c := config(t, server)
		for range 2 {
			look := c
			look.Sealer = nil
			before := names(t, c)
			at, err := redis.Look(t.Context(), look)
			if d := time.Since(at); err != nil || d < -time.Minute || d > time.Minute {
				t.Errorf("the clock is %v, %v", at, err)
			}
			if after := names(t, c); len(after) != len(before) {
				t.Errorf("it left %q", after)
			}
			open(t, c)
		}
		c.Password = "wrong"
		if _, err := redis.Look(t.Context(), c); err == nil {
			t.Error("a wrong password is taken")
		}
	})
}
