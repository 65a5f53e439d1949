package session

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Ended tells only who holds both halves, and of that session only.
func TestEnded(t *testing.T) {
	w := newShared(t, 1)
	m := w.nodes[0]
	s, cookies := issue(t, m)
	_, others := issue(t, m)
	if m.Ended(lines(cookies), host) != "" {
		t.Error("ended already")
	}
	if err := m.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{0, 20 * time.Minute, 11 * time.Hour} { // also beyond the idle end
		w.pass(wait)
		if got := m.Ended(lines(cookies), host); got != "revoked" {
			t.Errorf("%q", got)
		}
		for name, cookieLines := range map[string][]string{
			"nothing": nil, "token alone": {CookieToken + "=" + cookies[0].Value}, "another half": line(cookies[0].Value, others[1].Value),
			"another session": lines(others), "a guess": line(cookies[0].Value, strings.Repeat("A", 43)), "a forged token": line(cookies[0].Value+"x", cookies[1].Value),
		} {
			if got := m.Ended(cookieLines, host); got != "" {
				t.Errorf("%s: %q", name, got)
			}
		}
		if got := m.Ended(lines(cookies), "other.example"); got != "" {
			t.Errorf("another site: %q", got)
		}
	}
	other, _ := issue(t, m)
	w.pass(24 * time.Hour) // beyond the absolute end
	for sid, want := range map[string]bool{s.ID: true, other.ID: false, "": false, "x": false} {
		if got := m.Revoked(sid); got != want {
			t.Errorf("Revoked(%q) %v", sid, got)
		}
	}
	m.Close()
	if m.Ended(lines(cookies), host) != "" {
		t.Error("answers after Close")
	}
}

// Join: one sign-on, two sites, each with cookies of its own that are worth nothing
// on the other one.
func TestJoin(t *testing.T) {
	w := newShared(t, 2)
	home, site := w.nodes[0], w.nodes[1]
	s, cookies, err := home.Issue(t.Context(), grant(), "auth.example", Admission{})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(5 * time.Minute)
	// What the portal hands over is this and no more.
	joined, siteCookies, err := site.Join(t.Context(), &Session{Grant: s.Grant, ID: s.ID, Started: s.Started}, "lab.example:8443")
	if err != nil {
		t.Fatal(err)
	}
	if joined.ID != s.ID || !joined.Started.Equal(s.Started) || !joined.Ends.Equal(s.Ends) || !reflect.DeepEqual(joined.Grant, s.Grant) ||
		joined.Audience != "lab.example" || joined.TokenID == s.TokenID || joined.context == s.context || !joined.IssuedAt.Equal(w.clock.now()) {
		t.Errorf("%+v", joined)
	}
	for _, m := range w.nodes {
		if found, err := m.Find(lines(siteCookies), "lab.example:8443"); err != nil || !reflect.DeepEqual(found, joined) {
			t.Errorf("%v, %+v", err, found)
		}
		wantError(t, m, lines(siteCookies), "auth.example", ErrNone)
		wantError(t, m, lines(cookies), "lab.example:8443", ErrNone)
		wantError(t, m, line(siteCookies[0].Value, cookies[1].Value), "lab.example:8443", ErrNone)
	}
	if infos, err := home.AllSessions(t.Context()); err != nil || len(infos) != 1 || fmt.Sprint(infos[0].Sites) != "[auth.example lab.example]" {
		t.Errorf("%v, %+v", err, infos)
	}
	// Signing out on one site is signing out on all.
	if err := site.Revoke(t.Context(), joined.ID); err != nil {
		t.Fatal(err)
	}
	home.follow()
	wantError(t, home, lines(cookies), "auth.example", ErrNone)
	for _, m := range w.nodes {
		if _, _, err := m.Join(t.Context(), s, "lab.example"); !errors.Is(err, ErrNone) {
			t.Errorf("a revoked one: %v", err)
		}
	}
	good, _ := issue(t, home)
	for name, change := range map[string]func(*Session){
		"no id":            func(s *Session) { s.ID = "" },
		"another id":       func(s *Session) { s.ID = "../../x" },
		"no subject":       func(s *Session) { s.Subject = "" },
		"a raw session id": func(s *Session) { s.ProviderSession = "op" },
		"of the future":    func(s *Session) { s.Started = w.clock.now().Add(time.Hour) },
	} {
		changed := *good
		change(&changed)
		if _, _, err := home.Join(t.Context(), &changed, "lab.example"); !errors.Is(err, ErrGrant) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := home.Join(t.Context(), good, "lab.example/x"); !errors.Is(err, ErrGrant) {
		t.Errorf("%v", err)
	}
	// Its end is that of the sign-on, whatever site it is taken to.
	w.pass(12*time.Hour - time.Minute)
	last, _, err := home.Join(t.Context(), good, "lab.example")
	if err != nil || !last.Expires.Equal(good.Ends) {
		t.Errorf("%v, %+v", err, last)
	}
	w.pass(time.Minute)
	if _, _, err := home.Join(t.Context(), good, "lab.example"); !errors.Is(err, ErrNone) {
		t.Errorf("after the end: %v", err)
	}
}

// Revive: whoever works on a site for long is still signed in at the portal, though
// nobody went there; and nobody else is.
func TestRevive(t *testing.T) {
	w := newShared(t, 2)
	home, site := w.nodes[0], w.nodes[1]
	s, cookies, err := home.Issue(t.Context(), grant(), "auth.example", Admission{})
	if err != nil {
		t.Fatal(err)
	}
	joined, siteCookies, err := site.Join(t.Context(), s, "lab.example")
	if err != nil {
		t.Fatal(err)
	}
	now := lines(siteCookies)
	work := func(minutes int) {
		t.Helper()
		for range minutes {
			w.pass(time.Minute)
			cookie, next, err := renew(site, joined, now, "lab.example")
			if err != nil {
				t.Fatal(err)
			}
			if cookie != nil {
				now, joined = line(cookie.Value, siteCookies[1].Value), next
			}
		}
	}
	work(30)
	wantError(t, home, lines(cookies), "auth.example", ErrNone)
	for name, c := range map[string]struct {
		lines []string
		host  string
	}{
		"the token alone": {[]string{CookieToken + "=" + cookies[0].Value}, "auth.example"},
		"another half":    {line(cookies[0].Value, siteCookies[1].Value), "auth.example"},
		"another site":    {lines(cookies), "lab.example"},
		"nothing":         {nil, "auth.example"},
	} {
		if s, cookie, err := home.Revive(t.Context(), c.lines, c.host); s != nil || cookie != nil || !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	revived, cookie, err := home.Revive(t.Context(), lines(cookies), "auth.example")
	if err != nil || revived.ID != s.ID || !revived.Ends.Equal(s.Ends) || revived.Audience != "auth.example" || !revived.Expires.Equal(w.clock.now().Add(15*time.Minute)) {
		t.Fatalf("%v, %+v", err, revived)
	}
	if found, err := home.Find(line(cookie.Value, cookies[1].Value), "auth.example"); err != nil || !reflect.DeepEqual(found, revived) {
		t.Errorf("%v", err)
	}
	// Nobody works any more: idle everywhere, and nothing brings it back.
	w.pass(16 * time.Minute)
	if _, _, err := home.Revive(t.Context(), line(cookie.Value, cookies[1].Value), "auth.example"); !errors.Is(err, ErrNone) {
		t.Errorf("idle: %v", err)
	}
	// Nor what was revoked, though a record of it were left.
	s, cookies, err = home.Issue(t.Context(), grant(), "auth.example", Admission{})
	if err != nil {
		t.Fatal(err)
	}
	if joined, siteCookies, err = site.Join(t.Context(), s, "lab.example"); err != nil {
		t.Fatal(err)
	}
	now = lines(siteCookies)
	work(20)
	if err := site.Revoke(t.Context(), s.ID); err != nil {
		t.Fatal(err)
	}
	home.follow()
	if err := home.touch(t.Context(), joined); err != nil {
		t.Fatal(err)
	}
	if _, _, err := home.Revive(t.Context(), lines(cookies), "auth.example"); !errors.Is(err, ErrNone) || Reason(err) != "revoked" {
		t.Errorf("revoked: %v", err)
	}
}

func TestReason(t *testing.T) {
	for want, err := range map[string]error{
		"": nil, "revoked": errRevoked, "moved": fmt.Errorf("x: %w", errMoved), "expired": errExpired, "key-killed": errKey, "silent": ErrStale,
		"closed": ErrClosed, "none": errAbsent, "too-many": errTooManyWatchers, "other": io.EOF,
	} {
		if got := Reason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
