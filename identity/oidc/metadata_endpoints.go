package oidc

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/jws"
)

// readEndpoints reads the addresses that are used. One that is not used is not
// looked at: it may be anywhere.
func (s *Source) readEndpoints(p *provider, d jws.Claims) error {
	for _, e := range []struct {
		member         string
		to             *string
		required, used bool
	}{
		{"authorization_endpoint", &p.authURL, true, true},
		{"token_endpoint", &p.tokenURL, true, true},
		{"jwks_uri", &p.jwksURL, true, true},
		{"userinfo_endpoint", &p.userinfoURL, false, s.config.UserInfo != userinfoOff},
		{"pushed_authorization_request_endpoint", &p.parURL, false, true},
		{"end_session_endpoint", &p.endSessionURL, false, true},
	} {
		if !e.used {
			continue
		}
		value, present, err := d.String(e.member)
		if err != nil || (!present && e.required) {
			return s.unusable(e.member, "%s is missing or not a string", e.member)
		}
		if !present {
			continue
		}
		if err := s.client.CheckEndpoint(value); err != nil {
			return s.unusable(e.member, "%s: %w", e.member, err)
		}
		*e.to = value
	}
	if s.mutualTLS() {
		if err := s.readAliases(p, d); err != nil {
			return err
		}
	}
	if err := checkOwnQuery(p.authURL, reserved); err != nil {
		return s.unusable("authorization_endpoint", "authorization_endpoint: %w", err)
	}
	if err := checkOwnQuery(p.endSessionURL, endSessionParameters); err != nil {
		return s.unusable("end_session_endpoint", "end_session_endpoint: %w", err)
	}
	return nil
}

// mutualTLS says whether we show a certificate when we connect.
func (s *Source) mutualTLS() bool {
	return s.config.Fetch.Certificate != nil
}

// readAliases takes the endpoints for clients with a certificate (RFC 8705,
// section 5). They lie under the same rules as the others.
func (s *Source) readAliases(p *provider, d jws.Claims) error {
	aliases, _, err := d.Object("mtls_endpoint_aliases")
	if err != nil {
		return s.unusable("mtls_endpoint_aliases", "mtls_endpoint_aliases is not an object")
	}
	for member, to := range map[string]*string{
		"token_endpoint": &p.tokenURL, "userinfo_endpoint": &p.userinfoURL, "pushed_authorization_request_endpoint": &p.parURL,
	} {
		value, present, err := aliases.String(member)
		if err != nil {
			return s.unusable("mtls_endpoint_aliases", "mtls_endpoint_aliases: %s is not a string", member)
		}
		if !present || *to == "" {
			continue
		}
		if err := s.client.CheckEndpoint(value); err != nil {
			return s.unusable("mtls_endpoint_aliases", "mtls_endpoint_aliases: %s: %w", member, err)
		}
		*to = value
	}
	return nil
}

var endSessionParameters = []string{"id_token_hint", "post_logout_redirect_uri", "state", "client_id", "logout_hint"}

// checkOwnQuery refuses an endpoint whose own query holds one of our parameters:
// the provider could read either of the two.
func checkOwnQuery(address string, ours []string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return errors.New("its query cannot be read")
	}
	for _, name := range ours {
		if query.Has(name) {
			return fmt.Errorf("its query sets %s", name)
		}
	}
	return nil
}

// sameHosts says whether people, codes, secrets and tokens would go to the hosts
// that they went to before. What appears anew must be at one of those.
func sameHosts(old, next *provider) bool {
	for _, pair := range [][2]string{
		{old.authURL, next.authURL}, {old.tokenURL, next.tokenURL}, {old.jwksURL, next.jwksURL},
	} {
		if origin(pair[0]) != origin(pair[1]) {
			return false
		}
	}
	known := []string{origin(old.authURL), origin(old.tokenURL), origin(old.jwksURL)}
	for _, pair := range [][2]string{
		{old.userinfoURL, next.userinfoURL}, {old.parURL, next.parURL}, {old.endSessionURL, next.endSessionURL},
	} {
		before := known
		if pair[0] != "" {
			before = []string{origin(pair[0])}
		}
		if pair[1] != "" && !slices.Contains(before, origin(pair[1])) {
			return false
		}
	}
	return true
}

// origin is scheme and host of an address that [issuer.Client.CheckEndpoint]
// accepted.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
