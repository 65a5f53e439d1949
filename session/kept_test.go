package session

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// wantErased expects that the store holds nothing any more of what was kept.
func wantErased(t *testing.T, m *Manager, sid string) {
	t.Helper()
	if _, err := m.store.Get(t.Context(), keptKey(sid)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was kept is still there: %v", err)
	}
	if got, err := m.Kept(t.Context(), sid); got != nil || err != nil {
		t.Errorf("kept: %d bytes, %v", len(got), err)
	}
}

func wantKept(t *testing.T, m *Manager, sid, want string) {
	t.Helper()
	if got, err := m.Kept(t.Context(), sid); err != nil || string(got) != want {
		t.Errorf("kept: %q, %v; want %q", got, err, want)
	}
}

// keeping signs in with something kept.
func keeping(t testing.TB, m *Manager, a Admission, change ...func(*Grant)) (*Session, []*http.Cookie) {
	t.Helper()
	g := grant()
	for _, f := range change {
		f(&g)
	}
	s, cookies, err := m.Issue(context.Background(), g, host, a)
	if err != nil {
		t.Fatal(err)
	}
	return s, cookies
}

// What a source keeps is bounded, is one sign-on's, and is read on every node.
func TestKept(t *testing.T) {
	w := newShared(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	most := bytes.Repeat([]byte{0xff}, maxKeep)
	s, _ := keeping(t, a, Admission{Keep: most})
	other, _ := keeping(t, b, Admission{Keep: []byte("another's")})
	none, _ := issue(t, b)
	for _, m := range w.nodes {
		wantKept(t, m, s.ID, string(most))
		wantKept(t, m, other.ID, "another's")
		wantKept(t, m, none.ID, "")
		wantKept(t, m, newID(), "")
		wantKept(t, m, "", "")
	}
	if _, err := a.store.Get(t.Context(), keptKey(none.ID)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a cell for nothing: %v", err)
	}
	if _, _, err := signIn(t, a, Admission{Keep: append(most, 0)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if infos, err := a.AllSessions(t.Context()); err != nil || len(infos) != 3 {
		t.Errorf("%d sign-ons, %v", len(infos), err)
	}
	// Moved to another sign-on's key it does not open.
	sealed, err := w.store.Get(t.Context(), keptKey(other.ID))
	if err != nil || w.store.Put(t.Context(), keptKey(s.ID), sealed, w.clock.now().Add(time.Hour)) != nil {
		t.Fatal(err)
	}
	if got, err := a.Kept(t.Context(), s.ID); got != nil || err == nil {
		t.Errorf("somebody else's: %q", got)
	}
	w.proxies[0].dead.Store(true)
	if got, err := a.Kept(t.Context(), other.ID); got != nil || err == nil {
		t.Errorf("%q, %v", got, err)
	}
}

// What is kept is in the store sealed, and nowhere else: not with the browser, not in
// what applications get, not in a log.
func TestKeptIsSecret(t *testing.T) {
	const secret = "refresh-token-0123456789"
	var mu sync.Mutex
	var logged bytes.Buffer
	w := newShared(t, 1, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&lockedWriter{&mu, &logged}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Refresh = func(_ context.Context, s *Session, k Kept) (Verdict, error) {
			if strings.HasPrefix(string(k.Bytes), secret) {
				return Verdict{Grant: s.Grant, Keep: append(k.Bytes, "+"...)}, errors.New("down")
			}
			return Verdict{}, nil
		}
	})
	m := w.nodes[0]
	s, cookies := keeping(t, m, Admission{Verify: true, Keep: []byte(secret)})
	w.pass(4 * time.Minute)
	cookie, next, err := renew(m, s, lines(cookies), host)
	if err != nil {
		t.Fatal(err)
	}
	assertion := assertFor(t, m, next, "app")
	items, err := w.store.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if strings.Contains(item.Key+string(item.Value), secret) {
			t.Errorf("in the open under %s", item.Key)
		}
	}
	if err := m.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for name, text := range map[string]string{"cookie": cookie.Value + cookies[0].Value + cookies[1].Value, "assertion": assertion, "log": logged.String()} {
		for _, part := range append(strings.Split(text, "."), text) {
			if raw, _ := decodeLoosely(part); strings.Contains(part, secret) || strings.Contains(string(raw), secret) {
				t.Errorf("in the %s", name)
			}
		}
	}
}

// Row 58: whatever ends a sign-on, what was kept for its source is gone with it, and
// nobody asks the source again.
func TestRow58KeptIsErased(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *Manager, s *Session) error{
		"sign-out": func(t *testing.T, m *Manager, s *Session) error { return m.Revoke(t.Context(), s.ID) },
		"account": func(t *testing.T, m *Manager, s *Session) error {
			_, err := m.RevokeUser(t.Context(), User{Source: "hospital", Subject: s.Subject})
			return err
		},
		"username": func(t *testing.T, m *Manager, s *Session) error {
			_, err := m.RevokeUser(t.Context(), User{Username: "DANA"})
			return err
		},
		"provider's session": func(t *testing.T, m *Manager, s *Session) error {
			return m.RevokeProviderSession(t.Context(), "hospital", "op", "")
		},
		"provider's session and subject": func(t *testing.T, m *Manager, s *Session) error {
			return m.RevokeProviderSession(t.Context(), "hospital", "op", s.Subject)
		},
		"limit": func(t *testing.T, m *Manager, s *Session) error {
			_, _, err := signIn(t, m, Admission{Move: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			w := newShared(t, 2, limited(1, Move), func(c *Config) {
				c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) {
					asked++
					return Verdict{Grant: s.Grant}, nil
				}
			})
			a, b := w.nodes[0], w.nodes[1]
			bystander, _ := keeping(t, a, Admission{Verify: true, Keep: []byte("other")}, func(g *Grant) { g.Subject, g.Username, g.ProviderSession = "2", "doe", "op2" })
			s, cookies := keeping(t, a, Admission{Verify: true, Keep: []byte("secret")}, func(g *Grant) { g.ProviderSession = "op" })
			wantFound(t, b, lines(cookies))
			w.pass(4 * time.Minute)
			if err := end(t, b, s); err != nil {
				t.Fatal(err)
			}
			wantErased(t, b, s.ID)
			w.follow()
			for _, m := range w.nodes {
				wantErased(t, m, s.ID)
				wantKept(t, m, bystander.ID, "other")
				wantNone(t, m, lines(cookies))
				if cookie, _, err := renew(m, s, lines(cookies), host); cookie != nil || err == nil {
					t.Errorf("renewed: %v", err)
				}
			}
			if asked != 0 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

// What the store does not delete at once nobody gets, and it is deleted as soon as it can be.
func TestRow58ErasedLater(t *testing.T) {
	for name, end := range map[string]func(m *Manager, s *Session) error{
		"sign-out": func(m *Manager, s *Session) error { return m.Revoke(t.Context(), s.ID) },
		"provider's session": func(m *Manager, s *Session) error {
			return m.RevokeProviderSession(t.Context(), "hospital", "op", s.Subject)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newShared(t, 2)
			m := w.nodes[0]
			s, _ := keeping(t, m, Admission{Keep: []byte("secret")}, func(g *Grant) { g.ProviderSession = "op" })
			w.proxies[0].hook(func(_ context.Context, op, _ string) error {
				if op == "delete" {
					return store.ErrUnavailable
				}
				return nil
			})
			if err := end(m, s); err != nil {
				t.Fatal(err)
			}
			w.follow()
			for _, m := range w.nodes {
				wantKept(t, m, s.ID, "")
			}
			w.proxies[0].hook(nil)
			m.follow()
			eventually(t, "the erasure", func() bool {
				_, err := w.store.Get(t.Context(), keptKey(s.ID))
				return errors.Is(err, store.ErrNotFound)
			})
		})
	}
}

// What is kept is there for as long as the sign-on is in use, on whatever site, and is
// gone with its idle end.
func TestKeptLivesWithTheSignOn(t *testing.T) {
	for name, verify := range map[string]bool{"kept only": false, "verified": true} {
		t.Run(name, func(t *testing.T) {
			m, c := manager(t, func(c *Config) {
				c.Refresh = func(_ context.Context, s *Session, _ Kept) (Verdict, error) { return Verdict{Grant: s.Grant}, nil }
			})
			s, cookies := keeping(t, m, Admission{Verify: verify, Keep: []byte("secret")})
			now := lines(cookies)
			for range 30 { // 14 minutes of 15 between two requests, and a short one
				for _, gap := range []time.Duration{11 * time.Minute, 2 * time.Minute} {
					pass(m, c, gap)
					found := wantFound(t, m, now)
					cookie, _, err := renew(m, found, now, host)
					if err != nil || cookie == nil {
						t.Fatal(err)
					}
					now = line(cookie.Value, cookies[1].Value)
				}
				wantKept(t, m, s.ID, "secret")
			}
			pass(m, c, 15*time.Minute)
			wantNone(t, m, now)
			wantKept(t, m, s.ID, "") // the record has ended
			pass(m, c, 4*time.Minute)
			wantErased(t, m, s.ID)
		})
	}
}

// A sign-in that is refused leaves nothing kept.
func TestKeptOfARefusedSignIn(t *testing.T) {
	m, _ := manager(t, limited(1, Refuse))
	keeping(t, m, Admission{Keep: []byte("first")})
	if _, _, err := signIn(t, m, Admission{Keep: []byte("second")}); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
	items, err := m.store.List(t.Context(), labelKept+"/")
	if err != nil || len(items) != 1 {
		t.Errorf("%d cells, %v", len(items), err)
	}
}
