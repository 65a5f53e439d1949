package envelope

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	pollEvery  = 2 * time.Second
	lookTime   = 5 * time.Second  // how long the store may take
	masterTime = 10 * time.Second // how long the master may take
)

var (
	errNotStarted = fmt.Errorf("%w: its key ring has not been read yet", ErrUnavailable)
	errNoRing     = fmt.Errorf("%w: the store has no key ring of this name", ErrUnavailable)
)

// core is what stands behind an Envelope.
type core struct {
	cfg     Config
	masters map[string]Master // Master and Former, by ID
	found   map[string]bool   // which of them are Found
	known   sync.Map          // those of found that may vouch
	locals  map[string]*Local // those that values of version 1 open under, by their KeyOf

	view     atomic.Pointer[view] // what is known of the ring; nil before Start
	turn     chan struct{}        // held by the one who looks
	looks    atomic.Uint64        // looks that were begun
	latest   lookResult           // of the last look; only who holds turn reads and writes it
	marked   string               // what was last saved in Mark; likewise
	refusals refusals
	change   chan struct{} // held by the one who changes the ring

	mu     sync.Mutex // guards the fields below
	keys   map[string]*dataKey
	failed map[string]failure
	turns  map[string]chan struct{} // of each key: held by the one who asks the master for it
}

// view is the ring as it was in the store at some time after looked. It is not changed.
type view struct {
	ring   *ring
	record []byte
	looked time.Time
}

type lookResult struct {
	number uint64
	err    error
}

func newCore(cfg Config) (*core, error) {
	switch {
	case !ringNames.MatchString(cfg.Name):
		return nil, errors.New("its name is lower case letters, digits and dashes, at most 32")
	case cfg.Master == nil || cfg.Store == nil:
		return nil, errors.New("it needs a master and a store")
	}
	if cfg.CacheAge <= 0 {
		cfg.CacheAge = 15 * time.Minute
	}
	if cfg.CacheUses <= 0 {
		cfg.CacheUses = 1_000_000
	}
	if cfg.RotateAfter == 0 {
		cfg.RotateAfter = 90 * 24 * time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Cache == nil {
		cfg.Cache = new(CacheCounts)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &core{
		cfg: cfg, masters: map[string]Master{}, found: map[string]bool{}, locals: map[string]*Local{}, turn: make(chan struct{}, 1), change: make(chan struct{}, 1),
		keys: map[string]*dataKey{}, failed: map[string]failure{}, turns: map[string]chan struct{}{},
	}
	for _, m := range cfg.Former {
		if m == nil {
			return nil, errors.New("a former master is nil")
		}
		id := m.ID()
		if f, ok := m.(Found); ok {
			if _, named := c.masters[id]; named {
				continue
			}
			c.found[id], m = true, f.Master
		} else {
			delete(c.found, id)
		}
		c.masters[id] = m
	}
	c.masters[cfg.Master.ID()] = cfg.Master
	delete(c.found, cfg.Master.ID())
	for _, m := range c.masters {
		if l, ok := m.(*Local); ok && cfg.Name == ringOwn {
			c.locals[prefixV1+hex.EncodeToString(l.id[:])] = l
		}
	}
	return c, nil
}

func (c *core) storeKey() string { return storeKeyRing + "/" + c.cfg.Name }

// fresh returns what is known of the ring, looking first when that is old.
func (c *core) fresh(ctx context.Context) (*view, error) {
	v := c.view.Load()
	if v == nil {
		return nil, errNotStarted
	}
	if !older(v.looked, c.cfg.Now(), freshFor) {
		return v, nil
	}
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	return c.view.Load(), nil
}

// look reads the ring from the store and takes it over. Callers that come while one looks
// share the next look: what they get was read after they asked.
func (c *core) look(ctx context.Context) error {
	asked := c.looks.Load()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: waiting for the key ring: %w", ErrUnavailable, ctx.Err())
	}
	if c.latest.number > asked {
		return c.latest.err
	}
	// Others wait for this look: one caller who gives up does not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime+masterTime)
	defer cancel()
	number := c.looks.Add(1)
	c.latest = lookResult{number, c.lookNow(ctx)}
	return c.latest.err
}

func (c *core) lookNow(ctx context.Context) error {
	looked, known := c.cfg.Now(), c.view.Load()
	if known == nil {
		c.learn()
	}
	get, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	record, err := c.cfg.Store.Get(get, c.storeKey())
	switch {
	case errors.Is(err, store.ErrNotFound) && known == nil:
		return errNoRing
	case errors.Is(err, store.ErrNotFound):
		return fmt.Errorf("%w: the key ring %q is gone from the store: restore the store from a backup", ErrRefused, c.cfg.Name)
	case err != nil:
		return fmt.Errorf("%w: reading the key ring %q: %w", ErrUnavailable, c.cfg.Name, err)
	case known != nil && bytes.Equal(record, known.record):
		c.view.Store(&view{known.ring, known.record, looked})
		return nil
	}
	next, err := c.judge(ctx, known, record)
	if err == nil && known == nil {
		err = c.checkMark(next)
	}
	if err != nil {
		c.refuse(ctx, reasonRing, "", err)
		return err
	}
	c.named(next)
	c.view.Store(&view{next, record, looked})
	c.saveMark(next)
	c.forget(next)
	c.cfg.Logger.Info("key ring read", "ring", next.Name, "epoch", next.Epoch, "keys", len(next.Keys), "primary", next.primary().ID, "master", next.provedBy)
	return nil
}

// judge says whether a record from the store may take the place of what is known.
func (c *core) judge(ctx context.Context, known *view, record []byte) (*ring, error) {
	next, p, err := parseRing(c.cfg.Name, record)
	if err != nil {
		return nil, err
	}
	if known != nil {
		if why := known.ring.follows(next); why != "" {
			return nil, fmt.Errorf("%w: the key ring %q in the store is not taken: %s; if you did that on purpose, restart all nodes (the message at the start says what to remove)", ErrRefused, next.Name, why)
		}
		if ours := c.cfg.Master.ID(); known.ring.provedBy == ours && next.provedBy != ours {
			return nil, fmt.Errorf("%w: the key ring %q is proved by the former master %s, after it was by %s", ErrRefused, next.Name, next.provedBy, ours)
		}
	}
	m := c.masters[p.Master]
	if m == nil {
		return nil, fmt.Errorf("%w: the key ring %q is under master %s, and this node has %s: %s", ErrRefused, next.Name, p.Master, c.cfg.Master.ID(), remedy)
	}
	if !c.believes(p.Master) {
		return nil, errFound(next.Name, p.Master)
	}
	body, _, _ := bytes.Cut(record, []byte("\n"))
	ask, cancel := context.WithTimeout(ctx, masterTime)
	defer cancel()
	if err := p.judge(ask, m, next.Name, body); err != nil {
		return nil, err
	}
	return next, nil
}

const remedy = "bring that master back (the key file from a backup, or a `former` line that names it) and run `anteroom keys migrate`"

// Await starts an envelope that New made and that has not been started since, because its
// master or its store was away. Of one that has seen its ring it asks nothing.
func (e *Envelope) Await(ctx context.Context) error {
	if c := e.core(); c != nil && c.view.Load() != nil {
		return nil
	}
	return e.Start(ctx)
}

// Follow keeps the envelope in step with the other nodes and with its master until ctx
// ends: every two seconds it looks for a changed ring, renews data keys that are half way
// to their limits, and makes a new primary when the present one is old. An envelope that
// could not be started it starts as soon as it can, asking at growing intervals.
func (e *Envelope) Follow(ctx context.Context) {
	c := e.core()
	if c == nil {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	said := quiet{log: c.cfg.Logger, ring: c.cfg.Name}
	var rotated time.Time // when that was last tried
	var late lateness
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c = e.core() // Adopt may have replaced it
		c.flushRefused(ctx)
		if c.view.Load() == nil {
			if late.due(c.cfg.Now()) {
				said.tell(e.Await(ctx))
			}
			continue
		}
		err := c.look(ctx)
		if err == nil {
			err = c.renew(ctx)
		}
		if now := c.cfg.Now(); err == nil && c.due(now) && older(rotated, now, time.Minute) {
			rotated = now
			_, err = e.rotate(ctx, true)
		}
		if ctx.Err() == nil {
			said.tell(err)
		}
	}
}

// lateness spaces the tries to start: 2, 4, 8 and then every 16 seconds.
type lateness struct {
	last  time.Time
	pause time.Duration
}

const longestPause = 8 * pollEvery

func (l *lateness) due(now time.Time) bool {
	if l.pause > 0 && !older(l.last, now, l.pause-pollEvery/2) { // ticks are not exact
		return false
	}
	l.last, l.pause = now, min(max(pollEvery, 2*l.pause), longestPause)
	return true
}

// due reports whether the primary is old enough for a new one.
func (c *core) due(now time.Time) bool {
	v := c.view.Load()
	return v != nil && c.cfg.RotateAfter > 0 && now.Sub(v.ring.primary().Created) >= c.cfg.RotateAfter
}

// quiet logs when something begins to fail, each minute while it does, and when it works again.
type quiet struct {
	log   *slog.Logger
	ring  string
	count int // ticks since it was last logged, plus one
}

func (q *quiet) tell(err error) {
	switch {
	case err == nil && q.count > 0:
		q.count = 0
		q.log.Info("key ring followed again", "ring", q.ring)
	case err != nil && q.count%int(time.Minute/pollEvery) == 0:
		q.count++
		q.log.Error("following the key ring: what is in memory goes on opening, sealing stops soon or has not begun", "ring", q.ring, "error", err)
	case err != nil:
		q.count++
	}
}
