package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

// repeat says what a call may do when a connection broke under it and nobody knows
// whether the server had done what it was asked.
type repeat int

const (
	once   repeat = iota // it changes something: the outcome is unknown and the caller is told so
	change               // it changes something and finds out by itself that it was already done
	again                // it reads
)

// changes bounds the connections that changes may have at a time. Each may wait for a
// replica for half a second; with thousands of them the reads of the feed, without which
// nobody is let in, would wait behind them.
const changes = connections * 3 / 4

// attempts bounds the repetitions of one call; its time bounds them too.
const attempts = 5

// run calls fn with a connection to the master that has the key, and repeats it where
// that is safe: when the server was not reached or refused without doing anything, and,
// unless it is to happen once, when the connection broke. What fn changes must be in its result:
// when ctx ends, run returns while fn may still be under way.
func run[T any](ctx context.Context, s *Store, doing, key string, r repeat, fn func(context.Context, link) (T, error)) (T, error) {
	return await(ctx, s, doing, s.times.call, func(ctx context.Context) (T, error) {
		var asking string
		for try := 1; ; try++ {
			value, err := attempt(ctx, s, key, asking, r, fn)
			if err == nil || ours(err) || try == attempts || !s.worth(err, r) {
				return value, err
			}
			asking = s.redirected(ctx, err)
			if asking == "" && !pause(ctx, try) {
				return value, err
			}
		}
	})
}

// link is one connection to one server.
type link struct {
	*goredis.Conn
	server string
}

// attempt calls fn once.
func attempt[T any](ctx context.Context, s *Store, key, asking string, r repeat, fn func(context.Context, link) (T, error)) (value T, err error) {
	if r != again {
		select {
		case s.changing <- struct{}{}:
			defer func() { <-s.changing }()
		case <-ctx.Done():
			return value, ctx.Err()
		}
	}
	node, err := s.node(ctx, key, asking)
	if err != nil {
		return value, err
	}
	c := node.Conn()
	defer func() {
		_ = c.Close() // gives it back to the pool
	}()
	if asking != "" {
		if err := c.Do(ctx, "ASKING").Err(); err != nil {
			return value, err
		}
	}
	return fn(ctx, link{Conn: c, server: node.Options().Addr})
}

// await calls fn and returns its result, or earlier when ctx ends or the time is over.
// Close waits for fn, which therefore has to end soon after its context.
func await[T any](ctx context.Context, s *Store, doing string, limit time.Duration, fn func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if err := ctx.Err(); err != nil {
		return none, s.unavailable(ctx, doing, err)
	}
	if !s.begin() {
		return none, s.unavailable(ctx, doing, errClosed)
	}
	done := make(chan result, 1)
	inner, cancel := context.WithTimeout(ctx, limit)
	go func() { // ends with inner: every read and write has its deadline
		defer s.under.Done()
		defer cancel()
		var res result
		res.value, res.err = fn(inner)
		done <- res
	}()
	select {
	case res := <-done:
		if res.err != nil {
			return none, s.answer(ctx, doing, res.err)
		}
		return res.value, nil
	case <-inner.Done():
		select { // both at once: an outcome that is known is not thrown away
		case res := <-done:
			if res.err == nil {
				return res.value, nil
			}
			if ours(res.err) || ctx.Err() == nil { // fn's own end cancels inner: what the server said counts
				return none, s.answer(ctx, doing, res.err)
			}
		default:
		}
		return none, s.unavailable(ctx, doing, inner.Err())
	}
}

// node is the client of the master that has the key, or of the one that an ASK named.
func (s *Store) node(ctx context.Context, key, asking string) (*goredis.Client, error) {
	switch c := s.client.(type) {
	case *goredis.Client:
		return c, nil
	case *goredis.ClusterClient:
		if asking == "" {
			return c.MasterForKey(ctx, key)
		}
		var found *goredis.Client
		masters := make(chan *goredis.Client, 1)
		err := c.ForEachMaster(ctx, func(_ context.Context, node *goredis.Client) error {
			if node.Options().Addr == asking {
				masters <- node
			}
			return nil
		})
		select {
		case found = <-masters:
			return found, nil
		default:
		}
		if err == nil {
			err = errors.New("the Cluster names a server that is not among its masters")
		}
		return nil, err
	}
	return nil, errors.New("not a client of ours")
}

// masters calls fn for each master, at the same time in a Cluster.
func (s *Store) masters(ctx context.Context, fn func(context.Context, *goredis.Client) error) error {
	switch c := s.client.(type) {
	case *goredis.Client:
		return fn(ctx, c)
	case *goredis.ClusterClient:
		return c.ForEachMaster(ctx, fn)
	}
	return errors.New("not a client of ours")
}

// redirected has the Cluster's map read again after an error that says that it is old,
// and returns the server to ask in the midst of a move of slots.
func (s *Store) redirected(ctx context.Context, err error) string {
	c, ok := s.client.(*goredis.ClusterClient)
	if !ok {
		return ""
	}
	if address, ok := goredis.IsAskError(err); ok {
		return address
	}
	c.ReloadState(ctx)
	return ""
}

// passing are the answers of a server that did nothing and may do it soon.
var passing = []string{"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "MOVED ", "ASK ", "ERR max number of clients"}

// worth reports whether to try again after err.
func (s *Store) worth(err error, r repeat) bool {
	var said goredis.Error
	var dialing *net.OpError
	switch {
	case errors.As(err, &said):
		for _, p := range passing {
			if strings.HasPrefix(said.Error(), p) {
				return true
			}
		}
		return false
	case errors.Is(err, errGone), errors.As(err, &dialing) && dialing.Op == "dial" && !dialing.Timeout():
		return true // nothing was sent
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, goredis.ErrClosed):
		return false
	case errors.As(err, &dialing) && dialing.Timeout():
		return false // the time of the whole call is spent
	}
	return r != once && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &dialing))
}

// pause waits a little, longer each time, and reports whether there is time left.
func pause(ctx context.Context, try int) bool {
	d := time.Duration(20<<try)*time.Millisecond + rand.N(20*time.Millisecond)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errClosed = errors.New("it is closed")

// ours reports whether err is an answer of the store, not a failure.
func ours(err error) bool {
	return errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrInvalid) || errors.Is(err, store.ErrUnavailable)
}

func (s *Store) answer(ctx context.Context, doing string, err error) error {
	if ours(err) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return s.unavailable(ctx, doing, err)
}

// unavailable says what went wrong in words that hold no secret. errors.Is finds
// store.ErrUnavailable and, when the caller's context ended, its error.
func (s *Store) unavailable(ctx context.Context, doing string, cause error) error {
	err := ctx.Err()
	if deadline, ok := ctx.Deadline(); ok && err == nil && !time.Now().Before(deadline) {
		err = context.DeadlineExceeded // the connection's own deadline was a moment faster
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", doing, store.ErrUnavailable, err)
	}
	text := s.conf.clean(cause)
	if errors.Is(cause, context.DeadlineExceeded) {
		text = "no answer in time"
	}
	return fmt.Errorf("%s: %w: %s: %s", doing, store.ErrUnavailable, s.conf.name(), text)
}

// clean is what an error says, shortened, without control characters and without our
// passwords: a server that does not know HELLO repeats what it was sent with it.
func (c Config) clean(err error) string {
	text := err.Error()
	for _, secret := range []string{c.Password, c.SentinelPassword} {
		if secret != "" && strings.Contains(text, secret) {
			return "the server refused the connection (its words are left out: they repeat the password)"
		}
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
	if len(text) > 300 {
		text = text[:300] + " …"
	}
	return strings.ToValidUTF8(text, "?")
}
