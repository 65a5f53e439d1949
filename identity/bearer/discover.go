package bearer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
)

// server is checked metadata (RFC 8414, section 2). It does not change; a renewal
// makes another one.
type server struct {
	keysURL, introspectURL string // empty: not named
	keys                   *issuer.Keys
}

// discover fetches the metadata, OAuth's place first. old is what was known until
// now.
func (i *Issuer) discover(ctx context.Context, old *server, have bool) (*server, error) {
	document, err := i.client.Discover(ctx, issuer.OAuth, issuer.OpenID)
	if err != nil {
		return nil, err
	}
	next, err := i.readMetadata(document)
	if err != nil {
		return nil, err
	}
	if have && (host(old.keysURL) != host(next.keysURL) || host(old.introspectURL) != host(next.introspectURL)) {
		// Whoever changes this answer for a moment would choose the keys
		// or be shown tokens. An issuer that really moved is followed when
		// the old metadata is too old to keep.
		return nil, unavailable("discovery.moved", errors.New("metadata names other hosts than before; the old ones stay in use for up to 24 h"))
	}
	if have && old.keysURL == next.keysURL {
		next.keys = old.keys
	} else if next.keysURL != "" {
		next.keys = issuer.NewKeys(issuer.KeysConfig{Client: i.client, URL: next.keysURL, Algs: i.algs, Now: i.now, Logger: i.log})
	}
	return next, nil
}

func (i *Issuer) readMetadata(d jws.Claims) (*server, error) {
	s := &server{}
	for member, to := range map[string]*string{"jwks_uri": &s.keysURL, "introspection_endpoint": &s.introspectURL} {
		address, present, err := d.String(member)
		if err == nil && present {
			err = i.client.CheckEndpoint(address)
		}
		if err != nil {
			return nil, unavailable("discovery."+member, fmt.Errorf("reading metadata of %s: %s: %w", i.issuer, member, err))
		}
		*to = address
	}
	return s, nil
}

// keySet gives the issuer's keys.
func (i *Issuer) keySet(ctx context.Context) (*issuer.Keys, error) {
	s, _, err := i.server.Get(ctx)
	if err != nil {
		return nil, err
	}
	if s.keys == nil {
		return nil, unavailable("discovery.jwks_uri", fmt.Errorf("reading metadata of %s: jwks_uri is missing: without `introspect` its tokens cannot be judged", i.issuer))
	}
	return s.keys, nil
}

// host is scheme and host of an address that [issuer.Client.CheckEndpoint] accepted.
func host(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
