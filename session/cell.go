package session

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

// cellTries bounds how often a value that others keep changing is tried: each lost
// try means that another one won.
const cellTries = 64

// again goes before each try. When one was lost it waits: nodes that change a value in
// step would let the same one win again and again.
func again(ctx context.Context, round int) error {
	if err := store.Pause(ctx, round); err != nil {
		return fmt.Errorf("%w: %w", errBusy, err)
	}
	return nil
}

// cellKey is the store key of what belongs to these texts. Nothing of them can be
// read out of it, and nothing in them makes it another's.
func cellKey(label string, texts ...string) string {
	sum := hashTexts(label, texts...)
	return label + "/" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// readCell reads a sealed value. It returns what lies in the store, to be handed to
// writeCell, or nil when there is none. The value is sealed for its key: what
// somebody moved to another key does not open.
func (m *Manager) readCell(ctx context.Context, key string, into any) (sealed []byte, err error) {
	sealed, err = m.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return sealed, m.openCell(ctx, key, sealed, into)
}

func (m *Manager) openCell(ctx context.Context, key string, sealed []byte, into any) error {
	plain, err := m.sealer.Open(ctx, key, sealed)
	if err != nil {
		return fmt.Errorf("opening a session record: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(plain))
	if err := decoder.Decode(into); err != nil {
		return errors.New("a session record is not of a form that this version knows")
	}
	return nil
}

// writeCell writes a sealed value in the place of the old one (nil: of none) and
// returns what then lies in the store; store.ErrConflict when it is another.
func (m *Manager) writeCell(ctx context.Context, key string, old []byte, value any, expires time.Time) (sealed []byte, err error) {
	plain, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if sealed, err = m.sealer.Seal(ctx, key, plain); err != nil {
		return nil, err
	}
	return sealed, m.store.CompareAndSwap(ctx, key, old, sealed, expires)
}

// hashTexts is a SHA-256 over texts with their lengths, so that no two lists of
// texts look the same: a:bc is not ab:c.
func hashTexts(label string, texts ...string) [32]byte {
	h := sha256.New()
	for i := -1; i < len(texts); i++ {
		text := label
		if i >= 0 {
			text = texts[i]
		}
		var size [4]byte
		binary.BigEndian.PutUint32(size[:], uint32(len(text)))
		h.Write(size[:])
		h.Write([]byte(text))
	}
	return [32]byte(h.Sum(nil))
}

func hashID(label string, texts ...string) shortID {
	sum := hashTexts(label, texts...)
	return shortID(sum[:idBytes])
}
