package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

func ofProvider(subject, sid string) func(*Grant) {
	return func(g *Grant) { g.Subject, g.Username, g.ProviderSession = subject, "user-"+subject, sid }
}

// B1, row 49, row 59: what a provider ended is over on all nodes and sites, with its
// streams, and says so.
func TestB1ProviderEndsASession(t *testing.T) {
	w := newShared(t, 3)
	a := w.nodes[0]
	s, cookies := keeping(t, a, Admission{Keep: []byte("secret")}, ofProvider("1", "op"))
	_, site, err := w.nodes[1].Join(t.Context(), s, "lab.example")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 3)
	for _, m := range w.nodes {
		wantFound(t, m, lines(cookies))
		m.Watch(s.ID, 0, func(err error) { told <- err })
	}
	if err := a.RevokeProviderSession(t.Context(), "hospital", "op", "1"); err != nil {
		t.Fatal(err)
	}
	w.follow()
	for _, m := range w.nodes {
		if err := <-told; !errors.Is(err, ErrNone) || Reason(err) != "provider" {
			t.Errorf("%v", err)
		}
		wantNone(t, m, lines(cookies))
		wantError(t, m, lines(site), "lab.example", ErrNone)
		wantErased(t, m, s.ID)
		if m.Ended(lines(cookies), host) != "provider" {
			t.Error("no reason")
		}
	}
}

// B16: a session that nobody knows, and one that is over already, is no error. Row 57: of
// two sessions of a person the one that was named ends.
func TestB16UnknownAndRow57OneOfTwo(t *testing.T) {
	m, _ := manager(t)
	_, first := keeping(t, m, Admission{}, ofProvider("1", "op1"))
	_, second := keeping(t, m, Admission{}, ofProvider("1", "op2"))
	for _, c := range [][2]string{{"nobody's", ""}, {"nobody's", "1"}, {"op1", "1"}, {"op1", "1"}, {"op1", ""}} {
		if err := m.RevokeProviderSession(t.Context(), "hospital", c[0], c[1]); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
	wantNone(t, m, lines(first))
	wantFound(t, m, lines(second))
}

// B17: only sub: all sessions of that subject at that source, and not those of an equal
// subject at another.
func TestB17SubjectOnly(t *testing.T) {
	w := newShared(t, 2)
	var own [][]*http.Cookie
	for i := range 2 {
		_, cookies := keeping(t, w.nodes[i], Admission{}, ofProvider("1", fmt.Sprint("op", i)))
		own = append(own, cookies)
	}
	_, other := keeping(t, w.nodes[0], Admission{}, ofProvider("1", "op0"), func(g *Grant) { g.Source = "clinic" })
	if n, err := w.nodes[1].RevokeUser(t.Context(), User{Source: "hospital", Subject: "1"}); err != nil || n != 2 {
		t.Errorf("%d, %v", n, err)
	}
	w.follow()
	for _, m := range w.nodes {
		wantNone(t, m, lines(own[0]))
		wantNone(t, m, lines(own[1]))
		wantFound(t, m, lines(other))
	}
}

// B18: the sid of one with the sub of another ends nobody's session, whichever node
// hears it, whether the store answers or not; nor does it wait in a journal.
func TestB18SubjectOfAnother(t *testing.T) {
	j := &memory{}
	w := newShared(t, 2, func(c *Config) { c.Journal = j })
	a, b := w.nodes[0], w.nodes[1]
	s, cookies := keeping(t, a, Admission{Keep: []byte("secret")}, ofProvider("1", "op"))
	_, mallory := keeping(t, a, Admission{}, ofProvider("2", "op2"))
	wantFound(t, b, lines(cookies))
	try := func(m *Manager, what string) {
		t.Helper()
		if err := m.RevokeProviderSession(t.Context(), "hospital", "op", "2"); !errors.Is(err, ErrGrant) {
			t.Errorf("%s: %v", what, err)
		}
		for _, m := range w.nodes {
			wantFound(t, m, lines(cookies))
			wantFound(t, m, lines(mallory))
		}
	}
	try(a, "where it began")
	try(b, "elsewhere")
	wantKept(t, a, s.ID, "secret")
	w.proxies[1].dead.Store(true)
	try(b, "without the store")
	if j.text != nil {
		t.Errorf("%s", j.text)
	}
	w.proxies[1].dead.Store(false)
	w.follow()
	if err := b.RevokeProviderSession(t.Context(), "hospital", "op", "1"); err != nil {
		t.Error(err)
	}
	a.follow()
	wantNone(t, a, lines(cookies))
}

// A sign-in that is under way when the provider ends its session: whoever comes first,
// no session comes of it and nothing is kept.
func TestProviderEndsASignInUnderWay(t *testing.T) {
	for _, at := range []string{labelOpened, labelRecord, labelKept, labelList} {
		for _, other := range []bool{false, true} {
			w := newShared(t, 2)
			a, ends := w.nodes[0], w.nodes[0]
			if other {
				ends = w.nodes[1]
			}
			once := false
			w.proxies[0].hook(func(_ context.Context, op, key string) error {
				if op == "swap" && strings.HasPrefix(key, at) && !once {
					once = true
					if err := ends.RevokeProviderSession(t.Context(), "hospital", "op", "1"); err != nil {
						t.Error(err)
					}
				}
				return nil
			})
			g := grant()
			ofProvider("1", "op")(&g)
			s, cookies, err := a.Issue(t.Context(), g, host, Admission{Keep: []byte("secret")})
			if !once {
				t.Fatalf("%s is not written", at)
			}
			if !other && !errors.Is(err, ErrNone) {
				t.Errorf("%s: %v", at, err)
			}
			w.follow()
			if err == nil { // the other node's word was still on its way
				for _, m := range w.nodes {
					wantNone(t, m, lines(cookies))
					wantKept(t, m, s.ID, "")
				}
				continue
			}
			if items, err := w.store.List(t.Context(), labelKept+"/"); err != nil || len(items) != 0 {
				t.Errorf("%s: %d cells are left, %v", at, len(items), err)
			}
		}
	}
}

// A provider that names many people's sessions alike is no reason not to let them in,
// and no more is told apart then.
func TestProviderNamesBadly(t *testing.T) {
	m, c := manager(t)
	var all [][]*http.Cookie
	for i := range maxOpened + 3 {
		if i == maxOpened {
			if err := m.RevokeProviderSession(t.Context(), "hospital", "1", "nobody"); !errors.Is(err, ErrGrant) {
				t.Errorf("%v", err)
			}
		}
		_, cookies := keeping(t, m, Admission{}, ofProvider(fmt.Sprint(i), "1"))
		all = append(all, cookies)
	}
	if err := m.RevokeProviderSession(t.Context(), "hospital", "1", fmt.Sprint(maxOpened+1)); err != nil {
		t.Error(err)
	}
	for _, cookies := range all {
		wantNone(t, m, lines(cookies))
	}
	// What was noted is gone with what it was noted for.
	pass(m, c, 13*time.Hour)
	if _, err := m.store.Get(t.Context(), openedKey(providerSession("hospital", "1"))); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// A note that cannot be read keeps nobody from signing in, nor from being signed out.
func TestProviderNoteIsDamaged(t *testing.T) {
	m, c := manager(t)
	key := openedKey(providerSession("hospital", "op"))
	damage := func() {
		if err := m.store.Put(t.Context(), key, []byte("x"), c.now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	damage()
	_, cookies := keeping(t, m, Admission{}, ofProvider("1", "op"))
	if err := m.RevokeProviderSession(t.Context(), "hospital", "op", "2"); !errors.Is(err, ErrGrant) {
		t.Errorf("not written anew: %v", err)
	}
	damage()
	if err := m.RevokeProviderSession(t.Context(), "hospital", "op", "1"); err != nil {
		t.Error(err)
	}
	wantNone(t, m, lines(cookies))
}
