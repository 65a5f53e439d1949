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

const sweepEvery = time.Second / 2

var neverExpires time.Time

// Manager keeps the signing keys, the verified-token cache, the revocations and
// the watchers of one store. Its methods may be called from many goroutines.
type Manager struct {
	settings
	ring  atomic.Pointer[ring]
	keys  keychain
	cache cache
	live  registry
	own   own
	lifecycle
	follows follower
	flights flights
	queue   queue
	asks    asks
	left    leftovers
	arrears arrears
}

// settings are what [Config] said.
type settings struct {
	store    store.Store
	sealer   Sealer
	lifetime Lifetimes
	longest  time.Duration // the longest absolute lifetime
	mark     Mark
	regrant  func(context.Context, *Session, Kept) (Verdict, error)
	journal  Journal
	now      func() time.Time
	log      *slog.Logger
}

// lifecycle is whether the manager runs and whether it may let anybody in.
type lifecycle struct {
	heard   atomic.Pointer[time.Time] // begin of the last good poll
	skew    atomic.Int64              // the store's clock less ours
	running atomic.Bool
	mu      sync.Mutex // guards Start and Close
	closed  bool
	life    context.Context // ends with Close
	stop    context.CancelFunc
	loops   sync.WaitGroup
}

// Start loads or makes the signing keys and reads the whole revocation feed; only
// then do sessions exist. It then follows both until Close. When [Config.Mark] shows
// that the store was set back, all sessions that began until now end. It may be
// called again after an error. ctx bounds the loading only.
func (m *Manager) Start(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("starting sessions: %w", ErrClosed)
	}
	if m.running.Load() {
		return errors.New("starting sessions: started already")
	}
	if err := m.catchUp(ctx); err != nil {
		return fmt.Errorf("starting sessions: %w", err)
	}
	m.running.Store(true)
	m.loops.Go(m.listen)
	m.loops.Go(m.sweeps)
	return nil
}

func (m *Manager) catchUp(ctx context.Context) error {
	m.follows.mu.Lock()
	defer m.follows.mu.Unlock()
	if err := m.loadJournal(); err != nil {
		return err
	}
	setBack, err := m.checkMark(ctx)
	if err != nil {
		return err
	}
	if err := m.poll(ctx); err != nil {
		return err
	}
	if setBack {
		if err := m.endEverything(ctx); err != nil {
			return err
		}
	}
	m.saveMark(true)
	m.settleArrears(ctx)
	return nil
}

// Close stops following the store. As nobody would hear of revocations any more,
// every watcher is cut and Find answers ErrClosed. It waits for its goroutines.
func (m *Manager) Close() {
	m.mu.Lock()
	first := !m.closed
	if first {
		m.closed = true
		m.running.Store(false)
		m.flights.close()
		m.stop()
	}
	m.mu.Unlock()
	m.loops.Wait()
	m.fire(m.live.cutAll(), ErrClosed)
	if first {
		m.follows.mu.Lock()
		defer m.follows.mu.Unlock()
		m.saveMark(true)
	}
}

// sweeps cuts what has ended, until Close.
func (m *Manager) sweeps() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-m.life.Done():
			return
		case <-ticker.C:
			m.sweep()
			m.live.over.sweep(i, m.now())
		}
	}
}

// stale says whether the store was silent for too long, or the clock is wrong.
func (m *Manager) stale(now time.Time) bool {
	return m.heard.Load() == nil || m.silence(now) > staleAfter || m.skewed()
}

// silence is the time since the store was last heard.
func (m *Manager) silence(now time.Time) time.Duration {
	heard := m.heard.Load()
	if heard == nil {
		return 0
	}
	return since(now, *heard)
}

// since is the time between two readings of our clock, by its monotonic part or by the wall, whichever is more: the first
// stands still while a machine is suspended, the second may be set back.
func since(now, then time.Time) time.Duration {
	return max(0, now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// available is nil when the manager runs and knows the revocations.
func (m *Manager) available() error {
	switch {
	case !m.running.Load():
		return ErrClosed
	case m.stale(m.now()):
		return ErrStale
	}
	return nil
}
