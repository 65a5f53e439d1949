package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// renewAtMost is the age at which a token is renewed when a tenth of the idle
	// time is longer.
	renewAtMost = time.Minute
	// waitAtMost is how long an answer waits for its renewed cookie.
	waitAtMost = time.Second
	// retryAfter is the rest after a renewal that failed.
	retryAfter = 10 * time.Second
	// maxFlights bounds the renewals under way on this node; beyond it a session
	// is renewed by a later request.
	maxFlights = 4096
)

var errSlow = errors.New("the renewal takes longer than an answer waits; a later answer brings it")

// Renewal is a renewal under way. A nil Renewal is none.
type Renewal struct {
	done    chan struct{}
	renewal *renewal
	err     error
}

// flights are the renewals under way on this node. The key is the values, not a
// text made of them: no two sessions ever meet in one.
type flights struct {
	mu     sync.Mutex
	closed bool
	under  map[flight]*Renewal
}

type flight struct {
	sid, issuer string
	context     [32]byte
}

func (f *flights) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

// StartRenewal begins, in the background, to renew the session of this request
// when s, which Find returned for it, is old enough: a tenth of the idle time, at
// most a minute. Otherwise, and when the session's absolute end is reached already,
// it returns nil. The cookies are verified again; sid, context and start stay, jti
// and the idle end change, and the grant when [Config.Refresh] says so. Parallel
// requests, on whatever node, get one and the same token.
func (m *Manager) StartRenewal(s *Session, cookieLines []string, host string) *Renewal {
	now := m.now()
	if s == nil || !m.due(s, now) {
		return nil
	}
	v, err := m.find(cookieLines, host, now)
	switch {
	case v == nil:
		return finished(nil, err)
	case v.session.ID != s.ID:
		return finished(nil, errToken) // not the session that was asked for
	}
	n, rest := m.newest(v.session, host, now)
	if n != nil {
		return finished(n, nil)
	}
	if rest {
		return nil
	}
	return m.fly(v.session, host)
}

func finished(n *renewal, err error) *Renewal {
	r := &Renewal{done: make(chan struct{}), renewal: n, err: err}
	close(r.done)
	return r
}

// fly joins the renewal under way, or begins it.
func (m *Manager) fly(s *Session, host string) *Renewal {
	key := flight{s.ID, "https://" + host, s.context}
	m.flights.mu.Lock()
	defer m.flights.mu.Unlock()
	if r := m.flights.under[key]; r != nil {
		return r
	}
	if m.flights.closed || len(m.flights.under) >= maxFlights {
		return nil
	}
	if m.flights.under == nil {
		m.flights.under = make(map[flight]*Renewal)
	}
	r := &Renewal{done: make(chan struct{})}
	m.flights.under[key] = r
	m.loops.Go(func() {
		r.renewal, r.err = m.renew(s, host)
		m.flights.mu.Lock()
		delete(m.flights.under, key) // before anybody knows: whoever comes then finds the result, or the rest
		m.flights.mu.Unlock()
		close(r.done)
	})
	return r
}

// Wait returns the renewed token's cookie and session. It waits for at most a
// second: the renewal goes on all the same and a later request gets its result.
// Errors are those of Find, and [ErrTooLarge].
func (r *Renewal) Wait(ctx context.Context) (*http.Cookie, *Session, error) {
	if r == nil {
		return nil, nil, nil
	}
	select {
	case <-r.done: // most are by now
	default:
		timer := time.NewTimer(waitAtMost)
		defer timer.Stop()
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("renewing session: %w", ctx.Err())
		case <-timer.C:
			return nil, nil, errSlow
		}
	}
	if r.err != nil {
		return nil, nil, r.err
	}
	return cookie(CookieToken, r.renewal.token), r.renewal.session, nil
}

// renew makes the new token, together with the other nodes. While the store does
// not answer, the sessions that this node knew before are renewed by it alone: an
// active person's idle end must not come because of that. What the identity source
// would say has time until the store is back.
func (m *Manager) renew(s *Session, host string) (*renewal, error) {
	ctx, cancel := context.WithTimeout(m.life, leaseFor-time.Second)
	defer cancel()
	var n *renewal
	var err error
	if m.stale(m.now()) {
		err = store.ErrUnavailable
	} else {
		n, err = m.renewShared(ctx, s, host)
	}
	if errors.Is(err, store.ErrUnavailable) && !m.skewed() && m.live.known(s.ID, *m.heard.Load()) {
		if n, err = m.next(s, s.Grant, host); err == nil {
			n, err = m.settle(n)
		}
	}
	if err != nil {
		m.live.rest(s.ID, m.now().Add(retryAfter))
		return nil, fmt.Errorf("renewing session: %w", err)
	}
	return n, nil
}

// next signs the next token of a session.
func (m *Manager) next(s *Session, g Grant, host string) (*renewal, error) {
	return m.nextUntil(s, standing{grant: g}, host)
}

func (m *Manager) nextUntil(s *Session, st standing, host string) (*renewal, error) {
	life := m.lifetime.Of(st.grant.Roles)
	now := m.now()
	n := *s
	n.Grant, n.Issuer, n.TokenID = st.grant, "https://"+host, newID()
	n.idle, n.Ends = life.Idle, s.Started.Add(life.Absolute)
	n.IssuedAt = later(second(now), s.Started)
	n.Expires = st.cap(earlier(second(now).Add(n.idle), n.Ends))
	if !n.Expires.After(n.IssuedAt) {
		return nil, errExpired
	}
	token, kid, err := m.sign(&n)
	if err != nil {
		return nil, err
	}
	return &renewal{token: token, kid: kid, session: &n}, nil
}

// due says whether a token is old enough and a new one would live longer.
func (m *Manager) due(s *Session, now time.Time) bool {
	return now.Sub(s.IssuedAt) >= min(s.idle/10, renewAtMost) &&
		earlier(second(now).Add(s.idle), s.Ends).After(s.Expires)
}

// newest returns what a parallel request has renewed already, if that fits, or
// whether there is to be a rest.
func (m *Manager) newest(s *Session, host string, now time.Time) (n *renewal, rest bool) {
	shard := m.live.shard(s.ID)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	l := shard.lives[s.ID]
	switch {
	case l == nil:
		return nil, false
	case m.fits(l.newest, s, host, now):
		return l.newest, false
	}
	return nil, now.Before(l.retry) && l.retry.Sub(now) <= retryAfter
}

func (m *Manager) fits(n *renewal, s *Session, host string, now time.Time) bool {
	return n != nil && n.session.context == s.context && n.session.Issuer == "https://"+host &&
		!m.due(n.session, now) && now.Before(n.session.Expires) && m.ring.Load().find(n.kid) != nil
}

// settle records a renewal and moves the idle end. A session that was revoked
// meanwhile is not renewed.
func (m *Manager) settle(n *renewal) (*renewal, error) {
	now := m.now()
	names := namesOf(n.session.ID, &n.session.Grant, n.session.Started)
	shard := m.live.shard(n.session.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if why := m.live.over.why(&names); why != notRevoked {
		return nil, why.err()
	}
	// A registry that is full renews without sharing.
	if l := m.live.touch(shard, n.session, now); l != nil {
		l.newest = n
	}
	return n, nil
}

// rest keeps a renewal that failed from being tried by every request.
func (r *registry) rest(sid string, until time.Time) {
	shard := r.shard(sid)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if l := shard.lives[sid]; l != nil {
		l.retry = until
	}
}
