package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// S9 over three nodes: sixty requests of one browser at once, each node with twenty:
// one rotation, one token, and nobody is signed out.
func TestS9OverThreeNodes(t *testing.T) {
	for round := range 5 {
		w := newShared(t, 3)
		s, cookies := issue(t, w.nodes[0])
		for _, m := range w.nodes {
			wantFound(t, m, lines(cookies))
		}
		w.pass(2 * time.Minute)
		tokens := make([]string, 60)
		var all sync.WaitGroup
		for i := range tokens {
			all.Go(func() {
				m := w.nodes[i%3]
				cookie, next, err := renew(m, s, lines(cookies), host)
				if err != nil || cookie == nil {
					t.Errorf("%v, %v", cookie, err)
					return
				}
				tokens[i] = cookie.Value
				if found, err := w.nodes[(i+1)%3].Find(line(cookie.Value, cookies[1].Value), host); err != nil || found.TokenID != next.TokenID {
					t.Errorf("%v", err)
				}
			})
		}
		all.Wait()
		for _, token := range tokens {
			if token != tokens[0] {
				t.Fatalf("round %d: two tokens from one rotation", round)
			}
		}
		for _, m := range w.nodes {
			wantFound(t, m, lines(cookies)) // the older one, until its end
		}
		// The next rotation takes its turn all the same.
		w.pass(2 * time.Minute)
		cookie, next, err := renew(w.nodes[1], s, lines(cookies), host)
		if err != nil || cookie.Value == tokens[0] || !next.IssuedAt.Equal(w.clock.now()) {
			t.Errorf("%v, %+v", err, next)
		}
	}
}

// CVE-2026-71326: parallel renewals whose parts look alike when joined are not one.
func TestCVE202671326NoSharedRenewal(t *testing.T) {
	m, c := manager(t, func(c *Config) {
		c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) { return Verdict{Grant: s.Grant}, nil }
	})
	type visit struct {
		s       *Session
		cookies []*http.Cookie
		host    string
	}
	var visits []visit
	for _, v := range [][3]string{{"a", "bc", "x.example"}, {"ab", "c", "x.example"}, {"a", "bc", "xx.example"}, {"a:bc", "x", "x.example"}, {"a", "bc:x", "x.example"}} {
		s, cookies, err := m.Issue(t.Context(), Grant{Source: v[0], Subject: v[1], Username: v[0] + v[1]}, v[2], Admission{Verify: true})
		if err != nil {
			t.Fatal(err)
		}
		visits = append(visits, visit{s, cookies, v[2]})
		joined, cookies, err := m.Join(t.Context(), s, "ab."+v[2])
		if err != nil {
			t.Fatal(err)
		}
		visits = append(visits, visit{joined, cookies, "ab." + v[2]})
	}
	pass(m, c, 4*time.Minute)
	var all sync.WaitGroup
	var seen sync.Map
	for _, v := range visits {
		for range 10 {
			all.Go(func() {
				cookie, next, err := renew(m, v.s, lines(v.cookies), v.host)
				if err != nil || next.ID != v.s.ID || next.Subject != v.s.Subject || next.Source != v.s.Source || next.Audience != v.host || next.context != v.s.context {
					t.Errorf("%v: somebody else's", err)
					return
				}
				if other, there := seen.LoadOrStore(cookie.Value, v.s); there && other != v.s {
					t.Error("a token of two sessions")
				}
				if found, err := m.Find(line(cookie.Value, v.cookies[1].Value), v.host); err != nil || found.Subject != v.s.Subject {
					t.Errorf("%v", err)
				}
			})
		}
	}
	all.Wait()
}

// J73 (superseded): a role that was taken away is gone within one idle period, with
// the next renewal, and so are the lifetimes that came with it.
func TestJ73RolesFollowARenewal(t *testing.T) {
	var asked atomic.Int32
	w := newShared(t, 2, func(c *Config) {
		c.Lifetimes.Roles = map[string]Lifetime{"finance": {Idle: 5 * time.Minute, Absolute: time.Hour}}
		c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) {
			asked.Add(1)
			g := s.Grant
			g.Roles, g.ProviderSession = []string{"finance"}, "another"
			return Verdict{Grant: g}, nil
		}
	})
	g := grant()
	g.Roles, g.ProviderSession = []string{"doctor"}, "op"
	s, cookies, err := w.nodes[0].Issue(t.Context(), g, host, Admission{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(4 * time.Minute)
	for i := range 10 {
		_, next, err := renew(w.nodes[i%2], s, lines(cookies), host)
		if err != nil || fmt.Sprint(next.Roles) != "[finance]" || next.Expires.Sub(next.IssuedAt) != 5*time.Minute || next.Ends.Sub(next.Started) != time.Hour {
			t.Fatalf("%v, %+v", err, next)
		}
		if next.ProviderSession != s.ProviderSession || fmt.Sprint(s.Roles) != "[doctor]" {
			t.Errorf("%+v", next)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
	infos, err := w.nodes[0].AllSessions(t.Context())
	if err != nil || len(infos) != 1 || fmt.Sprint(infos[0].Roles) != "[finance]" {
		t.Errorf("%v, %+v", err, infos)
	}
}

// What a source must not say of a session ends it at once, as "gone" does, on all
// nodes and for streams: an answer about somebody else (row 39), or one that no session
// may hold. The zero verdict is one of these.
func TestRow39RefreshRefuses(t *testing.T) {
	for name, refresh := range map[string]func(*Grant) bool{
		"gone":            func(*Grant) bool { return true },
		"another subject": func(g *Grant) bool { g.Subject = "root"; return false },
		"another source":  func(g *Grant) bool { g.Source = "clinic"; return false },
		"nobody":          func(g *Grant) bool { *g = Grant{}; return false },
		"not acceptable":  func(g *Grant) bool { g.Name = "a\nb"; return false },
		"two roles":       func(g *Grant) bool { g.Roles = []string{"a,b"}; return false },
		"too large":       func(g *Grant) bool { g.Name = strings.Repeat("n", 5000); return false },
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			w := newShared(t, 2, func(c *Config) {
				c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) {
					asked.Add(1)
					v := Verdict{Grant: s.Grant}
					v.Gone = refresh(&v.Grant)
					return v, nil
				}
			})
			a, b := w.nodes[0], w.nodes[1]
			s, cookies, err := signIn(t, a, Admission{Verify: true, Keep: []byte("secret")})
			if err != nil {
				t.Fatal(err)
			}
			told := make(chan error, 2)
			for _, m := range w.nodes {
				wantFound(t, m, lines(cookies))
				m.Watch(s.ID, 0, func(err error) { told <- err })
			}
			w.pass(4 * time.Minute)
			if cookie, next, err := renew(a, s, lines(cookies), host); cookie != nil || next != nil || !errors.Is(err, ErrNone) || Reason(err) != "provider" {
				t.Errorf("renewed: %v", err)
			}
			w.follow()
			for _, m := range w.nodes {
				if err := <-told; Reason(err) != "provider" {
					t.Errorf("cut: %v", err)
				}
				wantNone(t, m, lines(cookies))
				if why := m.Ended(lines(cookies), host); why != "provider" {
					t.Errorf("ended: %q", why)
				}
			}
			wantErased(t, b, s.ID)
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

// The fence: a holder that was too slow and was taken over has written nothing and
// uses what the other one made.
func TestSlowHolderIsFencedOff(t *testing.T) {
	stuck, enter := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	w := newShared(t, 2, func(c *Config) {
		c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) {
			if calls.Add(1) == 1 {
				close(enter)
				<-stuck
			}
			return Verdict{Grant: s.Grant}, nil
		}
	})
	s, cookies, err := signIn(t, w.nodes[0], Admission{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	wantFound(t, w.nodes[1], lines(cookies))
	w.pass(4 * time.Minute)
	slow := w.nodes[0].StartRenewal(s, lines(cookies), host)
	<-enter
	// The other one waits for as long as the lease holds …
	if n, err := w.nodes[1].renewShared(t.Context(), s, host); n != nil || !errors.Is(err, errSlow) {
		t.Fatalf("%v", err)
	}
	// … and takes over when it has run out.
	w.pass(leaseFor)
	won, err := w.nodes[1].renewShared(t.Context(), s, host)
	if err != nil {
		t.Fatal(err)
	}
	close(stuck)
	cookie, next, err := slow.Wait(t.Context())
	if err != nil || cookie.Value != won.token || next.TokenID != won.session.TokenID {
		t.Errorf("the slow one has its own token, %v", err)
	}
	var l lease
	if _, err := w.nodes[0].readCell(t.Context(), cellKey(labelRenewal, s.ID, s.Audience), &l); err != nil || l.Fence != 2 || l.Token != won.token {
		t.Errorf("%v, fence %d", err, l.Fence)
	}
}

// An answer waits for its cookie for a second; the renewal goes on and a later
// answer brings it.
func TestRenewalOutlivesItsAnswer(t *testing.T) {
	release := make(chan struct{})
	m, c := manager(t, func(c *Config) {
		c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) {
			<-release
			return Verdict{Grant: s.Grant}, nil
		}
	})
	s, cookies, err := signIn(t, m, Admission{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	wantFound(t, m, lines(cookies))
	pass(m, c, 4*time.Minute)
	r := m.StartRenewal(s, lines(cookies), host)
	if r2 := m.StartRenewal(s, lines(cookies), host); r2 != r {
		t.Error("two renewals under way")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if cookie, _, err := r.Wait(ctx); cookie != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if cookie, _, err := r.Wait(t.Context()); cookie != nil || !errors.Is(err, errSlow) {
		t.Errorf("%v", err)
	}
	close(release)
	<-r.done
	cookie, _, err := renew(m, s, lines(cookies), host)
	if err != nil || cookie == nil || cookie.Value != r.renewal.token {
		t.Errorf("%v", err)
	}
	eventually(t, "nothing is under way", func() bool {
		m.flights.mu.Lock()
		defer m.flights.mu.Unlock()
		return len(m.flights.under) == 0
	})
	if cookie, next, err := (*Renewal)(nil).Wait(t.Context()); cookie != nil || next != nil || err != nil {
		t.Error("nil is none")
	}
	m.Close()
	if r := m.fly(s, host); r != nil {
		t.Error("a renewal after Close")
	}
}

// A lease that somebody planted makes nobody a session: its token is verified.
func TestPlantedLease(t *testing.T) {
	m, c := manager(t)
	mallory, _, err := m.Issue(t.Context(), Grant{Source: "hospital", Subject: "mallory"}, host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	s, cookies := issue(t, m)
	_, others := issue(t, m)
	pass(m, c, 2*time.Minute)
	stolen, err := m.next(mallory, mallory.Grant, host)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := m.next(s, s.Grant, "app.example:9999")
	if err != nil {
		t.Fatal(err)
	}
	key := cellKey(labelRenewal, s.ID, s.Audience)
	for name, l := range map[string]lease{
		"another person's token": {Fence: 1, Token: stolen.token},
		"another browser's":      {Fence: 1, Token: others[0].Value},
		"the old one":            {Fence: 1, Token: cookies[0].Value},
		"another port's":         {Fence: 1, Token: elsewhere.token},
		"no token":               {Fence: 1, Token: "x.y.z"},
		"held for ever":          {Fence: 1, Holder: "x", Until: 1 << 60},
	} {
		if err := m.store.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if _, err := m.writeCell(t.Context(), key, nil, l, c.now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		n, err := m.renewShared(t.Context(), s, host)
		if err != nil || n.session.ID != s.ID || n.session.context != s.context || n.token == l.Token {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A revoked session is not renewed by a token that lies there.
	good, err := m.renewShared(t.Context(), s, host)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := m.renewShared(t.Context(), s, host); n != nil || !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	wantNone(t, m, line(good.token, cookies[1].Value))
}

// What cannot be put into the record is handed to nobody: other nodes would cut
// connections of somebody who is there.
func TestRenewalNeedsTheRecord(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	s, cookies := issue(t, m)
	wantFound(t, m, lines(cookies))
	w.pass(2 * time.Minute)
	w.proxies[0].hook(func(_ context.Context, op, key string) error {
		if op == "swap" && strings.HasPrefix(key, labelRecord) {
			return store.ErrInvalid
		}
		return nil
	})
	if cookie, _, err := renew(m, s, lines(cookies), host); cookie != nil || err == nil {
		t.Errorf("%v", err)
	}
}
