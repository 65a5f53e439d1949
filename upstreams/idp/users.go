package idp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
)

// The levels that this provider can vouch for: a password, and a password with
// the code of a second factor.
const (
	ACRPassword    = "urn:example:acr:password"
	ACRMultiFactor = "urn:example:acr:mfa"
)

var claimNames = []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid",
	"preferred_username", "name", "email", "email_verified", "roles"}

// people are the accounts, which may change while the provider runs.
type people struct {
	mu  sync.Mutex
	all map[string]User
}

func accounts(users []User) (map[string]User, error) {
	all := map[string]User{}
	for _, user := range users {
		if user.Username == "" || user.Password == "" {
			return nil, fmt.Errorf("making provider: user %q needs a name and a password", user.Username)
		}
		if user.Subject == "" {
			user.Subject = subjectOf(user.Username)
		}
		all[user.Username] = user
	}
	return all, nil
}

// get gives the zero User for somebody unknown.
func (p *people) get(username string) User {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[username]
}

func (p *people) name(username string) string { return p.get(username).Name }

// may says whether somebody may sign in, or stay.
func (p *people) may(username string) bool {
	user := p.get(username)
	return user.Username != "" && !user.Disabled
}

// Change changes an account from now on: other roles, Disabled, another password.
// The username stays. It is false when nobody is called so.
func (p *Provider) Change(username string, change func(*User)) bool {
	p.people.mu.Lock()
	defer p.people.mu.Unlock()
	user, known := p.people.all[username]
	if !known {
		return false
	}
	user.Roles = slices.Clone(user.Roles)
	change(&user)
	user.Username = username
	p.people.all[username] = user
	return true
}

// Disable keeps somebody out from now on: no sign-in, no refresh, no userinfo.
// The clients are not told; that is [Provider.EndSession].
func (p *Provider) Disable(username string) bool {
	return p.Change(username, func(u *User) { u.Disabled = true })
}

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
