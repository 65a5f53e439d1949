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

// mapping says which claims become which part of an identity. A claim is a name
// or a dotted path into objects.
type mapping struct {
	rolesClaim    string
	roles         map[string][]string
	mayGive       []string // nil: any role
	usernameClaim string
	prefix        string
	nameClaim     string
	emailClaim    string
	orgClaim      string // empty: none
	groupsClaim   string
	groups        map[string][]string
	claims        map[string]string // name in rules -> claim
	leftOut       func(name string) // told of claims with a value that is none; may be nil
}

func (c Config) mapping() mapping {
	named := func(name, usual string) string {
		if name == "" {
			return usual
		}
		return name
	}
	m := mapping{
		rolesClaim: named(c.Claims.Roles, "roles"), roles: map[string][]string{}, mayGive: slices.Clone(c.Claims.MayGive),
		usernameClaim: named(c.Claims.Username, "preferred_username"), prefix: c.Claims.UsernamePrefix,
		nameClaim: named(c.Claims.Name, "name"), emailClaim: named(c.Claims.Email, "email"), orgClaim: c.Claims.Org,
	}
	for value, roles := range c.Claims.RoleNames {
		m.roles[value] = slices.Clone(roles)
	}
	m.groupsClaim, m.groups, m.claims = named(c.Claims.Groups, m.rolesClaim), map[string][]string{}, maps.Clone(c.Claims.More)
	for value, groups := range c.Claims.GroupNames {
		m.groups[value] = slices.Clone(groups)
	}
	return m
}

// lacking says whether the ID token leaves a claim open that userinfo may have.
func (m mapping) lacking(token claimSet) bool {
	names := []string{m.usernameClaim, m.nameClaim, m.emailClaim}
	if m.orgClaim != "" {
		names = append(names, m.orgClaim)
	}
	if len(m.roles) > 0 {
		names = append(names, m.rolesClaim)
	}
	if len(m.groups) > 0 {
		names = append(names, m.groupsClaim)
	}
	names = slices.AppendSeq(names, maps.Values(m.claims))
	return slices.ContainsFunc(names, func(name string) bool { return isNull(find(token.Claims, name)) })
}

// apply reads username, name, e-mail, organisation, roles, groups and further claims,
// each from the first source that has it. A claim of the wrong type refuses the sign-in:
// guessing what was meant is how an object becomes a user.
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
	if m.usernameClaim == "email" && !m.verified(sources) || m.usernameClaim == m.emailClaim && m.unverified(sources) {
		return i, refused("username.unverified")
	}
	i.Username = m.prefix + username
	if i.Name, err = first(sources, m.nameClaim); err != nil {
		return i, refused("name.type")
	}
	if i.Email, err = first(sources, m.emailClaim); err != nil {
		return i, refused("email.type")
	}
	// Directories are full of names with a blank at the end. Nobody is told
	// apart by these two, so they are mended; a username never is.
	i.Name, i.Email = strings.TrimSpace(i.Name), strings.TrimSpace(i.Email)
	if m.unverified(sources) {
		i.Email = ""
	}
	if m.orgClaim != "" {
		// Rules ask for it: what was said at an earlier asking does not count.
		said := slices.DeleteFunc(slices.Clone(sources), func(c claimSet) bool { return c.ours })
		if i.Org, err = first(said, m.orgClaim); err != nil {
			return i, refused("org.type")
		}
	}
	if i.Roles, err = m.rolesOf(sources); err != nil {
		return i, refused("roles.type")
	}
	if i.Groups, err = m.groupsOf(sources); err != nil {
		return i, refused("groups.type")
	}
	i.Claims = m.claimsOf(sources)
	return i, nil
}

// rolesOf maps the values of the roles claim, exactly; what is not listed is
// dropped, and so is a role that this provider may not give, whatever the
// mapping says. The result is sorted and holds no role twice.
func (m mapping) rolesOf(sources []claimSet) ([]string, error) {
	roles, err := mapped(sources, m.rolesClaim, m.roles)
	if m.mayGive != nil {
		roles = slices.DeleteFunc(roles, func(role string) bool { return !slices.Contains(m.mayGive, role) })
	}
	return roles, err
}

// mapped gives the names that the values of a claim stand for.
func mapped(sources []claimSet, claim string, names map[string][]string) ([]string, error) {
	for _, source := range sources {
		raw := find(source.Claims, claim)
		if isNull(raw) || source.ours {
			continue
		}
		values, _, err := jws.Claims{"values": raw}.Strings("values")
		if err != nil {
			return nil, err
		}
		set := map[string]bool{}
		for _, value := range values {
			for _, name := range names[value] {
				set[name] = true
			}
		}
		return slices.Sorted(maps.Keys(set)), nil
	}
	return nil, nil
}

// byReference says which of the claims of roles and groups is given as an address to
// fetch it from (OpenID Connect Core 1.0, section 5.6.2), "" for neither: large
// providers do that when somebody is in very many groups.
func (m mapping) byReference(sources []claimSet) string {
	for _, claim := range []string{m.rolesClaim, m.groupsClaim} {
		head, _, _ := strings.Cut(claim, ".")
		for _, source := range sources {
			names, _, err := source.Object("_claim_names")
			if err == nil && (names[claim] != nil || names[head] != nil) {
				return claim
			}
		}
	}
	return ""
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
// hold dots, then as a path into objects. Aggregated and distributed claims are
// no objects to look into: nobody checked who vouches for them (OpenID Connect
// Core 1.0, section 5.6.2).
func find(c jws.Claims, path string) json.RawMessage {
	if raw, present := c[path]; present {
		return raw
	}
	head, rest, dotted := strings.Cut(path, ".")
	if !dotted || head == "_claim_names" || head == "_claim_sources" {
		return nil
	}
	inner, present, err := c.Object(head)
	if err != nil || !present {
		return nil
	}
	return find(inner, rest)
}

// first gives a text claim from the first source that has it.
func first(sources []claimSet, path string) (string, error) {
	for _, source := range sources {
		text, present, err := optional(jws.Claims{"text": find(source.Claims, path)}, "text")
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
func (m mapping) verified(sources []claimSet) bool {
	said := false
	for _, source := range sources {
		for _, raw := range m.emailVerified(source) {
			said = said || !isNull(raw)
		}
	}
	return said && !m.unverified(sources)
}

// unverified is true when the provider says anywhere that it did not check the
// address. Some send the word as a string.
func (m mapping) unverified(sources []claimSet) bool {
	for _, source := range sources {
		for _, raw := range m.emailVerified(source) {
			if !isNull(raw) && string(raw) != "true" && string(raw) != `"true"` {
				return true
			}
		}
	}
	return false
}

// emailVerified are the claims that say so: the standard one, and the one beside
// an address that lies in an object.
func (m mapping) emailVerified(source claimSet) []json.RawMessage {
	all := []json.RawMessage{source.Claims["email_verified"]}
	if n := strings.LastIndexByte(m.emailClaim, '.'); n > 0 {
		all = append(all, find(source.Claims, m.emailClaim[:n]+".email_verified"))
	}
	return all
}
