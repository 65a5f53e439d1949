package portal

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// faulty is a store whose writes fail on demand: lost, or done but reported
// as lost.
type faulty struct {
	store.Store

	mu    sync.Mutex // guards the fields below
	hook  func(op string) (apply bool, err error)
	blind string // keys that begin so cannot be read
	put   error  // of every Put
}

// failPut makes every Put end so, without an effect.
func (f *faulty) failPut(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put = err
}

func (f *faulty) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	f.mu.Lock()
	err := f.put
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Store.Put(ctx, key, value, expires)
}

// failGet makes all keys with this prefix unreadable.
func (f *faulty) failGet(prefix string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blind = prefix
}

func (f *faulty) Get(ctx context.Context, key string) ([]byte, error) {
	f.mu.Lock()
	blind := f.blind != "" && strings.HasPrefix(key, f.blind)
	f.mu.Unlock()
	if blind {
		return nil, store.ErrUnavailable
	}
	return f.Store.Get(ctx, key)
}

func (f *faulty) set(hook func(op string) (bool, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *faulty) ask(op string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hook == nil {
		return true, nil
	}
	return f.hook(op)
}

func (f *faulty) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	apply, fault := f.ask("cas")
	if apply {
		if err := f.Store.CompareAndSwap(ctx, key, old, new, expires); err != nil {
			return err
		}
	}
	return fault
}

func (f *faulty) Append(ctx context.Context, value []byte, expires time.Time) (string, error) {
	apply, fault := f.ask("append")
	cursor := ""
	if apply {
		var err error
		if cursor, err = f.Store.Append(ctx, value, expires); err != nil {
			return "", err
		}
	}
	return cursor, fault
}
