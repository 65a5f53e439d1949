package session

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func signIn(t testing.TB, m *Manager, a Admission) (*Session, []*http.Cookie, error) {
	t.Helper()
	return m.Issue(context.Background(), grant(), host, a)
}

func idsOf(infos []Info) (ids []string) {
	for _, i := range infos {
		ids = append(ids, i.ID)
	}
	slices.Sort(ids)
	return ids
}

func wantListed(t *testing.T, m *Manager, want ...*Session) {
	t.Helper()
	infos, err := m.Sessions(t.Context(), grant().Source, grant().Subject)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, s := range want {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	if !slices.Equal(idsOf(infos), ids) {
		t.Errorf("listed %v, want %v", idsOf(infos), ids)
	}
}

func TestLimitRefuse(t *testing.T) {
	w := newShared(t, 2, limited(2, Refuse))
	a, b := w.nodes[0], w.nodes[1]
	first, firstCookies, err := signIn(t, a, Admission{Device: Device{"Firefox", "Linux"}})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Second)
	second, _, err := signIn(t, b, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	for _, move := range []bool{false, true} {
		_, cookies, err := signIn(t, a, Admission{Move: move})
		var limit *LimitError
		if !errors.Is(err, ErrLimit) || !errors.As(err, &limit) || cookies != nil {
			t.Fatalf("%v", err)
		}
		if limit.Limit != 2 || limit.OnLimit != Refuse || len(limit.Sessions) != 2 || limit.Sessions[0].ID != first.ID || limit.Sessions[0].Device.Browser != "Firefox" {
			t.Errorf("%+v", limit)
		}
		if strings.Contains(err.Error(), first.ID) {
			t.Error("the error shows a session id")
		}
	}
	wantListed(t, a, first, second)
	wantFound(t, b, lines(firstCookies))
	// Somebody else has a count of their own, and so has the same subject of
	// another source.
	for _, g := range []Grant{{Source: "hospital", Subject: "other"}, {Source: "clinic", Subject: grant().Subject}} {
		if _, _, err := a.Issue(t.Context(), g, host, Admission{}); err != nil {
			t.Errorf("%v", err)
		}
	}
	// The session that this browser has does not count: it is replaced.
	if _, _, err := signIn(t, b, Admission{Replaces: first.ID}); err != nil {
		t.Errorf("%v", err)
	}
	// What was signed out does not count, on the other node at once.
	if err := a.Revoke(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := signIn(t, b, Admission{}); err != nil {
		t.Errorf("%v", err)
	}
	// Nor does what has reached its idle end, without anybody telling.
	w.pass(15 * time.Minute)
	for range 2 {
		if _, _, err := signIn(t, b, Admission{}); err != nil {
			t.Errorf("%v", err)
		}
	}
	if _, _, err := signIn(t, a, Admission{}); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
}

// Moving ends the sign-in that was seen longest ago, with a reason that its browser
// can be told, durably, before the new one is in the list.
func TestLimitMove(t *testing.T) {
	w := newShared(t, 2, limited(2, Move))
	a, b := w.nodes[0], w.nodes[1]
	first, firstCookies, err1 := signIn(t, a, Admission{})
	w.pass(10 * time.Second)
	second, secondCookies, err2 := signIn(t, b, Admission{})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	w.pass(2 * time.Minute)
	if _, _, err := renew(a, first, lines(firstCookies), host); err != nil { // seen last
		t.Fatal(err)
	}
	var limit *LimitError
	if _, _, err := signIn(t, b, Admission{}); !errors.As(err, &limit) || limit.OnLimit != Move || limit.Sessions[0].ID != second.ID {
		t.Fatalf("%v", err)
	}
	told := make(chan error, 1)
	wantFound(t, a, lines(secondCookies))
	defer a.Watch(second.ID, 0, func(err error) { told <- err })()
	var order []string
	w.proxies[0].hook(func(_ context.Context, op, key string) error {
		if op == "append" || op == "swap" && strings.HasPrefix(key, labelList) {
			order = append(order, op)
		}
		return nil
	})
	third, thirdCookies, err := signIn(t, a, Admission{Move: true})
	w.proxies[0].hook(nil)
	if err != nil || !slices.Equal(order, []string{"append", "swap"}) {
		t.Fatalf("%v, %v", err, order)
	}
	if err := <-told; Reason(err) != "moved" || !errors.Is(err, ErrNone) {
		t.Errorf("watcher: %v", err)
	}
	w.follow()
	for _, m := range w.nodes {
		wantNone(t, m, lines(secondCookies))
		if _, err := m.Find(lines(secondCookies), host); Reason(err) != "moved" || m.Ended(lines(secondCookies), host) != "moved" {
			t.Errorf("%v", err)
		}
		wantFound(t, m, lines(firstCookies))
		wantFound(t, m, lines(thirdCookies))
		wantListed(t, m, first, third)
	}
	// Over a restart as well.
	again := start(t, w.store, w.sealer, w.clock.now)
	if again.Ended(lines(secondCookies), host) != "moved" {
		t.Error("the reason is forgotten")
	}
	// When the end of the old one cannot be written, there is no new one.
	w.proxies[0].hook(func(_ context.Context, op, _ string) error {
		if op == "append" {
			return context.DeadlineExceeded
		}
		return nil
	})
	if _, _, err := signIn(t, a, Admission{Move: true}); err == nil || errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
	wantListed(t, b, first, third)
}

// A role's limit holds for who has the role.
func TestLimitOfRoles(t *testing.T) {
	m, _ := manager(t, func(c *Config) {
		c.Lifetimes.Roles = map[string]Lifetime{"doctor": {Sessions: 1, OnLimit: Refuse}}
	})
	if _, _, err := signIn(t, m, Admission{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := signIn(t, m, Admission{}); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
	for range 10 { // patients have none
		if _, _, err := m.Issue(t.Context(), Grant{Source: "hospital", Subject: "p", Roles: []string{"patient"}}, host, Admission{}); err != nil {
			t.Fatal(err)
		}
	}
}

// Sign-ins at the same moment on several nodes: never more than the limit in the
// list at any moment, and never more that live.
func TestLimitRaces(t *testing.T) {
	for _, on := range []OnLimit{Refuse, Move} {
		t.Run(string(on), func(t *testing.T) {
			w := newShared(t, 3, limited(2, on))
			var pairs sync.Map
			var made, refused atomic.Int32
			var all sync.WaitGroup
			for i := range 12 {
				all.Go(func() {
					s, cookies, err := signIn(t, w.nodes[i%3], Admission{Move: on == Move})
					switch {
					case errors.Is(err, ErrLimit):
						refused.Add(1)
					case on == Move && errors.Is(err, errMoved): // another sign-in moved it before it was whole
					case err != nil:
						t.Error(err)
					default:
						made.Add(1)
						pairs.Store(s.ID, cookies)
					}
				})
			}
			stop := make(chan struct{})
			watched := make(chan int)
			go func() {
				most := 0
				for {
					select {
					case <-stop:
						watched <- most
						return
					default:
					}
					var list account
					if _, err := w.nodes[0].readCell(context.Background(), accountKey(grant().Source, grant().Subject), &list); err == nil {
						most = max(most, len(list.Sessions))
					}
				}
			}()
			all.Wait()
			close(stop)
			if most := <-watched; most > 2 {
				t.Errorf("%d at once in the list", most)
			}
			w.follow()
			alive := 0
			pairs.Range(func(_, cookies any) bool {
				if _, err := w.nodes[2].Find(lines(cookies.([]*http.Cookie)), host); err == nil {
					alive++
				}
				return true
			})
			if alive != 2 || on == Refuse && made.Load() != 2 || on == Move && refused.Load() != 0 {
				t.Errorf("%d alive, %d made, %d refused", alive, made.Load(), refused.Load())
			}
		})
	}
}
