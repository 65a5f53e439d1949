package redis

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/anteroom-proxy/anteroom/store"
)

// Scan returns a page of the live keys with the prefix; see store.Store. The names in Redis
// are hashes, so that a walk reads and opens every value there is, whatever the prefix. A
// value that does not open fails its page. While slots of a Cluster are moving it says
// store.ErrUnavailable, because a key under way could be missed.
func (s *Store) Scan(ctx context.Context, prefix, cursor string, limit int) ([]store.Item, string, error) {
	const doing = "scanning keys"
	at, err := parsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	if limit < 1 || limit > store.MaxPage {
		limit = store.MaxPage
	}
	page, next, err := s.walk(ctx, doing, at, limit)
	if err != nil {
		return nil, "", err
	}
	now := s.now()
	var items []store.Item
	for _, v := range page {
		if err := ctx.Err(); err != nil {
			return nil, "", s.unavailable(ctx, doing, err)
		}
		key, value, expires, err := s.opened(ctx, v.name, v.b)
		if err != nil && s.passed(ctx, labelValue, v) {
			continue
		}
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", doing, s.unopened(ctx, v.name))
		}
		if alive(expires, now) && strings.HasPrefix(key, prefix) {
			items = append(items, store.Item{Key: key, Value: value})
		}
	}
	if next == nil {
		return items, "", nil
	}
	return items, next.String(), nil
}

// Rewrite stores new when the present value equals old. The expiry that is sealed with the
// value and the one that Redis keeps stay as they are.
func (s *Store) Rewrite(ctx context.Context, key string, old, new []byte) error {
	const doing = "rewriting a key"
	if err := check(key, new); err != nil {
		return err
	}
	for range attempts * 4 {
		there, err := s.read(ctx, doing, key)
		switch {
		case err != nil:
			return err
		case !bytes.Equal(there.value, old):
			return fmt.Errorf("%s: %w", doing, store.ErrConflict)
		}
		sealed, err := s.sealStamped(ctx, doing, key, new, there.expires)
		if err != nil {
			return err
		}
		if won, err := s.swap(ctx, doing, s.nameOf(key), there.sealed, sealed, keep); won || err != nil {
			return err
		}
		// Somebody else was faster. Only the plaintext says whether that is a conflict.
	}
	return fmt.Errorf("%s: %w: others change it all the time", doing, store.ErrUnavailable)
}
