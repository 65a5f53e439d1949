package oidc

import (
	"encoding/json"
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
