package bearer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
)

// knownAlgs are all that an access token may be signed with.
var knownAlgs = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"}

// check finds everything that is wrong, not only the first thing.
func (c Config) check() (*issuer.Client, error) {
	var all []error
	wrong := func(format string, args ...any) {
		all = append(all, fmt.Errorf("configuring bearer issuer %q: "+format, append([]any{c.Name}, args...)...))
	}
	if !identity.ValidSource(c.Name) {
		wrong("the name stands in logs and headers: use 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	}
	client, err := issuer.NewClient(c.Fetch)
	if err != nil {
		wrong("%w", err)
	}
	for _, alg := range c.Algs {
		if !slices.Contains(knownAlgs, alg) {
			wrong("algorithm %q: write one of %s", alg, strings.Join(knownAlgs, ", "))
		}
	}
	if c.Algs != nil && len(c.Algs) == 0 {
		wrong("no algorithm is accepted: leave the line out or name one")
	}
	for line, path := range map[string]string{"roles_claim": c.Roles, "username_claim": c.Username} {
		if brokenPath(path) {
			wrong("%s %q: write a claim's name, or a path such as realm_access.roles", line, path)
		}
	}
	if p := c.UsernamePrefix; p != "" && (!visible(p) || p[0] == ' ') {
		wrong("username_prefix %q: write printable ASCII that does not begin with a blank", p)
	}
	for value, roles := range c.RoleNames {
		for _, role := range roles {
			if !identity.ValidRole(role) {
				wrong("role %q from %q: a role is 1 to 64 of the characters A-Z a-z 0-9 . _ -", role, value)
			}
		}
	}
	c.checkClaims(wrong)
	if c.Introspection != nil {
		c.checkIntrospection(client, wrong)
	}
	return client, errors.Join(all...)
}

func (c Config) checkIntrospection(client *issuer.Client, wrong func(string, ...any)) {
	in := c.Introspection
	if in.URL != "" && client != nil {
		if err := client.CheckEndpoint(in.URL); err != nil {
			wrong("introspect: %w", err)
		}
	}
	if !visible(in.ClientID) {
		wrong("client_id is missing or not printable ASCII: register this server at the issuer, which tells strangers nothing about tokens")
	}
	if in.ClientSecret == "" && c.Fetch.Certificate == nil {
		wrong("client_secret is missing: write it, best as {file./path}, or give a client certificate")
	}
	if strings.ContainsAny(in.ClientSecret, "\r\n\x00") {
		wrong("client_secret holds a line break: is the file it comes from one line without an end of line?")
	}
}

// visible says whether s is not empty and printable ASCII.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}
