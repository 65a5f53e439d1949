package bearer

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// fixedReason says whether a reason is one of ours and holds nothing from outside.
func fixedReason(reason string) bool {
	return reason != "" && len(reason) < 40 && strings.Contains(reason, ".") && !strings.ContainsFunc(reason, func(r rune) bool { return r != '.' && r != '_' && (r < 'a' || r > 'z') })
}

// FuzzAuthorization: no header is read as a token by us and as none, or as another
// one, by whoever splits it plainly; and no query hides a token from us that a plain
// reader finds.
func FuzzAuthorization(f *testing.F) {
	f.Add("Bearer abc", "a=b")
	f.Fuzz(func(t *testing.T, header, query string) {
		scheme, token, err := readAuthorization([]string{header})
		if err != nil {
			if refused, ok := errors.AsType[no](err); !ok || !fixedReason(string(refused)) || token != "" || scheme == "" {
				t.Fatalf("%q: %q, %q, %v", header, scheme, token, err)
			}
		}
		word, rest, _ := strings.Cut(header, " ")
		ours := strings.EqualFold(word, schemeBearer) && len(word) == len(schemeBearer) || strings.EqualFold(word, schemeDPoP) && len(word) == len(schemeDPoP)
		if err == nil && (scheme != "") != ours {
			t.Fatalf("%q: scheme %q", header, scheme)
		}
		if err == nil && ours {
			if token != strings.TrimLeft(rest, " ") || token == "" || strings.ContainsAny(token, " ,;\t\r\n\"\x00") || !strings.EqualFold(scheme, word) || len(token) > 8192 {
				t.Fatalf("%q: %q", header, token)
			}
		}
		values, _ := url.ParseQuery(query)
		if values.Has("access_token") && !TokenInQuery(query) {
			t.Fatalf("%q hides a token", query)
		}
		if TokenInQuery(query) && !strings.Contains(strings.ToLower(query), "a") && !strings.Contains(query, "%") {
			t.Fatalf("%q holds none", query)
		}
	})
}

// FuzzProof: no text passes for a proof that was not made for this request, and no
// two addresses are equal that a plain reader tells apart.
func FuzzProof(f *testing.F) {
	r := &rig{client: keyPair()[1], clock: &clock{at: time.Unix(1700000000, 0)}}
	token := "token"
	want := expected{method: "GET", target: audience + path, token: b64(string(sum(token))), thumbprint: thumbprint(r.client)}
	good := r.proof(token)
	if _, err := checkProof([]string{good}, want, r.clock.now()); err != nil {
		f.Fatal(err)
	}
	f.Add(good, audience+path, "/a%7e")
	f.Fuzz(func(t *testing.T, proof, address, path string) {
		u, err := checkProof([]string{proof}, want, r.clock.now())
		if err != nil {
			if refused, ok := errors.AsType[no](err); !ok || !fixedReason(string(refused)) || !strings.HasPrefix(string(refused), "dpop.") || u != (used{}) {
				t.Fatalf("%v with %v", u, err)
			}
		} else {
			var claims map[string]any
			payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(proof, ".")[1])
			if json.Unmarshal(payload, &claims) != nil || claims["htm"] != "GET" || claims["ath"] != want.token || claims["jti"] != u.id {
				t.Fatalf("accepted %s", payload)
			}
		}
		if normal, ok := normalise(address); ok {
			parsed, err := url.Parse(normal)
			if err != nil || parsed.Scheme != "https" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.Hostname() == "" || parsed.Port() == "443" || !strings.HasPrefix(parsed.EscapedPath(), "/") {
				t.Fatalf("%q is %q", address, normal)
			}
			if again, ok := normalise(normal); !ok || again != normal {
				t.Fatalf("%q is %q, and that is %q", address, normal, again)
			}
			plain, err := url.Parse(address)
			if err == nil && (!strings.EqualFold(plain.Hostname(), parsed.Hostname()) || strings.TrimPrefix(plain.Path, "/") != strings.TrimPrefix(parsed.Path, "/")) {
				t.Fatalf("%q is %q", address, normal)
			}
		}
		if normal, ok := normalisePath(path); ok {
			a, errA := url.PathUnescape(path)
			b, errB := url.PathUnescape(normal)
			if errA != nil || errB != nil || a != b {
				t.Fatalf("%q is %q", path, normal)
			}
		}
	})
}

// FuzzIntrospection: no answer makes a caller that could not be one, and none but a
// plain "active": true makes one at all.
func FuzzIntrospection(f *testing.F) {
	i, err := New(Config{Name: "a", Issuer: "https://login.example", RoleNames: map[string][]string{"doctor": {"doctor"}}, Claims: map[string]string{"unit": "unit", "a_b": "a.b"}})
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1700000000, 0)
	f.Add([]byte(`{"active":true,"token_type":"Bearer","sub":"dana","client_id":"c","aud":"a","exp":1700000100,"scope":"a b","roles":["doctor"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := i.readAnswer(body, now)
		if err != nil {
			refused, isNo := errors.AsType[no](err)
			reason := string(refused)
			if !isNo {
				reason = identity.Reason(err)
			}
			if isNo == errors.Is(err, identity.ErrUnavailable) || !fixedReason(reason) || got.caller.Subject != "" {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var plain map[string]any
		if json.Unmarshal(body, &plain) != nil || plain["active"] != true || plain["exp"] == nil || plain["aud"] == nil {
			t.Fatalf("accepted %q", body)
		}
		if issuer, said := plain["iss"]; said && issuer != "https://login.example" {
			t.Fatalf("accepted %q", body)
		}
		c := got.caller
		who := identity.Identity{Source: c.Source, Issuer: c.Issuer, Subject: c.Subject, Username: c.Username, Name: c.Name, Email: c.Email, Roles: c.Roles, ACR: c.ACR, AMR: c.AMR}
		if err := who.Check(); err != nil || c.Issuer != "https://login.example" || !got.expires.Add(skew).After(now) {
			t.Fatalf("%q: %v", body, err)
		}
		who.Claims = c.Claims
		if err := who.Check(); err != nil || len(c.Claims) > 2 {
			t.Fatalf("%q gives %q", body, c.Claims)
		}
		for _, role := range c.Roles {
			if role != "doctor" {
				t.Fatalf("%q gives the role %q", body, role)
			}
		}
		for _, scope := range c.Scopes {
			if !isScope(scope) || strings.Contains(scope, " ") {
				t.Fatalf("%q gives the scope %q", body, scope)
			}
		}
	})
}

// Seeds that nobody committed find nothing.
func TestFuzzSeeds(t *testing.T) {
	for _, name := range []string{"FuzzAuthorization", "FuzzProof", "FuzzIntrospection"} {
		seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", name))
		if err != nil || len(seeds) == 0 {
			t.Errorf("no seeds for %s: %v", name, err)
		}
	}
}
