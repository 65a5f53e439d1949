package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

// The ways to say who we are, by the names of RFC 7591, section 2, OpenID Connect
// Core 1.0, section 9, and RFC 8705, section 2. "none" is not among them: every
// client here is a confidential one.
const (
	secretBasic   = "client_secret_basic"
	secretPost    = "client_secret_post"
	secretJWT     = "client_secret_jwt"
	privateKeyJWT = "private_key_jwt"
	mutualTLS     = "tls_client_auth"
	selfSignedTLS = "self_signed_tls_client_auth"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523, section 2.2
	assertionLife = time.Minute
)

// method is the configured way.
func (c Client) method() string {
	if c.Auth == "" {
		return secretBasic
	}
	return c.Auth
}

// authenticate says who we are, in a header, in the form, or in neither when the
// TLS connection does. Each request gets an assertion of its own.
func (s *Source) authenticate(ctx context.Context, p *provider, r *http.Request, form url.Values) error {
	switch s.config.Client.Auth {
	case secretBasic:
		// Both are form-encoded before they are Base64-encoded (RFC 6749,
		// section 2.3.1): a colon in the id would move the border otherwise.
		r.SetBasicAuth(url.QueryEscape(s.clientID), url.QueryEscape(s.secret.reveal()))
	case secretPost:
		form.Set("client_id", s.clientID)
		form.Set("client_secret", s.secret.reveal())
	case secretJWT, privateKeyJWT:
		assertion, err := s.assertion(ctx, p)
		if err != nil {
			return err
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", assertion)
	case mutualTLS, selfSignedTLS:
		form.Set("client_id", s.clientID) // RFC 8705, section 2
	default: // check lets none through
		return fail(identity.ErrUnavailable, "client.auth", errors.New("unknown way of client authentication"))
	}
	return nil
}

// assertion is a JWT about ourselves (RFC 7523, section 3). Its audience is one
// string and comes from our configuration: an audience that a document chose, or a
// list of several, would let one provider use the assertion at another.
func (s *Source) assertion(ctx context.Context, p *provider) (string, error) {
	now := s.now()
	claims := map[string]any{
		"iss": s.clientID, "sub": s.clientID, "aud": s.config.Client.AssertionAudience, "jti": random(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	}
	if s.config.Client.Auth == secretJWT {
		text, err := jws.SignHMAC([]byte(s.secret.reveal()), map[string]any{"typ": "JWT"}, claims)
		if err != nil {
			return "", fail(identity.ErrUnavailable, "client.assertion", err)
		}
		return text, nil
	}
	key, err := s.clientKey(ctx)
	if err != nil {
		return "", err
	}
	kid, err := jws.Thumbprint(key.Public())
	if err != nil {
		return "", fail(identity.ErrUnavailable, "client.key", err)
	}
	alg, err := p.assertionAlg(s.keyAlgs(key.Public()))
	if err != nil {
		return "", fail(identity.ErrUnavailable, "client.alg", err)
	}
	text, err := jws.SignWith(key, alg, map[string]any{"typ": "JWT", "kid": kid}, claims)
	if err != nil {
		return "", fail(identity.ErrUnavailable, "client.assertion", err)
	}
	return text, nil
}

// clientKey is the configured key for private_key_jwt, or the one that was made.
func (s *Source) clientKey(ctx context.Context) (crypto.Signer, error) {
	if key, ok := ctx.Value(asKey{}).(crypto.Signer); ok {
		return key, nil
	}
	if s.given.signer != nil {
		return s.given.signer, nil
	}
	return s.signs.get(ctx)
}

// keyAlgs are the algorithms that a key of ours may sign with, the usual one
// first. FAPI 2.0 Security Profile, section 5.4.1, knows three.
func (s *Source) keyAlgs(public crypto.PublicKey) []string {
	var algs []string
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			algs = []string{"ES256"}
		case elliptic.P384():
			algs = []string{"ES384"}
		}
	case ed25519.PublicKey:
		algs = []string{"EdDSA"}
	case *rsa.PublicKey:
		if k.N != nil && k.N.BitLen() >= 2048 {
			algs = []string{"RS256", "PS256"}
		}
	}
	if s.config.FAPI2 {
		algs = slices.DeleteFunc(algs, func(alg string) bool { return !slices.Contains(fapiAlgs, alg) })
	}
	return algs
}

// assertionAlg chooses of our algorithms one that the provider takes.
func (p *provider) assertionAlg(ours []string) (string, error) {
	for _, alg := range ours {
		if len(p.authAlgs) == 0 || slices.Contains(p.authAlgs, alg) {
			return alg, nil
		}
	}
	return "", fmt.Errorf("our key signs with %s, the provider takes another algorithm: give a key of another kind as the client's key", strings.Join(ours, ", "))
}

// signerBox hides a key behind a pointer, as secret does for the secret.
type signerBox struct{ signer crypto.Signer }

func (*signerBox) String() string   { return "oidc.key" }
func (*signerBox) GoString() string { return "oidc.key" }

// leafOf gives the client certificate itself.
func leafOf(c *tls.Certificate) (*x509.Certificate, error) {
	if c == nil || len(c.Certificate) == 0 {
		return nil, errors.New("there is no client certificate")
	}
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		return nil, errors.New("the client certificate cannot be read")
	}
	return leaf, nil
}

// certificateThumbprint names the client certificate (RFC 8705, section 3.1).
func certificateThumbprint(c *tls.Certificate) string {
	if c == nil || len(c.Certificate) == 0 {
		return ""
	}
	sum := sha256.Sum256(c.Certificate[0])
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// check says what the way of authentication lacks, and what it has too much: a
// secret that is not used is one that nobody watches.
func (c Client) check(wrong func(string, ...any), certificate bool) {
	if !visible(c.ID) {
		wrong("client_id is missing or not printable ASCII: write it as the provider registered it")
	}
	if strings.ContainsAny(c.Secret, "\r\n\x00") {
		wrong("client_secret holds a line break: is the file it comes from one line without an end of line?")
	}
	method := c.method()
	byCertificate := method == mutualTLS || method == selfSignedTLS
	switch method {
	case secretBasic, secretPost, secretJWT:
		if c.Secret == "" {
			wrong("client_secret is missing: register a confidential client and write its secret, best as {file./path}")
		} else if method == secretJWT && len(c.Secret) < sha256.Size {
			wrong("client_secret has %d bytes, client_secret_jwt needs 32 or more (RFC 7518, section 3.2): let the provider make a longer one", len(c.Secret))
		}
	case privateKeyJWT, mutualTLS, selfSignedTLS:
		if c.Secret != "" {
			wrong("client_secret is not used with %s: leave it out", method)
		}
	default:
		wrong("client authentication %q: write one of %s", c.Auth, strings.Join([]string{secretBasic, secretPost, secretJWT, privateKeyJWT, mutualTLS, selfSignedTLS}, ", "))
		return
	}
	switch {
	case byCertificate && !certificate:
		wrong("%s needs a client certificate and its key", method)
	case c.Key != nil && method != privateKeyJWT:
		wrong("a client key is used with private_key_jwt only: leave it out")
	case c.Key != nil && len((&Source{config: &Config{}}).keyAlgs(c.Key.Public())) == 0:
		wrong("the client key is none of EC P-256, EC P-384, Ed25519 and RSA with 2048 bits or more: make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`")
	}
	if a := c.AssertionAudience; a != "" && (method != privateKeyJWT && method != secretJWT || !absolute(a)) {
		wrong("the assertion's audience %q is for client_secret_jwt and private_key_jwt, and an address such as the token endpoint's", a)
	}
}

// absolute says whether s is an absolute address.
func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && visible(s) && (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}
