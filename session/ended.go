package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"time"
)

// Ended says why the session of these cookies was revoked: "moved", when somebody
// signed in elsewhere and this one made room, "provider", when the identity source
// ended it or does not vouch any more, "revoked" otherwise, or "" when it was
// not, or when they hold none of ours. It answers for a session whose idle end has
// come meanwhile, too.
func (m *Manager) Ended(cookieLines []string, host string) (reason string) {
	v := m.ofCookies(cookieLines, host)
	if v == nil {
		return ""
	}
	if why := m.live.over.why(&v.names); why != notRevoked {
		return Reason(why.err())
	}
	return ""
}

// Revoked says whether the session of this sid was revoked one by one, as sign-outs
// are. That is remembered for a day after its absolute end at least, on every node.
func (m *Manager) Revoked(sid string) bool { return isID(sid) && m.live.isRevoked(sid) }

// ofCookies returns the session whose two halves the cookies are, whatever has
// become of it.
func (m *Manager) ofCookies(cookieLines []string, host string) *verified {
	token, contextValue, err := scan(cookieLines)
	if err != nil || !m.running.Load() {
		return nil
	}
	raw, ok := decodeContext(contextValue)
	if !ok {
		return nil
	}
	v, err := m.verify(token, m.now())
	if err != nil {
		return nil
	}
	confirm := sha256.Sum256(raw[:])
	if subtle.ConstantTimeCompare(confirm[:], v.session.context[:]) != 1 || !isAudience(v.session.Audience, host) {
		return nil
	}
	return v
}

// Revive gives the one portal its session back when the token is past its idle end
// but the sign-on is in use on another site, as the store's record says: the person
// is there. What was revoked, or is over everywhere, is [ErrNone].
func (m *Manager) Revive(ctx context.Context, cookieLines []string, host string) (*Session, *http.Cookie, error) {
	s, c, err := m.revive(ctx, cookieLines, host)
	if err != nil {
		return nil, nil, fmt.Errorf("reviving session: %w", err)
	}
	return s, c, nil
}

func (m *Manager) revive(ctx context.Context, cookieLines []string, host string) (*Session, *http.Cookie, error) {
	if err := m.available(); err != nil {
		return nil, nil, err
	}
	v := m.ofCookies(cookieLines, host)
	if v == nil {
		return nil, nil, ErrNone
	}
	if err := m.revoked(v); err != nil {
		return nil, nil, err
	}
	now := m.now()
	r, _, err := m.readRecord(ctx, v.session.ID)
	if err != nil {
		return nil, nil, err
	}
	in := r != nil && m.isLive(r) && now.Before(v.session.Ends) &&
		r.Source == v.session.Source && r.Subject == v.session.Subject && r.Started == v.session.Started.Unix()
	if !in {
		return nil, nil, errExpired
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	n, err := m.renewShared(ctx, v.session, host)
	if err != nil {
		return nil, nil, err
	}
	return n.session, cookie(CookieToken, n.token), nil
}
