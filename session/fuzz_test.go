package session

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestFuzzSeeds(t *testing.T) {
	for _, name := range []string{"FuzzFind", "FuzzClaims"} {
		entries, err := os.ReadDir("testdata/fuzz/" + name)
		if err != nil || len(entries) == 0 {
			t.Errorf("%s has no seeds: %v", name, err)
		}
	}
}

// FuzzFind: whatever stands in two Cookie lines, a session is found only when a
// plain cookie parser sees each of our names once with the right value; and after
// stripping no parser sees one of them, while the others stay.
func FuzzFind(f *testing.F) {
	l := newLab(f)
	f.Add("__Host-anteroom=TOKEN; __Host-anteroom-ctx=CONTEXT", "a=1")
	f.Add("__Host-anteroom=TOKEN", "__Host-anteroom-ctx=CONTEXT; __Host-anteroom =x")
	f.Add(`x="; __Host-anteroom=TOKEN; y="`, "=__Host-anteroom-ctx=CONTEXT;;")
	f.Fuzz(func(t *testing.T, first, second string) {
		fill := strings.NewReplacer("TOKEN", l.token, "CONTEXT", l.context)
		cookieLines := []string{fill.Replace(first), fill.Replace(second)}
		parsed := (&http.Request{Header: http.Header{"Cookie": cookieLines}}).Cookies()
		s, err := l.m.Find(cookieLines, host)
		if (s == nil) == (err == nil) || err != nil && !errors.Is(err, ErrNone) {
			t.Fatalf("%v, %v", s, err)
		}
		if s != nil {
			values := map[string][]string{}
			for _, c := range parsed {
				values[c.Name] = append(values[c.Name], c.Value)
			}
			for name, want := range map[string]string{CookieToken: l.token, CookieContext: l.context} {
				if got := values[name]; len(got) != 1 || got[0] != want {
					t.Fatalf("found in %q: %s is %q", cookieLines, name, got)
				}
			}
		}
		h := http.Header{"Cookie": cookieLines}
		StripCookies(h)
		left := (&http.Request{Header: h}).Cookies()
		for _, c := range left {
			if hasOwnPrefix(c.Name) {
				t.Fatalf("%q is left in %q", c.Name, h["Cookie"])
			}
		}
		if text := strings.Join(h["Cookie"], ";"); strings.Contains(text, CookieToken+"="+l.token) && !strings.Contains(text, "x"+CookieToken) {
			for _, part := range strings.Split(text, ";") {
				if isOwnPart(part) {
					t.Fatalf("the token is left in %q", text)
				}
			}
		}
		// Each cookie that is left was there, in the same order.
		i := 0
		for _, c := range left {
			for i < len(parsed) && (parsed[i].Name != c.Name || parsed[i].Value != c.Value) {
				i++
			}
			if i == len(parsed) {
				t.Fatalf("%s=%s appeared from %q", c.Name, c.Value, cookieLines)
			}
			i++
		}
	})
}

// FuzzClaims: any payload under our own signature either is refused or is a
// session that keeps all the promises.
func FuzzClaims(f *testing.F) {
	l := newLab(f)
	f.Add(l.payload(nil))
	f.Add(l.payload(map[string]any{"exp": 1, "roles": []string{}}))
	f.Add(l.payload(map[string]any{"groups": []string{"icu"}, "claims": map[string]string{"patient_id": "7"}, "device": true}))
	f.Add(`{"iss":"https://app.example","aud":"app.example","cnf":{"ctx#S256":""}}`)
	f.Fuzz(func(t *testing.T, payload string) {
		if len(payload) > 2500 {
			return
		}
		s, err := l.m.Find(line(l.signed(l.header(), payload), l.context), host)
		if err != nil {
			if s != nil || !errors.Is(err, ErrNone) {
				t.Fatalf("%v, %v", s, err)
			}
			return
		}
		now := l.clock.now()
		if s.context != l.session.context || s.Audience != "app.example" || !isIssuer(s.Issuer, s.Audience) || s.Grant.check() != nil ||
			!s.Expires.After(now) || s.IssuedAt.After(now) || s.Started.After(s.IssuedAt) || s.Expires.After(s.Ends) ||
			len(s.Groups) > 64 || len(s.Claims) > 8 || s.Expires.Sub(s.IssuedAt) > defaultIdle || !isID(s.ID) || !isID(s.TokenID) {
			t.Fatalf("%q is %+v", payload, s)
		}
	})
}
