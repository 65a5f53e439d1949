package idp

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// acrPassword is the only level that this provider can vouch for.
const acrPassword = "urn:example:acr:password"

var claimNames = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash",
	"preferred_username", "name", "email", "email_verified", "roles"}

// DemoUsers are the five people of the demo, each with the own username as
// password: one a role, and one without any. Nobody of them exists.
func DemoUsers() []User {
	user := func(username, name string, roles ...string) User {
		return User{Username: username, Password: username, Name: name, Email: username + "@hospital.example", Roles: roles}
	}
	return []User{
		user("patient", "Petra Patient", "patient"),
		user("doctor", "Dominik Doctor", "doctor"),
		user("finance", "Fiona Finance", "finance"),
		user("external", "Emil External", "external"),
		user("nobody", "Nora Nobody"),
	}
}

// subjectOf gives an account's stable id: the same after a restart, and no name
// that somebody would be tempted to use as one.
func subjectOf(username string) string {
	sum := sha256.Sum256([]byte("demo account " + username))
	return hex.EncodeToString(sum[:12])
}

// claims about a user, as far as the scopes ask for them (OpenID Connect Core
// 1.0, section 5.4). Roles come with openid itself: they are why this provider
// exists.
func (u User) claims(scopes []string) map[string]any {
	roles := u.Roles
	if roles == nil {
		roles = []string{}
	}
	c := map[string]any{"sub": u.Subject, "roles": roles}
	if slices.Contains(scopes, "profile") {
		c["preferred_username"] = u.Username
		if u.Name != "" {
			c["name"] = u.Name
		}
	}
	if slices.Contains(scopes, "email") && u.Email != "" {
		c["email"], c["email_verified"] = u.Email, true
	}
	return c
}
