package oidc

import (
	"maps"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/jws"
)

// fapiAlgs are the signature algorithms of the FAPI 2.0 Security Profile, section
// 5.4.1.
var fapiAlgs = []string{"PS256", "ES256", "EdDSA"}

// demands finds out whether this configuration can work with the provider.
func (s *Source) demands(p *provider, d jws.Claims) error {
	if s.pushed(p) && p.parURL == "" {
		return s.unusable("par", "pushed_authorization_request_endpoint is missing: switch pushed authorization requests (RFC 9126) on at the provider")
	}
	modes, listed, err := d.Strings("response_modes_supported")
	if s.config.Request.FormPost && (err != nil || (listed && !slices.Contains(modes, "form_post"))) {
		return s.unusable("response_mode", "response_modes_supported lacks form_post: leave the line `response_mode` out")
	}
	if err := checkOwnQuery(p.authURL, slices.Collect(maps.Keys(s.config.Request.Parameters))); err != nil {
		return s.unusable("authorization_endpoint", "authorization_endpoint: %w", err)
	}
	if s.config.FAPI2 {
		return s.demandFAPI2(p, d)
	}
	return nil
}

// demandFAPI2 is what the FAPI 2.0 Security Profile, section 5.3.2, wants a
// provider to do. What its metadata does not promise is not there.
func (s *Source) demandFAPI2(p *provider, d jws.Claims) error {
	if !p.issPromised {
		return s.unusable("fapi2", "authorization_response_iss_parameter_supported is not true: `profile fapi2` needs it (RFC 9207)")
	}
	if _, listed, _ := d.Strings("code_challenge_methods_supported"); !listed {
		return s.unusable("fapi2", "code_challenge_methods_supported is missing: `profile fapi2` needs PKCE with S256")
	}
	if s.bound() {
		if !slices.Contains(p.dpopAlgs, dpopAlg) {
			return s.unusable("fapi2", "dpop_signing_alg_values_supported lacks %s: switch DPoP (RFC 9449) on at the provider, or give a client certificate", dpopAlg)
		}
		return nil
	}
	if bound, _, err := d.Bool("tls_client_certificate_bound_access_tokens"); err != nil || !bound {
		return s.unusable("fapi2", "tls_client_certificate_bound_access_tokens is not true: switch certificate-bound access tokens (RFC 8705, section 3) on at the provider")
	}
	return nil
}

// checkFAPI2 refuses a configuration that cannot keep to the profile.
func (c Config) checkFAPI2(wrong func(string, ...any)) {
	if !c.FAPI2 {
		return
	}
	switch c.Client.method() {
	case privateKeyJWT, mutualTLS, selfSignedTLS:
	default:
		wrong("profile fapi2 needs private_key_jwt, tls_client_auth or self_signed_tls_client_auth as client authentication, not %s", c.Client.method())
	}
	if c.Client.AssertionAudience != "" {
		wrong("profile fapi2 has the issuer as the assertion's audience: leave the other one out")
	}
	if c.Client.Key != nil && len((&Source{config: &c}).keyAlgs(c.Client.Key.Public())) == 0 {
		wrong("profile fapi2 needs a client key for PS256, ES256 or EdDSA: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`")
	}
	for _, alg := range c.Algs {
		if !slices.Contains(fapiAlgs, alg) {
			wrong("profile fapi2 has ID tokens signed with %s, not %q", strings.Join(fapiAlgs, ", "), alg)
		}
	}
}
