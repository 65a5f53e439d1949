package emergency

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// cellTries bounds how often a value that others keep changing is tried: each lost try means that another one won.
const cellTries = 64

var (
	errBusy    = errors.New("too many change the same thing at once")
	errDamaged = errors.New("what the store keeps does not open")
)

// read reads a sealed value and returns what lies in the store, nil when there is none. The value is sealed for its key:
// what somebody moved to another key does not open.
func (l *Ledger) read(ctx context.Context, key string, into any) (sealed []byte, err error) {
	sealed, err = l.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	plain, err := l.sealer.Open(ctx, key, sealed)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrUnavailable, errDamaged, err)
	}
	if err := json.Unmarshal(plain, into); err != nil {
		return nil, fmt.Errorf("%w: %w: it is not of a form that this version knows", ErrUnavailable, errDamaged)
	}
	return sealed, nil
}

// write puts a value in the place of the old one (nil: of none); store.ErrConflict when another one lies there.
func (l *Ledger) write(ctx context.Context, key string, old []byte, value any, expires time.Time) error {
	plain, err := encode(value)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	sealed, err := l.sealer.Seal(ctx, key, plain)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	err = l.store.CompareAndSwap(ctx, key, old, sealed, expires)
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// encode makes JSON without the escapes that are for HTML.
func encode(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// change reads, lets alter change what is there (the zero T when nothing is) and writes it, as often as others come in
// between. alter says false when there is nothing to write.
func change[T any](ctx context.Context, l *Ledger, key string, expires func(*T) time.Time, alter func(value *T, found bool) (bool, error)) error {
	for round := range cellTries {
		if err := store.Pause(ctx, round); err != nil {
			return fmt.Errorf("%w: %w: %w", ErrUnavailable, errBusy, err)
		}
		value := new(T)
		old, err := l.read(ctx, key, value)
		if err != nil {
			return err
		}
		write, err := alter(value, old != nil)
		if err != nil || !write {
			return err
		}
		if err = l.write(ctx, key, old, value, expires(value)); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, errBusy)
}

func never[T any](*T) time.Time { return time.Time{} }

// hashKey is a store key, or a seal label, out of which nothing of the texts can be read. The texts are hashed with their
// lengths: a:bc is not ab:c.
func hashKey(label string, texts ...string) string {
	sum := hashTexts(label, texts...)
	return label + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func hashTexts(label string, texts ...string) [sha256.Size]byte {
	h := sha256.New()
	for i := -1; i < len(texts); i++ {
		text := label
		if i >= 0 {
			text = texts[i]
		}
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(text)))
		_, _ = h.Write(size[:])
		_, _ = h.Write([]byte(text))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
