package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	pollEvery   = time.Second
	pollTimeout = 5 * time.Second  // for one answer of the store
	staleAfter  = 30 * time.Second // without a good answer everybody is refused
	feedBatch   = 512
	// restAtLeast keeps a store that always says "something new" from making us
	// busy. A revocation made elsewhere waits no longer for it than this.
	restAtLeast = 2 * time.Millisecond
)

// follower is where reading the feed has got to. Its lock is held while polling.
type follower struct {
	mu       sync.Mutex
	cursor   string
	failing  bool
	reload   map[debt]struct{} // what was read since the feed was set back; nil: it was not
	owed     []debt            // to be appended again
	paying   bool
	marked   string // the mark as saved
	markedAt time.Time
}

// debt is a revocation that the feed ought to hold.
type debt struct {
	kind nameKind
	id   shortID
}

// reads notes what a feed that was set back still holds.
func (f *follower) reads(kind nameKind, id shortID) {
	if f.reload != nil {
		f.reload[debt{kind, id}] = struct{}{}
	}
}

// listen follows the feed until Close: as soon as the store says that there is
// something, and every second to know that it is there.
func (m *Manager) listen() {
	for {
		began := time.Now()
		m.follows.mu.Lock()
		cursor, failing := m.follows.cursor, m.follows.failing
		m.follows.mu.Unlock()
		ctx, cancel := context.WithTimeout(m.life, pollEvery)
		err := m.store.Wait(ctx, cursor)
		rest := restAtLeast
		if err != nil || failing { // what could not be read is still there: the store would say so at once
			rest = max(rest, pollEvery-time.Since(began))
		}
		cancel()
		if m.pause(m.life, rest) != nil {
			return
		}
		m.follow()
	}
}

// pause waits; an error says that ctx has ended.
func (m *Manager) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// follow polls once. A failure is logged when it begins and when it ends.
func (m *Manager) follow() {
	m.follows.mu.Lock()
	defer m.follows.mu.Unlock()
	ctx, cancel := context.WithTimeout(m.life, pollTimeout)
	defer cancel()
	err := m.poll(ctx)
	switch {
	case err != nil && !m.follows.failing && m.running.Load():
		m.log.Error("cannot follow revocations; sessions are refused after 30 s of this", "error", err)
	case err == nil && m.follows.failing:
		m.log.Info("following revocations again")
	}
	m.follows.failing = err != nil
	if err == nil {
		m.saveMark(false)
		m.payBack()
		m.payArrears()
		m.tidy()
	}
}

// poll reads what is new in the feed, whether the keys have changed and what time
// it is. Only when all succeeded does the store count as heard, from the time
// before the asking. The follower is locked.
func (m *Manager) poll(ctx context.Context) error {
	began := m.now()
	turn := m.own.turn()
	if err := m.checkClock(ctx); err != nil {
		return err
	}
	err := m.readFeed(ctx)
	m.cutRevoked() // also by what was read before an error
	if err != nil {
		return err
	}
	if err := m.loadKeys(ctx); err != nil {
		return err
	}
	m.missed(turn)
	m.heard.Store(&began)
	return nil
}

// readFeed reads to the end of the feed.
func (m *Manager) readFeed(ctx context.Context) error {
	for {
		entries, err := m.store.After(ctx, m.follows.cursor, feedBatch)
		if errors.Is(err, store.ErrNotFound) && m.follows.cursor != "" {
			// The store was replaced, set back or failed over: going on from
			// here would skip what it holds, and it lacks what we know.
			m.log.Warn("the revocation feed was set back; reading all of it and adding what it lacks")
			m.follows.cursor, m.follows.reload = "", make(map[debt]struct{})
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the revocation feed: %w", err)
		}
		for _, e := range entries {
			if err := m.obey(e.Value); err != nil {
				return err
			}
			m.own.seen(e.Value)
			m.follows.cursor = e.Cursor
		}
		if len(entries) < feedBatch {
			return nil
		}
	}
}

// missed notes what a complete poll did not show although it ought to be there: an
// own entry that was acknowledged before the poll began, and, when the feed was set
// back, everything that is known here.
func (m *Manager) missed(turn uint64) {
	lost := m.own.lost(turn)
	if m.follows.reload == nil {
		if len(lost) > 0 {
			m.log.Warn("revocations that the store had acknowledged are missing from its feed; adding them again", "count", len(lost))
			m.follows.owed = append(m.follows.owed, lost...)
		}
		return
	}
	m.live.over.each(func(kind nameKind, id shortID) {
		if _, there := m.follows.reload[debt{kind, id}]; !there {
			m.follows.owed = append(m.follows.owed, debt{kind, id})
		}
	})
	if _, there := m.follows.reload[debt{kind: kindsOfName}]; !there && m.live.over.all.Load() > 0 {
		m.follows.owed = append(m.follows.owed, debt{kind: kindsOfName})
	}
	m.follows.reload, m.follows.markedAt = nil, time.Time{}
	m.log.Warn("the revocation feed was set back", "missing", len(m.follows.owed))
}

// payBack appends in the background what the feed owes to others. What cannot be
// appended now is tried again after the next poll.
func (m *Manager) payBack() {
	if len(m.follows.owed) == 0 || m.follows.paying {
		return
	}
	owed := m.follows.owed
	m.follows.owed, m.follows.paying = nil, true
	m.loops.Go(func() {
		left := m.pay(owed)
		m.follows.mu.Lock()
		defer m.follows.mu.Unlock()
		m.follows.owed, m.follows.paying = append(left, m.follows.owed...), false
		if len(left) == 0 {
			m.log.Info("the revocation feed holds again what this node knows")
		}
	})
}

// pay appends and returns what is left. Whether it is read back is not watched: a
// feed that loses it again was set back again.
func (m *Manager) pay(owed []debt) (left []debt) {
	for len(owed) > 0 {
		n := min(len(owed), batchSize)
		var again []revocation
		for _, d := range owed[:n] {
			if r, ok := m.entryOf(d); ok {
				again = append(again, r)
			}
		}
		if len(again) > 0 {
			value, until, err := encode(again)
			if err == nil {
				ctx, cancel := context.WithTimeout(m.life, pollTimeout)
				_, err = m.store.Append(ctx, value, until)
				cancel()
			}
			if err != nil {
				return owed
			}
		}
		owed = owed[n:]
	}
	return nil
}
