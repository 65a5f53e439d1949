package idp

import "net/http"

// discovery is OpenID Connect Discovery 1.0, section 4.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                           p.issuer,
		"authorization_endpoint":                           p.issuer + "/authorize",
		"token_endpoint":                                   p.issuer + "/token",
		"userinfo_endpoint":                                p.issuer + "/userinfo",
		"jwks_uri":                                         p.issuer + "/jwks",
		"end_session_endpoint":                             p.issuer + "/end_session",
		"scopes_supported":                                 []string{"openid", "profile", "email", "roles"},
		"response_types_supported":                         []string{"code"},
		"response_modes_supported":                         []string{"query", "form_post"},
		"grant_types_supported":                            []string{"authorization_code", "refresh_token"},
		"subject_types_supported":                          []string{"public"},
		"id_token_signing_alg_values_supported":            []string{p.signer.alg},
		"token_endpoint_auth_methods_supported":            []string{authBasic, authPost, authSecretJWT, authKeyJWT},
		"token_endpoint_auth_signing_alg_values_supported": append([]string{"HS256"}, assertionAlgs...),
		"pushed_authorization_request_endpoint":            p.issuer + "/par",
		"dpop_signing_alg_values_supported":                assertionAlgs,
		"userinfo_signing_alg_values_supported":            []string{p.signer.alg},
		"backchannel_logout_supported":                     true,
		"backchannel_logout_session_supported":             true,
		"code_challenge_methods_supported":                 []string{"S256"},
		"prompt_values_supported":                          []string{"none", "login", "select_account"},
		"acr_values_supported":                             []string{ACRPassword, ACRMultiFactor},
		"claims_supported":                                 claimNames,
		"claims_parameter_supported":                       false,
		"request_parameter_supported":                      false,
		"request_uri_parameter_supported":                  false,
		"authorization_response_iss_parameter_supported":   true,
	})
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{p.signer.jwk}})
}

func (p *Provider) home(w http.ResponseWriter, r *http.Request) {
	s, _, signedIn := p.session(r)
	p.page(w, http.StatusOK, view{Kind: "home", Name: p.people.name(s.username), SignedIn: signedIn})
}
