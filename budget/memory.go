package budget

import (
	"context"
	"fmt"
	"sync"
)

const shards = 16

// recent keeps what was used lately. Each shard has two generations: when the young one is full it becomes the old one, and
// what is asked for again moves back, so that the bound holds without a list. What is too old is judged by whoever reads it,
// and goes with its generation.
type recent[V any] struct {
	limit  int // of one generation of one shard
	shards [shards]struct {
		mu         sync.Mutex
		young, old map[name]V
	}
}

func newRecent[V any](limit int) *recent[V] { return &recent[V]{limit: max(1, limit/shards/2)} }

func (r *recent[V]) get(key name) (value V, ok bool) {
	s := &r.shards[key[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok = s.young[key]; ok {
		return value, true
	}
	if value, ok = s.old[key]; ok {
		delete(s.old, key)
		r.add(key, value)
	}
	return value, ok
}

func (r *recent[V]) put(key name, value V) {
	s := &r.shards[key[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.old, key)
	r.add(key, value)
}

// add needs the shard's lock.
func (r *recent[V]) add(key name, value V) {
	s := &r.shards[key[0]%shards]
	if s.young == nil || len(s.young) >= r.limit {
		s.old, s.young = s.young, make(map[name]V)
	}
	s.young[key] = value
}

func (r *recent[V]) size() (n int) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		n += len(s.young) + len(s.old)
		s.mu.Unlock()
	}
	return n
}

// queue lets the counts of one window go one after the other on this node: a page that asks for forty pictures at once would
// undo its own work again and again. Between nodes the compare-and-swap decides.
type queue struct {
	mu    sync.Mutex
	turns map[name]*turn
}

type turn struct {
	taken   chan struct{} // holds one while somebody has the turn
	waiting int           // whoever has it counts
}

// enter waits for the window's turn. Call leave when it returned no error.
func (q *queue) enter(ctx context.Context, window name) (leave func(), err error) {
	q.mu.Lock()
	t := q.turns[window]
	if t == nil {
		if q.turns == nil {
			q.turns = make(map[name]*turn)
		}
		t = &turn{taken: make(chan struct{}, 1)}
		q.turns[window] = t
	}
	t.waiting++
	q.mu.Unlock()
	gone := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(q.turns, window)
		}
	}
	select {
	case t.taken <- struct{}{}:
		return func() { <-t.taken; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}
