package session

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
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

// registry knows, of each session seen lately: when it ends, who watches it and
// its newest renewal; and what was revoked. A revocation is remembered first and
// cuts then; a connection is admitted under its session's lock, where it asks what
// was revoked. So none slips in between.
type registry struct {
	over   revocations
	broad  atomic.Bool // something was revoked that may concern many sessions
	shards [liveShards]liveShard
}

type liveShard struct {
	mu    sync.RWMutex
	lives map[string]*life
}

// life is what is known about one session.
type life struct {
	names    names
	first    time.Time // when this node verified it first
	expires  time.Time // idle end of the newest token seen
	asking   bool      // the store is being asked for a later idle end
	retry    time.Time // a renewal failed; not again before this
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
	r.over.init()
	for i := range r.shards {
		r.shards[i].lives = make(map[string]*life)
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
	r.touch(shard, s, now)
}

// touch moves the idle end forward, never back: an older token of the same
// session may arrive after a newer one. A session that was revoked, or has no room,
// is nil. The shard is locked.
func (r *registry) touch(shard *liveShard, s *Session, now time.Time) *life {
	l := shard.lives[s.ID]
	if l == nil {
		n := namesOf(s.ID, &s.Grant, s.Started)
		if r.over.why(&n) != notRevoked || len(shard.lives) >= maxLive/liveShards {
			return nil
		}
		l = &life{names: n, first: now}
		shard.lives[s.ID] = l
	}
	if s.Expires.After(l.expires) {
		l.expires = s.Expires
	}
	return l
}

// known says whether this node had verified the session by that time.
func (r *registry) known(sid string, by time.Time) bool {
	shard := r.shard(sid)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	l := shard.lives[sid]
	return l != nil && !l.first.After(by)
}

// isRevoked says whether this one session was revoked.
func (r *registry) isRevoked(sid string) bool {
	return r.over.reason(parseID(sid)) != notRevoked
}

// drop forgets a session and returns its watchers. Whoever takes a watcher out
// of the map under the lock is the only one to call its cut.
func (r *registry) drop(sid string) []*watcher {
	shard := r.shard(sid)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	return shard.drop(sid)
}

func (s *liveShard) drop(sid string) []*watcher {
	l := s.lives[sid]
	if l == nil {
		return nil
	}
	delete(s.lives, sid)
	taken := slices.Collect(maps.Keys(l.watchers))
	l.watchers = nil
	return taken
}

// dropWhere forgets the sessions for which over is true and returns their watchers.
func (r *registry) dropWhere(over func(sid string, l *life) bool) (cut []*watcher) {
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.Lock()
		for sid, l := range shard.lives {
			if over(sid, l) {
				cut = append(cut, shard.drop(sid)...)
			}
		}
		shard.mu.Unlock()
	}
	return cut
}

// cutWhere takes out the watchers for which over is true; the sessions stay.
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

// cutAll takes every watcher out; the sessions stay.
func (r *registry) cutAll() []*watcher {
	return r.cutWhere(func(*life, *watcher) bool { return true })
}
