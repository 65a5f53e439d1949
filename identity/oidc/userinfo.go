package oidc

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
)

// What userinfo can answer with. Which one is configured, never found out from the
// answer: a provider whose answers are signed would otherwise be as good as one whose
// answers are not.
const (
	userinfoSigned = "signed"
	userinfoOff    = "off"

	typeJSON = "application/json"
	typeJWT  = "application/jwt"
)

// userinfo asks with the access token, which was checked by then (OpenID Connect
// Core 1.0, section 5.3). An answer about somebody else is an attack by token
// substitution: nothing of it is used.
func (s *Source) userinfo(ctx context.Context, p *provider, t tokens, subject string) (claimSet, error) {
	want := typeJSON
	if s.config.UserInfo == userinfoSigned {
		want = typeJWT
	}
	body, err := s.askUserinfo(ctx, p.userinfoURL, t.access, want)
	if err != nil {
		return claimSet{}, userinfoFailure(err)
	}
	var claims jws.Claims
	if want == typeJWT {
		claims, err = s.signedUserinfo(ctx, p, string(body))
	} else {
		claims, err = issuer.ParseObject(body)
	}
	if err != nil {
		return claimSet{}, userinfoFailure(err)
	}
	sub, present, err := claims.String("sub")
	if err != nil || !present || !equal(sub, subject) {
		return claimSet{}, refused("userinfo.sub")
	}
	return claimSet{Claims: claims, subject: sub}, nil
}

// askUserinfo sends the request. The token is in the header and never in the address
// (RFC 6750, section 2.1). Nothing is lost by asking twice, which is done once, for
// a server that wants a nonce in the proof.
func (s *Source) askUserinfo(ctx context.Context, address, access, want string) ([]byte, error) {
	body, again, err := s.askUserinfoOnce(ctx, address, access, want)
	if again {
		body, _, err = s.askUserinfoOnce(ctx, address, access, want)
	}
	return body, err
}

func (s *Source) askUserinfoOnce(ctx context.Context, address, access, want string) (body []byte, again bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, false, errors.New("unusable address")
	}
	r.Header.Set("Accept", want)
	r.Header.Set("Authorization", s.tokenType()+" "+access)
	nonce := ""
	if s.bound() {
		if nonce, err = s.prove(ctx, r, access); err != nil {
			return nil, false, err
		}
	}
	response, err := s.client.Do(r)
	if err != nil {
		return nil, false, issuer.Cause(err)
	}
	defer response.Body.Close()
	if s.bound() {
		s.nonces.learn(origin(address), response.Header)
		again = response.StatusCode == http.StatusUnauthorized && asksForNonce(response.Header) && s.wantsNonce(r, nonce)
	}
	if response.StatusCode != http.StatusOK {
		return nil, again, issuer.StatusError(response.StatusCode)
	}
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	if err != nil || kind != want {
		return nil, false, errUserinfoType
	}
	body, err = io.ReadAll(response.Body)
	if err != nil {
		return nil, false, issuer.Cause(err)
	}
	return body, false, nil
}

var errUserinfoType = errors.New("answer is not of the type that was asked for")

// signedUserinfo is OpenID Connect Core 1.0, section 5.3.2, with the claims that it
// recommends demanded: without iss and aud the answer could be anybody's to anybody.
func (s *Source) signedUserinfo(ctx context.Context, p *provider, compact string) (jws.Claims, error) {
	token, err := jws.Parse(compact)
	if errors.Is(err, jws.ErrAlgorithm) {
		return nil, fail(identity.ErrRefused, "userinfo.alg", err)
	}
	if err != nil {
		return nil, fail(identity.ErrRefused, "userinfo.malformed", err)
	}
	if typ := token.Header.Typ; typ != "" && !jws.TypeIs(typ, "JWT") {
		return nil, refused("userinfo.typ")
	}
	if err := p.keys.Verify(ctx, token); err != nil {
		return nil, keyFailure("userinfo", err)
	}
	claims, err := token.Claims()
	if err != nil {
		return nil, fail(identity.ErrRefused, "userinfo.malformed", err)
	}
	if from, _, err := claims.String("iss"); err != nil || from != s.issuer {
		return nil, refused("userinfo.iss")
	}
	audience, _, err := claims.Strings("aud")
	if err != nil || len(audience) != 1 || audience[0] != s.clientID {
		return nil, refused("userinfo.aud")
	}
	now := s.now()
	if expires, present, err := claims.Time("exp"); err != nil || (present && !now.Before(expires.Add(skew))) {
		return nil, refused("userinfo.exp")
	}
	for _, name := range []string{"iat", "nbf"} {
		if at, present, err := claims.Time(name); err != nil || (present && at.After(now.Add(skew))) {
			return nil, refused("userinfo." + name)
		}
	}
	// The provider signs other things with the same key for the same client. What
	// they have and userinfo has not tells them apart (RFC 8725, section 3.12).
	for _, name := range []string{"nonce", "at_hash", "c_hash", "s_hash", "events", "cnf", "scope", "token_introspection"} {
		if _, present := claims[name]; present {
			return nil, refused("userinfo.kind")
		}
	}
	return claims, nil
}

// userinfoFailure sorts what kept an answer from being one.
func userinfoFailure(err error) error {
	if _, ours := errors.AsType[*identity.Failure](err); ours {
		return err
	}
	status, answered := errors.AsType[issuer.StatusError](err)
	switch {
	case answered && status < 500:
		return fail(identity.ErrRefused, "userinfo.status", err)
	case errors.Is(err, errUserinfoType):
		return fail(identity.ErrRefused, "userinfo.type", err)
	case errors.Is(err, issuer.ErrNotJSON), errors.Is(err, issuer.ErrTooBig):
		return fail(identity.ErrRefused, "userinfo.malformed", err)
	}
	return fail(identity.ErrUnavailable, "userinfo.unreachable", err)
}
