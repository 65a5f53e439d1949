package session

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// askAtMost is how long the store may take to say that a watched session is in use
// on another node, before it is cut.
const askAtMost = time.Second / 2

var errTooManyWatchers = errors.New("too many open connections in one session")

// Watch calls cut once when the session ends: when it is revoked, here at once and
// on other nodes within milliseconds; when its absolute end comes, or its idle end
// and it was not renewed on any node either ([ErrNone]); when the store is silent
// for 30 s, or for tolerate if that is longer and the session was verified here
// before ([ErrStale]); and at Close ([ErrClosed]). [Reason] tells more. A session
// that is not alive, or has 1024 watchers already, is cut at once.
//
// cut runs in a goroutine of its own; it may still run after stop returned, when
// both happen at the same time, and it may call stop. Always call stop, which can
// be repeated, when the connection is gone.
func (m *Manager) Watch(sid string, tolerate time.Duration, cut func(error)) (stop func()) {
	w := &watcher{cut: cut, tolerate: max(tolerate, staleAfter)}
	shard := m.live.shard(sid)
	shard.mu.Lock()
	err := m.admit(shard, sid, w)
	shard.mu.Unlock()
	if err != nil {
		m.fire([]*watcher{w}, err)
		return func() {}
	}
	return func() {
		shard.mu.Lock()
		defer shard.mu.Unlock()
		// A session that was dropped took its watchers along.
		if l := shard.lives[sid]; l != nil {
			delete(l.watchers, w)
		}
	}
}

// admit adds a watcher to a living session, under the shard's lock.
func (m *Manager) admit(shard *liveShard, sid string, w *watcher) error {
	now := m.now()
	l := shard.lives[sid]
	switch {
	case !m.running.Load():
		return ErrClosed
	case m.stale(now) && (l == nil || m.intolerable(l, w, now)):
		return ErrStale
	case l == nil && m.live.isRevoked(sid):
		return m.live.over.reason(parseID(sid)).err()
	case l == nil:
		return ErrNone
	case !now.Before(l.expires) && !l.asking:
		return errExpired
	case len(l.watchers) >= maxWatchers:
		return errTooManyWatchers
	}
	if why := m.live.over.why(&l.names); why != notRevoked {
		return why.err()
	}
	if l.watchers == nil {
		l.watchers = make(map[*watcher]struct{})
	}
	l.watchers[w] = struct{}{}
	return nil
}

// intolerable says whether the silence of the store ends a watcher's connection.
func (m *Manager) intolerable(l *life, w *watcher, now time.Time) bool {
	heard := m.heard.Load()
	return heard == nil || m.skewed() || l.first.After(*heard) || since(now, *heard) > w.tolerate
}

// sweep cuts what has ended. It runs beside the polling, so that a store that
// hangs keeps no session open.
func (m *Manager) sweep() {
	now := m.now()
	var ask []string
	cut := m.live.dropWhere(func(sid string, l *life) bool {
		switch {
		case now.Before(l.expires) || l.asking:
			return false
		case len(l.watchers) == 0:
			return true
		}
		// It may have been renewed on another node.
		l.asking = true
		ask = append(ask, sid)
		return false
	})
	m.fire(cut, errExpired)
	for _, sid := range ask {
		m.loops.Go(func() { m.askOthers(sid) })
	}
	if m.stale(now) {
		m.fire(m.live.cutWhere(func(l *life, w *watcher) bool { return m.intolerable(l, w, now) }), ErrStale)
	}
}

// askOthers moves the idle end of a watched session to where the store's record has
// it. A store that does not say so is no reason to leave the connection open.
func (m *Manager) askOthers(sid string) {
	ctx, cancel := context.WithTimeout(m.life, askAtMost)
	defer cancel()
	expires := time.Time{}
	if r, _, err := m.readRecord(ctx, sid); err == nil && r != nil {
		expires = earlier(time.Unix(r.Expires, 0), time.Unix(r.Ends, 0))
	}
	now := m.now()
	shard := m.live.shard(sid)
	shard.mu.Lock()
	var cut []*watcher
	if l := shard.lives[sid]; l != nil {
		l.asking = false
		if expires.After(l.expires) {
			l.expires = expires
		}
		if !now.Before(l.expires) {
			cut = shard.drop(sid)
		}
	}
	shard.mu.Unlock()
	m.fire(cut, errExpired)
}

// cutRevoked cuts whatever is revoked, after a revocation that may concern many.
func (m *Manager) cutRevoked() (done <-chan struct{}) {
	if !m.live.broad.Swap(false) {
		return m.fire(nil, nil)
	}
	var provider []*watcher // with a reason of their own
	others := m.live.dropWhere(func(_ string, l *life) bool {
		why := m.live.over.why(&l.names)
		if why == causeProvider {
			provider = slices.AppendSeq(provider, maps.Keys(l.watchers))
			l.watchers = nil // the shard is locked: nobody else takes them
		}
		return why != notRevoked
	})
	first, second := m.fire(provider, errProvider), m.fire(others, errRevoked)
	all := make(chan struct{})
	go func() {
		defer close(all)
		<-first
		<-second
	}()
	return all
}

// fire calls the cuts, each in its own goroutine, as one that blocks must not
// keep the others open, and returns a channel that closes when all have returned.
func (m *Manager) fire(watchers []*watcher, reason error) <-chan struct{} {
	done := make(chan struct{})
	if len(watchers) == 0 {
		close(done)
		return done
	}
	var all sync.WaitGroup
	for _, w := range watchers {
		all.Go(func() {
			defer func() {
				if problem := recover(); problem != nil {
					m.log.Error("cutting a connection of an ended session panicked", "problem", problem)
				}
			}()
			w.cut(reason)
		})
	}
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}
