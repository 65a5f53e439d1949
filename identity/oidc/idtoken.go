package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	gooidc "github.com/coreos/go-oidc/v3/oidc"
)

const (
	skew       = time.Minute      // between the provider's clock and ours
	maxAge     = 10 * time.Minute // of an ID token when it arrives
	maxLife    = 24 * time.Hour   // of an ID token from iat to exp
	maxSubject = 255              // ASCII characters, OpenID Connect Core 1.0 section 2
)

// claimSet is a set of claims that somebody vouches for. The fields besides the
// claims are set for ID tokens only, but for subject.
type claimSet struct {
	jws.Claims
	subject  string
	authTime time.Time
	acr      string
	amr      []string
	ours     bool // what was said before, and not what the provider says
}

// verifierConfig sets go-oidc up as a second look after ours. Its clock is
// behind by skew, because it knows no leeway for exp.
func (s *Source) verifierConfig(algs []string) *gooidc.Config {
	return &gooidc.Config{
		ClientID: s.clientID, SupportedSigningAlgs: algs,
		Now: func() time.Time { return s.now().Add(-skew) },
	}
}

// checkIDToken is OpenID Connect Core 1.0, section 3.1.3.7, with the choices
// that it leaves made strictly.
func (s *Source) checkIDToken(ctx context.Context, p *provider, t tokens, k kept) (claimSet, error) {
	c, alg, err := s.readIDToken(ctx, p, t.id)
	if err != nil {
		return claimSet{}, err
	}
	now := s.now()
	for _, check := range []func() error{
		func() error { return s.checkParties("idtoken", &c) },
		func() error { return c.checkTimes(now) },
		func() error { return c.checkNonce(k.Nonce) },
		func() error { return c.checkAccessHash(alg, t.access) },
		func() error { return c.checkAuthentication(now, k) },
		c.checkPurpose,
	} {
		if err := check(); err != nil {
			return claimSet{}, err
		}
	}
	return c, s.secondLook(ctx, p, t.id)
}

// readIDToken checks form and signature. The signature is checked although the
// token came over TLS: a token endpoint behind a broken proxy is not the
// provider.
func (s *Source) readIDToken(ctx context.Context, p *provider, compact string) (claimSet, string, error) {
	token, err := jws.Parse(compact)
	if errors.Is(err, jws.ErrAlgorithm) {
		return claimSet{}, "", fail(identity.ErrRefused, "idtoken.alg", err)
	}
	if err != nil {
		return claimSet{}, "", fail(identity.ErrRefused, "idtoken.malformed", err)
	}
	// An access token, a logout token or a session of ours is signed by a
	// good key too; its type tells it apart (RFC 8725, section 3.11).
	if typ := token.Header.Typ; typ != "" && !jws.TypeIs(typ, "JWT") {
		return claimSet{}, "", refused("idtoken.typ")
	}
	if err := p.keys.Verify(ctx, token); err != nil {
		return claimSet{}, "", keyFailure("idtoken", err)
	}
	claims, err := token.Claims()
	if err != nil {
		return claimSet{}, "", fail(identity.ErrRefused, "idtoken.malformed", err)
	}
	return claimSet{Claims: claims}, token.Header.Alg, nil
}

// secondLook asks go-oidc about a token that passed here.
func (s *Source) secondLook(ctx context.Context, p *provider, compact string) error {
	if _, err := p.verifier.Verify(ctx, compact); err != nil {
		return fail(identity.ErrRefused, "idtoken.library", errors.New("go-oidc refuses what passed here"))
	}
	return nil
}

// keyFailure says of which token a key's failure is.
func keyFailure(token string, err error) error {
	if wrong, ok := errors.AsType[*issuer.KeyError](err); ok {
		return fail(identity.ErrRefused, token+"."+wrong.Reason, wrong)
	}
	return err
}

// keySet is go-oidc's view of the issuer's keys.
type keySet struct{ keys *issuer.Keys }

// VerifySignature implements go-oidc's KeySet. It gives back only the members
// that go-oidc reads, under their exact names, because its JSON decoder takes
// "SUB" or a long s for "sub" and would look at claims by reference.
func (k keySet) VerifySignature(ctx context.Context, compact string) ([]byte, error) {
	token, err := jws.Parse(compact)
	if err != nil {
		return nil, err
	}
	if err := k.keys.Verify(ctx, token); err != nil {
		return nil, err
	}
	claims, err := token.Claims()
	if err != nil {
		return nil, err
	}
	exact := jws.Claims{}
	for _, name := range []string{"iss", "sub", "aud", "exp", "iat", "nbf", "nonce", "at_hash"} {
		if raw, present := claims[name]; present {
			exact[name] = raw
		}
	}
	return json.Marshal(exact)
}

// checkParties: by whom, about whom, for whom.
func (s *Source) checkParties(token string, c *claimSet) error {
	issuer, _, err := c.String("iss")
	if err != nil || issuer != s.issuer {
		return refused(token + ".iss")
	}
	subject, _, err := c.String("sub")
	if err != nil || !visible(subject) || len(subject) > maxSubject {
		return refused(token + ".sub")
	}
	c.subject = subject
	if err := s.checkAudience(token, c.Claims); err != nil {
		return err
	}
	party, present, err := c.String("azp")
	if err != nil || (present && party != s.clientID) {
		return refused(token + ".azp")
	}
	return nil
}

// checkAudience refuses a token that somebody else may use as well: that client
// could play it to us.
func (s *Source) checkAudience(token string, c jws.Claims) error {
	audience, _, err := c.Strings("aud")
	if err != nil || len(audience) == 0 {
		return refused(token + ".aud")
	}
	for _, client := range audience {
		if client != s.clientID {
			return refused(token + ".aud")
		}
	}
	return nil
}

// checkTimes bounds the token's life on both sides of now.
func (c *claimSet) checkTimes(now time.Time) error {
	issued, present, err := c.Time("iat")
	if err != nil || !present || issued.After(now.Add(skew)) || now.Sub(issued) > maxAge {
		return refused("idtoken.iat")
	}
	expires, present, err := c.Time("exp")
	if err != nil || !present || !now.Before(expires.Add(skew)) {
		return refused("idtoken.exp")
	}
	if life := expires.Sub(issued); life <= 0 || life > maxLife {
		return refused("idtoken.exp")
	}
	from, present, err := c.Time("nbf")
	if err != nil || (present && from.After(now.Add(skew))) {
		return refused("idtoken.nbf")
	}
	return nil
}

// checkNonce ties the token to this attempt. An absent nonce is a wrong one
// (CVE-2026-15612).
func (c *claimSet) checkNonce(nonce string) error {
	got, _, err := c.String("nonce")
	if err != nil || got == "" || !equal(got, nonce) {
		return refused("idtoken.nonce")
	}
	return nil
}

// checkPurpose refuses a logout token of a provider that does not type them: this
// claim tells them apart (OpenID Connect Back-Channel Logout 1.0, section 2.4).
func (c *claimSet) checkPurpose() error {
	if _, present := c.Claims["events"]; present {
		return refused("idtoken.typ")
	}
	return nil
}

// checkAccessHash ties the token to the access token that came with it. One by an
// unknown algorithm is a wrong one (CVE-2026-28498).
func (c *claimSet) checkAccessHash(alg, access string) error {
	hash, present, err := c.String("at_hash")
	if err != nil || (present && (hash == "" || !equal(hash, accessHash(alg, access)))) {
		return refused("idtoken.at_hash")
	}
	return nil
}

// accessHash is the left half of the access token's hash (OpenID Connect Core
// 1.0, section 3.1.3.6). For EdDSA the hash is Ed25519's own, SHA-512. It is ""
// for an unknown algorithm, and no claim may be empty.
func accessHash(alg, access string) string {
	var sum []byte
	switch alg {
	case "RS256", "PS256", "ES256":
		h := sha256.Sum256([]byte(access))
		sum = h[:]
	case "RS384", "PS384", "ES384":
		h := sha512.Sum384([]byte(access))
		sum = h[:]
	case "RS512", "PS512", "EdDSA":
		h := sha512.Sum512([]byte(access))
		sum = h[:]
	}
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}

// checkAuthentication reads how and when the person proved themselves. When we
// asked for a new proof, or for one that is not old, a time from before that
// shows that the provider took an old session instead; with max_age it has to
// say the time (OpenID Connect Core 1.0, section 3.1.3.7, number 13).
func (c *claimSet) checkAuthentication(now time.Time, k kept) error {
	at, present, err := c.Time("auth_time")
	if err != nil || (present && at.After(now.Add(skew))) || (!present && k.MaxAge > 0) {
		return refused("idtoken.auth_time")
	}
	// Measured from when we asked: that is when the provider decided.
	old := func(age time.Duration) bool { return at.Before(k.began().Add(-age - skew)) }
	if present && (k.Again && old(0) || k.MaxAge > 0 && old(time.Duration(k.MaxAge)*time.Second)) {
		return refused("idtoken.auth_time_old")
	}
	c.authTime = at
	if c.acr, _, err = optional(c.Claims, "acr"); err != nil {
		return refused("idtoken.acr")
	}
	if c.amr, _, err = c.Strings("amr"); err != nil {
		return refused("idtoken.amr")
	}
	return nil
}
