package oidc

import (
	"context"
	"encoding/json"
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
	if t.id, present, err = answer.String("id_token"); err != nil {
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

// held is what a session keeps of a sign-in, sealed in the store: the last ID token,
// which the provider wants to see again at a sign-out, and the refresh token. Access
// tokens are kept nowhere.
type held struct {
	ID      string `json:"id_token"`
	Refresh string `json:"refresh_token,omitempty"`
}

const maxRefresh = 4 << 10 // bytes of a refresh token that is kept

// hold gives the bytes to keep and whether the provider can be asked again with
// them. A refresh token that is too long is not kept: the session lives as one
// without.
func (s *Source) hold(t tokens) ([]byte, bool) {
	h := held{ID: t.id, Refresh: t.refresh}
	if len(h.Refresh) > maxRefresh {
		s.log.Warn("the provider's refresh token is too long to be kept: sessions are not checked again", "bytes", len(h.Refresh), "most", maxRefresh)
		h.Refresh = ""
	}
	if s.config.NoRefresh {
		h.Refresh = ""
	}
	keep, err := json.Marshal(h)
	if err != nil { // never: two strings
		return nil, false
	}
	return keep, h.Refresh != ""
}
