package session

import (
	"context"
	"time"
)

// Kept is what lies in the store for the identity source of a sign-on.
type Kept struct {
	Bytes    []byte    // as the source gave them last
	Verified time.Time // when the source vouched last
	// Unsure says that an earlier asking was cut off, by a crash or a timeout: the
	// source may have used Bytes up without our hearing what comes after them. That it
	// refuses them then may mean only that.
	Unsure bool
}

// Verdict is what an identity source says when it is asked again.
type Verdict struct {
	Grant Grant  // of the same source and subject; its level and provider session do not count
	Keep  []byte // in the place of Kept.Bytes; nil: those stay
	Gone  bool   // the source does not vouch any more
}

// Kept returns what was kept for the identity source of a sign-on, nil when there is
// nothing or the sign-on is over.
func (m *Manager) Kept(ctx context.Context, sid string) ([]byte, error) { return nil, nil }

// Journal keeps, over restarts and outside of the store, the revocations that the
// store could not take. Load returns nothing when nothing was saved.
type Journal interface {
	Load() ([]byte, error)
	Save([]byte) error
}
