package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

// aloneFor is how long an answer serves that a server has no replica anywhere. No
// replica comes to life, is attached and made the master in so short a time.
const aloneFor = time.Second

// replicas is what is known of the servers that have a copy of each change.
type replicas struct {
	attached  sync.Map // server -> bool: it had one the last time
	alone     sync.Map // history of a server -> time.Time: until when it needs none
	sentinels []*goredis.SentinelClient
}

// durable runs one command that changes something, or several, and then makes sure that the
// changes outlive the server: when replicas are attached and up to date, one of them must have
// acknowledged it, or a server could become the master that has never heard of it. With
// no replica attached, none may be alive either, see alone; then the server's own file
// has to do.
//
// The server is asked on the same connection after the change whether it has replicas,
// so that what is decided on is never old. What was true the last time only saves a
// round trip. An error of the one command, redis.Nil too, is returned as it is; of several,
// each has its own, and when all have one it is the first.
func (s *Store) durable(ctx context.Context, c link, cmds ...goredis.Cmder) error {
	pipe := c.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(ctx, cmd)
	}
	var ack *goredis.IntCmd
	if had, _ := s.replicas.attached.Load(c.server); had == true {
		ack = goredis.NewIntCmd(ctx, "WAIT", 1, s.times.ack.Milliseconds())
		_ = pipe.Process(ctx, ack)
	}
	info := pipe.Info(ctx, "replication")
	_, _ = pipe.Exec(ctx) // each command has its own error
	if !slices.ContainsFunc(cmds, func(cmd goredis.Cmder) bool { return cmd.Err() == nil }) {
		return cmds[0].Err()
	}
	if err := info.Err(); err != nil {
		return s.unsure("asking for its replicas", err)
	}
	attached := strings.Count(info.Val(), "state=online")
	s.replicas.attached.Store(c.server, attached > 0)
	// The id of its history tells a master from one that it replaced at the same address.
	history := facts(info.Val())["master_replid"]
	if attached == 0 {
		return s.alone(ctx, c, history)
	}
	s.replicas.alone.Delete(history)
	if ack == nil {
		ack = goredis.NewIntCmd(ctx, "WAIT", 1, s.times.ack.Milliseconds())
		_ = c.Process(ctx, ack)
	}
	switch {
	case ack.Err() != nil:
		return s.unsure("waiting for a replica", ack.Err())
	case ack.Val() < 1:
		return fmt.Errorf("%w: the change was made, but none of the %d attached replicas acknowledged it within %v", store.ErrUnavailable, attached, s.times.ack)
	}
	return nil
}

// unsure marks an error that came after the change was made: no repetition.
func (s *Store) unsure(doing string, err error) error {
	return fmt.Errorf("%w: %s: %s", store.ErrUnavailable, doing, s.conf.clean(err))
}

// alone returns nil when the server has no replica because there is none that lives. In
// a failover the replica leaves first and becomes the master; for a second or two the
// old master still takes writes, has nobody attached, and will then throw them away.
// The same holds for a master that is cut off from the others together with us. Whoever
// decides on masters is asked: most of the Sentinels, who must also mean this very
// server, or the Cluster's own map.
func (s *Store) alone(ctx context.Context, c link, history string) error {
	if until, ok := s.replicas.alone.Load(history); ok && time.Now().Before(until.(time.Time)) {
		return nil
	}
	var err error
	switch {
	case s.conf.Master != "":
		var info string
		if info, err = c.Info(ctx, "server").Result(); err == nil {
			err = s.askSentinels(ctx, facts(info)["run_id"])
		}
	case s.conf.Cluster:
		var nodes string
		if nodes, err = c.ClusterNodes(ctx).Result(); err == nil && livingReplica(nodes) {
			err = errElsewhere
		}
	}
	if err != nil {
		return s.unsure("the change was made, but it may be lost", err)
	}
	s.replicas.alone.Store(history, time.Now().Add(aloneFor))
	return nil
}

var errElsewhere = errors.New("no replica is attached to this server, and there is one that lives, or another master")

// askSentinels returns nil when more than half of the Sentinels say that the process of
// that id is the master and that no replica lives, and none says otherwise.
func (s *Store) askSentinels(ctx context.Context, process string) error {
	ctx, cancel := context.WithTimeout(ctx, s.times.ack)
	defer cancel()
	answers := make(chan error, len(s.replicas.sentinels))
	for _, sentinel := range s.replicas.sentinels {
		go func() { answers <- s.askSentinel(ctx, sentinel, process) }() // ends with ctx
	}
	agreed, failed := 0, errors.New("no Sentinel answered")
	for range s.replicas.sentinels {
		switch err := <-answers; {
		case errors.Is(err, errElsewhere):
			return err
		case err != nil:
			failed = err
		default:
			agreed++
		}
	}
	if 2*agreed <= len(s.replicas.sentinels) {
		return fmt.Errorf("no replica is attached, and too few Sentinels say whether one lives: %w", failed)
	}
	return nil
}

func (s *Store) askSentinel(ctx context.Context, sentinel *goredis.SentinelClient, process string) error {
	known, err := sentinel.Replicas(ctx, s.conf.Master).Result()
	if err != nil {
		return err
	}
	for _, replica := range known {
		if livesFor(replica) {
			return errElsewhere
		}
	}
	master, err := sentinel.Master(ctx, s.conf.Master).Result()
	if err == nil && (process == "" || master["runid"] != process) {
		return errElsewhere
	}
	return err
}

// livesFor reports whether a Sentinel takes a replica for alive. One that it has never
// heard of and cannot reach does not count: so it knows the dead master of before.
func livesFor(replica map[string]string) bool {
	flags := replica["flags"]
	if strings.Contains(flags, "s_down") || strings.Contains(flags, "o_down") {
		return false
	}
	return !strings.Contains(flags, "disconnected") || replica["info-refresh"] != "0"
}

// livingReplica reports whether a Cluster's map (CLUSTER NODES) has a replica of the
// server that was asked, and does not say that it failed.
func livingReplica(nodes string) bool {
	self := ""
	for line := range strings.Lines(nodes) {
		if f := strings.Fields(line); len(f) > 3 && strings.Contains(f[2], "myself") {
			self = f[0]
		}
	}
	for line := range strings.Lines(nodes) {
		f := strings.Fields(line)
		if len(f) > 3 && f[3] == self && strings.Contains(f[2], "slave") && !strings.Contains(f[2], "fail") {
			return true
		}
	}
	return false
}
