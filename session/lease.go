package session

import (
	"context"
	"errors"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// leaseFor is how long a node has for a renewal before another one may take
	// it over. The identity source may be slow.
	leaseFor = 10 * time.Second
	// pollLease is how often a node looks whether another one is done, and
	// pollLeases how often at most: a second.
	pollLease  = 20 * time.Millisecond
	pollLeases = 50
)

// lease says which node renews a session on a site, and then what came of it. It
// lies in the store, sealed, until the token in it is over. Fence counts the holders
// and is part of what is compared when a holder finishes: one that was too slow, and
// was taken over, writes nothing any more.
type lease struct {
	Fence  uint64 `json:"fence"`
	Holder string `json:"holder"`
	Until  int64  `json:"until"` // milliseconds
	Token  string `json:"token,omitempty"`
}

var errLost = errors.New("another node took the renewal over")

// renewShared renews a session once for all nodes: the first one to write the lease
// does it, the others wait for its token and use that.
func (m *Manager) renewShared(ctx context.Context, s *Session, host string) (*renewal, error) {
	key := cellKey(labelRenewal, s.ID, s.Audience)
	for range pollLeases {
		var l lease
		sealed, err := m.readCell(ctx, key, &l)
		if err != nil {
			return nil, err
		}
		if n := m.winner(l, s, host); n != nil {
			return m.settle(n)
		}
		if now := m.now().UnixMilli(); l.Token == "" && now < l.Until && l.Until-now <= leaseFor.Milliseconds() {
			if m.pause(ctx, pollLease) != nil {
				return nil, errSlow
			}
			continue
		}
		mine := lease{Fence: l.Fence + 1, Holder: newID(), Until: m.now().Add(leaseFor).UnixMilli()}
		held, err := m.writeCell(ctx, key, sealed, mine, m.now().Add(longestIdle))
		if errors.Is(err, store.ErrConflict) {
			continue // somebody was first
		}
		if err != nil {
			return nil, err
		}
		return m.renewHeld(ctx, key, held, mine, s, host)
	}
	return nil, errSlow
}

// renewHeld renews while this node holds the lease, asks the identity source if it
// can, and publishes the token.
func (m *Manager) renewHeld(ctx context.Context, key string, held []byte, mine lease, s *Session, host string) (*renewal, error) {
	st, err := m.grantNow(ctx, s)
	if errors.Is(err, errLost) {
		return m.published(ctx, key, s, host)
	}
	if err != nil {
		return nil, err
	}
	n, err := m.nextUntil(s, st, host)
	if err != nil {
		return nil, err
	}
	// Before anybody gets the token: who watches on another node asks the record.
	if err := m.touch(ctx, n.session); err != nil {
		return nil, err
	}
	mine.Token = n.token
	for round := range cellTries {
		if err := again(ctx, round); err != nil {
			return nil, err
		}
		_, err = m.writeCell(ctx, key, held, mine, n.session.Expires)
		if err == nil {
			return m.settle(n)
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		var there lease
		if held, err = m.readCell(ctx, key, &there); err != nil {
			return nil, err
		}
		if there.Token != "" || there.Fence != mine.Fence || there.Holder != mine.Holder {
			break
		}
		// Still our lease: it was only sealed anew under another key.
	}
	// Too slow: two tokens of one renewal would be two answers to the question
	// who is signed in. The other one's counts.
	return m.published(ctx, key, s, host)
}

// published returns the token of whoever took the lease over.
func (m *Manager) published(ctx context.Context, key string, s *Session, host string) (*renewal, error) {
	var l lease
	if _, err := m.readCell(ctx, key, &l); err != nil {
		return nil, err
	}
	if n := m.winner(l, s, host); n != nil {
		return m.settle(n)
	}
	return nil, errLost
}

// winner returns the token that another node, or an earlier request, put into the
// lease, if it is one for this request. It is verified like one from a browser:
// whoever can write to the store makes nobody's session with it.
func (m *Manager) winner(l lease, s *Session, host string) *renewal {
	if l.Token == "" {
		return nil
	}
	now := m.now()
	v, err := m.verify(l.Token, now)
	if err != nil || v.session.ID != s.ID || v.session.Subject != s.Subject || v.session.Source != s.Source {
		return nil
	}
	n := &renewal{token: l.Token, kid: v.kid, session: v.session}
	if !m.fits(n, s, host, now) {
		return nil
	}
	return n
}
