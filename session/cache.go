package session

import (
	"sync"
	"sync/atomic"
)

const (
	cacheShards = 16
	// cacheEntries bounds the verified tokens in memory. One entry is about
	// as large as its token, so 16 384 of them are some 16 MiB, 64 at most.
	cacheEntries = 16384
)

// verified is what a token was found to say once its signature had been checked.
type verified struct {
	session *Session
	kid     string
	expires int64 // seconds
	names   names // what it can be revoked by
	// looked is the generation of the revocations in which it was none of them.
	looked atomic.Uint64
}

// cache remembers verified tokens by the SHA-256 of their exact bytes. Failures
// are never in it. Each shard has two generations: when the young one is full it
// becomes the old one, and what is asked for again moves back, so that the bound
// holds without a list and without ever emptying everything at once.
type cache struct {
	shards [cacheShards]cacheShard
	limit  int // of one generation of one shard
}

type cacheShard struct {
	mu         sync.RWMutex
	young, old map[[32]byte]*verified
}

func (c *cache) init(entries int) {
	c.limit = max(1, entries/cacheShards/2)
	for i := range c.shards {
		c.shards[i].young = make(map[[32]byte]*verified)
	}
}

func (c *cache) get(key [32]byte) *verified {
	shard := &c.shards[key[0]%cacheShards]
	shard.mu.RLock()
	v := shard.young[key]
	older := v == nil && shard.old[key] != nil
	shard.mu.RUnlock()
	if !older {
		return v
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if v = shard.old[key]; v != nil {
		delete(shard.old, key)
		shard.add(key, v, c.limit)
		return v
	}
	return shard.young[key] // another request moved it meanwhile
}

func (c *cache) put(key [32]byte, v *verified) {
	shard := &c.shards[key[0]%cacheShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.add(key, v, c.limit)
}

func (s *cacheShard) add(key [32]byte, v *verified, limit int) {
	if len(s.young) >= limit {
		s.old = s.young
		s.young = make(map[[32]byte]*verified, limit)
	}
	s.young[key] = v
}

// keep drops every entry for which ok is false: those of a retired key.
func (c *cache) keep(ok func(*verified) bool) {
	for i := range c.shards {
		shard := &c.shards[i]
		shard.mu.Lock()
		for _, generation := range []map[[32]byte]*verified{shard.young, shard.old} {
			for key, v := range generation {
				if !ok(v) {
					delete(generation, key)
				}
			}
		}
		shard.mu.Unlock()
	}
}

// size counts the entries.
func (c *cache) size() (n int) {
	for i := range c.shards {
		shard := &c.shards[i]
		shard.mu.RLock()
		n += len(shard.young) + len(shard.old)
		shard.mu.RUnlock()
	}
	return n
}
