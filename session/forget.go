package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// forgetTimeout bounds what is tidied up after a revocation.
	forgetTimeout = time.Second
	// maxLeft bounds what is tidied up later. Beyond it cells stay until they expire.
	maxLeft = 4096
)

// leftovers are revocations after which something could not be deleted.
type leftovers struct {
	mu   sync.Mutex
	left []owed
	busy bool
}

func (l *leftovers) add(all ...owed) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = append(l.left, all[:min(len(all), maxLeft-len(l.left))]...)
}

// forget deletes what the store holds of sign-ons that a revocation has ended: what was
// kept for their source, which has to be gone with them (OpenID Connect Back-Channel
// Logout 1.0, section 2.7), and their record, so that a node that has not heard yet sees
// that they are gone. What cannot be deleted now is tried again after the next poll.
// Nobody gets it meanwhile: whoever reads it asks first what is revoked, and it expires.
func (m *Manager) forget(ctx context.Context, all ...owed) {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	for i, o := range all {
		if err := m.forgetOne(ctx, o); err != nil {
			m.log.Debug("records of revoked sessions stay for a while", "error", err)
			m.left.add(all[i:]...)
			return
		}
	}
}

func (m *Manager) forgetOne(ctx context.Context, o owed) error {
	if o.Entry.Kind == labelRevoked {
		return m.discard(ctx, o.Entry.ID)
	}
	records, err := m.endedBy(ctx, o)
	for _, r := range records {
		err = errors.Join(err, m.discard(ctx, r.ID))
	}
	return err
}

// endedBy returns the records of what a revocation of several has ended.
func (m *Manager) endedBy(ctx context.Context, o owed) (found []*record, err error) {
	kind, id := o.Entry.name()
	ended := func(r *record) bool {
		n := r.names()
		return n.ids[kind] == id && (kind == byProvider || int64(n.started) <= o.Entry.Before)
	}
	var lists []string
	switch kind {
	case byProvider:
		var opened opened
		if _, err := m.readCell(ctx, openedKey(o.Entry.Key), &opened); err != nil {
			return nil, err
		}
		lists = opened.Accounts
	case byAccount:
		lists = []string{o.List}
	case byUsername:
		return m.allRecords(ctx, ended)
	default:
		return nil, nil
	}
	for _, key := range lists {
		if key == "" {
			continue
		}
		var list account
		if _, err := m.readCell(ctx, key, &list); err != nil {
			return found, err
		}
		for _, l := range list.Sessions {
			r, _, err := m.readRecord(ctx, l.ID)
			if err != nil {
				return found, err
			}
			if r != nil && ended(r) {
				found = append(found, r)
			}
		}
	}
	return found, nil
}

// tidy deletes, in the background, what could not be deleted before.
func (m *Manager) tidy() {
	l := &m.left
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.left) == 0 || l.busy {
		return
	}
	left := l.left
	l.left, l.busy = nil, true
	m.loops.Go(func() {
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.busy = false
		}()
		m.forget(m.life, left...)
	})
}
