package oidc

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// TestGroups: a group is a name that the configuration gives. Sent: values that look like
// a group's name, by themselves and beside a listed one. What would happen if a raw value
// became a group: whoever may name groups at the provider opens what he likes.
func TestGroups(t *testing.T) {
	names := map[string][]string{"grp-ward-3": {"ward-3"}, "grp-icu": {"icu", "ward-3"}}
	for name, c := range map[string]struct {
		claims      Claims
		token, more string
		want        []string
		reason      string
	}{
		"listed":                       {Claims{Groups: "g"}, `{"g":["grp-icu","x"]}`, `{}`, []string{"icu", "ward-3"}, ""},
		"one text":                     {Claims{Groups: "g"}, `{"g":"grp-ward-3"}`, `{}`, []string{"ward-3"}, ""},
		"the raw value is no group":    {Claims{Groups: "g"}, `{"g":["icu","ward-3","admin"]}`, `{}`, nil, ""},
		"one text of two":              {Claims{Groups: "g"}, `{"g":"grp-icu,grp-ward-3"}`, `{}`, nil, ""},
		"the claim of roles":           {Claims{Roles: "r"}, `{"r":["grp-ward-3"]}`, `{}`, []string{"ward-3"}, ""},
		"not the claim of roles":       {Claims{Roles: "r", Groups: "g"}, `{"r":["grp-ward-3"]}`, `{}`, nil, ""},
		"from userinfo":                {Claims{Groups: "g"}, `{}`, `{"g":["grp-ward-3"]}`, []string{"ward-3"}, ""},
		"the ID token goes first":      {Claims{Groups: "g"}, `{"g":[]}`, `{"g":["grp-ward-3"]}`, nil, ""},
		"an object":                    {Claims{Groups: "g"}, `{"g":{"grp-icu":1}}`, `{}`, nil, "groups.type"},
		"a number among them":          {Claims{Groups: "g"}, `{"g":["grp-icu",1]}`, `{}`, nil, "groups.type"},
		"C23 by reference":             {Claims{Groups: "_claim_sources.s.g"}, `{"_claim_sources":{"s":{"g":["grp-icu"]}}}`, `{}`, nil, ""},
		"a role of the same name":      {Claims{Groups: "g", RoleNames: map[string][]string{"grp-icu": {"doctor"}}}, `{"g":["grp-icu"]}`, `{}`, []string{"icu", "ward-3"}, ""},
		"may_give says roles, no more": {Claims{Groups: "g", MayGive: []string{"doctor"}}, `{"g":["grp-ward-3"]}`, `{}`, []string{"ward-3"}, ""},
	} {
		c.claims.GroupNames = names
		token := parse(t, c.token)
		token.Claims["preferred_username"] = json.RawMessage(`"u"`)
		i, err := Config{Claims: c.claims}.mapping().apply([]claimSet{token, parse(t, c.more)})
		if identity.Reason(err) != c.reason || !slices.Equal(i.Groups, c.want) || len(i.Roles) > 0 {
			t.Errorf("%s: %v, %v", name, i.Groups, err)
		}
	}
	// Nobody asked for groups: what the claim is like matters to nobody.
	i, err := Config{Claims: Claims{Groups: "g"}}.mapping().apply([]claimSet{parse(t, `{"preferred_username":"u","g":{}}`)})
	if err != nil || i.Groups != nil {
		t.Errorf("%v, %v", i.Groups, err)
	}
}

// TestClaims: which claims reach a session, and as what.
func TestClaims(t *testing.T) {
	for name, c := range map[string]struct {
		more        map[string]string
		token, info string
		want        map[string]string
		left        string
	}{
		"a text":                          {map[string]string{"pid": "patient_id"}, `{"patient_id":"p-7"}`, `{}`, map[string]string{"pid": "p-7"}, ""},
		"a large number":                  {map[string]string{"pid": "n"}, `{"n":9007199254740993}`, `{}`, map[string]string{"pid": "9007199254740993"}, ""},
		"an exponent":                     {map[string]string{"pid": "n"}, `{"n":1e21}`, `{}`, map[string]string{"pid": "1000000000000000000000"}, ""},
		"true":                            {map[string]string{"vip": "n"}, `{"n":true}`, `{}`, map[string]string{"vip": "true"}, ""},
		"a path":                          {map[string]string{"country": "address.country"}, `{"address":{"country":"BE"}}`, `{}`, map[string]string{"country": "BE"}, ""},
		"a name that is a URL":            {map[string]string{"pid": "https://h.example/pid"}, `{"https://h.example/pid":"7"}`, `{}`, map[string]string{"pid": "7"}, ""},
		"from userinfo":                   {map[string]string{"pid": "p"}, `{"p":null}`, `{"p":"7"}`, map[string]string{"pid": "7"}, ""},
		"the ID token goes first":         {map[string]string{"pid": "p"}, `{"p":"7"}`, `{"p":"8"}`, map[string]string{"pid": "7"}, ""},
		"empty in the ID token":           {map[string]string{"pid": "p"}, `{"p":""}`, `{"p":"8"}`, nil, ""},
		"absent":                          {map[string]string{"pid": "p"}, `{"P":"7"}`, `{}`, nil, ""},
		"a list":                          {map[string]string{"pid": "p"}, `{"p":["7"]}`, `{"p":"8"}`, nil, "pid"},
		"an object":                       {map[string]string{"pid": "p"}, `{"p":{"a":"7"}}`, `{}`, nil, "pid"},
		"a line break":                    {map[string]string{"pid": "p"}, `{"p":"7\r\nX: y"}`, `{}`, nil, "pid"},
		"too long":                        {map[string]string{"pid": "p"}, `{"p":"` + strings.Repeat("7", 256) + `"}`, `{}`, nil, "pid"},
		"one that is bad spoils no other": {map[string]string{"pid": "p", "unit": "u"}, `{"p":[],"u":"icu"}`, `{}`, map[string]string{"unit": "icu"}, "pid"},
		"C23 by reference":                {map[string]string{"pid": "_claim_sources.s.p"}, `{"_claim_sources":{"s":{"p":"7"}}}`, `{}`, nil, ""},
		// Injected names: only what the configuration names, under its name.
		"names of the token": {map[string]string{"pid": "p"}, `{"p":"7","pid":"8","claims":{"pid":"9"},"admin":"true","claim.pid":"10"}`, `{}`, map[string]string{"pid": "7"}, ""},
		// R31: at some providers everybody can enter any address as theirs.
		"R31 an address that nobody checked":          {map[string]string{"mail": "email"}, `{"email":"a@b"}`, `{}`, nil, ""},
		"R31 one of which that is said":               {map[string]string{"mail": "email"}, `{"email":"a@b","email_verified":false}`, `{}`, nil, ""},
		"R31 checked says the ID token, not userinfo": {map[string]string{"mail": "email"}, `{"email":"a@b","email_verified":true}`, `{"email_verified":"no"}`, nil, ""},
		"R31 one that was checked":                    {map[string]string{"mail": "email"}, `{"email":"a@b","email_verified":true}`, `{}`, map[string]string{"mail": "a@b"}, ""},
		"R31 a number that nobody checked":            {map[string]string{"tel": "phone_number"}, `{"phone_number":"+32"}`, `{}`, nil, ""},
		"R31 in an object":                            {map[string]string{"mail": "contact.email"}, `{"contact":{"email":"a@b","email_verified":false}}`, `{}`, nil, ""},
	} {
		var left []string
		m := Config{Claims: Claims{More: c.more}}.mapping()
		m.leftOut = func(name string) { left = append(left, name) }
		token := parse(t, c.token)
		token.Claims["preferred_username"] = json.RawMessage(`"u"`)
		i, err := m.apply([]claimSet{token, parse(t, c.info)})
		if err != nil || !maps.Equal(i.Claims, c.want) || strings.Join(left, ",") != c.left {
			t.Errorf("%s: %v, left out %v, %v", name, i.Claims, left, err)
		}
	}
}

// Userinfo is asked for a group's and a rule's claim that the ID token lacks, and somebody
// is told when groups come by reference (C23).
func TestClaimsAreLookedFor(t *testing.T) {
	m := Config{Claims: Claims{Groups: "g", GroupNames: map[string][]string{"x": {"y"}}, More: map[string]string{"pid": "p.id"}}}.mapping()
	const full = `{"preferred_username":"u","name":"n","email":"e","g":[],"p":{"id":7}}`
	if m.lacking(parse(t, full)) {
		t.Error("nothing is missing")
	}
	for _, name := range []string{"g", "p"} {
		token := parse(t, full)
		if delete(token.Claims, name); !m.lacking(token) {
			t.Errorf("%s is missing and nobody asks", name)
		}
	}
	if got := m.byReference([]claimSet{parse(t, `{"_claim_names":{"g":"s"}}`)}); got != "g" {
		t.Errorf("by reference: %q", got)
	}
}

func TestClaimsConfig(t *testing.T) {
	nine := map[string]string{}
	for i := range 9 {
		nine[fmt.Sprint("c", i)] = "x"
	}
	for want, claims := range map[string]Claims{
		`groups_claim "a..b"`:      {Groups: "a..b"},
		`group "a b" from "x"`:     {GroupNames: map[string][]string{"x": {"a b"}}},
		`claim "Pid"`:              {More: map[string]string{"Pid": "p"}},
		`claim "a.b"`:              {More: map[string]string{"a.b": "p"}},
		`claim pid from ""`:        {More: map[string]string{"pid": ""}},
		`claim pid from ".p"`:      {More: map[string]string{"pid": ".p"}},
		"a session has room for 8": {More: nine},
	} {
		_, err := New(Config{Name: "a", Issuer: "https://login.example", Client: Client{ID: "c", Secret: "s"}, Claims: claims})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// more is a configuration that takes over a group and two claims.
func more(c *Config) {
	c.Claims.Groups, c.Claims.GroupNames = "departments", map[string][]string{"d-icu": {"icu"}, "d-er": {"er"}}
	c.Claims.More = map[string]string{"patient_id": "pid", "unit": "unit"}
}

func says(departments any, pid any, unit any) []idptest.Fault {
	return []idptest.Fault{idptest.SetClaim("departments", departments), idptest.SetClaim("pid", pid), idptest.SetClaim("unit", unit)}
}

// TestClaimsFollow: what the provider changes arrives at the next asking, and what it
// says no more is gone, however it is not said.
func TestClaimsFollow(t *testing.T) {
	r := newRig(t, more)
	who := r.accepts(t, says([]string{"d-icu", "raw"}, 7, "icu")...)
	want := func(step string, who identity.Identity, groups []string, claims map[string]string) {
		t.Helper()
		if !slices.Equal(who.Groups, groups) || !maps.Equal(who.Claims, claims) {
			t.Errorf("%s: %v, %v", step, who.Groups, who.Claims)
		}
	}
	want("sign-in", who, []string{"icu"}, map[string]string{"patient_id": "7", "unit": "icu"})
	next := r.stillGood(t, who, says([]string{"d-er"}, 8, "er")...)
	want("changed", next, []string{"er"}, map[string]string{"patient_id": "8", "unit": "er"})
	after := r.stillGood(t, next, says([]string{"d-er"}, []int{8}, "er")...)
	want("one is no text any more", after, []string{"er"}, map[string]string{"unit": "er"})
	after = r.stillGood(t, after)
	want("not given again", after, nil, nil)
	// The same from userinfo, where no new ID token comes.
	who = r.accepts(t, says([]string{"d-icu"}, "7", "icu")...)
	noToken := idptest.TokenAnswer(func(a map[string]any) { delete(a, "id_token") })
	next = r.stillGood(t, who, noToken, idptest.UserInfo(func(u map[string]any) { u["pid"], u["departments"] = "9", []string{} }))
	want("from userinfo", next, nil, map[string]string{"patient_id": "9", "unit": "icu"})
}

// TestClaimsStay: while the rest of an answer cannot be had, the person is as found last,
// and of that what the configuration knows now.
func TestClaimsStay(t *testing.T) {
	r := newRig(t, more)
	who := r.accepts(t, says([]string{"d-icu", "d-er"}, 7, "icu")...)
	for name, c := range map[string]struct {
		change func(*Config)
		groups []string
		claims map[string]string
	}{
		"as it was":            {more, []string{"er", "icu"}, map[string]string{"patient_id": "7", "unit": "icu"}},
		"a group is gone":      {func(c *Config) { more(c); delete(c.Claims.GroupNames, "d-er") }, []string{"icu"}, map[string]string{"patient_id": "7", "unit": "icu"}},
		"a claim is gone":      {func(c *Config) { more(c); delete(c.Claims.More, "patient_id") }, []string{"er", "icu"}, map[string]string{"unit": "icu"}},
		"nothing is asked for": {nil, nil, nil},
	} {
		s := r.another(t, func(cfg *Config) {
			if cfg.NoRefresh = true; c.change != nil {
				c.change(cfg)
			}
		})
		next, err := s.Refresh(t.Context(), who.Keep)
		if err != nil || !slices.Equal(next.Groups, c.groups) || !reflect.DeepEqual(next.Claims, c.claims) {
			t.Errorf("%s: %v, %v, %v", name, next.Groups, next.Claims, err)
		}
	}
}

// TestClaimsNotRemembered: names are remembered from earlier answers, and no claim is
// ever read from what was remembered.
func TestClaimsNotRemembered(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Claims.More = map[string]string{"uid": "preferred_username", "mail": "email"}
		c.Claims.Groups, c.Claims.GroupNames = "preferred_username", map[string][]string{"doctor": {"doctors"}}
	})
	who := r.accepts(t)
	if who.Claims["uid"] != "doctor" || !slices.Equal(who.Groups, []string{"doctors"}) {
		t.Fatalf("%v, %v", who.Claims, who.Groups)
	}
	gone := []string{"preferred_username", "email", "email_verified", "name"}
	next := r.stillGood(t, who, idptest.DropClaims(gone...), idptest.UserInfo(func(u map[string]any) {
		for _, name := range gone {
			delete(u, name)
		}
	}))
	if next.Username != "doctor" || len(next.Claims) > 0 || len(next.Groups) > 0 {
		t.Errorf("%q, %v, %v", next.Username, next.Claims, next.Groups)
	}
}

// TestClaimsInTheLog: that one was left out is said, once a minute, and not its value.
func TestClaimsInTheLog(t *testing.T) {
	r := newRig(t, more)
	who := r.accepts(t, says([]string{}, "secret\x01value", []string{"another secret"})...)
	for range 3 {
		who = r.stillGood(t, who, says([]string{}, "secret\x01value", "good secret")...)
	}
	if text := r.log.String(); strings.Count(text, "a claim is left out") != 1 || strings.Contains(text, "secret") || !strings.Contains(text, "level=WARN") {
		t.Errorf("%s", text)
	}
	r.server.Pass(2 * time.Minute)
	r.stillGood(t, who, says([]string{}, "secret\x01value", "x")...)
	if text := r.log.String(); strings.Count(text, "a claim is left out") != 2 || !strings.Contains(text, "claim=patient_id") {
		t.Errorf("%s", text)
	}
}
