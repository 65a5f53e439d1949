package idp

import (
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Ways to authenticate at the token endpoint (OpenID Connect Core 1.0, section 9).
const (
	authBasic     = "client_secret_basic"
	authPost      = "client_secret_post"
	authSecretJWT = "client_secret_jwt"
	authKeyJWT    = "private_key_jwt"

	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	assertionLife = 10 * time.Minute // at most
)

func (c Client) check() error {
	methods := []string{"", authBasic, authPost, authSecretJWT, authKeyJWT}
	switch {
	case c.ID == "" || len(c.RedirectURIs) == 0:
		return fmt.Errorf("making provider: client %q needs an id and a redirect address", c.ID)
	case !slices.Contains(methods, c.Auth):
		return fmt.Errorf("making provider: client %q has the unknown authentication %q", c.ID, c.Auth)
	case c.Auth == authKeyJWT && c.JWKS == "" && c.JWKSURI == "":
		return fmt.Errorf("making provider: client %q needs keys", c.ID)
	case c.Auth != authKeyJWT && c.Secret == "":
		return fmt.Errorf("making provider: client %q needs a secret", c.ID)
	}
	return nil
}

func (c Client) allows(redirect string) bool { return slices.Contains(c.RedirectURIs, redirect) }

// authenticate finds the client that sent the request and that proved it in the
// one way that it is registered for. Two ways at once are none (RFC 6749, section
// 2.3).
func (p *Provider) authenticate(r *http.Request, params url.Values) (Client, bool) {
	id, secret, basic := r.BasicAuth()
	method := authBasic
	switch {
	case basic && (params.Has("client_secret") || params.Has("client_assertion")):
		return Client{}, false
	case basic: // both parts form-encoded (RFC 6749, section 2.3.1)
		name, errID := url.QueryUnescape(id)
		value, errSecret := url.QueryUnescape(secret)
		if errID != nil || errSecret != nil || params.Has("client_id") && params.Get("client_id") != name {
			return Client{}, false
		}
		id, secret = name, value
	case params.Has("client_assertion"):
		return p.asserted(params, r.URL.Path)
	default:
		method, id, secret = authPost, params.Get("client_id"), params.Get("client_secret")
	}
	client, known := p.clients[id]
	fits := client.Auth == method || client.Auth == "" && method == authBasic
	return client, samePassword(client.Secret, secret) && known && fits
}

// asserted checks a client assertion (RFC 7523, section 3). Its audience is one
// string: the issuer, or the address it was sent to.
func (p *Provider) asserted(params url.Values, path string) (Client, bool) {
	token, ok := parseJWS(params.Get("client_assertion"))
	if !ok || params.Get("client_assertion_type") != assertionType {
		return Client{}, false
	}
	id, _ := token.claims["sub"].(string)
	client, known := p.clients[id]
	if !known || token.claims["iss"] != id || params.Has("client_id") && params.Get("client_id") != id {
		return Client{}, false
	}
	switch client.Auth {
	case authSecretJWT:
		ok = token.keyedWith([]byte(client.Secret))
	case authKeyJWT:
		ok = p.signedBy(client, token)
	default:
		ok = false
	}
	audience := token.claims["aud"]
	if !ok || audience != p.issuer && audience != p.issuer+"/token" && audience != p.issuer+path {
		return Client{}, false
	}
	now := p.now()
	expires, ok := moment(token.claims["exp"])
	jti, _ := token.claims["jti"].(string)
	if !ok || !now.Before(expires) || expires.After(now.Add(assertionLife)) || jti == "" {
		return Client{}, false
	}
	return client, p.seen.first("assertion " + id + " " + jti)
}

// signedBy looks for the key that the assertion names among the client's.
func (p *Provider) signedBy(c Client, token jws) bool {
	text := []byte(c.JWKS)
	if c.JWKSURI != "" {
		var err error
		if text, err = p.fetch(c.JWKSURI); err != nil {
			p.log.Warn("fetching a client's keys", "client", c.ID, "error", err)
			return false
		}
	}
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		p.log.Warn("reading a client's keys", "client", c.ID, "error", err)
		return false
	}
	kid, named := token.header["kid"]
	fits := func(jwk map[string]any) (crypto.PublicKey, bool) {
		if named && jwk["kid"] != kid || !named && len(set.Keys) > 1 {
			return nil, false
		}
		public, err := publicKey(jwk)
		return public, err == nil
	}
	for _, jwk := range set.Keys {
		if public, ok := fits(jwk); ok && token.signedWith(public) {
			return true
		}
	}
	return false
}

func (p *Provider) fetch(address string) ([]byte, error) {
	response, err := p.http.Get(address)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching keys: status %d", response.StatusCode)
	}
	return io.ReadAll(io.LimitReader(response.Body, 64<<10))
}
