package caddymodule

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/anteroom-proxy/anteroom/gate"
	"github.com/anteroom-proxy/anteroom/identity/bearer"
	"github.com/anteroom-proxy/anteroom/session"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// SiteBearer says whose access tokens a site accepts.
type SiteBearer struct {
	// Names of issuers of the global option. Without one the site accepts no bearer tokens.
	From []string `json:"from,omitempty"`
	// What tokens for this site have as their audience. Default: `https://` and the host.
	Audience string `json:"audience,omitempty"`
	// Tokens that are bound to no key pass, too: whoever copies one may use it.
	Unbound bool `json:"unbound,omitempty"`
}

// unmarshal reads one of
//
//	bearer from NAME…
//	bearer audience URI
//	bearer unbound allow
func (b *SiteBearer) unmarshal(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch {
	case len(args) >= 2 && args[0] == "from" && b.From == nil:
		b.From = args[1:]
	case len(args) == 2 && args[0] == "audience" && b.Audience == "":
		u, err := url.Parse(args[1])
		if err != nil || u.Scheme == "" || u.Fragment != "" || strings.ContainsAny(args[1], " #") {
			return d.Errf("bearer audience %q: write an absolute address without a fragment, for example https://fhir.hospital.example", args[1])
		}
		b.Audience = args[1]
	case slices.Equal(args, []string{"unbound", "allow"}) && !b.Unbound:
		b.Unbound = true
	default:
		return d.Errf("write `bearer from NAME…`, `bearer audience URI` or `bearer unbound allow`, each once")
	}
	return nil
}

// checkBearer judges the site's bearer lines together with its rules.
func (s *Site) checkBearer() error {
	var problems []error
	known := make([]string, len(s.app.Bearer))
	for i, b := range s.app.Bearer {
		known[i] = b.Name
	}
	for _, name := range s.Bearer.From {
		if !slices.Contains(known, name) {
			problems = append(problems, fmt.Errorf("bearer from %s: the global option `anteroom` has no `bearer %s { … }`; it has: %s", name, name, strings.Join(known, ", ")))
		}
	}
	switch {
	case len(s.Bearer.From) == 0 && (s.Bearer.Audience != "" || s.Bearer.Unbound):
		problems = append(problems, errors.New("`bearer audience` and `bearer unbound` need `bearer from NAME`, which says whose tokens are accepted"))
	case len(s.Bearer.From) == 0 && s.policy.Uses().Bearer:
		problems = append(problems, errors.New("a rule with `scope` is about bearer tokens, which this site does not accept: add `bearer from NAME`"))
	case len(s.Bearer.From) > 0 && !s.policy.Uses().Bearer:
		problems = append(problems, errors.New("the site accepts bearer tokens, but no rule lets one in: add for example `allow scope patient/Observation.rs GET /fhir/Observation`"))
	}
	if len(problems) == 0 && len(s.Bearer.From) > 0 {
		if site := s.bearerSite(); len(site.Issuers) > 0 {
			problems = append(problems, site.Valid())
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("%s: %w", siteAt(s), err)
	}
	return nil
}

// bearerOf is the site's check of bearer tokens, nil when it accepts none.
func (s *Site) bearerOf() gate.Bearer {
	if len(s.Bearer.From) == 0 {
		return nil
	}
	site := s.bearerSite()
	if len(site.Issuers) == 0 {
		return noTokens{}
	}
	return tokens{site, s.app.foreignPrefixes()}
}

// noTokens stands for issuers that cannot be asked as the machine is now: tokens are an outage, people sign in as ever.
type noTokens struct{}

var errNoIssuer = errors.New("no token issuer of this site can be used")

// Check fails for whoever comes with credentials of any kind.
func (noTokens) Check(r *http.Request) (*gate.Caller, error) {
	if len(r.Header["Authorization"]) > 0 || len(r.Header["Dpop"]) > 0 {
		return nil, errNoIssuer
	}
	return nil, nil
}

// Metadata is none.
func (noTokens) Metadata(string) []byte { return nil }

// Challenge is none.
func (noTokens) Challenge(string) []string { return nil }

// foreignPrefixes are for each issuer the prefixes of usernames that are others': of ways to sign in and of other issuers. One that
// is shorter than the issuer's own, such as none, is not among them.
func (a *App) foreignPrefixes() map[string][]string {
	all := make([]string, 0, len(a.sources)+len(a.Bearer))
	for _, g := range a.sources {
		all = append(all, g.Prefixed())
	}
	for _, b := range a.Bearer {
		all = append(all, b.UsernamePrefix)
	}
	foreign := map[string][]string{}
	for _, b := range a.Bearer {
		for _, prefix := range all {
			if len(prefix) > len(b.UsernamePrefix) {
				foreign[b.Name] = append(foreign[b.Name], prefix)
			}
		}
	}
	return foreign
}

func (s *Site) bearerSite() *bearer.Site {
	site := &bearer.Site{Audience: s.Bearer.Audience, Unbound: s.Bearer.Unbound, Scopes: s.policy.Scopes()}
	for _, b := range s.app.Bearer {
		if b.issuer != nil && slices.Contains(s.Bearer.From, b.Name) {
			site.Issuers = append(site.Issuers, b.issuer)
		}
	}
	return site
}

// tokens is a site's bearer check as the gate wants it: plain values, no identity.
type tokens struct {
	*bearer.Site
	foreign map[string][]string // issuer → prefixes that its usernames must not begin with
}

// Check hands the request's parts over and translates the answer.
func (t tokens) Check(r *http.Request) (*gate.Caller, error) {
	ask := bearer.Request{
		Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery,
		Authorization: r.Header["Authorization"], DPoP: r.Header["Dpop"], Certificate: clientCertificate(r),
	}
	c, err := t.Site.Check(r.Context(), ask)
	var no *bearer.Refusal
	switch {
	case errors.As(err, &no):
		return nil, &gate.BearerError{Status: no.Status, Scheme: no.Scheme, Code: no.Code, Reason: no.Reason}
	case err != nil || c == nil:
		return nil, err
	case !t.owns(c):
		return nil, &gate.BearerError{Status: http.StatusUnauthorized, Scheme: c.Scheme, Code: "invalid_token", Reason: "identity.prefix"}
	}
	return &gate.Caller{
		Grant: session.Grant{
			Source: c.Source, Subject: c.Subject, Username: c.Username, Name: c.Name, Email: c.Email, Roles: c.Roles, Claims: c.Claims,
			ACR: c.ACR, AMR: c.AMR, AuthTime: c.AuthTime,
		},
		ClientID: c.ClientID, Scopes: c.Scopes, Patient: c.Patient, Expires: c.Expires, Scheme: c.Scheme, Token: c.Token,
	}, nil
}

// owns reports whether the username is no other issuer's, and nobody's who signs in: "clinic:bob" is the clinic's Bob, whoever says
// that this is his name. Case does not count, since it does not for people and some apps.
func (t tokens) owns(c *bearer.Caller) bool {
	return !slices.ContainsFunc(t.foreign[c.Source], func(prefix string) bool {
		return len(c.Username) >= len(prefix) && strings.EqualFold(c.Username[:len(prefix)], prefix)
	})
}

// clientCertificate is the one of the connection. It need not chain to anything: the token names it by its hash (RFC 8705,
// section 3), and the handshake showed that the client has its key.
func clientCertificate(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	return r.TLS.PeerCertificates[0]
}
