package oidc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	gooidc "github.com/coreos/go-oidc/v3/oidc"
)

// provider is checked metadata (OpenID Connect Discovery 1.0, section 3; RFC
// 8414, section 2). It does not change; a renewal makes another one.
type provider struct {
	authURL, tokenURL string
	jwksURL           string
	userinfoURL       string // the others may be empty: none
	parURL            string // RFC 9126
	endSessionURL     string // OpenID Connect RP-Initiated Logout 1.0

	issPromised bool     // RFC 9207: every response carries iss
	parRequired bool     // RFC 9126, section 5
	notifies    bool     // it sends logout tokens (OpenID Connect Back-Channel Logout 1.0, section 2.1)
	algs        []string // accepted for ID tokens and logout tokens
	authMethods []string // of the token endpoint; empty: not said
	authAlgs    []string // of client assertions; empty: not said
	dpopAlgs    []string // RFC 9449, section 5.1; empty: none
	keys        *issuer.Keys
	verifier    *gooidc.IDTokenVerifier
}

// Algorithms of ID tokens. A provider that does not say what it uses gets the
// first list; one that does may use any of the second.
var (
	usualAlgs = []string{"RS256", "ES256", "EdDSA", "PS256"}
	knownAlgs = []string{"RS256", "ES256", "EdDSA", "PS256", "RS384", "RS512", "ES384", "PS384", "PS512"}
)

// discover fetches and checks the metadata. old is what was known until now.
func (s *Source) discover(ctx context.Context, old *provider, have bool) (*provider, error) {
	document, err := s.client.Discover(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.readMetadata(document)
	if err != nil {
		return nil, err
	}
	if !have {
		old = nil
	}
	if old != nil && !sameHosts(old, p) {
		// Whoever changes this answer for a moment would get codes and
		// the client secret sent to a place of their own (RFC 9700,
		// section 4.4). A provider that really moved is followed when
		// the old metadata is too old to keep.
		return nil, fail(identity.ErrUnavailable, "discovery.moved", errors.New("metadata names other hosts than before; the old ones stay in use for up to 24 h"))
	}
	if old != nil && old.jwksURL == p.jwksURL && slices.Equal(old.algs, p.algs) {
		p.keys = old.keys
	} else {
		p.keys = issuer.NewKeys(issuer.KeysConfig{Client: s.client, URL: p.jwksURL, Algs: p.algs, Now: s.now, Logger: s.log})
	}
	p.verifier = gooidc.NewVerifier(s.issuer, keySet{p.keys}, s.verifierConfig(p.algs))
	return p, nil
}

// unusable is metadata that no sign-in can go by. Its text tells the operator
// what to change.
func (s *Source) unusable(member, format string, args ...any) error {
	return fail(identity.ErrUnavailable, "discovery."+member, fmt.Errorf("reading metadata of %s: %w", s.issuer, fmt.Errorf(format, args...)))
}

// readMetadata applies the rules that make a provider usable.
func (s *Source) readMetadata(d jws.Claims) (*provider, error) {
	p := &provider{}
	if err := s.readEndpoints(p, d); err != nil {
		return nil, err
	}
	for _, flag := range []struct {
		member, reason string
		to             *bool
	}{
		{"authorization_response_iss_parameter_supported", "iss", &p.issPromised},
		{"require_pushed_authorization_requests", "par", &p.parRequired},
		{"backchannel_logout_supported", "backchannel", &p.notifies},
	} {
		var err error
		if *flag.to, _, err = d.Bool(flag.member); err != nil {
			return nil, s.unusable(flag.reason, "%s is not true or false", flag.member)
		}
	}
	methods, listed, err := d.Strings("code_challenge_methods_supported")
	if err != nil || (listed && !slices.Contains(methods, "S256")) {
		// Falling back to plain, or to nothing, is the downgrade that
		// RFC 9700, section 2.1.1, rules out.
		return nil, s.unusable("pkce", "code_challenge_methods_supported lacks S256: switch PKCE with S256 on at the provider")
	}
	if err := s.readAuthMethods(p, d); err != nil {
		return nil, err
	}
	if p.dpopAlgs, _, err = d.Strings("dpop_signing_alg_values_supported"); err != nil {
		return nil, s.unusable("dpop", "dpop_signing_alg_values_supported is not a list of strings")
	}
	if p.algs, err = acceptedAlgs(d, s.config.Algs); err != nil {
		return nil, s.unusable("algs", "%w", err)
	}
	if err := s.demands(p, d); err != nil {
		return nil, err
	}
	return p, nil
}

// authMethod is the way in which we authenticate at the token endpoint.
func (s *Source) authMethod() string { return s.config.Client.method() }

func (s *Source) readAuthMethods(p *provider, d jws.Claims) error {
	var err error
	var listed bool
	if p.authMethods, listed, err = d.Strings("token_endpoint_auth_methods_supported"); err != nil {
		return s.unusable("client_auth", "token_endpoint_auth_methods_supported is not a list of strings")
	}
	if method := s.authMethod(); listed && !slices.Contains(p.authMethods, method) {
		return s.unusable("client_auth", "token_endpoint_auth_methods_supported lacks %s: allow it for this client, or write another `client_auth`", method)
	}
	if p.authAlgs, _, err = d.Strings("token_endpoint_auth_signing_alg_values_supported"); err != nil {
		return s.unusable("client_auth", "token_endpoint_auth_signing_alg_values_supported is not a list of strings")
	}
	return nil
}

// acceptedAlgs is what the provider says it signs ID tokens with, as far as we
// know it and as far as pinned says: no "none", nothing with a shared secret.
func acceptedAlgs(d jws.Claims, pinned []string) ([]string, error) {
	listed, present, err := d.Strings("id_token_signing_alg_values_supported")
	if err != nil {
		return nil, errors.New("id_token_signing_alg_values_supported is not a list of strings")
	}
	switch {
	case !present && len(pinned) == 0:
		return usualAlgs, nil
	case !present:
		listed = pinned
	}
	var algs []string
	for _, alg := range knownAlgs {
		if slices.Contains(listed, alg) && (len(pinned) == 0 || slices.Contains(pinned, alg)) {
			algs = append(algs, alg)
		}
	}
	switch {
	case len(algs) > 0:
		return algs, nil
	case len(pinned) > 0:
		return nil, errors.New("id_token_signing_alg_values_supported holds none of the line `id_token_algs`")
	}
	return nil, errors.New("id_token_signing_alg_values_supported holds no algorithm that is accepted: RS256, ES256, EdDSA or PS256 will do")
}
