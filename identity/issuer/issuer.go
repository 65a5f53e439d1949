// Package issuer says what may be fetched from one OpenID Connect or OAuth 2.0
// issuer and what is believed of its keys (OpenID Connect Discovery 1.0, RFC
// 8414, RFC 7517, RFC 7518 section 6, RFC 8037).
//
// Call [NewClient] once an issuer. [Client.Discover] gives its metadata,
// [Client.CheckEndpoint] judges each address that the metadata names, [NewKeys]
// makes the key set that verifies its tokens, and [Client.Do] carries whatever
// else is asked of it: tokens, userinfo, introspection. Nothing here connects
// before it is asked to.
//
// It promises that a request goes to the issuer's own host or to one that the
// configuration lists, and nowhere else, whatever a document, a redirect or a
// name server says; that an answer costs at most 5 seconds and 1 MiB after
// decompression; that what carries a body is sent once; that no cookie is kept.
// A key verifies one algorithm, is public, strong enough and for signatures,
// and is the only one of its name. Keys come from the address in the metadata,
// never from a token (RFC 8725, section 3.8). An unknown key name costs the
// issuer at most one request a minute, however many ask at once.
//
// It trusts TLS, with the system's certification authorities or the configured
// ones, and the name server not at all: what a listed name resolves to is
// judged at the address that is dialled. The issuer's own host may be anywhere,
// because an operator wrote it down.
//
// It leaves to the caller: what a token's claims must be, which algorithms are
// accepted, and what a failure means for the person or program that waits.
// Failures of kind identity.ErrUnavailable are the issuer's; a [KeyError] is the
// token's.
package issuer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
)

// ClientConfig says how one issuer is reached.
type ClientConfig struct {
	Issuer      string           // exactly as it spells itself
	Hosts       []string         // host names besides the issuer's own that its documents may name
	Roots       *x509.CertPool   // nil: the system's
	Proxy       *url.URL         // nil: from the environment; never used for loopback
	Certificate *tls.Certificate // for mutual TLS; nil: none
	HTTPClient  *http.Client     // nil: our own; else its Transport as it is, and its Timeout when below 5 s
}

func (c ClientConfig) check() error {
	if err := CheckIssuer(c.Issuer); err != nil {
		return err
	}
	for _, host := range c.Hosts {
		if !validHost(host) {
			return fmt.Errorf("hosts %q: write a host's name alone, such as keys.example.org", host)
		}
	}
	if p := c.Proxy; p != nil && (p.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, p.Scheme)) {
		return errors.New("proxy is not an address of a proxy: write it as http://proxy.example.org:3128")
	}
	if c.Certificate != nil && (len(c.Certificate.Certificate) == 0 || c.Certificate.PrivateKey == nil) {
		return errors.New("the client certificate lacks its chain or its key")
	}
	return nil
}

// validHost accepts what [url.URL.Hostname] can give back: a name or an address
// literal without brackets.
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return !strings.Contains(host, "%")
	}
	if host == "" || len(host) > 253 || strings.Trim(host, ".-") != host || strings.Contains(host, "..") {
		return false
	}
	return !strings.ContainsFunc(host, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(".-_", r))
	})
}

// CheckIssuer allows https anywhere and http on this machine only: whoever can
// change an answer on the way is the provider (OpenID Connect Discovery 1.0,
// section 7.1). The name "localhost" is compared as text; what it resolves to
// does not make another name local.
func CheckIssuer(issuer string) error {
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

// CheckEndpoint judges an address that one of the issuer's documents names. It
// must be https at the issuer's host or at a listed one (RFC 9700, section 4.4;
// RFC 8725, section 3.10). Plain http is for an issuer that has it itself, on
// this machine.
func (c *Client) CheckEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.User != nil || strings.Contains(address, "#") {
		return errors.New("not an absolute address without user and fragment")
	}
	return c.checkURL(u)
}

func (c *Client) checkURL(u *url.URL) error {
	host := strings.ToLower(u.Hostname())
	switch {
	case u.Scheme == "http" && c.plain && isLoopback(host):
	case u.Scheme != "https":
		return errors.New("not https")
	}
	if !c.hosts[host] {
		if !validHost(host) {
			return errors.New("not at the issuer's host, and its own host is not one")
		}
		return fmt.Errorf("not at the issuer's host; if the provider uses this one, write the line `hosts %s`", host)
	}
	return nil
}

// checkAddress refuses addresses that no provider has unless the configuration
// says so: this machine, link-local ones (cloud metadata services) and groups.
// Private networks stay allowed: a hospital's provider lives in one.
func checkAddress(ip netip.Addr) error {
	ip = ip.Unmap()
	if ip.IsLoopback() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.Zone() != "" {
		return errors.New("address is not one a provider can have")
	}
	return nil
}

func unavailable(reason string, err error) error {
	return &identity.Failure{Kind: identity.ErrUnavailable, Reason: reason, Err: err}
}
