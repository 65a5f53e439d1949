package gate

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/session"
)

// verified checks an assertion as an app would, with nothing but the published keys, and returns its claims.
func verified(t *testing.T, m *session.Manager, token string) map[string]any {
	t.Helper()
	var set struct {
		Keys []struct{ Kid, X string }
	}
	if err := json.Unmarshal(m.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("assertion %q", token)
	}
	part := func(i int) []byte {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var head struct{ Alg, Typ, Kid string }
	var claims map[string]any
	if json.Unmarshal(part(0), &head) != nil || json.Unmarshal(part(1), &claims) != nil || head.Alg != "EdDSA" || head.Typ != "anteroom-assertion+jwt" {
		t.Fatalf("head %+v", head)
	}
	for _, key := range set.Keys {
		if x, err := base64.RawURLEncoding.DecodeString(key.X); err == nil && key.Kid == head.Kid && ed25519.Verify(x, []byte(parts[0]+"."+parts[1]), part(2)) {
			return claims
		}
	}
	t.Fatal("no published key verifies the assertion")
	return nil
}

// The app gets one assertion with the session's claims, for its audience, that verifies with the published keys, and none without a
// session or where the operator wants none.
func TestAssertion(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // audience
	}{
		"host":     {func(*Config) {}, site},
		"audience": {func(c *Config) { c.Assertion = "urn:app:careconnect" }, "urn:app:careconnect"},
		"off":      {func(c *Config) { c.NoAssertion, c.Assertion = true, "x" }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, c.change)
			root := r.admin()
			for _, target := range []string{"/admin/x", "/public/x"} {
				replies := r.send(request("GET", target, root, "Anteroom-Assertion: forged", "anteroom_assertion: forged", "Connection: close, Anteroom-Assertion"))
				got := r.take()
				if len(replies) != 1 || replies[0].StatusCode != 200 || len(got) != 1 {
					t.Fatalf("answers %+v", replies)
				}
				list := got[0].Header["Anteroom-Assertion"]
				if c.want == "" {
					if list != nil {
						t.Errorf("an assertion that nobody wants: %q", list)
					}
					continue
				}
				if len(list) != 1 || strings.Contains(list[0], "forged") {
					t.Fatalf("assertions %q", list)
				}
				claims := verified(t, r.sessions, list[0])
				if claims["aud"] != c.want || claims["iss"] != "https://"+site || claims["sub"] != "sub-root" || claims["preferred_username"] != "root" || claims["sid"] == root.session.ID {
					t.Errorf("claims %v", claims)
				}
				if life := claims["exp"].(float64) - claims["iat"].(float64); life <= 0 || life > 60 {
					t.Errorf("it lives for %v s", life)
				}
				// It opens nothing here: not as a bearer token, nor as a half of a session.
				_, context, _ := strings.Cut(root.cookie, "; ")
				r.attack(t, row{raw: request("GET", "/admin/x", nil, "Authorization: Bearer "+list[0], "Cookie: "+session.CookieToken+"="+list[0]+"; "+context), want: []int{401}})
			}
			r.send(request("GET", "/public/x", nil, "Anteroom-Assertion: forged"))
			if got := r.take(); len(got) != 1 || got[0].Header["Anteroom-Assertion"] != nil {
				t.Errorf("without a session: %+v", got)
			}
		})
	}
}

// Each person's requests carry that person's, on one connection too; parallel requests of one session share theirs.
func TestAssertionIsThePersons(t *testing.T) {
	r := newRig(t)
	dana, root := r.dana(), r.admin()
	r.send(request("GET", "/members/x", dana, "Connection: keep-alive") + request("GET", "/admin/x", root, "Connection: keep-alive") + request("GET", "/members/x", dana))
	got := r.take()
	if len(got) != 3 {
		t.Fatalf("%d requests", len(got))
	}
	for i, want := range []string{"dana", "root", "dana"} {
		if claims := verified(t, r.sessions, got[i].Header.Get("Anteroom-Assertion")); claims["preferred_username"] != want {
			t.Errorf("request %d: %v", i, claims)
		}
	}
	if got[0].Header.Get("Anteroom-Assertion") != got[2].Header.Get("Anteroom-Assertion") {
		t.Error("two assertions of one session within a moment")
	}
}

// No assertion, no access: an app that trusts nothing else must not take a person for nobody.
func TestAssertionFails(t *testing.T) {
	r := newRig(t)
	r.gate.audience = strings.Repeat("a", 300) // New does not let it get here
	dana := r.dana()
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the app was reached") })
	if w := direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, never); w.Code != 503 {
		t.Errorf("%d", w.Code)
	}
	events := r.audit.take()
	if last := events[len(events)-1]; last.Decision != "failed" || last.Reason != "assertion" {
		t.Errorf("events %+v", events)
	}
	// A session that ends between the first step and the last is none.
	r.gate.audience = ""
	x := &exchange{gate: r.gate, session: dana.session, r: &http.Request{Header: http.Header{}}, site: site}
	r.revoke(dana)
	if no := x.tell(); no.kind != KindNoSession || no.status != 401 || len(x.r.Header) != 0 {
		t.Errorf("%+v %v", no, x.r.Header)
	}
	for _, audience := range []string{strings.Repeat("a", 256), "a\nb", " a", "a\x00"} {
		if _, err := New(Config{Assertion: audience}); err == nil || !strings.Contains(err.Error(), "write ") {
			t.Errorf("%.10q: %v", audience, err)
		}
	}
}

// What an app got it may not hand on to the browser, in whatever spelling: pages would collect it.
func TestAssertionDoesNotComeBack(t *testing.T) {
	r := newRig(t)
	r.app = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		for _, name := range []string{"Anteroom-Assertion", "anteroom_assertion", "ANTEROOM.ASSERTION", http.TrailerPrefix + "Anteroom-Assertion"} {
			w.Header()[name] = q.Header["Anteroom-Assertion"]
		}
		io.WriteString(w, "x")
	})
	dana := r.dana()
	for _, reply := range r.send(request("GET", "/members/x", dana)) {
		for _, h := range []http.Header{reply.Header, reply.Trailer} {
			for name, values := range h {
				if strings.Contains(strings.Join(values, ""), "ey") && isIdentity(name) {
					t.Errorf("%s came back", name)
				}
			}
		}
	}
}
