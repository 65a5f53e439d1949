package session

import (
	"encoding/base64"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const revokedShards = 64

// shortID is a sid, or a hash, in the form in which millions of them are kept.
type shortID [idBytes]byte

func (id shortID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// parseID is the reverse for what [isID] accepts; of anything else it makes zeros,
// which are nobody's. It does not allocate.
func parseID(s string) (id shortID) {
	var text [idLength]byte
	var raw [idBytes + 2]byte // Decode wants room for the padded length
	if len(s) != len(text) {
		return id
	}
	copy(text[:], s)
	if n, err := base64.RawURLEncoding.Strict().Decode(raw[:], text[:]); err == nil && n == len(id) {
		copy(id[:], raw[:])
	}
	return id
}

// cause is why a session is over. It has room in four bits.
type cause uint32

const (
	notRevoked cause = iota
	causeRevoked
	causeSignedOut
	causeMoved
	causeEnded
	causeReplaced
	causeProvider
	causeUser
	causeAll
)

// causeWords are the causes as the feed names them.
var causeWords = [...]string{"", "revoked", "signed-out", "moved", "ended", "replaced", "provider", "user", "all"}

// causeOf reads a word of the feed. One that a newer version wrote ends the session
// as well as any.
func causeOf(word string) cause {
	for c, known := range causeWords {
		if c > 0 && word == known {
			return cause(c)
		}
	}
	return causeRevoked
}

func (c cause) err() error {
	switch c {
	case notRevoked:
		return nil
	case causeMoved:
		return errMoved
	case causeProvider:
		return errProvider
	}
	return errRevoked
}

// The kinds of names under which sessions are revoked. Under the first two a
// session is over whenever it began; under the others when it began until a time.
type nameKind uint8

const (
	bySession nameKind = iota
	byProvider
	byAccount
	byUsername
	kindsOfName
)

// names are what a session can be revoked by, worked out once for each token.
type names struct {
	ids     [kindsOfName]shortID // no provider session: zero
	started uint32
}

func namesOf(sid string, g *Grant, started time.Time) names {
	n := names{started: uint32(started.Unix())}
	n.ids[bySession] = parseID(sid)
	if g.ProviderSession != "" {
		n.ids[byProvider] = parseID(g.ProviderSession)
	}
	n.ids[byAccount] = accountID(g.Source, g.Subject)
	n.ids[byUsername] = usernameID(g.Username)
	return n
}

// revocations is what a node knows to be over. It is read when something in it has
// changed since a token was last looked up, so that its size costs a request
// nothing: a token that was looked up in this generation is as good as then.
type revocations struct {
	generation atomic.Uint64
	all        atomic.Uint32 // what began until this second is over
	shards     [revokedShards]revokedShard
}

// revokedShard holds, by session and provider session, the second until which the
// revocation must be remembered, rounded up to 16, with the cause in the lower
// four bits; by account and username, the second until which sessions began.
type revokedShard struct {
	mu    sync.RWMutex
	kinds [kindsOfName]map[shortID]uint32
	most  int // entries of the largest one at any time: maps do not shrink by themselves
}

func (r *revocations) init() {
	r.generation.Store(1) // a token that was never looked up says 0
	for i := range r.shards {
		for kind := range r.shards[i].kinds {
			r.shards[i].kinds[kind] = make(map[shortID]uint32)
		}
	}
}

func (r *revocations) shard(id shortID) *revokedShard {
	return &r.shards[id[0]%revokedShards]
}

// end remembers, until a second, that what has this name is over.
func (r *revocations) end(kind nameKind, id shortID, until int64, c cause) {
	shard := r.shard(id)
	shard.mu.Lock()
	before := shard.kinds[kind][id]
	if before != 0 {
		c = cause(before & 15) // the first cause is the one that people saw
	}
	shard.kinds[kind][id] = max(before, uint32((until+15)&^15)|uint32(c))
	shard.mu.Unlock()
	r.generation.Add(1) // after the change, or a look in between would last
}

// endBefore remembers that what has this name and began until a second is over.
func (r *revocations) endBefore(kind nameKind, id shortID, before int64) {
	shard := r.shard(id)
	shard.mu.Lock()
	shard.kinds[kind][id] = max(shard.kinds[kind][id], uint32(before))
	shard.mu.Unlock()
	r.generation.Add(1)
}

// endAll remembers that whatever began until a second is over.
func (r *revocations) endAll(before int64) {
	for {
		old := r.all.Load()
		if uint32(before) <= old || r.all.CompareAndSwap(old, uint32(before)) {
			break
		}
	}
	r.generation.Add(1)
}

func (r *revocations) value(kind nameKind, id shortID) uint32 {
	shard := r.shard(id)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	return shard.kinds[kind][id]
}

// reason says why this one session was revoked, or notRevoked.
func (r *revocations) reason(id shortID) cause { return cause(r.value(bySession, id) & 15) }

// why says why a session is over, or notRevoked.
func (r *revocations) why(n *names) cause {
	if c := r.reason(n.ids[bySession]); c != notRevoked {
		return c
	}
	if n.ids[byProvider] != (shortID{}) && r.value(byProvider, n.ids[byProvider]) != 0 {
		return causeProvider
	}
	switch {
	case r.value(byAccount, n.ids[byAccount]) >= n.started, r.value(byUsername, n.ids[byUsername]) >= n.started:
		return causeUser
	case r.all.Load() >= n.started:
		return causeAll
	}
	return notRevoked
}

// floor is the last second in which a session of these names may not have begun.
func (r *revocations) floor(n *names) int64 {
	return int64(max(r.value(byAccount, n.ids[byAccount]), r.value(byUsername, n.ids[byUsername]), r.all.Load()))
}

// sweep forgets, in one shard, what no session can be concerned by any more.
func (r *revocations) sweep(i int, now time.Time) {
	shard := &r.shards[i%revokedShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	second := now.Unix()
	size := 0
	for kind, known := range shard.kinds {
		shard.most = max(shard.most, len(known))
		maps.DeleteFunc(known, func(_ shortID, v uint32) bool {
			if k := nameKind(kind); k == bySession || k == byProvider {
				return int64(v&^15) <= second
			}
			return int64(v)+int64(rememberBefore/time.Second) <= second
		})
		size += len(known)
	}
	if shard.most < 1024 || size > shard.most/4 {
		return
	}
	for kind, known := range shard.kinds {
		smaller := make(map[shortID]uint32, len(known))
		maps.Copy(smaller, known)
		shard.kinds[kind] = smaller
	}
	shard.most = size
}

// size counts the entries.
func (r *revocations) size() (n int) {
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.RLock()
		for _, known := range shard.kinds {
			n += len(known)
		}
		shard.mu.RUnlock()
	}
	return n
}

// each calls f for everything that is known.
func (r *revocations) each(f func(kind nameKind, id shortID)) {
	for i := range r.shards {
		shard := &r.shards[i]
		shard.mu.RLock()
		for kind, known := range shard.kinds {
			for id := range known {
				f(nameKind(kind), id)
			}
		}
		shard.mu.RUnlock()
	}
}
