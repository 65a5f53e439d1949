package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// A node that is gone in the middle of an asking: nobody asks until its lease is over.
// Whether the provider has used the token up is not known, so that its refusal is not
// taken for the person's end as long as the source has patience. What the node has to
// say after all counts no more.
func TestCrashWhileAsking(t *testing.T) {
	for name, answered := range map[string]bool{"before the provider heard": false, "after it answered": true} {
		t.Run(name, func(t *testing.T) {
			p := &provider{}
			inBubble(t, 2, func(t *testing.T, w *shared) {
				a, b := w.nodes[0], w.nodes[1]
				v := newVisitor(t, a, toVerify)
				time.Sleep(4 * time.Minute)
				back := make(chan struct{})
				p.set(func(_ context.Context, asking int) error {
					if asking > 1 {
						return nil
					}
					if answered {
						p.mu.Lock()
						p.newest[v.s.ID]++
						p.mu.Unlock()
					}
					w.proxies[0].dead.Store(true)
					<-back
					return errors.New("nobody hears this")
				}, nil)
				a.StartRenewal(must(a.Find(v.lines[host], host)), v.lines[host], host)
				time.Sleep(time.Second)
				// The lease stands: the other node does not ask.
				if _, err := b.renewShared(t.Context(), must(b.Find(v.lines[host], host)), host); !errors.Is(err, errSlow) || p.count() != 1 {
					t.Errorf("%v, %d questions", err, p.count())
				}
				until := time.Now().Add(40 * time.Minute)
				for time.Now().Before(until) {
					time.Sleep(30 * time.Second)
					if _, err := v.visit(b, host); err != nil && !errors.Is(err, errSlow) {
						t.Fatalf("signed out: %v", err)
					}
				}
				if answered && (p.thefts == 0 || p.thefts > 11) || !answered && p.thefts != 0 {
					t.Errorf("shown used-up tokens %d times in 40 minutes", p.thefts)
				}
				// When the source has lost its patience it says so, and that is the end.
				if answered {
					b.regrant = func(ctx context.Context, s *Session, k Kept) (Verdict, error) {
						if !k.Unsure || !k.Verified.Equal(v.s.Started) || string(k.Bytes) != "0" {
							t.Errorf("%+v", k)
						}
						return Verdict{Gone: time.Since(k.Verified) > 40*time.Minute}, nil
					}
					time.Sleep(4 * time.Minute)
					if _, err := v.visit(b, host); Reason(err) != "provider" {
						t.Errorf("%v", err)
					}
				}
				close(back)
			}, p.option)
		})
	}
}

// tripping fails at one call of those that go through it: before it is done, or after.
type tripping struct {
	store.Store
	calls, at atomic.Int64
	after     bool
	down      atomic.Int64 // calls that fail from then on
}

func (s *tripping) trips() bool {
	n, at := s.calls.Add(1), s.at.Load()
	return at > 0 && n >= at && n < at+max(1, s.down.Load())
}

func (s *tripping) do(write func() error) error {
	if !s.trips() {
		return write()
	}
	if s.after {
		write()
	}
	return store.ErrUnavailable
}

func (s *tripping) Get(ctx context.Context, key string) (value []byte, err error) {
	if !strings.HasPrefix(key, labelFamily) || strings.HasPrefix(key, labelStoreKeys) || strings.HasPrefix(key, labelStoreAssertionKeys) {
		return s.Store.Get(ctx, key) // of the polls
	}
	if s.trips() {
		return nil, store.ErrUnavailable
	}
	return s.Store.Get(ctx, key)
}

func (s *tripping) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	return s.do(func() error { return s.Store.CompareAndSwap(ctx, key, old, new, expires) })
}

func (s *tripping) Delete(ctx context.Context, key string) error {
	return s.do(func() error { return s.Store.Delete(ctx, key) })
}

func (s *tripping) Append(ctx context.Context, value []byte, expires time.Time) (cursor string, err error) {
	err = s.do(func() error { cursor, err = s.Store.Append(ctx, value, expires); return err })
	return cursor, err
}

// The store fails at any one call of a renewal that asks, or at some in a row, before
// or after it did what it was told: no refresh token is lost or shown twice, and nobody
// is signed out.
func TestStoreFailsWhileAsking(t *testing.T) {
	for _, after := range []bool{false, true} {
		for _, down := range []int64{1, 7} {
			first, last := int64(1), int64(12)
			if down > 1 { // from the writing of the lease on, until that of the verdict
				first, last = 4, 6
			}
			for at := first; at <= last; at++ {
				name := fmt.Sprintf("after %t, %d from call %d", after, down, at)
				p := &provider{}
				inBubble(t, 2, func(t *testing.T, w *shared) {
					a, b := w.nodes[0], w.nodes[1]
					v := newVisitor(t, a, toVerify, "lab.example")
					trip := &tripping{Store: w.store, after: after}
					trip.down.Store(down)
					var s store.Store = trip
					w.proxies[0].to.Store(&s)
					time.Sleep(4 * time.Minute)
					trip.calls.Store(0)
					trip.at.Store(at)
					for i := range 48 {
						m, site := a, v.sites[i%2]
						if i%8 > 3 {
							m = b
						}
						if _, err := v.visit(m, site); err != nil && errors.Is(err, ErrNone) {
							t.Fatalf("%s: signed out: %v", name, err)
						}
						time.Sleep(15 * time.Second)
					}
					if p.thefts != 0 || p.most != 1 {
						t.Errorf("%s: %d tokens used twice, %d questions at once", name, p.thefts, p.most)
					}
					if n := p.count(); n < 2 || n > 5 {
						t.Errorf("%s: %d questions in 12 minutes", name, n)
					}
					wantKept(t, b, v.s.ID, fmt.Sprint(p.newest[v.s.ID]))
				}, p.option)
			}
		}
	}
}

// A verdict that the store did not take, for longer than the lease holds: when the store
// is back this node does not ask again before it has written that.
func TestLateVerdict(t *testing.T) {
	p := &provider{}
	inBubble(t, 1, func(t *testing.T, w *shared) {
		m := w.nodes[0]
		v := newVisitor(t, m, toVerify, "lab.example", "ward.example")
		time.Sleep(4*time.Minute + 500*time.Millisecond)
		p.set(func(context.Context, int) error {
			w.proxies[0].hook(func(_ context.Context, op, key string) error {
				if op == "swap" && strings.HasPrefix(key, labelKept) {
					return store.ErrUnavailable
				}
				return nil
			})
			return nil
		}, nil)
		if _, err := v.visit(m, host); err != nil {
			t.Fatal(err)
		}
		time.Sleep(leaseFor + 5*time.Second + 200*time.Millisecond)
		if _, err := v.visit(m, "lab.example"); err != nil && !errors.Is(err, errSlow) {
			t.Fatal(err)
		}
		p.set(nil, nil)
		w.proxies[0].hook(nil)
		if _, err := v.visit(m, "ward.example"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * saveEvery)
		if p.count() != 1 || p.thefts != 0 {
			t.Errorf("%d questions, %d thefts", p.count(), p.thefts)
		}
		wantKept(t, m, v.s.ID, "1")
	}, p.option)
}

// Row 58: a sign-on that is revoked while its source is asked: what comes back is kept
// by nobody, and renews nothing.
func TestRow58RevokedWhileAsking(t *testing.T) {
	p := &provider{}
	w := newShared(t, 2, p.option)
	a, b := w.nodes[0], w.nodes[1]
	v := newVisitor(t, a, toVerify)
	w.pass(4 * time.Minute)
	asked, answer := make(chan struct{}), make(chan struct{})
	p.set(func(context.Context, int) error { close(asked); <-answer; return nil }, nil)
	r := a.StartRenewal(wantFound(t, a, v.lines[host]), v.lines[host], host)
	<-asked
	if err := b.Revoke(t.Context(), v.s.ID); err != nil {
		t.Fatal(err)
	}
	close(answer) // before the asking node has heard of it
	<-r.done
	if r.renewal != nil || r.err == nil {
		t.Errorf("renewed: %v", r.err)
	}
	for _, m := range w.nodes {
		m.follow()
		wantErased(t, m, v.s.ID)
		wantNone(t, m, v.lines[host])
	}
}

// A provider that says "gone" while the store takes nothing: over on this node at once,
// and on the others as soon as the store is back.
func TestGoneWhileTheStoreIsAway(t *testing.T) {
	p := &provider{}
	w := newShared(t, 2, p.option)
	a, b := w.nodes[0], w.nodes[1]
	v := newVisitor(t, a, toVerify, "lab.example")
	wantFound(t, b, v.lines[host])
	w.pass(4 * time.Minute)
	p.set(func(context.Context, int) error { w.proxies[0].dead.Store(true); return nil }, func(v *Verdict) { v.Gone = true })
	if _, err := v.visit(a, host); Reason(err) != "provider" {
		t.Errorf("%v", err)
	}
	wantNone(t, a, v.lines[host])
	wantFound(t, b, v.lines[host])
	w.proxies[0].dead.Store(false)
	a.follow()
	eventually(t, "the other node", func() bool {
		b.follow()
		_, err := b.Find(v.lines[host], host)
		return Reason(err) == "provider"
	})
	eventually(t, "the erasure", func() bool {
		_, err := w.store.Get(t.Context(), keptKey(v.s.ID))
		return errors.Is(err, store.ErrNotFound)
	})
	eventually(t, "that nothing is owed", func() bool {
		a.arrears.mu.Lock()
		defer a.arrears.mu.Unlock()
		return len(a.arrears.owed) == 0
	})
}

// Who hangs up, or closes the manager, cuts off no asking that is about to end; one that
// hangs does not keep Close waiting.
func TestHangUpWhileAsking(t *testing.T) {
	p := &provider{}
	inBubble(t, 2, func(t *testing.T, w *shared) {
		a, b := w.nodes[0], w.nodes[1]
		v := newVisitor(t, a, toVerify, "lab.example")
		takes := 2 * time.Second
		p.set(func(ctx context.Context, _ int) error {
			select {
			case <-time.After(takes):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, nil)
		time.Sleep(14 * time.Minute)
		if _, err := v.visit(b, "lab.example"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Minute) // past the idle end of one site's token
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := a.Revive(ctx, v.lines[host], host); err == nil {
			t.Error("it did not wait")
		}
		time.Sleep(2 * time.Second)
		wantKept(t, b, v.s.ID, "2")
		time.Sleep(time.Minute)
		if s, cookie, err := a.Revive(t.Context(), v.lines[host], host); err != nil {
			t.Errorf("%v", err)
		} else {
			v.lines[host] = line(cookie.Value, secondHalf(v.lines[host]))
			if s.ID != v.s.ID {
				t.Error("another's")
			}
		}
		time.Sleep(4 * time.Minute)
		a.StartRenewal(must(a.Find(v.lines[host], host)), v.lines[host], host)
		time.Sleep(100 * time.Millisecond)
		a.Close()
		wantKept(t, b, v.s.ID, "3")
		if p.thefts != 0 {
			t.Errorf("%d thefts", p.thefts)
		}
		takes = time.Hour
		time.Sleep(4 * time.Minute)
		b.StartRenewal(must(b.Find(v.lines["lab.example"], "lab.example")), v.lines["lab.example"], "lab.example")
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		b.Close()
		if took := time.Since(began); took > askOnClose+time.Second {
			t.Errorf("Close took %v", took)
		}
		var k kept
		if _, err := b.readCell(t.Context(), keptKey(v.s.ID), &k); err != nil || !k.Unsure || k.Holder != "" {
			t.Errorf("%v, %+v", err, k)
		}
	}, p.option)
}

// More than may be kept does not come in place of what is kept. The provider may have
// used that up.
func TestVerdictKeepsTooMuch(t *testing.T) {
	var seen Kept
	m, c := manager(t, func(c *Config) {
		c.Refresh = func(_ context.Context, s *Session, k Kept) (Verdict, error) {
			seen = k
			return Verdict{Grant: s.Grant, Keep: bytes.Repeat([]byte("x"), maxKeep+1)}, nil
		}
	})
	v := newVisitor(t, m, toVerify)
	for range 10 {
		pass(m, c, time.Minute)
		if _, err := v.visit(m, host); err != nil {
			t.Fatal(err)
		}
	}
	wantKept(t, m, v.s.ID, "0")
	if !seen.Unsure || string(seen.Bytes) != "0" || !seen.Verified.Equal(v.s.Started) {
		t.Errorf("%+v", seen)
	}
}

// What a hook does with what it is given changes nothing.
func TestHookGetsCopies(t *testing.T) {
	m, c := manager(t, func(c *Config) {
		c.Refresh = func(_ context.Context, s *Session, k Kept) (Verdict, error) {
			g := s.Grant
			s.ID, s.Roles = newID(), []string{"admin"}
			clear(k.Bytes)
			return Verdict{Grant: g}, nil
		}
	})
	v := newVisitor(t, m, toVerify)
	pass(m, c, 4*time.Minute)
	s, err := v.visit(m, host)
	if err != nil || s.ID != v.s.ID || s.Roles[0] != "doctor" {
		t.Errorf("%v, %+v", err, s)
	}
	wantKept(t, m, v.s.ID, "0")
}

// A source that may have heard a question is not taken for one that was not reached: a refresh token in it may be used up.
func TestWasCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"no answer in time":  {fmt.Errorf("asking: %w", context.DeadlineExceeded), true},
		"broken off":         {fmt.Errorf("connection failed: %w", io.ErrUnexpectedEOF), true},
		"reset":              {&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		"never reached":      {&net.OpError{Op: "dial", Err: errors.New("connection refused")}, false},
		"an answer like 503": {errors.New("answer has status 503"), false},
	} {
		if got := wasCutOff(t.Context(), c.err); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
