package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/anteroom-proxy/anteroom/store"
)

// Mark keeps, over restarts and outside of the store, where the feed was heard up
// to. Load returns "" when there is none. A store that was set back to an older
// state while no node ran has forgotten revocations; only such a mark shows it.
type Mark interface {
	Load() (string, error)
	Save(cursor string) error
}

// markEvery is how often the mark is saved at most. What is revoked in between is
// not noticed to be missing when the store is set back and every node ends at once.
const markEvery = 10 * pollEvery

// checkMark says whether the store knows the mark. One that it does not know says
// that the store was replaced or set back.
func (m *Manager) checkMark(ctx context.Context) (setBack bool, err error) {
	if m.mark == nil {
		return false, nil
	}
	mark, err := m.mark.Load()
	if err != nil {
		return false, fmt.Errorf("reading where revocations were heard up to: %w", err)
	}
	if mark == "" {
		return false, nil
	}
	_, err = m.store.After(ctx, mark, 1)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrInvalid) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the revocation feed: %w", err)
	}
	return false, nil
}

// endEverything ends all sessions that began until now: some of them may have been
// revoked, and nobody knows which. The same holds for the keys that signed them: who
// has stolen one that was killed would go on making sessions.
func (m *Manager) endEverything(ctx context.Context) error {
	m.log.Warn("the store was set back to an older state and may have lost revocations; all sessions that began until now are over")
	now := m.now().Unix()
	r := revocation{Kind: labelRevokedAll, Before: now, Until: m.untilOf(now)}
	if err := m.append(ctx, r); err != nil {
		return fmt.Errorf("revoking all sessions of a store that was set back: %w", err)
	}
	m.take(r)
	if err := m.replaceKeys(ctx); err != nil {
		return fmt.Errorf("replacing the session keys of a store that was set back: %w", err)
	}
	// Read back, for the mark that says so.
	return m.poll(ctx)
}

// saveMark saves how far the feed was heard, when it is time or at the end. After a
// feed that was set back under a running node it is time, and "" is said of an empty
// one: the old mark would tell the next start that revocations are lost, which this
// node knows and adds again. Until it has done so the old one stays, for the case that
// the node ends first. The follower is locked.
func (m *Manager) saveMark(last bool) {
	f := &m.follows
	now := m.now()
	if m.mark == nil || f.cursor == f.marked || len(f.owed) > 0 || f.paying || !last && now.Sub(f.markedAt) < markEvery {
		return
	}
	f.markedAt = now
	if err := m.mark.Save(f.cursor); err != nil {
		m.log.Error("cannot save where revocations were heard up to; a store that is set back would not be noticed", "error", err)
		return
	}
	f.marked = f.cursor
}
