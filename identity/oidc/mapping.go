package oidc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

const maxSession = 255 // bytes of the provider's session id

// mapping says which claims become which part of an identity.
type mapping struct {
	rolesClaim    string
	roles         map[string][]string
	usernameClaim string
	prefix        string
}

func (c Config) mapping() mapping {
	m := mapping{rolesClaim: c.Claims.Roles, usernameClaim: c.Claims.Username, prefix: c.Claims.UsernamePrefix, roles: map[string][]string{}}
	if m.rolesClaim == "" {
		m.rolesClaim = "roles"
	}
	if m.usernameClaim == "" {
		m.usernameClaim = "preferred_username"
	}
	for value, roles := range c.Claims.RoleNames {
		m.roles[value] = slices.Clone(roles)
	}
	return m
}

// lacking says whether the ID token leaves a claim open that userinfo may have.
func (m mapping) lacking(token claimSet) bool {
	for _, name := range []string{m.usernameClaim, "name", "email"} {
		if isNull(token.Claims[name]) {
			return true
		}
	}
	return len(m.roles) > 0 && isNull(find(token.Claims, m.rolesClaim))
}

// apply reads username, name, e-mail and roles, each from the first source that
// has it. A claim of the wrong type refuses the sign-in: guessing what was meant
// is how an object becomes a user.
func (m mapping) apply(sources []claimSet) (identity.Identity, error) {
	var i identity.Identity
	username, err := first(sources, m.usernameClaim)
	if err != nil {
		return i, refused("username.type")
	}
	// Falling back to sub would name people by what looks like a username
	// to policy and apps, and nobody would notice for months.
	if username == "" {
		return i, refused("username.missing")
	}
	// At some providers everybody can enter any address as theirs.
	if m.usernameClaim == "email" && !verified(sources) {
		return i, refused("username.unverified")
	}
	i.Username = m.prefix + username
	if i.Name, err = first(sources, "name"); err != nil {
		return i, refused("name.type")
	}
	if i.Email, err = first(sources, "email"); err != nil {
		return i, refused("email.type")
	}
	// Directories are full of names with a blank at the end. Nobody is told
	// apart by these two, so they are mended; a username never is.
	i.Name, i.Email = strings.TrimSpace(i.Name), strings.TrimSpace(i.Email)
	if unverified(sources) {
		i.Email = ""
	}
	if i.Roles, err = m.rolesOf(sources); err != nil {
		return i, refused("roles.type")
	}
	return i, nil
}

// rolesOf maps the values of the roles claim, exactly; what is not listed is
// dropped. The result is sorted and holds no role twice.
func (m mapping) rolesOf(sources []claimSet) ([]string, error) {
	for _, source := range sources {
		raw := find(source.Claims, m.rolesClaim)
		if isNull(raw) {
			continue
		}
		values, _, err := jws.Claims{"roles": raw}.Strings("roles")
		if err != nil {
			return nil, err
		}
		set := map[string]bool{}
		for _, value := range values {
			for _, role := range m.roles[value] {
				set[role] = true
			}
		}
		return slices.Sorted(maps.Keys(set)), nil
	}
	return nil, nil
}

// byReference says whether the roles claim is given as an address to fetch it
// from (OpenID Connect Core 1.0, section 5.6.2): large providers do that when
// somebody is in very many groups.
func (m mapping) byReference(sources []claimSet) bool {
	for _, source := range sources {
		names, _, err := source.Object("_claim_names")
		if err == nil && names[m.rolesClaim] != nil {
			return true
		}
	}
	return false
}

// providerSession is the provider's id of its session (OpenID Connect Front-Channel
// Logout 1.0, section 3), of use when the provider ends it. One that is not text of
// the usual length is none: it keeps nobody from signing in.
func providerSession(token claimSet) string {
	sid, _, err := optional(token.Claims, "sid")
	if err != nil || len(sid) > maxSession || !utf8.ValidString(sid) || strings.ContainsFunc(sid, notText) {
		return ""
	}
	return sid
}

// notText is what [identity.Identity.Check] refuses in any text.
func notText(r rune) bool {
	return unicode.IsControl(r) || r == 0x2028 || r == 0x2029 || 0x202A <= r && r <= 0x202E || 0x2066 <= r && r <= 0x2069
}

// find looks a claim up by its whole name first, because names that are URLs
// hold dots, then as a path into objects.
func find(c jws.Claims, path string) json.RawMessage {
	if raw, present := c[path]; present {
		return raw
	}
	head, rest, dotted := strings.Cut(path, ".")
	if !dotted {
		return nil
	}
	inner, present, err := c.Object(head)
	if err != nil || !present {
		return nil
	}
	return find(inner, rest)
}

// first gives a text claim from the first source that has it.
func first(sources []claimSet, name string) (string, error) {
	for _, source := range sources {
		text, present, err := optional(source.Claims, name)
		if err != nil {
			return "", err
		}
		if present && text != "" {
			return text, nil
		}
	}
	return "", nil
}

// optional is a string claim for which null means absent, as providers send it
// against the advice of OpenID Connect Core 1.0, section 5.3.2.
func optional(c jws.Claims, name string) (string, bool, error) {
	if isNull(c[name]) {
		return "", false, nil
	}
	return c.String(name)
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// verified is true when the provider says that it checked the address, and nowhere that it
// did not. Silence is no yes: whoever may enter any address would be whom he likes.
func verified(sources []claimSet) bool {
	said := false
	for _, source := range sources {
		said = said || !isNull(source.Claims["email_verified"])
	}
	return said && !unverified(sources)
}

// unverified is true when the provider says anywhere that it did not check the
// address. Some send the word as a string.
func unverified(sources []claimSet) bool {
	for _, source := range sources {
		raw := source.Claims["email_verified"]
		if !isNull(raw) && string(raw) != "true" && string(raw) != `"true"` {
			return true
		}
	}
	return false
}
