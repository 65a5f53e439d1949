package session

import (
	"context"
	"errors"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// verifyAtMost is how long a source is not asked again when a quarter of the idle
	// time is longer.
	verifyAtMost = 5 * time.Minute
)

// errForgotten: the store has lost what a sign-on is verified by. It is not renewed
// any more, so that it is over within one idle period.
var errForgotten error = none("cannot be verified any more")

// A source is asked at a renewal, when a quarter of the idle time, 5 minutes at most, has
// gone by since it vouched. One node asks at a time for a sign-on on all its sites, since
// a refresh token is replaced at each use. What it says of roles and names holds on each
// site from the next renewal on.
//
// standing is what a renewal goes on with: who somebody is now, and the moment that no
// token outlives that says so. That is an idle time after the source vouched: nobody
// uses what it took back for longer, however they place their requests, and a pause may
// for that end somebody's session by a quarter of the idle time sooner. While the source
// gives no answer it is the zero time, any: how long that goes on is the source's to say.
//
// A node that is killed while it asks may take the newest refresh token with it. The one
// before is used once more then, as nothing else is left, and Kept.Unsure says so: what
// the provider refuses then is perhaps its own precaution and not the person.
type standing struct {
	grant Grant
	until time.Time
}

func (st standing) cap(t time.Time) time.Time {
	if st.until.IsZero() {
		return t
	}
	return earlier(t, st.until.UTC())
}

// verifyEvery is how long a verdict is good for.
func verifyEvery(idle time.Duration) time.Duration { return min(idle/4, verifyAtMost) }

// stands says what holds of a sign-on without asking.
func (m *Manager) stands(s *Session, k *kept) (standing, Lifetime) {
	g := k.Told.grant(s.Grant)
	life := m.lifetime.Of(g.Roles)
	st := standing{grant: g}
	if m.regrant != nil && k.Verify && !k.Silent {
		st.until = time.Unix(k.Verified, 0).Add(life.Idle)
	}
	return st, life
}

// isDue says whether the source is to be asked now.
func (k *kept) isDue(now time.Time, idle time.Duration) bool {
	verified, rest := time.Unix(k.Verified, 0), time.UnixMilli(k.Rest)
	if now.Before(rest) && rest.Sub(now) <= max(restAfterError, verifyEvery(idle)) {
		return false
	}
	return now.Sub(verified) >= verifyEvery(idle) || verified.After(now.Add(aheadAtMost))
}

// isHeld says whether somebody asks at this moment.
func (k *kept) isHeld(now time.Time) bool {
	until := now.UnixMilli()
	return k.Holder != "" && until < k.Until && k.Until-until <= leaseFor.Milliseconds()
}

// grantNow says who somebody is now. It asks the identity source when that is due; of
// all nodes, and of all sites of a sign-on, one does. The others wait for it, for a
// second; then they go on with what was known before.
func (m *Manager) grantNow(ctx context.Context, s *Session) (standing, error) {
	for round := range cellTries {
		if err := again(ctx, round); err != nil {
			return standing{}, err
		}
		k, sealed, err := m.readKept(ctx, s.ID)
		switch {
		case err != nil:
			return standing{}, err
		case k == nil && s.verify && m.regrant != nil:
			return standing{}, errForgotten
		case k == nil:
			return standing{grant: s.Grant}, nil
		}
		now := m.now()
		st, life := m.stands(s, k)
		switch {
		case m.regrant == nil || !k.Verify || !k.isDue(now, life.Idle):
			err = m.moveOn(ctx, s, sealed, k, life)
		case k.isHeld(now) || !m.asks.begin(s.ID):
			return m.awaitVerdict(ctx, s)
		default:
			st, err = m.ask(ctx, s, sealed, *k, life)
		}
		if !errors.Is(err, store.ErrConflict) {
			return st, err
		}
	}
	return standing{}, errBusy
}

// joining says what a sign-on stands for that comes to another site. Nobody is asked. Of
// the session that it comes from only the sign-on is known: that there is nothing to
// verify it by must not pass for that it needs none.
func (m *Manager) joining(ctx context.Context, s *Session) (standing, error) {
	k, _, err := m.readKept(ctx, s.ID)
	switch {
	case err != nil:
		return standing{}, err
	case k == nil && m.regrant != nil:
		r, _, err := m.readRecord(ctx, s.ID)
		if err == nil && (r == nil || r.Verify || s.verify) {
			err = errForgotten
		}
		return standing{grant: s.Grant}, err
	case k == nil:
		return standing{grant: s.Grant}, nil
	}
	s.verify = k.Verify
	st, _ := m.stands(s, k)
	return st, nil
}

// awaitVerdict waits for somebody else's asking, for a second. If that is not done by
// then, what was known before is good enough for as long as it was good anyway.
func (m *Manager) awaitVerdict(ctx context.Context, s *Session) (standing, error) {
	var st standing
	for range pollLeases {
		if m.pause(ctx, pollLease) != nil {
			return standing{}, errSlow
		}
		k, _, err := m.readKept(ctx, s.ID)
		switch {
		case err != nil:
			return standing{}, err
		case k == nil: // revoked, most likely
			return standing{}, errForgotten
		}
		st, _ = m.stands(s, k)
		if !k.isHeld(m.now()) && !m.asks.has(s.ID) {
			break
		}
	}
	if !st.until.IsZero() && !st.until.After(s.Expires) {
		return standing{}, errSlow
	}
	return st, nil
}
