package session

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func caller(c *clock, token string) Caller {
	g := grant()
	g.ProviderSession = "op"
	return Caller{
		Grant: g, ClientID: "research-app", Scopes: []string{"patient/Observation.rs", "launch/patient"}, Patient: "p-17",
		Expires: c.now().Add(10 * time.Minute), Token: sha256.Sum256([]byte(token)),
	}
}

// What an application is told about a caller with an access token: who, by which client,
// for what; no session, and nothing that could be used as one.
func TestAssertCaller(t *testing.T) {
	m, c := manager(t)
	token, err := m.AssertCaller(caller(c, "t"), host, "records")
	if err != nil {
		t.Fatal(err)
	}
	claims := claimsOf(t, m, token)
	now := float64(c.now().Unix())
	want := map[string]any{
		"typ": "anteroom-assertion+jwt", "iss": "https://" + host, "aud": "records", "sub": "248289761001", "idp": "hospital", "preferred_username": "dana",
		"name": "Dana Doe", "email": "dana@example.org", "roles": []any{"doctor", "finance"}, "org": "ward-3", "acr": "urn:acr:2",
		"amr": []any{"pwd", "otp"}, "auth_time": 1893553400.0, "iat": now, "exp": now + 60, "jti": claims["jti"],
		"client_id": "research-app", "scope": "patient/Observation.rs launch/patient", "patient": "p-17",
	}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("%v", claims)
	}
	wantNone(t, m, line(token, strings.Repeat("A", 43)))
	again, err := m.AssertCaller(caller(c, "t"), host, "records")
	if err != nil || again != token {
		t.Error("made twice")
	}
	bare, err := m.AssertCaller(Caller{Grant: Grant{Source: "s", Subject: "client"}, Expires: c.now().Add(time.Second)}, host, "records")
	if err != nil {
		t.Fatal(err)
	}
	claims = claimsOf(t, m, bare)
	for _, name := range []string{"sid", "client_id", "scope", "patient", "preferred_username"} {
		if _, there := claims[name]; there {
			t.Errorf("%s is there", name)
		}
	}
	if claims["exp"] != now+1 {
		t.Errorf("it outlives the token: %v", claims["exp"])
	}
}

// An assertion is another one as soon as anything in it is: no caller gets another's.
func TestAssertCallerReuse(t *testing.T) {
	m, c := manager(t)
	first := caller(c, "t")
	made := map[string]string{}
	add := func(what string, c Caller, host, audience string) {
		t.Helper()
		token, err := m.AssertCaller(c, host, audience)
		if err != nil {
			t.Fatal(err)
		}
		if other, there := made[token]; there {
			t.Errorf("%s has that of %s", what, other)
		}
		made[token] = what
	}
	add("first", first, host, "records")
	for what, change := range map[string]func(*Caller){
		"token":    func(c *Caller) { c.Token[31]++ },
		"client":   func(c *Caller) { c.ClientID = "x" },
		"scopes":   func(c *Caller) { c.Scopes = []string{"patient/Observation.rs"} },
		"joined":   func(c *Caller) { c.Scopes = []string{"patient/Observation.rslaunch/patient"} },
		"patient":  func(c *Caller) { c.Patient = "p-18" },
		"subject":  func(c *Caller) { c.Subject = "2" },
		"source":   func(c *Caller) { c.Source = "clinic" },
		"username": func(c *Caller) { c.Username = "doe" },
		"roles":    func(c *Caller) { c.Roles = []string{"doctor"} },
		"acr":      func(c *Caller) { c.ACR = "" },
		"expires":  func(c *Caller) { c.Expires = c.Expires.Add(-9*time.Minute - 30*time.Second) },
	} {
		other := first
		change(&other)
		again, err := m.AssertCaller(first, host, "records") // the one in memory then
		if err != nil {
			t.Fatal(err)
		}
		made[again] = "first, again"
		add(what, other, host, "records")
	}
	add("host", first, "other.example", "records")
	add("audience", first, host, "lab")
	s, _ := issue(t, m)
	made[assertFor(t, m, s, "records")] = "a session"
	c.add(29 * time.Second)
	// What the caller does to its slices afterwards changes nothing.
	first.Scopes = []string{"a"}
	token, err := m.AssertCaller(first, host, "records")
	first.Scopes[0] = "b"
	changed, err2 := m.AssertCaller(first, host, "records")
	if err != nil || err2 != nil || token == changed {
		t.Errorf("%v, %v", err, err2)
	}
	m.follow()
	c.add(30 * time.Second)
	if again, err := m.AssertCaller(first, host, "records"); err != nil || again == changed {
		t.Errorf("older than 30 s: %v", err)
	}
}

func TestAssertCallerRefuses(t *testing.T) {
	m, c := manager(t)
	for name, change := range map[string]func(*Caller){
		"no source":          func(c *Caller) { c.Source = "" },
		"no subject":         func(c *Caller) { c.Subject = "" },
		"control character":  func(c *Caller) { c.Name = "a\nb" },
		"role with a comma":  func(c *Caller) { c.Roles = []string{"a,b"} },
		"two scopes in one":  func(c *Caller) { c.Scopes = []string{"a b"} },
		"quoted scope":       func(c *Caller) { c.Scopes = []string{`a"`} },
		"backslash":          func(c *Caller) { c.Scopes = []string{`a\`} },
		"no scope":           func(c *Caller) { c.Scopes = []string{""} },
		"scope beyond ASCII": func(c *Caller) { c.Scopes = []string{"é"} },
		"client":             func(c *Caller) { c.ClientID = "a\x00" },
		"long client":        func(c *Caller) { c.ClientID = strings.Repeat("c", 256) },
		"patient":            func(c *Caller) { c.Patient = "\u2028" },
		"long patient":       func(c *Caller) { c.Patient = strings.Repeat("p", 256) },
	} {
		bad := caller(c, name)
		change(&bad)
		if token, err := m.AssertCaller(bad, host, "records"); token != "" || !errors.Is(err, ErrGrant) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, to := range [][2]string{{"", "records"}, {"a/b", "records"}, {host, ""}, {host, "a\n"}, {host, strings.Repeat("a", 256)}} {
		if token, err := m.AssertCaller(caller(c, "t"), to[0], to[1]); token != "" || !errors.Is(err, ErrGrant) {
			t.Errorf("%q: %v", to, err)
		}
	}
	for _, expires := range []time.Time{{}, c.now(), c.now().Add(-time.Second), c.now().Add(500 * time.Millisecond)} {
		over := caller(c, "t")
		over.Expires = expires
		if token, err := m.AssertCaller(over, host, "records"); token != "" || !errors.Is(err, ErrNone) {
			t.Errorf("%v: %v", expires, err)
		}
	}
	big := caller(c, "big")
	big.Scopes = []string{strings.Repeat("s", 20000)}
	if token, err := m.AssertCaller(big, host, "records"); token != "" || !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	// J74: the key that made it is killed: another one does.
	before, err := m.AssertCaller(caller(c, "t"), host, "records")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range m.Keys() {
		if k.Use == "assertion" && k.State == KeySigning {
			if err := m.KillKey(t.Context(), k.KID); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after, err := m.AssertCaller(caller(c, "t"), host, "records"); err != nil || after == before {
		t.Errorf("%v", err)
	}
	m.Close()
	if _, err := m.AssertCaller(caller(c, "t"), host, "records"); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestAssertCallerCachedDoesNotAllocate(t *testing.T) {
	m, c := manager(t)
	who := caller(c, "t")
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.AssertCaller(who, host, "records"); err != nil {
			t.Fatal(err)
		}
	}); n > 4 {
		t.Errorf("%v allocations", n)
	}
}
