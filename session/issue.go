package session

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/anteroom-proxy/anteroom/jws"
)

// renewAtMost is the age at which a token is renewed when a tenth of the idle
// time is longer.
const renewAtMost = time.Minute

// Issue starts a session on host (as the browser sent it) and returns it with the
// two cookies to set. Everything in it is new: no value that the browser held
// before is adopted. It returns [ErrGrant] for a grant or host that a session
// must not hold, [ErrTooLarge] when a cookie would exceed 4096 bytes (many roles,
// long names), [ErrStale] and [ErrClosed] as Find does.
func (m *Manager) Issue(ctx context.Context, g Grant, host string) (*Session, []*http.Cookie, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("issuing session: %w", err)
	}
	now := m.now()
	switch {
	case !m.running.Load():
		return nil, nil, fmt.Errorf("issuing session: %w", ErrClosed)
	case m.stale(now):
		return nil, nil, fmt.Errorf("issuing session: %w", ErrStale)
	}
	if err := g.check(); err != nil {
		return nil, nil, fmt.Errorf("issuing session: %w", err)
	}
	aud, ok := audience(host)
	if !ok {
		return nil, nil, fmt.Errorf("issuing session: host: %w", ErrGrant)
	}
	g.Roles, g.AMR = slices.Clone(g.Roles), slices.Clone(g.AMR)
	if !g.AuthTime.IsZero() {
		g.AuthTime = time.Unix(g.AuthTime.Unix(), 0).UTC()
	}
	var secret [32]byte
	rand.Read(secret[:])
	issued := second(now)
	s := &Session{
		Grant: g, ID: newID(), TokenID: newID(),
		Issuer: "https://" + host, Audience: aud,
		IssuedAt: issued, Expires: issued.Add(m.idle), Started: issued, Ends: issued.Add(m.absolute),
		context: sha256.Sum256(secret[:]),
	}
	token, _, err := m.sign(s)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing session: %w", err)
	}
	m.live.seen(s)
	return s, []*http.Cookie{
		cookie(CookieToken, token),
		cookie(CookieContext, base64.RawURLEncoding.EncodeToString(secret[:])),
	}, nil
}

// Renew returns a new token cookie for the session of this request when s, which
// Find returned for it, is old enough: a tenth of the idle time, at most a
// minute. Otherwise, and when the session's absolute end is reached already, the
// cookie and the session are nil without an error. The cookies are verified
// again; sid, context, start and grant stay, jti and the idle end change.
// Parallel calls for one session get the same token. Errors are those of Find,
// and [ErrTooLarge].
func (m *Manager) Renew(s *Session, cookieLines []string, host string) (*http.Cookie, *Session, error) {
	now := m.now()
	if s == nil {
		return nil, nil, ErrNone
	}
	if !m.due(s, now) {
		return nil, nil, nil
	}
	v, err := m.find(cookieLines, host, now)
	if err != nil {
		return nil, nil, err
	}
	if v.session.ID != s.ID {
		return nil, nil, errToken // not the session that was asked for
	}
	if n := m.newest(v.session, host, now); n != nil {
		return cookie(CookieToken, n.token), n.session, nil
	}
	next := *v.session
	next.Issuer = "https://" + host
	next.TokenID = newID()
	next.IssuedAt = second(now)
	next.Expires = earlier(next.IssuedAt.Add(m.idle), next.Ends)
	token, kid, err := m.sign(&next)
	if err != nil {
		return nil, nil, fmt.Errorf("renewing session: %w", err)
	}
	n, err := m.settle(&renewal{token: token, kid: kid, session: &next}, host, now)
	if err != nil {
		return nil, nil, err
	}
	return cookie(CookieToken, n.token), n.session, nil
}

// due says whether a token is old enough and a new one would live longer.
func (m *Manager) due(s *Session, now time.Time) bool {
	return now.Sub(s.IssuedAt) >= min(m.idle/10, renewAtMost) &&
		earlier(second(now).Add(m.idle), s.Ends).After(s.Expires)
}

// newest returns what a parallel request has renewed already, if that fits.
func (m *Manager) newest(s *Session, host string, now time.Time) *renewal {
	shard := m.live.shard(s.ID)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	if l := shard.lives[s.ID]; l != nil && m.fits(l.newest, s, host, now) {
		return l.newest
	}
	return nil
}

func (m *Manager) fits(n *renewal, s *Session, host string, now time.Time) bool {
	return n != nil && n.session.context == s.context && n.session.Issuer == "https://"+host &&
		!m.due(n.session, now) && now.Before(n.session.Expires) && m.ring.Load().find(n.kid) != nil
}

// settle records a renewal, unless a parallel one was first, and moves the idle
// end. A session that was revoked meanwhile is not renewed.
func (m *Manager) settle(n *renewal, host string, now time.Time) (*renewal, error) {
	shard := m.live.shard(n.session.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if _, revoked := shard.revoked[n.session.ID]; revoked {
		return nil, errRevoked
	}
	l := shard.touch(n.session)
	if l == nil {
		return n, nil // the registry is full: renew without sharing
	}
	if m.fits(l.newest, n.session, host, now) {
		return l.newest, nil
	}
	l.newest = n
	return n, nil
}

// sign makes the token of s and refuses one that a browser would drop.
func (m *Manager) sign(s *Session) (token, kid string, err error) {
	r := m.ring.Load()
	if r == nil {
		return "", "", ErrClosed
	}
	token, err = jws.Sign(r.current.private, r.current.kid, tokenType, s.wire())
	if err != nil {
		// Everything in it was checked before: only its size is left.
		return "", "", fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if len(CookieToken)+len(token) > maxCookie {
		return "", "", fmt.Errorf("%d bytes: %w", len(CookieToken)+len(token), ErrTooLarge)
	}
	return token, r.current.kid, nil
}

// newID returns 128 random bits (RFC 4648, base64url). rand.Read never fails.
func newID() string {
	var raw [idBytes]byte
	rand.Read(raw[:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func second(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
