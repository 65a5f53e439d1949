package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	maxNonce  = 512 // bytes of a nonce that a server wants to see again
	dpopAlg   = "ES256"
	dpopType  = "dpop+jwt"
	dpopToken = "DPoP"
)

// nonces remembers what each origin wants in the next proof (RFC 9449, section
// 8.2). Origins are few: requests go to listed hosts only.
type nonces struct {
	mu  sync.Mutex
	all map[string]string
}

func (n *nonces) get(origin string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[origin]
}

// learn takes the nonce of an answer. One that could not be sent back is none.
func (n *nonces) learn(origin string, h http.Header) {
	values := h.Values("DPoP-Nonce")
	if len(values) != 1 || len(values[0]) > maxNonce || !tokenText(values[0]) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.all == nil {
		n.all = map[string]string{}
	}
	n.all[origin] = values[0]
}

// bound says whether access tokens are bound to a key of ours by proofs. With a
// client certificate they are bound to that (RFC 8705, section 3).
func (s *Source) bound() bool { return s.config.FAPI2 && s.config.Fetch.Certificate == nil }

// tokenType is the only kind of access token that is taken. One that says Bearer
// is worth as much to a thief as to us.
func (s *Source) tokenType() string {
	if s.bound() {
		return dpopToken
	}
	return "Bearer"
}

// prove puts a proof on a request (RFC 9449, section 4.2), for the access token
// that goes with it, if one does. It says which nonce it used.
func (s *Source) prove(ctx context.Context, r *http.Request, access string) (string, error) {
	key, err := s.proves.get(ctx)
	if err != nil {
		return "", err
	}
	jwk, err := jws.JWK(key.Public())
	if err != nil {
		return "", fail(identity.ErrUnavailable, "client.key", err)
	}
	target := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path, RawPath: r.URL.RawPath}
	claims := map[string]any{"jti": random(), "htm": r.Method, "htu": target.String(), "iat": s.now().Unix()}
	if access != "" {
		sum := sha256.Sum256([]byte(access))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	nonce := s.nonces.get(origin(r.URL.String()))
	if nonce != "" {
		claims["nonce"] = nonce
	}
	proof, err := jws.SignWith(key, dpopAlg, map[string]any{"typ": dpopType, "jwk": jwk}, claims)
	if err != nil {
		return "", fail(identity.ErrUnavailable, "client.proof", err)
	}
	r.Header.Set("DPoP", proof)
	return nonce, nil
}

// wantsNonce says whether an answer asks for the same request once more, with a
// nonce that it brought and that we did not send (RFC 9449, sections 8 and 9).
func (s *Source) wantsNonce(r *http.Request, sent string) bool {
	now := s.nonces.get(origin(r.URL.String()))
	return now != "" && now != sent
}

// dpopThumbprint names the key of our proofs.
func (s *Source) dpopThumbprint(ctx context.Context) (string, error) {
	key, err := s.proves.get(ctx)
	if err != nil {
		return "", err
	}
	return jws.Thumbprint(key.Public())
}

// checkBound looks at an access token that can be read: it must be bound to our
// key or certificate (RFC 9449, section 6.1; RFC 8705, section 3.1). What it says
// is not believed for anything else; one that cannot be read is the business of
// those that read it.
func (s *Source) checkBound(ctx context.Context, access string) error {
	if !s.config.FAPI2 {
		return nil
	}
	token, err := jws.Parse(access)
	if err != nil {
		return nil
	}
	claims, err := token.Claims()
	if err != nil {
		return nil
	}
	member, want := "x5t#S256", certificateThumbprint(s.config.Fetch.Certificate)
	if s.bound() {
		member = "jkt"
		if want, err = s.dpopThumbprint(ctx); err != nil {
			return err
		}
	}
	confirmation, _, err := claims.Object("cnf")
	if err != nil {
		return refused("token.unbound")
	}
	got, _, err := confirmation.String(member)
	if err != nil || want == "" || !equal(got, want) {
		return refused("token.unbound")
	}
	return nil
}

// asksForNonce reads the challenge of a resource server that wants a nonce (RFC
// 9449, section 9). Its scheme is compared in any case (RFC 9110, section 11.1).
func asksForNonce(h http.Header) bool {
	for _, value := range h.Values("WWW-Authenticate") {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(value), " ")
		if strings.EqualFold(scheme, dpopToken) && strings.Contains(rest, `error="use_dpop_nonce"`) {
			return true
		}
	}
	return false
}
