package redis

import (
	"context"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

// ackTimeout is how long a change waits for a replica. A replica that is attached
// answers within a round trip; one that does not within this time is not relied on.
const ackTimeout = 500 * time.Millisecond

// durable runs one command that changes something, and then makes sure that the change
// outlives the server: when replicas are attached and up to date, one of them must have
// acknowledged it, or Sentinel could make a server the master that has never heard of it.
// With no replica attached the server's own file has to do, and the change is accepted.
//
// The server is asked on the same connection after the change whether it has replicas,
// so that what is decided on is never old. What was true the last time only saves a
// round trip. An error of cmd itself, redis.Nil too, is returned as it is.
func (s *Store) durable(ctx context.Context, c link, cmd goredis.Cmder) error {
	pipe := c.Pipeline()
	_ = pipe.Process(ctx, cmd)
	var ack *goredis.IntCmd
	if had, _ := s.replicated.Load(c.server); had == true {
		ack = goredis.NewIntCmd(ctx, "WAIT", 1, ackTimeout.Milliseconds())
		_ = pipe.Process(ctx, ack)
	}
	info := pipe.Info(ctx, "replication")
	_, _ = pipe.Exec(ctx) // each command has its own error
	if err := cmd.Err(); err != nil {
		return err
	}
	if err := info.Err(); err != nil {
		return s.unsure("asking for its replicas", err)
	}
	attached := strings.Count(info.Val(), "state=online")
	s.replicated.Store(c.server, attached > 0)
	if attached == 0 {
		return nil
	}
	if ack == nil {
		ack = c.Wait(ctx, 1, ackTimeout)
	}
	switch {
	case ack.Err() != nil:
		return s.unsure("waiting for a replica", ack.Err())
	case ack.Val() < 1:
		return fmt.Errorf("%w: the change was made, but none of the %d attached replicas acknowledged it within %v", store.ErrUnavailable, attached, ackTimeout)
	}
	return nil
}

// unsure marks an error that came after the change was made: no repetition.
func (s *Store) unsure(doing string, err error) error {
	return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, doing, s.conf.clean(err))
}
