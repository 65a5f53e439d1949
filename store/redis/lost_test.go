package redis_test

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/redis"
	"github.com/anteroom-proxy/anteroom/store/redis/redistest"
)

// thief passes everything on between a store and its server, but for one thing: once,
// the server gets a request with the word in it and carries it out, and the connection
// breaks before its answer arrives.
func thief(t *testing.T, server, word string) (address string, struck *atomic.Bool) {
	t.Helper()
	struck = new(atomic.Bool)
	address = listen(t, func(c net.Conn) {
		up, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		var back sync.WaitGroup
		defer back.Wait()
		defer up.Close()
		var steal atomic.Bool
		answered := make(chan struct{})
		back.Go(func() {
			b := make([]byte, 1<<16)
			for {
				n, err := up.Read(b)
				if err != nil {
					return
				}
				if steal.Load() {
					close(answered)
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		})
		b := make([]byte, 1<<16)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			stolen := bytes.Contains(bytes.ToUpper(b[:n]), []byte(word)) && !struck.Swap(true)
			steal.Store(stolen)
			if _, err := up.Write(b[:n]); err != nil || stolen {
				if stolen {
					<-answered
				}
				return
			}
		}
	})
	return address, struck
}

// TestLostAnswer: the server did it and nobody heard. What the server can be asked about
// is asked; everything else is unknown to the caller, and is not done a second time.
func TestLostAnswer(t *testing.T) {
	server := redistest.Standalone(t)
	for word, test := range map[string]func(*testing.T, *redis.Store, *redis.Store){
		"EVAL": func(t *testing.T, s, other *redis.Store) {
			if err := s.CompareAndSwap(t.Context(), "k", []byte("old"), []byte("new"), time.Time{}); err != nil {
				t.Errorf("a swap that was made: %v", err)
			}
			if v, err := other.Get(t.Context(), "k"); err != nil || string(v) != "new" {
				t.Errorf("the value is %q, %v", v, err)
			}
			is(t, s.CompareAndSwap(t.Context(), "k", []byte("old"), []byte("newer"), time.Time{}), store.ErrConflict, "the next swap")
		},
		"GETDEL": func(t *testing.T, s, other *redis.Store) {
			v, err := s.Take(t.Context(), "k")
			is(t, err, store.ErrUnavailable, "Take")
			if v != nil {
				t.Errorf("Take gave %q", v)
			}
			_, err = other.Take(t.Context(), "k")
			is(t, err, store.ErrNotFound, "the next Take")
		},
		"XADD": func(t *testing.T, s, other *redis.Store) {
			_, err := s.Append(t.Context(), []byte("entry"), time.Time{})
			is(t, err, store.ErrUnavailable, "Append")
			if got := after(t, other, ""); got != "entry" {
				t.Errorf("the feed is %q", got)
			}
		},
		"DEL": func(t *testing.T, s, other *redis.Store) {
			is(t, s.Delete(t.Context(), "k"), store.ErrUnavailable, "Delete")
		},
		"SET": func(t *testing.T, s, other *redis.Store) {
			is(t, s.Put(t.Context(), "k", []byte("new"), time.Time{}), store.ErrUnavailable, "Put")
		},
		"GET": func(t *testing.T, s, other *redis.Store) {
			if v, err := s.Get(t.Context(), "k"); err != nil || string(v) != "old" {
				t.Errorf("a read that may be repeated: %q, %v", v, err)
			}
		},
		"XRANGE": func(t *testing.T, s, other *redis.Store) {
			add(t, other, "entry", time.Time{})
			if got := after(t, s, ""); got != "entry" {
				t.Errorf("the feed is %q", got)
			}
		},
	} {
		t.Run(word, func(t *testing.T) {
			c := config(t, server)
			other := open(t, c)
			if err := other.Put(t.Context(), "k", []byte("old"), time.Time{}); err != nil {
				t.Fatal(err)
			}
			address, struck := thief(t, server.Addresses[0], "\r\n"+word+"\r\n")
			struck.Store(true) // not while it opens
			c.Addresses = []string{address}
			s := open(t, c)
			struck.Store(false)
			test(t, s, other)
			if !struck.Load() {
				t.Error("no answer was stolen: the test saw nothing")
			}
		})
	}
}

// TestRestartBetweenCalls: Redis was restarted while nobody asked. All connections of
// the pool are dead, and no call has an unknown outcome because of that.
func TestRestartBetweenCalls(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]redistest.Option{nil, {redistest.Secure(), redistest.Prefix("*")}} {
		server := redistest.Standalone(t, opts...)
		s := patient(t, config(t, server))
		all := func() {
			t.Helper()
			var calls sync.WaitGroup
			for i := range 16 {
				calls.Go(func() {
					if err := s.Put(t.Context(), fmt.Sprint(i), nil, time.Time{}); err != nil {
						t.Errorf("secure %v: %v", opts != nil, err)
					}
				})
			}
			calls.Wait()
		}
		all()
		server.Kill()
		server.Start()
		all()
		server.Stop()
		server.Start()
		all()
	}
}
