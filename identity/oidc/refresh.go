package oidc

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/jws"
)

// usualPatience is how long sessions outlive a provider that does not answer.
const usualPatience = time.Hour

var _ identity.Refresher = (*Source)(nil)

// Patience is how long a session outlives a provider that does not answer.
func (s *Source) Patience() time.Duration {
	if s.config.Patience == 0 {
		return usualPatience
	}
	return max(0, s.config.Patience)
}

// Refresh asks the provider about somebody who signed in, with the refresh token
// (OpenID Connect Core 1.0, section 12). The answer must be about the same person
// at the same issuer for the same client, and from the same sign-in; roles, names
// and addresses follow it, the level of the sign-in does not.
//
// An error of kind ErrUnavailable means that the token was not used up, as far as
// anybody can tell. After that there is no such error: the provider has vouched
// for the person then, and a token that was replaced must not be lost. When the
// rest of the answer cannot be had, the identity is the one found last, for at
// most as long as the source's patience lasts.
func (s *Source) Refresh(ctx context.Context, keep []byte) (identity.Identity, error) {
	var nobody identity.Identity
	h, err := s.unpack(keep)
	if err != nil {
		return nobody, err
	}
	if s.config.NoRefresh { // since that sign-in; what was kept is good when asking is switched on again
		who, err := s.asFound(h)
		who.Keep, who.Renews = keep, true
		return who, err
	}
	if h.Refresh == "" {
		return nobody, refused("refresh.keep")
	}
	p, err := s.ready(ctx)
	if err != nil {
		return nobody, err
	}
	// Whatever else the answer needs has to be there before the token is used up.
	if _, err := p.keys.Count(ctx); err != nil {
		return nobody, err
	}
	answer, err := s.tokenRequest(ctx, p, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {h.Refresh}})
	if err != nil {
		return nobody, refreshFailure(err)
	}
	t, err := s.readTokens(ctx, answer)
	if err != nil && t.access == "" {
		return nobody, refreshFailure(err)
	}
	var who identity.Identity
	if err == nil {
		who, err = s.reread(ctx, p, t, h)
	}
	switch {
	case err != nil && passing(err):
		return s.stale(h, t, err)
	case err != nil:
		return nobody, err
	}
	h.Stale = 0
	h.follow(who)
	who.Keep, who.Renews = s.pack(h, t)
	return who, nil
}

// refreshFailure says what a failed request means for the session. Only the
// refusal of this very grant ends it: a client secret that expired, a request that
// the provider reads otherwise after an update, a page of a proxy are faults of
// others, and must not sign everybody out.
func refreshFailure(err error) error {
	switch identity.Reason(err) {
	case "token.invalid_grant", "token.declined":
		return fail(identity.ErrDeclined, identity.Reason(err), err)
	}
	if errors.Is(err, identity.ErrUnavailable) {
		return err
	}
	return fail(identity.ErrUnavailable, identity.Reason(err), err)
}

// passing says whether a failure after the request may be over at the next one: a
// key that is not published yet, a userinfo endpoint that is down or shows a page.
// What speaks about the person is not among them.
func passing(err error) bool {
	if errors.Is(err, identity.ErrUnavailable) {
		return true
	}
	return slices.Contains([]string{"idtoken.key", "userinfo.status", "userinfo.type", "userinfo.malformed"}, identity.Reason(err))
}

// unchanged gives the person as found last, with the tokens that are good now.
func (s *Source) unchanged(h held, t tokens) (identity.Identity, error) {
	who, err := s.asFound(h)
	if err != nil {
		return identity.Identity{}, err
	}
	who.Keep, who.Renews = s.pack(h, t)
	return who, nil
}

// stale is for an answer that could not be read to its end for want of another
// one: the ID token in it is not kept, because nobody checked it.
func (s *Source) stale(h held, t tokens, cause error) (identity.Identity, error) {
	now := s.now().Unix()
	if h.Stale == 0 {
		h.Stale = now
	}
	if since := time.Duration(now-h.Stale) * time.Second; since >= s.Patience() {
		return identity.Identity{}, fail(identity.ErrRefused, "refresh.stale", cause)
	}
	s.log.Warn("the provider vouches for a session, but what else it says of the person cannot be had", "error", cause)
	t.id = ""
	return s.unchanged(h, t)
}

// reread checks what came with the new access token and maps the claims. Where the
// provider sends no new ID token, userinfo speaks for the claims, and the last ID
// token for those that only it has.
func (s *Source) reread(ctx context.Context, p *provider, t tokens, h held) (identity.Identity, error) {
	var nobody identity.Identity
	var token claimSet
	var err error
	fresh := t.id != ""
	if fresh {
		if token, err = s.checkRefreshed(ctx, p, t, h); err != nil {
			return nobody, err
		}
	} else if token, err = lastToken(h); err != nil {
		return nobody, err
	}
	sources := []claimSet{token}
	if p.userinfoURL != "" && s.config.UserInfo != userinfoOff && (!fresh || s.claims.lacking(token)) {
		more, err := s.userinfo(ctx, p, t, h.Person.Subject)
		if err != nil {
			return nobody, err
		}
		if fresh {
			sources = append(sources, more)
		} else {
			if !isNull(find(more.Claims, "email")) { // what was said of the old address says nothing of this one
				delete(token.Claims, "email_verified")
			}
			sources = []claimSet{more, token}
		}
	}
	found, err := s.claims.apply(append(sources, s.remembered(h, sources)))
	if err != nil {
		return nobody, err
	}
	h.follow(found)
	who, err := s.asFound(h)
	if who.Issued = s.now(); fresh && err == nil {
		who.Issued, _, err = token.Time("iat")
	}
	return who, err
}

// lastToken reads the ID token that was kept. Its signature was checked when it
// came, and it has been sealed since.
func lastToken(h held) (claimSet, error) {
	token, err := jws.Parse(h.ID)
	if err != nil {
		return claimSet{}, refused("refresh.keep")
	}
	claims, err := token.Claims()
	if err != nil {
		return claimSet{}, refused("refresh.keep")
	}
	return claimSet{Claims: claims, subject: h.Person.Subject}, nil
}

// checkRefreshed is OpenID Connect Core 1.0, section 12.2.
func (s *Source) checkRefreshed(ctx context.Context, p *provider, t tokens, h held) (claimSet, error) {
	c, alg, err := s.readIDToken(ctx, p, t.id)
	if err != nil {
		return claimSet{}, err
	}
	now := s.now()
	for _, check := range []func() error{
		func() error { return s.checkParties("idtoken", &c) },
		func() error { return c.checkTimes(now) },
		func() error { return c.checkAccessHash(alg, t.access) },
		func() error { return c.checkContinuity(h) },
		c.checkPurpose,
	} {
		if err := check(); err != nil {
			return claimSet{}, err
		}
	}
	return c, s.secondLook(ctx, p, t.id)
}

// checkContinuity ties a later ID token to the first one: the same person, the
// same proof, and the nonce of the attempt or none.
func (c *claimSet) checkContinuity(h held) error {
	if !equal(c.subject, h.Person.Subject) {
		return refused("idtoken.sub")
	}
	nonce, present, err := c.String("nonce")
	if err != nil || (present && !equal(nonce, h.Nonce)) {
		return refused("idtoken.nonce")
	}
	at, present, err := c.Time("auth_time")
	if err != nil || (present && h.Person.AuthTime != 0 && at.Unix() != h.Person.AuthTime && !c.provedAgain(at, h)) {
		return refused("idtoken.auth_time")
	}
	return nil
}

// provedAgain says whether the same person has proved themselves once more in the same
// session of the provider, for another application or another page of ours. That moves
// the time at large providers, for every token of the session. It ends nothing, and
// raises nothing either: the level stays that of the sign-in.
func (c *claimSet) provedAgain(at time.Time, h held) bool {
	issued, _, err := c.Time("iat")
	return err == nil && !at.After(issued.Add(skew)) && at.Unix() > h.Person.AuthTime &&
		h.Person.Session != "" && providerSession(*c) == h.Person.Session
}
