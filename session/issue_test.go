package session

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

func TestIssueRefuses(t *testing.T) {
	m, _ := manager(t)
	for name, c := range map[string]struct {
		change func(*Grant)
		host   string
		want   error
	}{
		"as it is":              {func(*Grant) {}, host, nil},
		"empty source":          {func(g *Grant) { g.Source = "" }, host, ErrGrant},
		"empty subject":         {func(g *Grant) { g.Subject = "" }, host, ErrGrant},
		"long subject":          {func(g *Grant) { g.Subject = strings.Repeat("s", 256) }, host, ErrGrant},
		"longest subject":       {func(g *Grant) { g.Subject = strings.Repeat("s", 255) }, host, nil},
		"newline in name":       {func(g *Grant) { g.Name = "a\nb" }, host, ErrGrant},
		"NUL in username":       {func(g *Grant) { g.Username = "a\x00" }, host, ErrGrant},
		"C1 control in email":   {func(g *Grant) { g.Email = "a\u0085" }, host, ErrGrant},
		"line separator":        {func(g *Grant) { g.Org = "a\u2028" }, host, ErrGrant},
		"invalid UTF-8":         {func(g *Grant) { g.Name = "\xff" }, host, ErrGrant},
		"comma in role":         {func(g *Grant) { g.Roles = []string{"a,b"} }, host, ErrGrant},
		"empty role":            {func(g *Grant) { g.Roles = []string{""} }, host, ErrGrant},
		"long role":             {func(g *Grant) { g.Roles = []string{strings.Repeat("r", 65)} }, host, ErrGrant},
		"DEL in amr":            {func(g *Grant) { g.AMR = []string{"a\x7f"} }, host, ErrGrant},
		"auth_time before 1970": {func(g *Grant) { g.AuthTime = time.Unix(-5, 0) }, host, ErrGrant},
		"no auth_time, roles":   {func(g *Grant) { *g = Grant{Source: "s", Subject: "x"} }, host, nil},
		"empty host":            {func(*Grant) {}, "", ErrGrant},
		"port alone":            {func(*Grant) {}, ":443", ErrGrant},
		"host with a slash":     {func(*Grant) {}, "a/b", ErrGrant},
		"host with userinfo":    {func(*Grant) {}, "u@app.example", ErrGrant},
		"host with bad port":    {func(*Grant) {}, "app.example:80x", ErrGrant},
		"IPv6 host":             {func(*Grant) {}, "[::1]:8443", nil},
		"bad IPv6 host":         {func(*Grant) {}, "[::1%eth0]:8443", ErrGrant},
		"upper-case host":       {func(*Grant) {}, "APP.Example", nil},
		"K13 row 92 too large":  {func(g *Grant) { g.Name = strings.Repeat("n", 4000) }, host, ErrTooLarge},
		"many roles":            {func(g *Grant) { g.Roles = manyRoles(200) }, host, ErrTooLarge},
		"huge":                  {func(g *Grant) { g.Name = strings.Repeat("n", 1<<20) }, host, ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			g := grant()
			c.change(&g)
			s, cookies, err := m.Issue(context.Background(), g, c.host, Admission{})
			if !errors.Is(err, c.want) || (s == nil) != (c.want != nil) || (cookies == nil) != (c.want != nil) {
				t.Fatalf("%v, %v; want %v", s, err, c.want)
			}
			if err != nil {
				return
			}
			if found, err := m.Find(lines(cookies), c.host); err != nil || !reflect.DeepEqual(found, withLists(s)) {
				t.Errorf("issued %+v\nfound  %+v %v", s, found, err)
			}
		})
	}
	// The boundary is exact.
	fits := 0
	for n := 2300; n < 3000; n++ {
		g := grant()
		g.Name = strings.Repeat("n", n)
		_, cookies, err := m.Issue(context.Background(), g, host, Admission{})
		if err != nil {
			break
		}
		fits = len(CookieToken) + len(cookies[0].Value)
	}
	if fits < 4094 || fits > 4096 {
		t.Errorf("the largest cookie has %d bytes", fits)
	}
}

// withLists is s as it comes back: an absent list of roles is an empty one.
func withLists(s *Session) *Session {
	c := *s
	if c.Roles == nil {
		c.Roles = []string{}
	}
	return &c
}

func manyRoles(n int) []string {
	roles := make([]string, n)
	for i := range roles {
		roles[i] = strings.Repeat("r", 20)
	}
	return roles
}

// Row 85, 86: nothing of an earlier session returns, and ids do not repeat.
func TestFreshIDs(t *testing.T) {
	m, _ := manager(t)
	seen := map[string]bool{}
	for range 200 {
		s, cookies := issue(t, m)
		for _, v := range []string{s.ID, s.TokenID, cookies[1].Value, string(s.context[:])} {
			if seen[v] {
				t.Fatalf("%q twice", v)
			}
			seen[v] = true
		}
	}
}

// Row 77: what the token says.
func TestTokenClaims(t *testing.T) {
	m, c := manager(t)
	s, cookies := issue(t, m)
	token, err := jws.Parse(cookies[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	if token.Header != (jws.Header{Alg: "EdDSA", Kid: m.ring.Load().signer(m.now()).kid, Typ: "anteroom+jwt"}) {
		t.Errorf("header %+v", token.Header)
	}
	want := `{"iss":"https://app.example:8443","aud":"app.example","sub":"248289761001","idp":"hospital","preferred_username":"dana",` +
		`"name":"Dana Doe","email":"dana@example.org","roles":["doctor","finance"],"org":"ward-3","acr":"urn:acr:2","amr":["pwd","otp"],` +
		`"auth_time":1893553400,"iat":1893553445,"exp":1893554345,"jti":"` + s.TokenID + `","sid":"` + s.ID + `","start":1893553445,` +
		`"cnf":{"ctx#S256":"` + s.wire().Confirm.Context + `"}}`
	if string(token.Payload) != want || c.now().Unix() != 1893553445 {
		t.Errorf("%s", token.Payload)
	}
	if len(cookies[0].Value) > 1200 {
		t.Errorf("token of %d bytes", len(cookies[0].Value))
	}
}

func TestRenew(t *testing.T) {
	m, c := manager(t)
	s, cookies := issue(t, m)
	again := func(s *Session, cookieLines []string) (*http.Cookie, *Session) {
		t.Helper()
		cookie, next, err := renew(m, s, cookieLines, "app.example")
		if err != nil {
			t.Fatal(err)
		}
		return cookie, next
	}
	pass(m, c, 59*time.Second)
	if cookie, next := again(s, lines(cookies)); cookie != nil || next != nil {
		t.Error("renewed after 59 s")
	}
	pass(m, c, time.Second)
	cookie, next := again(s, lines(cookies))
	if cookie == nil || next == nil {
		t.Fatal("not renewed after 60 s")
	}
	if next.ID != s.ID || next.context != s.context || next.TokenID == s.TokenID || !next.Started.Equal(s.Started) || !next.Ends.Equal(s.Ends) ||
		!next.Expires.Equal(c.now().Add(15*time.Minute)) || !reflect.DeepEqual(next.Grant, s.Grant) || next.Issuer != "https://app.example" {
		t.Errorf("%+v", next)
	}
	if cookie.String() != CookieToken+"="+cookie.Value+"; Path=/; HttpOnly; Secure; SameSite=Lax" {
		t.Errorf("%s", cookie)
	}
	if found := wantFound(t, m, line(cookie.Value, cookies[1].Value)); !reflect.DeepEqual(found, next) {
		t.Errorf("renewed %+v\nfound   %+v", next, found)
	}
	wantFound(t, m, lines(cookies)) // the old one until its own end
	pass(m, c, 14*time.Minute)
	wantNone(t, m, lines(cookies))
	wantFound(t, m, line(cookie.Value, cookies[1].Value))
	if _, _, err := renew(m, s, lines(cookies), host); !errors.Is(err, ErrNone) {
		t.Errorf("renewing with an expired token: %v", err)
	}
	if err := m.Revoke(context.Background(), s.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := renew(m, next, line(cookie.Value, cookies[1].Value), host); !errors.Is(err, ErrNone) {
		t.Errorf("renewing a revoked session: %v", err)
	}
}

func TestRenewNeedsTheRightCookies(t *testing.T) {
	m, c := manager(t)
	s, cookies := issue(t, m)
	_, others := issue(t, m)
	pass(m, c, 2*time.Minute)
	for name, cookieLines := range map[string][]string{
		"none": nil, "token alone": {CookieToken + "=" + cookies[0].Value}, "mixed": line(cookies[0].Value, others[1].Value), "another session": lines(others),
	} {
		if cookie, next, err := renew(m, s, cookieLines, host); cookie != nil || next != nil || !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := renew(m, s, lines(cookies), "other.example"); !errors.Is(err, ErrNone) {
		t.Errorf("another site: %v", err)
	}
	if _, _, err := renew(m, nil, lines(cookies), host); err != nil {
		t.Errorf("no session: %v", err)
	}
}

// Row 87: steady use ends at the absolute end, to the second.
func TestAbsoluteEnd(t *testing.T) {
	m, c := manager(t, func(c *Config) {
		c.Lifetimes.Default.Idle, c.Lifetimes.Default.Absolute = 10*time.Minute, time.Hour+30*time.Second
	})
	s, cookies := issue(t, m)
	now := lines(cookies)
	for c.now().Before(s.Ends) {
		current := wantFound(t, m, now)
		if current.Expires.After(s.Ends) || !current.Ends.Equal(s.Ends) {
			t.Fatalf("expires %v, ends %v", current.Expires, current.Ends)
		}
		cookie, _, err := renew(m, current, now, host)
		if err != nil {
			t.Fatal(err)
		}
		if cookie != nil {
			now = line(cookie.Value, cookies[1].Value)
			if current.Expires.Equal(s.Ends) {
				t.Fatal("renewed although nothing was to be gained")
			}
		}
		pass(m, c, 30*time.Second)
	}
	wantNone(t, m, now)
}

func TestIdleEnd(t *testing.T) {
	m, c := manager(t)
	_, cookies := issue(t, m)
	pass(m, c, 15*time.Minute-time.Nanosecond)
	wantFound(t, m, lines(cookies))
	pass(m, c, time.Nanosecond)
	wantNone(t, m, lines(cookies))
	pass(m, c, -10*time.Minute) // a clock that is set back does not matter to the cache
	wantFound(t, m, lines(cookies))
	pass(m, c, -6*time.Minute) // issued by a clock that is a minute ahead
	wantFound(t, m, lines(cookies))
	pass(m, c, -time.Second)
	wantNone(t, m, lines(cookies))
}

// S9: twenty tabs renew at once: one new token, nobody is signed out.
func TestS9ParallelRenewals(t *testing.T) {
	m, c := manager(t)
	s, cookies := issue(t, m)
	pass(m, c, 2*time.Minute)
	tokens := make([]string, 20)
	var all sync.WaitGroup
	for i := range tokens {
		all.Go(func() {
			cookie, next, err := renew(m, s, lines(cookies), host)
			if err != nil || cookie == nil {
				t.Errorf("%v, %v", cookie, err)
				return
			}
			tokens[i] = cookie.Value
			if found, err := m.Find(line(cookie.Value, cookies[1].Value), host); err != nil || found.TokenID != next.TokenID {
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	for _, token := range tokens {
		if token != tokens[0] {
			t.Fatal("two tokens from one rotation")
		}
	}
	wantFound(t, m, lines(cookies))
	// A late tab with the old token gets the same one, until it is due itself.
	pass(m, c, 30*time.Second)
	cookie, _, err := renew(m, s, lines(cookies), host)
	if err != nil || cookie.Value != tokens[0] {
		t.Errorf("another token, %v", err)
	}
	pass(m, c, 30*time.Second)
	cookie, _, err = renew(m, s, lines(cookies), host)
	if err != nil || cookie.Value == tokens[0] {
		t.Errorf("the same token, %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	sealer, s := openSealer(t, dir), openStore(t, dir, nil)
	for name, c := range map[string]Config{
		"nothing":         {},
		"no sealer":       {Store: s},
		"no store":        {Sealer: sealer},
		"negative idle":   {Store: s, Sealer: sealer, Lifetimes: Lifetimes{Default: Lifetime{Idle: -time.Second}}},
		"tiny idle":       {Store: s, Sealer: sealer, Lifetimes: Lifetimes{Default: Lifetime{Idle: time.Millisecond}}},
		"fraction":        {Store: s, Sealer: sealer, Lifetimes: Lifetimes{Default: Lifetime{Idle: 1500 * time.Millisecond}}},
		"absolute < idle": {Store: s, Sealer: sealer, Lifetimes: Lifetimes{Default: Lifetime{Idle: time.Hour, Absolute: time.Minute}}},
		"negative":        {Store: s, Sealer: sealer, Lifetimes: Lifetimes{Default: Lifetime{Absolute: -time.Hour}}},
		"a year":          {Store: s, Sealer: sealer, Lifetimes: Lifetimes{Default: Lifetime{Absolute: 365 * 24 * time.Hour}}},
	} {
		if m, err := New(c); m != nil || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	sealer, s := openSealer(t, dir), openStore(t, dir, nil)
	m, err := New(Config{Store: s, Sealer: sealer})
	if err != nil {
		t.Fatal(err)
	}
	closed := func(when string, cookieLines []string, sid string) {
		t.Helper()
		if _, _, err := m.Issue(context.Background(), grant(), host, Admission{}); !errors.Is(err, ErrClosed) {
			t.Errorf("%s, Issue: %v", when, err)
		}
		wantError(t, m, cookieLines, host, ErrClosed)
		wantNone(t, m, nil)
		if err := m.Revoke(context.Background(), sid); !errors.Is(err, ErrClosed) {
			t.Errorf("%s, Revoke: %v", when, err)
		}
		told := make(chan error, 1)
		m.Watch(sid, 0, func(err error) { told <- err })()
		if err := <-told; !errors.Is(err, ErrClosed) {
			t.Errorf("%s, Watch: %v", when, err)
		}
	}
	closed("before Start", line("x", strings.Repeat("A", 43)), newID())
	if string(m.JWKS()) != `{"keys":[]}` {
		t.Errorf("%s", m.JWKS())
	}
	if err := m.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(context.Background()); err == nil {
		t.Error("started twice")
	}
	session, cookies := issue(t, m)
	told := make(chan error, 1)
	defer m.Watch(session.ID, 0, func(err error) { told <- err })()
	m.Close()
	m.Close()
	if err := <-told; !errors.Is(err, ErrClosed) {
		t.Errorf("watcher: %v", err)
	}
	closed("after Close", lines(cookies), session.ID)
	if err := m.Start(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
}
