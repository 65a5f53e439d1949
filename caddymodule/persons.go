package caddymodule

import (
	"cmp"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
)

// vouching is who vouches for the people of a way to sign in, or of access tokens.
type vouching struct {
	issuer string
	names  string // the namespace of the usernames, when somebody else gives names out of it, too
}

// persons names people for budgets: one person has one, whether they come with a session or with a token. The account is issuer and
// subject (OpenID Connect Core section 5.7), so that two blocks for one issuer are about the same people. An issuer may call one person
// differently for each of its clients (pairwise subjects, section 8.1): where sessions and tokens get their usernames from the same claim
// of the same issuer, as the config has to say for them to be the same person in rules, the username is who it is.
func (a *App) persons() func(source, subject, username string) string {
	all := a.vouchings()
	return func(source, subject, username string) string {
		v := all[source]
		if v.names != "" && username != "" {
			return "name\x00" + v.names + "\x00" + strings.ToLower(username)
		}
		return "account\x00" + cmp.Or(v.issuer, source) + "\x00" + subject
	}
}

func (a *App) vouchings() map[string]vouching {
	all, spaces := map[string]vouching{}, map[string]string{}
	var taken []string
	for _, g := range a.sources {
		o, ok := g.(*OIDC)
		if !ok {
			continue
		}
		issuer := o.Issuer
		if v, ok := o.source.(identity.Vouched); ok {
			issuer = v.Issuer()
		}
		all[o.Name] = vouching{issuer: issuer}
		spaces[o.Name] = namespace(issuer, cmp.Or(o.UsernameClaim, "preferred_username")) + " " + strings.ToLower(g.Prefixed())
		taken = append(taken, spaces[o.Name])
	}
	for _, b := range a.Bearer {
		issuer := cmp.Or(b.named, b.Issuer)
		all[b.Name] = vouching{issuer: issuer}
		spaces[b.Name] = namespace(issuer, cmp.Or(b.UsernameClaim, "sub")) + " " + strings.ToLower(b.UsernamePrefix)
		if slices.Contains(taken, spaces[b.Name]) {
			for name, space := range spaces {
				if space == spaces[b.Name] {
					all[name] = vouching{issuer, space}
				}
			}
		}
	}
	return all
}
