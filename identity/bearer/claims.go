package bearer

import (
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

// warnClaimEvery is how often a claim that was left out is logged at most, in seconds.
const warnClaimEvery = 60

func (c Config) checkClaims(wrong func(string, ...any)) {
	if len(c.Claims) > identity.MaxClaims {
		wrong("%d claims, at most %d", len(c.Claims), identity.MaxClaims)
	}
	for name, path := range c.Claims {
		if !identity.ValidClaim(name) {
			wrong("claim %q: a name is a lower-case letter and at most 31 letters, digits or _", name)
		}
		if path == "" || brokenPath(path) {
			wrong("claim %s from %q: write a claim's name, or a path such as address.country", name, path)
		}
	}
}

// brokenPath says whether a path has an empty step.
func brokenPath(path string) bool {
	return strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") || strings.Contains(path, "..")
}

// claimsOf reads the claims that rules may ask for. One that has no good value, or that
// the issuer has not checked, is left out: rules take it for absent, and absent equals
// nothing.
func (m mapping) claimsOf(c jws.Claims) map[string]string {
	var found map[string]string
	for name, path := range m.claims {
		if doubted(c, path) {
			continue
		}
		text, err := identity.ClaimText(find(c, path))
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

// doubted says whether the issuer has not checked that the value belongs to the person:
// at some everybody can enter any address, and any number, as theirs (OpenID Connect
// Core 1.0, section 5.1, of the claims that end in _verified).
func doubted(c jws.Claims, path string) bool {
	raw := find(c, path+"_verified")
	if isNull(raw) {
		return path == "email" || path == "phone_number"
	}
	return string(raw) != "true" && string(raw) != `"true"`
}

// warnOfClaim names a claim that was left out, and neither its value nor the person.
func (i *Issuer) warnOfClaim(name string) {
	now, last := i.now().Unix(), i.warned.Load()
	if now-last < warnClaimEvery && now >= last || !i.warned.CompareAndSwap(last, now) {
		return
	}
	i.log.Warn("a claim of an access token is left out: its value is no text, number, true or false, or longer than 255 bytes, or holds control characters; more of these within a minute are not logged",
		"claim", name, "from", i.mapping.claims[name])
}
