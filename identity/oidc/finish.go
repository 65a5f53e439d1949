package oidc

import (
	"context"
	"net/url"
	"slices"

	"github.com/anteroom-proxy/anteroom/identity"
)

const maxParameter = 4096 // bytes of one parameter of the response

// Finish checks the provider's response, trades the code for tokens and gives
// the identity. Nothing is sent to the provider before the response is known to
// be its answer to this attempt.
func (s *Source) Finish(ctx context.Context, cb identity.Callback) (identity.Identity, error) {
	var nobody identity.Identity
	r, err := readResponse(cb.Query)
	if err != nil {
		return nobody, err
	}
	k, err := s.openKept(cb)
	if err != nil {
		return nobody, err
	}
	// An answer that came by another way than the one that was asked for was not
	// made for this attempt (OAuth 2.0 Multiple Response Type Encoding Practices,
	// section 2.1).
	if cb.Posted != k.Posted {
		return nobody, refused("callback.mode")
	}
	if !equal(r.state, k.State) {
		return nobody, refused("callback.state")
	}
	p, err := s.ready(ctx)
	if err != nil {
		return nobody, err
	}
	if err := r.checkIssuer(s.issuer, p.issPromised); err != nil {
		return nobody, err
	}
	if r.failed {
		return nobody, fail(identity.ErrDeclined, declinedReason(r.code), nil)
	}
	t, err := s.exchange(ctx, p, k, r.code)
	if err != nil {
		return nobody, err
	}
	claims, err := s.checkIDToken(ctx, p, t, k)
	if err != nil {
		return nobody, err
	}
	who, err := s.person(ctx, p, t, claims)
	if err != nil {
		return nobody, err
	}
	who.Keep, who.Renews = s.hold(t, who, k.Nonce)
	return who, nil
}

// response is an authorization response (OpenID Connect Core 1.0, sections
// 3.1.2.5 and 3.1.2.6).
type response struct {
	code   string // the code, or the error's code when failed
	failed bool
	state  string
	issuer string
	hasIss bool
}

// readResponse reads each parameter that matters exactly once. A parameter that
// stands twice, or a response that is a success and an error, is read one way
// here and another way elsewhere: nobody honest sends it (RFC 6749, section
// 3.1).
func readResponse(query url.Values) (response, error) {
	for _, name := range []string{"code", "state", "iss", "error"} {
		values := query[name]
		if len(values) > 1 {
			return response{}, refused("callback.duplicate")
		}
		if len(values) == 1 && (len(values[0]) > maxParameter || !visible(values[0])) {
			return response{}, refused("callback." + name)
		}
	}
	// Tokens never come this way in the code flow (RFC 9700, section 2.1.2).
	for _, name := range []string{"id_token", "access_token", "refresh_token"} {
		if query.Has(name) {
			return response{}, refused("callback.token")
		}
	}
	if !query.Has("state") {
		return response{}, refused("callback.state")
	}
	r := response{state: query.Get("state"), issuer: query.Get("iss"), hasIss: query.Has("iss")}
	switch {
	case query.Has("code") && query.Has("error"):
		return response{}, refused("callback.code_and_error")
	case query.Has("error"):
		r.code, r.failed = query.Get("error"), true
	case query.Has("code"):
		r.code = query.Get("code")
	default:
		return response{}, refused("callback.code")
	}
	return r, nil
}

// checkIssuer keeps a code from going to another provider than the one that
// made it (RFC 9207, section 2.4; RFC 9700, section 4.4). Strings are compared
// as they are, for errors too.
func (r response) checkIssuer(issuer string, promised bool) error {
	switch {
	case r.hasIss && r.issuer != issuer:
		return refused("callback.iss")
	case !r.hasIss && promised:
		return refused("callback.iss_missing")
	}
	return nil
}

// declinedReason turns a provider's error code into one of ours. Its own text
// goes nowhere: what a stranger can put into a URL is not for our pages or logs.
func declinedReason(code string) string {
	known := []string{
		"access_denied", "login_required", "interaction_required", "consent_required", "account_selection_required",
		"invalid_request", "invalid_scope", "unauthorized_client", "unsupported_response_type",
		"server_error", "temporarily_unavailable",
	}
	if slices.Contains(known, code) {
		return "declined." + code
	}
	return "declined.other"
}

// person asks userinfo for what the ID token does not say and maps the claims.
func (s *Source) person(ctx context.Context, p *provider, t tokens, token claimSet) (identity.Identity, error) {
	sources := []claimSet{token}
	if p.userinfoURL != "" && s.config.UserInfo != userinfoOff && s.claims.lacking(token) {
		more, err := s.userinfo(ctx, p, t, token.subject)
		if err != nil {
			return identity.Identity{}, err
		}
		sources = append(sources, more)
	}
	i, err := s.claims.apply(sources)
	if err != nil {
		return identity.Identity{}, err
	}
	i.Source, i.Issuer, i.Subject = s.name, s.issuer, token.subject
	i.AuthTime, i.ACR, i.AMR = token.authTime, token.acr, token.amr
	i.Session = providerSession(token)
	if i.Issued, _, err = token.Time("iat"); err != nil { // checkTimes has seen it
		return identity.Identity{}, refused("idtoken.iat")
	}
	if claim := s.claims.byReference(sources); claim != "" {
		s.log.Warn("the claim of roles or groups comes by reference and is never fetched: let the provider put it into the ID token", "claim", claim)
	}
	if err := i.Check(); err != nil {
		return identity.Identity{}, err
	}
	return i, nil
}
