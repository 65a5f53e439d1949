package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// renewAtMost is the age at which a token is renewed when a tenth of the idle
	// time is longer.
	renewAtMost = time.Minute
	// waitAtMost is how long an answer waits for its renewed cookie.
	waitAtMost = time.Second
)

var errSlow = errors.New("the renewal takes longer than an answer waits; a later answer brings it")

// Renewal is a renewal under way. A nil Renewal is none.
type Renewal struct {
	done    chan struct{}
	cookie  *http.Cookie
	session *Session
	err     error
}

// StartRenewal begins, in the background, to renew the session of this request
// when s, which Find returned for it, is old enough: a tenth of the idle time, at
// most a minute. Otherwise, and when the session's absolute end is reached already,
// it returns nil. The cookies are verified again; sid, context, start and grant
// stay, jti and the idle end change. Parallel requests get one and the same token.
func (m *Manager) StartRenewal(s *Session, cookieLines []string, host string) *Renewal {
	if s == nil || !m.due(s, m.now()) {
		return nil
	}
	r := &Renewal{done: make(chan struct{})}
	r.cookie, r.session, r.err = m.renew(s, cookieLines, host)
	close(r.done)
	return r
}

// Wait returns the renewed token's cookie and session. It waits for at most a
// second: the renewal goes on all the same and a later request gets its result.
// Errors are those of Find, and [ErrTooLarge].
func (r *Renewal) Wait(ctx context.Context) (*http.Cookie, *Session, error) {
	if r == nil {
		return nil, nil, nil
	}
	timer := time.NewTimer(waitAtMost)
	defer timer.Stop()
	select {
	case <-r.done:
		return r.cookie, r.session, r.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	case <-timer.C:
		return nil, nil, errSlow
	}
}

func (m *Manager) renew(s *Session, cookieLines []string, host string) (*http.Cookie, *Session, error) {
	now := m.now()
	v, err := m.find(cookieLines, host, now)
	if v == nil {
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
	next.Expires = earlier(next.IssuedAt.Add(next.idle), next.Ends)
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
	return now.Sub(s.IssuedAt) >= min(s.idle/10, renewAtMost) &&
		earlier(second(now).Add(s.idle), s.Ends).After(s.Expires)
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
	l := shard.touch(n.session, now)
	if l == nil {
		return n, nil // the registry is full: renew without sharing
	}
	if m.fits(l.newest, n.session, host, now) {
		return l.newest, nil
	}
	l.newest = n
	return n, nil
}
