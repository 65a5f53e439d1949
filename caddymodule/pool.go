package caddymodule

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// pool keeps what must survive a config reload: the open store (its file takes an exclusive lock),
// the audit log (one writer) and the session managers (revocations, verified tokens, streams).
// A new config takes its references before the old one gives its own back.
var pool = caddy.NewUsagePool()

// shared is a resource in the pool. It is made closed, so that Provision and `validate` touch
// nothing, and opened once, by the first config that starts.
type shared[T any] struct {
	mu     sync.Mutex // guards the fields below
	opened bool
	value  T
	close  func() error
}

// Destruct closes the resource when the last reference is gone.
func (s *shared[T]) Destruct() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		return nil
	}
	s.opened = false
	return s.close()
}

// reference is one config's hold on a shared resource. The zero value holds nothing.
type reference[T any] struct {
	key string
	res *shared[T] // nil when given back
	was *shared[T] // what was given back
}

// take adds a reference to the resource of that key. The key names the resource itself (a path, not
// a whole config), so that an unrelated change of the config does not open it twice.
func take[T any](key string) (reference[T], error) {
	v, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return new(shared[T]), nil })
	if err != nil {
		return reference[T]{}, err
	}
	res, ok := v.(*shared[T])
	if !ok {
		_, _ = pool.Delete(key) // the mismatch is what is reported
		return reference[T]{}, fmt.Errorf("taking %q: the pool holds a %T there", key, v)
	}
	return reference[T]{key: key, res: res}, nil
}

// open returns the resource, opening it first when nobody has.
func (r reference[T]) open(open func() (T, func() error, error)) (T, error) {
	r.res.mu.Lock()
	defer r.res.mu.Unlock()
	if r.res.opened {
		return r.res.value, nil
	}
	v, closer, err := open()
	if err != nil {
		var zero T
		return zero, err
	}
	r.res.value, r.res.close, r.res.opened = v, closer, true
	return v, nil
}

// release gives the reference back; calling it again does nothing. Cleanup runs also after a failed
// Provision: a second decrement would close what the live config uses.
func (r *reference[T]) release() error {
	if r.res == nil {
		return nil
	}
	r.res, r.was = nil, r.res
	_, err := pool.Delete(r.key)
	return err
}

// again takes the reference once more after release, if the very same resource is still open because
// another config holds it.
func (r *reference[T]) again() bool {
	next, err := take[T](r.key)
	if err != nil {
		return false
	}
	next.res.mu.Lock()
	same := next.res == r.was && next.res.opened
	next.res.mu.Unlock()
	if !same {
		_ = next.release() // made just now, or another one: nothing that we know
		return false
	}
	*r = next
	return true
}

// tenancy counts the requests that run on one config, because Caddy cleans a config up while its
// requests are still being answered. What they use is given back when the last has left. A request that
// comes on a kept-alive connection a moment later takes it again, if the new config keeps it open.
type tenancy struct {
	mu      sync.Mutex // guards the fields below
	inside  int
	closed  bool
	onEmpty func()
	again   func() bool
}

// enter reports whether a request may use the config's resources; each true needs one leave.
func (t *tenancy) enter() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed && t.inside == 0 && !t.again() {
		return false
	}
	t.inside++
	return true
}

func (t *tenancy) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inside--
	if t.closed && t.inside == 0 {
		t.onEmpty()
	}
}

// close runs onEmpty now, or when the last request has left; again takes back what it gave away, or says
// that it is gone. Both run under the lock.
func (t *tenancy) close(onEmpty func(), again func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed, t.onEmpty, t.again = true, onEmpty, again
	if t.inside == 0 {
		t.onEmpty()
	}
}

// startup is the moment at which an app's resources are open. Caddy lets the http app listen a little
// earlier, at a reload too: a request that comes then waits instead of failing.
type startup struct {
	once sync.Once
	done chan struct{}
}

// startupWait is how long such a request waits at most.
const startupWait = 5 * time.Second

func newStartup() *startup { return &startup{done: make(chan struct{})} }

// reached ends the waiting: everything is open, or never will be.
func (s *startup) reached() { s.once.Do(func() { close(s.done) }) }

// wait returns when it is reached, after startupWait, or when the client is gone.
func (s *startup) wait(ctx context.Context) {
	select {
	case <-s.done: // mostly, and without a timer
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, startupWait)
	defer cancel()
	select {
	case <-s.done:
	case <-ctx.Done():
	}
}
