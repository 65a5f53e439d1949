package session

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"testing"
	"time"
)

func TestIssueFind(t *testing.T) {
	m, c := manager(t)
	issued, cookies := issue(t, m)
	for range 2 { // the second time from the cache
		found := wantFound(t, m, lines(cookies))
		if !reflect.DeepEqual(issued, found) {
			t.Errorf("issued %+v\nfound  %+v", issued, found)
		}
	}
	if !reflect.DeepEqual(issued.Grant, grant()) {
		t.Errorf("grant %+v", issued.Grant)
	}
	if issued.Issuer != "https://"+host || issued.Audience != "app.example" || !issued.Started.Equal(c.now()) ||
		!issued.Expires.Equal(c.now().Add(15*time.Minute)) || !issued.Ends.Equal(c.now().Add(12*time.Hour)) {
		t.Errorf("session %+v", issued)
	}
	// Browsers share cookies over ports and do not care about case.
	for _, other := range []string{"app.example", "APP.example:1", "app.example:443"} {
		if _, err := m.Find(lines(cookies), other); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
	for _, cookie := range cookies {
		want := http.Cookie{Name: cookie.Name, Value: cookie.Value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		if !reflect.DeepEqual(*cookie, want) {
			t.Errorf("cookie %+v", cookie)
		}
	}
}

func TestRevoke(t *testing.T) {
	m, _ := manager(t)
	s, cookies := issue(t, m)
	_, others := issue(t, m)
	wantFound(t, m, lines(cookies))
	if err := m.Revoke(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	wantNone(t, m, lines(cookies))
	wantFound(t, m, lines(others))
	if _, _, err := renew(m, s, lines(cookies), host); err != nil && !errors.Is(err, ErrNone) {
		t.Errorf("Renew: %v", err)
	}
}

func BenchmarkFind(b *testing.B) {
	m, _ := manager(b)
	_, cookies := issue(b, m)
	l := []string{"theme=dark; " + lines(cookies)[0] + "; csrftoken=abcdefghijklmnopqrstuvwxyz"}
	if _, err := m.Find(l, host); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.Run("hit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.Find(l, host); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := m.verify(cookies[0].Value, m.now()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("strip", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h := http.Header{"Cookie": l}
			StripCookies(h)
		}
	})
}
