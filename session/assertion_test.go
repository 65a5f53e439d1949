package session

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// claimsOf verifies an assertion as an application does, with the published keys.
func claimsOf(t *testing.T, m *Manager, token string) map[string]any {
	t.Helper()
	parsed, err := jws.Parse(token)
	if err != nil {
		t.Fatal(err)
	}
	var set struct {
		Keys []struct{ Kid, X string }
	}
	if err := json.Unmarshal(m.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	for _, k := range set.Keys {
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil {
			t.Fatal(err)
		}
		if k.Kid == parsed.Header.Kid && parsed.Verify("EdDSA", ed25519.PublicKey(x)) == nil {
			payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
			claims := map[string]any{"typ": parsed.Header.Typ}
			if err != nil || json.Unmarshal(payload, &claims) != nil {
				t.Fatal("payload")
			}
			return claims
		}
	}
	t.Fatal("no published key verifies it")
	return nil
}

func assertFor(t *testing.T, m *Manager, s *Session, audience string) string {
	t.Helper()
	token, err := m.Assertion(s, audience)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Row 77: what an assertion says, and what it does not.
func TestRow77AssertionClaims(t *testing.T) {
	m, c := manager(t)
	s, cookies := issue(t, m)
	token := assertFor(t, m, s, "records")
	claims := claimsOf(t, m, token)
	jti, sid := claims["jti"].(string), claims["sid"].(string)
	now := float64(c.now().Unix())
	want := map[string]any{
		"typ": "anteroom-assertion+jwt", "iss": "https://" + host, "aud": "records", "sub": "248289761001", "idp": "hospital", "preferred_username": "dana",
		"name": "Dana Doe", "email": "dana@example.org", "roles": []any{"doctor", "finance"}, "org": "ward-3", "acr": "urn:acr:2",
		"amr": []any{"pwd", "otp"}, "auth_time": 1893553400.0, "iat": now, "exp": now + 60, "jti": jti, "sid": sid,
	}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("%v", claims)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"sid": s.ID, "jti": s.TokenID, "context": cookies[1].Value, "confirmation": base64.RawURLEncoding.EncodeToString(s.context[:]),
	} {
		if strings.Contains(string(payload), secret) {
			t.Errorf("shows the session's %s", name)
		}
	}
	if !isID(jti) || !isID(sid) || sid != assertionID(s.ID) {
		t.Errorf("jti %s, sid %s", jti, sid)
	}
	other, _ := issue(t, m)
	if again := claimsOf(t, m, assertFor(t, m, s, "other app")); again["sid"] != sid || again["jti"] == jti || again["aud"] != "other app" {
		t.Error("one session is not one sid")
	}
	if claimsOf(t, m, assertFor(t, m, other, "records"))["sid"] == sid {
		t.Error("two sessions have one sid")
	}
	g := grant()
	g.Roles, g.AMR, g.AuthTime, g.Email = nil, nil, time.Time{}, ""
	plain, _, err := m.Issue(context.Background(), g, host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	claims = claimsOf(t, m, assertFor(t, m, plain, "records"))
	if roles, ok := claims["roles"].([]any); !ok || len(roles) != 0 || claims["auth_time"] != nil || claims["amr"] != nil || claims["email"] != nil {
		t.Errorf("%v", claims)
	}
}

// Row 77, J76: an assertion is no session and a session token no assertion, and
// neither is if the typ is forged with the other's key or kid.
func TestRow77ProfilesDoNotMix(t *testing.T) {
	m, _ := manager(t)
	s, cookies := issue(t, m)
	assertion := assertFor(t, m, s, s.Audience)
	ours, theirs := m.ring.Load().keys[0], m.keys.assertions.Load().keys[0]
	for name, token := range map[string]string{
		"assertion":                          assertion,
		"session claims by the other key":    forgeBy(t, theirs.private, theirs.kid, tokenType, s.wire()),
		"the other key under our kid":        forgeBy(t, theirs.private, ours.kid, tokenType, s.wire()),
		"assertion typ by the session key":   forgeBy(t, ours.private, ours.kid, assertionType, s.wire()),
		"session key under the other's kid":  forgeBy(t, ours.private, theirs.kid, tokenType, s.wire()),
		"both typ and key of the other ring": forgeBy(t, theirs.private, theirs.kid, assertionType, s.wire()),
	} {
		t.Run(name, func(t *testing.T) { wantNone(t, m, line(token, cookies[1].Value)) })
	}
	wantFound(t, m, lines(cookies))
	// The other direction: what an application checks refuses a session token.
	for _, token := range []string{cookies[0].Value} {
		parsed, err := jws.Parse(token)
		if err != nil || jws.TypeIs(parsed.Header.Typ, assertionType) || parsed.Verify("EdDSA", theirs.public) == nil ||
			m.keys.assertions.Load().find(parsed.Header.Kid) != nil {
			t.Errorf("a session token passes for an assertion: %v", err)
		}
	}
	parsed, err := jws.Parse(assertion)
	if err != nil || jws.TypeIs(parsed.Header.Typ, tokenType) || parsed.Verify("EdDSA", ours.public) == nil {
		t.Errorf("%v", err)
	}
}

// At most one in thirty seconds, alive for the other thirty, and never beyond the
// session's end.
func TestAssertionTimes(t *testing.T) {
	m, c := manager(t, func(c *Config) { c.Lifetimes.Default = Lifetime{Idle: 100 * time.Second} })
	s, _ := issue(t, m)
	first := assertFor(t, m, s, "app")
	pass(m, c, assertionReuse-time.Second)
	if assertFor(t, m, s, "app") != first {
		t.Error("a second one within 30 s")
	}
	pass(m, c, time.Second)
	second := assertFor(t, m, s, "app")
	if second == first {
		t.Error("the same one after 30 s")
	}
	pass(m, c, 29*time.Second)
	if assertFor(t, m, s, "app") != second {
		t.Error("a third one within 30 s")
	}
	pass(m, c, 11*time.Second) // 30 s of the session are left
	if exp := claimsOf(t, m, assertFor(t, m, s, "app"))["exp"]; exp != float64(s.Expires.Unix()) {
		t.Errorf("exp %v is not the session's end %d", exp, s.Expires.Unix())
	}
	pass(m, c, 29*time.Second)
	pass(m, c, 999*time.Millisecond)
	if exp := claimsOf(t, m, assertFor(t, m, s, "app"))["exp"]; exp != float64(s.Expires.Unix()) {
		t.Errorf("exp %v", exp)
	}
	pass(m, c, time.Millisecond)
	if token, err := m.Assertion(s, "app"); token != "" || !errors.Is(err, ErrNone) {
		t.Errorf("after its end: %v", err)
	}
	// A clock that is set back brings no assertion from the future.
	fresh, _ := issue(t, m)
	ahead := assertFor(t, m, fresh, "app")
	c.add(-2 * time.Second)
	if assertFor(t, m, fresh, "app") == ahead {
		t.Error("iat lies in the future")
	}
}

// CVE-2026-33496, CVE-2026-71326: what is remembered is for that session, that site
// and that audience, whatever texts they are, and says what is so now.
func TestAssertionIsNobodyElses(t *testing.T) {
	m, c := manager(t)
	a, cookies := issue(t, m)
	g := grant()
	g.Subject, g.Username, g.Roles = "eve", "eve", []string{"patient"}
	b, _, err := m.Issue(context.Background(), g, host, Admission{})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, _, err := m.Join(context.Background(), a, "other.example")
	if err != nil {
		t.Fatal(err)
	}
	audiences := []string{"a", "a:bc", "ab:c", "ab", "A", "a ", "a\u00a0", "app.example", "https://app.example", a.ID, b.ID, a.ID + ":a"}
	seen := make(map[string]string)
	for range 2 { // made, then remembered
		for _, s := range []*Session{a, b, elsewhere} {
			for _, audience := range audiences {
				token := assertFor(t, m, s, audience)
				claims := claimsOf(t, m, token)
				if claims["aud"] != audience || claims["sub"] != s.Subject || claims["iss"] != s.Issuer || claims["sid"] != assertionID(s.ID) {
					t.Fatalf("%q of %s: %v", audience, s.Subject, claims)
				}
				name := s.Issuer + " " + s.Subject + " " + audience
				if before, known := seen[token]; known && before != name {
					t.Fatalf("%q and %q got the same", before, name)
				}
				seen[token] = name
			}
		}
	}
	if len(seen) != 3*len(audiences) {
		t.Errorf("%d assertions", len(seen))
	}
	// The same ids with another colon in between, in one map of texts the same.
	x, y := *a, *a
	x.ID, y.ID = "a:bc", "a"
	assertFor(t, m, &x, "d")
	if claimsOf(t, m, assertFor(t, m, &y, "bc:d"))["sid"] == assertionID(x.ID) {
		t.Error("collision")
	}
	// A renewed token of the same session brings the same assertion, one that
	// says something else does not; the old one is not given out for it.
	before := assertFor(t, m, a, "app")
	pass(m, c, 20*time.Second)
	renewed := *wantFound(t, m, lines(cookies))
	renewed.TokenID, renewed.IssuedAt, renewed.Expires = newID(), second(c.now()), c.now().Add(time.Hour)
	if assertFor(t, m, &renewed, "app") != before {
		t.Error("renewing makes another one")
	}
	demoted := renewed
	demoted.Roles = []string{"patient"}
	if token := assertFor(t, m, &demoted, "app"); token == before || fmt.Sprint(claimsOf(t, m, token)["roles"]) != "[patient]" {
		t.Error("old roles are asserted")
	}
	if token := assertFor(t, m, &renewed, "app"); fmt.Sprint(claimsOf(t, m, token)["roles"]) != "[doctor finance]" {
		t.Error("new roles are asserted for the older token")
	}
}

// Nothing that a grant may say goes uncompared.
func TestAssertionComparesEveryClaim(t *testing.T) {
	base := Session{Grant: grant(), ID: newID()}
	kind := reflect.TypeFor[Grant]()
	for i := range kind.NumField() {
		other := base
		field := reflect.ValueOf(&other.Grant).Elem().Field(i)
		switch v := field.Interface().(type) {
		case string:
			field.SetString(v + "x")
		case []string:
			field.Set(reflect.ValueOf(append(slices.Clone(v), "x")))
		case time.Time:
			field.Set(reflect.ValueOf(v.Add(time.Second)))
		case bool:
			field.SetBool(!v)
		case map[string]string:
			field.Set(reflect.ValueOf(map[string]string{"x": "y"}))
		default:
			t.Fatalf("%s is of a new type", kind.Field(i).Name)
		}
		if name := kind.Field(i).Name; sameClaims(&base, &other) {
			t.Errorf("%s", name)
		}
	}
	if other := base; !sameClaims(&base, &other) {
		t.Error("equal ones differ")
	}
}

// Parallel requests of one session get one assertion.
func TestAssertionInParallel(t *testing.T) {
	m, _ := manager(t)
	s, cookies := issue(t, m)
	tokens := make([]string, 64)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			mine := s
			if i%2 == 0 {
				found, err := m.Find(lines(cookies), host)
				if err != nil {
					t.Error(err)
					return
				}
				mine = found
			}
			token, err := m.Assertion(mine, "app")
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token
		})
	}
	all.Wait()
	if slices.Sort(tokens); tokens[0] == "" || tokens[0] != tokens[len(tokens)-1] {
		t.Error("more than one was made")
	}
}

// Who gets none.
func TestAssertionRefused(t *testing.T) {
	m, _ := manager(t)
	s, _ := issue(t, m)
	for name, c := range map[string]struct {
		session  *Session
		audience string
		want     error
	}{
		"no session": {nil, "app", ErrNone}, "zero session": {&Session{}, "app", ErrNone}, "no audience": {s, "", ErrGrant},
		"long audience": {s, strings.Repeat("a", 256), ErrGrant}, "control character": {s, "a\nb", ErrGrant}, "not UTF-8": {s, "\xff", ErrGrant},
	} {
		if token, err := m.Assertion(c.session, c.audience); token != "" || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	assertFor(t, m, s, "app")
	if err := m.Revoke(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	if token, err := m.Assertion(s, "app"); token != "" || Reason(err) != "revoked" {
		t.Errorf("revoked: %v", err)
	}
	other, _ := issue(t, m)
	assertFor(t, m, other, "app")
	if _, err := m.RevokeUser(context.Background(), User{Username: other.Username}); err != nil {
		t.Fatal(err)
	}
	for _, audience := range []string{"app", "app that never asked"} {
		if token, err := m.Assertion(other, audience); token != "" || Reason(err) != "revoked" {
			t.Errorf("revoked user: %v", err)
		}
	}
	m.Close()
	if token, err := m.Assertion(other, "app"); token != "" || !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// Any number of sessions and audiences leaves memory bounded, and what is in use
// stays remembered.
func TestAssertionsAreBounded(t *testing.T) {
	m, _ := manager(t)
	m.keys.minted.init(256)
	s, _ := issue(t, m)
	kept := assertFor(t, m, s, "kept")
	for i := range 1000 {
		other := *s
		other.ID = newID()
		assertFor(t, m, &other, "app")
		assertFor(t, m, s, fmt.Sprint("app ", i))
		if i%2 == 0 && assertFor(t, m, s, "kept") != kept {
			t.Fatal("one in use was forgotten")
		}
	}
	n := 0
	for i := range m.keys.minted.shards {
		n += len(m.keys.minted.shards[i].young) + len(m.keys.minted.shards[i].old)
	}
	if n == 0 || n > 256 {
		t.Errorf("%d assertions in memory", n)
	}
}

// An authenticated request pays no allocation for its assertion.
func TestCachedAssertionAllocatesNothing(t *testing.T) {
	m, _ := manager(t)
	s, _ := issue(t, m)
	assertFor(t, m, s, "app")
	if n := testing.AllocsPerRun(200, func() {
		if _, err := m.Assertion(s, "app"); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAssertionCached(b *testing.B) {
	m, _ := manager(b)
	s, _ := issue(b, m)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Assertion(s, "app"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAssertionMade(b *testing.B) {
	m, c := manager(b)
	s, _ := issue(b, m)
	r := m.keys.assertions.Load()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.assert(s, "app", c.now()); err != nil {
			b.Fatal(err)
		}
	}
}
