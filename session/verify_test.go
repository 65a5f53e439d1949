package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// One question at a time over all nodes and sites, at most every quarter of the idle time
// and at least once in it; the refresh token that comes back is the one of the next question.
func TestVerifiedOnce(t *testing.T) {
	p := &provider{}
	w := newShared(t, 3, p.option)
	v := newVisitor(t, w.nodes[0], toVerify, "lab.example", "ward.example")
	for range 60 {
		w.pass(time.Minute)
		var all sync.WaitGroup
		for i, site := range v.sites {
			for j := range 6 {
				m, s := w.nodes[(i+j)%3], v.lines[site]
				all.Go(func() {
					found, err := m.Find(s, site)
					if err != nil {
						t.Errorf("%v", err)
						return
					}
					if _, _, err := renew(m, found, s, site); err != nil {
						t.Errorf("%v", err)
					}
				})
			}
		}
		all.Wait()
		for i, site := range v.sites {
			if _, err := v.visit(w.nodes[i], site); err != nil {
				t.Fatal(err)
			}
		}
	}
	if p.thefts != 0 || p.most != 1 {
		t.Errorf("%d tokens used twice, %d questions at once", p.thefts, p.most)
	}
	for i, at := range p.asked {
		before := v.s.Started
		if i > 0 {
			before = p.asked[i-1]
		}
		if gap := at.Sub(before); gap < 15*time.Minute/4 || gap > 5*time.Minute {
			t.Errorf("question %d after %v", i, gap)
		}
	}
	wantKept(t, w.nodes[1], v.s.ID, fmt.Sprint(len(p.asked)))
}

// Of sites that renew at the same moment one asks, and the others wait for what it hears.
func TestSitesShareAVerdict(t *testing.T) {
	p := &provider{}
	inBubble(t, 2, func(t *testing.T, w *shared) {
		v := newVisitor(t, w.nodes[0], toVerify, "lab.example")
		time.Sleep(4 * time.Minute)
		p.set(func(context.Context, int) error { time.Sleep(500 * time.Millisecond); return nil },
			func(v *Verdict) { v.Grant.Roles, v.Grant.Name = []string{"nurse"}, "Dana Roe" })
		var all sync.WaitGroup
		for i, site := range v.sites {
			found, err := w.nodes[i].Find(v.lines[site], site)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				_, next, err := renew(w.nodes[i], found, v.lines[site], site)
				if err != nil || !slices.Equal(next.Roles, []string{"nurse"}) || next.Name != "Dana Roe" {
					t.Errorf("%s: %v, %+v", site, err, next)
				}
			})
		}
		all.Wait()
		if p.count() != 1 || p.thefts != 0 {
			t.Errorf("%d questions, %d thefts", p.count(), p.thefts)
		}
		// A site that is joined now hears it as well, though the portal's token is older.
		joined, _, err := w.nodes[1].Join(t.Context(), v.s, "ward.example")
		if err != nil || !slices.Equal(joined.Roles, []string{"nurse"}) {
			t.Errorf("%v, %+v", err, joined)
		}
	}, p.option)
}

// A provider that is slow for longer than others wait: they go on with what was known,
// for as long as that was good anyway, and nobody asks a second time.
func TestSlowVerdict(t *testing.T) {
	p := &provider{}
	inBubble(t, 2, func(t *testing.T, w *shared) {
		a, b := w.nodes[0], w.nodes[1]
		v := newVisitor(t, a, toVerify, "lab.example")
		time.Sleep(4 * time.Minute)
		if _, err := v.visit(a, host); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Minute)
		p.set(func(context.Context, int) error { time.Sleep(5 * time.Second); return nil }, nil)
		slowly := func() *Renewal {
			found := must(a.Find(v.lines[host], host))
			slow := a.StartRenewal(found, v.lines[host], host)
			time.Sleep(100 * time.Millisecond)
			return slow
		}
		slow := slowly()
		lab := must(b.Find(v.lines["lab.example"], "lab.example"))
		next, err := b.renewShared(t.Context(), lab, "lab.example")
		if err != nil || !next.session.Expires.Equal(v.s.Started.Add(19*time.Minute)) {
			t.Fatalf("%v, %+v", err, next)
		}
		<-slow.done
		if slow.err != nil || !slow.renewal.session.Expires.Equal(v.s.Started.Add(23*time.Minute)) {
			t.Fatalf("%v", slow.err)
		}
		v.lines[host] = line(slow.renewal.token, secondHalf(v.lines[host]))
		// Near the end there is nothing to go on with: the older token stays.
		time.Sleep(14*time.Minute + 30*time.Second)
		slow = slowly()
		lab.Expires = time.Now().Add(time.Minute)
		if _, err := b.grantNow(t.Context(), lab); !errors.Is(err, errSlow) {
			t.Errorf("%v", err)
		}
		<-slow.done
		if slow.err != nil || p.count() != 3 || p.thefts != 0 || p.most != 1 {
			t.Errorf("%v, %d questions, %d thefts", slow.err, p.count(), p.thefts)
		}
	}, p.option)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func secondHalf(cookieLines []string) string {
	_, contextValue, _ := scan(cookieLines)
	return contextValue
}

// J73: whoever is disabled at the provider, or loses a role there, at whatever moment, is
// out, or without it, one idle period later, whatever the requests in between, on every
// site; and whoever is not is never signed out by being asked about.
func TestJ73WithinOneIdlePeriod(t *testing.T) {
	const idle = 15 * time.Minute
	for _, kind := range []string{"gone", "role"} {
		t.Run(kind, func(t *testing.T) {
			for seed := range uint64(16) {
				random := rand.New(rand.NewPCG(seed, 1))
				p := &provider{}
				m, c := manager(t, p.option)
				v := newVisitor(t, m, toVerify, "lab.example")
				changes := c.now().Add(time.Duration(random.Int64N(int64(40 * time.Minute))))
				for over := false; !over; {
					gap := time.Duration(random.Int64N(int64(2 * time.Minute)))
					if random.IntN(4) == 0 {
						gap = time.Duration(random.Int64N(int64(idle)))
					}
					pass(m, c, gap)
					after := c.now().Sub(changes)
					if after >= 0 {
						p.set(nil, func(v *Verdict) {
							v.Gone = kind == "gone"
							v.Grant.Roles = []string{"finance"}
						})
					}
					site := v.sites[random.IntN(2)]
					found, err := m.Find(v.lines[site], site)
					if err == nil && after > idle && (kind == "gone" || slices.Contains(found.Roles, "doctor")) {
						t.Fatalf("seed %d: in, with %v, %v after", seed, found.Roles, after)
					}
					if err == nil {
						_, err = v.visit(m, site)
					}
					if err != nil && Reason(err) != "expired" && Reason(err) != "provider" {
						t.Fatalf("seed %d: %v", seed, err)
					}
					over = err != nil || after > 2*idle
				}
				if p.thefts != 0 {
					t.Fatalf("seed %d: %d tokens used twice", seed, p.thefts)
				}
			}
		})
	}
}

// J73, by the one who knows how it works: disabled just after the source vouched, renewed
// just before it is asked again, and then silent until just before the idle end.
func TestJ73AtTheWorstMoments(t *testing.T) {
	p := &provider{}
	m, c := manager(t, p.option)
	v := newVisitor(t, m, toVerify, "lab.example")
	p.set(nil, func(v *Verdict) { v.Gone = true })
	pass(m, c, 3*time.Minute+44*time.Second)
	for _, site := range v.sites {
		if s, err := v.visit(m, site); err != nil || s.Expires.After(v.s.Started.Add(15*time.Minute)) {
			t.Fatalf("%v, %+v", err, s)
		}
	}
	joined, cookies, err := m.Join(t.Context(), v.s, "ward.example")
	if err != nil || joined.Expires.After(v.s.Started.Add(15*time.Minute)) {
		t.Fatal(err)
	}
	v.lines["ward.example"] = lines(cookies)
	pass(m, c, 11*time.Minute+16*time.Second)
	for site := range v.lines {
		wantError(t, m, v.lines[site], site, ErrNone)
	}
	if p.count() != 0 {
		t.Error("asked")
	}
}

// Row 88: a level never rises by itself, whatever the source says when asked again; nor
// does the provider's session change.
func TestRow88LevelStays(t *testing.T) {
	p := &provider{}
	m, c := manager(t, p.option)
	s, cookies := keeping(t, m, toVerify, func(g *Grant) { g.ProviderSession = "op" })
	p.set(nil, func(v *Verdict) {
		v.Grant.ACR, v.Grant.AMR, v.Grant.AuthTime, v.Grant.ProviderSession = "urn:acr:4", []string{"hwk"}, c.now(), "other"
		v.Grant.Email = "new@example.org"
	})
	pass(m, c, 4*time.Minute)
	_, next, err := renew(m, s, lines(cookies), host)
	if err != nil {
		t.Fatal(err)
	}
	if next.ACR != s.ACR || !slices.Equal(next.AMR, s.AMR) || !next.AuthTime.Equal(s.AuthTime) || next.ProviderSession != s.ProviderSession || next.Email != "new@example.org" {
		t.Errorf("%+v", next)
	}
}

// A source that cannot be asked for now: the sign-on goes on as it was, for hours, the
// source has a rest between two questions, and counts again when it is back.
func TestSourceIsDown(t *testing.T) {
	p := &provider{}
	m, c := manager(t, p.option)
	v := newVisitor(t, m, toVerify, "a.example", "b.example", "c.example", "d.example", "e.example")
	p.set(func(context.Context, int) error { return errors.New("down") }, nil)
	for i := range 12 * 30 { // each minute a renewal on each of six sites
		pass(m, c, 10*time.Second)
		if _, err := v.visit(m, v.sites[i%6]); err != nil {
			t.Fatal(err)
		}
	}
	for i, at := range p.asked[1:] {
		if gap := at.Sub(p.asked[i]); gap < restAfterError {
			t.Errorf("asked again after %v", gap)
		}
	}
	if n := p.count(); n < 50 {
		t.Errorf("asked %d times in an hour", n)
	}
	p.set(nil, func(v *Verdict) { v.Grant.Roles = []string{"nurse"} })
	for range 4 {
		pass(m, c, 30*time.Second)
		if _, err := v.visit(m, host); err != nil {
			t.Fatal(err)
		}
	}
	if s := wantFound(t, m, v.lines[host]); !slices.Equal(s.Roles, []string{"nurse"}) || p.thefts != 0 {
		t.Errorf("%v, %d thefts", s.Roles, p.thefts)
	}
	p.set(nil, func(v *Verdict) { v.Gone = true })
	pass(m, c, 4*time.Minute)
	if _, err := v.visit(m, host); Reason(err) != "provider" {
		t.Errorf("%v", err)
	}
}

// Who is not to be verified is not asked about, nor is anybody while the store is silent.
func TestNotAsked(t *testing.T) {
	p := &provider{}
	w := newShared(t, 1, p.option)
	m := w.nodes[0]
	plain := newVisitor(t, m, Admission{Keep: []byte("0")})
	v := newVisitor(t, m, toVerify)
	for range 8 {
		w.pass(time.Minute)
		if _, err := plain.visit(m, host); err != nil {
			t.Fatal(err)
		}
	}
	if p.count() != 0 {
		t.Error("asked about somebody who is not to be verified")
	}
	w.proxies[0].dead.Store(true)
	for range 30 {
		w.clock.add(time.Minute)
		found, err := m.Find(v.lines[host], host)
		if found == nil {
			t.Fatal(err)
		}
		cookie, _, err := renew(m, found, v.lines[host], host)
		if err != nil || cookie == nil {
			t.Fatal(err)
		}
		v.lines[host] = line(cookie.Value, secondHalf(v.lines[host]))
	}
	if p.count() != 0 {
		t.Error("asked while the store was silent")
	}
	// The store has outlived what it kept: nobody can be verified by it any more. The
	// sign-on ends with its idle end, and is nowhere taken for one without a source.
	w.proxies[0].dead.Store(false)
	w.follow()
	found := wantFound(t, m, v.lines[host])
	w.pass(time.Minute)
	if cookie, _, err := renew(m, found, v.lines[host], host); cookie != nil || !errors.Is(err, errForgotten) {
		t.Errorf("%v", err)
	}
	if _, _, err := m.Join(t.Context(), found, "lab.example"); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	w.pass(14 * time.Minute)
	wantNone(t, m, v.lines[host])
}

// What joins a site by no more than its sid and start, as from the one portal, is verified
// there as well; and when nothing is left to do that by, it is not let in unverified.
func TestJoinedIsVerified(t *testing.T) {
	p := &provider{}
	m, c := manager(t, p.option)
	v := newVisitor(t, m, toVerify)
	plain, _ := issue(t, m)
	bare := func(s *Session) *Session { return &Session{Grant: s.Grant, ID: s.ID, Started: s.Started} }
	joined, _, err := m.Join(t.Context(), bare(v.s), "lab.example")
	if err != nil || !joined.verify {
		t.Fatal(err)
	}
	if joined, _, err := m.Join(t.Context(), bare(plain), "lab.example"); err != nil || joined.verify {
		t.Errorf("%v", err)
	}
	if err := m.store.Delete(t.Context(), keptKey(v.s.ID)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*Session{v.s, bare(v.s)} {
		if _, _, err := m.Join(t.Context(), s, "lab.example"); !errors.Is(err, ErrNone) {
			t.Errorf("%v", err)
		}
	}
	if err := m.store.Delete(t.Context(), recordKey(v.s.ID)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Join(t.Context(), bare(v.s), "lab.example"); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	pass(m, c, time.Minute)
	if _, err := v.visit(m, host); !errors.Is(err, errForgotten) {
		t.Errorf("%v", err)
	}
}

// A config without the hook asks nobody and renews all; so does one of which a session
// was made before there was something to keep.
func TestNoHook(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	v := newVisitor(t, m, toVerify)
	for range 40 {
		w.pass(time.Minute)
		if _, err := v.visit(m, host); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.store.Delete(t.Context(), keptKey(v.s.ID)); err != nil {
		t.Fatal(err)
	}
	w.pass(10 * time.Minute)
	if s, err := v.visit(m, host); err != nil || !s.Expires.Equal(w.clock.now().Add(15*time.Minute)) {
		t.Errorf("%v", err)
	}
}

// The claim that says so is ours to set, and of one form.
func TestVerifyClaim(t *testing.T) {
	m, _ := manager(t)
	s, cookies := keeping(t, m, toVerify)
	if found := wantFound(t, m, lines(cookies)); !found.verify || !s.verify {
		t.Error("lost")
	}
	plain, _ := issue(t, m)
	for _, c := range []struct {
		value any
		good  bool
	}{{true, true}, {false, true}, {"true", false}, {1, false}, {nil, false}} {
		w := plain.wire()
		claims := map[string]any{}
		remarshal(t, w, &claims)
		claims["verify"] = c.value
		_, err := m.verify(forge(t, m, tokenType, claims), m.now())
		if (err == nil) != c.good {
			t.Errorf("%v: %v", c.value, err)
		}
	}
}
