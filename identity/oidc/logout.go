package oidc

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

const (
	logoutEvent   = "http://schemas.openid.net/event/backchannel-logout"
	logoutType    = "logout+jwt"
	maxLogoutAge  = 2 * time.Minute  // of a logout token when it arrives
	maxLogoutLife = 10 * time.Minute // from iat to exp
	maxTokenID    = 255              // bytes of jti
)

var _ identity.Notified = (*Source)(nil)

// Logout checks a logout token (OpenID Connect Back-Channel Logout 1.0, section
// 2.6). What the specification recommends is demanded: a short life, and no type
// of another kind of token; the configuration may demand the type as well.
// Remembering jti and what happens to the sessions is the caller's.
func (s *Source) Logout(ctx context.Context, compact string) (identity.Ended, error) {
	var none identity.Ended
	token, err := jws.Parse(compact)
	if errors.Is(err, jws.ErrAlgorithm) {
		return none, fail(identity.ErrRefused, "logout.alg", err)
	}
	if err != nil {
		return none, fail(identity.ErrRefused, "logout.malformed", err)
	}
	// Everything that costs nothing goes before what costs a signature or a
	// request: anybody can send this. Nothing of the token is believed yet.
	if typ := token.Header.Typ; !jws.TypeIs(typ, logoutType) && (s.config.TypedLogout || typ != "" && !jws.TypeIs(typ, "JWT")) {
		return none, refused("logout.typ")
	}
	claims, err := token.Claims()
	if err != nil {
		return none, fail(identity.ErrRefused, "logout.malformed", err)
	}
	e, err := s.checkLogout(claims)
	if err != nil {
		return none, err
	}
	p, err := s.ready(ctx)
	if err != nil {
		return none, err
	}
	if err := p.keys.Verify(ctx, token); err != nil {
		return none, keyFailure("logout", err)
	}
	return e, nil
}

// checkLogout checks the claims.
func (s *Source) checkLogout(c jws.Claims) (identity.Ended, error) {
	var e identity.Ended
	// An ID token has a nonce, and so has nothing else. Whatever its value, it is
	// there.
	if _, present := c["nonce"]; present {
		return e, refused("logout.nonce")
	}
	events, _, err := c.Object("events")
	if err != nil || len(events) != 1 {
		return e, refused("logout.events")
	}
	if _, present, err := events.Object(logoutEvent); err != nil || !present {
		return e, refused("logout.events")
	}
	issuer, _, err := c.String("iss")
	if err != nil || issuer != s.issuer {
		return e, refused("logout.iss")
	}
	if err := s.checkAudience("logout", c); err != nil {
		return e, err
	}
	if e.Token, _, err = c.String("jti"); err != nil || !plainText(e.Token, maxTokenID) {
		return e, refused("logout.jti")
	}
	if err := checkLogoutTimes(&e, c, s.now()); err != nil {
		return e, err
	}
	if err := readEnded(&e, c); err != nil {
		return e, err
	}
	return e, nil
}

func checkLogoutTimes(e *identity.Ended, c jws.Claims, now time.Time) error {
	var present bool
	var err error
	if e.Issued, present, err = c.Time("iat"); err != nil || !present || e.Issued.After(now.Add(skew)) || now.Sub(e.Issued) > maxLogoutAge+skew {
		return refused("logout.iat")
	}
	if e.Expires, present, err = c.Time("exp"); err != nil || !present || !now.Before(e.Expires.Add(skew)) {
		return refused("logout.exp")
	}
	if life := e.Expires.Sub(e.Issued); life <= 0 || life > maxLogoutLife {
		return refused("logout.exp")
	}
	from, present, err := c.Time("nbf")
	if err != nil || (present && from.After(now.Add(skew))) {
		return refused("logout.nbf")
	}
	return nil
}

// readEnded reads whose sessions ended: a person's, one of them, or both.
func readEnded(e *identity.Ended, c jws.Claims) error {
	subject, named, err := c.String("sub")
	if err != nil || (named && (!visible(subject) || len(subject) > maxSubject)) {
		return refused("logout.sub")
	}
	session, one, err := c.String("sid")
	if err != nil || (one && !plainText(session, maxSession)) {
		return refused("logout.sid")
	}
	if !named && !one {
		return refused("logout.sub")
	}
	e.Subject, e.Session = subject, session
	return nil
}

// plainText says whether s is some text of at most so many bytes that may stand
// in a log and a store key.
func plainText(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, notText)
}
