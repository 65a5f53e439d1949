package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
)

const million = 1_000_000

// revokeMany fills the memory as the feed would.
func revokeMany(m *Manager, n int, until int64) {
	for range n {
		var id shortID
		rand.Read(id[:])
		m.live.over.end(bySession, id, until, causeSignedOut)
	}
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// A million live revocations cost at most 100 MiB, and nothing once they are over.
func TestMillionRevocations(t *testing.T) {
	m, c := manager(t)
	s, cookies := issue(t, m)
	wantFound(t, m, lines(cookies))
	before := heap()
	revokeMany(m, million, c.now().Add(time.Hour).Unix())
	used := (heap() - before) >> 20
	t.Logf("%d MiB", used)
	if used > 100 || m.Health().Revocations != million {
		t.Errorf("%d MiB for %d revocations", used, m.Health().Revocations)
	}
	wantFound(t, m, lines(cookies))
	if err := m.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	wantNone(t, m, lines(cookies))
	c.add(m.longest + longestIdle + time.Hour)
	for i := range revokedShards {
		m.live.over.sweep(i, c.now())
	}
	if left := heap(); m.Health().Revocations != 0 || left > before+(20<<20) {
		t.Errorf("%d revocations and %d MiB are left", m.Health().Revocations, (left-before)>>20)
	}
}

// A request looks at the revocations only when there is a new one: it does not wait
// for, and does not pay for, what is in them.
func TestFindReadsRevocationsOnce(t *testing.T) {
	m, c := manager(t)
	_, cookies := issue(t, m)
	wantFound(t, m, lines(cookies))
	wantFound(t, m, lines(cookies)) // remembers in which generation it looked
	for i := range m.live.over.shards {
		m.live.over.shards[i].mu.Lock()
	}
	found := make(chan error, 1)
	go func() { _, err := m.Find(lines(cookies), host); found <- err }()
	select {
	case err := <-found:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a request reads the revocations")
	}
	for i := range m.live.over.shards {
		m.live.over.shards[i].mu.Unlock()
	}
	// A new one is seen by the next request, whatever its kind.
	now := c.now().Unix()
	for name, r := range map[string]revocation{
		"session":  {Kind: labelRevoked},
		"account":  {Kind: labelRevokedAccount, Key: accountID("hospital", grant().Subject).String(), Before: now},
		"username": {Kind: labelRevokedUsername, Key: usernameID("dana").String(), Before: now},
		"provider": {Kind: labelRevokedProvider, Key: providerSession("hospital", "op")},
		"all":      {Kind: labelRevokedAll, Before: now},
	} {
		m, c := manager(t)
		g := grant()
		g.ProviderSession = "op"
		s, cookies, err := m.Issue(t.Context(), g, host, Admission{})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			wantFound(t, m, lines(cookies))
		}
		if r.Until = c.now().Unix() + 1000; name == "session" {
			r.ID = s.ID
		}
		if !r.valid() {
			t.Fatalf("%+v", r)
		}
		m.take(r)
		wantNone(t, m, lines(cookies))
	}
}

// 4f1fd2a: what a caller does to the grant that it gave, or to the session that it
// got at the sign-in, changes nobody else's.
func TestIssuedSessionIsNotShared(t *testing.T) {
	m, c := manager(t)
	g := grant()
	s, cookies, err := m.Issue(t.Context(), g, host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	joined, siteCookies, err := m.Join(t.Context(), s, "lab.example")
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string) *Session {
		t.Helper()
		found := wantFound(t, m, lines(cookies))
		atSite, err := m.Find(lines(siteCookies), "lab.example")
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range []*Session{found, atSite} {
			if !slices.Equal(got.Roles, []string{"doctor", "finance"}) || got.Username != "dana" || !slices.Equal(got.AMR, []string{"pwd", "otp"}) {
				t.Errorf("%s: %+v", what, got)
			}
		}
		return found
	}
	g.Roles[0], g.AMR[0] = "admin", "none"
	check("the grant")
	s.Roles[0], s.Username, s.ID = "admin", "root", newID()
	joined.Roles[0], joined.Username = "admin", "root"
	found := check("the issued session")
	// A list that somebody appends to does not grow for the next reader.
	_ = append(found.Roles, "admin")
	check("an appended list")
	pass(m, c, time.Minute)
	_, next, err := renew(m, found, lines(cookies), host)
	if err != nil || !slices.Equal(next.Roles, []string{"doctor", "finance"}) || next.Username != "dana" {
		t.Errorf("%v, %+v", err, next)
	}
}

// The cost of a request beside nothing, and beside a million revocations.
func BenchmarkFindAmongRevocations(b *testing.B) {
	for _, n := range []int{0, million} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m, c := manager(b)
			var all [][]string
			for range 64 {
				s, cookies, err := m.Issue(context.Background(), Grant{Source: "hospital", Subject: newID(), Username: "dana", Roles: []string{"doctor"}}, host, Admission{})
				if err != nil || s == nil {
					b.Fatal(err)
				}
				all = append(all, lines(cookies))
			}
			revokeMany(m, n, c.now().Add(time.Hour).Unix())
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Find(all[i%len(all)], host); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
