package budget

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	// countTries bounds how often a window that others keep changing is tried. On one node they wait for each other; so
	// this is about nodes.
	countTries = 64
	countFor   = 3 * time.Second // others wait for this one
	fullFor    = time.Second     // how long this node believes that there is no room

	maxKnown = 1 << 17 // values in memory, 40 bytes each
	maxFull  = 1 << 12
	maxText  = 1024 // bytes of a value or of a part of a key
)

// Budget counts. It is made by New; a nil or zero one refuses everything. Its methods may be called from any goroutine.
type Budget struct {
	store  store.Store
	sealer Sealer
	now    func() time.Time
	log    *slog.Logger

	salt  [32]byte // of names in memory; another one in each process
	known *recent[known]
	full  *recent[full]
	queue queue
}

// known is a value that was counted here.
type known struct {
	at    int64 // milliseconds; the time in the window
	count int32
}

// full is a window that had no room.
type full struct {
	at    int64
	since int64 // of the request that was refused; a later sign-in is asked about
	count int32
}

// name is the hash of a key, or of a key and a value, in memory.
type name [16]byte

// New checks the configuration. It reads and writes nothing.
func New(c Config) (*Budget, error) {
	if c.Store == nil || c.Sealer == nil {
		return nil, errors.New("preparing view budgets: store and sealer are required")
	}
	b := &Budget{
		store: c.Store, sealer: c.Sealer, now: c.Now, log: c.Logger,
		known: newRecent[known](maxKnown), full: newRecent[full](maxFull),
	}
	_, _ = rand.Read(b.salt[:]) // never fails: crypto/rand ends the process instead
	if b.now == nil {
		b.now = time.Now
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	return b, nil
}

// Count counts one value and says whether it may pass. since is for budgets whose limit asks for a new sign-in: when it is
// later than the refusal that asked for it, counting begins anew, once for each such time; it is when the person proved who
// they are (auth_time), as a new session alone proves nothing. Zero: nothing resets. Errors match ErrInvalid or
// ErrUnavailable, and the result is then a refusal.
func (b *Budget) Count(ctx context.Context, k Key, value string, l Limit, since time.Time) (Result, error) {
	if b == nil || b.store == nil {
		return Result{}, fmt.Errorf("%w: no store", ErrUnavailable)
	}
	if err := check(k, value, l); err != nil {
		return Result{}, err
	}
	now := b.now()
	if since.After(now.Add(time.Minute)) {
		since = time.Time{} // nobody has signed in tomorrow
	}
	whole := b.name(k.ID, k.Site, k.Account)
	one := b.name(k.ID, k.Site, k.Account, value)
	if r, ok := b.remembered(whole, one, l, now, since); ok {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, countFor)
	defer cancel()
	leave, err := b.queue.enter(ctx, whole)
	if err != nil {
		return Result{}, err
	}
	defer leave()
	if r, ok := b.remembered(whole, one, l, now, since); ok { // somebody else on this node asked meanwhile
		return r, nil
	}
	r, recorded, err := b.count(ctx, k, value, l, since)
	if err != nil {
		return Result{}, err
	}
	if r.Admitted {
		b.known.put(one, known{recorded, int32(r.Count)})
	} else {
		b.full.put(whole, full{now.UnixMilli(), unixMilli(since), int32(r.Count)})
	}
	return r, nil
}

func check(k Key, value string, l Limit) error {
	switch {
	case l.Max < 1 || l.Max > MaxLimit:
		return fmt.Errorf("%w: a limit is 1 to %d", ErrInvalid, MaxLimit)
	case l.Per < MinPer || l.Per > MaxPer:
		return fmt.Errorf("%w: the time is %v to %v", ErrInvalid, MinPer, MaxPer)
	case l.Alarm < 0 || l.Alarm > l.Max:
		return fmt.Errorf("%w: the alarm level is at most the limit", ErrInvalid)
	case k.ID == "" || k.Account == "" || value == "":
		return fmt.Errorf("%w: a line, an account and a value are needed", ErrInvalid)
	}
	for _, text := range []string{k.ID, k.Site, k.Account, value} {
		if len(text) > maxText {
			return fmt.Errorf("%w: a text is longer than %d bytes", ErrInvalid, maxText)
		}
	}
	return nil
}

// remembered answers without the store: a value that was written lately, a window that had no room a moment ago.
func (b *Budget) remembered(whole, one name, l Limit, now, since time.Time) (Result, bool) {
	at := now.UnixMilli()
	if k, ok := b.known.get(one); ok && at >= k.at && at-k.at < l.grain().Milliseconds() {
		return Result{Admitted: true, Count: int(k.count)}, true
	}
	f, ok := b.full.get(whole)
	if ok && at >= f.at && at-f.at < fullFor.Milliseconds() && unixMilli(since) <= f.since && !b.knows(one) {
		return Result{Count: int(f.count)}, true
	}
	return Result{}, false
}

// knows says whether the value was counted here some time ago: the store has to say whether it still does.
func (b *Budget) knows(one name) bool {
	_, ok := b.known.get(one)
	return ok
}

// count asks the store.
func (b *Budget) count(ctx context.Context, k Key, value string, l Limit, since time.Time) (r Result, recorded int64, err error) {
	key := storeKey(k)
	for round := range countTries {
		if err := store.Pause(ctx, round); err != nil {
			return Result{}, 0, fmt.Errorf("%w: waiting to count: %w", ErrUnavailable, err)
		}
		w, old, err := b.read(ctx, key)
		if err != nil {
			return Result{}, 0, err
		}
		now := b.now()
		r, recorded, write := w.count(value, l, now, since)
		if !write {
			return r, recorded, nil
		}
		sealed, err := b.sealer.Seal(ctx, key, w.encode())
		if err != nil {
			return Result{}, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		// What is alarmed and what was refused must outlive the values.
		err = b.store.CompareAndSwap(ctx, key, old, sealed, now.Add(2*l.Per+time.Minute))
		if err == nil {
			return r, recorded, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return Result{}, 0, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return Result{}, 0, fmt.Errorf("%w: too many change the same window at once", ErrUnavailable)
}

func (b *Budget) read(ctx context.Context, key string) (w *window, sealed []byte, err error) {
	sealed, err = b.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return newWindow(), nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	plain, err := b.sealer.Open(ctx, key, sealed)
	if err == nil {
		w, err = decodeWindow(plain)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: what the store keeps does not open: %w", ErrUnavailable, err)
	}
	return w, sealed, nil
}

func storeKey(k Key) string {
	h := sha256.New()
	for _, text := range []string{labelRecord, k.ID, k.Site, k.Account} {
		_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
		_, _ = h.Write([]byte(text))
	}
	return labelRecord + "/" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// name is a hash in which no two lists of texts look the same.
func (b *Budget) name(texts ...string) name {
	var buffer [512]byte
	plain := append(append(buffer[:0], labelKnown...), b.salt[:]...)
	for _, text := range texts {
		plain = append(binary.BigEndian.AppendUint32(plain, uint32(len(text))), text...)
	}
	sum := sha256.Sum256(plain)
	return name(sum[:16])
}

// unixMilli is 0 for the zero time.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
