// Package envelope seals what Anteroom and local applications store.
package envelope

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// Config says what an Envelope works with. Name, Master and Store are required.
type Config struct {
	Name   string   // of the ring: "own" is what Anteroom itself seals, "apps" what applications have sealed
	Master Master   // wraps new data keys
	Former []Master // open what they wrapped until Migrate
	Store  KeyStore // holds the ring

	CacheAge    time.Duration // how long a data key of a remote master is used without asking it again; default 15 minutes
	CacheUses   int64         // and how many times; default 1,000,000
	RotateAfter time.Duration // age of a primary at which Follow makes the next; default 90 days, negative: never

	OpenCondemned bool // Open goes on opening what is sealed under a condemned key, until it is destroyed

	Now    func() time.Time
	Logger *slog.Logger
}

// States of a data key, as KeyInfo names them.
const (
	StatePrimary   = "primary"   // seals and opens; there is exactly one
	StateOpen      = "open"      // opens what it sealed while it was the primary
	StateCondemned = "condemned" // reported as compromised: never seals again, only Reseal opens
	StateDestroyed = "destroyed" // its bytes are gone; the id is never used again
)

// KeyInfo says about a data key what everybody may know.
type KeyInfo struct {
	ID      string    `json:"id"`
	State   string    `json:"state"`
	Created time.Time `json:"created"`
	Changed time.Time `json:"changed"` // when it came to this state
	Master  string    `json:"master"`  // ID of the master that wraps it; "" when destroyed
	Wrapped time.Time `json:"wrapped"` // when it was last wrapped
}

// Envelope seals and opens under the data keys of one ring. It is made by New; the zero
// value seals nothing and opens nothing. Its methods may be called from any goroutine.
type Envelope struct {
	core func() *core
}

type core struct{ cfg Config }

// New checks the configuration. It asks neither store nor master: Start does.
func New(cfg Config) (*Envelope, error) {
	c := &core{cfg: cfg}
	return &Envelope{core: func() *core { return c }}, nil
}

// Start makes an Envelope and starts it.
func Start(ctx context.Context, cfg Config) (*Envelope, error) {
	e, err := New(cfg)
	if err == nil {
		err = e.Start(ctx)
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

var errSkeleton = fmt.Errorf("%w: not there yet", ErrUnavailable)

func (e *Envelope) Start(ctx context.Context) error { return errSkeleton }
func (e *Envelope) Follow(ctx context.Context)      { <-ctx.Done() }
func (e *Envelope) Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error) {
	return nil, errSkeleton
}
func (e *Envelope) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	return nil, errSkeleton
}
func (e *Envelope) Reseal(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error) {
	return nil, false, errSkeleton
}
func (e *Envelope) Keys() []KeyInfo                             { return nil }
func (e *Envelope) Rotate(ctx context.Context) (KeyInfo, error) { return KeyInfo{}, errSkeleton }
func (e *Envelope) Condemn(ctx context.Context, id string) (KeyInfo, error) {
	return KeyInfo{}, errSkeleton
}
func (e *Envelope) Destroy(ctx context.Context, id string) error     { return errSkeleton }
func (e *Envelope) Migrate(ctx context.Context) (n int, err error)   { return 0, errSkeleton }
func (e *Envelope) RewrapAll(ctx context.Context) (n int, err error) { return 0, errSkeleton }
func (e *Envelope) Lag() time.Duration                               { return 15 * time.Second }
