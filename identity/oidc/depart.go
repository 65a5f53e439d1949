package oidc

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
)

// maxHintToken bounds the ID token in the address of a sign-out. With a longer one
// servers refuse the whole address; without one the provider asks the person.
const maxHintToken = 6 << 10

var _ identity.Departer = (*Source)(nil)

// Depart gives the address where the person ends the provider's own session
// (OpenID Connect RP-Initiated Logout 1.0, section 2), "" when the provider has
// none. An ID token that is over still serves as the hint.
func (s *Source) Depart(ctx context.Context, d identity.Departure) (string, error) {
	p, err := s.ready(ctx)
	if err != nil {
		return "", err
	}
	if p.endSessionURL == "" {
		return "", nil
	}
	form := url.Values{"client_id": {s.clientID}}
	if h, err := s.unpack(d.Keep); err == nil && h.ID != "" && len(h.ID) <= maxHintToken {
		form.Set("id_token_hint", h.ID)
	}
	if d.ReturnURL != "" {
		u, err := url.Parse(d.ReturnURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return "", fail(identity.ErrRefused, "depart.return", errors.New("leaving the provider: the return address is not an absolute one"))
		}
		form.Set("post_logout_redirect_uri", d.ReturnURL)
		if d.State != "" && len(d.State) <= maxState && visible(d.State) && !strings.Contains(d.State, " ") {
			form.Set("state", d.State)
		}
	}
	return withQuery(p.endSessionURL, form), nil
}
