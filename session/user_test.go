package session

import (
	"net/http"
	"testing"
	"time"

	"errors"
)

type browser struct {
	name    string
	session *Session
	cookies []*http.Cookie
}

func (b *browser) lines() []string { return lines(b.cookies) }

// Row 83: everything of a user that began until now is over on all nodes at once,
// of nobody else, and what begins afterwards is not.
func TestRow83RevokeUser(t *testing.T) {
	for name, c := range map[string]struct {
		user User
		n    int
		over string
	}{
		"by account":              {User{Source: "hospital", Subject: "1"}, 2, "ward lab "},
		"by username":             {User{Username: "dana"}, 3, "ward lab clinic "},
		"by username, other case": {User{Username: "DANA"}, 3, "ward lab clinic "},
		"by both":                 {User{Source: "hospital", Subject: "2", Username: "dana"}, 4, "ward lab clinic other "},
		"nobody":                  {User{Source: "hospital", Subject: "dana"}, 0, ""},
		"joined otherwise":        {User{Source: "hospita", Subject: "l1"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newShared(t, 2)
			a, b := w.nodes[0], w.nodes[1]
			var all []*browser
			for i, g := range []Grant{
				{Source: "hospital", Subject: "1", Username: "dana"}, {Source: "hospital", Subject: "1", Username: "dana"},
				{Source: "clinic", Subject: "1", Username: "Dana"}, {Source: "hospital", Subject: "2", Username: "doe"},
			} {
				s, cookies, err := w.nodes[i%2].Issue(t.Context(), g, host, Admission{})
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, &browser{[]string{"ward", "lab", "clinic", "other"}[i], s, cookies})
				wantFound(t, a, lines(cookies)) // cached on both
				wantFound(t, b, lines(cookies))
			}
			told := make(chan error, 10)
			for _, s := range all {
				defer b.Watch(s.session.ID, 0, func(err error) { told <- err })()
			}
			w.pass(time.Second)
			n, err := a.RevokeUser(t.Context(), c.user)
			if err != nil || n != c.n {
				t.Errorf("%d, %v", n, err)
			}
			b.follow()
			for _, m := range w.nodes {
				over := ""
				for _, s := range all {
					if _, err := m.Find(s.lines(), host); errors.Is(err, ErrNone) {
						over += s.name + " "
					} else if err != nil {
						t.Error(err)
					}
				}
				if over != c.over {
					t.Errorf("over: %s, want %s", over, c.over)
				}
				infos, err := m.AllSessions(t.Context())
				if err != nil || len(infos) != len(all)-c.n {
					t.Errorf("%v, %d listed", err, len(infos))
				}
			}
			for range c.n {
				if err := <-told; !errors.Is(err, ErrNone) || Reason(err) != "revoked" {
					t.Errorf("%v", err)
				}
			}
			if len(told) != 0 {
				t.Errorf("also cut: %v", <-told)
			}
			// A new sign-in is a new session, also in the same second.
			for _, m := range w.nodes {
				_, cookies, err := m.Issue(t.Context(), Grant{Source: "hospital", Subject: "1", Username: "dana"}, host, Admission{})
				if err != nil {
					t.Fatal(err)
				}
				wantFound(t, a, lines(cookies))
				wantFound(t, b, lines(cookies))
			}
			if n, err := a.RevokeUser(t.Context(), c.user); err != nil || c.n > 0 && name != "nobody" && n == 0 {
				t.Errorf("again: %d, %v", n, err)
			}
			again := start(t, w.store, w.sealer, w.clock.now)
			for _, s := range all {
				_, err1 := a.Find(s.lines(), host)
				_, err2 := again.Find(s.lines(), host)
				if (err1 == nil) != (err2 == nil) {
					t.Errorf("%s differs after a restart: %v, %v", s.name, err1, err2)
				}
			}
		})
	}
}

// A session that a node with a clock that is ahead has begun is over as well; and
// one that begins after a revocation by a clock that is ahead is not.
func TestRevokeUserWithOtherClocks(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s, sealer := openStore(t, dir, c.now), openSealer(t, dir)
	ahead := func() time.Time { return c.now().Add(25 * time.Second) }
	a, b := start(t, s, sealer, c.now), start(t, s, sealer, ahead)
	_, cookies := issue(t, b)
	wantFound(t, a, lines(cookies))
	if n, err := a.RevokeUser(t.Context(), User{Source: "hospital", Subject: grant().Subject}); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	b.follow()
	for _, m := range []*Manager{a, b} {
		wantNone(t, m, lines(cookies))
	}
	if _, err := b.RevokeUser(t.Context(), User{Source: "hospital", Subject: grant().Subject}); err != nil {
		t.Error(err)
	}
	a.follow()
	session, cookies := issue(t, a)
	for _, m := range []*Manager{a, b} {
		wantFound(t, m, lines(cookies))
	}
	if !session.Started.Equal(c.now().Add(26*time.Second)) || session.Expires.After(c.now().Add(15*time.Minute)) {
		t.Errorf("%+v", session)
	}
	// Further ahead than any clock may be: nobody is let in by guessing.
	a.take(revocation{Kind: labelRevokedAll, Before: c.now().Unix() + 61, Until: a.untilOf(c.now().Unix())})
	if _, _, err := signIn(t, a, Admission{}); !errors.Is(err, ErrStale) {
		t.Errorf("%v", err)
	}
}

func TestRevokeUserErrors(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	_, cookies := issue(t, m)
	for _, u := range []User{{}, {Source: "hospital"}, {Subject: "1"}} {
		if _, err := m.RevokeUser(t.Context(), u); err == nil {
			t.Errorf("%+v revoked", u)
		}
	}
	for _, p := range [][2]string{{"", "x"}, {"hospital", ""}} {
		if err := m.RevokeProviderSession(t.Context(), p[0], p[1], ""); err == nil {
			t.Errorf("%v revoked", p)
		}
	}
	w.proxies[0].dead.Store(true)
	if n, err := m.RevokeUser(t.Context(), User{Username: "dana"}); err == nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if err := m.RevokeProviderSession(t.Context(), "hospital", "x", ""); err == nil {
		t.Error("revoked")
	}
	wantFound(t, m, lines(cookies)) // not durable: not done
	m.Close()
	if _, err := m.RevokeUser(t.Context(), User{Username: "dana"}); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := m.RevokeProviderSession(t.Context(), "hospital", "x", ""); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

// What a provider's session began is over with it, on all sites and nodes, and so
// is a sign-in that was under way when the provider said so. The token does not
// show the provider's id.
func TestRevokeProviderSession(t *testing.T) {
	w := newShared(t, 2)
	a, b := w.nodes[0], w.nodes[1]
	sign := func(source, sid string) (*Session, []*http.Cookie, error) {
		g := grant()
		g.Source, g.ProviderSession = source, sid
		return a.Issue(t.Context(), g, host, Admission{})
	}
	s, cookies, err := sign("hospital", "op:1")
	if err != nil || len(s.ProviderSession) != 22 {
		t.Fatal(err, s.ProviderSession)
	}
	joined, siteCookies, err := b.Join(t.Context(), s, "lab.example")
	if err != nil || joined.ProviderSession != s.ProviderSession {
		t.Fatal(err)
	}
	_, other, err := sign("hospital:op", "1")
	if err != nil {
		t.Fatal(err)
	}
	_, none, err := sign("hospital", "")
	if err != nil {
		t.Fatal(err)
	}
	if found := wantFound(t, b, lines(cookies)); found.ProviderSession != s.ProviderSession {
		t.Errorf("%q", found.ProviderSession)
	}
	if err := a.RevokeProviderSession(t.Context(), "hospital", "op:1", ""); err != nil {
		t.Fatal(err)
	}
	b.follow()
	for _, m := range w.nodes {
		wantNone(t, m, lines(cookies))
		wantError(t, m, lines(siteCookies), "lab.example", ErrNone)
		wantFound(t, m, lines(other))
		wantFound(t, m, lines(none))
		if m.Ended(lines(cookies), host) != "provider" {
			t.Error("no reason")
		}
	}
	w.pass(time.Minute)
	if s, _, err := sign("hospital", "op:1"); !errors.Is(err, ErrNone) || s != nil {
		t.Errorf("a sign-in that was under way: %v", err)
	}
	if _, _, err := b.Join(t.Context(), s, "x.example"); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	w.pass(a.longest + longestIdle + time.Hour)
	for i := range revokedShards {
		a.live.over.sweep(i, w.clock.now())
	}
	if n := a.live.over.size(); n != 0 {
		t.Errorf("%d revocations are kept for nothing", n)
	}
}
