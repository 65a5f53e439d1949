// Package rekey rotates keys and ends compromised ones as operations that survive the death of every process: at 3 a.m. one
// person says what has happened, and the rest follows.
//
// Make an Operator with New and keep Follow running on every node. Begin starts an operation, of which there is one at a time
// for all nodes; Current tells how far it is; Report is what is left of it. Plan says what would be done, and does nothing.
//
// What it promises:
//
//   - An operation that was begun is finished, whoever is killed meanwhile. It is journaled in the store: which step, and up to
//     where. Each step may be repeated. A node that finds no sign of life of the one at work for 30 s takes over.
//   - A compromised data key seals nothing from the first step on. It is destroyed only after every value that it had sealed was
//     sealed anew, and after a second reading of the whole store found none left. A value under that key of which nobody knows
//     how to open it stops the operation before that, and the operator is told its name.
//   - Nothing is lost: a value is replaced by compare-and-set, with its expiry, so that what others write meanwhile stays.
//   - At the end stands one report, in the store, with its SHA-256 in the audit log: ids, counts, times.
//
// What it trusts: the store's promises, and who can write to it (the journal is not sealed). What it leaves to the caller: to ask
// who may begin an operation, and to tell in LabelOf how each package seals what it stores. A value whose key is on a backup
// opens with a copy of the old key for ever: no program can change that.
package rekey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anteroom-proxy/anteroom/audit"
	"github.com/anteroom-proxy/anteroom/store"
)

var (
	// ErrBusy says that another operation is under way.
	ErrBusy = errors.New("another operation is under way")
	// ErrTarget says that a name stands for no key, or for several.
	ErrTarget = errors.New("no such key")
	// ErrRefused says that this cannot be done here; the text says what to do instead.
	ErrRefused = errors.New("it cannot be done here")
)

// Store is what is needed of store.Store.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte, expires time.Time) error
	CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error
	Scan(ctx context.Context, prefix, cursor string, limit int) (items []store.Item, next string, err error)
	Rewrite(ctx context.Context, key string, old, new []byte) error
}

// Sealed is a store that seals by itself what it keeps (store.Sealed).
type Sealed interface {
	Reseal(ctx context.Context, cursor string, stale func(sealed []byte) bool, dry bool) (next string, seen, changed int, err error)
}

// Key is one data key of an envelope.
type Key struct {
	ID      string    `json:"id"`
	State   string    `json:"state"` // primary, open, condemned or destroyed
	Created time.Time `json:"created,omitzero"`
	Changed time.Time `json:"changed,omitzero"`
	Master  string    `json:"master"`
	Wrapped time.Time `json:"wrapped,omitzero"`
}

// The states of a data key.
const (
	Primary   = "primary"
	Open      = "open"
	Condemned = "condemned"
	Destroyed = "destroyed"
)

// DataKeys is one envelope: its ring of data keys.
type DataKeys interface {
	Keys() []Key
	Rotate(ctx context.Context) (Key, error)
	Condemn(ctx context.Context, id string) (Key, error)
	Destroy(ctx context.Context, id string) error
	Migrate(ctx context.Context) (int, error)
	Reseal(ctx context.Context, label string, sealed []byte) (out []byte, changed bool, err error)
	Lag() time.Duration
}

// Sessions is what is needed of session.Manager.
type Sessions interface {
	SigningKeys() []string
	Made() []string                                // those of them that this process made
	KillKey(ctx context.Context, kid string) error // nil also when there is no such key any more
	EndAll(ctx context.Context) error
}

// Ring is one ring of peppers.
type Ring interface {
	Name() string
	// Knows says whether id is one of its peppers, or a key that opens it; over says that it was compromised before.
	Knows(id string) (known, over bool)
	Compromise(ctx context.Context, id string) (primary string, err error)
	Rotate(ctx context.Context) (primary string, err error)
}

// Client is a client of an identity provider, which proves itself with keys that are kept here.
type Client interface {
	Name() string
	// KeyNames are the keys that sign now.
	KeyNames(ctx context.Context) ([]string, error)
	// ReplaceKeys makes new ones in the place of those of these names. It may be repeated.
	ReplaceKeys(ctx context.Context, names []string) error
}

// Master is the local master key, where it is ours to replace.
type Master interface {
	ID() string
	// Prepare makes the next master key, durably, when there is none yet, and has all envelopes wrap under it.
	Prepare(ctx context.Context) (id string, err error)
	// Finish puts the next one in the place of former, the present one. It may be repeated.
	Finish(ctx context.Context, former string, remove bool) (detail string, err error)
}

// Config says what an Operator works with. Store, Own, KeyOf, LabelOf and Audit are required.
type Config struct {
	Store    Store
	Sealed   Sealed   // nil: the store seals nothing by itself
	Own      DataKeys // seals what is ours
	Apps     DataKeys // seals for applications; nil: there is none
	KeyOf    func(sealed []byte) (id string, ok bool)
	LabelOf  func(key string) (label string, ok bool)
	Never    func(err error) bool // a store that is Lenient says with this error that a value opens with no key
	First    []string             // store keys without which nothing starts
	Sessions func() Sessions
	Rings    func() []Ring
	Clients  func() []Client
	Master   Master // nil: it cannot be replaced here, and NoMaster says what to do
	NoMaster string
	PutAway  func(remove bool) (detail string, err error) // at the end of a migration: the key file that it has left; nil: there is none
	Audit    audit.Recorder
	Place    string   // which store it is, for reports; "": the only one
	Exposed  []string // what an operator has to know when a data key of this store leaked
	Alone    bool     // nobody but this process uses the store: what another one began is ours at once
	Node     string   // of this process; Operators of one process share it, and take Turn by turn
	Turn     chan struct{}
	Timing
}

// Timing is the clock; the zero value is the real one.
type Timing struct {
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Logger *slog.Logger
}

// Operator carries operations out. Its methods may be called from any goroutine.
type Operator struct {
	c    Config
	kick chan struct{}
	mine atomic.Pointer[task] // what this Operator works at

	mu    sync.Mutex // guards what follows: when the journal was last seen to change
	heard []byte
	since time.Time
}

const (
	leaseTime = 30 * time.Second // without a sign of life another node takes over
	beatEvery = 10 * time.Second
	lookEvery = 2 * time.Second
	retryWait = 5 * time.Second
)

// New checks the configuration.
func New(c Config) (*Operator, error) {
	if c.Store == nil || c.Own == nil || c.KeyOf == nil || c.LabelOf == nil || c.Audit == nil {
		return nil, errors.New("preparing key operations: store, data keys, labels and audit log are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.After == nil {
		c.After = time.After
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Node == "" {
		c.Node = audit.NewRef()
	}
	if c.Turn == nil {
		c.Turn = make(chan struct{}, 1)
	}
	return &Operator{c: c, kick: make(chan struct{}, 1)}, nil
}

// Follow works at operations until ctx ends: at one that was left behind, too.
func (o *Operator) Follow(ctx context.Context) {
	for {
		wait := lookEvery
		select {
		case o.c.Turn <- struct{}{}:
			again := o.look(ctx)
			<-o.c.Turn
			if again {
				wait = retryWait
			}
		case <-ctx.Done():
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-o.kick:
		case <-o.c.After(wait):
		}
	}
}

// look works at the operation of the journal if it is ours. It says whether it failed and is to be tried again.
func (o *Operator) look(ctx context.Context) (again bool) {
	op, raw, err := o.load(ctx)
	if err != nil || op == nil {
		if err != nil && ctx.Err() == nil {
			o.c.Logger.Debug("the journal of key operations cannot be read", "error", err)
		}
		return err != nil
	}
	if op.State != StateRunning || !o.ours(op, raw) {
		return false
	}
	if err := o.able(ctx, op.Verb, op.Target); err != nil {
		o.c.Logger.Debug("an operation on keys is left to another node", "operation", op.ID, "error", err)
		return false
	}
	err = o.work(ctx, op, raw)
	if err != nil && ctx.Err() == nil {
		o.c.Logger.Warn("an operation on keys does not come on; it is tried again", "operation", op.ID, "error", err)
	}
	return err != nil
}

// ours says whether this Operator is to work at it: it did before, or whoever did has died. Clocks of other machines are not
// asked: the journal must have stood still for the time of a lease while this node looked at it.
func (o *Operator) ours(op *Operation, raw []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.c.Now()
	if string(raw) != string(o.heard) {
		o.heard, o.since = raw, now
	}
	return op.Owner == "" || op.Owner == o.c.Node || o.c.Alone || now.Sub(o.since) >= leaseTime
}

// able refuses what ends sessions where this Operator has none but the store has: signing keys that were exposed would live on.
func (o *Operator) able(ctx context.Context, verb Verb, target string) error {
	if verb == CompromisedClient && o.client(target) == nil {
		return fmt.Errorf("%w: no identity provider here is called %.80q and has keys that are kept here; `anteroom keys status` lists them", ErrTarget, target)
	}
	if o.c.Sessions != nil || verb != CompromisedData && verb != CompromisedMaster {
		return nil
	}
	for _, key := range o.c.First {
		found := true
		_, err := o.c.Store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			found, err = o.readable(ctx, key)
		} else if err != nil {
			found, err = false, nil
		}
		switch {
		case err != nil:
			return fmt.Errorf("looking for signing keys: %w", err)
		case found:
			return fmt.Errorf("%w: other nodes keep their sessions in this place, and only they can replace its signing keys: run the command on one of them", ErrRefused)
		}
	}
	return nil
}

// readable looks for a store key by walking over everything that opens: what opens with no key is no signing key of anybody, and
// whoever put it there must not hold up what ends a key.
func (o *Operator) readable(ctx context.Context, key string) (bool, error) {
	ctx = o.pass(ctx, &Operation{}, new(junk))
	for cursor := ""; ; {
		items, next, err := o.c.Store.Scan(ctx, key, cursor, pageSize)
		if err != nil || len(items) > 0 || next == "" {
			return len(items) > 0, err
		}
		cursor = next
	}
}

// Mend seals anew, before anything else starts, what nothing starts without: after a crash in the middle of an operation it
// may still be sealed by a key that is refused.
func (o *Operator) Mend(ctx context.Context) error {
	op, _, err := o.load(ctx)
	if err != nil || op == nil || op.State == StateDone || len(op.IDs) == 0 {
		return err
	}
	for _, key := range o.c.First {
		if _, err := o.resealKey(ctx, op, key); err != nil {
			return fmt.Errorf("sealing anew what was sealed by a compromised key: %w", err)
		}
	}
	return nil
}
