package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/anteroom-proxy/anteroom/store"
)

const (
	listTimeout = 30 * time.Second
	listPage    = 500
)

// List returns the live keys with the prefix, sorted. The names in Redis are hashes, so
// that it has to read and open every value there is: it is for the rare question of an
// operator or a start, never for a request. A value that does not open fails it, because
// what is left out could be the one session that must end. A slot that moves from one
// server of a Cluster to another while it runs can be missed.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Item, error) {
	return await(ctx, s, "listing keys", listTimeout, func(ctx context.Context) ([]store.Item, error) {
		var mu sync.Mutex // guards sealed
		sealed := map[string][]byte{}
		err := s.masters(ctx, func(ctx context.Context, node *goredis.Client) error {
			return s.scan(ctx, node, func(name string, b []byte) {
				mu.Lock()
				defer mu.Unlock()
				sealed[name] = b
			})
		})
		if err != nil {
			return nil, err
		}
		return s.pick(ctx, prefix, sealed)
	})
}

// scan reads all values of one server.
func (s *Store) scan(ctx context.Context, node *goredis.Client, found func(string, []byte)) error {
	begin := s.prefix + nameValue
	for cursor := uint64(0); ; {
		names, next, err := node.Scan(ctx, cursor, begin+"*", listPage).Result()
		if err != nil {
			return err
		}
		for part := range slices.Chunk(names, 50) { // of values up to MaxValue each
			pipe := node.Pipeline()
			got := make([]*goredis.StringCmd, len(part))
			for i, name := range part {
				got[i] = pipe.Get(ctx, name)
			}
			_, _ = pipe.Exec(ctx) // each command has its own error
			for i, name := range part {
				b, err := got[i].Bytes()
				if err != nil && !errors.Is(err, goredis.Nil) { // Nil: gone since the scan
					return err
				} else if err == nil {
					found(name, b)
				}
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// pick opens the values and takes the live ones below the prefix.
func (s *Store) pick(ctx context.Context, prefix string, sealed map[string][]byte) ([]store.Item, error) {
	now := s.now()
	var items []store.Item
	for name, b := range sealed {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		key, value, expires, err := s.open(ctx, name, b)
		if err != nil {
			return nil, fmt.Errorf("listing keys: %w", err)
		}
		if alive(expires, now) && strings.HasPrefix(key, prefix) {
			items = append(items, store.Item{Key: key, Value: value})
		}
	}
	slices.SortFunc(items, func(a, b store.Item) int { return strings.Compare(a.Key, b.Key) })
	return items, nil
}
