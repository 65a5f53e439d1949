package issuer

import (
	"context"
	"sync"
	"time"
)

// How long fetched things live. A removed key stops verifying within KeysFresh
// while the provider answers, and within KeysKeep when it does not.
const (
	MetadataFresh = time.Hour
	MetadataKeep  = 24 * time.Hour
	KeysFresh     = time.Hour
	KeysKeep      = 24 * time.Hour

	FailureFresh = 5 * time.Second // with nothing in hand: a failure answers for this long
	RetryAfter   = time.Minute     // with an older value in hand: between two tries to renew it
	MissRefetch  = time.Minute     // between two renewals because of an unknown key
)

// CacheConfig describes a value that comes from the provider.
type CacheConfig[T any] struct {
	Now         func() time.Time
	Fresh, Keep time.Duration
	Fetch       func(ctx context.Context, old T, have bool) (T, error)
	Failed      func(error) // told of each failed fetch; nil: nobody
}

// Cache holds one value that comes from the provider. One fetch runs at a time,
// however many ask; a caller that gives up does not end it for the others. A
// value is used as it is while fresh, renewed after that, and kept while
// renewing fails until it is Keep old; then there is none.
type Cache[T any] struct {
	config CacheConfig[T]

	mu      sync.Mutex
	value   T
	have    bool
	version int       // counts the fetches that succeeded
	at      time.Time // when value's fetch began
	err     error     // of the last fetch, nil when it succeeded
	errAt   time.Time // when it failed
	missed  time.Time // when an unknown key last caused a fetch
	running *flight[T]
}

// NewCache makes an empty one. It fetches nothing yet.
func NewCache[T any](config CacheConfig[T]) *Cache[T] { return &Cache[T]{config: config} }

// flight is one fetch; the fields are set before done is closed.
type flight[T any] struct {
	done    chan struct{}
	value   T
	version int
	err     error
}

// Get gives the value and its version.
func (c *Cache[T]) Get(ctx context.Context) (T, int, error) {
	c.mu.Lock()
	now := c.config.Now()
	c.expire(now)
	switch {
	case c.have && now.Sub(c.at) < c.config.Fresh,
		c.have && c.err != nil && now.Sub(c.errAt) < RetryAfter:
		defer c.mu.Unlock()
		return c.value, c.version, nil
	case !c.have && c.err != nil && now.Sub(c.errAt) < FailureFresh:
		defer c.mu.Unlock()
		return c.value, 0, c.err
	}
	f := c.start(ctx)
	c.mu.Unlock()
	return f.wait(ctx)
}

// expire drops a value that nobody vouched for lately. A clock that was set back
// makes a value old too.
func (c *Cache[T]) expire(now time.Time) {
	if age := now.Sub(c.at); c.have && (age >= c.config.Keep || age < -time.Minute) {
		var none T
		c.value, c.have, c.err = none, false, nil
	}
}

// Miss is for a caller that did not find what it needs in the value of this
// version: it gives a newer one, if there is one or may be fetched. It fetches
// at most once in MissRefetch; without that limit each made-up key name would
// cost the provider a request and us a wait.
func (c *Cache[T]) Miss(ctx context.Context, version int) (value T, found bool) {
	c.mu.Lock()
	now := c.config.Now()
	if c.have && c.version > version {
		defer c.mu.Unlock()
		return c.value, true
	}
	if c.running == nil {
		if since := now.Sub(c.missed); !c.missed.IsZero() && since >= 0 && since < MissRefetch {
			c.mu.Unlock()
			return value, false
		}
		c.missed = now
	}
	f := c.start(ctx)
	c.mu.Unlock()
	value, got, err := f.wait(ctx)
	return value, err == nil && got > version
}

// start begins a fetch or joins the one that runs. The caller holds mu.
func (c *Cache[T]) start(ctx context.Context) *flight[T] {
	if c.running == nil {
		c.running = &flight[T]{done: make(chan struct{})}
		go c.load(context.WithoutCancel(ctx), c.running, c.value, c.have, c.config.Now())
	}
	return c.running
}

// load does one fetch and stores what came of it. Requests bound their own time.
func (c *Cache[T]) load(ctx context.Context, f *flight[T], old T, have bool, began time.Time) {
	defer close(f.done)
	value, err := c.config.Fetch(ctx, old, have)
	if err != nil && c.config.Failed != nil {
		c.config.Failed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = nil
	if err == nil {
		c.value, c.have, c.at, c.err = value, true, began, nil
		c.version++
	} else {
		c.err, c.errAt = err, c.config.Now()
	}
	if c.have {
		err = nil // an older value serves
	}
	f.value, f.version, f.err = c.value, c.version, err
}

func (f *flight[T]) wait(ctx context.Context) (T, int, error) {
	select {
	case <-f.done:
		return f.value, f.version, f.err
	case <-ctx.Done():
		var none T
		return none, 0, unavailable("cancelled", ctx.Err())
	}
}
