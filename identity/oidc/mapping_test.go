package oidc

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

func parse(t *testing.T, text string) claimSet {
	t.Helper()
	var c jws.Claims
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return claimSet{Claims: c}
}

func TestRoles(t *testing.T) {
	roles := map[string][]string{
		"grp-physicians": {"doctor"}, "grp-chiefs": {"doctor", "chief"}, "grp-patients": {"patient"}, "": {"empty"},
	}
	for _, c := range []struct {
		name, claim, token, userinfo string
		want                         []string
		reason                       string
	}{
		{"a list", "groups", `{"groups":["grp-physicians","other"]}`, `{}`, []string{"doctor"}, ""},
		{"a string", "groups", `{"groups":"grp-patients"}`, `{}`, []string{"patient"}, ""},
		{"a string is one value", "groups", `{"groups":"grp-patients grp-physicians"}`, `{}`, nil, ""},
		{"sorted, none twice", "groups", `{"groups":["grp-physicians","grp-chiefs"]}`, `{}`, []string{"chief", "doctor"}, ""},
		{"an empty list", "groups", `{"groups":[]}`, `{"groups":["grp-physicians"]}`, nil, ""},
		{"absent", "groups", `{}`, `{}`, nil, ""},
		{"null is absent", "groups", `{"groups":null}`, `{"groups":["grp-physicians"]}`, []string{"doctor"}, ""},
		{"from userinfo", "groups", `{}`, `{"groups":["grp-patients"]}`, []string{"patient"}, ""},
		{"ID token goes first", "groups", `{"groups":["grp-patients"]}`, `{"groups":["grp-physicians"]}`, []string{"patient"}, ""},
		{"in another case", "groups", `{"Groups":["grp-patients"],"groups":["GRP-PHYSICIANS"]}`, `{}`, nil, ""},
		{"a path", "realm_access.roles", `{"realm_access":{"roles":["grp-patients"]}}`, `{}`, []string{"patient"}, ""},
		{"a long path", "a.b.c", `{"a":{"b":{"c":"grp-patients"}}}`, `{}`, []string{"patient"}, ""},
		{"a name that is a URL", "https://h.example/roles", `{"https://h.example/roles":["grp-patients"]}`, `{}`, []string{"patient"}, ""},
		{"the whole name goes first", "a.b", `{"a.b":"grp-patients","a":{"b":"grp-physicians"}}`, `{}`, []string{"patient"}, ""},
		{"a path through a list", "a.b", `{"a":[{"b":"grp-patients"}]}`, `{}`, nil, ""},
		{"a path through a string", "a.b", `{"a":"grp-patients"}`, `{}`, nil, ""},
		{"an object", "groups", `{"groups":{"grp-patients":true}}`, `{}`, nil, "roles.type"},
		{"a number in the list", "groups", `{"groups":["grp-patients",5]}`, `{}`, nil, "roles.type"},
		{"wrong in userinfo", "groups", `{}`, `{"groups":5}`, nil, "roles.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Config{Claims: Claims{Roles: c.claim, RoleNames: roles}}.mapping()
			token := parse(t, c.token)
			token.Claims["preferred_username"] = json.RawMessage(`"u"`)
			i, err := m.apply([]claimSet{token, parse(t, c.userinfo)})
			if identity.Reason(err) != c.reason || !slices.Equal(i.Roles, c.want) {
				t.Fatalf("got %v, %v; want %v, %s", i.Roles, err, c.want, c.reason)
			}
		})
	}
}

func TestUsername(t *testing.T) {
	for _, c := range []struct {
		name, claim, prefix, token, userinfo string
		want, reason                         string
	}{
		{"default", "", "", `{"preferred_username":"jo"}`, `{}`, "jo", ""},
		{"prefix", "", "clinic:", `{"preferred_username":"jo"}`, `{}`, "clinic:jo", ""},
		{"other claim", "uid", "", `{"preferred_username":"x","uid":"jo"}`, `{}`, "jo", ""},
		{"asked to be sub", "sub", "", `{"sub":"1"}`, `{}`, "1", ""},
		{"from userinfo", "", "", `{}`, `{"preferred_username":"jo"}`, "jo", ""},
		{"missing", "", "", `{"sub":"1","name":"Jo"}`, `{}`, "", "username.missing"},
		{"missing with a prefix", "", "clinic:", `{}`, `{}`, "", "username.missing"},
		{"empty", "", "", `{"preferred_username":""}`, `{}`, "", "username.missing"},
		{"null", "", "", `{"preferred_username":null}`, `{}`, "", "username.missing"},
		{"a list", "", "", `{"preferred_username":["jo"]}`, `{}`, "", "username.type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := Config{Claims: Claims{Username: c.claim, UsernamePrefix: c.prefix}}.mapping()
			i, err := m.apply([]claimSet{parse(t, c.token), parse(t, c.userinfo)})
			if identity.Reason(err) != c.reason || i.Username != c.want {
				t.Fatalf("got %q, %v; want %q, %s", i.Username, err, c.want, c.reason)
			}
		})
	}
}

func TestMappingIsACopy(t *testing.T) {
	c := Config{Claims: Claims{RoleNames: map[string][]string{"g": {"doctor"}}}}
	m := c.mapping()
	c.Claims.RoleNames["g"][0] = "chief"
	c.Claims.RoleNames["x"] = []string{"chief"}
	if got := m.roles["g"][0]; got != "doctor" || len(m.roles) != 1 {
		t.Errorf("the source follows changes of its configuration: %v", m.roles)
	}
}

// Sent: a name and an address with white space at the ends, which many
// directories hold. What would happen: an identity whose every request the gate
// refuses. What must hold: the person gets in, and the ends are clean.
func TestWhiteSpaceIsTrimmed(t *testing.T) {
	r := newRig(t, nil)
	who := r.accepts(t, idptest.SetClaim("name", " Dr. Ada Doe\u00a0 "), idptest.SetClaim("email", "ada@hospital.example "))
	if who.Name != "Dr. Ada Doe" || who.Email != "ada@hospital.example" {
		t.Errorf("signed in as %q, %q", who.Name, who.Email)
	}
}

func TestUsernamePrefixIsKnown(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Claims.UsernamePrefix = "lab:" })
	if got := r.source.UsernamePrefix(); got != "lab:" {
		t.Errorf("UsernamePrefix = %q", got)
	}
}

// The provider's session id is taken as it is, or not at all.
func TestProviderSession(t *testing.T) {
	for name, c := range map[string]struct{ token, want string }{
		"text":              {`{"sid":"08a5019c-17e1-4977"}`, "08a5019c-17e1-4977"},
		"of 255 bytes":      {`{"sid":"` + strings.Repeat("s", 255) + `"}`, strings.Repeat("s", 255)},
		"of 256 bytes":      {`{"sid":"` + strings.Repeat("s", 256) + `"}`, ""},
		"absent":            {`{}`, ""},
		"null":              {`{"sid":null}`, ""},
		"empty":             {`{"sid":""}`, ""},
		"a number":          {`{"sid":5}`, ""},
		"a list":            {`{"sid":["a"]}`, ""},
		"a line break":      {`{"sid":"a\r\nb"}`, ""},
		"NUL":               {`{"sid":"a\u0000"}`, ""},
		"writing direction": {`{"sid":"a\u202eb"}`, ""},
	} {
		if got := providerSession(parse(t, c.token)); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if who := newRig(t, nil).accepts(t, idptest.SetClaim("sid", "op-session-1")); who.Session != "op-session-1" {
		t.Errorf("a sign-in: %q", who.Session)
	}
}

// Claims of every kind are names or paths, and each has to be text.
func TestPaths(t *testing.T) {
	claims := Claims{Username: "account.login", Name: "person.display", Email: "person.mail.address", Org: "person.org",
		Roles: "realm_access.roles", RoleNames: map[string][]string{"grp": {"doctor"}}}
	const full = `{"account":{"login":"jo"},"person":{"display":" Jo ","org":"ward-3","mail":{"address":"jo@h.example"}},"realm_access":{"roles":["grp"]}}`
	for _, c := range []struct {
		name, token string
		want        identity.Identity
		reason      string
	}{
		{"all of them", full, identity.Identity{Username: "jo", Name: "Jo", Email: "jo@h.example", Org: "ward-3", Roles: []string{"doctor"}}, ""},
		{"only the username", `{"account":{"login":"jo"}}`, identity.Identity{Username: "jo"}, ""},
		{"standard claims are not looked at", `{"account":{"login":"jo"},"name":"X","email":"x@y","preferred_username":"root","org":"x","roles":["grp"]}`,
			identity.Identity{Username: "jo"}, ""},
		{"username an object", `{"account":{"login":{}}}`, identity.Identity{}, "username.type"},
		{"username a list", `{"account":{"login":["jo"]}}`, identity.Identity{}, "username.type"},
		{"name a number", `{"account":{"login":"jo"},"person":{"display":5}}`, identity.Identity{}, "name.type"},
		{"e-mail a list", `{"account":{"login":"jo"},"person":{"mail":{"address":["a"]}}}`, identity.Identity{}, "email.type"},
		{"org true", `{"account":{"login":"jo"},"person":{"org":true}}`, identity.Identity{}, "org.type"},
		{"unchecked address beside the address", `{"account":{"login":"jo"},"person":{"mail":{"address":"jo@h.example","email_verified":false}}}`,
			identity.Identity{Username: "jo"}, ""},
		{"unchecked address at the top", `{"account":{"login":"jo"},"email_verified":false,"person":{"mail":{"address":"jo@h.example"}}}`,
			identity.Identity{Username: "jo"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			i, err := Config{Claims: claims}.mapping().apply([]claimSet{parse(t, c.token)})
			if identity.Reason(err) != c.reason {
				t.Fatalf("got %v, want %q", err, c.reason)
			}
			if err == nil && !reflect.DeepEqual(i, c.want) {
				t.Errorf("got %+v, want %+v", i, c.want)
			}
		})
	}
}

// Whatever the mapping says, a provider gives no role that it may not give.
func TestMayGive(t *testing.T) {
	for name, c := range map[string]struct {
		may, want []string
	}{
		"any":     {nil, []string{"doctor", "external"}},
		"one":     {[]string{"external"}, []string{"external"}},
		"none":    {[]string{}, nil},
		"unknown": {[]string{"nurse"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m := Config{Claims: Claims{MayGive: c.may, RoleNames: map[string][]string{"a": {"doctor", "external"}}}}.mapping()
			i, err := m.apply([]claimSet{parse(t, `{"preferred_username":"jo","roles":["a"]}`)})
			if err != nil || !slices.Equal(i.Roles, c.want) {
				t.Errorf("got %v, %v; want %v", i.Roles, err, c.want)
			}
		})
	}
}

// Row C23: what stands in claims by reference is no claim, under any path.
func TestC23NotLookedInto(t *testing.T) {
	const token = `{"preferred_username":"jo","_claim_names":{"roles":"s"},"_claim_sources":{"s":{"JWT":"x","roles":["grp"],"endpoint":"http://127.0.0.1:1/"}}}`
	for _, path := range []string{"roles", "_claim_sources.s.roles", "_claim_names.roles"} {
		m := Config{Claims: Claims{Roles: path, RoleNames: map[string][]string{"grp": {"doctor"}, "s": {"doctor"}}}}.mapping()
		i, err := m.apply([]claimSet{parse(t, token)})
		if err != nil || len(i.Roles) != 0 {
			t.Errorf("%s gives %v, %v", path, i.Roles, err)
		}
	}
	m := Config{Claims: Claims{Roles: "realm.roles"}}.mapping()
	if m.byReference([]claimSet{parse(t, `{"_claim_names":{"realm":"s"}}`)}) != "realm.roles" {
		t.Error("nobody is told that the object with the roles comes by reference")
	}
}

// Userinfo is asked for each claim that the mapping wants and the ID token lacks.
func TestLacking(t *testing.T) {
	full := `{"u":"jo","n":"Jo","e":"a@b","o":"w","p":{"r":[]}}`
	claims := Claims{Username: "u", Name: "n", Email: "e", Org: "o", Roles: "p.r", RoleNames: map[string][]string{"x": {"y"}}}
	if (Config{Claims: claims}).mapping().lacking(parse(t, full)) {
		t.Error("nothing is missing")
	}
	for _, name := range []string{"u", "n", "e", "o", "p"} {
		token := parse(t, full)
		delete(token.Claims, name)
		if !(Config{Claims: claims}).mapping().lacking(token) {
			t.Errorf("%s is missing and nobody asks", name)
		}
	}
}

// Row R31: an address that may be anybody's names nobody, under whatever claim.
func TestR31EmailAsName(t *testing.T) {
	for name, c := range map[string]struct {
		claims Claims
		token  string
		reason string
	}{
		"silence about the standard claim": {Claims{Username: "email"}, `{"email":"a@b"}`, "username.unverified"},
		"checked":                          {Claims{Username: "email"}, `{"email":"a@b","email_verified":true}`, ""},
		"unchecked under another name":     {Claims{Username: "mail", Email: "mail"}, `{"mail":"a@b","email_verified":false}`, "username.unverified"},
		"a directory's attribute":          {Claims{Username: "mail", Email: "mail"}, `{"mail":"a@b"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Config{Claims: c.claims}.mapping().apply([]claimSet{parse(t, c.token)})
			if identity.Reason(err) != c.reason {
				t.Errorf("got %v, want %q", err, c.reason)
			}
		})
	}
}
