package session

import (
	"errors"
	"time"
)

// Health is the state of a manager, for operators and load balancers.
type Health struct {
	Running      bool
	Stale        bool          // nobody is let in
	Silence      time.Duration // since the store was last heard
	Skew         time.Duration // the store's clock less ours; 0 when it has none
	Sessions     int           // seen lately on this node
	Watchers     int           // open connections
	Revocations  int           // in memory
	CachedTokens int
}

// Health reports the state of this node.
func (m *Manager) Health() Health {
	now := m.now()
	h := Health{
		Running: m.running.Load(), Stale: m.stale(now), Silence: m.silence(now), Skew: time.Duration(m.skew.Load()),
		Revocations: m.live.over.size(), CachedTokens: m.cache.size(),
	}
	for i := range m.live.shards {
		shard := &m.live.shards[i]
		shard.mu.RLock()
		h.Sessions += len(shard.lives)
		for _, l := range shard.lives {
			h.Watchers += len(l.watchers)
		}
		shard.mu.RUnlock()
	}
	return h
}

// Silence is the time since the store was last heard, or 0 as long as that is so
// short that revocations count as known.
func (m *Manager) Silence() time.Duration {
	if silence := m.silence(m.now()); silence > staleAfter {
		return silence
	}
	return 0
}

// Reason is a fixed code for why there is no session, or why one was cut: for
// audit logs, never for browsers.
func Reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errRevoked):
		return "revoked"
	case errors.Is(err, errMoved):
		return "moved"
	case errors.Is(err, errProvider):
		return "provider"
	case errors.Is(err, errExpired):
		return "expired"
	case errors.Is(err, errKey):
		return "key-killed"
	case errors.Is(err, ErrStale):
		return "silent"
	case errors.Is(err, ErrClosed):
		return "closed"
	case errors.Is(err, ErrNone):
		return "none"
	case errors.Is(err, errTooManyWatchers):
		return "too-many"
	}
	return "other"
}
