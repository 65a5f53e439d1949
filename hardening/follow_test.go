package hardening

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
	"github.com/anteroom-proxy/anteroom/store/bolt"

	"github.com/anteroom-proxy/anteroom/loopback"
)

// inBubble runs a test whose clock jumps. The store lives inside: its goroutines belong to the bubble.
func inBubble(t *testing.T, f func(t *testing.T, st *faults, c *clock)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, err := bolt.Open(bolt.Config{Path: filepath.Join(dir, "db")})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, &faults{Store: s}, newClock())
	})
}

// TestRequestWaitsForTheKey: with a managed certificate the key appears after the start; a request that came earlier waits.
func TestRequestWaitsForTheKey(t *testing.T) {
	inBubble(t, func(t *testing.T, st *faults, c *clock) {
		n := newNode(t, st, c, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { n.Follow(ctx); close(done) }()
		limits, err := NewLimits(200, 8192, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		token, err := loopback.OpenTokenFile(writeToken(t, testToken, 0o600))
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{Ring: n.Ring, Limits: limits, Callers: loopback.Callers{Token: token}, Hosts: []string{"localhost"}, Audit: new(events), Facts: func(*http.Request) loopback.Facts { return goodFacts() }})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now // the bubble's clock
		began := now()
		if _, err := s.Protect(t.Context(), []Item{{UID: "u", Secret: "s"}}); !errors.Is(err, ErrWaiting) || now().Sub(began) != 5*time.Second {
			t.Errorf("after %v: %v", now().Sub(began), err)
		}
		time.AfterFunc(2*time.Second, func() { n.serve(testKey(t, c)) })
		began = now()
		if _, err := s.Protect(t.Context(), []Item{{UID: "u", Secret: "s"}}); err != nil || now().Sub(began) > 3*time.Second {
			t.Errorf("after %v: %v", now().Sub(began), err)
		}
		// The poll alone finds a key that no event told of.
		next := testKey(t, c)
		n.serve(next)
		<-time.After(followEvery + time.Second)
		synctest.Wait()
		newNode(t, st, c, nil, next).mustSync(t)
		// A store that went away does not stop an open ring, and is asked again soon.
		st.mu.Lock()
		st.get = store.ErrUnavailable
		st.mu.Unlock()
		<-time.After(2 * followEvery)
		if _, err := s.Protect(t.Context(), []Item{{UID: "u", Secret: "s"}}); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
	})
}

func TestFollowDelay(t *testing.T) {
	for _, c := range []struct {
		err  error
		want time.Duration
	}{{nil, followEvery}, {errNoKey, followWaiting}, {ErrLocked, followTrouble}, {ErrWaiting, followTrouble}} {
		if got := followDelay(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
