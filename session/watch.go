package session

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	liveShards = 16
	// maxLive bounds the sessions that a node keeps in mind at once. Only
	// sessions that we issued count, and each is forgotten when it ends.
	maxLive = 1 << 18
	// maxWatchers bounds the open connections of one session.
	maxWatchers = 1024
)

var errTooManyWatchers = errors.New("too many open connections in one session")

// registry knows, of each session seen lately: when it ends, who watches it and
// its newest renewal; and which sessions were revoked. One lock guards all that
// belongs to a session, so that no connection slips in between a revocation and
// its cut.
type registry struct {
	shards [liveShards]liveShard
}

type liveShard struct {
	mu      sync.RWMutex
	lives   map[string]*life
	revoked map[string]int64 // sid → second until which it is remembered
}

type life struct {
	first    time.Time // when this node verified it first
	expires  time.Time // idle end of the newest token seen
	watchers map[*watcher]struct{}
	newest   *renewal
}

type watcher struct {
	cut      func(error)
	tolerate time.Duration // silence of the store
}

// renewal is the newest token of a session, for its parallel requests.
type renewal struct {
	token   string
	kid     string
	session *Session
}

func (r *registry) init() {
	for i := range r.shards {
		r.shards[i].lives = make(map[string]*life)
		r.shards[i].revoked = make(map[string]int64)
	}
}

// shard chooses by the first character, one of 64 and random.
func (r *registry) shard(sid string) *liveShard {
	if sid == "" {
		return &r.shards[0]
	}
	return &r.shards[sid[0]%liveShards]
}

// seen records a verified token of a session.
func (r *registry) seen(s *Session, now time.Time) {
	shard := r.shard(s.ID)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.touch(s, now)
}

// known says whether this node had verified the session by that time.
func (r *registry) known(sid string, by time.Time) bool {
	shard := r.shard(sid)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	l := shard.lives[sid]
	return l != nil && !l.first.After(by)
}

// touch moves the idle end forward, never back: an older token of the same
// session may arrive after a newer one.
func (s *liveShard) touch(session *Session, now time.Time) *life {
	l := s.lives[session.ID]
	if l == nil {
		if _, revoked := s.revoked[session.ID]; revoked || len(s.lives) >= maxLive/liveShards {
			return nil
		}
		l = &life{first: now}
		s.lives[session.ID] = l
	}
	if session.Expires.After(l.expires) {
		l.expires = session.Expires
	}
	return l
}

// isRevoked is part of every request.
func (r *registry) isRevoked(sid string) bool {
	shard := r.shard(sid)
	shard.mu.RLock()
	_, revoked := shard.revoked[sid]
	shard.mu.RUnlock()
	return revoked
}

// revoke remembers a revocation and returns whom to cut.
func (r *registry) revoke(sid string, until int64) []*watcher {
	shard := r.shard(sid)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.revoked[sid] = max(until, shard.revoked[sid])
	return shard.drop(sid)
}

// drop forgets a session and returns its watchers. Whoever takes a watcher out
// of the map under the lock is the only one to call its cut.
func (s *liveShard) drop(sid string) []*watcher {
	l := s.lives[sid]
	if l == nil {
		return nil
	}
	delete(s.lives, sid)
	return l.take()
}

func (l *life) take() []*watcher {
	taken := slices.Collect(maps.Keys(l.watchers))
	l.watchers = nil
	return taken
}

// ended forgets what is over and returns whom to cut.
func (r *registry) ended(now time.Time) (cut []*watcher) {
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.Lock()
		for sid, l := range shard.lives {
			if !now.Before(l.expires) {
				cut = append(cut, shard.drop(sid)...)
			}
		}
		for sid, until := range shard.revoked {
			if until <= now.Unix() {
				delete(shard.revoked, sid)
			}
		}
		shard.mu.Unlock()
	}
	return cut
}

// cutAll takes every watcher out; the sessions stay.
func (r *registry) cutAll() []*watcher {
	return r.cutWhere(func(*life, *watcher) bool { return true })
}

// cutWhere takes out the watchers for which over is true.
func (r *registry) cutWhere(over func(*life, *watcher) bool) (cut []*watcher) {
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.Lock()
		for _, l := range shard.lives {
			for w := range l.watchers {
				if over(l, w) {
					delete(l.watchers, w)
					cut = append(cut, w)
				}
			}
		}
		shard.mu.Unlock()
	}
	return cut
}

// Watch calls cut once when the session ends: when it is revoked, here at once
// and on other nodes within about a second ([ErrNone]); when its idle or absolute
// end comes, where renewals move the idle end ([ErrNone]); when the store is
// silent for 30 s, or for tolerate if that is longer ([ErrStale]); and at Close ([ErrClosed]). A session that is not
// alive, or has 1024 watchers already, is cut at once.
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
	case m.stale(now) && (l == nil || l.first.After(*m.heard.Load()) || m.silence(now) > w.tolerate):
		return ErrStale
	case l == nil || !now.Before(l.expires):
		return ErrNone
	case len(l.watchers) >= maxWatchers:
		return errTooManyWatchers
	}
	if l.watchers == nil {
		l.watchers = make(map[*watcher]struct{})
	}
	l.watchers[w] = struct{}{}
	return nil
}

// sweep cuts what has ended. It runs beside the polling, so that a store that
// hangs keeps no session open.
func (m *Manager) sweep() {
	now := m.now()
	m.fire(m.live.ended(now), ErrNone)
	if m.stale(now) {
		heard, silence := *m.heard.Load(), m.silence(now)
		m.fire(m.live.cutWhere(func(l *life, w *watcher) bool { return l.first.After(heard) || silence > w.tolerate }), ErrStale)
	}
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
