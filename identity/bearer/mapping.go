package bearer

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/jws"
)

// mapping says which claims become which part of a caller. It is what
// identity/oidc does with the claims of somebody who signs in.
type mapping struct {
	roles    string
	names    map[string][]string
	username string
	prefix   string
	claims   map[string]string // name in rules -> claim
	leftOut  func(name string) // told of claims with a value that is none; may be nil
}

// apply reads username, name, e-mail, roles and further claims. A claim of the wrong type refuses
// the token: guessing what was meant is how an object becomes a user.
func (m mapping) apply(c jws.Claims, to *Caller) error {
	username := to.Subject
	if m.username != "sub" {
		text, err := asText(find(c, m.username))
		if err != nil {
			return no("username.type")
		}
		username = text
	}
	if username == "" {
		return no("username.missing")
	}
	said, checked := verified(c)
	// At some providers everybody can enter any address as theirs.
	if m.username == "email" && !checked {
		return no("username.unverified")
	}
	to.Username = m.prefix + username
	var err error
	if to.Name, _, err = optional(c, "name"); err != nil {
		return no("name.type")
	}
	if to.Email, _, err = optional(c, "email"); err != nil {
		return no("email.type")
	}
	// Nobody is told apart by these two, so they are mended; a username never is.
	to.Name, to.Email = strings.TrimSpace(to.Name), strings.TrimSpace(to.Email)
	if said && !checked {
		to.Email = ""
	}
	to.Claims = m.claimsOf(c)
	return m.readRoles(c, to)
}

// readRoles maps the values of the roles claim, exactly; what is not listed is
// dropped. The result is sorted and holds no role twice.
func (m mapping) readRoles(c jws.Claims, to *Caller) error {
	raw := find(c, m.roles)
	if isNull(raw) {
		return nil
	}
	values, _, err := jws.Claims{"roles": raw}.Strings("roles")
	if err != nil {
		return no("roles.type")
	}
	set := map[string]bool{}
	for _, value := range values {
		for _, role := range m.names[value] {
			set[role] = true
		}
	}
	to.Roles = slices.Sorted(maps.Keys(set))
	return nil
}

// find looks a claim up by its whole name first, because names that are URLs hold
// dots, then as a path into objects.
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

// optional is a string claim for which null means absent.
func optional(c jws.Claims, name string) (string, bool, error) {
	if isNull(c[name]) {
		return "", false, nil
	}
	return c.String(name)
}

func asText(raw json.RawMessage) (string, error) {
	text, _, err := optional(jws.Claims{"text": raw}, "text")
	return text, err
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// verified says whether the issuer says anything about having checked the address,
// and whether it did.
func verified(c jws.Claims) (said, checked bool) {
	raw := c["email_verified"]
	return !isNull(raw), string(raw) == "true" || string(raw) == `"true"`
}
