// Package redis is the store that several nodes share: Redis 7 or newer, as one server,
// under Sentinels, or as a Cluster.
//
// Open connects, looks whether the server is fit and says what to do when it is not;
// Close lets go. Check, which asks nobody, is for the moment when a configuration is
// loaded. The Store keeps the contract of package store and adds these promises:
//
//   - Sealed. Redis gets no key and no value as it is: names are hashes, values and the
//     entries of the feed are sealed (Config.Unseal) under labels that bind them to their
//     name, and the expiry is sealed with them. A dump holds no id, no token and no name,
//     and nobody who can write to Redis can make a value, change one, move one to another
//     name or let one live longer.
//   - Expiry is judged by Config.Now, as in every store. What Redis removes by its own
//     clock is an hour older at least: that is clean-up only.
//   - One command a change. Take is GETDEL; CompareAndSwap is a script that swaps exactly
//     the bytes that were read. What may have happened is never repeated.
//   - Acknowledged means acknowledged by a replica as well, when one is attached (WAIT).
//     With none attached a change is taken only when most of the Sentinels, or the
//     Cluster's map, know of none that lives: in a failover, and on the wrong side of a
//     cut network, an old master takes writes that it will throw away.
//   - Bounded. A call ends with its context or after two and a half seconds.
//   - TLS and an ACL user of our own (Rights) for a server on another machine, or an
//     explicit Config.Insecure. Each server that Sentinels or a Cluster name is held to it too.
//
// What it trusts: that Redis writes through (appendonly yes; appendfsync always keeps
// even what a power cut would take, everysec loses a second) and evicts nothing
// (maxmemory-policy noeviction). Open warns of what it can see.
//
// What is left: Redis' administrator cannot read, forge or exchange values, but can
// delete them, and set them back to what they once were. A feed that was set back is
// noticed by a cursor whose entry is gone before its time, or that is newer than all
// there is; the follower then gets store.ErrNotFound, and package session has every node
// say again what it knows. Who knows a key can look whether it is there: hashes of ids
// that are no secrets (a user's name) can be guessed.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

// Store is a connection to Redis. It is a store.Store and a store.Clock; the zero value
// is not usable.
type Store struct {
	conf   Config
	prefix string
	now    func() time.Time
	log    *slog.Logger
	client goredis.UniversalClient
	sealer Sealer
	times  times

	replicas replicas
	changing chan struct{} // holds one for each change that has a connection

	appended atomic.Uint64 // entries since Open, for the sweep
	sweeping atomic.Bool
	swept    position // where the next sweep goes on; owned by whoever set sweeping

	mu      sync.Mutex     // guards closed, and under against a Close that already waits
	closed  bool           //
	under   sync.WaitGroup // calls under way
	waiting sync.WaitGroup // reads of Wait under way, which end with the client
	closing chan struct{}
}

var (
	_ store.Store = (*Store)(nil)
	_ store.Clock = (*Store)(nil)
)

// The library prints to standard error by default. What happens to a call is in its
// error, and no line of ours stands in anybody's log without a Logger.
var silence = sync.OnceFunc(func() { goredis.SetLogger(nowhere{}) })

type nowhere struct{}

func (nowhere) Printf(context.Context, string, ...any) {}

// Open connects and looks whether the server is fit: Redis 7.0 or newer, a master, with
// the rights that we need, and with values that our master key opens. The error names
// the server and what to do, and holds no secret.
func Open(ctx context.Context, cfg Config) (*Store, error) { return openWithin(ctx, cfg, usual) }

func openWithin(ctx context.Context, cfg Config, t times) (*Store, error) {
	if cfg.Sealer == nil && cfg.Unseal == nil {
		return nil, errors.New("opening redis: no sealer given")
	}
	s, err := connect(ctx, cfg, t)
	if err == nil {
		if err = s.begun(ctx); err != nil {
			_ = s.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", cfg.name(), err)
	}
	return s, nil
}

// begun makes the sealer and looks whether it is the other nodes' one.
func (s *Store) begun(ctx context.Context) error {
	if s.conf.Unseal != nil {
		sealer, err := s.conf.Unseal(ctx, &Plain{s})
		if err != nil {
			return err
		}
		s.sealer = sealer
	}
	ctx, cancel := context.WithTimeout(ctx, 4*s.times.call)
	defer cancel()
	return s.probe(ctx)
}

// Look connects as Open does and looks whether the server is fit, and reads its clock. It
// needs no sealer, reads nothing that lies there and leaves nothing.
func Look(ctx context.Context, cfg Config) (clock time.Time, err error) {
	s, err := connect(ctx, cfg, usual)
	if err == nil {
		defer s.Close()
		clock, err = s.Time(ctx)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("looking at %s: %w", cfg.name(), err)
	}
	return clock, nil
}

// connect makes the Store and inspects the server.
func connect(ctx context.Context, cfg Config, t times) (*Store, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	silence()
	s := &Store{conf: cfg, prefix: cfg.prefix(), now: cfg.Now, log: cfg.Logger, sealer: cfg.Sealer, times: t, closing: make(chan struct{}), changing: make(chan struct{}, changes)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.client = cfg.client(t)
	s.replicas.sentinels = cfg.sentinels(t)
	if err := s.inspect(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// begin counts a call that is under way; it says no after Close.
func (s *Store) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.under.Add(1)
	return true
}

// Close waits for the calls that are under way and closes the connections.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	s.under.Wait()
	err := s.client.Close()
	for _, sentinel := range s.replicas.sentinels {
		err = errors.Join(err, sentinel.Close())
	}
	s.waiting.Wait()
	if err != nil {
		return fmt.Errorf("closing %s: %s", s.conf.name(), s.conf.clean(err))
	}
	return nil
}
