// Package store says what Anteroom needs from a place that keeps state: keys
// with an expiry, a compare-and-set, a take-once, and one ordered feed. The
// packages that keep state (session, portal, hardening …) take a Store; which
// one it is, the embedded file (store/bolt) or a server shared by several nodes,
// is decided where the program is put together. Every implementation passes the
// suite in store/storetest.
//
// What a Store promises:
//
//   - Durable. When Put, CompareAndSwap, Take, Delete or Append returns nil, the
//     change survives a kill -9 of this process and, where the implementation
//     says so, a power cut. A session that was signed out stays signed out.
//   - Atomic and linear. Each call happens as a whole at one moment between its
//     start and its return. Of two CompareAndSwap calls with the same old value
//     one wins; of any number of Take calls for one key exactly one gets the
//     value.
//   - Expiry is honoured at read: from its expiry on a key is absent for every
//     method, whether or not its bytes have been removed yet.
//   - Unknown is not yes. Any error but ErrNotFound, ErrConflict and ErrInvalid
//     matches ErrUnavailable and means that the outcome is not known: a write may
//     or may not have happened. The caller must refuse what it was about to allow,
//     and may repeat Put and Delete; a repeated Take may say ErrNotFound because
//     the first one succeeded without saying so.
//   - Cancellation. A context that is done before the call starts changes nothing.
//     A context that ends while a write is under way leaves the outcome unknown
//     (ErrUnavailable, and errors.Is finds the context's error too).
//   - Concurrency. All methods may be called from any goroutine. Slices handed in
//     are not kept, slices handed out belong to the caller.
//
// What is left to the caller: sealing (values are stored as they come; whoever
// reads the file or the server reads them), key names (a constant prefix with a
// version, see each package's labels.go; text from a stranger goes into a key
// hashed, never as it is), and restoring backups: a store that is set back to an
// older state knows nothing of what was revoked since.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits of what a store takes. They are checked by every implementation through
// CheckKey and CheckValue, so that a value that fits one fits all.
const (
	// MaxKey is the length of the longest key, in bytes. Keys are prefixes of ours
	// and hashes; a kilobyte is generous and keeps an index page from holding only
	// one of them.
	MaxKey = 1 << 10
	// MaxValue is the length of the longest value, in bytes. The largest thing that
	// is stored is a sealed key ring of a few kilobytes; the cap stops a bug or a
	// hostile provider from filling the disk with one call.
	MaxValue = 1 << 20
	// MaxEntries is the most feed entries that one After returns.
	MaxEntries = 1000
	// MaxPage is the most items that one Scan aims at, and MaxPageBytes the sum of their
	// values from which on it ends a page early.
	MaxPage      = 1000
	MaxPageBytes = 4 << 20
)

var (
	// ErrNotFound says that the key is absent or expired. After returns it for a
	// cursor that this feed has not handed out.
	ErrNotFound = errors.New("key not found in the store")
	// ErrConflict says that CompareAndSwap found another value than the old one.
	ErrConflict = errors.New("value in the store is another one")
	// ErrUnavailable says that the store did not answer or could not write: the
	// outcome is unknown and the caller must fail closed.
	ErrUnavailable = errors.New("store unavailable")
	// ErrInvalid says that a key, a value or a cursor is not one a store takes:
	// an empty or too long key, a value above MaxValue. Nothing was changed.
	ErrInvalid = errors.New("not a valid store argument")
)

// Item is one key with its value, as List returns it.
type Item struct {
	Key   string
	Value []byte
}

// Entry is one entry of the feed. Cursor is opaque and is handed back to After.
type Entry struct {
	Cursor string
	Value  []byte
}

// Store keeps values by key. Keys are 1 to MaxKey arbitrary bytes, NUL and
// slashes included; they mean nothing to the store and sort by their bytes.
// Values are 0 to MaxValue bytes.
//
// expires is the moment from which on the key is absent; the zero time means
// never, a moment that is already past stores nothing that can be read.
type Store interface {
	// Get returns a copy of the value, or ErrNotFound.
	Get(ctx context.Context, key string) ([]byte, error)

	// Put stores the value, whatever was there before.
	Put(ctx context.Context, key string, value []byte, expires time.Time) error

	// CompareAndSwap stores new when the present value equals old. A nil old means
	// that the key must be absent (an empty old that is not nil means an empty value).
	// Otherwise ErrConflict, and nothing changes. A nil new stores an empty value.
	CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error

	// Take returns the value and deletes the key in one step, or says ErrNotFound.
	// It is what makes a sign-in attempt or a one-time code work once: whatever
	// number of callers ask at the same moment, one gets the value.
	Take(ctx context.Context, key string) ([]byte, error)

	// Delete removes the key. An absent key is no error.
	Delete(ctx context.Context, key string) error

	// List returns all live keys that begin with prefix, sorted by key; "" lists
	// everything. It reads all of them into memory: for prefixes that hold few.
	List(ctx context.Context, prefix string) ([]Item, error)

	// Scan returns some of the live keys that begin with prefix, in no order, and where to
	// go on: "" begins, next is handed back with the same prefix, and a next of "" is the
	// end. limit is what a page aims at; below 1 or above MaxPage means MaxPage. A page may
	// hold a few more than that, fewer, or none although others follow: only next says.
	// Memory is bounded by the page, however many keys there are.
	//
	// A key that is alive from the first call to the last is never missed, whatever is
	// written, restarted or failed over meanwhile; it may come twice, with the values of
	// two moments. One that is made or ends on the way may come or not. What is not a
	// cursor at all is ErrInvalid. Cursors hold no secret and may be kept: a walk goes on
	// with one after a crash of this process.
	Scan(ctx context.Context, prefix, cursor string, limit int) (items []Item, next string, err error)

	// Rewrite stores new when the present value equals old, and keeps the expiry exactly:
	// it is for a value that is sealed anew. ErrNotFound when the key is absent or expired,
	// ErrConflict when the value is another one; nothing changes then. A nil old means an
	// empty value, because an absent key has no expiry to keep.
	Rewrite(ctx context.Context, key string, old, new []byte) error

	Feed

	// Close waits for writes under way and releases the store. Later calls return
	// ErrUnavailable; a second Close is no error.
	Close() error
}

// Feed is one ordered list that all nodes append to and all nodes follow, such as
// the list of revocations. An entry stays until its expiry and is not returned
// after it. Order is the same for every reader, and a reader that has seen an entry
// will never be shown a new one in front of it: asking again with the last cursor
// misses nothing that has not expired.
type Feed interface {
	// Append adds an entry at the end and returns its cursor once it is durable.
	Append(ctx context.Context, value []byte, expires time.Time) (cursor string, err error)

	// After returns at most limit live entries that follow cursor, oldest first;
	// "" reads from the beginning. A limit below 1 or above MaxEntries means
	// MaxEntries. Fewer entries than the limit: the end is reached. A cursor whose
	// entry is gone before its expiry, or that this feed cannot have handed out (the
	// store was replaced, set back, or failed over to a replica that lacks it) is
	// ErrNotFound, and the follower must read from the beginning; what is not a
	// cursor at all is ErrInvalid.
	After(ctx context.Context, cursor string, limit int) ([]Entry, error)

	// Wait returns nil as soon as the feed may hold a live entry after cursor, at once
	// when it holds one already; otherwise it returns when ctx ends (ctx's error, not
	// ErrUnavailable) or when the store fails (ErrUnavailable). It may return early, and
	// for a cursor that After would refuse with ErrNotFound it may return at any time:
	// it is a hint to call After, never a promise. A follower gives it a second or so
	// and asks After whatever Wait said.
	Wait(ctx context.Context, cursor string) error
}

// Sealed is a Store that seals by itself what it is given, with a sealer of its own: the
// values that it returns are plain, or sealed by the caller besides. The embedded store
// seals nothing.
type Sealed interface {
	// Reseal looks at some of what the store has sealed, and seals anew what stale says is
	// under a key that should not be used any more; "" begins, next is handed back, and a
	// next of "" is the end. It reports how much was looked at and how much was sealed anew;
	// with dry nothing is changed, and changed is what would have been. Nothing is lost by
	// it: not a value that others write meanwhile, not an entry of the feed; cursors of
	// the feed stay good. It may be repeated, and goes on with a cursor after a crash.
	Reseal(ctx context.Context, cursor string, stale func(sealed []byte) bool, dry bool) (next string, seen, changed int, err error)
}

// Clock is a Store that has a clock of its own, which all nodes share. A node whose
// own clock differs much from it judges expiry wrongly and must let nobody in. The
// embedded store has none: it lives on the one machine whose clock it would compare.
type Clock interface {
	// Time is the store's present, or an error that matches ErrUnavailable.
	Time(ctx context.Context) (time.Time, error)
}

// CheckKey reports whether a store takes the key; the error matches ErrInvalid
// and does not contain the key, which may be derived from a secret.
func CheckKey(key string) error {
	if len(key) == 0 {
		return fmt.Errorf("checking key: %w: key is empty", ErrInvalid)
	}
	if len(key) > MaxKey {
		return fmt.Errorf("checking key: %w: key has %d bytes, at most %d are taken", ErrInvalid, len(key), MaxKey)
	}
	return nil
}

// CheckValue reports whether a store takes the value; the error matches ErrInvalid.
func CheckValue(value []byte) error {
	if len(value) > MaxValue {
		return fmt.Errorf("checking value: %w: value has %d bytes, at most %d are taken", ErrInvalid, len(value), MaxValue)
	}
	return nil
}
