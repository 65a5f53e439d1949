package oidc

import (
	"context"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/jws"
)

// tokens is a token response (OpenID Connect Core 1.0, section 3.1.3.3). The
// access token serves one userinfo request and is kept nowhere.
type tokens struct {
	access, id string
	refresh    string // may be empty
}

// exchange sends the code. Whatever goes wrong after that, the code counts as
// used (RFC 6749, section 4.1.2).
func (s *Source) exchange(ctx context.Context, p *provider, k kept, code string) (tokens, error) {
	answer, err := s.tokenRequest(ctx, p, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {k.Callback}, "code_verifier": {k.Verifier},
	})
	if err != nil {
		return tokens{}, err
	}
	t, err := s.readTokens(ctx, answer)
	if err == nil && t.id == "" {
		err = refused("token.id_token")
	}
	if err != nil {
		return tokens{}, err
	}
	return t, nil
}

// readTokens checks what every token response has (RFC 6749, section 5.1). How
// long the access token lives matters to nobody here, so that expires_in may be
// absent; it has to be a number all the same.
func (s *Source) readTokens(ctx context.Context, answer jws.Claims) (tokens, error) {
	var t tokens
	var present bool
	var err error
	if t.access, present, err = answer.String("access_token"); err != nil || !present || !tokenText(t.access) {
		return tokens{}, refused("token.access_token")
	}
	kind, _, err := answer.String("token_type")
	if err != nil || !strings.EqualFold(kind, s.tokenType()) || !visible(kind) {
		return tokens{}, refused("token.type")
	}
	if t.id, present, err = optional(answer, "id_token"); err != nil {
		return tokens{}, refused("token.id_token")
	}
	if present && t.id == "" { // not the same as none
		return tokens{}, refused("idtoken.malformed")
	}
	if t.refresh, present, err = optional(answer, "refresh_token"); err != nil || (present && !tokenText(t.refresh)) {
		return tokens{}, refused("token.refresh_token")
	}
	if raw := answer["expires_in"]; !isNull(raw) && strings.Trim(string(raw), "0123456789") != "" {
		return tokens{}, refused("token.malformed")
	}
	return t, s.checkBound(ctx, t.access)
}

// tokenText says whether a token can stand in a header (RFC 6749, appendix A).
func tokenText(s string) bool { return visible(s) && !strings.Contains(s, " ") }
