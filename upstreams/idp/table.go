package idp

import (
	"crypto/rand"
	"sync"
	"time"
)

// maxEntries bounds every table: sign-ins that nobody finishes must not fill the
// memory.
const maxEntries = 10_000

// table holds values under unguessable names for a fixed time.
type table[T any] struct {
	now  func() time.Time
	life time.Duration

	mu    sync.Mutex
	items map[string]item[T]
}

type item[T any] struct {
	value T
	until time.Time
}

func newTable[T any](now func() time.Time, life time.Duration) *table[T] {
	return &table[T]{now: now, life: life, items: map[string]item[T]{}}
}

// add stores value under a new name of 130 bits.
func (t *table[T]) add(value T) string {
	name := rand.Text()
	t.set(name, value)
	return name
}

func (t *table[T]) set(name string, value T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.items) >= maxEntries {
		t.shrink()
	}
	t.items[name] = item[T]{value, t.now().Add(t.life)}
}

// shrink drops what is over, or else the oldest: all entries live equally long.
func (t *table[T]) shrink() {
	oldest, at := "", time.Time{}
	for name, i := range t.items {
		if !t.now().Before(i.until) {
			delete(t.items, name)
		} else if oldest == "" || i.until.Before(at) {
			oldest, at = name, i.until
		}
	}
	if len(t.items) >= maxEntries {
		delete(t.items, oldest)
	}
}

func (t *table[T]) get(name string) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, found := t.items[name]
	if !found || !t.now().Before(i.until) {
		var none T
		return none, false
	}
	return i.value, true
}

// take gets and removes: of two callers one has it.
func (t *table[T]) take(name string) (T, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, found := t.items[name]
	delete(t.items, name)
	if !found || !t.now().Before(i.until) {
		var none T
		return none, false
	}
	return i.value, true
}

// first puts a name into a table of things seen and says whether it was new.
func (t *table[T]) first(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, found := t.items[name]; found && t.now().Before(i.until) {
		return false
	}
	if len(t.items) >= maxEntries {
		t.shrink()
	}
	var none T
	t.items[name] = item[T]{none, t.now().Add(t.life)}
	return true
}

// change changes a value where it is and gives what change said; false when
// there is none.
func (t *table[T]) change(name string, change func(*T) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, found := t.items[name]
	if !found || !t.now().Before(i.until) {
		return false
	}
	done := change(&i.value)
	t.items[name] = i
	return done
}

// takeAll takes the values that match.
func (t *table[T]) takeAll(match func(T) bool) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	var taken []T
	for name, i := range t.items {
		if match(i.value) {
			delete(t.items, name)
			if t.now().Before(i.until) {
				taken = append(taken, i.value)
			}
		}
	}
	return taken
}
