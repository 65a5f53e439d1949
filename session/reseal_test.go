package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// resealed seals the value at a key of this package anew, as it is done after a key became
// known: other bytes, the same content, the same end.
func resealed(ctx context.Context, s store.Store, sealer Sealer, key string) error {
	label, ok := SealedAt(key)
	if !ok {
		return nil
	}
	old, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	plain, err := sealer.Open(ctx, label, old)
	if err != nil {
		return err
	}
	sealed, err := sealer.Seal(ctx, label, plain)
	if err != nil {
		return err
	}
	return s.Rewrite(ctx, key, old, sealed)
}

func expected(err error) bool {
	return err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict)
}

// chain is an identity source that replaces its token at each use, and takes the second use
// of one for theft.
type chain struct {
	mu   sync.Mutex // guards last
	last map[string]string
	bad  []string
}

func (c *chain) refresh(_ context.Context, s *Session, k Kept) (Verdict, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.last[s.ID]; last != "" && last != string(k.Bytes) {
		c.bad = append(c.bad, fmt.Sprintf("%q in the place of %q", k.Bytes, last))
	}
	next := fmt.Sprintf("%s+", k.Bytes)
	c.last[s.ID] = next
	return Verdict{Grant: s.Grant, Keep: []byte(next)}, nil
}

// TestResealedUnderHand: a value is sealed anew between the moment at which it is read and
// the one at which it is written. The renewal goes on, and what the source gave is kept.
func TestResealedUnderHand(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	p, source := newProxy(s), &chain{last: map[string]string{}}
	m := start(t, p, sealer, c.now, func(conf *Config) { conf.Refresh = source.refresh })
	session, cookies := keeping(t, m, Admission{Verify: true, Keep: []byte("token")})
	var mu sync.Mutex
	swaps, times := map[string]int{}, 0
	p.hook(func(ctx context.Context, op, key string) error {
		if op != "swap" {
			return nil
		}
		mu.Lock()
		swaps[key]++
		n := swaps[key]
		mu.Unlock()
		if n%3 == 0 {
			return nil // or it would be so for ever
		}
		if err := resealed(ctx, s, sealer, key); !expected(err) {
			t.Error(err)
		} else if err == nil {
			mu.Lock()
			times++
			mu.Unlock()
		}
		return nil
	})
	for i := range 8 {
		pass(m, c, 4*time.Minute)
		cookie, next, err := renew(m, session, lines(cookies), host)
		if err != nil {
			t.Fatalf("renewal %d: %v", i, err)
		}
		session, cookies[0] = next, cookie
		wantFound(t, m, lines(cookies))
	}
	if len(source.bad) > 0 || len(source.last[session.ID]) < 8 || times < 8 {
		t.Errorf("the source was asked with %q, last %q; sealed anew %d times", source.bad, source.last[session.ID], times)
	}
}

// TestResealedAllTheTime: everything is sealed anew again and again while people sign in,
// renew and sign out. Nobody is signed out by it, nobody who signed out is back.
func TestResealedAllTheTime(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	source := &chain{last: map[string]string{}}
	m := start(t, s, sealer, c.now, func(conf *Config) { conf.Refresh = source.refresh })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var behind sync.WaitGroup
	rounds := 0
	behind.Go(func() {
		for ; ctx.Err() == nil; rounds++ {
			for cursor := ""; ; {
				items, next, err := s.Scan(t.Context(), "", cursor, 20)
				if err != nil {
					t.Error(err)
					return
				}
				for _, item := range items {
					if err := resealed(t.Context(), s, sealer, item.Key); !expected(err) {
						t.Errorf("%s: %v", item.Key, err)
					}
				}
				if cursor = next; cursor == "" {
					break
				}
			}
		}
	})
	type person struct {
		s       *Session
		cookies []*http.Cookie
	}
	const many = 12
	people := make([]person, many)
	each := func(do func(i int, p *person)) {
		var all sync.WaitGroup
		for i := range people {
			all.Go(func() { do(i, &people[i]) })
		}
		all.Wait()
	}
	each(func(i int, p *person) {
		p.s, p.cookies = keeping(t, m, Admission{Verify: true, Keep: []byte("token")}, func(g *Grant) { g.Subject = fmt.Sprint("subject ", i/2) })
	})
	for range 4 {
		pass(m, c, 4*time.Minute)
		each(func(i int, p *person) {
			cookie, next, err := renew(m, p.s, lines(p.cookies), host)
			if err != nil {
				t.Errorf("renewal: %v", err)
				return
			}
			p.s, p.cookies[0] = next, cookie
		})
	}
	each(func(i int, p *person) {
		if i%3 == 0 {
			if err := m.Revoke(t.Context(), p.s.ID); err != nil {
				t.Errorf("signing out: %v", err)
			}
		}
	})
	cancel()
	behind.Wait()
	m.follow()
	for i, p := range people {
		if i%3 == 0 {
			if _, err := m.Find(lines(p.cookies), host); !errors.Is(err, ErrNone) {
				t.Errorf("person %d signed out and is back: %v", i, err)
			}
			continue
		}
		wantFound(t, m, lines(p.cookies))
	}
	if all, err := m.AllSessions(t.Context()); err != nil || len(all) != many-many/3 {
		t.Errorf("%d sessions are listed, %v; want %d", len(all), err, many-many/3)
	}
	if len(source.bad) > 0 || rounds < 2 {
		t.Errorf("%d rounds; the source was asked with %s", rounds, strings.Join(source.bad, ", "))
	}
}
