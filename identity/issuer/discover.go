package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// Where metadata lies, as arguments of [Client.Discover].
const (
	OpenID = "openid-configuration"       // OpenID Connect Discovery 1.0, section 4: after the issuer's path
	OAuth  = "oauth-authorization-server" // RFC 8414, section 3: before the issuer's path
)

// Discover fetches the issuer's metadata, from the first of these places that
// is there; without any, from OpenID Connect's. The document must name the
// issuer byte for byte (RFC 8414, section 3.3). Failures are of kind
// identity.ErrUnavailable.
func (c *Client) Discover(ctx context.Context, places ...string) (jws.Claims, error) {
	if len(places) == 0 {
		places = []string{OpenID}
	}
	var document jws.Claims
	for n, place := range places {
		address := c.wellKnown(place)
		var err error
		document, err = c.JSON(ctx, address, "")
		if err == nil {
			break
		}
		status, answered := errors.AsType[StatusError](err)
		if n+1 < len(places) && answered && (status == http.StatusNotFound || status == http.StatusGone) {
			continue
		}
		return nil, unavailable("discovery.unreachable", fmt.Errorf("fetching %s: %w; if the provider runs, check the line `issuer`", address, err))
	}
	issuer, _, err := document.String("issuer")
	if err != nil || issuer != c.issuer {
		return nil, unavailable("discovery.issuer", fmt.Errorf("reading metadata of %s: its issuer is spelled differently: write it in the configuration exactly as the provider does, final slash and case included", c.issuer))
	}
	return document, nil
}

func (c *Client) wellKnown(place string) string {
	if place != OAuth {
		return strings.TrimSuffix(c.issuer, "/") + "/.well-known/" + place
	}
	u, err := url.Parse(c.issuer)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + "/.well-known/" + place + strings.TrimSuffix(u.EscapedPath(), "/")
}

// ServerTime is the time by the issuer's clock, as it stands in an answer that no
// cache gave. It is zero when the answer does not say it.
func (c *Client) ServerTime(ctx context.Context) (time.Time, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.wellKnown(OpenID), nil)
	if err != nil {
		return time.Time{}, errors.New("unusable address")
	}
	r.Header.Set("Cache-Control", "no-cache")
	response, err := c.Do(r)
	if err != nil {
		return time.Time{}, Cause(err)
	}
	defer response.Body.Close()
	at, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil || response.Header.Get("Age") != "" {
		return time.Time{}, nil
	}
	return at, nil
}
