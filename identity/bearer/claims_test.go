package bearer

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

// TestClaims: which claims of a token reach the policy, and as what.
func TestClaims(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Claims = map[string]string{"patient_id": "https://h.example/pid", "unit": "ext.unit", "mail": "email"}
	})
	r.site.Unbound = true
	for name, c := range map[string]struct {
		token object
		want  map[string]string
	}{
		"texts":                {object{"https://h.example/pid": "7", "ext": object{"unit": "icu"}}, map[string]string{"patient_id": "7", "unit": "icu"}},
		"a number and a truth": {object{"https://h.example/pid": 9007199254740993, "ext": object{"unit": true}}, map[string]string{"patient_id": "9007199254740993", "unit": "true"}},
		"none":                 {object{}, nil},
		"null":                 {object{"https://h.example/pid": null}, nil},
		"a list":               {object{"https://h.example/pid": []string{"7"}, "ext": object{"unit": "icu"}}, map[string]string{"unit": "icu"}},
		"an object":            {object{"ext": object{"unit": object{"a": "icu"}}}, nil},
		"control characters":   {object{"https://h.example/pid": "7\n8"}, nil},
		"256 bytes":            {object{"https://h.example/pid": strings.Repeat("7", 256)}, nil},
		// Injected names: only what the configuration names, under its name.
		"names of the token":         {object{"patient_id": "8", "unit": "er", "claims": object{"patient_id": "9"}, "ext.unit.x": "er"}, nil},
		"R31 an unchecked address":   {object{"email": "a@b.example"}, nil},
		"R31 one that was checked":   {object{"email": "a@b.example", "email_verified": true}, map[string]string{"mail": "a@b.example"}},
		"R31 one that was not":       {object{"email": "a@b.example", "email_verified": "false"}, nil},
		"groups are not for callers": {object{"groups": []string{"icu"}}, nil},
	} {
		if caller := r.accepts(request("Bearer", r.unbound(c.token))); !maps.Equal(caller.Claims, c.want) {
			t.Errorf("%s: %v", name, caller.Claims)
		}
	}
	text := r.log.String()
	if strings.Count(text, "is left out") != 1 || strings.Contains(text, "7777") {
		t.Errorf("not said once a minute, or with a value: %s", text)
	}
	r.clock.pass(2 * time.Minute)
	r.accepts(request("Bearer", r.unbound(object{"https://h.example/pid": []string{"7"}})))
	if text := r.log.String(); strings.Count(text, "is left out") != 2 || !strings.Contains(text, "claim=patient_id") {
		t.Errorf("%s", text)
	}
}

// A caller's claims are the request's own: what one request does to them reaches no other.
func TestClaimsAreNotShared(t *testing.T) {
	r := newAsking(t, func(c *Config) { c.Claims = map[string]string{"unit": "unit"} })
	r.says(r.active(object{"unit": "icu"}))
	for range 2 {
		caller := r.accepts(request("Bearer", "opaque-token"))
		if caller.Claims["unit"] != "icu" {
			t.Fatalf("%v", caller.Claims)
		}
		caller.Claims["unit"] = "er"
	}
}

func TestClaimsConfig(t *testing.T) {
	nine := map[string]string{}
	for i := range 9 {
		nine[fmt.Sprint("c", i)] = "x"
	}
	for want, claims := range map[string]map[string]string{
		`claim "Pid"`:             {"Pid": "p"},
		`claim pid from ""`:       {"pid": ""},
		`claim pid from "a..b"`:   {"pid": "a..b"},
		"9 claims, at most 8":     nine,
		`claim "a}/{user": a nam`: {"a}/{user": "p"},
	} {
		_, err := New(Config{Name: "a", Issuer: "https://login.example", Claims: claims})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
