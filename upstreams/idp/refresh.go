package idp

import (
	"net/url"
	"slices"
	"strings"
)

// renewal is what a refresh token stands for. One that was used stays known
// until it is over, so that a second use is seen.
type renewal struct {
	grant
	used bool
}

// renew gives what the refresh token stands for and uses it up: the answer has
// another one. One that comes twice was copied, and nobody can say which of the
// two was the client: all of its family end (RFC 9700, section 4.14.2).
func (p *Provider) renew(client Client, params url.Values) (grant, bool) {
	name := params.Get("refresh_token")
	found, ok := p.renewals.get(name)
	if !ok || !client.Refresh || found.client != client.ID {
		return grant{}, false
	}
	if !p.renewals.change(name, func(r *renewal) bool { was := r.used; r.used = true; return !was }) {
		p.disown(found.family)
		return grant{}, false
	}
	if params.Has("scope") {
		less := strings.Fields(params.Get("scope"))
		if slices.ContainsFunc(less, func(s string) bool { return !slices.Contains(found.scopes, s) }) {
			return grant{}, false
		}
		found.scopes = less
	}
	found.nonce = "" // OpenID Connect Core 1.0, section 12.2
	return found.grant, true
}

// disown takes away everything that one code led to.
func (p *Provider) disown(family string) {
	p.tokens.takeAll(func(a access) bool { return a.family == family })
	p.renewals.takeAll(func(r renewal) bool { return r.family == family })
}
