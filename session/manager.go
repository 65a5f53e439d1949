package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	pollEvery   = time.Second
	pollTimeout = 5 * time.Second  // for one answer of the store
	staleAfter  = 30 * time.Second // without a good answer everybody is refused
	feedBatch   = 512
)

var neverExpires time.Time

// Manager keeps the signing keys, the verified-token cache, the revocations and
// the watchers of one store. Its methods may be called from many goroutines.
type Manager struct {
	store    store.Store
	sealer   Sealer
	lifetime Lifetimes
	longest  time.Duration // the longest absolute lifetime
	regrant  func(context.Context, *Session) (Grant, error)
	now      func() time.Time
	log      *slog.Logger

	ring    atomic.Pointer[ring]
	keys    keychain
	heard   atomic.Pointer[time.Time] // begin of the last good poll
	running atomic.Bool
	cache   cache
	live    registry

	mu      sync.Mutex // guards Start and Close
	closed  bool
	life    context.Context // ends with Close
	end     context.CancelFunc
	loops   sync.WaitGroup
	follows follower
}

// follower is where reading the feed has got to.
type follower struct {
	mu      sync.Mutex
	cursor  string
	failing bool
}

// Start loads or makes the signing keys and reads the whole revocation feed; only
// then do sessions exist. It then follows both every second until Close. It may
// be called again after an error. ctx bounds the loading only.
func (m *Manager) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("starting sessions: %w", ErrClosed)
	}
	if m.running.Load() {
		return errors.New("starting sessions: started already")
	}
	m.follows.mu.Lock()
	err := m.poll(ctx)
	m.follows.mu.Unlock()
	if err != nil {
		return fmt.Errorf("starting sessions: %w", err)
	}
	m.running.Store(true)
	m.loops.Go(func() { m.every(m.follow) })
	m.loops.Go(func() { m.every(m.sweep) })
	return nil
}

// Close stops following the store. As nobody would hear of revocations any more,
// every watcher is cut and Find answers ErrClosed. It waits for its goroutines.
func (m *Manager) Close() {
	m.mu.Lock()
	if !m.closed {
		m.closed = true
		m.running.Store(false)
		m.end()
	}
	m.mu.Unlock()
	m.loops.Wait()
	m.fire(m.live.cutAll(), ErrClosed)
}

// every calls f each second until Close.
func (m *Manager) every(f func()) {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		select {
		case <-m.life.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// follow polls once. A failure is logged when it begins and when it ends.
func (m *Manager) follow() {
	m.follows.mu.Lock()
	defer m.follows.mu.Unlock()
	ctx, cancel := context.WithTimeout(m.life, pollTimeout)
	defer cancel()
	err := m.poll(ctx)
	switch {
	case err != nil && !m.follows.failing && m.running.Load():
		m.log.Error("cannot follow revocations; sessions are refused after 30 s of this", "error", err)
	case err == nil && m.follows.failing:
		m.log.Info("following revocations again")
	}
	m.follows.failing = err != nil
}

// poll reads what is new in the feed and whether the keys have changed. Only when
// both succeeded does the store count as heard, from the time before the asking.
// The follower is locked.
func (m *Manager) poll(ctx context.Context) error {
	began := m.now()
	for {
		entries, err := m.store.After(ctx, m.follows.cursor, feedBatch)
		if errors.Is(err, store.ErrNotFound) && m.follows.cursor != "" {
			// The store was replaced or set back: going on from here would
			// skip what it holds. What we know already stays revoked.
			m.log.Warn("the revocation feed began anew; reading all of it")
			m.follows.cursor = ""
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the revocation feed: %w", err)
		}
		for _, e := range entries {
			if err := m.obey(e.Value); err != nil {
				return err
			}
			m.follows.cursor = e.Cursor
		}
		if len(entries) < feedBatch {
			break
		}
	}
	if err := m.loadKeys(ctx); err != nil {
		return err
	}
	m.heard.Store(&began)
	return nil
}

// stale says whether the store was silent for too long.
func (m *Manager) stale(now time.Time) bool {
	heard := m.heard.Load()
	return heard == nil || now.Sub(*heard) > staleAfter
}
