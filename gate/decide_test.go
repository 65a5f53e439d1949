package gate

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anteroom-proxy/anteroom/policy"
	"github.com/anteroom-proxy/anteroom/session"
)

// newPolicy compiles lines with what a site's config knows besides.
func newPolicy(t testing.TB, c policy.Config, texts ...string) *policy.Policy {
	t.Helper()
	for i, text := range texts {
		c.Lines = append(c.Lines, policy.Line{Words: strings.Fields(text), At: fmt.Sprintf("Caddyfile:%d", i+1)})
	}
	p, err := policy.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What a rule can ask for reaches the policy: address, time, host, groups, organisation, source, device, claims. What is not known
// meets nothing.
func TestPolicyInputs(t *testing.T) {
	r := newRig(t)
	ask := func(line string, g session.Grant, addr, host string) int {
		g.Username = "dana"
		asked := 0
		gate := mustNew(t, Config{
			Policy:   newPolicy(t, policy.Config{Networks: map[string][]netip.Prefix{"ward": {netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("2001:db8::/32")}}}, line),
			Sessions: r.sessions, Audit: r.audit, Now: r.clock.now, ClientAddr: func(*http.Request) string { asked++; return addr },
		})
		who := r.signIn(g)
		w := direct(gate, "GET", "/lab/x", func(q *http.Request) {
			q.Header.Set("Cookie", who.cookie)
			q.Host = host
		}, nil)
		if asked > 1 && addr != "" {
			t.Errorf("%s: the address was asked for %d times", line, asked)
		}
		return w.Code
	}
	nobody := session.Grant{}
	for _, c := range []struct {
		line       string
		g          session.Grant
		addr, host string
		want       int
	}{
		{"allow any /lab/** network ward", nobody, "10.1.2.3", site, 200},
		{"allow any /lab/** network ward", nobody, "::ffff:10.1.2.3", site, 200},
		{"allow any /lab/** network ward", nobody, "2001:db8::1", site, 200},
		{"allow any /lab/** network fe80::/10", nobody, "fe80::1%eth0", site, 200},
		{"allow any /lab/** network ward", nobody, "10.2.2.3", site, 403},
		{"allow any /lab/** network ward", nobody, "", site, 403},
		{"allow any /lab/** network ward", nobody, "10.1.2.3:80", site, 403},
		{"allow any /lab/** network ward", nobody, "10.1.2.3, 1.1.1.1", site, 403},
		{"allow any /lab/** network ward", nobody, "@", site, 403},
		{"allow any /lab/** hours 00:00-23:00 UTC", nobody, "", site, 200}, // it is 03:04
		{"allow any /lab/** hours 04:00-23:00 UTC", nobody, "", site, 403},
		{"allow group icu /lab/**", session.Grant{Groups: []string{"icu"}}, "", site, 200},
		{"allow group icu /lab/**", session.Grant{Roles: []string{"icu"}}, "", site, 403},
		{"allow org kl /lab/**", session.Grant{Org: "kl"}, "", site, 200},
		{"allow org kl /lab/**", nobody, "", site, 403},
		{"allow idp test /lab/**", nobody, "", site, 200},
		{"allow idp other /lab/**", nobody, "", site, 403},
		{"allow device known /lab/**", session.Grant{Device: true}, "", site, 200},
		{"allow device known /lab/**", nobody, "", site, 403},
		{"allow any /lab/{claim.case}", session.Grant{Claims: map[string]string{"case": "x"}}, "", site, 200},
		{"allow any /lab/{claim.case}", nobody, "", site, 403},
	} {
		if got := ask(c.line, c.g, c.addr, c.host); got != c.want {
			t.Errorf("%s, from %q, %+v: %d, want %d", c.line, c.addr, c.g, got, c.want)
		}
	}
}

// The address is not asked for where no rule wants it and nothing is recorded.
func TestAddressOnlyWhereNeeded(t *testing.T) {
	r := newRig(t)
	gate := mustNew(t, Config{Policy: compile(t, rules...), Sessions: r.sessions, Audit: r.audit, ClientAddr: func(*http.Request) string { t.Error("asked"); return "" }})
	if w := direct(gate, "GET", "/public/x", nil, nil); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
}

// What is missing goes to the page and the log, in codes that map no rules; to a stranger nothing.
func TestMissing(t *testing.T) {
	var shown []Outcome
	r := newRig(t, func(c *Config) {
		c.Policy = newPolicy(t, policy.Config{Networks: map[string][]netip.Prefix{"ward": {netip.MustParsePrefix("10.1.0.0/16")}}},
			"allow role doctor /lab/** network ward", "allow role root /cellar/**")
		c.Deny = func(w http.ResponseWriter, _ *http.Request, o Outcome) {
			shown = append(shown, o)
			w.WriteHeader(o.Status)
		}
	})
	dana := r.dana()
	for target, c := range map[string]struct {
		missing      policy.Missing
		text, reason string
	}{
		"/lab/x": {policy.MissingNetwork, "network", policy.ReasonCondition}, "/cellar/x": {policy.MissingRole, "role", policy.ReasonNoRule}, "/nothing": {policy.MissingRole, "role", policy.ReasonNoRule}, // as where others are allowed
	} {
		shown = nil
		w := direct(r.gate, "GET", target, func(q *http.Request) { q.Header.Set("Cookie", dana.cookie); q.Header.Set("Accept", "text/html") }, nil)
		e := r.audit.take()[0]
		if w.Code != 403 || len(shown) != 1 || shown[0].Missing != c.missing || e.Missing != c.text || shown[0].Reason != e.Reason || e.Reason != c.reason {
			t.Errorf("%s: %d %+v %+v", target, w.Code, shown, e)
		}
		w = direct(r.gate, "GET", target, nil, nil)
		if e := r.audit.take()[0]; w.Code != 401 || e.Missing != "" || e.Reason != policy.ReasonNoSession {
			t.Errorf("%s as nobody: %d %+v", target, w.Code, e)
		}
	}
	if got := missingText(policy.MissingRole | policy.MissingHours | policy.MissingLevel | policy.MissingDevice | policy.MissingOther); got != "role,hours,level,device,other" {
		t.Errorf("%q", got)
	}
}

// A shadow rule decides nothing and is recorded where it would have decided otherwise.
func TestShadow(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Policy = compile(t, append(slices.Clone(rules), "shadow allow role doctor /trial/**", "shadow deny any /members/old/**", "shadow deny public /public/old/**", "shadow require acr mfa /members/strong/**")...)
	})
	dana := r.dana()
	for _, c := range []struct {
		target, shadow string
		who            *person
		want           int
	}{
		{"/trial/x", "would allow: shadow allow role doctor /trial/** (Caddyfile:5)", dana, 403},
		{"/members/old/x", "would deny: shadow deny any /members/old/** (Caddyfile:6)", dana, 200},
		{"/members/strong/x", "would step_up: shadow require acr mfa /members/strong/** (Caddyfile:8)", dana, 200},
		{"/members/x", "", dana, 200},
		{"/admin/x", "", dana, 403},
		{"/trial/x", "", nil, 401},
		{"/public/old/x", "would deny: shadow deny public /public/old/** (Caddyfile:7)", dana, 200},
		{"/public/old/x", "would deny: shadow deny public /public/old/** (Caddyfile:7)", nil, 200},
	} {
		w := direct(r.gate, "GET", c.target, func(q *http.Request) {
			if c.who != nil {
				q.Header.Set("Cookie", c.who.cookie)
			}
		}, nil)
		events := r.audit.take()
		if w.Code != c.want || len(events) != 1 || events[0].Shadow != c.shadow {
			t.Errorf("%s: %d %+v", c.target, w.Code, events)
		}
	}
	if direct(r.gate, "GET", "/public/x", nil, nil); len(r.audit.take()) != 0 {
		t.Error("a public path without a difference was recorded")
	}
	for range floodAfter + 10 { // a stranger fills no disk
		direct(r.gate, "GET", "/public/old/x", nil, nil)
	}
	if n := len(r.audit.take()); n > floodAfter {
		t.Errorf("%d records", n)
	}
}

// Shadow rules are given the time and the address also where no other rule wants them.
func TestShadowInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is midnight
		sessions, _ := newSessions(t, time.Now)
		rec := &recorder{}
		g := mustNew(t, Config{
			Policy:   newPolicy(t, policy.Config{}, "allow any /x/**", "shadow deny any /x/net/** network 192.0.2.0/24", "shadow allow any /y/** hours 00:00-06:00 UTC"),
			Sessions: sessions, Audit: rec,
		})
		r := &rig{t: t, sessions: sessions}
		dana := r.dana()
		for target, want := range map[string]string{"/x/net/1": "would deny", "/y/1": "would allow"} {
			direct(g, "GET", target, func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, nil)
			if e := rec.take()[0]; !strings.HasPrefix(e.Shadow, want) {
				t.Errorf("%s: %+v", target, e)
			}
		}
	})
}

// Invariant 3 with the exceptions of a site: what goes on is what was judged, byte for byte, and every other way to read it was
// judged as well.
func TestPathExceptions(t *testing.T) {
	lines := []string{"allow public /public/**", "allow role admin /admin/**", "allow role doctor /repos/** /one/*"}
	all := policy.Exceptions{EncodedSlash: true, Semicolon: true, EncodedPercent: true, TrailingDot: true}
	open := newRig(t, func(c *Config) { c.Policy = newPolicy(t, policy.Config{Exceptions: all}, lines...) })
	shut := newRig(t, func(c *Config) { c.Policy = newPolicy(t, policy.Config{}, lines...) })
	dana := open.dana()
	danaOfShut := shut.dana()
	for _, target := range []string{"/repos/group%2Fname", "/repos/group%2fname/x", "/repos/x;v=1", "/repos/50%25", "/repos/50%25/a", "/repos/Smith%20Jr."} {
		if _, got := open.attack(t, row{raw: request("GET", target, dana), target: target, who: dana, want: []int{200}}); len(got) != 1 {
			t.Errorf("%s: %d requests", target, len(got))
		}
		shut.attack(t, row{raw: request("GET", target, danaOfShut), who: danaOfShut, want: []int{400}})
	}
	for target, want := range map[string]int{
		"/one/a%2Fb": 403, "/one/a;b": 200, // the first can be read as two segments
		"/public%2F..%2Fadmin/x": 400, "/public/..%2fadmin": 400, "/public/..;/admin/x": 400, "/public;/../admin": 400, "/public/%252e%252e/admin": 400, "/public/..%252fadmin": 400,
		"/public/%2e%2e;x/admin": 400, "/repos/%5c..": 400, "/repos/x%00": 400, "/repos//x": 400,
		"/admin;x/y": 403, "/admin%2Fx": 403, "/public/x;/../../admin": 400, "/admin./x": 403,
		"/.anteroom%2Flogin": 400, "/.anteroom;x/login": 400, "/.anteroom/login;x": 400, "/.anteroom/login%2Fx": 400, "/.anteroom./login": 400, "/.anteroom/login.": 400, "/.anteroom%252Flogin": 400,
		"/.%61nteroom/login": 400, "/.%2561nteroom/login": 400, "/x;/../.anteroom/login": 400,
	} {
		a := row{raw: request("GET", target, dana), who: dana, want: []int{want}}
		if want == 200 {
			a.target = target
		}
		t.Run(target, func(t *testing.T) { open.attack(t, a) })
	}
	// Path and RawPath of a URL say the same, or the request ends.
	for name, change := range map[string]func(*http.Request){
		"raw path gone":     func(q *http.Request) { q.URL.RawPath = "" },
		"raw path of other": func(q *http.Request) { q.URL.RawPath = "/repos/x" },
		"other escapes":     func(q *http.Request) { q.URL.RawPath = "/repos/a%252Fb" },
	} {
		w := direct(open.gate, "GET", "/repos/a%2Fb", func(q *http.Request) {
			q.Header.Set("Cookie", dana.cookie)
			change(q)
		}, nil)
		if w.Code != 400 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	w := direct(open.gate, "GET", "/repos/ab", func(q *http.Request) {
		q.Header.Set("Cookie", dana.cookie)
		q.URL.RawPath = "/repos/%zz" // EscapedPath passes over it
	}, never(t))
	if w.Code != 400 {
		t.Errorf("a raw path that is none: %d", w.Code)
	}
}

// The path in the log is a shape: literals of the rules, and nothing of a person's.
func TestPathShape(t *testing.T) {
	r := newRig(t)
	dana := r.dana()
	for target, want := range map[string]string{"/members/4711/anna?x=y": "/members/*/*", "/own/dana/x": "/own/{user}/*", "/own/root/x": "/own/*/*", "/admin/x": "/admin/*", "/secret-name": "/*"} {
		direct(r.gate, "GET", target, func(q *http.Request) { q.Header.Set("Cookie", dana.cookie) }, nil)
		if e := r.audit.take()[0]; e.Path != want {
			t.Errorf("%s: %q", target, e.Path)
		}
		direct(r.gate, "GET", target, nil, nil)
		if e := r.audit.take()[0]; strings.Contains(e.Path, "anna") || strings.Contains(e.Path, "dana") || strings.Contains(e.Path, "secret") {
			t.Errorf("%s as nobody: %q", target, e.Path)
		}
	}
	direct(r.gate, "GET", "/a%2fb", nil, nil)
	if e := r.audit.take()[0]; e.Path != "" {
		t.Errorf("a path that was refused: %q", e.Path)
	}
	who := r.signIn(session.Grant{Username: "kim", Roles: []string{"doctor"}, ACR: "mfa", AMR: []string{"pwd", "otp"}})
	direct(r.gate, "GET", "/members/x", func(q *http.Request) { q.Header.Set("Cookie", who.cookie) }, nil)
	if e := r.audit.take()[0]; e.ACR != "mfa" || strings.Join(e.AMR, " ") != "pwd otp" {
		t.Errorf("%+v", e)
	}
}
