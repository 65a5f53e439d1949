package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	gooidc "github.com/coreos/go-oidc/v3/oidc"
)

// provider is checked metadata (OpenID Connect Discovery 1.0, section 3). It
// does not change; a renewal makes another one.
type provider struct {
	authURL, tokenURL string
	userinfoURL       string // empty: none
	jwksURL           string
	issPromised       bool     // RFC 9207: every response carries iss
	algs              []string // accepted for ID tokens
	keys              *issuer.Keys
	verifier          *gooidc.IDTokenVerifier
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

// readMetadata applies the rules that make a provider usable. Its errors tell
// the operator what to change.
func (s *Source) readMetadata(d jws.Claims) (*provider, error) {
	unusable := func(member, format string, args ...any) error {
		return fail(identity.ErrUnavailable, "discovery."+member, fmt.Errorf("reading metadata of "+s.issuer+": "+format, args...))
	}
	p := &provider{}
	var err error
	for _, e := range []struct {
		member   string
		to       *string
		required bool
	}{
		{"authorization_endpoint", &p.authURL, true},
		{"token_endpoint", &p.tokenURL, true},
		{"jwks_uri", &p.jwksURL, true},
		{"userinfo_endpoint", &p.userinfoURL, false},
	} {
		value, present, err := d.String(e.member)
		if err != nil || (!present && e.required) {
			return nil, unusable(e.member, "%s is missing or not a string", e.member)
		}
		if !present {
			continue
		}
		if err := s.client.CheckEndpoint(value); err != nil {
			return nil, unusable(e.member, "%s: %w", e.member, err)
		}
		*e.to = value
	}
	if err := checkAuthQuery(p.authURL); err != nil {
		return nil, unusable("authorization_endpoint", "authorization_endpoint: %w", err)
	}
	if p.issPromised, _, err = d.Bool("authorization_response_iss_parameter_supported"); err != nil {
		return nil, unusable("iss", "authorization_response_iss_parameter_supported is not true or false")
	}
	methods, listed, err := d.Strings("code_challenge_methods_supported")
	if err != nil || (listed && !slices.Contains(methods, "S256")) {
		// Falling back to plain, or to nothing, is the downgrade that
		// RFC 9700, section 2.1.1, rules out.
		return nil, unusable("pkce", "code_challenge_methods_supported lacks S256: switch PKCE with S256 on at the provider")
	}
	methods, listed, err = d.Strings("token_endpoint_auth_methods_supported")
	if err != nil || (listed && !slices.Contains(methods, "client_secret_basic")) {
		return nil, unusable("client_auth", "token_endpoint_auth_methods_supported lacks client_secret_basic: allow it for this client")
	}
	if p.algs, err = acceptedAlgs(d); err != nil {
		return nil, unusable("algs", "%w", err)
	}
	return p, nil
}

// acceptedAlgs is what the provider says it signs ID tokens with, as far as we
// know it: no "none", nothing with a shared secret.
func acceptedAlgs(d jws.Claims) ([]string, error) {
	listed, present, err := d.Strings("id_token_signing_alg_values_supported")
	if err != nil {
		return nil, errors.New("id_token_signing_alg_values_supported is not a list of strings")
	}
	if !present {
		return usualAlgs, nil
	}
	var algs []string
	for _, alg := range knownAlgs {
		if slices.Contains(listed, alg) {
			algs = append(algs, alg)
		}
	}
	if len(algs) == 0 {
		return nil, errors.New("id_token_signing_alg_values_supported holds no algorithm that is accepted: RS256, ES256, EdDSA or PS256 will do")
	}
	return algs, nil
}

// checkAuthQuery refuses an authorization endpoint whose own query holds one of
// our parameters: the provider could read either of the two.
func checkAuthQuery(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("its query cannot be read")
	}
	for _, name := range []string{"response_type", "response_mode", "client_id", "redirect_uri", "scope", "state", "nonce",
		"prompt", "max_age", "code_challenge", "code_challenge_method", "request", "request_uri"} {
		if query.Has(name) {
			return fmt.Errorf("its query sets %s", name)
		}
	}
	return nil
}

// sameHosts says whether codes, secrets and tokens would go to the hosts that
// they went to before.
func sameHosts(old, next *provider) bool {
	for _, pair := range [][2]string{
		{old.authURL, next.authURL}, {old.tokenURL, next.tokenURL}, {old.jwksURL, next.jwksURL},
	} {
		if origin(pair[0]) != origin(pair[1]) {
			return false
		}
	}
	before := []string{origin(old.userinfoURL)}
	if old.userinfoURL == "" {
		before = []string{origin(old.authURL), origin(old.tokenURL), origin(old.jwksURL)}
	}
	return next.userinfoURL == "" || slices.Contains(before, origin(next.userinfoURL))
}

// origin is scheme and host of an address that [issuer.Client.CheckEndpoint] accepted.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
