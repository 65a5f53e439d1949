package emergency

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// freshFor is how long the store's word on a grant counts; silentFor is how long it counts while the store is silent,
	// which is asked again after askAgain then.
	freshFor  = 15 * time.Second
	silentFor = 5 * time.Minute
	askAgain  = 5 * time.Second
	askFor    = 2 * time.Second

	maxCookies   = 4096 // opened cookies in memory
	maxStandings = 8192 // grants whose standing is in memory
)

// standing is what is known about one grant.
type standing struct {
	over  bool      // ended or rejected: for good
	asked time.Time // when the store said that it is not
	retry time.Time // the store was silent; not again before this
}

// stands asks whether a grant was ended or rejected meanwhile. Unknown is not yes.
func (l *Ledger) stands(ctx context.Context, id string, now time.Time) bool {
	s, known := l.standings.get(id)
	age := now.Sub(s.asked)
	switch {
	case known && s.over:
		return false
	case known && age >= 0 && age < freshFor:
		return true
	case known && now.Before(s.retry) && s.retry.Sub(now) <= askAgain:
		return age >= 0 && age < silentFor
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	var r record
	sealed, err := l.read(ctx, recordKey(id), &r)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled):
		return false // the request is gone; nothing was learnt
	case err != nil:
		l.log.Warn("cannot ask the store whether an emergency access was ended", "id", id, "error", err)
		s.retry = now.Add(askAgain)
		l.standings.update(id, func(old standing) standing { s.over = s.over || old.over; return s })
		return !s.over && known && age >= 0 && age < silentFor
	}
	s = standing{over: sealed == nil || r.over(), asked: now}
	s = l.standings.update(id, func(old standing) standing { s.over = s.over || old.over; return s })
	return !s.over
}

// closed notes that a grant is over, here and at once.
func (l *Ledger) closed(id string) {
	l.standings.update(id, func(standing) standing { return standing{over: true} })
}

// recent keeps what was used lately. It has two generations: when the young one is full it becomes the old one, so that the
// bound holds without a list.
type recent[K comparable, V any] struct {
	mu         sync.Mutex
	limit      int // of both
	young, old map[K]V
}

func newRecent[K comparable, V any](limit int) *recent[K, V] {
	return &recent[K, V]{limit: limit, young: make(map[K]V)}
}

func (r *recent[K, V]) get(key K) (value V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.take(key)
}

// take finds a value and moves it to the young ones.
func (r *recent[K, V]) take(key K) (value V, ok bool) {
	if value, ok = r.young[key]; ok {
		return value, true
	}
	if value, ok = r.old[key]; ok {
		delete(r.old, key)
		r.add(key, value)
	}
	return value, ok
}

func (r *recent[K, V]) add(key K, value V) {
	if len(r.young) >= r.limit/2 {
		r.old, r.young = r.young, make(map[K]V)
	}
	r.young[key] = value
}

func (r *recent[K, V]) put(key K, value V) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.old, key)
	r.add(key, value)
}

// update changes what is there, or the zero value, in one step.
func (r *recent[K, V]) update(key K, change func(V) V) V {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, _ := r.take(key)
	value := change(old)
	r.add(key, value)
	return value
}
