package oidc

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
)

// check finds everything that is wrong, not only the first thing.
func (c Config) check() error {
	var all []error
	wrong := func(format string, args ...any) {
		all = append(all, fmt.Errorf("configuring oidc provider %q: "+format, append([]any{c.Name}, args...)...))
	}
	if !identity.ValidSource(c.Name) {
		wrong("the name is part of a URL: use 1 to 64 of the characters A-Z a-z 0-9 . _ -")
	}
	if err := checkIssuer(c.Issuer); err != nil {
		wrong("%w", err)
	}
	if !visible(c.ClientID) {
		wrong("client_id is missing or not printable ASCII: write it as the provider registered it")
	}
	if c.ClientSecret == "" {
		wrong("client_secret is missing: register a confidential client and write its secret, best as {file./path}")
	}
	if strings.ContainsAny(c.ClientSecret, "\r\n\x00") {
		wrong("client_secret holds a line break: is the file it comes from one line without an end of line?")
	}
	for _, scope := range c.Scopes {
		if !visible(scope) || strings.ContainsAny(scope, ` "\`) {
			wrong("%q is not a scope: write one word a scope", scope)
		}
	}
	if strings.HasPrefix(c.RolesClaim, ".") || strings.HasSuffix(c.RolesClaim, ".") || strings.Contains(c.RolesClaim, "..") {
		wrong("roles_claim %q: write a claim's name, or a path such as realm_access.roles", c.RolesClaim)
	}
	if p := c.UsernamePrefix; p != "" && (!visible(p) || p[0] == ' ') {
		wrong("username_prefix %q: write printable ASCII that does not begin with a blank", p)
	}
	for value, roles := range c.Roles {
		for _, role := range roles {
			if !identity.ValidRole(role) {
				wrong("role %q from %q: a role is 1 to 64 of the characters A-Z a-z 0-9 . _ -", role, value)
			}
		}
	}
	return errors.Join(all...)
}

// checkIssuer allows https anywhere and http on this machine only: whoever can
// change an answer on the way is the provider (OpenID Connect Discovery 1.0,
// section 7.1). The name "localhost" is compared as text; what it resolves to
// does not make another name local.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case issuer == "":
		return errors.New("issuer is missing: write the provider's address, such as https://login.example.org")
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return fmt.Errorf("issuer %q is not an address: write it as https://login.example.org", issuer)
	case u.User != nil || strings.ContainsAny(issuer, "?#"):
		return errors.New("issuer must not have a user, a query or a fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("issuer %q would be reached without TLS: write https:// (http only at 127.0.0.1, [::1] and localhost)", issuer)
	}
	return fmt.Errorf("issuer %q: write an address that begins with https://", issuer)
}

// isLoopback is true for exactly the three names of this machine.
func isLoopback(host string) bool {
	return host == "127.0.0.1" || host == "::1" || host == "localhost"
}

// checkEndpoint judges an address that the provider's metadata names. Another
// host is fine (large providers have them), another protocol is not, and
// neither is an address literal or local name that would turn us against
// machines that only we can reach (RFC 8725, section 3.10).
func checkEndpoint(issuer, endpoint string) error {
	base, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.User != nil || strings.Contains(endpoint, "#") {
		return errors.New("not an absolute address without user and fragment")
	}
	sameHost := u.Hostname() == base.Hostname()
	local := isLoopback(base.Hostname())
	switch {
	case u.Scheme == "http" && base.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	case u.Scheme != "https":
		return errors.New("not https")
	case sameHost:
		return nil
	case isLoopback(u.Hostname()) && local:
		return nil
	case strings.EqualFold(u.Hostname(), "localhost") || strings.HasSuffix(strings.ToLower(u.Hostname()), ".localhost"):
		return errors.New("names this machine")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil {
		return checkAddress(ip)
	}
	return nil
}

// checkAddress refuses addresses that no provider has unless the issuer itself
// is there: this machine, link-local ones (cloud metadata services) and groups.
// Private networks stay allowed: a hospital's provider lives in one.
func checkAddress(ip netip.Addr) error {
	ip = ip.Unmap()
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.Zone() != "" {
		return errors.New("address is not one a provider can have")
	}
	return nil
}

// scopes are the configured ones, openid first, none twice.
func (c Config) scopes() []string {
	all := c.Scopes
	if all == nil {
		all = []string{"profile", "email"}
	}
	scopes := []string{"openid"}
	for _, scope := range all {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}
