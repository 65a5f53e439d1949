package oidc

import (
	"maps"
	"slices"

	"github.com/anteroom-proxy/anteroom/identity"
)

// warnClaimEvery is how often a claim that was left out is logged at most, in seconds.
// Every sign-in and every asking again comes by.
const warnClaimEvery = 60

// groupsOf maps the values of the groups claim as rolesOf does those of roles. No raw
// value of the provider is ever a group.
func (m mapping) groupsOf(sources []claimSet) ([]string, error) {
	if len(m.groups) == 0 {
		return nil, nil // the claim may be of any type: nobody asked for it
	}
	return mapped(sources, m.groupsClaim, m.groups)
}

// claimsOf reads the claims that rules may ask for. One that has no good value is left
// out: rules take it for absent, and absent equals nothing. Nobody is kept from signing
// in by it, and nobody is let in by it.
func (m mapping) claimsOf(sources []claimSet) map[string]string {
	var found map[string]string
	for name, path := range m.claims {
		text, err := m.claimText(sources, path)
		switch {
		case err != nil && m.leftOut != nil:
			m.leftOut(name)
		case err == nil && text != "":
			if found == nil {
				found = make(map[string]string, len(m.claims))
			}
			found[name] = text
		}
	}
	return found
}

// claimText is the claim's value at the first source that has it. What was said at an
// earlier asking does not count: a claim that is not given again is gone.
func (m mapping) claimText(sources []claimSet, path string) (string, error) {
	if m.doubted(sources, path) {
		return "", nil
	}
	for _, source := range sources {
		if raw := find(source.Claims, path); !source.ours && !isNull(raw) {
			return identity.ClaimText(raw)
		}
	}
	return "", nil
}

// doubted says whether the provider has not checked that the value belongs to the
// person: at some everybody can enter any address, and any number, as theirs (OpenID
// Connect Core 1.0, section 5.1, of the claims that end in _verified).
func (m mapping) doubted(sources []claimSet, path string) bool {
	said := false
	for _, source := range sources {
		raw := find(source.Claims, path+"_verified")
		if isNull(raw) || source.ours {
			continue
		}
		if said = true; string(raw) != "true" && string(raw) != `"true"` {
			return true
		}
	}
	return !said && (path == "email" || path == "phone_number") || path == m.emailClaim && m.unverified(sources)
}

// still are the groups and claims of a person as found last that the configuration
// knows now.
func (m mapping) still(p person) (groups []string, claims map[string]string) {
	for _, group := range p.Groups {
		for _, names := range m.groups {
			if slices.Contains(names, group) {
				groups = append(groups, group)
				break
			}
		}
	}
	claims = maps.Clone(p.Claims)
	maps.DeleteFunc(claims, func(name, _ string) bool { return m.claims[name] == "" })
	if len(claims) == 0 {
		claims = nil
	}
	return groups, claims
}

// warnOfClaim names a claim that was left out, and neither its value nor the person.
func (s *Source) warnOfClaim(name string) {
	now, last := s.now().Unix(), s.warned.Load()
	if now-last < warnClaimEvery && now >= last || !s.warned.CompareAndSwap(last, now) {
		return
	}
	s.log.Warn("a claim is left out of a session: its value is no text, number, true or false, or longer than 255 bytes, or holds control characters; more of these within a minute are not logged",
		"claim", name, "from", s.claims.claims[name])
}
