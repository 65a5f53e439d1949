package bolt

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"

	"github.com/anteroom-proxy/anteroom/store"
)

// scanLook is how many entries one page looks at, live or not, so that no read transaction
// lasts long: while one is open, the file cannot use pages again that were freed.
const scanLook = 2000

// Scan returns a page of the live keys with the prefix; see store.Store. The pages are sorted
// by key. The cursor is the last key that was looked at, so that what is written meanwhile
// moves nothing.
func (s *Store) Scan(ctx context.Context, prefix, cursor string, limit int) (items []store.Item, next string, err error) {
	from, err := parseScan(cursor)
	if err != nil {
		return nil, "", err
	}
	if limit < 1 || limit > store.MaxPage {
		limit = store.MaxPage
	}
	err = s.view(ctx, "scanning keys", func(keys, _ *bolt.Bucket) error {
		now := s.now()
		c := keys.Cursor()
		k, stored := c.Seek([]byte(max(prefix, from)))
		if cursor != "" && string(k) == from {
			k, stored = c.Next()
		}
		last, size := "", 0
		for looked := 0; k != nil && strings.HasPrefix(string(k), prefix); k, stored = c.Next() {
			if looked == scanLook || len(items) == limit || size >= store.MaxPageBytes {
				next = formatScan(last)
				return nil
			}
			looked, last = looked+1, string(k)
			if v, alive := unpack(stored, now); alive {
				size += len(v)
				items = append(items, store.Item{Key: last, Value: append([]byte{}, v...)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return items, next, nil
}

// formatScan writes the place after a key. Keys are any bytes; the cursor is text.
func formatScan(key string) string { return "k" + base64.RawURLEncoding.EncodeToString([]byte(key)) }

func parseScan(cursor string) (key string, err error) {
	if cursor == "" {
		return "", nil
	}
	encoded, ok := strings.CutPrefix(cursor, "k")
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if !ok || err != nil || store.CheckKey(string(b)) != nil || formatScan(string(b)) != cursor {
		return "", fmt.Errorf("scanning keys: %w: not a cursor of this store", store.ErrInvalid)
	}
	return string(b), nil
}
