package oidc

import "testing"

// Rules ask for the organisation (`allow org lab`): somebody of whom the provider says no more that they belong to it
// must not keep what it opens, also where another part of the identity is read from the same claim.
func TestOrgThatIsNotGivenAgainIsGone(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"a claim of its own":  func(c *Config) { c.Claims.Org = "ward" },
		"that of the name":    func(c *Config) { c.Claims.Org, c.Claims.Name = "ward", "ward" },
		"that of the address": func(c *Config) { c.Claims.Org, c.Claims.Email = "ward", "ward" },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				c.UserInfo = userinfoOff
				change(c)
			})
			first := r.accepts(t, claim("ward", "icu"))
			if first.Org != "icu" {
				t.Fatalf("got %+v", first)
			}
			next := r.stillGood(t, first, claim("ward", "er"))
			if next.Org != "er" {
				t.Errorf("moved, and it is %q", next.Org)
			}
			if next = r.stillGood(t, next); next.Org != "" {
				t.Errorf("gone, and it is still %q", next.Org)
			}
		})
	}
}
