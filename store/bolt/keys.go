package bolt

import (
	"bytes"
	"context"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anteroom-proxy/anteroom/store"
)

// Get returns a copy of the value, or store.ErrNotFound.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := store.CheckKey(key); err != nil {
		return nil, err
	}
	var value []byte
	err := s.view(ctx, "reading a key", func(keys, _ *bolt.Bucket) error {
		v, alive := unpack(keys.Get([]byte(key)), s.now())
		if !alive {
			return store.ErrNotFound
		}
		value = append([]byte{}, v...)
		return nil
	})
	return value, err
}

// Put stores the value; it is on the disk when Put returns nil.
func (s *Store) Put(ctx context.Context, key string, value []byte, expires time.Time) error {
	if err := check(key, value); err != nil {
		return err
	}
	stored := pack(value, expires)
	return s.change(ctx, "storing a key", len(stored), func(tx *group) error {
		return tx.put(key, stored)
	})
}

// CompareAndSwap stores new when the present value equals old; see store.Store.
func (s *Store) CompareAndSwap(ctx context.Context, key string, old, new []byte, expires time.Time) error {
	if err := check(key, new); err != nil {
		return err
	}
	stored := pack(new, expires)
	absent := old == nil
	old = bytes.Clone(old) // the change may outlive this call when ctx ends
	return s.change(ctx, "swapping a key", len(stored), func(tx *group) error {
		present, alive := unpack(tx.keys.Get([]byte(key)), s.now())
		if absent == alive || !bytes.Equal(present, old) {
			return store.ErrConflict
		}
		return tx.put(key, stored)
	})
}

// Take returns the value and deletes the key in one transaction.
func (s *Store) Take(ctx context.Context, key string) ([]byte, error) {
	// The guard is the look inside the transaction below. This first look keeps
	// made-up keys, which strangers can send in any number, away from the writer.
	if _, err := s.Get(ctx, key); err != nil {
		return nil, err
	}
	var value []byte
	err := s.change(ctx, "taking a key", 0, func(tx *group) error {
		v, alive := unpack(tx.keys.Get([]byte(key)), s.now())
		if !alive {
			return store.ErrNotFound
		}
		value = append([]byte{}, v...)
		return tx.delete(key)
	})
	if err != nil {
		return nil, err // value may still be written to by a change that ctx abandoned
	}
	return value, nil
}

// Delete removes the key; an absent key is no error.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return s.change(ctx, "deleting a key", 0, func(tx *group) error {
		return tx.delete(key)
	})
}

// List returns the live keys with the prefix, sorted.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Item, error) {
	var items []store.Item
	err := s.view(ctx, "listing keys", func(keys, _ *bolt.Bucket) error {
		now := s.now()
		c := keys.Cursor()
		for k, stored := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, stored = c.Next() {
			if v, alive := unpack(stored, now); alive {
				items = append(items, store.Item{Key: string(k), Value: append([]byte{}, v...)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return items, nil
}

// Rewrite stores new when the present value equals old, with the expiry that stands there.
func (s *Store) Rewrite(ctx context.Context, key string, old, new []byte) error {
	if err := check(key, new); err != nil {
		return err
	}
	old, new = bytes.Clone(old), bytes.Clone(new) // the change may outlive this call when ctx ends
	return s.change(ctx, "rewriting a key", expiryLen+len(new), func(tx *group) error {
		stored := tx.keys.Get([]byte(key))
		present, alive := unpack(stored, s.now())
		switch {
		case !alive:
			return store.ErrNotFound
		case !bytes.Equal(present, old):
			return store.ErrConflict
		}
		return tx.put(key, append(bytes.Clone(stored[:expiryLen]), new...))
	})
}

func check(key string, value []byte) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	return store.CheckValue(value)
}
