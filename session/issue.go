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

// Issue starts a session on host (as the browser sent it) and returns it with the
// two cookies to set. Everything in it is new: no value that the browser held
// before is adopted. It returns [ErrGrant] for a grant or host that a session
// must not hold, [ErrTooLarge] when a cookie would exceed 4096 bytes (many roles,
// long names), a [LimitError] when the person has as many sign-ins as the role
// allows, [ErrStale] and [ErrClosed] as Find does.
func (m *Manager) Issue(ctx context.Context, g Grant, host string, a Admission) (*Session, []*http.Cookie, error) {
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
	if g.ProviderSession != "" {
		g.ProviderSession = providerSession(g.Source, g.ProviderSession)
	}
	issued := second(now)
	s := &Session{
		Grant: g, ID: newID(), Issuer: "https://" + host, Audience: aud, IssuedAt: issued, Started: issued,
	}
	cookies, err := m.begin(s, now)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing session: %w", err)
	}
	return s, cookies, nil
}

// Join takes a sign-on to another site: same sid, grant and start, everything else
// is new. Only Grant, ID and Started of s matter. A sign-on that was revoked or has
// ended is [ErrNone].
func (m *Manager) Join(ctx context.Context, s *Session, host string) (*Session, []*http.Cookie, error) {
	now := m.now()
	if err := m.available(); err != nil {
		return nil, nil, fmt.Errorf("joining session: %w", err)
	}
	aud, ok := audience(host)
	if !ok || !isID(s.ID) {
		return nil, nil, fmt.Errorf("joining session: %w", ErrGrant)
	}
	if m.live.isRevoked(s.ID) {
		return nil, nil, fmt.Errorf("joining session: %w", errRevoked)
	}
	next := &Session{
		Grant: s.Grant, ID: s.ID, Issuer: "https://" + host, Audience: aud, IssuedAt: second(now), Started: second(s.Started),
	}
	if err := next.Grant.check(); err != nil {
		return nil, nil, fmt.Errorf("joining session: %w", err)
	}
	cookies, err := m.begin(next, now)
	if err != nil {
		return nil, nil, fmt.Errorf("joining session: %w", err)
	}
	return next, cookies, nil
}

// begin fills in what is new in every cookie pair and makes it.
func (m *Manager) begin(s *Session, now time.Time) ([]*http.Cookie, error) {
	life := m.lifetime.Of(s.Roles)
	s.idle, s.Ends, s.TokenID = life.Idle, s.Started.Add(life.Absolute), newID()
	s.Expires = earlier(s.IssuedAt.Add(s.idle), s.Ends)
	if !s.Expires.After(s.IssuedAt) {
		return nil, errExpired
	}
	var secret [32]byte
	rand.Read(secret[:])
	s.context = sha256.Sum256(secret[:])
	token, _, err := m.sign(s)
	if err != nil {
		return nil, err
	}
	m.live.seen(s, now)
	return []*http.Cookie{
		cookie(CookieToken, token),
		cookie(CookieContext, base64.RawURLEncoding.EncodeToString(secret[:])),
	}, nil
}

// sign makes the token of s and refuses one that a browser would drop.
func (m *Manager) sign(s *Session) (token, kid string, err error) {
	k := m.ring.Load().signer(m.now())
	if k == nil { // before Start, or the last key was killed a moment ago
		return "", "", ErrClosed
	}
	token, err = jws.Sign(k.private, k.kid, tokenType, s.wire())
	if err != nil {
		// Everything in it was checked before: only its size is left.
		return "", "", fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if len(CookieToken)+len(token) > maxCookie {
		return "", "", fmt.Errorf("%d bytes: %w", len(CookieToken)+len(token), ErrTooLarge)
	}
	return token, k.kid, nil
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
