// Package budget counts how many different values of something a person looked at lately, over all nodes: sixty patients an
// hour is a ward round, six hundred are an export.
//
// Call New, then Count for each request that policy allowed and that a budget line concerns. An error means that nobody can
// say how many there were: refuse.
//
// What it promises:
//
//   - A value counts from when it was seen until Limit.Per after it was seen last, rounded up by at most a sixteenth of Per or
//     a minute, whichever is less. More than Limit.Max different values are never let through within Per, unless the
//     person signed in again after the limit was reached.
//   - It is exact over any number of nodes that share a store: a new value is let through by a compare-and-set or not
//     at all.
//   - Over the limit a new value is not let through; those that count already are.
//   - One call, on one node, is told that the alarm level or the limit was reached, once in Per.
//   - A value that this node recorded lately costs no call of the store; a new one costs a Get and a CompareAndSwap.
//   - Memory and records are bounded. Values are kept as salted hashes in sealed records, never as they are.
//
// It trusts the store as package store says: whoever can delete from it can make a window begin anew. And it trusts the
// clocks of the nodes within seconds.
//
// What is left to the caller: which lines concern a request (policy.Counts), who the account is (a stable name of the person,
// not of the session), what to do over the limit, and telling of it.
package budget

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// MaxLimit is the largest limit; it bounds a record to some 64 KiB.
	MaxLimit = 4096
	// MinPer and MaxPer bound the window.
	MinPer = time.Minute
	MaxPer = 31 * 24 * time.Hour
)

var (
	// ErrUnavailable says that the count is not known; the caller must refuse.
	ErrUnavailable = errors.New("view budget unavailable")
	// ErrInvalid says that a key or a limit is not one; the caller must refuse.
	ErrInvalid = errors.New("not a valid view budget")
)

// Sealer encrypts what this package stores. envelope's Envelope is one.
type Sealer interface {
	Seal(ctx context.Context, label string, plaintext []byte) ([]byte, error)
	Open(ctx context.Context, label string, sealed []byte) ([]byte, error)
}

// Config says what a Budget works with. Store and Sealer are required.
type Config struct {
	Store  store.Store
	Sealer Sealer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets what an operator must know; nil means nowhere.
	Logger *slog.Logger
}

// Key says whose window it is: of which budget line (policy.Count's ID), on which site, of which account.
type Key struct{ ID, Site, Account string }

// Limit is what a budget line says.
type Limit struct {
	Max   int           // different values
	Per   time.Duration // within
	Alarm int           // told when so many are reached; 0: never
}

// Result is the answer to one value.
type Result struct {
	// Admitted says that the value may pass. The zero Result is a refusal.
	Admitted bool
	// Count is how many different values count, as this node heard last.
	Count int
	// Alarm says that this call, and no other on any node, reached the alarm level.
	Alarm bool
	// Exceeded says the same of the first refusal at the limit.
	Exceeded bool
}
