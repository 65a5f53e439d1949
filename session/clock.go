package session

import (
	"context"
	"fmt"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// skewAtMost is how far our clock may be from the store's, which all nodes share.
// A clock that is wrong lets sessions live on that have ended, or ends all of them.
const skewAtMost = 30 * time.Second

// checkClock compares our clock with that of a store that has one. A wrong clock is
// no error of the store: it is heard, but nobody is let in.
func (m *Manager) checkClock(ctx context.Context) error {
	c, ok := m.store.(store.Clock)
	if !ok {
		return nil
	}
	before := m.now()
	theirs, err := c.Time(ctx)
	if err != nil {
		return fmt.Errorf("asking the store for its time: %w", err)
	}
	after := m.now()
	// The answer was made at some moment between: what is certain counts.
	var skew time.Duration
	switch {
	case theirs.Before(before):
		skew = theirs.Sub(before)
	case theirs.After(after):
		skew = theirs.Sub(after)
	}
	was := m.skewed()
	m.skew.Store(int64(skew))
	switch is := m.skewed(); {
	case is && !was:
		m.log.Error("this machine's clock and the store's differ by more than 30 s; nobody is let in until one of them is set right (run an NTP client on both)", "difference", skew)
	case was && !is:
		m.log.Info("this machine's clock agrees with the store's again")
	}
	return nil
}

func (m *Manager) skewed() bool {
	return time.Duration(m.skew.Load()).Abs() > skewAtMost
}
