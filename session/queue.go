package session

import (
	"context"
	"fmt"
	"sync"
)

// queue lets the sign-ins of one account go one after the other on this node. They
// change one list: many at once would undo each other's work again and again, and
// somebody with one account could keep node and store busy with it. Between nodes the
// compare-and-swap decides.
type queue struct {
	mu    sync.Mutex
	turns map[shortID]*turn
}

type turn struct {
	taken   chan struct{} // holds one while somebody has the turn
	waiting int           // whoever has it counts
}

// enter waits for the account's turn. Call leave when it returned no error.
func (q *queue) enter(ctx context.Context, account shortID) (leave func(), err error) {
	q.mu.Lock()
	t := q.turns[account]
	if t == nil {
		if q.turns == nil {
			q.turns = make(map[shortID]*turn)
		}
		t = &turn{taken: make(chan struct{}, 1)}
		q.turns[account] = t
	}
	t.waiting++
	q.mu.Unlock()
	gone := func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(q.turns, account)
		}
	}
	select {
	case t.taken <- struct{}{}:
		return func() { <-t.taken; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, fmt.Errorf("%w: %w", errBusy, ctx.Err())
	}
}
